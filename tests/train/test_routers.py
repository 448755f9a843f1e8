"""Routers with an adapter: transformers' arithmetic, gradients, training, and the merge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from artefacts import make_artefact
from pico import save_llama, save_mixtral
from safetensors.torch import load_file
from torch.nn.functional import linear
from training_runs import KilledError, curve, settings, train
from transformers import MixtralConfig
from transformers.models.mixtral.modeling_mixtral import MixtralTopKRouter

from lingraft.errors import InputError, UsageError
from lingraft.manifest import Facts
from lingraft.merge import merge
from lingraft.models import ModelFolder, load_causal_lm
from lingraft.store import Artefact
from lingraft.train.build import Built, build
from lingraft.train.lora import LoraPair, use_path
from lingraft.train.routers import AdaptedRouter
from lingraft.train.settings import LoraSettings, PhaseSettings
from lingraft.train.storage import bytes_per_parameter

EXPERTS, WIDTH, TOP_K, RANK = 8, 32, 2, 4
ALL = LoraSettings(rank=4, alpha=8.0, dropout=0.1, targets=["all", "gate"])
IDS = torch.arange(24).view(2, 12) * 11


def numbers(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.5


def routers(dropout: float = 0.0) -> tuple[Any, AdaptedRouter]:
    """A router of transformers, and ours of the same matrix with an adapter that has moved."""
    config = MixtralConfig(hidden_size=WIDTH, num_local_experts=EXPERTS, num_experts_per_tok=TOP_K)
    plain = MixtralTopKRouter(config)
    plain.weight.data = numbers(EXPERTS, WIDTH)
    pair = LoraPair(1, WIDTH, EXPERTS, RANK, 2.0 * RANK, torch.Generator().manual_seed(2))
    pair.B.data = numbers(*pair.B.shape, seed=3)
    return plain, AdaptedRouter(plain, pair, dropout)


def outcome(shares_TK: torch.Tensor, logits_TE: torch.Tensor) -> torch.Tensor:
    """Something that depends on both, as the text's loss and the balance loss do."""
    return (shares_TK * numbers(*shares_TK.shape, seed=5)).sum() + logits_TE.softmax(
        -1
    ).square().sum()


def test_output_and_gradients_are_those_of_the_sum_in_one_matrix() -> None:
    plain, ours = routers()
    x = numbers(3, 7, WIDTH, seed=4).requires_grad_()
    weight = plain.weight.detach().clone()
    logits, shares, chosen = ours(x)
    found = torch.autograd.grad(outcome(shares, logits), [x, ours.pair.A, ours.pair.B])
    a, b = (m.detach().clone().requires_grad_() for m in (ours.pair.A[0], ours.pair.B[0]))
    y = x.detach().clone().requires_grad_()
    # transformers' own module, given the sum for a weight, which autograd looks through.
    del plain._parameters["weight"]
    plain.weight = weight + 2.0 * b @ a
    expected_logits, expected_shares, expected_chosen = plain(y)
    expected = torch.autograd.grad(outcome(expected_shares, expected_logits), [y, a, b])
    assert torch.equal(chosen, expected_chosen)
    torch.testing.assert_close(logits, expected_logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(shares, expected_shares, rtol=1e-5, atol=1e-6)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine.reshape(theirs.shape), theirs, rtol=1e-4, atol=1e-6)
        assert mine.any()


def test_an_adapter_at_its_start_changes_no_bit() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        plain, ours = routers(dropout=0.3)
        ours.pair.B.data.zero_()
        plain.weight.data = plain.weight.data.to(dtype)
        x = numbers(9, WIDTH, seed=6).to(dtype)
        assert all(map(torch.equal, ours.train()(x), plain(x)))


def test_dropout_acts_on_the_adapter_alone_and_in_training_alone() -> None:
    plain, ours = routers(dropout=0.5)
    x = numbers(50, WIDTH, seed=7)
    assert not torch.equal(ours.train()(x)[0], ours(x)[0])
    assert torch.equal(ours.eval()(x)[0], ours(x)[0])
    from_adapter = ours.train()(x)[0] - linear(x, plain.weight)
    assert (from_adapter - (ours.eval()(x)[0] - linear(x, plain.weight))).abs().mean() > 0.1


def make(folder: ModelFolder, lora: LoraSettings = ALL, **changes: Any) -> Built:
    options = {"quantize": "none", "dtype": "float32", "seed": 5, "device": torch.device("cpu")}
    return build(folder, lora, **{**options, **changes})


def test_all_leaves_the_router_out_and_gate_names_it(tmp_path: Path) -> None:
    folder = save_mixtral(tmp_path)
    assert "gate" not in make(folder, LoraSettings(rank=4)).roles
    built = make(folder, quantize="nf4", dtype="bfloat16")
    assert built.roles["gate"] == (2, 2)
    gate = built.model.model.layers[1].mlp.gate
    stored = folder.tensor("model.layers.1.block_sparse_moe.gate.weight")
    assert torch.equal(gate.weight, stored.to(torch.bfloat16))  # in 16 bits, never packed
    assert not gate.weight.requires_grad
    x = numbers(50, 32, seed=8).to(torch.bfloat16)
    gate.pair.B.data = numbers(*gate.pair.B.shape, seed=9)
    assert not torch.equal(gate.train()(x)[0], gate.eval()(x)[0])  # lora.dropout is its, too
    sizes = bytes_per_parameter(built)
    assert (sizes["routers, norms and biases"], sizes["adapters"]) == (2.0, 4.0)


def test_a_dense_model_has_no_router_to_adapt(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="role 'gate' matches 0 linear maps; expected 2") as error:
        make(save_llama(tmp_path))
    assert "Roles of this model: down_proj, gate_proj" in str(error.value)


def test_the_fused_path_trains_the_router_alike(tmp_path: Path) -> None:
    folder = save_mixtral(tmp_path)
    found = {}
    for path in ("plain", "fused"):
        lora = LoraSettings(rank=4, alpha=8.0, dropout=0.0, targets=["all", "gate"])
        built = make(folder, lora)
        for parameter in built.lora.values():
            parameter.data = numbers(*parameter.shape, seed=parameter.numel())
        with use_path(path):
            built.model.train()(input_ids=IDS).logits.square().sum().backward()
        found[path] = {n: p.grad for n, p in built.lora.items() if ".gate." in n}
    assert len(found["plain"]) == 4
    for name, grad in found["plain"].items():
        assert grad is not None
        assert grad.any()
        other = found["fused"][name]
        assert other is not None
        assert float((other - grad).norm()) <= 1e-4 * float(grad.norm())


@pytest.mark.filterwarnings("ignore")  # PEFT says it ignored patterns that it applies
def test_it_trains_goes_on_to_the_same_bits_and_merges_to_the_same_logits(
    inputs: dict[str, Artefact], tmp_path: Path, kill_after: dict[str, int]
) -> None:
    s = settings(lora=ALL, router_aux_loss=0.01)  # step 2's audit sees the router, too
    whole = train(tmp_path / "whole", inputs, s)
    kill_after["step"] = 3
    with pytest.raises(KilledError):
        train(tmp_path / "killed", inputs, s)
    kill_after["step"] = -1
    again = train(tmp_path / "killed", inputs, s)
    assert again.manifest.digest == whole.manifest.digest
    assert curve(again) == curve(whole)
    assert whole.facts["lora_modules"] == 2 * (4 + 12 + 1)

    adapter = whole.path / "adapter"
    assert "gate" in json.loads((adapter / "adapter_config.json").read_text())["target_modules"]
    moved = load_file(adapter / "adapter_model.safetensors")
    gate = "base_model.model.model.layers.0.block_sparse_moe.gate"
    assert moved[f"{gate}.lora_B.weight"].any()
    merge(model=inputs["embed"].path, adapter=adapter, out=tmp_path / "merged")
    peft = pytest.importorskip("peft")
    base = load_causal_lm(inputs["embed"].path)
    name = gate.removeprefix("base_model.model.") + ".weight"
    before, after = ModelFolder(inputs["embed"].path), ModelFolder(tmp_path / "merged")
    delta = 2.0 * moved[f"{gate}.lora_B.weight"] @ moved[f"{gate}.lora_A.weight"]
    torch.testing.assert_close(after.tensor(name), before.tensor(name) + delta)
    with torch.no_grad():
        expected = peft.PeftModel.from_pretrained(base, adapter).eval()(input_ids=IDS).logits
        found = load_causal_lm(tmp_path / "merged")(input_ids=IDS).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_router_of_one_expert_a_token_needs_the_balance_loss(
    inputs: dict[str, Artefact], tmp_path: Path
) -> None:
    def fill(path: Path) -> Facts:
        save_mixtral(path, num_experts_per_tok=1)
        return Facts()

    lone = {**inputs, "embed": make_artefact(tmp_path / "lone", "40-embed", fill)}
    with pytest.raises(UsageError, match="sends a token to one expert"):
        train(tmp_path / "refused", lone, settings(lora=ALL))
    done = train(tmp_path / "done", lone, settings(lora=ALL, router_aux_loss=0.01))
    assert done.facts["steps"] == 6
    rows = [PhaseSettings(trains=["base", "added"])]
    assert train(tmp_path / "rows", lone, settings(lora=ALL, phases=rows)).facts["steps"] == 6


def test_a_router_of_one_expert_is_refused(inputs: dict[str, Artefact], tmp_path: Path) -> None:
    def fill(path: Path) -> Facts:
        save_mixtral(path, num_local_experts=1, num_experts_per_tok=1)
        return Facts()

    only = {**inputs, "embed": make_artefact(tmp_path, "40-embed", fill)}
    with pytest.raises(UsageError, match="to one expert, as it has no other") as error:
        train(tmp_path, only, settings(lora=ALL, router_aux_loss=0.01))
    assert "router_aux_loss" not in str(error.value)


def test_a_role_named_twice_is_one() -> None:
    assert LoraSettings(targets=["gate", "gate", "q_proj"]).roles("mixtral") == ["gate", "q_proj"]
    assert LoraSettings(targets=["all", "gate", "all"]).roles("llama")[-2:] == ["down_proj", "gate"]
