"""From a base and the pieces that fit it to the files of the extended tokenizer.

A SentencePiece model gives `tokenizer.model` and the `tokenizer.json` that is equal to it (a model
that has no equal one is refused: a tokenizer that only some libraries read alike must not ship). A
`tokenizer.json` gives a `tokenizer.json`. The configs beside both are the base's, where it has any.

A byte-level base that lacks bytes is completed by them: they come first and have no merge rule, so
that the extended tokenizer loses nothing of a text and no text without them changes.

Ids: base, what the base's configs add, bytes that the base lacks, pieces, special tokens, padding.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..bases import BaseTokenizer, ByteLevelBase, FastSentencePieceBase, SentencePieceBase
from ..errors import InputError, VerifyError
from ..fast import fast_config, fast_tokenizer
from ..fastspec import append_to_json
from ..pieces import SPACE, Kind, SentencePieces
from .byterules import ByteRules
from .configs import (
    extra_specials,
    load_json,
    make_config,
    named_tokens,
    read_template,
    special_roles,
    template,
)
from .forms import Forms
from .literal import read_specials
from .piecerules import PieceRules, Spelling, append_pieces

__all__ = ["Extended", "Wanted", "assemble", "rules_for"]

_FAST_CONFIG = {"clean_up_tokenization_spaces": False, "model_max_length": int(1e30)}


class Extended(NamedTuple):
    """An extended tokenizer, ready to be written.

    Attributes:
        files: Content by name.
        base_size: Ids before the first added piece or byte.
        size: Ids in all.
        padding: Inert pieces at the end.
        first_score: Of the added pieces; None where they have none.
        last_score: Likewise.
        warnings: What the user should know.
    """

    files: Mapping[str, bytes]
    base_size: int
    size: int
    padding: tuple[str, ...]
    first_score: float | None
    last_score: float | None
    warnings: tuple[str, ...]


class Wanted:
    """What is to be made.

    Attributes:
        forms: The base as it lies there.
        extra: Special tokens that the base's configs add.
        base: The base with them and with a piece for every byte.
        missing_bytes: Those that the base has no piece for.
        pieces: To add; filled in by the caller, with the rules that make them.
        rules: None where the published union is repeated.
    """

    def __init__(
        self,
        forms: Forms,
        specials: Sequence[str] = (),
        multiple: int = 1,
        *,
        as_published: bool = False,
    ) -> None:
        """Begin with no pieces.

        Raises:
            InputError: The base's configs do not fit it, or a special token is not to be had.
        """
        self.forms, self.specials, self.multiple = forms, tuple(specials), multiple
        self.as_published = as_published
        self.extra = extra_specials(forms)
        self.missing_bytes = forms.base.missing_bytes
        self.base = _with_extra(forms, self.extra).completed()
        self.pieces: list[str] = []
        self.rules: PieceRules | ByteRules | None = None
        known = {self.base.piece(id) for id in range(self.base.size)}
        for n, token in enumerate(self.specials):
            _refuse_special(token, token in self.specials[:n], token in known, self.base)

    def model_base(self) -> SentencePieceBase:
        """Give the base as a SentencePiece model.

        Raises:
            InputError: It is none.
        """
        if not isinstance(self.base, SentencePieceBase):
            raise InputError(
                f"{self.forms.name}: the published union is one of SentencePiece models; this base "
                "is a fast file, tokenizer.json.",
                way_out="Name its tokenizer.model, or leave --as-published out.",
            )
        return self.base


def rules_for(wanted: Wanted) -> PieceRules | ByteRules:
    """Give the merge rules of the base, ready to be added to."""
    base = wanted.base
    if isinstance(base, ByteLevelBase):
        return ByteRules(base)
    if isinstance(base, SentencePieceBase):
        return PieceRules(Spelling.of_model(base.pieces))
    assert isinstance(base, FastSentencePieceBase), "a base of no known kind"
    return PieceRules(Spelling.of_fast(base))


def assemble(wanted: Wanted) -> Extended:
    """Make the files.

    Raises:
        InputError: A special token is one of the pieces or would be read out of plain text, or
            the model has no equal fast form.
        VerifyError: A piece, alone, is not encoded as itself.
    """
    base = wanted.base
    spelled = set(wanted.pieces)
    for token in wanted.specials:
        if token in spelled or base.spell_bytes(token.encode()) in spelled:
            raise InputError(
                f"special token {token!r} is one of the pieces.",
                effect="Its text would be read as a piece here and as a token there.",
                way_out="Take it off the list of pieces.",
            )
    padding = tuple(_padding(wanted))
    tokens = [*wanted.specials, *padding]
    make = _from_model if isinstance(base, SentencePieceBase) else _from_json
    spec, files, scores = make(wanted, tokens)
    _refuse_read_out(base, spec, tokens)
    size = base.size + len(wanted.pieces) + len(tokens)
    ours = fast_config(base.pieces) if isinstance(base, SentencePieceBase) else _FAST_CONFIG
    config = make_config(wanted.forms.config, ours, spec["added_tokens"])
    _refuse_unknown_roles(config, spec, wanted.forms.name)
    files["tokenizer.json"] = _dense(spec)
    files["tokenizer_config.json"] = _readable(config)
    files["special_tokens_map.json"] = _readable(special_roles(config))
    chat = read_template(wanted.forms)
    if chat is not None:
        files["chat_template.jinja"] = chat
    return Extended(
        files=files,
        base_size=base.size - len(wanted.missing_bytes),
        size=size,
        padding=padding,
        first_score=scores[0] if scores else None,
        last_score=scores[-1] if scores else None,
        warnings=tuple(_warnings(wanted)),
    )


_Made = tuple[dict[str, Any], dict[str, bytes], list[float]]


def _from_model(wanted: Wanted, tokens: Sequence[str]) -> _Made:
    base = wanted.model_base()
    added = [(piece, Kind.NORMAL) for piece in wanted.pieces]
    added += [(token, Kind.CONTROL) for token in tokens]
    scores = [0.0] * len(added) if wanted.as_published else None
    proto = append_pieces(base.pieces, added, scores)
    extended = SentencePieces(proto, base.name)
    first, last = base.size, base.size + len(wanted.pieces)
    if not wanted.as_published:
        lost = [p for id, p in enumerate(wanted.pieces, first) if extended.spell(p) != [id]]
        _refuse_lost(lost)
    spec = fast_tokenizer(extended)
    spec["post_processor"] = _post_processor(wanted.forms, extended)
    return spec, {"tokenizer.model": proto}, list(extended.scores[first:last])


def _from_json(wanted: Wanted, tokens: Sequence[str]) -> _Made:
    base, rules = wanted.base, wanted.rules
    assert isinstance(base, ByteLevelBase | FastSentencePieceBase), "a base without tokenizer.json"
    if isinstance(rules, ByteRules):
        merges = [rules.pairs[piece] for piece in wanted.pieces]
    else:
        assert isinstance(rules, PieceRules), "a tokenizer.json has merge rules"
        merges = [pair for piece in wanted.pieces for pair in rules.splits(piece)]
    spec = append_to_json(
        json.loads(base.content), base.size, wanted.pieces, merges, tokens, base.name
    )
    _refuse_lost(_find_lost(base, json.dumps(spec), wanted.pieces))
    return spec, {}, []


def _find_lost(base: BaseTokenizer, content: str, pieces: Sequence[str]) -> list[str]:
    """List pieces whose text alone does not give them; half characters are no text."""
    if isinstance(base, FastSentencePieceBase):
        fast = FastSentencePieceBase(content, base.name)
        spelled = [fast.spell_piece(piece) for piece in pieces]
        return [p for n, p in enumerate(pieces) if spelled[n] != [base.size + n]]
    extended = ByteLevelBase(content, base.name)
    texts: dict[int, str] = {}
    for n, piece in enumerate(pieces):
        try:
            texts[n] = base.read_piece(piece).decode()
        except UnicodeDecodeError:
            continue
    made = extended.encode_batch(list(texts.values()))
    space = base.find_piece(base.spell_bytes(b" "))
    lost = [
        (n, ids)
        for n, ids in zip(texts, made, strict=True)
        if [id for id in ids if id != space] != [base.size + n]
    ]
    return [pieces[n] for n, _ in lost]


def _refuse_lost(lost: Sequence[str]) -> None:
    if lost:
        raise VerifyError(
            f"{len(lost):,} pieces, alone, are not encoded as themselves: "
            f"{', '.join(map(repr, lost[:5]))}.",
            effect="Their rows would be trained on nothing.",
            way_out="Take them off the list, and report this with the base tokenizer's name.",
        )


def _with_extra(forms: Forms, extra: Sequence[str]) -> BaseTokenizer:
    """Give the base with what its configs add to it."""
    base = forms.base
    if not extra:
        return base
    if forms.model is not None:
        proto = append_pieces(forms.model, [(token, Kind.CONTROL) for token in extra])
        return SentencePieceBase(SentencePieces(proto, base.name))
    assert isinstance(base, ByteLevelBase | FastSentencePieceBase), "a base without tokenizer.json"
    spec = append_to_json(json.loads(base.content), base.size, [], [], extra, base.name)
    return type(base)(json.dumps(spec), base.name)


def _refuse_special(token: str, is_twice: bool, is_known: bool, base: BaseTokenizer) -> None:
    if not token.strip():
        raise InputError(
            f"special token {token!r} is empty.", way_out="Name it, as --special '<|im_start|>'."
        )
    if is_twice:
        raise InputError(f"special token {token!r} is named twice.", way_out="Name it once.")
    if is_known or base.find_piece(base.spell_bytes(token.encode())) is not None:
        raise InputError(
            f"special token {token!r} is in the base already.",
            effect="One token would have two ids and two embedding rows.",
            way_out="Leave it out: the base's own is kept.",
        )


def _refuse_read_out(base: BaseTokenizer, spec: Mapping[str, Any], tokens: Sequence[str]) -> None:
    """Refuse special tokens that the extended tokenizer would read out of plain text.

    A lone character is looked up in the vocabulary, where special tokens stand for their ids; with
    `ignore_merges` a whole pre-token is. A model's control pieces are not: its forms would part.

    Raises:
        InputError: There is such a token.
    """
    if not tokens:
        return
    kind = ByteLevelBase if isinstance(base, ByteLevelBase) else FastSentencePieceBase
    extended = kind(json.dumps(spec), base.name)
    ids = {extended.find_piece(token): token for token in tokens}
    found = read_specials(extended, [id for id in ids if id is not None])
    if found:
        token = ids[min(found)]
        why = (
            "a single character is looked up in the vocabulary"
            if len(token) == 1
            else "with this base's ignore_merges a whole pre-token is looked up in the vocabulary"
        )
        raise InputError(
            f"special token {token!r} would be read out of plain text: {why}.",
            effect="What anybody writes would become the token, and libraries would differ on it.",
            way_out=f"Name one that the base cuts in several, as --special '<|{token}|>'.",
        )


def _padding(wanted: Wanted) -> Iterator[str]:
    base = wanted.base
    size = base.size + len(wanted.pieces) + len(wanted.specials)
    taken = {base.piece(id) for id in range(base.size)} | {*wanted.pieces, *wanted.specials}
    number = 0
    for _ in range(-size % wanted.multiple):
        while (name := f"<|padding_{number}|>") in taken:
            number += 1
        taken.add(name)
        yield name


def _post_processor(forms: Forms, extended: SentencePieces) -> Any:
    """Give what puts BOS and EOS around a text: the base's own, or as its config says."""
    if forms.fast_file:
        return load_json(forms.fast_file).get("post_processor")
    bos = extended.bos_id if forms.config.get("add_bos_token", True) else None
    eos = extended.eos_id if forms.config.get("add_eos_token", False) else None
    return template(extended.pieces, bos, eos)


def _refuse_unknown_roles(config: Mapping[str, Any], spec: Mapping[str, Any], name: str) -> None:
    known = {*spec["model"]["vocab"], *(token["content"] for token in spec["added_tokens"])}
    unknown = [token for token in named_tokens(config) if token not in known]
    if unknown:
        raise InputError(
            f"{name}: its tokenizer_config.json names {unknown[0]!r}, which has no id.",
            effect="transformers would give it an id behind all pieces, that the model has not.",
            way_out=f"Add it: --special '{unknown[0]}'; or name the tokenizer file itself.",
        )


def _warnings(wanted: Wanted) -> Iterator[str]:
    forms = wanted.forms
    if wanted.extra:
        shown = ", ".join(f"{t} = {forms.base.size + n}" for n, t in enumerate(wanted.extra))
        yield f"tokens of the base's configs were taken in at their ids: {shown}."
    if wanted.missing_bytes:
        first, last = forms.base.size + len(wanted.extra), wanted.base.size - 1
        yield (
            f"the base has no piece for {len(wanted.missing_bytes)} of the 256 bytes "
            f"({wanted.missing_bytes.hex(' ').upper()}) and loses them: they were added first, ids "
            f"{first:,} to {last:,}. Texts with such bytes are kept now; all others do not change "
            "by them."
        )
    num_tied = _count_tied(forms.model) if forms.model is not None else 0
    if num_tied:
        yield (
            f"{num_tied:,} pieces of the base share a score with another: SentencePiece and fast "
            "tokenizers differ on some texts, as they do on the base itself; lingraft tokenizer "
            "verify shows where."
        )
    if forms.model is None and not forms.config:
        yield (
            "no tokenizer_config.json beside the base: the extended tokenizer has no BOS, EOS or "
            "chat template; give the base's folder to keep them."
        )
    if forms.config.get("auto_map"):
        yield "auto_map was left out: the extended tokenizer needs no code of its own."


def _count_tied(base: SentencePieces) -> int:
    """Count pieces that share a score, but for runs of spaces: among these ties change nothing."""
    scores = Counter(
        score
        for piece, kind, score in zip(base.pieces, base.kinds, base.scores, strict=True)
        if kind is Kind.NORMAL and len(piece) > 1 and piece.strip(SPACE)
    )
    return sum(count for count in scores.values() if count > 1)


def _dense(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n").encode()


def _readable(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()
