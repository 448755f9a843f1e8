"""Expansion of a model folder, read back tensor by tensor."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from artefacts import empty_draft, make_artefact
from pydantic import ValidationError
from token_files import write_folder

from lingraft.bases import read_base
from lingraft.embed.settings import EmbedFacts, EmbedSettings
from lingraft.embed.stage import run
from lingraft.errors import InputError
from lingraft.manifest import Facts
from lingraft.models import ModelFolder, TensorEntry, write_index, write_shard
from lingraft.pieces import SentencePieces, parse_model
from lingraft.sources import locate_source
from lingraft.store import Artefact, link_or_copy

MIXTRAL = locate_source("package:mistral_common/data/tokenizer.model.v1")
ADDED = ["鑫", "垚", "鑫垚", "垚鑫"]  # 鑫 and 垚 are byte-spelled by the base, three bytes each
INPUT, OUTPUT, BODY = "model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"


def base_folder(path: Path, rows: int = 32_000) -> Facts:
    link_or_copy(MIXTRAL, path / "tokenizer.model")
    (path / "config.json").write_text('{"vocab_size": 32000}', encoding="utf-8")
    (path / "generation_config.json").write_text('{"eos_token_id": 2}', encoding="utf-8")
    values = {INPUT: torch.randn(rows, 4), OUTPUT: torch.randn(rows, 4), BODY: torch.ones(4)}
    weight_map = {}
    for number, (name, value) in enumerate(values.items(), 1):
        shard = f"model-{number:05d}-of-00003.safetensors"
        write_shard(
            path / shard, [TensorEntry(name, "F32", tuple(value.shape))], lambda e: values[e.name]
        )
        weight_map[name] = shard
    write_index(path, weight_map, 1)
    return Facts()


def tokenizer_folder(path: Path) -> Facts:
    proto = parse_model(MIXTRAL.read_bytes(), "base")
    for number, piece in enumerate(ADDED):
        proto.pieces.add(piece=piece, score=-2e9 - 256 * number, type=1)
    (path / "tokenizer.model").write_bytes(proto.SerializeToString())
    (path / "tokenizer.json").write_text("{}", encoding="utf-8")
    return Facts()


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Artefact]:
    """A base of random rows and a tokenizer with four more pieces."""
    torch.manual_seed(0)
    return {
        "base": make_artefact(tmp_path, "15-base", base_folder),
        "tokenizer": make_artefact(tmp_path, "30-tokenizer", tokenizer_folder),
    }


def expand(
    tmp_path: Path, inputs: dict[str, Artefact], settings: EmbedSettings | None = None
) -> tuple[ModelFolder, EmbedFacts]:
    draft = empty_draft(tmp_path, "40-embed")
    facts = run(settings or EmbedSettings(), inputs, draft)
    return ModelFolder(draft.seal(facts, {}).path), facts


def test_base_rows_are_untouched_and_new_rows_are_means(
    tmp_path: Path, inputs: dict[str, Artefact]
) -> None:
    model, facts = expand(tmp_path, inputs)
    base = ModelFolder(inputs["base"].path)
    bytes_of = SentencePieces.read(MIXTRAL).spell("鑫")
    assert len(bytes_of) == 3
    for name in (INPUT, OUTPUT):
        assert model.entry(name).shape == (32_004, 4)
        assert torch.equal(model.tensor(name)[:32_000], base.tensor(name))
        assert torch.allclose(model.tensor(name)[32_000], base.tensor(name)[bytes_of].mean(0))
    assert facts.added_rows == 4
    assert facts.mean_spelling_tokens == 4.5  # 3, 3, 6 and 6 bytes
    assert facts.averaged_over == {"3": 2, "6": 2}
    assert facts.identical_before == 2  # 鑫垚 and 垚鑫 have the same parts
    assert facts.identical_rows == facts.head_identical_rows == 0


def test_shards_without_the_two_matrices_are_linked(
    tmp_path: Path, inputs: dict[str, Artefact]
) -> None:
    model, facts = expand(tmp_path, inputs)
    assert (facts.shards_linked, facts.shards_written) == (1, 2)
    shard = model.weight_map[BODY]
    assert (model.path / shard).samefile(inputs["base"].path / shard)


def test_configs_and_tokenizer_come_along(tmp_path: Path, inputs: dict[str, Artefact]) -> None:
    model, _ = expand(tmp_path, inputs)
    assert model.config["vocab_size"] == 32_004
    assert json.loads((model.path / "generation_config.json").read_text()) == {"eos_token_id": 2}
    assert len(SentencePieces.read(model.path / "tokenizer.model").pieces) == 32_004


def test_the_reference_spelling_averages_bos_and_prefix_too(
    tmp_path: Path, inputs: dict[str, Artefact]
) -> None:
    model, facts = expand(tmp_path, inputs, EmbedSettings(method="mean-text"))
    base = ModelFolder(inputs["base"].path)
    pieces = SentencePieces.read(MIXTRAL)
    spelled = [pieces.bos_id, pieces.ids["▁"], *pieces.spell("鑫")]
    assert torch.allclose(model.tensor(INPUT)[32_000], base.tensor(INPUT)[spelled].mean(0))
    assert facts.mean_spelling_tokens == 6.5


def test_normal_rows_differ_between_the_two_matrices(
    tmp_path: Path, inputs: dict[str, Artefact]
) -> None:
    model, facts = expand(tmp_path, inputs, EmbedSettings(method="normal", head_method="normal"))
    assert not torch.equal(model.tensor(INPUT)[32_000:], model.tensor(OUTPUT)[32_000:])
    assert facts.identical_rows == 0


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"method": "meen"}, "method 'meen': unknown"),
        ({"head_method": "distil"}, "makes no output rows"),
        ({"method": "normal", "options": {"std": -1}}, "std = -1; expected more than 0, up to 100"),
        ({"head_method": "normal", "head_options": {"std": 1e9}}, "std = 1000000000.0; expected"),
    ],
)
def test_a_recipe_is_told_what_its_methods_lack(settings: dict[str, Any], what: str) -> None:
    with pytest.raises(ValidationError, match=what):
        EmbedSettings.model_validate(settings)


def test_methods_that_look_at_text_wait_for_the_encoded_text(
    tmp_path: Path, inputs: dict[str, Artefact]
) -> None:
    assert EmbedSettings().also_takes() == ()
    settings = EmbedSettings(method="frequency")
    assert settings.also_takes() == EmbedSettings(head_method="headdistil").also_takes()
    assert settings.also_takes() == ("encode",)

    def encode(path: Path) -> Facts:
        digest = read_base(str(inputs["tokenizer"].path)).digest
        byte_ids = SentencePieces.read(MIXTRAL).spell("鑫")
        docs = [[1, byte_ids[0], byte_ids[0], 32_000, 2]]
        write_folder(path, {"zh-train": docs}, digest, vocab_size=32_004)
        return Facts()

    encoded = make_artefact(tmp_path, "35-encode", encode)
    model, facts = expand(tmp_path, inputs | {"encode": encoded}, settings)
    assert facts.method == "frequency"
    rows = model.tensor(INPUT)
    parts = rows[SentencePieces.read(MIXTRAL).spell("鑫")]
    weights = torch.linalg.lstsq(parts.T, rows[32_000]).solution
    assert weights.sum() == pytest.approx(1, abs=1e-4)
    assert weights[0] < 0.9 * weights[1]  # seen more often than the other bytes


def test_rows_of_a_recipe_can_be_padded(tmp_path: Path, inputs: dict[str, Artefact]) -> None:
    model, facts = expand(tmp_path, inputs, EmbedSettings(pad_to_multiple_of=64))
    assert model.entry(INPUT).shape == (32_064, 4)
    assert facts.padded == 60


def test_a_model_of_another_tokenizer_is_refused(
    tmp_path: Path, inputs: dict[str, Artefact]
) -> None:
    other = make_artefact(tmp_path / "other", "15-base", lambda path: base_folder(path, 31_999))
    with pytest.raises(InputError, match="31999 rows, its tokenizer 32000"):
        expand(tmp_path, inputs | {"base": other})
