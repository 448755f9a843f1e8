"""What cannot be asked for is refused before anything is read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lingraft.errors import UsageError
from lingraft.streaming import list_names
from lingraft.vocab.asked import check_asked, read_eval, whole, wholes, words
from lingraft.vocab.grid import GridOptions


def test_numpy_s_numbers_are_whole_numbers() -> None:
    assert whole("size", np.int64(7)) == 7
    assert type(whole("size", np.int64(7))) is int
    assert wholes("chars", np.array([30, 10, 30])) == (10, 30)
    assert wholes("chars", None) is None


@pytest.mark.parametrize("value", [1.0, "7", None, -1, 10_000_001])
def test_other_numbers_are_refused(value: Any) -> None:
    with pytest.raises(UsageError, match="size"):
        whole("size", value)


@pytest.mark.parametrize("values", ["50,100", 50, [], [50.5], [-1]])
def test_other_lists_are_refused(values: Any) -> None:
    with pytest.raises(UsageError, match="chars"):
        wholes("chars", values)


def test_a_name_is_a_list_of_one() -> None:
    assert list_names("corpus", "a.txt") == ["a.txt"]
    assert list_names("corpus", ["a.txt", "b.txt"]) == ["a.txt", "b.txt"]
    assert read_eval("eval", {"x": "a.txt"}) == {"x": ["a.txt"]}
    assert words("scripts", ["Han"]) == ["Han"]
    assert words("scripts", None) is None


@pytest.mark.parametrize("names", [[], 5, [5]])
def test_no_file_is_refused(names: Any) -> None:
    with pytest.raises(UsageError, match="corpus"):
        list_names("corpus", names)


def test_a_text_without_a_name_is_refused() -> None:
    with pytest.raises(UsageError, match="a name and files"):
        read_eval("eval", ["a.txt"])
    with pytest.raises(UsageError, match="list of names"):
        words("scripts", "Han")


@pytest.mark.parametrize(
    ("size", "num_chars", "problem"),
    [
        (50, None, "below the 100 single"),
        (150, 200, "below the 200 single"),
        (1000, None, "outside 0 to 900"),
        (None, 150, "none of the counts"),
    ],
)
def test_sizes_that_do_not_fit_together_are_refused(
    size: int | None, num_chars: int | None, problem: str
) -> None:
    with pytest.raises(UsageError, match=problem):
        check_asked(GridOptions((100, 200), 900), size, num_chars, {"x": ["a.txt"]})


def test_too_many_characters_and_no_text_are_refused() -> None:
    with pytest.raises(UsageError, match="below the number of single characters"):
        check_asked(GridOptions((1000,), 900), None, None, {"x": ["a.txt"]})
    with pytest.raises(UsageError, match="no evaluation text"):
        check_asked(GridOptions((100,), 900), None, None, {})
