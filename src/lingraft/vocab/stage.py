"""Search the vocabularies of a run's corpus, choose one, write its pieces, curves and plots."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ..bases import read_base
from ..settings import StageSettings
from ..store import Artefact, Draft
from ..streaming import num_cores
from ..texts import RawDocument
from .alphabet import Alphabet
from .choose import Choice, choose_vocabulary
from .grid import Grid, GridOptions, read_files, search_grid
from .results import count_known_pieces, render
from .settings import CurveFacts, VocabFacts, VocabSettings

__all__ = ["run"]

_LEFT_OUT = ("alp.png",)
"""Files of a search that a run does not need beside the others."""


def run(settings: StageSettings, inputs: Mapping[str, Artefact], draft: Draft) -> VocabFacts:
    """Write the chosen pieces, the rules and curves of all counts, and the plots.

    Raises:
        InputError: The base or the corpus does not allow this search, or no knee is found.
        UsageError: No vocabulary has the size that the settings force.
    """
    assert isinstance(settings, VocabSettings), "vocab.run got another stage's settings"
    base = read_base(str(inputs["base"].path))
    alphabet = Alphabet(base, settings.scripts, settings.word_start)
    control = settings.size == 0  # the base as it is, scored
    options = GridOptions(
        char_counts=(0,) if control else tuple(sorted(set(settings.char_counts))),
        max_size=0 if control else settings.max_pieces,
        trainer=settings,
        jobs=num_cores(),
    )
    corpus = inputs["corpus"]
    grid = search_grid(
        alphabet,
        [corpus.file(f"{name}-train.jsonl") for name in settings.sets],
        {name: _reading(corpus.file(f"{name}-valid.jsonl")) for name in settings.evaluation},
        options,
        draft.scratch,
        draft,
    )
    choice = choose_vocabulary(
        grid.curves,
        grid.evals,
        rule="knee" if settings.size == "knee" else "gain",
        size=settings.size if isinstance(settings.size, int) else None,
        num_chars=settings.num_chars
        if isinstance(settings.num_chars, int) and not control
        else None,
        max_size=options.max_size,
        min_gain=settings.min_gain,
        sensitivity=settings.knee_sensitivity,
    )
    for name, content in render(grid, choice).items():
        if name not in _LEFT_OUT:
            (draft.path / name).write_bytes(content())
    for reason in choice.reasons:
        draft.note(reason)
    return _facts(grid, choice)


def _reading(path: Path) -> Callable[[], Iterator[RawDocument]]:
    return lambda: read_files([path], "text")


def _facts(grid: Grid, choice: Choice) -> VocabFacts:
    rules = grid.rules[choice.num_chars]
    num_rules = choice.size - grid.symbols.chars.num_added(choice.num_chars)
    return VocabFacts(
        num_candidates=sum(curve.end - curve.start + 1 for curve in grid.curves),
        num_pieces=choice.size,
        num_chars=choice.num_chars,
        num_chars_in_base=count_known_pieces(grid)[0],
        rule=choice.rule,
        reasons=list(choice.reasons),
        knee=choice.knee,
        curves=[
            CurveFacts(
                num_chars=curve.num_chars,
                num_rules=curve.end - curve.start,
                alp_at_choice=_alp_at(grid, place, choice.size),
            )
            for place, curve in enumerate(grid.curves)
            if choice.size
        ],
        rule_count_at_cut=int(rules.joins_KW[num_rules - 1, 0]) if num_rules else 0,
    )


def _alp_at(grid: Grid, place: int, size: int) -> dict[str, float]:
    """Give a curve's ALP at a size, by evaluation text; nothing where it has no such size."""
    curve = grid.curves[place]
    if not curve.has(size):
        return {}
    alp_E = curve.alp_EK[:, size - curve.start]
    return {text.name: alp for text, alp in zip(grid.evals, alp_E.tolist(), strict=True)}
