"""An expansion from its choice of methods to the folder; the stage and the command share it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from ..errors import UsageError
from ..progress import Reporter
from ..shards import open_folder
from ..store import Draft
from .added import Added
from .auxiliary import train_auxiliary
from .filling import Filled, check_options, fill_rows
from .methods import Method, Need, Role, find_method
from .probe import Candidate
from .probing import PROBE, Probed, choose_by_probe, curve_facts, read_candidates
from .settings import EmbedFacts, Option, ProbeCurve
from .sources import Source
from .writing import FillRows, Growth, Written, plan_growth, write_model

__all__ = ["Choice", "check_choice", "expand_into", "make_filler"]

_OPTION_OF: Mapping[Need, str] = {
    "counts": "--counts TOKENS_DIR",
    "tokens": "--counts TOKENS_DIR",
    "auxiliary": "--counts TOKENS_DIR",
    "donor": "--donor DIR",
}


@dataclass(frozen=True)
class Choice:
    """How new rows are made.

    Attributes:
        method: Name, for input rows and a tied matrix.
        head_method: Name, for output rows; not used where they are tied.
        options: Of `method`.
        head_options: Of `head_method`.
        tie_break: Whether pieces with the same parts are told apart.
        multiple: Rows become a multiple of this.
        donor: Folder of a model that knows the new pieces.
    """

    method: str
    head_method: str
    options: Mapping[str, Option] = field(default_factory=dict)
    head_options: Mapping[str, Option] = field(default_factory=dict)
    tie_break: bool = True
    multiple: int = 1
    donor: Path | None = None

    def of(self, role: Role) -> tuple[Method, Mapping[str, Option]]:
        """Give method and options of a role."""
        if role == "input":
            return find_method(self.method, role), self.options
        return find_method(self.head_method, role), self.head_options


def check_choice(choice: Choice, source: Source) -> None:
    """Refuse a choice that cannot be carried out, before anything is read or written.

    Raises:
        UsageError: A method is not known, lacks something, or has no such option.
    """
    alone = source.matrices.tied or choice.method == PROBE
    roles: tuple[Role, ...] = ("input",) if alone else ("input", "output")
    if source.matrices.tied and choice.head_options:
        raise UsageError(
            f"{source.model.path}: its head is tied to its input rows; a head of its own cannot "
            "have options.",
            way_out="Give them to --method.",
        )
    for role in roles:
        method, options = choice.of(role)
        check_options(method, options)
        if method.instead == "donor" and choice.donor is not None:
            continue
        for need in method.needs:
            if need in ("counts", "tokens", "auxiliary") and source.tokens is None:
                raise UsageError(
                    f"method {method.name!r} needs {need}, made from text in ids of the extended "
                    "tokenizer.",
                    way_out="lingraft encode makes such a folder; name it with "
                    f"{_OPTION_OF[need]}.",
                )
            if need == "donor" and choice.donor is None:
                raise UsageError(
                    f"method {method.name!r} needs a donor model.",
                    way_out=f"Name its folder with {_OPTION_OF[need]}.",
                )


def make_filler(
    source: Source, choice: Choice, seed: int, reporter: Reporter | None = None
) -> FillRows:
    """Give the function that makes the new rows of a matrix from its base rows."""
    auxiliary: list[Any] = []

    def fill(base_VD: torch.Tensor, role: Role) -> Filled:
        method, options = choice.of(role)
        given: dict[str, Any] = {}
        with_donor = method.instead == "donor" and choice.donor is not None
        for need in ("donor",) if with_donor else method.needs:
            if need == "auxiliary":
                if not auxiliary:
                    auxiliary.append(_auxiliary(source, seed))
                given["auxiliary_VA"] = auxiliary[0]
            elif need == "tokens":
                given["tokens"] = source.tokens
            elif need == "model":
                given["model"] = source.model.path
            elif need == "donor":
                given["donor"] = choice.donor
        return fill_rows(
            base_VD,
            source.added,
            role,
            seed,
            method,
            given=given,
            options=options,
            tie_break=choice.tie_break,
            reporter=reporter,
        )

    return fill


def _auxiliary(source: Source, seed: int) -> Any:
    assert source.tokens is not None, "checked before: auxiliary vectors need token files"
    folder = open_folder(source.tokens)
    train = [file for name, file in folder.files.items() if not name.endswith("-valid")]
    ids = folder.index.tokenizer
    skip = [id for id in (ids.bos_id, ids.eos_id) if id is not None]
    return train_auxiliary(train, source.added.num_extended, seed, skip=skip).vectors_VA


def expand_into(source: Source, choice: Choice, draft: Draft) -> tuple[EmbedFacts, Written]:
    """Write the expanded model into a draft.

    Raises:
        InputError: The base's matrices cannot be expanded.
        UsageError: The choice cannot be carried out.
    """
    check_choice(choice, source)
    probed = None
    if choice.method == PROBE:
        choice, probed = _settle(source, choice, draft)
    added = source.added
    growth = plan_growth(source.matrices, added.num_base, len(added), choice.multiple)
    fill = make_filler(source, choice, draft.seed, draft.reporter)
    written = write_model(source.model, source.matrices, growth, source.tokenizer, fill, draft)
    facts = _facts(source, choice, growth, written)
    if probed is not None:
        curves = [ProbeCurve.model_validate(curve) for curve in curve_facts(probed.curves)]
        facts = facts.model_copy(update={"probe_judge": probed.judge, "probe": curves})
    return facts, written


def _settle(source: Source, choice: Choice, draft: Draft) -> tuple[Choice, Probed]:
    """Let a probe choose the methods."""
    options: dict[str, Any] = dict(choice.options)
    tried = read_candidates(str(options.get("candidates", "")), tied=source.matrices.tied)
    for candidate in tried:
        check_choice(_with(choice, candidate), source)

    def rows_of(
        candidate: Candidate, base_VD: torch.Tensor, head_VD: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        fill = make_filler(source, _with(choice, candidate), draft.seed, draft.reporter)
        rows = fill(base_VD, "input").rows_ND
        return rows, None if head_VD is None else fill(head_VD, "output").rows_ND

    probed = choose_by_probe(source, rows_of, draft.seed, reporter=draft.reporter, **options)
    draft.note(f"the probe chose {probed.winner} by its bits per byte of {probed.judge}")
    return _with(choice, probed.winner), probed


def _with(choice: Choice, candidate: Candidate) -> Choice:
    """Give a choice with the methods of a candidate, at their defaults."""
    head = candidate.head_method or choice.head_method
    return replace(choice, method=candidate.method, head_method=head, options={}, head_options={})


def _facts(source: Source, choice: Choice, growth: Growth, written: Written) -> EmbedFacts:
    added, tied = source.added, source.matrices.tied
    kinds = Counter(added.kinds)
    rows, head = written.filled["input"], written.filled.get("output")
    notes = {f"input: {name}": count for name, count in rows.notes.items()}
    if head is not None:
        notes |= {f"output: {name}": count for name, count in head.notes.items()}
    return EmbedFacts(
        method=choice.method,
        head_method=None if tied else choice.head_method,
        tied=tied,
        base_rows=growth.num_base,
        added_rows=growth.added,
        padded=growth.padded,
        copied=kinds["copied"],
        special=kinds["special"],
        unspellable=kinds["unspellable"],
        completed_bytes=kinds["byte"],
        averaged_over=_lengths(added),
        mean_spelling_tokens=_mean_length(added, choice.method),
        identical_before=rows.identical_before,
        identical_rows=rows.identical_rows,
        head_identical_before=None if head is None else head.identical_before,
        head_identical_rows=None if head is None else head.identical_rows,
        notes=notes,
        shards_linked=len(written.linked),
        shards_written=written.shards_written,
    )


def _lengths(added: Added) -> dict[str, int]:
    found = Counter(len(ids) for ids in added.spellings if ids)
    return {str(length): found[length] for length in sorted(found)}


def _mean_length(added: Added, method: str) -> float:
    every = added.text_spellings if method == "mean-text" else added.spellings
    spelled = [len(ids) for ids in every if ids]
    return sum(spelled) / len(spelled) if spelled else 0.0
