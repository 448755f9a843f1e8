"""Preparing a corpus: the same bytes whoever does the work, whenever it is stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from artefacts import SEED, empty_draft
from corpora import bytes_of, write_corpus

import lingraft
from lingraft.corpus import engine, gather, plan, prepare, sift
from lingraft.corpus.clean import clean, why_dropped
from lingraft.corpus.finding import find_files
from lingraft.corpus.read import read_raw
from lingraft.corpus.settings import CorpusSettings
from lingraft.corpus.split import is_valid, text_digest
from lingraft.corpus.stage import run
from lingraft.errors import InputError

OPTIONS: dict[str, Any] = {
    "valid_frac": 0.2,
    "test_frac": 0.1,
    "max_chars": 2000,
    "keep_dropped": True,
    "language": "en",
}
SMALL = {"_UNIT_BYTES": 4000, "_MOST_UNITS": 1 << 30, "_BUCKET_BYTES": 12_000}


@pytest.fixture
def corpus(tmp_path: Path) -> dict[str, list[str]]:
    return write_corpus(tmp_path)


@pytest.fixture
def cut_small(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Cut into small units and buckets, as a large corpus is, and use processes for them."""

    def cut(**sizes: int) -> None:
        for name, size in {**SMALL, **sizes}.items():
            monkeypatch.setattr(plan, name, size)
        monkeypatch.setattr(engine, "_SMALL_BYTES", 0)

    return cut


def old_way(sets: dict[str, list[str]], valid_frac: float, max_chars: int) -> dict[str, bytes]:
    """Do what the stage did before there were units: one text after the other, all in memory."""
    seen: set[bytes] = set()
    files: dict[str, list[str]] = {}
    dropped: dict[tuple[str, str], int] = {}
    for name, sources in sets.items():
        docs = []
        for file in find_files(sources, "auto", [], "main"):
            for raw in read_raw(file.path, "auto", "text"):
                text = clean(raw.text)
                digest = text_digest(text)
                reason = why_dropped(text, 16, max_chars)
                if not reason and digest[:16] in seen:
                    reason = "duplicate"
                if not reason:
                    seen.add(digest[:16])
                    docs.append((digest[:8].hex(), text))
                    continue
                dropped[name, reason] = dropped.get((name, reason), 0) + 1
                if dropped[name, reason] <= 20:
                    shown = text if len(text) <= 200 else text[:199] + "…"
                    where = f"{file.label}:{raw.line}"
                    row = {"set": name, "reason": reason, "where": where, "text": shown}
                    files.setdefault("dropped.jsonl", []).append(
                        json.dumps(row, ensure_ascii=False)
                    )
        for doc_id, text in sorted(docs):
            split = "valid" if is_valid(doc_id, SEED, valid_frac) else "train"
            row = {"id": doc_id, "text": text}
            files.setdefault(f"{name}-{split}.jsonl", []).append(
                json.dumps(row, ensure_ascii=False)
            )
    return {name: "".join(f"{row}\n" for row in rows).encode() for name, rows in files.items()}


@pytest.mark.parametrize("is_small", [True, False])
def test_the_stage_writes_what_it_wrote_before_there_were_units(
    corpus: dict[str, list[str]], tmp_path: Path, cut_small: Callable[..., None], is_small: bool
) -> None:
    if is_small:
        cut_small()
    rows = [
        {"name": name, "language": "en", "sources": sources, "reader": "auto"}
        for name, sources in corpus.items()
    ]
    settings = CorpusSettings.model_validate({"sets": rows, "valid_frac": 0.2, "max_chars": 2000})
    draft = empty_draft(tmp_path, "10-corpus")
    run(settings, {}, draft)
    wanted = old_way(corpus, 0.2, 2000)
    assert {name: (draft.path / name).read_bytes() for name in wanted} == wanted
    assert set(wanted) == {"dropped.jsonl"} | {
        f"{name}-{split}.jsonl" for name in "ab" for split in ("train", "valid")
    }


def test_a_stopped_stage_goes_on_with_what_it_has_read(
    corpus: dict[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        {"name": name, "language": "en", "sources": sources, "reader": "auto"}
        for name, sources in corpus.items()
    ]
    settings = CorpusSettings.model_validate({"sets": rows, "valid_frac": 0.2, "max_chars": 2000})

    def stops(self: object, n: int) -> None:
        raise InputError("stopped")

    draft = empty_draft(tmp_path, "10-corpus")
    with monkeypatch.context() as patch:
        patch.setattr(gather.Gather, "do", stops)
        with pytest.raises(InputError, match="stopped"):
            run(settings, {}, draft)
    monkeypatch.setattr(sift.Sift, "do", stops)
    draft = empty_draft(tmp_path, "10-corpus")
    run(settings, {}, draft)
    wanted = old_way(corpus, 0.2, 2000)
    assert {name: (draft.path / name).read_bytes() for name in wanted} == wanted


@pytest.fixture
def plain(corpus: dict[str, list[str]], tmp_path: Path) -> dict[str, bytes]:
    """What one process makes in one unit a file and one bucket."""
    prepare(corpus, out=tmp_path / "plain", jobs=1, **OPTIONS)
    return bytes_of(tmp_path / "plain")


@pytest.mark.parametrize(
    ("jobs", "sizes"),
    [
        (1, {"_UNIT_BYTES": 700, "_BUCKET_BYTES": 3000}),
        (2, {}),
        (3, {"_UNIT_BYTES": 9000, "_BUCKET_BYTES": 7000}),
    ],
)
def test_the_bytes_do_not_depend_on_jobs_units_and_buckets(
    jobs: int,
    sizes: dict[str, int],
    corpus: dict[str, list[str]],
    plain: dict[str, bytes],
    tmp_path: Path,
    cut_small: Callable[..., None],
) -> None:
    cut_small(**sizes)
    prepare(corpus, out=tmp_path / "out", jobs=jobs, **OPTIONS)
    assert bytes_of(tmp_path / "out") == plain
    assert lingraft.verify(tmp_path / "out") == []


DIES = """
import os, signal, sys
from pathlib import Path
from lingraft.corpus import engine, plan, prepare, {module} as module

folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
mark = Path(os.environ["MARK"])
for name, size in {sizes!r}.items():
    setattr(plan, name, size)
engine._SMALL_BYTES = 0
real = module.{function}
calls = []

def dies(*arguments):
    result = real(*arguments)
    calls.append(1)
    if len(calls) == {call} and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return result

module.{function} = dies
if __name__ == "__main__":
    sets = {{name: [str(folder / inner)] for name, inner in (("a", "a"), ("b", "b and more"))}}
    prepare(sets, out=folder / "out", jobs={jobs}, **{options!r})
"""


def run_script(path: Path, folder: Path) -> subprocess.CompletedProcess[bytes]:
    env = dict(os.environ, MARK=str(folder / "mark"))
    env["PYTHONPATH"] = str(Path(lingraft.__file__).parents[1])
    return subprocess.run(
        [sys.executable, str(path), str(folder)], env=env, capture_output=True, timeout=120,
        check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("module", "function", "call", "jobs"),
    [
        ("sift", "_count_line_ends", 3, 2),
        ("gather", "_read_units", 3, 1),
        ("sealing", "_set_former_aside", 1, 1),
    ],
    ids=["a worker while it reads", "the parent while it sorts", "the parent at the end"],
)
def test_what_is_killed_goes_on_to_the_same_bytes(
    module: str,
    function: str,
    call: int,
    jobs: int,
    corpus: dict[str, list[str]],
    plain: dict[str, bytes],
    tmp_path: Path,
) -> None:
    text = DIES.format(
        module=module, function=function, call=call, jobs=jobs, sizes=SMALL, options=OPTIONS
    )
    script = tmp_path / "dies.py"
    script.write_text(text, encoding="utf-8")
    killed = run_script(script, tmp_path)
    assert killed.returncode == (1 if jobs > 1 else -signal.SIGKILL), killed.stderr.decode()
    assert jobs == 1 or b"a worker process ended" in killed.stderr
    assert not (tmp_path / "out" / "manifest.json").exists()
    assert list((tmp_path / "out" / ".work" / "units").glob("*.json"))
    again = run_script(script, tmp_path)
    assert again.returncode == 0, again.stderr.decode()
    assert bytes_of(tmp_path / "out") == plain
