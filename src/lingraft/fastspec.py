"""The content of a `tokenizer.json`, checked once, so that nothing after it need ask again.

Pieces are appended to it here, too.

`tokenizers` itself accepts much that has no meaning here: two pieces of one id, a vocabulary of ten
pieces whose ids go up to four billion. What is refused here would end in another exception, or in
other ids, further on.

Source of the format: `tokenizers`, `src/tokenizer/serialization.rs` and `src/models/bpe`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from .basetypes import WAY_OUT
from .errors import InputError
from .fast import special_entry

__all__ = ["append_to_json", "check_size", "parse_object", "parse_spec", "parts_of", "read_merges"]

_SPARE_IDS = 1_000_000
_MAX_RATIO = 4


def parse_object(content: str, name: str) -> dict[str, Any]:
    """Parse JSON that is an object; messages call it `name`.

    Raises:
        InputError: It is none, or is nested more deeply than any tokenizer.
    """
    try:
        spec = json.loads(content)
    except (json.JSONDecodeError, RecursionError) as error:
        raise _refusal(name, str(error)) from None
    if not isinstance(spec, dict):
        raise _refusal(name, f"a JSON object was expected, not {_short(spec)}")
    return spec


def parse_spec(content: str, name: str) -> dict[str, Any]:
    """Parse a `tokenizer.json` of a BPE model and check all that is read of it.

    Raises:
        InputError: A part is missing or of another form than `tokenizers` writes, two pieces share
            an id, or ids are spread too wide; the message tells which.
    """
    spec = parse_object(content, name)
    for where, text in _problems(spec):
        raise _refusal(name, f"{where}: {text}")
    added = [token["id"] for token in spec.get("added_tokens") or []]
    ids = spec["model"]["vocab"].values()
    check_size(max([*ids, *added], default=-1), len(ids) + len(added), name)
    return spec


def check_size(largest_id: int, num_pieces: int, name: str) -> None:
    """Refuse ids so far apart that a table of them would fill the memory.

    The models' rows are counted by the largest id, so a few may be free, as where a vocabulary
    is padded; a hundred times as many free ones as pieces are a damaged number.

    Raises:
        InputError: The largest id is above 4 times the number of pieces, plus a million.
    """
    if largest_id > _MAX_RATIO * num_pieces + _SPARE_IDS:
        raise _refusal(name, f"{num_pieces:,} pieces have ids up to {largest_id:,}")


def parts_of(part: Any) -> list[Any]:
    """Give the parts of a normaliser or pre-tokenizer, whether it is a sequence or one alone."""
    if part is None:
        return []
    if part["type"] != "Sequence":
        return [part]
    inner = part["normalizers"] if "normalizers" in part else part["pretokenizers"]
    return [leaf for each in inner for leaf in parts_of(each)]


def read_merges(merges: list[Any]) -> list[tuple[str, str]]:
    """Give the pairs of merge rules, from either way of writing them."""
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
    return [(left, right) for left, right in pairs]


def append_to_json(
    spec: Mapping[str, Any],
    size: int,
    pieces: Sequence[str],
    merges: Iterable[tuple[str, str]],
    specials: Sequence[str] = (),
    name: str = "tokenizer.json",
) -> dict[str, Any]:
    """Append pieces, their merge rules and special tokens to the content of a `tokenizer.json`.

    `tokenizers` takes the id of an added token from the vocabulary where it stands there and counts
    on from the vocabulary's size where it does not: added tokens left out of the vocabulary would
    move as soon as it grew, unseen. So each of them is written into it, at its id.

    Args:
        spec: The base's content; it is left as it is.
        size: The first new id: the base's size, or more.
        pieces: New pieces in the order of their ids.
        merges: New merge rules, earliest first.
        specials: Special tokens, behind the pieces.
        name: What messages call the base.

    Raises:
        InputError: An added token of the base stands in its vocabulary at another id.
    """
    model = spec["model"]
    vocab: dict[str, int] = dict(model["vocab"])
    added = sorted(spec.get("added_tokens") or [], key=lambda token: int(token["id"]))
    for token in added:
        if vocab.setdefault(token["content"], token["id"]) != token["id"]:
            raise InputError(
                f"{name}: its added token {token['content']!r} has id {token['id']}, in the "
                f"vocabulary it has {vocab[token['content']]}.",
                effect="It would have another id after loading.",
                way_out="Fetch the tokenizer again; it is damaged.",
            )
    entries = [{"id": size + len(pieces) + n, **special_entry(t)} for n, t in enumerate(specials)]
    for id, piece in enumerate([*pieces, *specials], size):
        assert piece not in vocab, f"{piece!r} is in the vocabulary already"
        vocab[piece] = id
    rules: list[Any] = list(model["merges"])
    if rules and isinstance(rules[0], str):
        rules.extend(f"{left} {right}" for left, right in merges)
    else:
        rules.extend([left, right] for left, right in merges)
    return {
        **spec,
        "added_tokens": added + entries,
        "model": {**model, "vocab": vocab, "merges": rules},
    }


def _problems(spec: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Give where something is of another form than expected, and what it is; the first counts."""
    model = spec.get("model")
    if not isinstance(model, dict):
        yield "model", f"an object was expected, not {_short(model)}"
        return
    yield from _problems_of_vocab(model.get("vocab"))
    yield from _problems_of_merges(model.get("merges"), model.get("vocab"))
    for key, inner in (("normalizer", "normalizers"), ("pre_tokenizer", "pretokenizers")):
        if spec.get(key) is not None:
            yield from _problems_of_part(key, spec[key], inner)
    added = spec.get("added_tokens") or []
    if not isinstance(added, list):
        yield "added_tokens", f"a list was expected, not {_short(added)}"
        return
    for token in added:
        is_token = isinstance(token, dict) and isinstance(token.get("content"), str)
        if not is_token or not _is_id(token.get("id")) or "special" not in token:
            yield "added_tokens", f"{_short(token)} has not an id, a content and a kind"
            return
    if len({token["id"] for token in added}) < len(added):
        yield "added_tokens", "two have the same id"


def _problems_of_vocab(vocab: Any) -> Iterator[tuple[str, str]]:
    if not isinstance(vocab, dict):
        yield "model.vocab", f"an object was expected, not {_short(vocab)}"
        return
    wrong = next((piece for piece, id in vocab.items() if not _is_id(id)), None)
    if wrong is not None:
        yield "model.vocab", f"the id of {wrong!r} is {_short(vocab[wrong])}"
    elif len(set(vocab.values())) < len(vocab):
        yield "model.vocab", "two pieces have the same id"


def _problems_of_merges(merges: Any, vocab: Any) -> Iterator[tuple[str, str]]:
    if not isinstance(merges, list):
        yield "model.merges", f"a list was expected, not {_short(merges)}"
        return
    for n, merge in enumerate(merges):
        pair = merge.split(" ") if isinstance(merge, str) else merge
        is_pair = isinstance(pair, list) and len(pair) == 2
        if not is_pair or not all(isinstance(piece, str) for piece in pair):
            yield f"model.merges[{n}]", f"two pieces were expected, not {_short(merge)}"
            return
        lost = next((piece for piece in (*pair, "".join(pair)) if piece not in vocab), None)
        if lost is not None:
            yield f"model.merges[{n}]", f"{lost!r} is no piece"
            return


def _problems_of_part(where: str, part: Any, inner: str) -> Iterator[tuple[str, str]]:
    if not isinstance(part, dict) or not isinstance(part.get("type"), str):
        yield where, f"an object with a type was expected, not {_short(part)}"
    elif part["type"] == "Sequence":
        parts = part.get(inner)
        if not isinstance(parts, list):
            yield where, f"a list of {inner} was expected, not {_short(parts)}"
            return
        for n, each in enumerate(parts):
            yield from _problems_of_part(f"{where}.{inner}[{n}]", each, inner)


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _refusal(name: str, problem: str) -> InputError:
    return InputError(
        f"{name}: not a fast tokenizer: {problem}.",
        effect="Ids made with it would be no one else's.",
        way_out=f"Fetch the file again. {WAY_OUT}",
    )
