"""One loader: whole or in 4 bits; what is missing is told before or instead of loading."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from grafts import base_folder
from pico import save_mixtral
from safetensors.torch import load_file, save_file

from lingraft import packedcache
from lingraft.errors import InputError, MissingPackageError, UsageError
from lingraft.evals import loading, placing, plans
from lingraft.evals.loading import load_model
from lingraft.evals.placing import labels_of, locate_model, read_tokenizer_of
from lingraft.evals.plans import LoadPlan, check_plan
from lingraft.nf4 import round_trip

IDS = torch.arange(5, 40).unsqueeze(0)


def no_package(name: str) -> bool:
    return False


def test_labels_are_as_short_as_they_may_be() -> None:
    assert labels_of(["runs/a/70-merge", "runs/b/70-merge", "base"]) == [
        "a/70-merge", "b/70-merge", "base",
    ]  # fmt: skip
    assert labels_of(["/m", "/x/m"]) == ["//m", "x/m"]
    with pytest.raises(UsageError, match="named twice"):
        labels_of(["a/b", "./a/b"])


def test_a_model_tells_how_it_was_loaded(tmp_path: Path) -> None:
    loaded = load_model(str(base_folder(tmp_path / "base")), LoadPlan(attn="eager"))
    assert (loaded.name, loaded.context) == ("base", 64)
    assert loaded.describe() == {
        "load": "full", "dtype": "float32", "attention": "eager", "device": "cpu",
    }  # fmt: skip
    half = load_model(str(tmp_path / "base"), LoadPlan(dtype="bfloat16"), "half")
    assert (half.name, half.describe()["dtype"]) == ("half", "bfloat16")


def test_a_mixtral_in_4_bits_is_the_model_of_the_rounded_weights(tmp_path: Path) -> None:
    save_mixtral(tmp_path)
    packed = load_model(str(tmp_path), LoadPlan(load="4bit"))
    rounded = load_model(str(tmp_path), LoadPlan())
    with torch.no_grad():
        for name, weight in rounded.model.named_parameters():
            if name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight", "o_proj.weight")):
                weight.copy_(round_trip(weight))
            if weight.ndim == 3:
                for matrices in weight:
                    parts = matrices.chunk(2) if "gate_up" in name else [matrices]
                    for part in parts:
                        part.copy_(round_trip(part))
        expected = rounded.model(IDS).logits
        found = packed.model(IDS).logits
        plain = load_model(str(tmp_path), LoadPlan()).model(IDS).logits
    assert torch.allclose(found, expected, atol=1e-5)
    assert (plain - expected).abs().max() > 0.01
    assert packed.model.generate(IDS, max_new_tokens=3, do_sample=False).shape[1] > IDS.shape[1]


def test_a_mixtrals_packed_weights_are_kept_and_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_mixtral(tmp_path / "model")
    plan = LoadPlan(load="4bit", packed_cache=str(tmp_path / "kept"))
    with torch.no_grad():
        expected = load_model(str(tmp_path / "model"), LoadPlan(load="4bit")).model(IDS).logits
        first = load_model(str(tmp_path / "model"), plan).model(IDS).logits
        monkeypatch.setattr(packedcache, "quantize", no_package)
        again = load_model(str(tmp_path / "model"), plan).model(IDS).logits
    assert torch.equal(first, expected)
    assert torch.equal(again, expected)


def test_where_packed_weights_are_kept_decides_no_result() -> None:
    kept, plain = LoadPlan(load="4bit", packed_cache="there"), LoadPlan(load="4bit")
    assert kept.deciding() == plain.deciding()
    assert plain.deciding() != LoadPlan().deciding()


def test_a_tied_mixtral_in_4_bits_has_one_matrix(tmp_path: Path) -> None:
    save_mixtral(tmp_path, tie_word_embeddings=True)
    model = load_model(str(tmp_path), LoadPlan(load="4bit", attn="eager")).model
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_a_mixtral_with_more_than_it_should_have_is_not_packed(tmp_path: Path) -> None:
    save_mixtral(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    content = json.loads(index.read_text(encoding="utf-8"))
    content["weight_map"]["model.extra"] = "extra.safetensors"
    index.write_text(json.dumps(content), encoding="utf-8")
    save_file({"model.extra": torch.zeros(2)}, tmp_path / "extra.safetensors")
    with pytest.raises(InputError, match=r"1 tensors have no place.*model\.extra"):
        load_model(str(tmp_path), LoadPlan(load="4bit"))


def test_a_model_without_some_tensor_is_refused(tmp_path: Path) -> None:
    folder = base_folder(tmp_path / "base")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"1 tensors.*missing.*layers\.1\.mlp\.up_proj"):
        load_model(str(folder), LoadPlan())


def test_what_transformers_cannot_load_is_told(tmp_path: Path) -> None:
    folder = base_folder(tmp_path / "base")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(
        json.dumps(config | {"model_type": "none", "architectures": ["None"]}), encoding="utf-8"
    )
    with pytest.raises(InputError, match="transformers cannot load it"):
        load_model(str(folder), LoadPlan())


def test_a_tokenizer_that_transformers_cannot_read_is_told(tmp_path: Path) -> None:
    folder = base_folder(tmp_path / "base")
    (folder / "tokenizer.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="cannot read its tokenizer"):
        _ = load_model(str(folder), LoadPlan()).tokenizer
    with pytest.raises(InputError, match="cannot read its tokenizer"):
        read_tokenizer_of(folder, LoadPlan())


def test_a_folder_at_the_root_is_no_hub_name() -> None:
    with pytest.raises(UsageError, match="/none: no such folder"):
        locate_model("/none", LoadPlan())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no/such/folder", "no such folder"),
        ("a.gguf", "from-gguf"),
        ("adapter", "lingraft merge"),
    ],
)
def test_a_place_that_holds_no_model_is_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    with pytest.raises(UsageError, match=message):
        locate_model(str(tmp_path / name), LoadPlan())


@pytest.mark.parametrize("has_safetensors", [True, False])
def test_a_hub_name_is_fetched_with_its_own_code_only_if_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_safetensors: bool
) -> None:
    asked: list[tuple[str, ...]] = []

    def fetch(source: str, kind: str, revision: str, patterns: tuple[str, ...]) -> Path:
        asked.append(patterns)
        assert (source, kind) == ("hub:owner/name", "model")
        return tmp_path

    if has_safetensors:
        (tmp_path / "model.safetensors").touch()
    monkeypatch.setattr(placing, "fetch_snapshot", fetch)
    assert locate_model("owner/name", LoadPlan()) == tmp_path
    assert locate_model("hub:owner/name", LoadPlan(trust_remote_code=True)) == tmp_path
    has_code = [
        "*.py" in patterns
        for patterns in asked
        if "config.json" in str(patterns) or "*.json" in patterns
    ]
    assert has_code == [False, True]
    assert any("pytorch_model*.bin" in patterns for patterns in asked) is not has_safetensors


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (LoadPlan(load="8bit"), "--load 8bit: expected one of full, 4bit"),
        (LoadPlan(attn="flash"), "--attn flash: expected one of sdpa"),
        (LoadPlan(dtype="int8"), "--dtype int8"),
        (LoadPlan(device="gpu"), "--device gpu: expected auto"),
        (LoadPlan(device="cuda:99"), "--device cuda:99: this machine has"),
        (LoadPlan(packed_cache="there"), "--packed-cache there without 4 bits"),
        (LoadPlan(load="4bit", packed_cache="none"), "--packed-cache none: expected a folder"),
        (LoadPlan(device="cpu", attn="flash_attention_2"), "NVIDIA GPUs only"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(plan: LoadPlan, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_plan(plan)


def test_flash_attention_needs_its_package_and_16_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "device_of", lambda plan: torch.device("cuda"))
    monkeypatch.setattr(plans, "has_package", no_package)
    with pytest.raises(MissingPackageError, match="flash-attn"):
        check_plan(LoadPlan(attn="flash_attention_2"))
    with pytest.raises(MissingPackageError, match="accelerate"):
        check_plan(LoadPlan(device="split"))
    monkeypatch.setattr(plans, "has_package", lambda name: True)
    check_plan(LoadPlan(attn="flash_attention_2"))
    with pytest.raises(UsageError, match="16 bits only"):
        check_plan(LoadPlan(attn="flash_attention_2", dtype="float32"))


def test_4_bits_of_other_models_need_bitsandbytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = base_folder(tmp_path / "base")
    monkeypatch.setattr(loading, "has_package", no_package)
    with pytest.raises(MissingPackageError, match="bitsandbytes and accelerate"):
        load_model(str(folder), LoadPlan(load="4bit"))


def test_experts_that_stay_in_16_bits_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """bitsandbytes is not needed to see it: what comes back has a parameter of three dimensions."""
    folder = base_folder(tmp_path / "base")
    model = torch.nn.Module()
    model.experts = torch.nn.Module()
    model.experts.gate_up_proj = torch.nn.Parameter(torch.zeros(2, 4, 4))
    told: dict[str, Any] = {"missing_keys": set()}
    seen: dict[str, Any] = {}

    def load(path: Path, **options: Any) -> Any:
        seen.update(options)
        return model, told

    monkeypatch.setattr(loading, "_four_bits", lambda dtype: SimpleNamespace(dtype=dtype))
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", load)
    with pytest.raises(InputError, match="leaves its experts in 16 bits"):
        load_model(str(folder), LoadPlan(load="4bit", attn="sdpa"))
    assert seen["quantization_config"].dtype is torch.float32
    assert seen["attn_implementation"] == "sdpa"
    assert seen["trust_remote_code"] is False
