"""The merge equals PEFT's own `merge_and_unload`, where that is right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft_adapters import PROMPTS, SAVERS, make_with_peft
from safetensors.torch import load_file

from lingraft.errors import InputError
from lingraft.merge import merge
from lingraft.models import ModelFolder, load_causal_lm

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
DENSE = [*ATTENTION, "gate_proj", "up_proj", "down_proj"]
FUSED = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]

LLAMA: dict[str, dict[str, Any]] = {
    "lora": {"target_modules": DENSE, "lora_alpha": 8},
    "rslora": {"target_modules": DENSE, "lora_alpha": 8, "use_rslora": True},
    "dora": {"target_modules": DENSE, "lora_alpha": 8, "use_dora": True},
    "patterns": {
        "target_modules": DENSE,
        "rank_pattern": {"v_proj": 2, "layers.1.mlp.up_proj": 6},
        "alpha_pattern": {"q_proj": 3, r".*\.0\.self_attn\.v_proj": 5},
        "use_rslora": True,
    },
    "whole": {"target_modules": ATTENTION, "modules_to_save": ["embed_tokens", "lm_head", "norm"]},
    "embedding": {"target_modules": ["embed_tokens", "lm_head", "q_proj"]},
    "tokens": {"target_modules": ATTENTION, "trainable_token_indices": [299, 5, 120]},
    "tokens of both": {
        "target_modules": ATTENTION,
        "trainable_token_indices": {"embed_tokens": [7, 298], "lm_head": [298, 0, 3]},
    },
}
BIASED: dict[str, dict[str, Any]] = {
    "lora_bias": {"target_modules": ATTENTION, "lora_bias": True, "lora_alpha": 8},
    "bias lora_only": {"target_modules": ATTENTION, "bias": "lora_only"},
    "bias all": {"target_modules": ["q_proj"], "bias": "all"},
}
MIXTRAL: dict[str, dict[str, Any]] = {
    "fused": {"target_modules": ATTENTION, "target_parameters": FUSED, "lora_alpha": 8},
    "down alone": {"target_modules": ["q_proj"], "target_parameters": FUSED[1:]},
    "gate_up alone": {"target_modules": ["q_proj"], "target_parameters": FUSED[:1]},
    "w1 w2 w3": {"target_modules": [*ATTENTION, "w1", "w2", "w3"], "lora_alpha": 8},
    "all linear": {"target_modules": "all-linear", "lora_alpha": 8},
    "router": {"target_modules": ["q_proj", "gate"], "lora_alpha": 8},
    "router alone": {"target_modules": ["gate"], "use_rslora": True},
    "whole": {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head", "gate"]},
}
CASES = [
    *(pytest.param("llama", options, {}, id=f"llama {name}") for name, options in LLAMA.items()),
    *(
        pytest.param("llama", options, {"attention_bias": True}, id=f"llama {name}")
        for name, options in BIASED.items()
    ),
    *(pytest.param("mixtral", options, {}, id=f"mixtral {n}") for n, options in MIXTRAL.items()),
]


def merged_tensors(folder: Path) -> dict[str, torch.Tensor]:
    model = ModelFolder(folder)
    return {entry.name: model.tensor(entry.name) for entry in model.all_entries()}


@pytest.mark.parametrize(("architecture", "options", "sizes"), CASES)
def test_every_tensor_equals_that_of_peft(
    tmp_path: Path, architecture: str, options: dict[str, Any], sizes: dict[str, Any]
) -> None:
    base, adapter, expected, _ = make_with_peft(tmp_path, architecture, options, **sizes)
    result = merge(model=base, adapter=adapter, out=tmp_path / "out")
    found = merged_tensors(tmp_path / "out")
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=2e-6, msg=name)
    before = merged_tensors(base)
    changed = [name for name in expected if not torch.equal(found[name], before[name])]
    assert len(changed) >= 2
    assert result.facts.max_logit_difference is not None
    assert result.facts.max_logit_difference < 1e-4


@pytest.mark.parametrize("architecture", ["llama", "mixtral"])
def test_a_bfloat16_model_is_merged_to_the_nearest_bfloat16(
    tmp_path: Path, architecture: str
) -> None:
    options = {"llama": LLAMA["lora"], "mixtral": MIXTRAL["fused"]}[architecture]
    base, adapter, expected, _ = make_with_peft(tmp_path, architecture, options)
    merge(model=base, adapter=adapter, out=tmp_path / "out", dtype="bfloat16")
    for name, tensor in merged_tensors(tmp_path / "out").items():
        assert tensor.dtype == torch.bfloat16
        # Half a unit in the last of 8 bits, and what the sums themselves may differ by.
        torch.testing.assert_close(tensor.float(), expected[name], rtol=2**-8, atol=2e-6, msg=name)


@pytest.mark.parametrize(
    ("options", "untied"),
    [
        (LLAMA["lora"], False),
        (LLAMA["tokens"], False),
        (LLAMA["whole"], True),
        ({"target_modules": ATTENTION, "modules_to_save": ["embed_tokens"]}, True),
        ({"target_modules": ATTENTION, "modules_to_save": ["lm_head"]}, True),
        (LLAMA["embedding"], True),
        (
            {
                "target_modules": ATTENTION,
                "modules_to_save": ["embed_tokens"],
                "ensure_weight_tying": True,
            },
            False,
        ),
    ],
    ids=["lora", "tokens", "both whole", "embed whole", "head whole", "embed lora", "kept tied"],
)
def test_a_tied_model_parts_its_rows_only_where_training_did(
    tmp_path: Path, options: dict[str, Any], untied: bool
) -> None:
    made = make_with_peft(tmp_path, "llama", options, tie_word_embeddings=True)
    result = merge(model=made.base, adapter=made.adapter, out=tmp_path / "out")
    assert result.facts.untied is untied
    if options != LLAMA["embedding"]:  # PEFT adds both of its pairs to the one shared matrix
        found = merged_tensors(tmp_path / "out")
        for name, tensor in made.tensors.items():
            torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=2e-6, msg=name)
    ours = load_causal_lm(tmp_path / "out")
    assert (ours.lm_head.weight is ours.model.embed_tokens.weight) is not untied
    with torch.no_grad():
        torch.testing.assert_close(ours(PROMPTS).logits, made.logits, rtol=1e-4, atol=1e-4)


def test_the_published_mixtral_layout_is_written_whatever_the_input_layout(tmp_path: Path) -> None:
    base, adapter, expected, _ = make_with_peft(tmp_path, "mixtral", MIXTRAL["all linear"])
    fuse(base, tmp_path / "fused")
    merge(model=tmp_path / "fused", adapter=adapter, out=tmp_path / "out")
    found = merged_tensors(tmp_path / "out")
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=2e-6, msg=name)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]},
        {"target_modules": ["q_proj"], "trainable_token_indices": [300, 305]},
    ],
    ids=["whole", "tokens"],
)
def test_an_adapter_saved_after_the_vocabulary_grew_needs_the_expanded_base(
    tmp_path: Path, options: dict[str, Any], tied: bool
) -> None:
    """PEFT then saves the base's matrices too, under names of their own."""
    made = make_with_peft(tmp_path, "llama", options, rows=310, tie_word_embeddings=tied)
    names = load_file(made.adapter / "adapter_model.safetensors")
    assert any("original_module" in name or "base_layer" in name for name in names)
    merge(model=made.base, adapter=made.adapter, out=tmp_path / "out")
    found = merged_tensors(tmp_path / "out")
    for name, tensor in made.tensors.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=2e-6, msg=name)
    small = SAVERS["llama"](tmp_path / "small", tie_word_embeddings=tied).path
    with pytest.raises(InputError, match=r"310|300 rows"):
        merge(model=small, adapter=made.adapter, out=tmp_path / "none")


def fuse(base: Path, folder: Path) -> None:
    """Save a Mixtral as transformers holds it in memory: experts fused, as some tools do."""
    from safetensors.torch import save_file

    folder.mkdir()
    model = load_causal_lm(base)
    save_file(dict(model.state_dict()), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_bytes((base / "config.json").read_bytes())
    names = load_file(folder / "model.safetensors")
    assert "model.layers.0.mlp.experts.gate_up_proj" in names
