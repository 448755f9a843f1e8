"""`lingraft merge` on plain folders: options, refusals, kills, and what it needs of the disk."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from peft_adapters import make_with_peft
from pico import SIZES, save_llama, save_mixtral
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from lingraft import cli, store
from lingraft.errors import (
    DiskFullError,
    InputError,
    LockedError,
    StaleError,
    UsageError,
    VerifyError,
)
from lingraft.manifest import Facts, Identity, read_manifest
from lingraft.merge import merge, writing
from lingraft.merge.settings import MergeSettings
from lingraft.merge.streamed import stream_model
from lingraft.merge.sums import Sums
from lingraft.merge.targets import plan_targets
from lingraft.merge.verify import _Beside, _Merged
from lingraft.models import ModelFolder, load_causal_lm
from lingraft.progress import SilentReporter
from lingraft.store import lock_folder, open_artefact, open_draft, verify_artefact
from lingraft.weights import row_slices

ATTENTION = ["q_proj", "v_proj"]


def make_adapter(folder: Path, base: ModelFolder, **changes: Any) -> Path:
    """Save an adapter with classic names on every attention map and expert."""
    generator = torch.Generator().manual_seed(5)
    tensors: dict[str, torch.Tensor] = {}
    for entry in base.all_entries():
        if entry.name.endswith(("q_proj.weight", "v_proj.weight")) or ".experts." in entry.name:
            module = f"base_model.model.{entry.name.removesuffix('.weight')}"
            a = torch.randn(4, entry.shape[1], generator=generator) * 0.1
            b = torch.randn(entry.shape[0], 4, generator=generator) * 0.1
            tensors |= {f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b}
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, **changes}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save_mixtral(tmp_path / "base").path


@pytest.fixture
def adapter(tmp_path: Path, base: Path) -> Path:
    return make_adapter(tmp_path / "adapter", ModelFolder(base))


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


def change_config(adapter: Path, **changes: Any) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def change_tensors(adapter: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(adapter / "adapter_model.safetensors")
    change(tensors)
    save_file(tensors, adapter / "adapter_model.safetensors")


def first_key(tensors: dict[str, torch.Tensor], end: str) -> str:
    return next(name for name in tensors if name.endswith(end))


def test_the_verb_writes_a_model_folder_with_a_manifest(
    tmp_path: Path, base: Path, adapter: Path
) -> None:
    out = tmp_path / "out"
    words = ["merge", "--model", str(base), "--adapter", str(adapter), "--out", str(out)]
    result = CliRunner().invoke(cli.app, [*words, "--dtype", "bfloat16"])
    assert result.exit_code == 0, result.output
    assert "28 tensors merged" in result.output
    assert "logits differ by at most" in result.output
    assert verify_artefact(open_artefact(out), full=True) == []
    load_causal_lm(out)
    again = CliRunner().invoke(cli.app, [*words, "--dtype", "bfloat16", "--json"])
    assert json.loads(again.stdout)["was_done"] is True
    told = CliRunner().invoke(cli.app, [*words, "--dtype", "bfloat16"])
    assert "merged before in the same way" in told.output


def test_the_verb_tells_what_was_not_compared_and_what_was_untied(tmp_path: Path) -> None:
    options = {"target_modules": ATTENTION, "modules_to_save": ["lm_head"]}
    made = make_with_peft(tmp_path, "llama", options, tie_word_embeddings=True)
    words = ["merge", "--model", str(made.base), "--adapter", str(made.adapter)]
    words += ["--out", str(tmp_path / "out"), "--jobs", "1"]
    result = CliRunner().invoke(cli.app, [*words, "--no-verify"])
    assert "the head was written out" in result.output
    assert "logits were not compared" in result.output
    both = CliRunner().invoke(cli.app, [*words, "--both-bodies", "--redo"])
    assert "against the other body" in both.output


def test_shards_are_planned_anew_where_a_size_is_asked_for(
    tmp_path: Path, base: Path, adapter: Path
) -> None:
    merge(model=base, adapter=adapter, out=tmp_path / "a", max_shard_size="20KB")
    merge(model=base, adapter=adapter, out=tmp_path / "b", max_shard_size="1 GiB")
    small, whole = ModelFolder(tmp_path / "a"), ModelFolder(tmp_path / "b")
    assert len(small.shards) > len(ModelFolder(base).shards)
    assert whole.shards == ["model.safetensors"]
    assert max((small.path / shard).stat().st_size for shard in small.shards) < 45_000
    for entry in small.all_entries():
        assert torch.equal(small.tensor(entry.name), whole.tensor(entry.name))


def test_a_bin_model_and_a_bin_adapter_give_the_same_safetensors(
    tmp_path: Path, base: Path, adapter: Path
) -> None:
    merge(model=base, adapter=adapter, out=tmp_path / "a")
    model = ModelFolder(base)
    for folder, source, name in (
        (tmp_path / "bin", base, "pytorch_model.bin"),
        (tmp_path / "adapter-bin", adapter, "adapter_model.bin"),
    ):
        folder.mkdir()
        for path in source.glob("*config.json"):
            shutil.copy(path, folder)
        tensors = (
            {e.name: model.tensor(e.name) for e in model.all_entries()}
            if source is base
            else load_file(adapter / "adapter_model.safetensors")
        )
        torch.save(tensors, folder / name)
    merge(model=tmp_path / "bin", adapter=tmp_path / "adapter-bin", out=tmp_path / "b")
    first, second = ModelFolder(tmp_path / "a"), ModelFolder(tmp_path / "b")
    assert second.is_safetensors
    for entry in first.all_entries():
        assert torch.equal(first.tensor(entry.name), second.tensor(entry.name))


def test_a_matrix_of_many_slices_is_merged_as_one(
    tmp_path: Path, base: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    merge(model=base, adapter=adapter, out=tmp_path / "a", body="nf4")

    def small(entry: Any, items: int = 100) -> Any:
        return row_slices(entry, 100)

    for module in ("writing", "sums", "verify"):
        monkeypatch.setattr(f"lingraft.merge.{module}.row_slices", small)
    merge(model=base, adapter=adapter, out=tmp_path / "b", body="nf4")
    first, second = ModelFolder(tmp_path / "a"), ModelFolder(tmp_path / "b")
    for entry in first.all_entries():
        torch.testing.assert_close(first.tensor(entry.name), second.tensor(entry.name))


@pytest.mark.parametrize("use_dora", [False, True])
def test_matrices_stored_turned_are_merged_as_peft_does(tmp_path: Path, use_dora: bool) -> None:
    options = {"target_modules": ["c_attn", "c_fc"], "fan_in_fan_out": True, "use_dora": use_dora}
    made = make_with_peft(tmp_path, "gpt2", options)
    merge(model=made.base, adapter=made.adapter, out=tmp_path / "out")
    ours = ModelFolder(tmp_path / "out")
    for name, tensor in made.tensors.items():
        torch.testing.assert_close(ours.tensor(name), tensor, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("save", [save_mixtral, save_llama])
@pytest.mark.parametrize("tied", [False, True])
def test_a_streamed_model_says_what_transformers_says(
    tmp_path: Path, save: Callable[..., ModelFolder], tied: bool
) -> None:
    model = save(tmp_path / "base", tie_word_embeddings=tied)
    adapter = make_adapter(tmp_path / "adapter", model)
    from lingraft.merge.adapter import Adapter

    opened = Adapter(adapter)
    plan = plan_targets(model, opened, "original", "keep")
    whole = load_causal_lm(model.path)
    ids = torch.arange(40).view(2, 20) * 7
    with torch.no_grad(), ThreadPoolExecutor(2) as pool:
        expected = whole(ids).logits
        streamed = stream_model(whole.config, _Merged(model, pool))(input_ids=ids).logits
        torch.testing.assert_close(streamed, expected, rtol=1e-5, atol=1e-5)
        targets = _Beside(Sums(model, opened), plan.targets, pool)
        beside = stream_model(whole.config, targets)(input_ids=ids).logits
    assert float((beside - expected).abs().max()) > 1e-2
    assert all(p.device.type == "meta" for p in stream_model(whole.config, targets).parameters())


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"peft_type": "LOHA"}, "type 'LOHA'; expected LoRA"),
        ({"use_qalora": True}, "with use_qalora"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights = 'pissa'"),
        ({"r": 0}, "r = 0: expected a number above 0"),
        ({"lora_alpha": "8"}, "lora_alpha = '8'"),
        ({"r": 8}, r"shape \[4, 32\]; rank and model ask for \[8, 32\]"),
        ({"use_dora": True}, "DoRA with a vector of magnitudes"),
    ],
)
def test_an_adapter_of_another_kind_or_rank_is_refused(
    tmp_path: Path, base: Path, adapter: Path, changes: dict[str, Any], match: str
) -> None:
    change_config(adapter, **changes)
    with pytest.raises(InputError, match=match):
        merge(model=base, adapter=adapter, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_adapter_without_its_files_is_refused(tmp_path: Path, base: Path) -> None:
    (tmp_path / "none").mkdir()
    for text, match in (
        (None, r"no adapter_config\.json"),
        ("{", "not JSON"),
        ("[]", "a JSON list; expected an object"),
        ('{"peft_type": "LORA", "r": 4, "lora_alpha": 8}', r"no adapter_model\.safetensors"),
    ):
        if text is not None:
            (tmp_path / "none" / "adapter_config.json").write_text(text)
        with pytest.raises(InputError, match=match):
            merge(model=base, adapter=tmp_path / "none", out=tmp_path / "out")


def test_an_adapter_of_another_base_is_refused(tmp_path: Path, base: Path) -> None:
    wide = save_mixtral(tmp_path / "wide", hidden_size=64)
    other = make_adapter(tmp_path / "other", wide)
    with pytest.raises(InputError, match=r"shape \[4, 64\]; rank and model ask for \[4, 32\]"):
        merge(model=base, adapter=other, out=tmp_path / "out")


def test_fused_experts_of_another_base_are_refused(tmp_path: Path) -> None:
    fused = {"target_modules": ["q_proj"], "target_parameters": ["mlp.experts.down_proj"]}
    made = make_with_peft(tmp_path, "mixtral", fused)
    dense = save_llama(tmp_path / "llama").path
    with pytest.raises(InputError, match=r"experts.*has no place in the model"):
        merge(model=dense, adapter=made.adapter, out=tmp_path / "out")
    wide = save_mixtral(tmp_path / "wide", intermediate_size=96).path
    with pytest.raises(InputError, match="rank and model ask for"):
        merge(model=wide, adapter=made.adapter, out=tmp_path / "out")


def test_token_rows_that_do_not_fit_the_ids_are_refused(tmp_path: Path) -> None:
    options = {"target_modules": ATTENTION, "trainable_token_indices": [1, 2]}
    made = make_with_peft(tmp_path, "llama", options)
    for ids in ([1], [1, 300], {"lm_head": [1, 2]}):
        change_config(made.adapter, trainable_token_indices=ids)
        with pytest.raises(InputError, match="has 2 rows; its config names"):
            merge(model=made.base, adapter=made.adapter, out=tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda t: t.pop(first_key(t, "lora_A.weight")), "half of a pair"),
        (
            lambda t: t.update({"base_model.model.model.layers.9.q_proj.weight": torch.ones(1)}),
            r"layers\.9.*has no place",
        ),
        (
            lambda t: t.update({"base_model.model.model.layers.9.q.lora_B.bias": torch.ones(1)}),
            "has no place",
        ),
        (
            lambda t: t.update(
                {f"base_model.model.model.norm.lora_{s}.weight": torch.ones(1, 1) for s in "AB"}
            ),
            "has no place",
        ),
        (
            lambda t: t.update({"base_model.model.lm_head.weight": torch.ones(310, 32)}),
            r"lm_head\.weight' has shape \[310, 32\].*lingraft embed expand",
        ),
        (lambda t: t[first_key(t, "lora_A.weight")].fill_(float("nan")), "not finite"),
    ],
    ids=["half", "layer", "bias", "vector", "vocabulary", "nan"],
)
def test_adapter_tensors_that_do_not_fit_are_refused(
    tmp_path: Path,
    base: Path,
    adapter: Path,
    change: Callable[[dict[str, torch.Tensor]], object],
    match: str,
) -> None:
    change_tensors(adapter, change)
    with pytest.raises(InputError, match=f"(?s){match}"):
        merge(model=base, adapter=adapter, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_missing_shard_is_refused(tmp_path: Path, base: Path, adapter: Path) -> None:
    (base / ModelFolder(base).shards[1]).unlink()
    with pytest.raises(InputError, match=r"shard .* of the index is missing"):
        merge(model=base, adapter=adapter, out=tmp_path / "out")


def test_a_small_disk_is_refused_before_the_first_byte(
    tmp_path: Path, base: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("lingraft.store.shutil.disk_usage", lambda _: usage._replace(free=100_000))
    with pytest.raises(DiskFullError, match=r"are to be written, and 0\.00 GB are free"):
        merge(model=base, adapter=adapter, out=tmp_path / "out")
    assert not list(tmp_path.glob(".*-out"))


@pytest.mark.parametrize(
    "options",
    [{"dtype": "int8"}, {"body": "nf3"}, {"jobs": 0}, {"max_shard_size": "5 bananas"}],
)
def test_words_that_are_not_known_are_refused(
    tmp_path: Path, base: Path, adapter: Path, options: dict[str, Any]
) -> None:
    with pytest.raises(UsageError, match="expected"):
        merge(model=base, adapter=adapter, out=tmp_path / "out", **options)


def test_a_place_that_is_taken_is_refused(tmp_path: Path, base: Path, adapter: Path) -> None:
    with pytest.raises(UsageError, match="is both --model and --out"):
        merge(model=base, adapter=adapter, out=base)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    for redo in (False, True):
        with pytest.raises(UsageError, match="holds something else"):
            merge(model=base, adapter=adapter, out=tmp_path / "out", redo=redo)
    assert (tmp_path / "out" / "thesis.txt").read_text() == "years of work"


def test_a_folder_that_another_stage_made_is_not_replaced(
    tmp_path: Path, base: Path, adapter: Path
) -> None:
    identity = Identity(stage="train", stage_version=1, settings={}, seed=0, inputs={})
    draft = open_draft(tmp_path / "60-train", identity, SilentReporter(), resumable=False)
    shutil.copytree(adapter, draft.path / "adapter")
    trained = draft.seal(Facts(), {}).path
    foreign = tmp_path / "web"
    foreign.mkdir()
    (foreign / "manifest.json").write_text('{"name": "a web page"}')
    (tmp_path / "file").write_text("thesis")
    for out in (trained, foreign, tmp_path / "file"):
        for redo in (False, True):
            with pytest.raises(UsageError, match="holds something else than a merged model"):
                merge(model=base, adapter=adapter, out=out, redo=redo)
    assert verify_artefact(open_artefact(trained), full=True) == []
    assert [p.name for p in foreign.iterdir()] == ["manifest.json"]
    assert (tmp_path / "file").read_text() == "thesis"


@pytest.mark.parametrize("redo", [False, True])
def test_an_input_inside_out_or_around_it_is_refused(
    tmp_path: Path, base: Path, adapter: Path, redo: bool
) -> None:
    words: dict[str, Any] = {"model": base, "adapter": adapter, "redo": redo}
    before = sorted(tmp_path.rglob("*"))
    (tmp_path / "link").symlink_to(base)
    for out, match in (
        (tmp_path, f"--out holds --model, {base}"),
        (base / "merged", f"--out lies inside --model, {base}"),
        (tmp_path / "link" / "merged", "--out lies inside --model"),
        (adapter / "deep" / "merged", f"--out lies inside --adapter, {adapter}"),
    ):
        with pytest.raises(UsageError, match=match):
            merge(**words, out=out)
    (tmp_path / "link").unlink()
    assert sorted(tmp_path.rglob("*")) == before


def test_an_index_that_names_files_elsewhere_overwrites_nothing(
    tmp_path: Path, base: Path, adapter: Path
) -> None:
    path = base / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    shard = sorted(set(index["weight_map"].values()))[0]
    victim = tmp_path / shard
    shutil.copy(base / shard, victim)
    before = victim.read_bytes()
    places = index["weight_map"].items()
    index["weight_map"] = {k: f"../{v}" if v == shard else v for k, v in places}
    path.write_text(json.dumps(index))
    with pytest.raises(InputError, match=r"names the file '\.\./model"):
        merge(model=base, adapter=adapter, out=tmp_path / "out")
    assert victim.read_bytes() == before


def test_a_refused_merge_leaves_nothing_behind(tmp_path: Path, base: Path, adapter: Path) -> None:
    before = {p.name for p in tmp_path.iterdir()}
    words: dict[str, Any] = {"model": base, "adapter": adapter, "out": tmp_path / "out"}
    with pytest.MonkeyPatch.context() as patch:  # refused while the first file is written
        patch.setattr("lingraft.merge.writing._finish", None)
        with pytest.raises(TypeError):
            merge(**words, max_shard_size="1GB")
    assert {p.name for p in tmp_path.iterdir()} == before
    change_config(adapter, r=8)
    with pytest.raises(InputError, match="rank and model ask for"):
        merge(**words)
    assert {p.name for p in tmp_path.iterdir()} == before


def test_a_refused_merge_leaves_the_draft_of_another(
    tmp_path: Path, base: Path, adapter: Path
) -> None:
    words: dict[str, Any] = {"model": base, "adapter": adapter, "out": tmp_path / "out"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lingraft.merge.merging.write_configs", None)  # after the shards
        with pytest.raises(TypeError):
            merge(**words)
    draft = tmp_path / ".draft-out"
    kept = contents(draft)
    assert sum(name.endswith(".safetensors") for name in kept) == len(ModelFolder(base).shards)
    shutil.copytree(adapter, tmp_path / "bad")
    change_config(tmp_path / "bad", r=8)
    with pytest.raises(InputError, match="rank and model ask for"):
        merge(**{**words, "adapter": tmp_path / "bad"})
    assert contents(draft) == kept
    assert not (tmp_path / ".lock-out").exists()


SMALL_FILES = ("config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json")


@pytest.mark.parametrize("name", SMALL_FILES)
def test_a_small_file_that_changed_is_noticed(
    tmp_path: Path, base: Path, adapter: Path, name: str
) -> None:
    words: dict[str, Any] = {"model": base, "adapter": adapter, "out": tmp_path / "out"}
    config = json.loads((base / "config.json").read_text())
    (base / name).write_text(json.dumps(config))
    merge(**words)
    assert merge(**words).was_done
    (base / name).write_text(json.dumps({**config, "bos_token_id": 2}))
    with pytest.raises(StaleError, match=r"were written since|inputs\.model"):
        merge(**words)
    merge(**words, redo=True)
    assert json.loads((tmp_path / "out" / name).read_text())["bos_token_id"] == 2
    (base / name).unlink()
    if name != "config.json":  # a file that went, too
        with pytest.raises(StaleError, match="were written since"):
            merge(**words)


def test_a_config_that_changed_in_an_artefact_is_noticed(
    tmp_path: Path, base: Path, adapter: Path
) -> None:
    once = merge(model=base, adapter=adapter, out=tmp_path / "once").folder
    words: dict[str, Any] = {"model": once, "adapter": adapter, "out": tmp_path / "twice"}
    merge(**words)
    config = json.loads((once / "config.json").read_text())
    (once / "config.json").write_text(json.dumps({**config, "rope_theta": 5e5}))
    with pytest.raises(StaleError, match="were written since"):
        merge(**words)


def test_small_files_are_copies_and_not_links(tmp_path: Path, base: Path, adapter: Path) -> None:
    names = [name for name in SMALL_FILES if name != "config.json"]
    for name in names:
        (base / name).write_text("{}")
    out = merge(model=base, adapter=adapter, out=tmp_path / "out").folder
    for name in names:
        (out / name).write_text('{"bos_token_id": 3}')
        assert (base / name).read_text() == "{}"


def test_a_manifest_of_another_program_is_no_manifest(
    tmp_path: Path, base: Path, adapter: Path
) -> None:
    plain = merge(model=base, adapter=adapter, out=tmp_path / "plain").folder
    for folder in (base, adapter, tmp_path):  # the last one is the adapter's parent
        (folder / "manifest.json").write_text('{"name": "a web page", "icons": []}')
    result = merge(model=base, adapter=adapter, out=tmp_path / "out")
    assert read_manifest(result.folder).digest == read_manifest(plain).digest
    assert result.facts.max_logit_difference_other_body is None


def test_a_place_at_work_is_refused(tmp_path: Path, base: Path, adapter: Path) -> None:
    with lock_folder(tmp_path / ".lock-out"), pytest.raises(LockedError):
        merge(model=base, adapter=adapter, out=tmp_path / "out")


def test_another_merge_in_the_same_place_is_stale_until_redone(
    tmp_path: Path, base: Path, adapter: Path
) -> None:
    out = tmp_path / "out"
    merge(model=base, adapter=adapter, out=out)
    with pytest.raises(StaleError, match=r"settings\.dtype"):
        merge(model=base, adapter=adapter, out=out, dtype="bfloat16")
    shard = base / ModelFolder(base).shards[0]
    os.utime(shard, ns=(1, 1))
    with pytest.raises(StaleError, match="were written since"):
        merge(model=base, adapter=adapter, out=out)
    result = merge(model=base, adapter=adapter, out=out, dtype="bfloat16", redo=True)
    assert not result.was_done
    assert ModelFolder(out).config["dtype"] == "bfloat16"


def test_experts_of_another_architecture_are_merged_by_their_own_names(tmp_path: Path) -> None:
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    torch.manual_seed(3)
    config = Qwen3MoeConfig(
        **{**SIZES, "num_attention_heads": 2},
        head_dim=16,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=48,
        norm_topk_prob=True,
        initializer_range=0.1,
    )
    Qwen3MoeForCausalLM(config).save_pretrained(tmp_path / "base")
    base = ModelFolder(tmp_path / "base")
    adapter = make_adapter(tmp_path / "adapter", base)
    facts = merge(model=base.path, adapter=adapter, out=tmp_path / "out").facts
    assert facts.tensors_merged == 2 * (2 + 4 * 3)
    assert facts.max_logit_difference is not None
    assert facts.max_logit_difference < 1e-3


def test_an_adapter_of_an_nf4_training_is_compared_with_both_bodies(
    tmp_path: Path, base: Path, adapter: Path
) -> None:
    settings = {"quantize": "nf4"}
    identity = Identity(stage="train", stage_version=1, settings=settings, seed=0, inputs={})
    draft = open_draft(tmp_path / "60-train", identity, SilentReporter(), resumable=False)
    shutil.copytree(adapter, draft.path / "adapter")
    trained = draft.seal(Facts(), {}).path
    facts = merge(model=base, adapter=trained / "adapter", out=tmp_path / "out").facts
    assert facts.max_logit_difference_other_body is not None
    again = merge(model=tmp_path / "out", adapter=adapter, out=tmp_path / "twice")
    assert (
        read_manifest(again.folder).identity.inputs["model"]
        == read_manifest(tmp_path / "out").digest
    )


def test_an_adapter_of_the_head_alone_unties_it(tmp_path: Path) -> None:
    options = {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]}
    made = make_with_peft(tmp_path, "llama", options, tie_word_embeddings=True)
    key = "base_model.model.lm_head.weight"

    def make_equal(tensors: dict[str, torch.Tensor]) -> None:
        tensors[key] = tensors["base_model.model.model.embed_tokens.weight"].clone()

    change_tensors(made.adapter, make_equal)
    words: dict[str, Any] = {"model": made.base, "adapter": made.adapter}
    assert not merge(**words, out=tmp_path / "a").facts.untied
    change_tensors(made.adapter, lambda t: t[key].add_(1))
    assert merge(**words, out=tmp_path / "b").facts.untied
    rows = {"base_model.model.lm_head.token_adapter.trainable_tokens_delta": torch.ones(1, 32)}

    def only_head_rows(tensors: dict[str, torch.Tensor]) -> None:
        for name in [n for n in tensors if "lora" not in n]:
            del tensors[name]
        tensors.update(rows)

    change_tensors(made.adapter, only_head_rows)
    change_config(made.adapter, trainable_token_indices={"lm_head": [7]})
    assert merge(**words, out=tmp_path / "c").facts.untied
    rows["base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta"] = torch.ones(
        1, 32
    )
    change_tensors(made.adapter, lambda t: t.update(rows))
    change_config(made.adapter, trainable_token_indices={"lm_head": [7], "embed_tokens": [8]})
    assert merge(**words, out=tmp_path / "d").facts.untied
    change_config(made.adapter, trainable_token_indices={"lm_head": [7], "embed_tokens": [7]})
    result = merge(**words, out=tmp_path / "e")
    assert not result.facts.untied
    assert result.facts.rows_replaced == 1  # the one matrix has it
    assert ModelFolder(tmp_path / "e").rows("model.embed_tokens.weight", 7, 8).tolist() == [
        [1] * 32
    ]


@pytest.mark.parametrize(("text", "ok"), [("5GB", True), ("", True), ("5", True), ("x", False)])
def test_a_recipe_takes_sizes_and_nothing_else(text: str, ok: bool) -> None:
    if ok:
        assert MergeSettings(max_shard_size=text).max_shard_size == text
        return
    with pytest.raises(ValueError, match="expected a size such as 5GB"):
        MergeSettings(max_shard_size=text)


def test_a_model_that_cannot_be_compared_is_told(
    tmp_path: Path, base: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lingraft.merge.verify._Beside.has", lambda self, name: False)
    with pytest.raises(UsageError, match=r"no tensor for transformers' parameter.*\n.*\n.*--no-v"):
        merge(model=base, adapter=adapter, out=tmp_path / "out")


def test_a_merge_that_was_found_wrong_is_written_anew(
    tmp_path: Path, base: Path, adapter: Path
) -> None:
    words: dict[str, Any] = {"model": base, "adapter": adapter, "out": tmp_path / "out"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sums, "merged", Sums.replaced)  # the adapter is forgotten
        with pytest.raises(VerifyError, match="logits of the merged model differ"):
            merge(**words)
    assert not (tmp_path / "out").exists()
    assert merge(**words).facts.tensors_merged == 28


def killed_after(shards: int, words: dict[str, Any]) -> None:
    """Merge in this process, and die as the given number of shards is done."""
    finish, done = writing._finish, list[int]()

    def finish_and_die(*arguments: Any) -> None:
        if len(done) == shards:
            os.kill(os.getpid(), signal.SIGKILL)
        finish(*arguments)
        done.append(1)

    writing._finish = finish_and_die  # type: ignore[assignment]
    merge(**words)


@pytest.mark.parametrize("shards", [0, 2])
def test_a_killed_merge_leaves_nothing_that_looks_finished_and_goes_on(
    tmp_path: Path, base: Path, adapter: Path, shards: int
) -> None:
    words: dict[str, Any] = {
        "model": base,
        "adapter": adapter,
        "out": tmp_path / "out",
        "dtype": "bfloat16",
    }
    before = contents(base) | contents(adapter)
    process = multiprocessing.get_context("spawn").Process(
        target=killed_after, args=(shards, words)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    assert contents(base) | contents(adapter) == before
    draft = tmp_path / ".draft-out"
    with pytest.raises(VerifyError, match="not an artefact"):
        read_manifest(draft)
    kept = {p.name: p.stat().st_mtime_ns for p in draft.glob("*.safetensors")}
    assert len(kept) == shards
    merge(**words)
    after = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*.safetensors")}
    assert {name: after[name] for name in kept} == kept
    straight = tmp_path / "straight"
    merge(**{**words, "out": straight})
    assert read_manifest(straight).digest == read_manifest(tmp_path / "out").digest
    assert not draft.exists()
    assert not (tmp_path / ".lock-out").exists()


def test_a_draft_of_other_inputs_is_begun_anew(tmp_path: Path, base: Path, adapter: Path) -> None:
    words: dict[str, Any] = {"model": base, "adapter": adapter, "out": tmp_path / "out"}
    process = multiprocessing.get_context("spawn").Process(target=killed_after, args=(2, words))
    process.start()
    process.join()
    draft = tmp_path / ".draft-out"
    for stale in draft.glob("*.safetensors"):
        stale.unlink()  # it may be a link to the base's own file
        stale.write_bytes(b"another model's")
    change_tensors(adapter, lambda t: t[first_key(t, "lora_A.weight")].add_(1))
    merge(**words)
    assert verify_artefact(open_artefact(tmp_path / "out"), full=True) == []


def test_a_shard_of_a_draft_that_was_touched_is_written_again(
    tmp_path: Path, base: Path, adapter: Path
) -> None:
    words: dict[str, Any] = {"model": base, "adapter": adapter, "out": tmp_path / "out"}
    process = multiprocessing.get_context("spawn").Process(target=killed_after, args=(2, words))
    process.start()
    process.join()
    for path in (tmp_path / ".draft-out").glob("*.safetensors"):
        cut = path.read_bytes()[:-1]
        path.unlink()
        path.write_bytes(cut)
    merge(**words)
    straight = merge(**{**words, "out": tmp_path / "straight"}).folder
    assert read_manifest(straight).digest == read_manifest(tmp_path / "out").digest


def killed_at_the_rename(words: dict[str, Any]) -> None:
    def die(self: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    store.Draft.finish = die  # type: ignore[method-assign,assignment]
    merge(**words)


def test_a_merge_that_was_killed_at_its_rename_is_only_renamed(
    tmp_path: Path, base: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words: dict[str, Any] = {"model": base, "adapter": adapter, "out": tmp_path / "out"}
    process = multiprocessing.get_context("spawn").Process(
        target=killed_at_the_rename, args=(words,)
    )
    process.start()
    process.join()
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr("lingraft.merge.command.merge_into", None)  # nothing is merged again
    result = merge(**words)
    assert result.facts.tensors_merged == 28
    assert verify_artefact(open_artefact(tmp_path / "out"), full=True) == []
