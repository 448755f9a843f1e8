"""Numbers as they are printed."""

from __future__ import annotations

import pytest

from lingraft.formats import (
    show_alp,
    show_bpb,
    show_bytes,
    show_change,
    show_count,
    show_fixed,
    show_ratio,
    show_setting,
    show_share,
    show_short,
)


def test_a_count_has_thousands_separators() -> None:
    assert show_count(1_234_567) == "1,234,567"


@pytest.mark.parametrize(
    ("value", "text"),
    [(950, "950"), (9_999, "9,999"), (12_345, "12.3 K"), (7_155_264, "7.16 M"), (46e9, "46.0 B")],
)
def test_a_headline_number_has_three_figures(value: int, text: str) -> None:
    assert show_short(value) == text


def test_bits_per_byte_have_three_decimals() -> None:
    assert show_bpb(1.0) == "1.000"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5123, "0.512"), (1.534, "1.53"), (12.34, "12.3"), (4_321.0, "4,321"), (0.0, "0.00")],
)
def test_a_ratio_has_three_figures(value: float, text: str) -> None:
    assert show_ratio(value) == text


def test_a_very_small_ratio_has_a_power_of_ten() -> None:
    assert show_ratio(3.1e-6).replace("\u00a0", " ") == "3.1 × 10⁻⁶"


@pytest.mark.parametrize(
    ("frac", "text"), [(-0.354, "−35.4%"), (0.0251, "+2.5%"), (-0.0001, "±0.0%"), (0.0, "±0.0%")]
)
def test_a_change_has_its_sign_unless_it_rounds_to_nothing(frac: float, text: str) -> None:
    assert show_change(frac) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(512, "512 B"), (1_536, "1.50 KiB"), (88 * 2**30, "88.0 GiB"), (2**41, "2.00 TiB")],
)
def test_a_size_is_in_binary_units(value: int, text: str) -> None:
    assert show_bytes(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "default"),
        (True, "yes"),
        (False, "no"),
        (2_048, "2,048"),
        (1e-5, "1e-05"),
        (16.0, "16"),
        (["q_proj", "w1"], "q_proj, w1"),
        ("cosine", "cosine"),
    ],
)
def test_a_setting_is_shown_plainly(value: object, text: str) -> None:
    assert show_setting(value) == text


def test_columns_have_the_same_decimals_in_every_row() -> None:
    assert [show_fixed(0.25), show_fixed(12.0), show_fixed(1.5, 3)] == ["0.25", "12.00", "1.500"]


@pytest.mark.parametrize(("value", "text"), [(-1234.567, "−1,234.57"), (0.5, "0.50")])
def test_alp_is_in_nats_with_two_decimals(value: float, text: str) -> None:
    assert show_alp(value) == text


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (0, 0, "0%"),
        (1, 1, "100%"),
        (123, 1000, "12.3%"),
        (1, 1234, "0.081%"),
        (1, 10**6, "<0.001%"),
    ],
)
def test_a_share_has_three_figures(part: int, whole: int, text: str) -> None:
    assert show_share(part, whole) == text
