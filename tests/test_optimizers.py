"""Optimizers by name. bitsandbytes need not be installed: its place is taken by a stand-in."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from lingraft.errors import MissingPackageError, UsageError
from lingraft.optimizers import Group, load_state, make_optimizer, state_of


def group() -> tuple[torch.nn.Parameter, list[Group]]:
    parameter = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    return parameter, [Group("all", {"p": parameter}, 0.1, 0.0)]


def test_a_package_that_is_absent_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(MissingPackageError, match=r"'adamw-8bit' needs[\s\S]*pip install bitsand"):
        make_optimizer("adamw-8bit", group()[1], 0.99)


class _Bytes:
    """Keeps a state as bitsandbytes does: made by `init_state`, its count a plain number."""

    def __init__(self, slots: list[dict[str, Any]], betas: tuple[float, float]) -> None:
        self.param_groups, self.betas = slots, betas
        self.state: dict[Any, dict[str, Any]] = {}

    def init_state(self, slot: Any, parameter: Any, g: int, p: int) -> None:
        assert self.param_groups[g]["params"][p] is parameter
        codes = torch.zeros(parameter.shape, dtype=torch.uint8)
        self.state[parameter] = {"step": 0, "state1": codes, "absmax1": torch.zeros(1)}


def _stand_in(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    package = ModuleType("bitsandbytes")
    package.optim = SimpleNamespace(**{name: _Bytes})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bitsandbytes", package)


def test_states_come_back_into_the_buffers_that_the_optimizer_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _stand_in(monkeypatch, "AdamW8bit")
    parameter, groups = group()
    optimizer = make_optimizer("adamw-8bit", groups, 0.99)
    assert optimizer.betas == (0.9, 0.99)
    codes = torch.tensor([3, 7], dtype=torch.uint8)
    load_state(optimizer, parameter, 5, {"state1": codes, "absmax1": torch.tensor([0.5])})
    buffer = optimizer.state[parameter]["state1"]
    assert buffer is not codes  # they may be paged ones
    steps, tensors = state_of(optimizer, parameter)
    assert steps == 5
    assert tensors["state1"].tolist() == [3, 7]


@pytest.mark.parametrize(
    ("name", "found"),
    [("paged-adamw", "PagedAdamW32bit"), ("paged-adamw-8bit", "PagedAdamW8bit")],
)
def test_paged_ones_want_a_gpu(monkeypatch: pytest.MonkeyPatch, name: Any, found: str) -> None:
    _stand_in(monkeypatch, found)
    with pytest.raises(UsageError, match="not on a GPU"):
        make_optimizer(name, group()[1], 0.99)
    elsewhere = torch.nn.Parameter(torch.empty(2, device="meta"))
    made = make_optimizer(name, [Group("all", {"p": elsewhere}, 0.1, 0.0)], 0.99)
    assert isinstance(made, _Bytes)


def test_a_parameter_that_nobody_trains_is_our_mistake() -> None:
    optimizer = _Bytes([], (0.9, 0.99))
    with pytest.raises(AssertionError, match="does not have"):
        load_state(optimizer, torch.nn.Parameter(torch.ones(1)), 1, {})


def test_the_real_one_steps_and_comes_back() -> None:
    pytest.importorskip("bitsandbytes")
    ends = []
    for resumed in (False, True):
        torch.manual_seed(1)
        parameter = torch.nn.Parameter(torch.randn(64, 128))
        groups = [Group("all", {"p": parameter}, 0.1, 0.0)]
        optimizer = make_optimizer("adamw-8bit", groups, 0.99)
        for step in range(4):
            if resumed and step == 2:
                taken, tensors = state_of(optimizer, parameter)
                kept = {key: tensor.clone() for key, tensor in tensors.items()}
                optimizer = make_optimizer("adamw-8bit", groups, 0.99)
                load_state(optimizer, parameter, taken, kept)
            parameter.grad = torch.sin(parameter.detach() * (step + 1))
            optimizer.step()
        ends.append(parameter.detach().clone())
    assert torch.equal(*ends)
