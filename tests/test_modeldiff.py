"""`lingraft model diff`: what differs between two models, and by how much."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from pico import save_llama
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from lingraft import cli
from lingraft.modeldiff import ModelDiff, TensorDiff, diff_models

A = {
    "same": torch.ones(2, 2),
    "rows": torch.tensor([[3.0, 0.0], [0.0, 4.0], [0.0, 0.0]]),
    "zero": torch.zeros(2),
    "shape": torch.zeros(2, 2),
    "dtype": torch.ones(2),
    "gone": torch.ones(1),
}
B = {
    "same": torch.ones(2, 2),
    "rows": torch.tensor([[3.0, 0.0], [0.0, 5.0]]),
    "zero": torch.tensor([0.0, 2.0]),
    "shape": torch.zeros(2, 3),
    "dtype": torch.ones(2, dtype=torch.float16),
    "come": torch.ones(1),
}


def save(folder: Path, tensors: dict[str, torch.Tensor], config: object = {}) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors")
    return folder


@pytest.fixture
def found(tmp_path: Path) -> ModelDiff:
    return diff_models(
        save(tmp_path / "a", A, {"vocab_size": 3, "rope": {"theta": 1}, "x": None}),
        save(tmp_path / "b", B, {"vocab_size": 2, "rope": {"theta": 2}}),
    )


def test_each_kind_of_difference_is_told(found: ModelDiff) -> None:
    assert found.tensors_same == 1
    assert found.only_a == ("gone",)
    assert found.only_b == ("come",)
    assert found.config == ("rope.theta: 1 -> 2", "vocab_size: 3 -> 2", "x: None -> (absent)")
    by_name = {tensor.name: tensor for tensor in found.differing}
    assert by_name.keys() == {"rows", "zero", "shape", "dtype"}


def test_the_common_rows_of_a_matrix_that_grew_are_compared(found: ModelDiff) -> None:
    rows = next(tensor for tensor in found.differing if tensor.name == "rows")
    # Of 2 common rows one moved by 1, beside numbers of norm 5.
    assert rows == TensorDiff("rows", (3, 2), (2, 2), "F32", "F32", 2, 1, 0, 1.0, 0.2)


def test_what_has_no_measure_says_so(found: ModelDiff) -> None:
    by_name = {tensor.name: tensor for tensor in found.differing}
    assert (by_name["shape"].max_abs, by_name["shape"].relative) == (None, None)
    assert (by_name["zero"].max_abs, by_name["zero"].relative) == (2.0, None)
    dtype = by_name["dtype"]
    assert (dtype.rows_changed, dtype.max_abs, dtype.dtype_b) == (0, 0.0, "F16")


def test_numbers_that_are_not_finite_are_counted_and_left_out(tmp_path: Path) -> None:
    nan = float("nan")
    a = save(tmp_path / "a", {"w": torch.tensor([[1.0, nan], [1.0, 1.0], [nan, 0.0]])})
    b = save(tmp_path / "b", {"w": torch.tensor([[1.0, nan], [1.0, 2.0], [0.0, 0.0]])})
    (tensor,) = diff_models(a, b).differing
    assert (tensor.rows_changed, tensor.nan_rows, tensor.max_abs) == (2, 2, 1.0)


@pytest.mark.parametrize(
    ("first", "second", "gap"),
    [
        (torch.tensor([2**24 + 1]), torch.tensor([2**24]), 1.0),
        (torch.tensor([2**60 + 1]), torch.tensor([2**60]), 1.0),
        (torch.tensor([2**63 - 1]), torch.tensor([-(2**63)]), 2.0**64),
        (
            torch.tensor([1.0 + 2**-40], dtype=torch.float64),
            torch.tensor([1.0], dtype=torch.float64),
            2**-40,
        ),
        (torch.tensor([1.0 + 2**-40], dtype=torch.float64), torch.tensor([1.0]), 2**-40),
        (torch.tensor([2**24 + 1]), torch.tensor([2.0**24]), 1.0),
        (torch.tensor([True]), torch.tensor([False]), 1.0),
        (torch.tensor([255], dtype=torch.uint8), torch.tensor([-1], dtype=torch.int8), 256.0),
        (torch.tensor([1.0]).bfloat16(), torch.tensor([1.0 + 2**-10]).half(), 2**-10),
        (
            torch.tensor([1.0]).to(torch.float8_e4m3fn),
            torch.tensor([1.5]).to(torch.float8_e5m2),
            0.5,
        ),
    ],
)
def test_numbers_are_compared_as_they_are_stored(
    tmp_path: Path, first: torch.Tensor, second: torch.Tensor, gap: float
) -> None:
    a, b = save(tmp_path / "a", {"w": first}), save(tmp_path / "b", {"w": second})
    (tensor,) = diff_models(a, b).differing
    assert (tensor.rows_changed, tensor.max_abs) == (1, gap)
    assert diff_models(a, a).is_same


def test_a_large_matrix_is_compared_in_slices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lingraft import modeldiff, weights

    monkeypatch.setattr(modeldiff, "row_slices", lambda e: weights.row_slices(e, 3))
    a = save(tmp_path / "a", {"w": torch.arange(20.0).view(10, 2)})
    changed = torch.arange(20.0).view(10, 2)
    changed[9, 1] += 2
    b = save(tmp_path / "b", {"w": changed})
    (tensor,) = diff_models(a, b).differing
    assert (tensor.rows_compared, tensor.rows_changed, tensor.max_abs) == (10, 1, 2.0)
    assert tensor.relative == pytest.approx(2 / sum(i * i for i in range(20)) ** 0.5)


def test_the_verb_says_the_same_and_exits_0(tmp_path: Path) -> None:
    for name in "ab":
        save_llama(tmp_path / name)
    words = ["model", "diff", str(tmp_path / "a"), str(tmp_path / "b")]
    result = CliRunner().invoke(cli.app, words)
    assert result.exit_code == 0
    assert "21 tensors and the config are the same" in result.stdout


def test_the_verb_lists_the_largest_and_exits_1(tmp_path: Path) -> None:
    base = save_llama(tmp_path / "a").path
    tensors = load_file(base / "model.safetensors")
    tensors["model.norm.weight"][0] = float("nan")
    tensors["lm_head.weight"] += 1
    tensors["extra"] = torch.ones(1)
    tensors["model.embed_tokens.weight"] = torch.zeros(310, 32, dtype=torch.float16)
    config = json.loads((base / "config.json").read_text()) | {"vocab_size": 310}
    other = save(tmp_path / "b", tensors, config)
    words = ["model", "diff", str(base), str(other)]
    result = CliRunner().invoke(cli.app, [*words, "--top", "2"])
    assert result.exit_code == 1
    assert "18 tensors are the same, 3 differ, 0 are only in A, 1 only in B" in result.stdout
    assert "config vocab_size: 300 -> 310" in result.stdout
    assert "only in B: extra" in result.stdout
    assert "300/300  lm_head.weight" in result.stdout
    assert "([300, 32] -> [310, 32], F32 -> F16)" in result.stdout
    assert "... 1 more: --top 0" in result.stdout
    full = CliRunner().invoke(cli.app, [*words, "--top", "0"])
    assert "1/32  model.norm.weight  (1 rows not finite)" in full.stdout
    told = json.loads(CliRunner().invoke(cli.app, [*words, "--json"]).stdout)
    assert told["same"] is False
    assert len(told["differing"]) == 3


def test_trouble_is_not_taken_for_a_difference(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli.app, ["model", "diff", str(tmp_path), str(tmp_path)])
    assert getattr(result.exception, "exit_code", None) == 2
