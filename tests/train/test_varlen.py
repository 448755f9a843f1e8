"""Attention by others than torch's own: the same documents stay apart."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from artefacts import make_artefact
from hypothesis import given
from hypothesis import strategies as st
from pico import save_llama, save_mixtral
from torch.nn.functional import scaled_dot_product_attention
from training_runs import settings, train

from lingraft.errors import MissingPackageError, UsageError
from lingraft.manifest import Facts
from lingraft.mixture import Batch
from lingraft.recipe import find_problems, find_warnings, read_recipe
from lingraft.store import Artefact
from lingraft.train import stage
from lingraft.train.build import Built, build
from lingraft.train.lora import use_path
from lingraft.train.settings import AttentionName, LoraSettings
from lingraft.train.varlen import model_inputs, require_attention

CPU, GPU = torch.device("cpu"), torch.device("cuda")
LORA = LoraSettings(rank=4, alpha=8.0, dropout=0.0)
LENGTH = 12


def positions(lengths: list[list[int]]) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.stack([np.concatenate([np.arange(n) for n in row]) for row in lengths])


def batch(lengths: list[list[int]]) -> Batch:
    position_ids = positions(lengths)
    ids = np.arange(position_ids.size).reshape(position_ids.shape) * 11 % 300
    return Batch(ids, np.roll(ids, -1, 1), position_ids)


ROWS = batch([[4, 6, 2], [7, 5], [12]])


@st.composite
def rows(draw: st.DrawFn) -> list[list[int]]:
    """Up to four rows of 12 positions, cut into documents."""
    cuts = draw(st.lists(st.sets(st.integers(1, LENGTH - 1), max_size=4), min_size=1, max_size=4))
    ends = [[0, *sorted(own), LENGTH] for own in cuts]
    return [[b - a for a, b in pairwise(own)] for own in ends]


@given(rows())
def test_flash_attention_is_told_where_every_document_begins(lengths: list[list[int]]) -> None:
    made = batch(lengths)
    inputs = model_inputs("flash_attention_2", made, CPU)
    flat = [n for row in lengths for n in row]
    assert inputs["cu_seq_lens_q"].tolist() == [0, *np.cumsum(flat).tolist()]
    assert inputs["cu_seq_lens_q"].dtype == torch.int32
    assert inputs["max_length_q"] == inputs["max_length_k"] == max(flat)
    assert torch.equal(inputs["cu_seq_lens_k"], inputs["cu_seq_lens_q"])
    assert inputs["input_ids"].tolist() == [made.inputs.flatten().tolist()]
    assert inputs["position_ids"].tolist() == [made.position_ids.flatten().tolist()]
    assert inputs["deterministic"] is True


def test_others_get_the_sequences_as_they_are() -> None:
    for name in ("sdpa", "flex_attention"):
        inputs = model_inputs(name, ROWS, CPU)
        assert inputs.keys() == {"input_ids", "position_ids"}
        assert inputs["position_ids"].shape == (3, LENGTH)


def make(folder: Any, attention: AttentionName, dtype: str = "float32") -> Built:
    built = build(
        folder, LORA, quantize="none", dtype=dtype, seed=5, device=CPU, attention=attention
    )
    generator = torch.Generator().manual_seed(2)
    for parameter in built.lora.values():
        parameter.data += torch.randn(parameter.shape, generator=generator) * 0.1
    return built


def hidden(built: Built, attention: AttentionName, of: Batch = ROWS) -> torch.Tensor:
    out = built.model.model(**model_inputs(attention, of, CPU), use_cache=False)
    states: torch.Tensor = out.last_hidden_state
    return states.flatten(0, 1)


def _causal(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)


def _varlen(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor,
    **options: Any,
) -> torch.Tensor:
    """What flash_attn_varlen_func gives, by torch: (N, heads, width) of each document apart."""
    assert torch.equal(cu_seqlens_q, cu_seqlens_k)
    assert options["causal"]
    ends = cu_seqlens_q.tolist()
    assert ends[-1] == len(q)
    assert options["max_seqlen_q"] == max(b - a for a, b in pairwise(ends))
    found = []
    for a, b in pairwise(ends):
        found.append(_causal(*(x[a:b].transpose(0, 1) for x in (q, k, v))))
    return torch.cat(found, 1).transpose(0, 1)


def _whole(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **options: Any) -> torch.Tensor:
    """What flash_attn_func gives, by torch: (B, L, heads, width)."""
    assert options["causal"]
    return _causal(*(x.transpose(1, 2) for x in (q, k, v))).transpose(1, 2)


@pytest.fixture
def flash(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Have transformers call FlashAttention-2 as if it were there; give what was called."""
    from transformers import PreTrainedModel, modeling_flash_attention_utils, modeling_utils

    called: list[str] = []

    def options(**named: Any) -> dict[str, Any]:
        called.append("documents" if "max_seqlen_q" in named else "rows")
        assert named["deterministic"] is (True if "max_seqlen_q" in named else None)
        kept = {k: v for k, v in named.items() if k in ("max_seqlen_q", "max_seqlen_k")}
        return {**kept, "causal": named["is_causal"]}

    functions = ((_whole, _varlen, None, None, None), (options, None))
    for module in (modeling_utils, modeling_flash_attention_utils):
        monkeypatch.setattr(module, "lazy_import_flash_attention", lambda *_, **__: functions)
    monkeypatch.setattr(PreTrainedModel, "_flash_attn_can_dispatch", lambda *_, **__: True)
    yield called
    assert called, "it was never called"


@pytest.mark.parametrize("path", ["plain", "fused"])
@pytest.mark.parametrize("save", [save_mixtral, save_llama])
def test_flash_attention_gives_what_torchs_own_gives(
    tmp_path: Path, flash: list[str], save: Any, path: Literal["plain", "fused"]
) -> None:
    folder = save(tmp_path)
    found: dict[str, tuple[torch.Tensor, list[torch.Tensor]]] = {}
    names: tuple[AttentionName, ...] = ("sdpa", "flash_attention_2")
    for name in names:
        built = make(folder, name)
        built.model.config._is_quantized = True  # or transformers would ask for 16 bits
        with use_path(path):
            states = hidden(built, name)
            weights = torch.randn(states.shape, generator=torch.Generator().manual_seed(3))
            loss = (states * weights).sum()
            grads = list(torch.autograd.grad(loss, list(built.lora.values())))
        found[name] = states.detach(), grads
    assert flash == ["documents"] * 2  # a layer
    (states, grads), (own, own_grads) = found["flash_attention_2"], found["sdpa"]
    torch.testing.assert_close(states, own, rtol=1e-4, atol=1e-5)
    for grad, expected in zip(grads, own_grads, strict=True):
        assert float((grad - expected).norm()) <= 1e-4 * float(expected.norm())


@pytest.mark.usefixtures("flash")
@pytest.mark.parametrize("path", ["plain", "fused"])
def test_flash_attention_lets_no_document_see_another(
    tmp_path: Path, path: Literal["plain", "fused"]
) -> None:
    """Of several rows it would, were they not laid into one."""
    built = make(save_llama(tmp_path), "flash_attention_2", "bfloat16")
    changed = ROWS.inputs.copy()
    changed[0, :4], changed[1, :7] = 250, 250  # the first documents of two rows
    with use_path(path):
        before = hidden(built, "flash_attention_2")
        after = hidden(built, "flash_attention_2", ROWS._replace(inputs=changed))
    same = (before == after).all(1).view(3, LENGTH)
    assert same[0, 4:].all()
    assert same[1, 7:].all()
    assert same[2].all()
    assert not same[0, :4].any()


def test_a_run_with_flash_attention_learns_as_with_torchs_own(
    inputs: dict[str, Artefact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flash: list[str]
) -> None:
    monkeypatch.setattr(stage, "require_attention", lambda *_: None)
    ends = {}
    for name in ("sdpa", "flash_attention_2"):
        s = settings(attention=name, dtype="bfloat16", quantize="none", max_steps=3)
        ends[name] = train(tmp_path / name, inputs, s).facts
    assert set(flash) == {"documents", "rows"}  # steps, and validations
    for name in ("zh", "en"):
        own, other = (ends[n]["valid_bpb_end"][name] for n in ends)
        assert other == pytest.approx(own, rel=0.01)
        assert other < ends["sdpa"]["valid_bpb_start"][name] * 0.99


@pytest.mark.filterwarnings("ignore")  # flex attention says that it is slow uncompiled
@pytest.mark.parametrize("save", [save_mixtral, save_llama])
def test_flex_attention_gives_what_torchs_own_gives(tmp_path: Path, save: Any) -> None:
    folder = save(tmp_path)
    # Uncompiled, and forward alone: torch has no backward pass of it on a CPU.
    built = make(folder, "flex_attention")
    assert built.model.config._attn_implementation == "flex_attention"
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        found = hidden(built, "flex_attention")
    torch.testing.assert_close(found, hidden(make(folder, "sdpa"), "sdpa"), rtol=1e-4, atol=1e-5)


def test_what_cannot_train_here_is_refused_before_any_work(
    inputs: dict[str, Artefact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="'flex_attention' needs a GPU, and training is on cpu"):
        train(tmp_path, inputs, settings(attention="flex_attention"))
    found, capability = {"2.4.1": False}, [(8, 0)]
    monkeypatch.setattr("transformers.utils.is_flash_attn_greater_or_equal", found.get)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability[0])
    with pytest.raises(
        MissingPackageError, match=r"needs the package flash-attn, 2\.4\.1 or newer"
    ):
        require_attention("flash_attention_2", GPU)
    require_attention("flex_attention", GPU)
    found["2.4.1"] = True
    require_attention("flash_attention_2", GPU)
    capability[0] = (7, 5)
    with pytest.raises(UsageError, match=r"capability 8\.0 or more; this one has 7\.5"):
        require_attention("flash_attention_2", GPU)


def test_flex_attention_is_refused_where_attention_has_dropout(
    inputs: dict[str, Artefact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(path: Path) -> Facts:
        save_mixtral(path, attention_dropout=0.1)
        return Facts()

    monkeypatch.setattr(stage, "require_attention", lambda *_: None)
    monkeypatch.delattr(stage, "build")
    dropping = {**inputs, "embed": make_artefact(tmp_path, "40-embed", fill)}
    with pytest.raises(UsageError, match=r"has no dropout; attention_dropout in .* is 0\.1"):
        train(tmp_path, dropping, settings(attention="flex_attention"))


def test_flash_attention_is_refused_for_float32() -> None:
    with pytest.raises(ValueError, match=r"attention\n.* takes 16 bits"):
        settings(attention="flash_attention_2")


def test_runs_from_before_there_was_a_choice_go_on() -> None:
    assert "attention" not in settings().deciding()
    assert settings(attention="flex_attention").deciding()["attention"] == "flex_attention"


def test_a_recipe_that_needs_a_gpu_is_told_so_where_there_is_none(
    tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    recipe = read_recipe(tiny_recipe, ["train.attention=flex_attention"])
    (warning,) = find_warnings(recipe)
    assert str(warning).startswith("train.attention = 'flex_attention': needs a GPU")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert find_warnings(recipe) == []


def test_without_torch_its_absence_is_told_and_no_more(
    tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lingraft.recipe.has_package", lambda name: name != "torch")
    monkeypatch.delattr(torch.cuda, "is_available")  # asked, it would fail
    recipe = read_recipe(tiny_recipe, ["train.attention=flex_attention"])
    assert find_warnings(recipe) == []
    assert any("package = 'torch'" in str(problem) for problem in find_problems(recipe))
