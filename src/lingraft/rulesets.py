"""A tokenizer as arrays for the compiled encoder, or the reason why it cannot be one."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .bases import ByteLevelBase, FastSentencePieceBase, SentencePieceBase
from .basetypes import BaseTokenizer
from .cutting import Cuts
from .fronts import Front, is_space_marking
from .lookup import MOST_IDS
from .merging import rule_table
from .neighbours import NUM_POINTS, join_table
from .partcache import Cache, find_part, hash_part, new_cache, remember_part
from .patterns import PatternError
from .pieces import SPACE, Kind, parse_model
from .programs import GPT2, Digits, Only, compile_patterns
from .splitting import Program

__all__ = ["Machine", "NotExactError", "build_machine"]

Int32 = npt.NDArray[np.int32]

_NEVER, _ALWAYS, _UNLESS_THERE = 0, 1, 2
_PLAIN_SPACE = 0x20


class NotExactError(Exception):
    """The compiled encoder cannot be proved to give what the tokenizer's library gives."""


class Machine(NamedTuple):
    """A tokenizer, ready for `cutting.encode_documents`."""

    front: Front
    rules_H2: npt.NDArray[np.uint64]
    cuts: Cuts
    program: Program


def build_machine(base: BaseTokenizer) -> Machine:
    """Turn a tokenizer into arrays.

    Raises:
        NotExactError: It does something that the arrays cannot say; the message tells what.
    """
    if base.size > MOST_IDS:
        raise NotExactError(f"it has {base.size:,} ids; compiled tables hold {MOST_IDS:,}")
    if isinstance(base, SentencePieceBase):
        return _from_model(base)
    if isinstance(base, FastSentencePieceBase):
        return _from_fast(base)
    if isinstance(base, ByteLevelBase):
        return _from_bytes(base)
    raise NotExactError("it is no BPE tokenizer with a spelling for every text")


def _from_model(base: SentencePieceBase) -> Machine:
    proto = parse_model(base.pieces.proto, base.name)
    spec = proto.normalizer_spec
    changes = base.has_normalizer or spec.remove_extra_whitespaces
    through_library = changes or proto.trainer_spec.treat_whitespace_as_suffix
    normal = {base.piece(id): id for id in range(base.size) if base.is_normal(id)}
    normal.pop("\0", None)  # sentencepiece spells it in bytes all the same
    longer = {piece: id for piece, id in normal.items() if len(piece) > 1}
    scores = base.pieces.scores
    if any(math.isnan(scores[id]) for id in longer.values()):
        raise NotExactError("the score of a piece is no number")
    if len({math.copysign(1, scores[id]) for id in longer.values() if scores[id] == 0}) > 1:
        raise NotExactError("it has scores of 0 and of -0, which its library does not rank alike")
    order = sorted({scores[id] for id in longer.values()}, reverse=True)
    ranks = {score: rank for rank, score in enumerate(order)}

    symbols = {char: base.size + ord(char) for piece in longer for char in piece} | normal
    rows = [
        (symbols[piece[:cut]], symbols[piece[cut:]], id, ranks[scores[id]])
        for piece, id in longer.items()
        for cut in range(1, len(piece))
        if piece[:cut] in symbols and piece[cut:] in symbols
    ]
    user = {
        base.piece(id): id for id, kind in enumerate(base.pieces.kinds) if kind is Kind.USER_DEFINED
    }
    class_P, together_CB = join_table(piece.encode() for piece in longer)
    cuts = Cuts(
        space=_PLAIN_SPACE if through_library else ord(SPACE),
        prefix=_ALWAYS if spec.add_dummy_prefix and not through_library else _NEVER,
        class_P=class_P,
        together_CB=together_CB,
        id_P=_ids_of_points(normal),
        byte_ids=np.array(base.byte_ids, np.int32),
        num_ids=base.size,
        bytes_merge=False,
        **_user_arrays(user),
        whole=new_cache(1),
    )
    normalize = base.pieces.normalize if through_library else None
    rules = rule_table(rows)
    return Machine(Front(normalize), rules, cuts, compile_patterns([]))


def _from_fast(base: FastSentencePieceBase) -> Machine:
    if base.ignores_merges:
        raise NotExactError("it looks up whole texts before its merge rules")
    marking = is_space_marking(base.normalizers)
    changes = bool(base.normalizers) and not marking
    prefix = _NEVER
    if marking:
        prepends = any(part["type"] == "Prepend" for part in base.normalizers)
        prefix = _ALWAYS if prepends else _NEVER
    space = ord(SPACE) if marking else _PLAIN_SPACE
    for part in base.pre_tokenizers:  # Metaspace that keeps texts whole; nothing else is read
        if part.get("replacement") != SPACE:
            raise NotExactError(f"it marks spaces with {part.get('replacement')!r}")
        if changes or marking:
            raise NotExactError("it marks spaces twice")
        space = ord(SPACE)
        scheme = part.get("prepend_scheme", "always")
        prefix = _NEVER if scheme == "never" else _UNLESS_THERE
    arrays = base.rule_arrays()
    if np.isin([arrays.left_R, arrays.right_R], base.byte_ids).any():
        raise NotExactError("its merge rules join pieces of single bytes")
    class_P, together_CB = join_table(piece.encode() for piece in _joined(base))
    cuts = Cuts(
        space=space,
        prefix=prefix,
        class_P=class_P,
        together_CB=together_CB,
        id_P=_ids_of_points(base.vocabulary),
        byte_ids=np.array(base.byte_ids, np.int32),
        num_ids=base.size,
        bytes_merge=False,
        **_user_arrays({}),
        whole=new_cache(1),
    )
    front = Front.of(base, changes=changes)
    return Machine(front, rule_table(_rows(arrays)), cuts, compile_patterns([]))


def _from_bytes(base: ByteLevelBase) -> Machine:
    patterns, prefixed = _read_pre_tokenizers(base.pre_tokenizers)
    try:
        program = compile_patterns(patterns)
    except PatternError as error:
        raise NotExactError(f"its pattern for splitting texts uses {error}") from None
    if prefixed and ord(" ") in base.missing_bytes:
        raise NotExactError("it puts a space before texts and has no piece for it")
    arrays = base.rule_arrays()
    class_P, together_CB = join_table(_spelled_bytes(base, _joined(base)))
    cuts = Cuts(
        space=_PLAIN_SPACE,
        prefix=_UNLESS_THERE if prefixed else _NEVER,
        class_P=class_P,
        together_CB=together_CB,
        id_P=_ids_of_points(dict(_single_characters(base))),
        byte_ids=np.array(base.byte_ids, np.int32),
        num_ids=base.size,
        bytes_merge=True,
        **_user_arrays({}),
        whole=_whole_pieces(base) if base.ignores_merges else new_cache(1),
    )
    front = Front.of(base, changes=bool(base.normalizers))
    return Machine(front, rule_table(_rows(arrays)), cuts, program)


def _joined(base: FastSentencePieceBase | ByteLevelBase) -> set[str]:
    """Give all pieces that merge rules make, as spelled: some are added tokens, too."""
    joined: set[str] = set()

    def keep(piece: str) -> bool:
        joined.add(piece)
        return False

    base.rule_arrays(keep)
    return joined


def _spelled_bytes(base: ByteLevelBase, pieces: Iterable[str]) -> Iterator[bytes]:
    """Give the bytes of pieces; those that spell none are never made."""
    for piece in pieces:
        with contextlib.suppress(KeyError):
            yield base.read_piece(piece)


def _rows(arrays: Any) -> list[tuple[int, ...]]:
    return list(zip(*(column.tolist() for column in arrays), strict=True))


def _ids_of_points(pieces: Mapping[str, int]) -> Int32:
    id_P = np.full(NUM_POINTS, -1, np.int32)
    for piece, id in pieces.items():
        if len(piece) == 1:
            id_P[ord(piece)] = id
    return id_P


def _single_characters(base: ByteLevelBase) -> Iterator[tuple[str, int]]:
    """Give each character that the merge rules make one id of."""
    for id in range(base.size):
        data = base.piece_bytes(id) if base.is_normal(id) else b""
        try:
            text = data.decode()
        except UnicodeDecodeError:
            continue
        if len(text) == 1 and base.spell(data) == (id,):
            yield text, id


def _whole_pieces(base: ByteLevelBase) -> Cache:
    """Collect the pieces that only looking up a whole pre-token gives."""
    found: list[tuple[str, int]] = []
    for piece, id in base.vocabulary.items():
        try:
            data = base.read_piece(piece)
            text = data.decode()
        except (KeyError, UnicodeDecodeError):
            continue  # stands in no pre-token
        if text and base.spell(data) != (id,):
            found.append((text, id))
    return _fill(found)


def _fill(entries: Sequence[tuple[str, int]]) -> Cache:
    points = sum(len(text) for text, _ in entries)
    cache = new_cache(len(entries) + points // 8 + 1)
    for text, id in entries:
        points_P = np.array([ord(char) for char in text], np.int32)
        key = np.uint64(hash_part(points_P, 0, len(points_P)))
        found = find_part(cache.slots_H, cache.parts_M, points_P, 0, len(points_P), key)
        ids = np.array([id], np.int32)
        remember_part(cache, points_P, 0, len(points_P), key, -1 - found, ids, 0, 1)
    return cache


def _user_arrays(user: Mapping[str, int]) -> dict[str, Any]:
    """Sort pieces read as they stand, for the kernel to find the longest."""
    order = sorted(piece for piece in user if piece)
    first_P = np.full(NUM_POINTS if user else 0, -1, np.int32)
    for u in reversed(range(len(order))):
        first_P[ord(order[u][0])] = u
    return {
        "user_first_P": first_P,
        "user_points_M": np.array([ord(char) for piece in order for char in piece], np.int32),
        "user_ends_U": np.cumsum([len(piece) for piece in order], dtype=np.int64),
        "user_ids_U": np.array([user[piece] for piece in order], np.int32),
    }


def _read_pre_tokenizers(
    parts: Sequence[Mapping[str, Any]],
) -> tuple[list[str | Digits | Only], bool]:
    """Give the patterns of a byte-level tokenizer, and whether it puts a space before texts."""
    patterns: list[str | Digits | Only] = []
    prefixed = False
    for n, part in enumerate(parts):
        match part["type"]:
            case "Split" if "Regex" in part["pattern"] and part["behavior"] == "Isolated":
                patterns.append(part["pattern"]["Regex"])
            case "Split" if "Regex" in part["pattern"] and _keeps_matches(part):
                patterns.append(Only(part["pattern"]["Regex"]))
            case "Digits":
                patterns.append(Digits(bool(part.get("individual_digits"))))
            case "ByteLevel" if n == len(parts) - 1 and not (n and part.get("add_prefix_space")):
                prefixed = bool(part.get("add_prefix_space"))
                patterns += [GPT2] if part.get("use_regex", True) else []
            case kind:
                raise NotExactError(f"it splits texts by {kind} in a way that is not compiled")
    return patterns, prefixed


def _keeps_matches(part: Mapping[str, Any]) -> bool:
    return part["behavior"] == "Removed" and bool(part.get("invert"))
