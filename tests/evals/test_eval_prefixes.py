"""Common beginnings are read once, and the answers stay those of reading everything."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from benchmark_files import save_model, write_hellaswag, write_winogrande

pytest.importorskip("lm_eval", reason="needs the extra 'eval' (lm-evaluation-harness)")

from lingraft.errors import UsageError
from lingraft.evals.evaluating import EvalPlan, evaluate_models
from lingraft.evals.items import read_items
from lingraft.evals.prefixes import Group, plan_groups, refuse_windows

pytestmark = pytest.mark.filterwarnings("ignore")  # the harness's and datasets' own

A, B = tuple(range(20)), tuple(range(100, 130))


def test_sequences_with_a_common_beginning_stand_together() -> None:
    sequences = [(*B, 2), (*A, 1), (*B, 1), (7,), (*A, 2)]
    assert plan_groups(sequences, [1] * 5) == [
        Group(20, [1, 4]),
        Group(0, [3]),
        Group(30, [2, 0]),
    ]


def test_scored_positions_are_not_shared() -> None:
    assert plan_groups([(*A, 1), (*A, 1, 2)], [3, 1]) == [Group(18, [0, 1])]


def test_a_short_beginning_is_not_worth_it() -> None:
    assert plan_groups([(1, 2, 3), (1, 2, 4)], [1, 1]) == [Group(0, [0]), Group(0, [1])]


def test_a_sequence_that_would_cost_the_group_its_beginning_stays_out() -> None:
    sequences = [(*B, *A, 1), (*B, *A, 2), (*B, 999)]  # 50 in common, or 30 with the third
    assert plan_groups(sequences, [1, 1, 1]) == [Group(50, [0, 1]), Group(0, [2])]


@pytest.mark.parametrize(
    "config",
    [
        {"sliding_window": 4_096},
        {"sliding_window": None, "layer_types": ["full_attention", "linear_attention"]},
    ],
)
def test_models_that_forget_are_refused(config: dict[str, Any]) -> None:
    text = SimpleNamespace(**config)
    model = SimpleNamespace(config=SimpleNamespace(get_text_config=lambda: text))
    with pytest.raises(UsageError, match="model 'm' has layers with other than full attention"):
        refuse_windows(model, "m")


@pytest.mark.parametrize("suite", ["winogrande", "hellaswag"])
@pytest.mark.parametrize("context", [4_096, 128])
def test_answers_are_those_of_reading_everything(suite: str, context: int, tmp_path: Path) -> None:
    save_model(tmp_path / "m", context=context)
    write = {"winogrande": write_winogrande, "hellaswag": write_hellaswag}[suite]
    write(tmp_path / "data")
    rows = {}
    for name, share, size in (("apart", False, "1"), ("shared", True, "1"), ("three", True, "3")):
        plan = EvalPlan(
            suite, tmp_path / "data", share_prefixes=share, batch_size=size, resamples=0
        )
        evaluate_models([str(tmp_path / "m")], plan, out=tmp_path / name)
        rows[name] = read_items(next((tmp_path / name).glob("models/*/*.jsonl")))
    for name in ("shared", "three"):
        for row, other in zip(rows["apart"], rows[name], strict=True):
            assert row["metrics"] == other["metrics"]
            for (a, is_greedy), (b, also) in zip(row["answers"], other["answers"], strict=True):
                assert a == pytest.approx(b, abs=1e-4)
                assert is_greedy == also


def test_sharing_goes_with_a_number_of_requests(tmp_path: Path) -> None:
    plan = EvalPlan("zh", share_prefixes=True, batch_size="auto")
    with pytest.raises(UsageError, match="--share-prefixes: expected"):
        evaluate_models(["m"], plan, out=tmp_path / "out")
