"""Mixtures: how much of each set, and in which order."""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from token_files import count_up, token_file, write_folder

from lingraft.errors import InputError, UsageError
from lingraft.mixture import Batch, Mixture, MixtureRow
from lingraft.rows import IGNORE
from lingraft.shards import TokenFile

TEN = token_file(*count_up(10, 4))
"""10 documents of 4 tokens."""
LONG = token_file(range(1, 400))


def mix(*parts: str, seq_len: int = 4, seed: int = 0, **arguments: Any) -> Mixture:
    files = {"a": TEN, "b": token_file(*count_up(30, 3, 200)), "long": LONG}
    return Mixture(files, parts, seq_len, seed, **arguments)


def first_inputs(mixture: Mixture, begin: int, stop: int) -> list[int]:
    return [int(mixture.batch(step, 1).inputs[0, 0]) for step in range(begin, stop)]


def equal(one: Batch, other: Batch) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_windows_cover_each_target_once() -> None:
    files = {"a": token_file([1, 2, 3, 4], [5, 6, 7])}
    mixture = Mixture(files, ["1:a"], 3, seed=0, documents="joined")
    assert mixture.num_windows == 2
    pairs = set()
    for step in range(2):
        inputs, labels, _ = mixture.batch(step, 1)
        pairs |= {
            (int(a), int(b)) for a, b in zip(inputs[0], labels[0], strict=True) if b != IGNORE
        }
    assert pairs == {(1, 2), (2, 3), (3, 4), (4, 5), (5, 6), (6, 7)}


def test_documents_are_isolated_unless_they_are_joined() -> None:
    files = {"a": token_file([1, 2, 3], [5, 6])}
    batch = Mixture(files, ["1:a"], 4, seed=0).batch(0, 1)
    assert [array.tolist() for array in batch] == [
        [[1, 2, 3, 5]],
        [[2, 3, IGNORE, 6]],
        [[0, 1, 2, 0]],
    ]
    batch = Mixture(files, ["1:a"], 4, seed=0, documents="joined").batch(0, 1)
    assert batch.labels.tolist() == [[2, 3, 5, 6]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3]]


def test_a_tenth_is_the_first_tenth_of_the_documents() -> None:
    mixture = mix("0.1:a")
    assert mixture.total_tokens == 4
    assert mixture.batch(0, 1).inputs.tolist() == [[1, 10, 11, 2]]


def test_two_and_a_half_passes_are_two_and_then_the_first_half() -> None:
    # 40 tokens in 10 windows; 20 tokens in 5.
    mixture = mix("2.5:a")
    assert mixture.total_tokens == 100
    assert mixture.num_windows == 25
    whole = sorted(first_inputs(mixture, 0, 10))
    assert sorted(first_inputs(mixture, 10, 20)) == whole
    windows = [mixture.batch(step, 1).inputs[0].tolist() for step in range(20, 25)]
    assert {id for window in windows for id in window} <= {0, 1, 2, *range(10, 20)}


def test_a_budget_ends_at_its_very_token_and_begins_anew_after_the_set() -> None:
    assert mix("7 tokens:a").total_tokens == 7
    row = mix("107 tokens:a").rows()[0]
    assert (row.total_tokens, row.epochs) == (107, 107 / 40)
    assert mix("107 tokens:a").num_windows == 2 * 10 + 7  # of the last 27 tokens: 26 targets


def test_weights_divide_the_total() -> None:
    rows = mix("30%:a", "70%:b", total_tokens=1_000).rows()
    assert [row.total_tokens for row in rows] == [300, 700]
    assert [row.share for row in rows] == [0.3, 0.7]
    # Thirds of 100: the largest remainder gets the token that is left.
    rows = mix("33.3%:a", "33.3%:b", "33.4%:long", total_tokens=100).rows()
    assert [row.total_tokens for row in rows] == [33, 33, 34]


@given(st.integers(1, 49), st.integers(1, 49), st.integers(1_000, 10_000))
def test_tokens_of_weights_are_the_total(first: int, second: int, total_tokens: int) -> None:
    weights = [first, second, 100 - first - second]
    parts = [f"{w}%:{name}" for w, name in zip(weights, ("a", "b", "long"), strict=True)]
    rows = mix(*parts, total_tokens=total_tokens).rows()
    assert sum(row.total_tokens for row in rows) == total_tokens
    for row, weight in zip(rows, weights, strict=True):
        assert abs(row.total_tokens - total_tokens * weight / 100) < 1


def test_the_table_tells_tokens_epochs_and_shares() -> None:
    mixture = mix("0.5:a", "2 epochs:b")
    assert mixture.rows() == [
        MixtureRow("0.5:a", "a", 20, 0.5, 0.1),
        MixtureRow("2:b", "b", 180, 2.0, 0.9),
    ]
    assert [line.split() for line in mixture.table().splitlines()] == [
        ["part", "tokens", "epochs", "share"],
        ["0.5:a", "20", "0.500", "10.0%"],
        ["2:b", "180", "2.000", "90.0%"],
        ["total", "200", "in", "51", "sequences", "of", "4"],
    ]


@given(st.integers(2, 7), st.integers(2, 60), st.integers(0, 5))
def test_a_pass_visits_every_window_once(seq_len: int, tokens: int, seed: int) -> None:
    mixture = Mixture({"a": token_file(range(1, tokens + 1))}, ["1:a"], seq_len, seed)
    starts = first_inputs(mixture, 0, mixture.num_windows)
    assert sorted(starts) == list(range(1, tokens, seq_len))
    assert mixture.steps_per_pass(1) == mixture.num_windows


def test_each_epoch_has_an_order_of_its_own() -> None:
    mixture = mix("2:long")
    epochs = [first_inputs(mixture, 100 * n, 100 * (n + 1)) for n in range(4)]  # 2 in a pass
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert all(sorted(epoch) == list(range(1, 400, 4)) for epoch in epochs)


def test_the_seed_decides_the_order() -> None:
    one, again, other = (first_inputs(mix("1:long", seed=seed), 0, 100) for seed in (5, 5, 6))
    assert one == again
    assert one != other


def test_two_parts_of_one_set_have_orders_of_their_own() -> None:
    mixture = mix("1:long", "1:long")
    starts = first_inputs(mixture, 0, 200)
    assert starts[::2] != starts[1::2]
    assert set(Counter(starts).values()) == {2}


@settings(deadline=None)
@given(st.lists(st.integers(2, 40), min_size=1, max_size=4), st.integers(0, 3))
def test_every_prefix_holds_each_sets_share_to_within_one_window(
    sizes: list[int], seed: int
) -> None:
    files = {str(n): token_file([100 * n + 1] * size) for n, size in enumerate(sizes)}
    mixture = Mixture(files, [f"1:{name}" for name in files], 2, seed)
    quotas = [size // 2 for size in sizes]
    assert mixture.num_windows == sum(quotas)
    found = [first // 100 for first in first_inputs(mixture, 0, mixture.num_windows)]
    for stop in range(1, len(found) + 1):
        for n, quota in enumerate(quotas):
            assert abs(found[:stop].count(n) - stop * quota / len(found)) < 1
    assert Counter(found) == dict(enumerate(quotas))


def test_any_step_is_reached_without_the_steps_before() -> None:
    walked = mix("2:long", "2.5:a")
    for step in range(400):
        walked.batch(step, 4)
    assert equal(walked.batch(400, 4), mix("2:long", "2.5:a").batch(400, 4))
    assert equal(walked.batch(3, 4), mix("2:long", "2.5:a").batch(3, 4))
    assert mix("1:long").batch(10**12, 2).inputs.shape == (2, 4)


@given(st.integers(0, 50), st.sampled_from([1, 2, 3, 4, 6, 12]))
def test_ranks_together_see_the_batch_of_one_process(step: int, num_ranks: int) -> None:
    mixture = mix("1:long", "0.5:a", "20 tokens:b")
    shares = [mixture.batch(step, 12, rank, num_ranks) for rank in range(num_ranks)]
    together = Batch(*(np.concatenate(arrays) for arrays in zip(*shares, strict=True)))
    assert equal(together, mixture.batch(step, 12))


def test_the_sequences_do_not_depend_on_the_size_of_a_step() -> None:
    mixture = mix("1:long", "0.5:a")
    whole = mixture.batch(0, 24).inputs
    assert np.array_equal(np.concatenate([mixture.batch(n, 8).inputs for n in range(3)]), whole)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((-1, 4), "step -1 of 4 sequences"),
        ((0, 0), "step 0 of 0 sequences"),
        ((0, 4, 2, 2), "rank 2 of 2"),
        ((0, 4, -1, 2), "rank -1 of 2"),
        ((0, 4, 0, 0), "rank 0 of 0"),
        ((0, 4, 0, 3), "4 sequences cannot be divided between 3 ranks"),
    ],
)
def test_a_batch_that_there_is_not_is_refused(arguments: tuple[int, ...], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        mix("1:a").batch(*arguments)


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ("0.04:a", r"no document: 0\.04 of 10 rounds to none"),
        ("1.04:a", r"no document: 0\.04 of 10 rounds to none"),
        ("1 tokens:a", "no two tokens"),
    ],
)
def test_a_part_that_comes_to_nothing_is_refused_even_beside_a_full_one(
    part: str, told: str
) -> None:
    told = f"part 2 of the mixture, '{part}', holds {told}"
    with pytest.raises(InputError, match=told):
        mix("1:b", part)


@pytest.mark.parametrize("file", [token_file(), token_file([1]), token_file([], [])])
@pytest.mark.parametrize("part", ["1:a", "5 tokens:a"])
def test_a_set_without_a_pair_of_tokens_is_refused(file: TokenFile, part: str) -> None:
    with pytest.raises(InputError, match="holds no two tokens"):
        Mixture({"a": file}, [part], 4, seed=0)


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        (["1:c"], r"mixture: no token file 'c' and none 'c-train'(.|\n)*There are: a, b, long"),
        (["all of:a"], "mixture: 'all of:a' is no part"),
        (["50%:a", "40%:b"], "mixture: '50%:a' is a share of total_tokens"),
    ],
)
def test_parts_that_cannot_be_mixed_are_refused(parts: list[str], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        mix(*parts)


def test_a_folder_gives_the_files_of_its_sets(tmp_path: Path) -> None:
    folder = write_folder(
        tmp_path, {"zh-train": count_up(10, 4), "zh-valid": [[1, 9, 2]], "en": count_up(5, 4, 100)}
    )
    mixture = Mixture(folder, ["1:zh", "1:en"], 4, seed=0)
    assert [row.total_tokens for row in mixture.rows()] == [40, 20]
    assert Mixture(str(folder), ["1:zh-valid"], 4, seed=0).total_tokens == 3
    with pytest.raises(UsageError, match=r"There are: zh-train, zh-valid, en"):
        Mixture(folder, ["1:fr"], 4, seed=0)


def test_a_mixture_is_sent_to_workers_without_its_tokens(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, {"a": count_up(2_000, 20)})
    mixture = Mixture(folder, ["2:a"], 8, seed=0)
    sent = pickle.dumps(mixture)
    assert len(sent) < 3_000
    assert equal(pickle.loads(sent).batch(7, 4), mixture.batch(7, 4))
