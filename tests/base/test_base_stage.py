"""The base stage: trained here, read from a folder, fetched from the hub."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from artefacts import empty_draft, make_artefact
from byte_recipes import END_ID, write_byte_tokenizer
from pico import save_llama, save_mixtral
from safetensors.torch import save_file
from small_tokenizers import build
from transformers import AutoModelForCausalLM, AutoTokenizer

from lingraft.base import stage as base_stage
from lingraft.base.pretrain import build_model
from lingraft.base.settings import BaseFacts, BaseSettings
from lingraft.base.stage import run
from lingraft.errors import InputError
from lingraft.manifest import Facts
from lingraft.models import ModelFolder
from lingraft.pieces import SentencePieces
from lingraft.store import Artefact, Draft
from lingraft.training import StepLog, fit

NUM_PIECES = len(SentencePieces(build()).pieces)
SHAPE = {
    "vocab_size": NUM_PIECES,
    "hidden_size": 16,
    "intermediate_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "num_local_experts": 4,
    "max_position_embeddings": 32,
}
PRETRAIN = {
    "sets": ["en"],
    "seq_len": 16,
    "batch_size": 2,
    "steps": 8,
    "checkpoint_every": 3,
    "max_shard_mb": 0.01,
}


class _Corpus(Facts):
    sets: dict[str, Any]


def fill_corpus(path: Path) -> Facts:
    rows = [{"id": str(n), "text": "abc " * (n % 7 + 3) + "中文"} for n in range(30)]
    text = "\n".join(json.dumps(row) for row in rows)
    (path / "en-train.jsonl").write_text(text, encoding="utf-8")
    return _Corpus(sets={"en": {"language": "en", "train": {"num_docs": 30}}})


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Artefact]:
    return {"corpus": make_artefact(tmp_path, "10-corpus", fill_corpus)}


def settings_of(tmp_path: Path, **changes: Any) -> BaseSettings:
    (tmp_path / "small.model").write_bytes(build())
    values = {"tokenizer": str(tmp_path / "small.model"), "shape": SHAPE, "pretrain": PRETRAIN}
    return BaseSettings.model_validate({**values, **changes})


def trained(tmp_path: Path, inputs: dict[str, Artefact], name: str) -> tuple[Artefact, BaseFacts]:
    draft = empty_draft(tmp_path / name, "15-base")
    facts = run(settings_of(tmp_path), inputs, draft)
    return draft.seal(facts, {}), facts


def test_a_trained_model_is_a_sharded_folder_that_transformers_loads(
    tmp_path: Path, inputs: dict[str, Artefact]
) -> None:
    artefact, facts = trained(tmp_path, inputs, "a")
    folder = ModelFolder(artefact.path)
    assert facts.num_shards == len(folder.shards) > 1
    assert facts.train_tokens == 8 * 2 * 16
    model = AutoModelForCausalLM.from_pretrained(artefact.path)
    assert model.num_parameters() == facts.num_parameters
    assert len(AutoTokenizer.from_pretrained(artefact.path)) == facts.vocab_size == NUM_PIECES
    assert "model.layers.0.block_sparse_moe.experts.0.w1.weight" in folder.weight_map


def test_the_stored_model_has_the_logits_of_the_trained_one(
    tmp_path: Path, inputs: dict[str, Artefact], monkeypatch: pytest.MonkeyPatch
) -> None:
    built = []

    def remember(config: dict[str, Any], seed: int) -> Any:
        built.append(build_model(config, seed))
        return built[-1]

    monkeypatch.setattr(base_stage, "build_model", remember)
    artefact, _ = trained(tmp_path, inputs, "a")
    ids = torch.arange(3, 19)[None]
    with torch.no_grad():
        stored = AutoModelForCausalLM.from_pretrained(artefact.path)(ids).logits
        assert torch.allclose(built[0].eval()(ids).logits, stored, atol=1e-6)


def test_training_learns_the_text(tmp_path: Path, inputs: dict[str, Artefact]) -> None:
    pretrain = {**PRETRAIN, "steps": 60, "lr": 1e-2}
    facts = run(settings_of(tmp_path, pretrain=pretrain), inputs, empty_draft(tmp_path, "15-base"))
    assert facts.final_loss is not None
    assert facts.final_loss < 1.5  # log 272 = 5.6 nats know nothing


def test_two_runs_give_the_same_digest(tmp_path: Path, inputs: dict[str, Artefact]) -> None:
    one, two = (trained(tmp_path, inputs, name)[0] for name in "ab")
    assert one.manifest.digest == two.manifest.digest


def test_a_killed_run_goes_on_to_the_same_digest(
    tmp_path: Path, inputs: dict[str, Artefact], monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(step: int, log: StepLog) -> None:
        if step == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(base_stage, "fit", partial(fit, on_step=die))
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path, inputs, "killed")
    killed = trained(tmp_path, inputs, "killed")[0]
    assert killed.manifest.digest == trained(tmp_path, inputs, "alone")[0].manifest.digest
    assert killed.manifest.facts == trained(tmp_path, inputs, "again")[0].manifest.facts


def test_a_shape_of_another_vocabulary_is_refused(
    tmp_path: Path, inputs: dict[str, Artefact]
) -> None:
    settings = settings_of(tmp_path, shape={**SHAPE, "vocab_size": 300})
    with pytest.raises(InputError, match=rf"vocab_size = 300.*has {NUM_PIECES} pieces"):
        run(settings, inputs, empty_draft(tmp_path, "15-base"))


def model_folder(path: Path) -> Path:
    path.mkdir()
    save_mixtral(path, vocab_size=NUM_PIECES)
    (path / "tokenizer.model").write_bytes(build())
    (path / "pytorch_model.bin").write_bytes(b"not wanted")
    return path


def check_linked(draft: Draft, facts: BaseFacts, folder: Path) -> None:
    model = ModelFolder(draft.path)
    assert len(model.shards) == facts.num_shards > 1
    assert all((draft.path / s).samefile(folder / s) for s in model.shards)
    config = draft.path / "config.json"
    assert config.read_bytes() == (folder / "config.json").read_bytes()
    assert not config.samefile(folder / "config.json")  # people edit it in place
    assert not (draft.path / "pytorch_model.bin").exists()
    assert len(AutoTokenizer.from_pretrained(draft.path)) == NUM_PIECES
    assert (facts.train_tokens, facts.final_loss) == (0, None)


def test_a_local_model_is_linked_and_its_tokenizer_made_whole(
    tmp_path: Path, inputs: dict[str, Artefact]
) -> None:
    folder, draft = model_folder(tmp_path / "model"), empty_draft(tmp_path, "15-base")
    facts = run(BaseSettings(model=str(folder)), inputs, draft)
    check_linked(draft, facts, folder)


def test_an_index_beside_a_single_file_is_left_out(
    tmp_path: Path, inputs: dict[str, Artefact]
) -> None:
    folder, draft = model_folder(tmp_path / "model"), empty_draft(tmp_path, "15-base")
    sharded = ModelFolder(folder)
    tensors = {e.name: sharded.tensor(e.name) for e in sharded.all_entries()}
    save_file(tensors, folder / "model.safetensors")  # transformers takes this one
    assert run(BaseSettings(model=str(folder)), inputs, draft).num_shards == 1
    assert [p.name for p in draft.path.glob("*.safetensors*")] == ["model.safetensors"]


def test_a_tokenizer_may_be_given_beside_the_model(
    tmp_path: Path, inputs: dict[str, Artefact]
) -> None:
    folder, draft = model_folder(tmp_path / "model"), empty_draft(tmp_path, "15-base")
    tokenizer = (folder / "tokenizer.model").rename(tmp_path / "else.model")
    facts = run(BaseSettings(model=str(folder), tokenizer=str(tokenizer)), inputs, draft)
    check_linked(draft, facts, folder)


def test_a_hub_model_is_fetched_and_linked(
    tmp_path: Path, inputs: dict[str, Artefact], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, draft = model_folder(tmp_path / "model"), empty_draft(tmp_path, "15-base")
    asked: list[tuple[str, str]] = []

    def fetch(source: str, kind: str, revision: str, patterns: object) -> Path:
        asked.append((source, revision))
        return folder

    monkeypatch.setattr(base_stage, "fetch_snapshot", fetch)
    facts = run(BaseSettings(model="hub:owner/name", revision="v1"), inputs, draft)
    check_linked(draft, facts, folder)
    assert asked == [("hub:owner/name", "v1")]


def test_a_fast_tokenizer_is_copied_as_it_is(tmp_path: Path, inputs: dict[str, Artefact]) -> None:
    folder, draft = tmp_path / "model", empty_draft(tmp_path, "15-base")
    folder.mkdir()
    save_llama(folder, vocab_size=264)
    write_byte_tokenizer(folder)
    (draft.path / "tokenizer.model").touch()  # of a killed run with other files
    run(BaseSettings(model=str(folder)), inputs, draft)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (draft.path / name).read_bytes() == (folder / name).read_bytes()
    assert not (draft.path / "tokenizer.model").exists()


def test_a_small_model_is_trained_on_a_fast_tokenizer_too(
    tmp_path: Path, inputs: dict[str, Artefact]
) -> None:
    write_byte_tokenizer(tmp_path)
    draft = empty_draft(tmp_path, "15-base")
    settings = settings_of(
        tmp_path, tokenizer=str(tmp_path), shape={**SHAPE, "vocab_size": END_ID + 1}
    )
    run(settings, inputs, draft)
    config = json.loads((draft.path / "config.json").read_text())
    assert (config["bos_token_id"], config["eos_token_id"]) == (END_ID, END_ID)
    assert len(AutoTokenizer.from_pretrained(draft.path)) == END_ID + 1
