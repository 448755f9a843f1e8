from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pico import save_llama, save_mixtral
from safetensors.torch import save_file

from lingraft.models import ModelFolder, load_causal_lm
from lingraft.train.adapter import adapter_config, adapter_tensors
from lingraft.train.build import Built, build
from lingraft.train.settings import LoraSettings

IDS = torch.arange(24).view(2, 12) * 11
LORA = LoraSettings(rank=4, alpha=12.0, dropout=0.1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    return save_mixtral(tmp_path_factory.mktemp("model"))


def moved_model(folder: ModelFolder, lora: LoraSettings = LORA, **rows: Any) -> Built:
    """A model whose trained matrices are all away from their start."""
    cpu = torch.device("cpu")
    built = build(folder, lora, quantize="none", dtype="float32", seed=1, device=cpu, **rows)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in [*built.lora.values(), *built.embed.values(), *built.added.values()]:
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    built.model.eval()
    return built


def test_names_are_the_classic_ones_of_every_expert(folder: ModelFolder) -> None:
    tensors = adapter_tensors(moved_model(folder).pairs, {"lm_head.weight": torch.zeros(2, 2)})
    prefix = "base_model.model.model.layers.1."
    experts = f"{prefix}block_sparse_moe.experts.3"
    assert tensors[f"{experts}.w1.lora_A.weight"].shape == (4, 32)
    assert tensors[f"{experts}.w2.lora_B.weight"].shape == (32, 4)
    assert tensors[f"{prefix}self_attn.k_proj.lora_B.weight"].shape == (16, 4)
    assert "base_model.model.lm_head.weight" in tensors
    assert len(tensors) == 2 * 2 * (4 + 12) + 1
    assert list(tensors) == sorted(tensors)


def test_the_config_says_dropout_0_and_no_path() -> None:
    config = adapter_config(LORA, ["q_proj", "w2"])
    assert config["lora_dropout"] == 0.0
    assert config["base_model_name_or_path"] == ""
    assert (config["r"], config["lora_alpha"]) == (4, 12.0)
    assert config["target_modules"] == ["q_proj", "w2"]
    assert config["modules_to_save"] == ["embed_tokens", "lm_head"]
    assert adapter_config(LORA, ["q_proj"], rows=False)["modules_to_save"] is None


DENSE = LoraSettings(rank=4, alpha=12.0, targets=["q_proj", "o_proj", "up_proj"])
CASES: list[tuple[str, LoraSettings, dict[str, Any]]] = [
    ("mixtral", LORA, {}),
    ("mixtral", LORA, {"rows": "added", "num_base": 250}),
    ("mixtral", LORA, {"rows": "none"}),
    ("mixtral", LoraSettings(rank=4, alpha=12.0, targets=["w2"]), {}),
    ("mixtral", LoraSettings(rank=4, alpha=12.0, targets=["w3", "w1", "w2", "k_proj"]), {}),
    ("mixtral", LoraSettings(rank=3, alpha=12.0, targets=["gate"]), {"rows": "none"}),
    ("mixtral", LoraSettings(rank=3, alpha=12.0, targets=["gate", "w2"]), {}),
    ("mixtral", LoraSettings(rank=3, alpha=12.0, targets=["all", "gate"]), {}),
    ("llama", DENSE, {}),
    ("tied llama", DENSE, {}),
    ("tied llama", DENSE, {"rows": "added", "num_base": 250}),
]


@pytest.mark.parametrize(
    ("targets", "missing"),
    [
        (["w1"], "w2, w3"),
        (["q_proj", "w3"], "w1, w2"),
        (["w1", "w3"], "w2"),
        (["w1", "w2"], "w3"),
    ],
)
def test_half_an_expert_is_refused(targets: Any, missing: str) -> None:
    """PEFT 0.21 fuses w1 and w3 when it loads: it gives other logits, or refuses the file."""
    with pytest.raises(ValueError, match=f"lacks {missing}; w1 and w3 need all"):
        LoraSettings(targets=targets)


@pytest.mark.filterwarnings("ignore")  # PEFT says it ignored patterns that it applies
@pytest.mark.parametrize(("kind", "lora", "rows"), CASES)
def test_plain_peft_loads_it_and_says_the_same(
    tmp_path: Path, kind: str, lora: LoraSettings, rows: dict[str, Any]
) -> None:
    peft = pytest.importorskip("peft")
    save = save_mixtral if kind == "mixtral" else save_llama
    built = moved_model(
        save(tmp_path / "base", tie_word_embeddings=kind.startswith("tied")), lora, **rows
    )
    save_file(
        {k: v.clone() for k, v in adapter_tensors(built.pairs, built.rows).items()},
        tmp_path / "adapter_model.safetensors",
        metadata={"format": "pt"},
    )
    config = adapter_config(lora, built.roles, bool(built.rows))
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    base = load_causal_lm(tmp_path / "base")
    untrained = base(input_ids=IDS).logits.detach()
    model = peft.PeftModel.from_pretrained(base, tmp_path).eval()
    with torch.no_grad():
        found, expected = model(input_ids=IDS).logits, built.model(input_ids=IDS).logits
    assert (expected - untrained).abs().max() > 0.5
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
