"""Near duplicates from signatures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingraft.corpus import matching
from lingraft.corpus.grams import find_tokens
from lingraft.corpus.matching import match, min_equal
from lingraft.corpus.methods import NearDuplicateSettings
from lingraft.corpus.minhash import signatures

SMALL = NearDuplicateSettings(num_bands=3, rows_per_band=4, min_similarity=0.7)


class Told:
    """Progress that counts."""

    def __init__(self) -> None:
        self.amount = 0

    def advance(self, amount: int = 1, text: str = "") -> None:
        self.amount += amount


def run(
    bands_DB: np.ndarray,
    lows_DK: np.ndarray,
    splits: Sequence[int] = (),
    memory_bytes: int = 1 << 20,
    settings: NearDuplicateSettings = SMALL,
) -> list[int]:
    """Match documents that are split into parts at some numbers."""
    told = Told()
    with TemporaryDirectory() as name:
        folder = Path(name)
        files: tuple[list[Path], list[Path]] = ([], [])
        num_docs = []
        for n, (bands, lows) in enumerate(
            zip(np.split(bands_DB, splits), np.split(lows_DK, splits), strict=True)
        ):
            for paths, kind, array in zip(files, "bl", (bands.T, lows), strict=True):
                paths.append(folder / f"{n}.{kind}.npy")
                np.save(paths[-1], np.ascontiguousarray(array))
            num_docs.append(len(bands))
        dropped = match(*files, num_docs, settings, memory_bytes, folder, told)
        left = {path.name for path in folder.iterdir()} - {p.name for f in files for p in f}
    assert told.amount == len(bands_DB) * settings.num_bands
    assert left == set()
    numbers: list[int] = dropped.tolist()
    return numbers


def match_texts(
    texts: Sequence[str], splits: Sequence[int] = (), settings: NearDuplicateSettings | None = None
) -> list[int]:
    settings = settings or NearDuplicateSettings()
    return run(*signatures(find_tokens(texts), settings), splits, settings=settings)


TEXT = " ".join(f"word{n}" for n in range(200))


def test_a_text_with_one_word_changed_is_a_near_duplicate() -> None:
    assert match_texts([TEXT, "something else entirely here", TEXT.replace("word100", "new")]) == [
        2
    ]


def test_the_first_document_stays_in_whatever_part_it_is() -> None:
    texts = ["x y z", TEXT, "a b c", f"{TEXT} end", f"Start {TEXT}"]
    assert match_texts(texts) == match_texts(texts, [1, 3, 4]) == [3, 4]
    assert match_texts(texts[::-1]) == [1, 3]


def test_texts_without_tokens_are_no_duplicates() -> None:
    assert match_texts(["…", "…", "", ""]) == []


def test_no_documents_and_empty_parts() -> None:
    assert match_texts([]) == []
    assert match_texts([TEXT, TEXT], [0, 0, 1, 2]) == [1]


def test_a_shared_band_alone_is_not_enough() -> None:
    bands = np.array([[7, 1, 2], [7, 3, 4]], np.uint64)
    lows = np.zeros((2, 12), np.uint8)
    lows[1, 4:] = 9  # 4 of 12 agree
    assert run(bands, lows) == []
    assert run(bands, lows, settings=SMALL.model_copy(update={"min_similarity": 0.3})) == [1]


def test_likeness_without_a_shared_band_is_not_seen() -> None:
    bands = np.array([[1, 2, 3], [4, 5, 6]], np.uint64)
    assert run(bands, np.zeros((2, 12), np.uint8)) == []


def test_a_value_of_one_band_is_nothing_to_another_band() -> None:
    bands = np.array([[1, 2, 3], [2, 3, 1]], np.uint64)
    assert run(bands, np.zeros((2, 12), np.uint8)) == []


def test_likeness_goes_on_from_document_to_document() -> None:
    bands = np.array([[1, 10, 20], [1, 11, 21], [2, 11, 22], [3, 12, 22]], np.uint64)
    lows = np.repeat(np.arange(4, dtype=np.uint8)[:, None] // 2, 12, axis=1)
    lows[:, 0] = 0
    lows[2:, 1:5] = 0
    assert run(bands, lows, settings=SMALL.model_copy(update={"min_similarity": 0.3})) == [1, 2, 3]


def test_extreme_values_of_a_band_are_found() -> None:
    highest = (1 << 64) - 1
    bands = np.array([[highest, 1, 5], [highest, 2, 6], [3, 1, 7]], np.uint64)
    lows = np.zeros((3, 12), np.uint8)
    for memory_bytes in (1 << 20, 60):
        assert run(bands, lows, memory_bytes=memory_bytes) == [1, 2]


def test_beyond_so_many_leaders_no_more_are_made() -> None:
    num = matching.MAX_LEADERS + 3
    bands = np.zeros((2 * num, 3), np.uint64)
    bands[:, 0] = 5
    lows = np.repeat(np.arange(2 * num, dtype=np.uint8)[:, None] % num, 12, axis=1)
    # Each document has its like num places later; the last 3 likes are like no leader.
    assert run(bands, lows) == list(range(num, 2 * num - 3))


@st.composite
def signed(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Signatures with many equal bands and many near likenesses."""
    num = draw(st.integers(0, 40))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    bands = rng.integers(0, 6, (num, 3)).astype(np.uint64) << np.uint64(61)
    lows = rng.integers(0, 3, (num, 1)) + (rng.random((num, 12)) < 0.15)
    return bands, lows.astype(np.uint8)


def match_by_hand(bands: np.ndarray, lows: np.ndarray) -> list[int]:
    """What the docstring of `matching` says, in plain Python."""
    group = list(range(len(bands)))
    equal = min_equal(12, SMALL.min_similarity)
    for band in bands.T.tolist():
        leaders: dict[int, list[int]] = defaultdict(list)
        for doc, value in enumerate(band):
            if not value:
                continue
            alike = [one for one in leaders[value] if (lows[one] == lows[doc]).sum() >= equal]
            for one in alike:
                first, second = sorted((group[one], group[doc]))
                group = [first if root == second else root for root in group]
            if not alike:
                leaders[value].append(doc)
    return [doc for doc, root in enumerate(group) if doc != root]


@settings(deadline=None, max_examples=150)
@given(
    signed(), st.lists(st.integers(0, 40), max_size=4), st.sampled_from([1 << 20, 2000, 700, 60])
)
def test_neither_parts_nor_memory_change_what_is_dropped(
    signed: tuple[np.ndarray, np.ndarray], splits: list[int], memory_bytes: int
) -> None:
    num = len(signed[0])
    splits = sorted(min(split, num) for split in splits)
    assert run(*signed, splits, memory_bytes) == match_by_hand(*signed)


def test_a_full_disk_tells_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, offset: int, size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        match_texts([TEXT])
