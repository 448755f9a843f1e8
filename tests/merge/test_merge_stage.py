from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
import torch
from artefacts import SEED, empty_draft, make_artefact
from pico import save_llama, save_mixtral
from safetensors.torch import save_file

from lingraft.errors import InputError, UsageError, VerifyError
from lingraft.manifest import Facts, Identity
from lingraft.merge import stage
from lingraft.merge.fold import is_linear
from lingraft.merge.settings import MergeFacts, MergeSettings
from lingraft.merge.sums import Prepared, Sums
from lingraft.merge.targets import Target
from lingraft.merge.verify import fixed_prompts
from lingraft.models import TOKENIZER_FILES, ModelFolder
from lingraft.nf4 import round_trip
from lingraft.progress import SilentReporter
from lingraft.store import Artefact, open_draft

ALPHA, RANK = 8.0, 4
CONFIG = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "bias": "none"}
EXPERT = "model.layers.1.block_sparse_moe.experts.3.w2"
PREFIX = "base_model.model."


def random_adapter(model: ModelFolder) -> dict[str, torch.Tensor]:
    """An adapter on every linear map, and both embeddings whole."""
    generator = torch.Generator().manual_seed(4)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * 0.1

    tensors = {}
    for entry in model.all_entries():
        if is_linear(entry.name):
            module = PREFIX + entry.name.removesuffix(".weight")
            tensors[f"{module}.lora_A.weight"] = random(RANK, entry.shape[1])
            tensors[f"{module}.lora_B.weight"] = random(entry.shape[0], RANK)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        tensors[PREFIX + name] = random(*model.entry(name).shape)
    return tensors


Save = Callable[[Path], ModelFolder]
Body = Literal["original", "nf4"]
Dtype = Literal["keep", "float32", "bfloat16", "float16"]


def make_inputs(
    folder: Path,
    save: Save = save_mixtral,
    quantize: str = "nf4",
    change: Callable[[dict[str, torch.Tensor]], object] = lambda tensors: None,
) -> dict[str, Artefact]:
    def fill_embed(path: Path) -> Facts:
        save(path)
        for name in TOKENIZER_FILES:
            (path / name).write_text(f"content of {name}")
        return Facts()

    embed = make_artefact(folder, "40-embed", fill_embed)
    identity = Identity(
        stage="train", stage_version=1, settings={"quantize": quantize}, seed=SEED, inputs={}
    )
    draft = open_draft(folder / "60-train", identity, SilentReporter(), resumable=True)
    adapter = draft.path / "adapter"
    adapter.mkdir()
    tensors = random_adapter(ModelFolder(embed.path))
    change(tensors)
    save_file(tensors, adapter / "adapter_model.safetensors")
    (adapter / "adapter_config.json").write_text(json.dumps(CONFIG))
    return {"embed": embed, "train": draft.seal(Facts(), {})}


def merge(
    folder: Path, inputs: dict[str, Artefact], body: Body = "original", dtype: Dtype = "keep"
) -> Artefact:
    draft = empty_draft(folder, "70-merge")
    facts = stage.run(MergeSettings(body=body, dtype=dtype), inputs, draft)
    return draft.seal(facts, {})


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artefact]:
    return make_inputs(tmp_path_factory.mktemp("run"))


def delta(inputs: dict[str, Artefact], module: str) -> torch.Tensor:
    tensors = random_adapter(ModelFolder(inputs["embed"].path))
    a, b = (tensors[f"{PREFIX}{module}.lora_{side}.weight"] for side in "AB")
    return ALPHA / RANK * b @ a


def test_the_folder_has_the_published_names_shards_and_files(
    inputs: dict[str, Artefact], tmp_path: Path
) -> None:
    before = ModelFolder(inputs["embed"].path)
    merged = merge(tmp_path, inputs)
    after = ModelFolder(merged.path)
    assert after.weight_map == before.weight_map
    assert after.all_entries() == before.all_entries()
    assert after.config == before.config
    for name in ("generation_config.json", *TOKENIZER_FILES):
        assert (after.path / name).read_text() == (before.path / name).read_text()


def test_weights_are_base_plus_adapter_and_the_rest_is_kept(
    inputs: dict[str, Artefact], tmp_path: Path
) -> None:
    before, after = ModelFolder(inputs["embed"].path), ModelFolder(merge(tmp_path, inputs).path)
    expected = before.tensor(f"{EXPERT}.weight") + delta(inputs, EXPERT)
    torch.testing.assert_close(after.tensor(f"{EXPERT}.weight"), expected)
    router = "model.layers.0.block_sparse_moe.gate.weight"
    assert torch.equal(after.tensor(router), before.tensor(router))
    head = random_adapter(before)[f"{PREFIX}lm_head.weight"]
    assert torch.equal(after.tensor("lm_head.weight"), head)


def test_facts_count_every_tensor(inputs: dict[str, Artefact], tmp_path: Path) -> None:
    facts = MergeFacts.model_validate(merge(tmp_path, inputs).facts)
    # 2 layers of 4 + 12 linear maps; two embeddings; 2 layers of router and 2 norms, 1 norm.
    counts = (facts.tensors_merged, facts.tensors_replaced, facts.tensors_kept)
    assert counts == (32, 2, 7)
    assert facts.size_bytes == 4 * (2 * (3_072 + 24_576 + 128 + 64) + 32 + 2 * 300 * 32)
    assert facts.max_logit_difference is not None
    assert facts.max_logit_difference < 1e-4


def test_the_nf4_body_is_what_training_saw(inputs: dict[str, Artefact], tmp_path: Path) -> None:
    merged = merge(tmp_path, inputs, body="nf4")
    weight = ModelFolder(inputs["embed"].path).tensor(f"{EXPERT}.weight")
    expected = round_trip(weight) + delta(inputs, EXPERT)
    torch.testing.assert_close(ModelFolder(merged.path).tensor(f"{EXPERT}.weight"), expected)
    assert merged.facts["max_logit_difference"] < 1e-4


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_another_dtype_is_stored_and_told(
    inputs: dict[str, Artefact], tmp_path: Path, dtype: Dtype
) -> None:
    merged = ModelFolder(merge(tmp_path, inputs, dtype=dtype).path)
    assert merged.config["dtype"] == dtype
    assert {merged.tensor(e.name).dtype for e in merged.all_entries()} == {getattr(torch, dtype)}


def test_a_bfloat16_model_stays_one(tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path, lambda path: save_mixtral(path, torch.bfloat16))
    merged = ModelFolder(merge(tmp_path, inputs).path)
    assert {entry.dtype for entry in merged.all_entries()} == {"BF16"}


def test_a_dense_model_is_merged_too(tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path, save_llama)
    for body in ("original", "nf4"):
        assert merge(tmp_path / body, inputs, body=body).facts["tensors_merged"] == 2 * 7


def test_shards_without_change_are_linked(tmp_path: Path) -> None:
    def only_the_head(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if "lm_head" not in name]:
            del tensors[name]

    inputs = make_inputs(tmp_path, change=only_the_head)
    merged = ModelFolder(merge(tmp_path, inputs).path)
    changed = merged.weight_map["lm_head.weight"]
    for shard in merged.shards:
        same = (merged.path / shard).samefile(inputs["embed"].path / shard)
        assert same == (shard != changed)


def test_the_same_merge_twice_has_the_same_digest(
    inputs: dict[str, Artefact], tmp_path: Path
) -> None:
    first, second = (merge(tmp_path / name, inputs).manifest.digest for name in "ab")
    assert first == second


def test_an_adapter_of_another_model_is_refused(tmp_path: Path) -> None:
    def add_layer(tensors: dict[str, torch.Tensor]) -> None:
        module = f"{PREFIX}model.layers.7.self_attn.q_proj"
        tensors |= {f"{module}.lora_{side}.weight": torch.zeros(1, 1) for side in "AB"}

    inputs = make_inputs(tmp_path, change=add_layer)
    with pytest.raises(InputError, match=r"layers\.7"):
        merge(tmp_path, inputs)


def test_the_nf4_body_without_nf4_training_is_refused(tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path, quantize="none")
    with pytest.raises(UsageError, match=r'train\.quantize = "none"'):
        merge(tmp_path, inputs, body="nf4")


@pytest.mark.parametrize("dtype", ["keep", "bfloat16"])
@pytest.mark.parametrize("body", ["original", "nf4"])
@pytest.mark.parametrize(
    "spoilt", [f"{EXPERT}.weight", "model.layers.0.self_attn.v_proj.weight", "lm_head.weight"]
)
def test_a_wrong_merge_of_one_matrix_is_noticed(
    inputs: dict[str, Artefact],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoilt: str,
    body: Body,
    dtype: Dtype,
) -> None:
    merged = Sums.merged

    def forgetful(
        self: Sums, target: Target, prepared: Prepared, first: int, last: int
    ) -> torch.Tensor:
        if target.entry.name == spoilt:
            part = target.part
            return self._model.rows(part.stored, first, last)
        return merged(self, target, prepared, first, last)

    monkeypatch.setattr(Sums, "merged", forgetful)
    with pytest.raises(VerifyError, match="logits of the merged model differ"):
        merge(tmp_path, inputs, body=body, dtype=dtype)


def test_an_adapter_with_nan_is_refused(tmp_path: Path) -> None:
    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        tensors[f"{PREFIX}lm_head.weight"][5, 5] = float("nan")

    inputs = make_inputs(tmp_path, change=spoil)
    with pytest.raises(InputError, match=r"lm_head\.weight'.*not finite, first in row\(s\) 5"):
        merge(tmp_path, inputs)


def test_a_merge_that_is_no_number_is_noticed(
    inputs: dict[str, Artefact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    merged = Sums.merged

    def spoil(
        self: Sums, target: Target, prepared: Prepared, first: int, last: int
    ) -> torch.Tensor:
        rows = merged(self, target, prepared, first, last)
        return rows * float("nan") if target.entry.name == f"{EXPERT}.weight" else rows

    monkeypatch.setattr(Sums, "merged", spoil)
    with pytest.raises(InputError, match=r"experts\.3\.w2\.weight', merged: .* not finite"):
        merge(tmp_path / "a", inputs)
    monkeypatch.setattr("lingraft.merge.sums.is_finite", lambda _: True)
    with pytest.raises(VerifyError, match="differ by nan"):
        merge(tmp_path / "b", inputs)


def test_both_bodies_are_compared_where_training_saw_nf4(
    inputs: dict[str, Artefact], tmp_path: Path
) -> None:
    original = merge(tmp_path / "a", inputs).facts
    nf4 = merge(tmp_path / "b", inputs, body="nf4").facts
    for facts in (original, nf4):
        # What quantisation moves is far more than rounding of float32.
        assert facts["max_logit_difference"] < 1e-4
        assert facts["max_logit_difference_other_body"] > 1e-3


def test_one_body_is_compared_where_it_did_not(tmp_path: Path) -> None:
    facts = merge(tmp_path, make_inputs(tmp_path, quantize="none")).facts
    assert facts["max_logit_difference_other_body"] is None


def test_prompts_are_spread_over_the_whole_vocabulary() -> None:
    prompts = fixed_prompts(57_000)
    assert prompts.shape == (4, 32)
    assert len(set(prompts.flatten().tolist())) == 128
    assert int(prompts.min()) >= 0
    assert int(prompts.max()) in range(55_000, 57_000)
