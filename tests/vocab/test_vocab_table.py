"""Distinct segments and their counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingraft.vocab import table
from lingraft.vocab.table import NUM_HASHES, SegmentTable

Segment = tuple[int, ...]


def flat(segments: Sequence[Segment]) -> npt.NDArray[np.int32]:
    return np.array([s for segment in segments for s in (*segment, -1)], np.int32)


def counts_of(*tables: SegmentTable) -> Counter[Segment]:
    """Add up the counts of segments in cells; every table holds a segment once or in parts."""
    found: Counter[Segment] = Counter()
    for one in tables:
        segment: list[int] = []
        for symbol, count in one.cells().tolist():
            if symbol >= 0:
                segment.append(symbol)
                last = count
            else:
                found[tuple(segment)] += last
                segment = []
        assert not segment, "the last segment has no BARRIER behind it"
    return found


def test_equal_segments_are_kept_once_with_their_count() -> None:
    found = SegmentTable()
    found.add(flat([(1, 2), (3, 4, 5), (1, 2)]))
    found.add(flat([(1, 2)]))
    assert found.cells().tolist() == [
        [1, 3], [2, 3], [-1, 0], [3, 1], [4, 1], [5, 1], [-1, 0],
    ]  # fmt: skip
    assert (found.num_segments, found.num_symbols) == (2, 5)
    assert found.size_bytes > 4 * 5


def test_no_segments_are_no_cells() -> None:
    found = SegmentTable()
    found.add(np.zeros(0, np.int32))
    assert found.cells().shape == (0, 2)
    assert found.size_bytes == 0


def test_a_count_that_a_cell_cannot_hold_is_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "_MOST_COUNT", 3)
    found = SegmentTable()
    found.add(flat([(1, 2)] * 7 + [(5, 6)] * 3))
    assert found.cells().tolist() == [
        *([[1, 3], [2, 3], [-1, 0]] * 2), [1, 1], [2, 1], [-1, 0], [5, 3], [6, 3], [-1, 0],
    ]  # fmt: skip


def test_a_table_grows_as_it_must(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "_LEAST_SEGMENTS", 2)
    monkeypatch.setattr(table, "_LEAST_SYMBOLS", 2)
    segments = [(n % 37, n % 5, *range(n % 3)) for n in range(500)]
    found = SegmentTable()
    found.add(flat(segments))
    assert counts_of(found) == Counter(segments)


SEGMENTS = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=5).map(tuple), max_size=60)


@given(SEGMENTS, st.integers(1, 7), st.integers(1, 5), st.integers(1, 5))
@settings(deadline=None)
def test_ranges_of_hashes_part_the_segments(
    segments: list[Segment], num_ranges: int, num_batches: int, most: int
) -> None:
    bounds = [NUM_HASHES * i // num_ranges for i in range(num_ranges + 1)]
    tables = [SegmentTable(*pair) for pair in pairwise(bounds)]
    for batch in range(num_batches):
        for one in tables:
            one.add(flat(segments[batch::num_batches]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table, "_MOST_COUNT", most)
        assert counts_of(*tables) == Counter(segments)
    assert sum(one.num_segments for one in tables) == len(set(segments))


def test_long_texts_fall_into_all_ranges_about_evenly() -> None:
    rng = np.random.default_rng(17)
    segments = [tuple(row) for row in rng.integers(0, 5000, (8000, 3)).tolist()]
    sizes = []
    for low in range(0, NUM_HASHES, NUM_HASHES // 4):
        one = SegmentTable(low, low + NUM_HASHES // 4)
        one.add(flat(segments))
        sizes.append(one.num_segments)
    assert sum(sizes) == len(set(segments))
    assert min(sizes) > 1800
