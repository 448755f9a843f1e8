"""Is the base still in the extended tokenizer, bit for bit?

Ids, pieces, scores and kinds of a SentencePiece model, and what it does to text before its rules;
vocabulary, merge rules, added tokens and text path of a `tokenizer.json`. A rule that the base did
not have may make a base piece only out of an added one: such a rule has nothing to work on before
the added rules have.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ..fast import fast_tokenizer
from ..pieces import SentencePieces, parse_model
from .forms import Forms
from .loading import renumbered
from .outcome import Check

__all__ = ["check_kept", "merges_of", "model_changes", "path_changes", "spec_changes", "spec_of"]

_NAME = "base kept"
_TEXT_PATH = ("normalizer", "pre_tokenizer", "decoder")
_MODEL_KEYS = ("type", "byte_fallback", "ignore_merges", "unk_token", "fuse_unk", "dropout")
_OF_UNKNOWN = ("unk_token", "fuse_unk")
_SPEC_KEYS = (
    "precompiled_charsmap",
    "add_dummy_prefix",
    "remove_extra_whitespaces",
    "escape_whitespaces",
)
_MODEL_PATH = "normaliser"


def check_kept(base: Forms, extended: Forms, num_completed: int = 0) -> Check:
    """Compare the extended tokenizer with its base, in every form that both have.

    Args:
        base: The base.
        extended: The extended tokenizer.
        num_completed: Bytes that the base has no piece for, and that were added first.
    """
    changes: list[str] = []
    if base.model and extended.model:
        changes += model_changes(base.model, extended.model)
    if (base.fast_file and extended.fast_file) or not (base.model and extended.model):
        # What a model becomes is compared like a file: its text path counts as well.
        is_exact = bool(base.fast_file and extended.fast_file)
        changes += spec_changes(spec_of(base), spec_of(extended), is_exact=is_exact)
    # What tokenizers makes of the file counts, not what the file says.
    changes += [f"loaded by tokenizers, {line}" for line in renumbered(extended)]
    figures = {"base_size": base.base.size, "size": extended.base.size, "changes": len(changes)}
    if num_completed:
        figures["completed_bytes"] = num_completed
    if not changes:
        added = extended.base.size - base.base.size - num_completed
        completed = f"{num_completed} bytes that it has no pieces for and " if num_completed else ""
        text = f"all {base.base.size:,} ids are the base's; {completed}{added:,} added"
        return Check(_NAME, "ok", text, figures)
    things = "1 thing is" if len(changes) == 1 else f"{len(changes):,} things are"
    text = f"{things} not as in the base; the first: {changes[0]}"
    effect = (
        "The model would read other text than it was trained on; nothing can be proved of such a "
        "tokenizer, and every text may change."
    )
    return Check(_NAME, "differs", text, figures, changes[:8], [effect])


def model_changes(base: SentencePieces, extended: SentencePieces) -> list[str]:
    """List what differs in the base's part of a SentencePiece model."""
    return [*_path_changes(base, extended), *_piece_changes(base, extended)]


def _piece_changes(base: SentencePieces, extended: SentencePieces) -> Iterator[str]:
    size = len(base.pieces)
    if len(extended.pieces) < size:
        yield f"{len(extended.pieces)} pieces, the base has {size}"
    for id in range(min(size, len(extended.pieces))):
        mine = (extended.pieces[id], extended.scores[id], extended.kinds[id].name)
        theirs = (base.pieces[id], base.scores[id], base.kinds[id].name)
        if mine != theirs:
            yield f"id {id} is {mine}; in the base it is {theirs}"


def _path_changes(base: SentencePieces, extended: SentencePieces) -> Iterator[str]:
    mine, theirs = (parse_model(p.proto, p.name) for p in (extended, base))
    pairs = [(key, mine.normalizer_spec, theirs.normalizer_spec) for key in _SPEC_KEYS]
    for key in ("treat_whitespace_as_suffix", "byte_fallback"):
        pairs.append((key, mine.trainer_spec, theirs.trainer_spec))
    for key, one, other in pairs:
        a, b = getattr(one, key), getattr(other, key)
        if a != b:
            shown = ("another one", "the base's") if isinstance(a, bytes) else (a, b)
            yield f"{_MODEL_PATH} {key} is {shown[0]}; in the base it is {shown[1]}"


def spec_of(forms: Forms) -> dict[str, Any]:
    """Give the content of `tokenizer.json`: the file's, or what the model becomes.

    Raises:
        InputError: There is no file, and the model has no fast form.
    """
    if forms.fast_file is not None:
        spec: dict[str, Any] = json.loads(forms.fast_file.read_text(encoding="utf-8"))
        return spec
    assert forms.model is not None, "a tokenizer has a tokenizer.model or a tokenizer.json"
    return fast_tokenizer(forms.model)


def merges_of(spec: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Give the merge rules of a `tokenizer.json`, of either spelling."""
    rules = spec["model"]["merges"]
    pairs = (rule.split(" ") if isinstance(rule, str) else rule for rule in rules)
    return [(left, right) for left, right in pairs]


def spec_changes(
    base: Mapping[str, Any], extended: Mapping[str, Any], *, is_exact: bool
) -> list[str]:
    """List what differs in the base's part of a `tokenizer.json`.

    Args:
        base: Content of the base's.
        extended: Content of the extended tokenizer's.
        is_exact: Whether both are files. What a model becomes and a published file may differ in
            what decides no id: the file's added tokens have flags of their own.
    """
    changes = path_changes(base, extended, is_exact=is_exact)
    vocab, known = extended["model"]["vocab"], base["model"]["vocab"]
    for piece, id in known.items():
        if vocab.get(piece) != id:
            changes.append(f"piece {piece!r} has id {vocab.get(piece)}; in the base {id}")
    own = {**known, **{token["content"]: token["id"] for token in base.get("added_tokens") or []}}
    end = 1 + max(own.values())
    for piece, id in vocab.items():
        if id < end and piece not in own:
            changes.append(f"piece {piece!r} has id {id}, which is one of the base's")
    return [
        *changes,
        *_added_changes(base, extended, is_exact=is_exact),
        *_rule_changes(base, extended),
    ]


def path_changes(
    base: Mapping[str, Any], extended: Mapping[str, Any], *, is_exact: bool
) -> list[str]:
    """List what differs in what two `tokenizer.json` do before and after their rules."""
    changes = [
        f"its {key} differs"
        for key in _TEXT_PATH
        if base.get(key) != extended.get(key)
        and (is_exact or _steps(base.get(key)) != _steps(extended.get(key)))
    ]
    mine, theirs = extended["model"], base["model"]
    # With all bytes in the vocabulary nothing is ever unknown, and every kind read here is BPE.
    idle = () if is_exact else ("type", *(_OF_UNKNOWN if mine.get("byte_fallback") else ()))
    changes += [
        f"model.{k} is {mine.get(k)!r}; in the base it is {theirs.get(k)!r}"
        for k in _MODEL_KEYS
        if (mine.get(k) or False) != (theirs.get(k) or False) and k not in idle
    ]
    return changes


def _steps(part: Any) -> list[Any]:
    """Give the steps of a normaliser or the like, whether they stand in a sequence or not."""
    if part is None:
        return []
    if part["type"] == "Sequence":
        inner = next(value for key, value in part.items() if key != "type")
        return [step for one in inner for step in _steps(one)]
    return [part]


def _added_changes(
    base: Mapping[str, Any], extended: Mapping[str, Any], *, is_exact: bool
) -> Iterator[str]:
    mine = {token["id"]: token for token in extended.get("added_tokens") or []}
    for token in base.get("added_tokens") or []:
        found = mine.get(token["id"])
        if found is None:
            now = next((t["id"] for t in mine.values() if t["content"] == token["content"]), None)
            yield f"added token {token['content']!r} has id {now}; in the base {token['id']}"
        elif found != token and (is_exact or not _same_special(found, token)):
            yield f"added token {token['id']} is {found}; in the base it is {token}"


def _same_special(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two entries are the same special token: its flags say how it is searched for."""
    return one["content"] == other["content"] and bool(one["special"] and other["special"])


def _rule_changes(base: Mapping[str, Any], extended: Mapping[str, Any]) -> Iterator[str]:
    theirs, mine = merges_of(base), merges_of(extended)
    known, vocab = set(theirs), base["model"]["vocab"]
    specials = {token["content"] for token in base.get("added_tokens") or []}
    kept = [rule for rule in mine if rule in known]
    for number, (rule, was) in enumerate(zip(kept, theirs, strict=False)):
        if rule != was:
            yield f"merge rule {number} of the base is {rule}; it was {was}"
            break
    if len(kept) != len(theirs):
        yield f"{len(kept):,} merge rules of the base are there; it has {len(theirs):,}"
    for left, right in mine:
        if (left, right) not in known and {left, right, left + right} <= vocab.keys():
            yield f"merge rule {left!r} {right!r} makes a base piece in a way the base has not"
        elif (left, right) not in known and left + right in specials:
            yield f"merge rule {left!r} {right!r} makes the base's token {left + right!r} of text"
