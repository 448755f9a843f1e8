"""All new rows of a matrix: ties, pieces without a spelling, options, broken rows."""

from dataclasses import replace

import pytest
import torch

from lingraft.embed import filling
from lingraft.embed.added import Added
from lingraft.embed.filling import check_options, fill_rows, mean_of_all
from lingraft.embed.methods import METHODS, Method, Role
from lingraft.errors import InputError, UsageError

BASE_VD = torch.tensor([[1.0, 0, 0], [0, 2, 0], [0, 0, 4]])
ADDED = Added(
    num_base=3,
    texts=["01", "10", "0", "00", "<end>", "?"],
    pieces=[b"ab", b"ba", b"a", b"aa", b"", b"\xff"],
    kinds=["spelled", "spelled", "copied", "spelled", "special", "unspellable"],
    spellings=[(0, 1), (1, 0), (0,), (0, 0), (), ()],
    text_spellings=[(2, 0, 1), (2, 1, 0), (2, 0), (2, 0, 0), (), ()],
    parents=[None] * 6,
    base_pieces=[b"a", b"b", b"c"],
)


def test_pieces_with_the_same_parts_are_told_apart() -> None:
    kept = fill_rows(BASE_VD, ADDED, "input", 0, METHODS["mean"], tie_break=False)
    assert kept.rows_ND[:4].tolist() == [[0.5, 1, 0], [0.5, 1, 0], [1, 0, 0], [1, 0, 0]]
    assert (kept.identical_before, kept.identical_rows) == (4, 4)
    broken = fill_rows(BASE_VD, ADDED, "input", 0, METHODS["mean"])
    # The first part weighs 2/3 instead of 1/2: a tenth of that difference, 1/60 of each part.
    assert torch.allclose(broken.rows_ND[0], torch.tensor([0.5 + 1 / 60, 1 - 2 / 60, 0]))
    assert torch.allclose(broken.rows_ND[1], torch.tensor([0.5 - 1 / 60, 1 + 2 / 60, 0]))
    # a and aa have one part, whatever its weight: nothing can tell them apart.
    assert (broken.identical_before, broken.identical_rows) == (4, 2)


def test_equal_rows_of_other_parts_stay_equal() -> None:
    rows = BASE_VD.clone()
    rows[2] = rows[0]
    added = replace(
        ADDED,
        kinds=["copied"] * 2,
        spellings=[(0,), (2,)],
        texts=["0", "2"],
        pieces=[b"a", b"c"],
    )
    filled = fill_rows(rows, added, "input", 0, METHODS["mean"])
    assert filled.rows_ND.tolist() == [[1, 0, 0], [1, 0, 0]]
    assert filled.identical_rows == 2


def test_pieces_without_spelling_get_the_mean_of_all_rows() -> None:
    filled = fill_rows(BASE_VD, ADDED, "output", 0, METHODS["char-length"])
    assert torch.allclose(filled.rows_ND[4], torch.tensor([1 / 3, 2 / 3, 4 / 3]))
    assert torch.equal(filled.rows_ND[4], filled.rows_ND[5])
    assert torch.equal(mean_of_all(BASE_VD), filled.rows_ND[4])


def test_a_byte_that_the_base_lacks_gets_the_mean_of_the_rows_of_its_bytes() -> None:
    added = replace(
        ADDED,
        texts=["x", "<end>"],
        pieces=[b"x", b""],
        kinds=["byte", "special"],
        spellings=[(), ()],
        text_spellings=[(), ()],
        base_pieces=[b"a", b"bb", b"c"],
    )
    for method in ("mean", "mean-text", "char-length", "position", "normal"):
        filled = fill_rows(BASE_VD, added, "output", 0, METHODS[method])
        assert filled.rows_ND[0].tolist() == [0.5, 0, 2], method
        assert torch.equal(filled.rows_ND[1], mean_of_all(BASE_VD))


def test_rows_take_the_dtype_of_the_matrix() -> None:
    filled = fill_rows(BASE_VD.bfloat16(), ADDED, "input", 0, METHODS["mean"])
    assert filled.rows_ND.dtype == torch.bfloat16
    assert filled.identical_rows == 2  # the step of a tie survives the rounding


def test_notes_of_a_method_come_back() -> None:
    filled = fill_rows(BASE_VD, ADDED, "input", 0, METHODS["calibrated"])
    assert filled.notes == {"norm of all base rows": 3}


def test_a_row_that_is_not_finite_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(base_VD: torch.Tensor, added: Added, role: Role, seed: int) -> torch.Tensor:
        rows_ND = torch.zeros(6, 3)
        rows_ND[1, 2] = float("nan")
        return rows_ND

    monkeypatch.setattr(filling, "broken", broken, raising=False)
    method = Method("broken", "", "", "filling:broken")
    with pytest.raises(InputError, match=r"row of new piece 1 \('ba'\) is not finite"):
        fill_rows(BASE_VD, ADDED, "input", 0, method)


def test_options_are_checked_by_name_and_kind() -> None:
    check_options(METHODS["normal"], {"std": 1})
    with pytest.raises(UsageError, match=r"no option 'sdt'; it has: std = 0.02"):
        check_options(METHODS["normal"], {"sdt": 0.1})
    with pytest.raises(UsageError, match="it has: none"):
        check_options(METHODS["mean"], {"std": 0.1})
    with pytest.raises(UsageError, match="std = 'much'; expected a float"):
        check_options(METHODS["normal"], {"std": "much"})
    with pytest.raises(UsageError, match="std = True; expected a float"):
        check_options(METHODS["normal"], {"std": True})


@pytest.mark.parametrize("name", METHODS)
def test_every_number_among_the_options_has_a_range_that_holds_its_default(name: str) -> None:
    method = METHODS[name]
    numbers = {key: value for key, value in method.settings().items() if not isinstance(value, str)}
    assert set(numbers) == set(method.ranges)
    check_options(method, numbers)
    for key, allowed in method.ranges.items():
        kind = int if isinstance(numbers[key], int) else float
        check_options(method, {key: kind(allowed.high)})
        low = kind(allowed.low)
        if not allowed.above:
            check_options(method, {key: low})
        for outside in (low if allowed.above else low - 1, kind(allowed.high) + 1):
            with pytest.raises(UsageError, match=rf"option {key} = .*; expected"):
                check_options(method, {key: outside})


def test_a_smoothing_of_zero_divides_nothing() -> None:
    with pytest.raises(UsageError, match="smoothing = 0; expected more than 0, up to 1"):
        check_options(METHODS["frequency"], {"smoothing": 0})


def test_a_number_without_a_range_must_be_finite() -> None:
    method = Method("bare", "", "", "normal:normal_rows")
    check_options(method, {"std": 1e9})
    for value in (float("inf"), float("-inf"), float("nan")):
        with pytest.raises(UsageError, match="expected a finite number"):
            check_options(method, {"std": value})


def test_an_option_that_the_method_chooses_may_be_left_to_it() -> None:
    check_options(METHODS["distil"], {"head_weight": None})
    with pytest.raises(UsageError, match="head_weight = 'much'; expected a float"):
        check_options(METHODS["distil"], {"head_weight": "much"})


@pytest.mark.parametrize("device", ["gpu7", "meta", ""])
def test_a_device_that_is_not_there_is_refused(device: str) -> None:
    check_options(METHODS["distil"], {"device": "cpu"})
    with pytest.raises(UsageError, match=f"option device = {device!r}"):
        check_options(METHODS["distil"], {"device": device})
