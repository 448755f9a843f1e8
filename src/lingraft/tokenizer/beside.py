"""Is the `tokenizer.json` beside a `tokenizer.model` the same tokenizer, on every text?

What is proved of a model holds for the file beside it only if both are one tokenizer. The file is
held against the one that the model becomes (`lingraft.fast`): vocabulary, special tokens, text
path, merge rules. Rules may be listed in another order and still be the same: a list may hold pairs
that never join. Only a *live* rule ever does, the last join of its own piece alone: what happens
inside a piece before it is whole is the same in every text. So two lists do the same to every text
if their live rules are the same in the same order; where only the order among equal scores differs,
or the way in which a piece is put together, nothing is proved and the measured checks decide.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from ..errors import InputError
from ..fast import fast_tokenizer
from ..fastbases import FastSentencePieceBase
from ..pieces import Kind, SentencePieces
from .forms import Forms
from .kept import merges_of, path_changes, spec_of
from .literal import read_specials
from .outcome import Check
from .rules import list_ranks, trace

__all__ = ["Unlike", "check_files", "compare_files"]

_NAME = "forms"
_SHOWN = 8
_BY = "by tokenizer.model"
_HERE = "; in the base it is "


class Unlike(NamedTuple):
    """What tells the two files apart.

    Attributes:
        differing: What gives some text other ids.
        unproved: What may or may not.
    """

    differing: Sequence[str] = ()
    unproved: Sequence[str] = ()


def check_files(extended: Forms, base: Forms | None) -> Check:
    """Judge: both files of a tokenizer are one; what its base's files do as well is told."""
    if extended.model is None or extended.fast_file is None:
        there = "tokenizer.model" if extended.model else "tokenizer.json"
        return Check(_NAME, "skipped", f"there is one file only: {there}")
    found, known = compare_files(extended), Unlike()
    if found.differing and base is not None and base.model and base.fast_file:
        known = compare_files(base)
    fresh = [line for line in found.differing if line not in known.differing]
    figures = {"differences": len(fresh), "not proved equal": len(found.unproved)}
    figures["differences that the base's own files have"] = len(found.differing) - len(fresh)
    if not found.differing and not found.unproved:
        text = "tokenizer.json is what tokenizer.model becomes: pieces, text path, order of rules"
        return Check(_NAME, "ok", text, figures)
    lines = [*fresh, *[line for line in found.differing if line not in fresh], *found.unproved]
    effect = "tokenizer.json is not tokenizer.model: what is proved below is proved of the model."
    if not found.differing:
        effect = (
            "Whether tokenizer.json gives the same ids is measured on texts (forms agree), not "
            "proved; what is proved below is proved of tokenizer.model."
        )
    return Check(_NAME, "differs" if fresh else "told", lines[0], figures, lines[:_SHOWN], [effect])


def compare_files(forms: Forms) -> Unlike:
    """Compare the two files of a tokenizer that has both."""
    model, spec = forms.model, spec_of(forms)
    assert model is not None, "a tokenizer with both files"
    try:
        made = fast_tokenizer(model)
    except InputError as error:
        return Unlike(unproved=[error.what])
    paths = [line.replace(_HERE, f"; {_BY} ") for line in path_changes(made, spec, is_exact=False)]
    # Decoding is another question than ids, and is tried on texts.
    differing = [line for line in paths if not line.startswith("its decoder")]
    unproved = [line for line in paths if line not in differing]
    differing += _vocabulary_changes(model, spec)
    if not differing:  # else it need not be of a kind that can be asked
        differing += _read_out(forms)
    rules = _compare_rules(model, merges_of(made), merges_of(spec))
    return Unlike([*differing, *rules.differing], [*unproved, *rules.unproved])


def _vocabulary_changes(model: SentencePieces, spec: Mapping[str, Any]) -> Iterator[str]:
    vocab = spec["model"]["vocab"]
    tokens = {token["content"]: token for token in spec.get("added_tokens") or []}
    special = {content for content, token in tokens.items() if token["special"]}
    for piece, id in model.ids.items():
        found = vocab.get(piece, tokens.get(piece, {}).get("id"))
        if found != id:
            yield f"piece {piece!r} has id {found} in tokenizer.json; {_BY} {id}"
        is_control = model.kinds[id] in (Kind.CONTROL, Kind.UNKNOWN)
        if is_control != (piece in special):
            yield f"piece {piece!r} ({id}) is {'no' if is_control else 'a'} special token there"
    for piece in [*vocab, *tokens]:
        # Special tokens that stand in tokenizer.json alone are never read out of text.
        if piece not in model.ids and piece not in special:
            yield f"tokenizer.json has a piece {piece!r} that tokenizer.model has not"


def _read_out(forms: Forms) -> Iterator[str]:
    """Tell the special tokens that tokenizer.json reads out of text, as no model does."""
    assert forms.fast_file, "a tokenizer with both files"
    content = forms.fast_file.read_text(encoding="utf-8")
    fast = FastSentencePieceBase(content, str(forms.fast_file))
    beside = [id for id in range(fast.size) if fast.piece(id) and not fast.piece_bytes(id)]
    for id in read_specials(fast, beside):
        yield f"tokenizer.json reads its special token {fast.piece(id)!r} ({id}) out of plain text"


def _compare_rules(
    model: SentencePieces, made: Sequence[tuple[str, str]], theirs: Sequence[tuple[str, str]]
) -> Unlike:
    """Compare the merge rules that a model becomes with those that are listed."""
    if list(made) == list(theirs):
        return Unlike()
    normal = {p for p, id in model.ids.items() if model.kinds[id] is Kind.NORMAL}
    foreign = [rule for rule in theirs if not {*rule, "".join(rule)} <= normal]
    differing = [
        f"tokenizer.json has a merge rule {left!r} {right!r} that no two pieces of "
        "tokenizer.model give"
        for left, right in foreign[:_SHOWN]
    ]
    pieces = [piece for piece in model.ids if piece in normal and len(piece) > 1]
    ours, others = _live_rules(pieces, made), _live_rules(pieces, theirs)
    spelled = [p for p in pieces if ours[p].symbols != others[p].symbols]
    differing += [
        f"{piece!r}, alone, is {' | '.join(others[piece].symbols)} by the merge rules of "
        f"tokenizer.json; {_BY} {' | '.join(ours[piece].symbols)}"
        for piece in spelled[:_SHOWN]
    ]
    differing += _misplaced(model, others)
    unproved = []
    cut = [p for p in pieces if ours[p].cut != others[p].cut and p not in spelled]
    if cut:
        unproved.append(
            f"{len(cut):,} pieces are put together otherwise by tokenizer.json: {cut[0]!r}"
        )
    if not differing and not cut and _order_of(ours) != _order_of(others):
        unproved.append("tokenizer.json orders merge rules of equal score otherwise")
    return Unlike(differing, unproved)


class _Live(NamedTuple):
    """A piece alone: what it ends as, and the rule that made it whole, if one did."""

    symbols: Sequence[str]
    cut: int
    rank: float


def _live_rules(pieces: Sequence[str], rules: Sequence[tuple[str, str]]) -> dict[str, _Live]:
    rank = list_ranks(rules)
    found = {}
    for piece in pieces:
        symbols, joins = trace(piece, rank)
        is_whole = len(symbols) == 1
        found[piece] = _Live(
            symbols, joins[-1].cut if is_whole else 0, joins[-1].rank if is_whole else float("inf")
        )
    return found


def _order_of(live: Mapping[str, _Live]) -> list[str]:
    return sorted((piece for piece, rule in live.items() if rule.cut), key=lambda p: live[p].rank)


def _misplaced(model: SentencePieces, live: Mapping[str, _Live]) -> list[str]:
    """Tell live rules that go before one of a higher score; the model goes by scores."""
    scores = {piece: model.scores[model.ids[piece]] for piece in live}
    return [
        f"the merge rule of {first!r} (score {scores[first]:g}) goes before that of {later!r} "
        f"(score {scores[later]:g}) in tokenizer.json"
        for first, later in pairwise(_order_of(live))
        if scores[first] < scores[later]
    ][:_SHOWN]
