"""`lingraft tokenizer compare`: how many tokens any tokenizers need for any texts.

Each text is read once; each batch of it goes through every tokenizer. Threads take batches.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError, LingraftError, UsageError
from ..exact import Encoder
from ..progress import Reporter, SilentReporter
from ..store import disk_errors
from ..streaming import TextBatch, in_order, make_folder, num_jobs, read_batches
from ..texts import find_texts
from .chart import draw_bars
from .efficiency import (
    TOTAL,
    Efficiency,
    TextSize,
    TokenCount,
    TokenCounter,
    TokenizerFacts,
    measure_texts,
    tabulate,
)
from .efficiency_text import efficiency_csv, efficiency_markdown, efficiency_record
from .naming import name_texts, name_tokenizers, problem_error, read_encoders

__all__ = ["CompareResult", "check_record_path", "compare", "write_record"]

Names = str | Path | Sequence[str | Path]


@dataclass(frozen=True)
class CompareResult:
    """A finished comparison."""

    table: Efficiency
    folder: Path | None
    """Where its files are; None: nowhere."""

    @property
    def record(self) -> dict[str, Any]:
        """All of it, ready for JSON; what `efficiency.json` holds."""
        return efficiency_record(self.table)


def compare(
    tokenizers: Names | Mapping[str, str | Path],
    *,
    text: Names | Mapping[str, Names],
    out: str | Path | None = None,
    text_key: str = "text",
    jobs: int | None = None,
    reporter: Reporter | None = None,
) -> CompareResult:
    """Count the tokens of texts with many tokenizers.

    Args:
        tokenizers: Files, folders or hub names, each maybe as "NAME=SOURCE", or by name; the first
            is what the others are compared with.
        text: Files, folders or patterns by name; or words as on the command line, see
            `naming.name_texts`.
        out: Folder for efficiency.md, .csv, .svg, .png and .json; None: nothing is written.
        text_key: Column of the text.
        jobs: Threads; None: one a core. They do not change the result.
        reporter: Where progress goes.

    Raises:
        InputError: A text cannot be read or is empty; nothing is written then.
        UsageError: A tokenizer or text is not there or cannot be read (all of these are told at
            once), two have the same name, or `out` can be no folder.
    """
    teller = reporter or SilentReporter()
    threads, folder = num_jobs(jobs), None if out is None else Path(out)
    named, texts = name_tokenizers(tokenizers), name_texts(text)
    problems: list[str] = []
    paths = _find_all(texts, problems)
    if folder is not None and folder.exists() and not folder.is_dir():
        problems.append(f"--out {folder}: is a file; a folder is to be written there.")
    encoders = read_encoders(named, problems)
    if problems:
        raise problem_error(problems)
    facts = [_facts(*encoder) for encoder in encoders]
    for one in facts:
        if one.reason:
            teller.note(f"{one.name}: encoded by {one.encoder}: {one.reason}")
    table = _count_all([encoder for _, _, encoder in encoders], facts, paths, text_key, threads,
                       teller)  # fmt: skip
    if folder is not None:
        with disk_errors(folder, place="--out DIR"):
            make_folder(folder, "--out DIR")
            _write_files(folder, table)
    return CompareResult(table, folder)


def check_record_path(path: Path) -> None:
    """Refuse a place where no file can be written, before any work.

    Raises:
        UsageError: It is a folder.
    """
    if path.is_dir():
        raise UsageError(
            f"--json {path}: is a folder; a file is to be written there.",
            way_out="Name a file, as --json efficiency.json, or - for standard output.",
        )


def write_record(path: Path, result: CompareResult) -> None:
    """Write the JSON of a comparison so that it is there whole or not at all."""
    with disk_errors(path.parent, place="--json OUT"):
        make_folder(path.parent, "--json OUT")
        _write_whole(path.parent, {path.name: lambda: _json(result.table)})


def _find_all(texts: Mapping[str, Sequence[str]], problems: list[str]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    places: dict[Path, str] = {}
    for name, words in texts.items():
        try:
            found[name] = find_texts(words)
        except LingraftError as error:
            problems.append(str(error))
            continue
        for path in found[name]:
            other = places.setdefault(path.absolute(), name)
            if other != name:
                problems.append(f"{path} is in two texts, '{other}' and '{name}': the total would "
                                "count it twice.")  # fmt: skip
    if len(texts) > 1 and TOTAL in texts:
        problems.append(f"a text is called '{TOTAL}', as all texts together are. Rename it.")
    return found


def _facts(name: str, source: str, encoder: Encoder) -> TokenizerFacts:
    return TokenizerFacts(
        name=name,
        source=source,
        vocab_size=encoder.base.size,
        family=encoder.base.family,
        encoder=encoder.backend,
        reason=encoder.reason,
    )


def _count_all(
    encoders: Sequence[Encoder],
    facts: Sequence[TokenizerFacts],
    paths: Mapping[str, Sequence[Path]],
    text_key: str,
    threads: int,
    teller: Reporter,
) -> Efficiency:
    counters = [TokenCounter(encoder.base) for encoder in encoders]

    def work(batch: TextBatch) -> tuple[TextSize, list[TokenCount]]:
        # One tokenizer after the other: a batch's ids are dropped as soon as they are counted.
        counts = [
            counter.count(encoder.encode_batch(batch.texts, num_threads=1))
            for encoder, counter in zip(encoders, counters, strict=True)
        ]
        size = measure_texts(batch.texts)._replace(num_surrogates=batch.num_surrogates)
        return size, counts

    sizes: dict[str, TextSize] = {}
    counts: dict[str, list[TokenCount]] = {}
    total_bytes = sum(path.stat().st_size for files in paths.values() for path in files)
    with teller.task(f"encode with {len(encoders):,}", total_bytes, "bytes") as progress:
        for name, files in paths.items():
            sizes[name], counts[name] = TextSize(), [TokenCount()] * len(encoders)
            for batch, (size, found) in in_order(work, read_batches(files, text_key), threads):
                sizes[name] = sizes[name].plus(size)
                counts[name] = [a.plus(b) for a, b in zip(counts[name], found, strict=True)]
                progress.advance(batch.read_bytes, name)
            if not sizes[name].num_chars:
                raise InputError(
                    f"text '{name}': no text in {', '.join(map(str, files))}.",
                    effect="There would be nothing to divide by.",
                    way_out="Name a file that holds some.",
                )
    return tabulate(facts, sizes, counts)


def _json(table: Efficiency) -> bytes:
    text = json.dumps(efficiency_record(table), indent=1, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()


def _write_files(folder: Path, table: Efficiency) -> None:
    _write_whole(
        folder,
        {
            "efficiency.md": lambda: efficiency_markdown(table).encode(),
            "efficiency.csv": lambda: efficiency_csv(table).encode(),
            "efficiency.svg": lambda: draw_bars(table, "svg"),
            "efficiency.png": lambda: draw_bars(table, "png"),
            "efficiency.json": lambda: _json(table),
        },
    )


def _write_whole(folder: Path, files: Mapping[str, Callable[[], bytes]]) -> None:
    """Write files beside their places, then move all of them in; or leave none."""
    drafts = {name: folder / f".{name}.draft" for name in files}
    try:
        for name, draft in drafts.items():
            draft.write_bytes(files[name]())
        for name, draft in drafts.items():
            draft.replace(folder / name)
    finally:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)
