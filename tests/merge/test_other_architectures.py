"""Models that name, tie or turn their matrices in another way than a Llama."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from peft_adapters import PROMPTS, SAVERS, Made, make_with_peft
from safetensors.torch import load_file, save_file

from lingraft.errors import InputError, UsageError
from lingraft.merge import merge, streamed
from lingraft.merge.sums import Sums
from lingraft.models import ModelFolder, load_causal_lm

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 300,
    "max_position_embeddings": 64,
}
INNER = {**SIZES, "intermediate_size": 64}
GROUPED = {**INNER, "num_key_value_heads": 2, "head_dim": 8}
CONFIGS: Mapping[str, Mapping[str, Any]] = {
    "opt": {**SIZES, "ffn_dim": 64, "word_embed_proj_dim": 32},
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4, "vocab_size": 300},
    "falcon": SIZES,
    "gpt_neox": INNER,
    "phi": INNER,
    "gemma3_text": GROUPED,
    "qwen3_moe": {
        **GROUPED,
        "moe_intermediate_size": 16,
        "num_experts": 4,
        "num_experts_per_tok": 2,
    },
}


def save(architecture: str, folder: Path, **sizes: Any) -> ModelFolder:
    """Save a random model of an architecture."""
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    torch.manual_seed(3)
    config = CONFIG_MAPPING[architecture](**{**CONFIGS[architecture], **sizes})
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return ModelFolder(folder)


def make(
    monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, options: Any, **sizes: Any
) -> Made:
    monkeypatch.setitem(SAVERS, name, lambda path, **more: save(name, path, **more))
    return make_with_peft(folder, name, options, **sizes)


def check_against_peft(made: Made, folder: Path, **options: Any) -> None:
    """Merge, load with transformers, and compare with the base and the adapter beside it."""
    merge(model=made.base, adapter=made.adapter, out=folder, **options)
    with torch.no_grad():
        logits = load_causal_lm(folder)(PROMPTS).logits
    torch.testing.assert_close(logits, made.logits, rtol=1e-4, atol=1e-5)


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def change_tensors(folder: Path, changes: Mapping[str, torch.Tensor]) -> None:
    path = folder / "model.safetensors"
    save_file({**load_file(path), **changes}, path, metadata={"format": "pt"})


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("more", [[], ["embed"], ["head"]], ids=["body", "embed", "head"])
@pytest.mark.parametrize(
    ("name", "module", "embed", "sizes"),
    [
        ("opt", "q_proj", "embed_tokens", {}),
        ("bloom", "query_key_value", "word_embeddings", {}),
        ("falcon", "query_key_value", "word_embeddings", {}),
        ("gpt_neox", "query_key_value", "embed_in", {}),
        ("gpt_neox", "query_key_value", "embed_in", {"tie_word_embeddings": True}),
        ("phi", "q_proj", "embed_tokens", {}),
        ("gemma3_text", "q_proj", "embed_tokens", {}),
    ],
)
def test_other_names_and_ties_are_merged_as_peft_runs_them(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    module: str,
    embed: str,
    sizes: dict[str, Any],
    more: list[str],
    verify: bool,
) -> None:
    options: dict[str, Any] = {"target_modules": [module, *([embed] if "embed" in more else [])]}
    if "head" in more:
        options["modules_to_save"] = ["lm_head"]
    made = make(monkeypatch, tmp_path, name, options, **sizes)
    check_against_peft(made, tmp_path / "out", verify=verify)


def test_a_router_saved_whole_keeps_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"target_modules": ["q_proj"], "modules_to_save": ["gate"]}
    check_against_peft(make(monkeypatch, tmp_path, "qwen3_moe", options), tmp_path / "out")


TURNED: list[dict[str, Any]] = [
    {"target_modules": ["attn.c_proj", "lm_head"]},  # square, and PEFT saves the head's sense
    {"target_modules": ["attn.c_proj", "c_fc"], "use_dora": True},
    {"target_modules": ["attn.c_proj", "wte", "wpe"]},
]


@pytest.mark.parametrize("options", TURNED, ids=["and head", "dora", "and embeddings"])
@pytest.mark.parametrize("on_hub", [False, True])
def test_matrices_stored_turned_are_merged_beside_others_that_are_not(
    tmp_path: Path, options: dict[str, Any], on_hub: bool
) -> None:
    made = make_with_peft(tmp_path, "gpt2", options)
    if on_hub:  # gpt2 of the hub names its tensors without `transformer.`
        path = made.base / "model.safetensors"
        tensors = {k.removeprefix("transformer."): v for k, v in load_file(path).items()}
        save_file(tensors, path, metadata={"format": "pt"})
    check_against_peft(made, tmp_path / "out")


def test_a_turned_matrix_merged_wrongly_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_with_peft(tmp_path, "gpt2", {"target_modules": ["attn.c_proj"]})
    monkeypatch.setattr(Sums, "merged", Sums.replaced)  # the adapter is forgotten
    with pytest.raises(Exception, match="logits of the merged model differ"):
        merge(model=made.base, adapter=made.adapter, out=tmp_path / "out")


def test_a_turned_matrix_placed_otherwise_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_with_peft(tmp_path, "gpt2", {"target_modules": ["attn.c_proj"]})
    monkeypatch.setattr("lingraft.merge.targets.is_turned", lambda config, name: False)
    with pytest.raises(UsageError, match=r"attn\.c_proj\.weight' is stored turned"):
        merge(model=made.base, adapter=made.adapter, out=tmp_path / "out")


def test_a_sense_that_cannot_be_told_is_refused(tmp_path: Path) -> None:
    made = make_with_peft(tmp_path, "gpt2", {"target_modules": ["c_attn"]})
    change_config(made.base, model_type="unheard_of")
    with pytest.raises(InputError, match="fan_in_fan_out, for a model of type 'unheard_of'"):
        merge(model=made.base, adapter=made.adapter, out=tmp_path / "out", verify=False)


def test_an_nf4_body_needs_linear_maps_that_are_known(tmp_path: Path) -> None:
    made = make_with_peft(tmp_path, "gpt2", {"target_modules": ["c_attn"]})
    for options in ({"body": "nf4"}, {"both_bodies": True}):
        with pytest.raises(UsageError, match="no linear map of a layer is known"):
            merge(model=made.base, adapter=made.adapter, out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("failing", ["config", "class", "module"])
def test_what_cannot_be_compared_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    made = make_with_peft(tmp_path, "llama", {"target_modules": ["q_proj"]})
    if failing == "config":
        change_config(made.base, model_type="unheard_of")
    elif failing == "class":
        change_config(made.base, model_type="t5")
    else:
        monkeypatch.setattr(streamed, "_is_linear", lambda module: False)
        monkeypatch.setattr(streamed, "_keeps_sense", lambda module: False)
    with pytest.raises(UsageError, match=r"(?s)cannot be compared.*--no-verify") as told:
        merge(model=made.base, adapter=made.adapter, out=tmp_path / "out")
    assert not list(tmp_path.glob("out*"))
    assert not list(tmp_path.glob(".draft-out/*.safetensors"))
    if failing == "module":
        assert "what its module computes is not known" in str(told.value)


TWICE: list[tuple[dict[str, Any], bool]] = [
    ({"target_modules": ["q_proj"]}, False),
    ({"target_modules": ["q_proj"], "trainable_token_indices": [5, 299]}, False),
    ({"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]}, True),
    ({"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}, True),
    ({"target_modules": ["q_proj", "embed_tokens"]}, True),
]


@pytest.mark.parametrize(("options", "untied"), TWICE)
def test_a_tied_matrix_that_is_stored_twice_is_one(
    tmp_path: Path, options: dict[str, Any], untied: bool
) -> None:
    made = make_with_peft(tmp_path, "llama", options, tie_word_embeddings=True)
    embed = load_file(made.base / "model.safetensors")["model.embed_tokens.weight"]
    change_tensors(made.base, {"lm_head.weight": embed.clone()})
    check_against_peft(made, tmp_path / "out")
    merged = ModelFolder(tmp_path / "out")
    same = torch.equal(merged.tensor("model.embed_tokens.weight"), merged.tensor("lm_head.weight"))
    assert same is not untied
    assert merged.config["tie_word_embeddings"] is not untied


def test_two_matrices_that_the_config_ties_must_be_equal(tmp_path: Path) -> None:
    made = make_with_peft(
        tmp_path, "llama", {"target_modules": ["q_proj"]}, tie_word_embeddings=True
    )
    change_tensors(made.base, {"lm_head.weight": torch.ones(300, 32)})
    with pytest.raises(InputError, match="rows 0 differ"):
        merge(model=made.base, adapter=made.adapter, out=tmp_path / "out")


def test_a_tied_matrix_of_an_unknown_name_is_not_changed(tmp_path: Path) -> None:
    options = {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]}
    made = make_with_peft(tmp_path, "llama", options, tie_word_embeddings=True)
    for path in (made.base / "model.safetensors", made.adapter / "adapter_model.safetensors"):
        tensors = {k.replace("embed_tokens", "signs"): v for k, v in load_file(path).items()}
        save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"which tensor holds the input rows is not known"):
        merge(model=made.base, adapter=made.adapter, out=tmp_path / "out", verify=False)


def test_whole_numbers_are_kept_as_they_are(tmp_path: Path) -> None:
    made = make_with_peft(tmp_path, "llama", {"target_modules": ["q_proj"]})
    numbers = torch.tensor([3, 2**40 + 1])
    change_tensors(made.base, {"model.numbers": numbers, "model.wide": numbers.double()})
    merge(model=made.base, adapter=made.adapter, out=tmp_path / "kept")
    merge(model=made.base, adapter=made.adapter, out=tmp_path / "small", dtype="bfloat16")
    for name in ("kept", "small"):
        assert torch.equal(ModelFolder(tmp_path / name).tensor("model.numbers"), numbers)
    assert ModelFolder(tmp_path / "small").entry("model.wide").dtype == "BF16"


def test_codes_are_no_weights(tmp_path: Path) -> None:
    made = make_with_peft(tmp_path, "llama", {"target_modules": ["q_proj"]})
    name = "model.layers.0.self_attn.q_proj.weight"
    change_tensors(made.base, {name: torch.ones(32, 32, dtype=torch.int8)})
    with pytest.raises(InputError, match=r"q_proj\.weight', which is I8"):
        merge(model=made.base, adapter=made.adapter, out=tmp_path / "out")
    change_config(made.base, quantization_config={"quant_method": "gptq"})
    with pytest.raises(InputError, match=r"weights are quantized \(gptq\)"):
        merge(model=made.base, adapter=made.adapter, out=tmp_path / "out")


@pytest.mark.parametrize("verify", [True, False])
def test_a_base_with_nan_is_refused_with_tensor_and_row(tmp_path: Path, verify: bool) -> None:
    made = make_with_peft(tmp_path, "llama", {"target_modules": ["q_proj"]})
    name = "model.layers.1.mlp.up_proj.weight"
    weight = load_file(made.base / "model.safetensors")[name]
    weight[3, 1] = float("nan")
    change_tensors(made.base, {name: weight})
    with pytest.raises(InputError, match=r"1\.mlp\.up_proj\.weight'.*not finite.*row\(s\) 3"):
        merge(model=made.base, adapter=made.adapter, out=tmp_path / "out", verify=verify)


def test_numbers_beyond_the_storage_are_refused(tmp_path: Path) -> None:
    made = make_with_peft(tmp_path, "llama", {"target_modules": ["q_proj"]})
    change_tensors(made.base, {"model.norm.weight": torch.full((32,), 1e5)})
    with pytest.raises(InputError, match=r"norm\.weight', merged, holds 1e\+05, more than F16 can"):
        merge(model=made.base, adapter=made.adapter, out=tmp_path / "out", dtype="float16")
