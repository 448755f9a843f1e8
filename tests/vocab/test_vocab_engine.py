"""The way from codes to rules: threads, memory and cuts change how long it takes, nothing else."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from searches import SMALL, Teller, content_of, made_up_chinese, small_grid, write_rows

from lingraft.streaming import num_cores
from lingraft.vocab import engine, spool
from lingraft.vocab.alphabet import Alphabet
from lingraft.vocab.engine import Limits, Search
from lingraft.vocab.grid import Grid
from lingraft.vocab.scratch import Scratch
from lingraft.vocab.spool import Spool, make_scan, read_part
from lingraft.vocab.symbols import order_symbols

TRAIN, EVALS = made_up_chinese(1200), {"a": made_up_chinese(40, 2), "b": made_up_chinese(30, 3)}
OPTIONS: dict[str, Any] = {"char_counts": (60, 100, 140), "max_size": 300}


def searched(folder: Path, **options: Any) -> Grid:
    folder.mkdir(exist_ok=True)
    return small_grid(folder, TRAIN, EVALS, **{**OPTIONS, **options})


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """What one thread finds in uncut text."""
    grid = searched(tmp_path_factory.mktemp("plain"), threshold=0)
    assert (grid.facts.threshold, grid.facts.retries) == (0, [])
    assert [len(grid.rules[count]) for count in (60, 100, 140)] == [240, 200, 160]
    return content_of(grid)


@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_threads_do_not_change_a_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain: tuple[bytes, bytes], jobs: int
) -> None:
    monkeypatch.setattr(spool, "_BATCH_CHARS", 1000)
    grid = searched(tmp_path, jobs=jobs, num_files=3)
    assert content_of(grid) == plain
    assert grid.facts.hash_ranges == jobs


def test_files_in_another_order_give_the_same_rules(
    tmp_path: Path, plain: tuple[bytes, bytes]
) -> None:
    grid = small_grid(tmp_path, TRAIN[::-1], EVALS, num_files=2, **OPTIONS)
    assert content_of(grid) == plain


@pytest.mark.parametrize("jobs", [1, 2])
def test_little_memory_does_not_change_a_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain: tuple[bytes, bytes], jobs: int
) -> None:
    monkeypatch.setattr(engine, "_LEAST_ROOM_BYTES", 1 << 17)
    grid = searched(tmp_path, jobs=jobs, memory_bytes=1)
    assert content_of(grid) == plain
    assert grid.facts.hash_ranges > 2 * jobs
    assert grid.facts.spilled_bytes > 0


def test_enough_memory_spills_nothing(tmp_path: Path, plain: tuple[bytes, bytes]) -> None:
    grid = searched(tmp_path, memory_bytes=1 << 30)
    assert content_of(grid) == plain
    assert (grid.facts.hash_ranges, grid.facts.spilled_bytes) == (1, 0)


def test_nothing_but_the_corpus_stays_in_the_folder(tmp_path: Path) -> None:
    searched(tmp_path)
    kept = sorted(path.suffix for path in (tmp_path / "work").iterdir())
    assert kept == [".codes", ".json", ".npy"]


@pytest.mark.parametrize("threshold", [2, 5])
def test_a_cut_text_gives_the_rules_of_the_whole(
    tmp_path: Path, plain: tuple[bytes, bytes], threshold: int
) -> None:
    grid = searched(tmp_path, threshold=threshold)
    assert content_of(grid) == plain
    assert grid.facts.threshold == threshold


def test_a_cut_that_is_too_deep_is_lowered_until_the_rules_reach_the_largest_size(
    tmp_path: Path, plain: tuple[bytes, bytes]
) -> None:
    teller = Teller()
    grid = searched(tmp_path, threshold=2000, teller=teller)
    assert content_of(grid) == plain
    tried = [*grid.facts.retries, grid.facts.threshold]
    assert tried[0] == 2000
    assert all(after == max(2, before // 4) for before, after in pairwise(tried))
    assert teller.notes[0].startswith("cut at 2,000 was too high")
    assert len(teller.notes) == len(grid.facts.retries)


def test_rules_that_run_out_end_the_lowering(tmp_path: Path) -> None:
    train = ["天地人和", "天地", "人和"] * 3
    options: dict[str, Any] = {"char_counts": (4,), "max_size": 50}
    whole = small_grid(tmp_path, train, {"a": train}, threshold=0, **options)
    cut = small_grid(tmp_path, train, {"a": train}, threshold=100, **options)
    assert content_of(whole) == content_of(cut)
    assert cut.facts.retries == [100, 25, 6]
    assert cut.facts.threshold == 2


def test_the_cut_is_guessed_from_a_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain: tuple[bytes, bytes]
) -> None:
    monkeypatch.setattr(engine, "_SAMPLE_CODES", 20_000)
    monkeypatch.setattr(engine, "_LEAST_CODES", 20_000)
    monkeypatch.setattr(spool, "_BATCH_CHARS", 200)
    grid = searched(tmp_path)
    assert content_of(grid) == plain
    first = [*grid.facts.retries, grid.facts.threshold][0]
    assert first > 2
    assert first == [*searched(tmp_path, jobs=3).facts.retries, grid.facts.threshold][0]


def test_a_sample_without_a_rule_guesses_the_least(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_SAMPLE_CODES", 3)
    monkeypatch.setattr(engine, "_LEAST_CODES", 3)
    texts = ["天地", "人和", "上下", "左右"]
    grid = small_grid(tmp_path, texts, {"a": texts}, char_counts=(8,), max_size=9)
    assert (grid.facts.threshold, len(grid.rules[8])) == (2, 0)


@cache
def alphabet() -> Alphabet:
    return Alphabet(SMALL, ["Han"])


def search_of(folder: Path, texts: list[str], limits: Limits) -> Search:
    from concurrent.futures import ThreadPoolExecutor

    codes = Spool(folder, len(alphabet().flags_C))
    path = write_rows(folder / "a.jsonl", texts)
    with ThreadPoolExecutor(1) as pool:
        codes.add(
            *read_part(
                codes, path, "text", alphabet(), make_scan(alphabet()), pool, 1, lambda _: None
            )
        )
    symbols = order_symbols(alphabet(), codes.counts_C)
    return Search(codes, [], symbols, limits, folder=folder, jobs=1, memory_bytes=None)


def test_equal_segments_are_learned_from_once(tmp_path: Path) -> None:
    search = search_of(tmp_path, ["天地人"] * 5, Limits({3: 4}, 16, 2))
    search.sketch(lambda _: None)
    rules = search.learn(search.guess_threshold(), lambda _: None, lambda _: None)[3]
    assert rules.joins_KW.tolist() == [[5], [5]]
    assert (search.facts.num_segments, search.facts.num_symbols) == (1, 3)


def test_progress_counts_all_codes(tmp_path: Path) -> None:
    search = search_of(tmp_path, ["天地人", "天地"], Limits({3: 4}, 16, 2))
    counted: list[int] = []
    collected: list[int] = []
    search.sketch(counted.append)
    search.learn(2, collected.append, lambda _: None)
    assert (sum(counted), sum(collected)) == (7, 7)


def test_what_fails_while_learning_reaches_the_caller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(Scratch, "array", refuse)
    with pytest.raises(MemoryError, match="no room"):
        searched(tmp_path, jobs=2)


def test_cores_that_may_be_used_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {3, 5})
    assert num_cores() == 2
