"""What is watched while a Mixture of Experts trains: loads, balance, gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pico import save_llama, save_mixtral
from torch import nn

from lingraft.errors import LingraftError
from lingraft.losses import linear_cross_entropy
from lingraft.ranks import ONE
from lingraft.train.audit import audit_gradients
from lingraft.train.build import Built, build
from lingraft.train.loads import Loads
from lingraft.train.masters import Masters
from lingraft.train.settings import LoraSettings

IDS = torch.arange(24).view(2, 12) * 11
LABELS = IDS.roll(-1, 1)
LABELS[:, -1] = -100
COUNTED = LABELS != -100


class _Gate(nn.Module):
    """Says what it is told to."""

    num_experts = 4

    def __init__(self, logits_NE: torch.Tensor) -> None:
        super().__init__()
        self.logits = logits_NE

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        values, chosen = self.logits.softmax(-1).topk(2)
        return self.logits, values, chosen


class _Block(nn.Module):
    def __init__(self, logits_NE: torch.Tensor) -> None:
        super().__init__()
        self.mlp = nn.ModuleDict({"gate": _Gate(logits_NE)})

    def forward(self, x: torch.Tensor) -> Any:
        return self.mlp["gate"](x)


def test_choices_are_counted_where_there_is_a_target() -> None:
    logits = torch.tensor([[9.0, 8, 0, 0], [9, 0, 8, 0], [0, 0, 9, 8]])
    block = _Block(logits)
    loads = Loads(block)
    loads.begin(torch.tensor([True, True, False]))
    block(torch.zeros(3, 1))
    assert loads.counts() == [[2, 1, 1, 0]]
    # 4 experts x 2/4 of the choices, and 4 x 0/4.
    assert loads.told(ONE) == {"most_loaded": 2.0, "least_loaded": 0.0}
    block.eval()(torch.zeros(3, 1))
    assert loads.counts() == [[2, 1, 1, 0]]
    loads.clear()
    assert loads.counts() == [[0, 0, 0, 0]]


def test_the_balance_loss_is_k_where_all_is_even_and_e_at_most() -> None:
    even = torch.tensor([[9.0, 9, 0, 0], [0, 0, 9, 9]]) * 100
    one_sided = torch.tensor([[9.0, 9, 0, 0], [9, 9, 0, 0]]) * 100
    for logits, wanted in ((even, 2.0), (one_sided, 4.0)):
        block = _Block(logits)
        loads = Loads(block)
        loads.begin(torch.ones(2, dtype=torch.bool))
        block(torch.zeros(2, 1))
        assert loads.balance_loss(2).item() == pytest.approx(wanted)


def test_the_balance_loss_is_that_of_transformers(tmp_path: Path) -> None:
    from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

    built = trained(tmp_path)
    loads = Loads(built.model)
    loads.begin(torch.ones(24, dtype=torch.bool))
    out = built.model.train()(input_ids=IDS, output_router_logits=True)
    for layer in range(2):  # theirs is of all layers together, ours the mean of each
        theirs = load_balancing_loss_func((out.router_logits[layer],), 4, 2)
        ours = Loads(nn.Module())
        ours._logits = [out.router_logits[layer]]
        assert ours.balance_loss(2).item() == pytest.approx(theirs.item(), rel=1e-5)
    assert loads.balance_loss(2).requires_grad


def test_the_balance_loss_leaves_out_what_fills_a_row_up() -> None:
    from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

    text = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    fill = torch.tensor([9.0, 0, 0, 0]).expand(12, 4)
    is_text = torch.arange(18) < 6
    counted = is_text & (torch.arange(18) != 2)  # a document ends: no target, but text
    logits = torch.cat([text, fill]).requires_grad_()
    block = _Block(logits)
    loads = Loads(block)
    loads.begin(counted, is_text)
    block(torch.zeros(18, 1))
    loss = loads.balance_loss(2)
    theirs = load_balancing_loss_func((logits,), 4, 2, is_text.long().unsqueeze(0))
    assert loss.item() == pytest.approx(theirs.item(), rel=1e-6)
    loss.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert not logits.grad[6:].any()
    assert logits.grad[:6].any(1).all()


def test_a_dense_model_has_no_loads(tmp_path: Path) -> None:
    save_llama(tmp_path)
    assert Loads(nn.Linear(2, 2)).told(ONE) == {}


def trained(folder: Path, **rows: Any) -> Built:
    """A model whose every B has moved."""
    built = build(
        save_mixtral(folder),
        LoraSettings(rank=2, dropout=0.0),
        quantize="none",
        dtype="float32",
        seed=1,
        device=torch.device("cpu"),
        **rows,
    )
    for pair in built.pairs.values():
        pair.B.data.normal_(std=0.1)
    return built


def backward(built: Built) -> list[list[int]]:
    loads = Loads(built.model)
    loads.begin(COUNTED.flatten())
    hidden = built.model.train().model(input_ids=IDS, use_cache=False).last_hidden_state
    weight = built.model.lm_head.weight
    loss = linear_cross_entropy(hidden.flatten(0, 1), weight, LABELS.flatten())
    loss.backward()  # type: ignore[no-untyped-call]
    return loads.counts()


def audit(built: Built, loads: list[list[int]], dropout: float = 0.0) -> str:
    inputs, labels = torch.unique(IDS[COUNTED]), torch.unique(LABELS[COUNTED])
    return audit_gradients(1, built, loads, inputs, labels, dropout=dropout)


@pytest.mark.parametrize("rows", [{}, {"rows": "added", "num_base": 100}, {"rows": "none"}])
def test_everything_that_trains_has_a_gradient(tmp_path: Path, rows: dict[str, Any]) -> None:
    built = trained(tmp_path, **rows)
    assert "all" in audit(built, backward(built))


def test_what_has_none_is_named(tmp_path: Path) -> None:
    built = trained(tmp_path)
    loads = backward(built)
    first = built.pairs["model.layers.0.self_attn.q_proj"]
    first.A.grad = None
    used = max(range(4), key=lambda e: loads[1][e])
    assert built.pairs["model.layers.1.block_sparse_moe.experts.{}.w2"].B.grad is not None
    built.pairs["model.layers.1.block_sparse_moe.experts.{}.w2"].B.grad[used] = 0
    head = built.matrices["lm_head.weight"].base
    assert head.grad is not None
    head.grad[int(LABELS[0, 0])] = 0
    with pytest.raises(LingraftError, match="3 of ") as caught:
        audit(built, loads)
    for name in (
        "model.layers.0.self_attn.q_proj.A has no gradient",
        f"experts.{used}.w2.B has no gradient",
        f"lm_head.weight[{int(LABELS[0, 0])}] has no gradient",
    ):
        assert name in str(caught.value)


def test_a_gradient_that_is_not_finite_is_left_to_the_loop(tmp_path: Path) -> None:
    """A rate that is too high is no defect of the program; the loop names documents and rates."""
    built = trained(tmp_path)
    loads = backward(built)
    built.pairs["model.layers.0.self_attn.q_proj"].A.grad = None
    head = built.matrices["lm_head.weight"].base
    assert head.grad is not None
    head.grad[int(LABELS[0, 0])] = torch.nan
    told = audit(built, loads)
    assert f"left out, lm_head.weight[{int(LABELS[0, 0])}] has a gradient not finite" in told


@pytest.mark.parametrize(("dropout", "is_told"), [(0.05, False), (0.99, True)])
def test_what_dropout_takes_away_by_chance_is_told_and_not_refused(
    tmp_path: Path, dropout: float, is_told: bool
) -> None:
    # An expert with one token and 32 inputs: 0.99 drops them all with 72%, 0.05 with 2e-42.
    built = trained(tmp_path)
    loads = backward(built)
    used = max(range(4), key=lambda e: loads[0][e])
    pair = built.pairs["model.layers.0.block_sparse_moe.experts.{}.w1"]
    assert pair.A.grad is not None
    assert pair.B.grad is not None
    pair.A.grad[used] = pair.B.grad[used] = 0
    loads[0][used] = 1
    if is_told:
        assert "WARNING: gradient audit of step 1: 2 of " in audit(built, loads, dropout)
        assert "dropout = 0.99 does by chance" in audit(built, loads, dropout)
        pair.A.grad = None  # chance takes values, never a gradient as a whole
        with pytest.raises(LingraftError, match=r"w1\.A has no gradient"):
            audit(built, loads, dropout)
    else:
        with pytest.raises(LingraftError, match=f"2 of .*experts.{used}.w1.A has no gradient"):
            audit(built, loads, dropout)


def test_an_expert_without_tokens_and_an_adapter_that_has_not_moved_may_have_none(
    tmp_path: Path,
) -> None:
    built = trained(tmp_path)
    loads = backward(built)
    pair = built.pairs["model.layers.0.block_sparse_moe.experts.{}.w1"]
    assert pair.A.grad is not None
    assert pair.B.grad is not None
    pair.A.grad[2] = pair.B.grad[2] = 0
    loads[0][2] = 0
    pair.A.grad[1] = 0
    pair.B.data[1] = 0
    audit(built, loads)


def test_masters_move_by_steps_that_bfloat16_would_lose() -> None:
    parameter = nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    masters = Masters({"p": parameter})
    optimizer = torch.optim.SGD(masters.parameters.values(), lr=1.0)
    for _ in range(8):  # 8 steps of 0.001; bfloat16 has nothing between 1 and 1.0078
        parameter.grad = torch.full((3,), -0.001, dtype=torch.bfloat16)
        masters.collect()
        optimizer.step()
        optimizer.zero_grad()
        masters.push()
    assert parameter.tolist() == [1.0078125] * 3
    parameter.grad = torch.ones(3, dtype=torch.bfloat16)
    masters.drop()
    assert parameter.grad is None


def test_masters_sum_micro_batches_in_float32() -> None:
    parameter = nn.Parameter(torch.ones(1, dtype=torch.bfloat16))
    masters = Masters({"p": parameter})
    masters.collect()  # nothing there yet
    for grad in (256.0, 1.0):
        parameter.grad = torch.tensor([grad], dtype=torch.bfloat16)
        masters.collect()
    master = masters.parameters["p"]
    assert master.grad is not None
    assert master.grad.tolist() == [257]  # 256 in bfloat16
