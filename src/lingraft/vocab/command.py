"""`lingraft vocab search` on plain files: the same search as the stage's, without a recipe."""

from __future__ import annotations

import difflib
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError

from ..errors import UsageError
from ..progress import Progress, Reporter, SilentReporter
from ..store import disk_errors, lock_folder
from ..streaming import list_names, num_cores
from ..texts import RawDocument, find_texts
from .asked import check_asked, optional, read_eval, whole, wholes, words
from .choose import Choice, choose_vocabulary
from .engine import SearchFacts
from .grid import GridOptions, read_files, search_grid
from .pricing import PriceModel, PriceRow, PriceTerms, parse_model, price_table, read_token_curve
from .pricing_text import price_record, price_verdict
from .results import choice_of, piece_rows, piece_text, render
from .settings import Choosing, Trainer
from .targets import read_alphabet

__all__ = [
    "WORK",
    "Names",
    "PriceResult",
    "SearchResult",
    "list_names",
    "parse_memory",
    "price",
    "search",
]

Names = str | Path | Sequence[str | Path]
_Kind = TypeVar("_Kind", Trainer, Choosing)
WORK = ".work"
"""Folder inside the output where the corpus is kept as codes until the search is done."""
_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_LEAST_MEMORY = 512 << 20


@dataclass(frozen=True)
class SearchResult:
    """A finished search."""

    folder: Path
    choice: Mapping[str, Any]
    """What `choice.json` holds."""
    pieces: tuple[str, ...]
    """The chosen new pieces in order."""
    facts: SearchFacts
    """What happened on the way: this may differ with memory and threads, the rest does not."""

    @property
    def num_surrogates(self) -> int:
        """Halves of surrogate pairs in all texts, each read as U+FFFD; `choice` tells of each."""
        told = (self.choice["training"], *self.choice["evals"].values())
        told += tuple(self.choice["kept"].values())
        return sum(text.get("num_surrogates", 0) for text in told)


@dataclass(frozen=True)
class PriceResult:
    """What sizes cost and save."""

    rows: Sequence[PriceRow]
    size: int
    """The size that the verdict is about."""
    verdict: Sequence[str]
    record: Mapping[str, Any]
    """All of it, ready for JSON."""


def price(
    folder: str | Path,
    *,
    model: str | PriceModel,
    eval: str | None = None,
    num_chars: int | None = None,
    size: int | None = None,
    train_chars: float = 0,
    serve_chars_per_day: float = 0.0,
    min_occurrences: int | None = None,
) -> PriceResult:
    """Price the sizes of a search: should the tokenizer be extended at all?

    Args:
        folder: What `search` wrote.
        model: The base model, as "hidden=4096,active=12.9e9,total=46.7e9,vocab=32000".
        eval: Evaluation text; None: the first.
        num_chars: Single characters; None: as chosen.
        size: Size to judge; None: the chosen one.
        train_chars: Characters of the training corpus.
        serve_chars_per_day: Characters served a day.
        min_occurrences: How often training must show a new piece; None: `PriceTerms` tells.

    Raises:
        UsageError: There is no search in the folder, or not of this text, count or size.
    """
    import pyarrow.parquet as pq

    try:
        record = json.loads((Path(folder) / "choice.json").read_text(encoding="utf-8"))
        table = pq.read_table(Path(folder) / "curves.parquet")
        if not isinstance(record, dict):
            raise ValueError("choice.json is no object")
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{folder}: holds no finished search: {error}.",
            way_out="Make one: lingraft vocab search ... --out DIR.",
        ) from None
    shape = parse_model(model) if isinstance(model, str) else model
    terms = PriceTerms(train_chars=train_chars, serve_chars_per_day=serve_chars_per_day)
    if min_occurrences is not None:
        terms = replace(terms, min_occurrences=min_occurrences)
    curve = read_token_curve(
        table, record, eval or next(iter(record.get("evals", {"": 0}))), num_chars
    )
    judged = record["size"] if size is None else size
    rows = price_table(curve, shape, terms, judged)
    verdict = price_verdict(next(row for row in rows if row.size == judged), terms)
    return PriceResult(rows, judged, verdict, price_record(rows, curve, shape, terms, judged))


def search(
    *,
    base: str | Path,
    corpus: Names,
    eval: Mapping[str, Names],
    out: str | Path,
    max_size: int,
    chars: Sequence[int] | None = None,
    size: int | None = None,
    num_chars: int | None = None,
    rule: str = "gain",
    keep: Mapping[str, Names] | None = None,
    scripts: Sequence[str] | None = None,
    text_key: str = "text",
    jobs: int | None = None,
    memory: str | int | None = None,
    cut: int | None = None,
    keep_work: bool = False,
    reporter: Reporter | None = None,
    **options: Any,
) -> SearchResult:
    """Search every vocabulary up to a size, choose one, and write the folder `out`.

    Args:
        base: A `tokenizer.model`, a `tokenizer.json`, a folder of one, or a hub name.
        corpus: Files, folders or patterns: .jsonl, .parquet, .txt, also packed.
        eval: Texts that ALP is measured on: name -> files.
        out: Folder to write.
        max_size: Largest number of added pieces, single characters included.
        chars: Numbers of added single characters; None: `grid.default_char_counts`.
        size: Number of added pieces to choose; None: by `rule`.
        num_chars: Number of single characters to choose; None: the best at that size.
        rule: "gain": as many pieces as pay min_gain; "knee": Kneedle's knee.
        keep: Texts of other languages, to measure what changes in them: name -> files.
        scripts: Unicode scripts of the new language; None: found from the corpus.
        text_key: Column of the text.
        jobs: Threads, None: one a core; they do not change the result.
        memory: Memory to stay below, as "2GB"; what does not fit goes to disk.
        cut: Neighbours that meet fewer times are cut apart, 0: never; None: chosen, checked.
        keep_work: Keep the corpus as codes in `out`/.work: another search is quicker.
        reporter: Where progress goes.
        **options: Fields of `settings.Trainer` and `settings.Choosing`.

    Raises:
        InputError: A file cannot be read, or holds nothing to learn from.
        UsageError: The sizes or names cannot be.
    """
    most = whole("max_size", max_size)
    trainer, choose = _read_options(
        options, rule=rule, size=size, num_chars=num_chars, max_size=most
    )
    asked = _ask(most, trainer, text_key, chars=chars, cut=cut, jobs=jobs, memory=memory)
    files = (list_names("corpus", corpus), read_eval("eval", eval), read_eval("keep", keep or {}))
    check_asked(asked, optional("size", size), optional("num_chars", num_chars), files[1])
    sources = _Sources(str(base), words("scripts", scripts), *files)
    return _search(sources, asked, choose, Path(out), keep_work, reporter)


def _ask(most: int, trainer: Trainer, text_key: str, **given: Any) -> GridOptions:
    memory = given["memory"]
    return GridOptions(
        char_counts=wholes("chars", given["chars"]),
        max_size=most,
        trainer=trainer,
        text_key=text_key,
        threshold=optional("cut", given["cut"], most=1 << 40),
        jobs=optional("jobs", given["jobs"], 1, 1024) or num_cores(),
        memory_bytes=None if memory is None else parse_memory(memory),
    )


class _Sources(NamedTuple):
    """What is read."""

    base: str
    scripts: Sequence[str] | None
    corpus: Sequence[str]
    eval: Mapping[str, Sequence[str]]
    keep: Mapping[str, Sequence[str]]


def _search(
    sources: _Sources,
    options: GridOptions,
    choose: Callable[..., Choice],
    folder: Path,
    keep_work: bool,
    reporter: Reporter | None,
) -> SearchResult:
    teller = _Teller(reporter or SilentReporter())
    files = find_texts(sources.corpus)
    evals, keep = (
        {name: _reading(find_texts(given[name]), options.text_key) for name in given}
        for given in (sources.eval, sources.keep)
    )
    with (
        disk_errors(folder, place="--out DIR"),
        lock_folder(folder, place="--out DIR", other="--out OTHER"),
    ):
        alphabet = read_alphabet(
            sources.base,
            sources.scripts,
            options.trainer.word_start,
            files,
            options.text_key,
            teller.note,
        )
        work = folder / WORK
        work.mkdir(exist_ok=True)
        grid = search_grid(alphabet, files, evals, options, work, teller, keep)
        choice = choose(grid.curves, grid.evals)
        write_files(folder, render(grid, choice), teller)
        if not keep_work:
            shutil.rmtree(work)
    rows = piece_rows(grid, choice.num_chars, choice.size)
    pieces = tuple(piece_text(grid, row["piece"]) for row in rows)
    return SearchResult(folder, choice_of(grid, choice), pieces, grid.facts)


def _read_options(
    options: Mapping[str, Any], **given: Any
) -> tuple[Trainer, Callable[..., Choice]]:
    """Check the options that recipes have, too."""
    known = {*Trainer.model_fields, *Choosing.model_fields}
    for key in options.keys() - known:
        near = difflib.get_close_matches(key, known, n=1)
        hint = f"Did you mean '{near[0]}'?" if near else f"There are: {', '.join(sorted(known))}."
        raise UsageError(f"no option '{key}'.", way_out=hint)
    if given["rule"] not in ("gain", "knee"):
        raise UsageError(f"rule '{given['rule']}': expected gain or knee.")
    trainer, choosing = _validate(Trainer, options), _validate(Choosing, options)
    choose = partial(
        choose_vocabulary,
        **given,
        min_gain=choosing.min_gain,
        sensitivity=choosing.knee_sensitivity,
    )
    return trainer, choose


def _validate(kind: type[_Kind], options: Mapping[str, Any]) -> _Kind:
    own = {key: value for key, value in options.items() if key in kind.model_fields}
    try:
        return kind.model_validate(own)
    except ValidationError as error:
        problem = error.errors()[0]
        key = str(problem["loc"][0])
        raise UsageError(
            f"{key} = {own[key]!r}: {problem['msg']}.", way_out=f"Set another {key}."
        ) from None


def parse_memory(memory: str | int) -> int:
    """Read an amount of memory in bytes.

    >>> parse_memory("1.5GB")
    1500000000

    Raises:
        UsageError: It is no amount, or too little to work in.
    """
    match = re.fullmatch(r"\s*([0-9_]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*", str(memory))
    if match is None or match[2].upper() not in _UNITS:
        raise UsageError(f"memory '{memory}': not an amount such as 2GB, 800MB or 1.5GiB.")
    size = int(float(match[1].replace("_", "")) * _UNITS[match[2].upper()])
    if size < _LEAST_MEMORY:
        raise UsageError(
            f"memory '{memory}': below {_LEAST_MEMORY >> 20} MiB.",
            effect="Python and the compiled code alone need most of that.",
            way_out="Allow at least 512MiB.",
        )
    return size


def write_files(folder: Path, files: Mapping[str, Callable[[], bytes]], teller: _Teller) -> None:
    """Write files beside their places, then move all of them in; the last one comes last."""
    with teller.progress("write", len(files), "files") as progress:
        for name, content in files.items():
            (folder / f".{name}.draft").write_bytes(content())
            progress.advance(1, name)
    last = list(files)[-1]
    (folder / last).unlink(missing_ok=True)  # an older choice would not fit the new curves
    for name in files:
        (folder / f".{name}.draft").replace(folder / name)


def _reading(paths: Sequence[Path], text_key: str) -> Callable[[], Iterator[RawDocument]]:
    return lambda: read_files(paths, text_key)


class _Teller:
    """A reporter as the search wants it."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    @contextmanager
    def progress(self, label: str, total: int, unit: str, done: int = 0) -> Iterator[Progress]:
        with self._reporter.task(label, total, unit, done) as progress:
            yield progress

    def note(self, text: str) -> None:
        self._reporter.note(text)
