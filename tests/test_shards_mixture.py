"""Token files and the order of training sequences."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingraft.errors import InputError
from lingraft.mixture import IGNORE, Mixture
from lingraft.parts import parse_part
from lingraft.shards import TokenFile, open_tokens, token_dtype, write_tokens


def token_file(*docs: list[int]) -> TokenFile:
    ids = np.array([i for doc in docs for i in doc], np.uint16)
    return TokenFile(ids, np.cumsum([len(d) for d in docs]).astype(np.uint64))


def test_documents_come_back_as_they_were_written(tmp_path: Path) -> None:
    assert write_tokens(tmp_path / "a.npy", iter([[1, 2, 3], [], [4]]), 32_000) == (3, 4)
    file = open_tokens(tmp_path / "a.npy")
    assert [file.doc(n).tolist() for n in range(file.num_docs)] == [[1, 2, 3], [], [4]]
    assert file.ids.dtype == np.uint16
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.ends.npy", "a.npy"]


def test_no_documents_make_an_empty_file(tmp_path: Path) -> None:
    assert write_tokens(tmp_path / "a.npy", iter([]), 70_000) == (0, 0)
    assert open_tokens(tmp_path / "a.npy").ids.dtype == np.uint32


@pytest.mark.parametrize(("size", "dtype"), [(65_536, np.uint16), (65_537, np.uint32)])
def test_the_dtype_holds_every_id(size: int, dtype: type) -> None:
    assert token_dtype(size) == dtype


def test_a_missing_token_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a token file"):
        open_tokens(tmp_path / "a.npy")


def test_ends_that_do_not_cover_the_ids_are_refused(tmp_path: Path) -> None:
    write_tokens(tmp_path / "a.npy", iter([[1, 2, 3]]), 100)
    np.save(tmp_path / "a.npy", np.zeros(2, np.uint16))
    with pytest.raises(InputError, match="ends at 3"):
        open_tokens(tmp_path / "a.npy")


def test_windows_cover_each_target_once() -> None:
    mixture = Mixture([(1.0, token_file([1, 2, 3, 4], [5, 6, 7]))], seq_len=3, seed=0)
    assert mixture.num_windows == 2
    pairs = set()
    for step in range(2):
        inputs, labels = mixture.batch(step, 1)
        pairs |= {
            (int(a), int(b)) for a, b in zip(inputs[0], labels[0], strict=True) if b != IGNORE
        }
    assert pairs == {(1, 2), (2, 3), (3, 4), (4, 5), (5, 6), (6, 7)}


def test_a_tenth_is_the_first_tenth_of_the_documents() -> None:
    docs = [[10 * n + 1, 10 * n + 2] for n in range(10)]
    mixture = Mixture([(0.1, token_file(*docs))], seq_len=4, seed=0)
    assert mixture.total_tokens == 2
    assert mixture.batch(0, 1)[0].tolist() == [[1, 2, 0, 0]]


def test_two_and_a_half_passes_repeat_the_text() -> None:
    mixture = Mixture([(2.5, token_file([1, 2], [3, 4]))], seq_len=4, seed=0)
    assert mixture.total_tokens == 4 + 4 + 2


def test_any_step_is_reached_without_the_steps_before() -> None:
    file = token_file(list(range(1, 400)))
    walked = Mixture([(1.0, file)], seq_len=4, seed=5)
    for step in range(40):
        walked.batch(step, 4)
    fresh = Mixture([(1.0, file)], seq_len=4, seed=5)
    assert np.array_equal(walked.batch(40, 4)[0], fresh.batch(40, 4)[0])


@given(st.integers(1, 7), st.integers(2, 60), st.integers(1, 5))
def test_a_pass_visits_every_window_once(seq_len: int, tokens: int, seed: int) -> None:
    mixture = Mixture([(1.0, token_file(list(range(1, tokens + 1))))], seq_len, seed)
    starts = [int(mixture.batch(step, 1)[0][0, 0]) for step in range(mixture.num_windows)]
    assert sorted(starts) == list(range(1, tokens, seq_len))
    assert mixture.steps_per_pass(1) == mixture.num_windows


def test_a_part_that_rounds_to_nothing_is_refused_even_beside_a_full_one() -> None:
    full, small = token_file([1, 2], [3, 4]), token_file([1, 2], [3], [4])
    with pytest.raises(InputError, match=r"part 2 of the mixture, 0\.1 of 3 documents"):
        Mixture([(1.0, full), (0.1, small)], seq_len=4, seed=0)
    with pytest.raises(InputError, match=r"part 1 of the mixture, 1\.1 of 3 documents"):
        Mixture([(1.1, small)], seq_len=4, seed=0)


def test_a_set_without_documents_is_refused() -> None:
    with pytest.raises(InputError, match="1 of 0 documents"):
        Mixture([(1.0, token_file())], seq_len=4, seed=0)


def test_a_mixture_without_a_pair_of_tokens_is_refused() -> None:
    with pytest.raises(InputError, match="no part has two tokens"):
        Mixture([(1.0, token_file([1]))], seq_len=4, seed=0)


def test_parts_are_ratio_and_name() -> None:
    assert parse_part("0.1:a:b") == (0.1, "a:b")


@pytest.mark.parametrize("text", ["news", "x:news", "0:news", "-1:news", "1:", "inf:news", "nan:a"])
def test_a_part_without_ratio_or_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="RATIO:SET"):
        parse_part(text)
