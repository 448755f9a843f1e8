"""Rows of the training curve."""

from __future__ import annotations

import pytest

from lingraft.errors import InputError
from lingraft.report.curves import ValidRow, read_curves


def test_a_row_gives_its_loss_and_its_validation_if_it_has_them() -> None:
    lines = [
        '{"step": 0, "tokens": 0, "valid": {"zh": 4.5, "en": 2.0}}',
        '{"step": 1, "tokens": 512, "loss": 9.5, "lr": 0.001}',
        '{"step": 2, "tokens": 1024, "loss": 9.0, "lr": 0.001, "valid": {"zh": 4.25}}',
    ]
    curves = read_curves(lines, "curve.jsonl")
    assert curves.loss == ((512.0, 9.5), (1024.0, 9.0))
    assert curves.valid == (
        ValidRow(0, 0, {"en": 2.0, "zh": 4.5}),
        ValidRow(2, 1024, {"zh": 4.25}),
    )


@pytest.mark.parametrize(
    "line", ["", "no json", "[1]", '{"step": 1}', '{"step": 1, "tokens": 2, "loss": null}']
)
def test_a_line_that_is_no_row_is_named(line: str) -> None:
    with pytest.raises(InputError, match=r"curve\.jsonl:2: not a row"):
        read_curves(['{"step": 1, "tokens": 2, "loss": 3}', line], "curve.jsonl")
