"""Expand embed_tokens and lm_head of the base model, shard by shard."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from ..errors import InputError
from ..models import ModelFolder, TensorEntry, link_tokenizer, write_index, write_shard
from ..pieces import SentencePieces
from ..settings import StageSettings
from ..store import Artefact, Draft, link_or_copy, write_json
from .mean import mean_rows
from .normal import normal_rows
from .settings import EmbedFacts, EmbedSettings

__all__ = ["run"]

_INPUT, _OUTPUT = "model.embed_tokens.weight", "lm_head.weight"


def run(settings: StageSettings, inputs: Mapping[str, Artefact], draft: Draft) -> EmbedFacts:
    """Write the expanded model folder.

    Raises:
        InputError: The base model and its tokenizer do not belong together.
    """
    assert isinstance(settings, EmbedSettings), "embed.run got another stage's settings"
    model = ModelFolder(inputs["base"].path)
    base = SentencePieces.read(inputs["base"].file("tokenizer.model"))
    extended = SentencePieces.read(inputs["tokenizer"].file("tokenizer.model"))
    _check_sizes(model, base)
    spellings = _spell(base, extended.pieces[len(base.pieces) :], settings.spelling)
    linked = _expand(model, spellings, settings, draft)
    _write_configs(model, len(extended.pieces), draft.path)
    link_tokenizer(inputs["tokenizer"].path, draft.path)
    draft.note(
        f"{len(spellings):,} rows added to {len(base.pieces):,}; "
        f"{linked} of {len(model.shards)} shards linked unread"
    )
    return EmbedFacts(
        base_rows=len(base.pieces),
        added_rows=len(spellings),
        mean_spelling_tokens=sum(map(len, spellings)) / len(spellings) if spellings else 0.0,
        identical_rows=_count_identical(spellings) if settings.method == "mean" else 0,
        shards_linked=linked,
        shards_written=len(model.shards) - linked,
    )


def _check_sizes(model: ModelFolder, base: SentencePieces) -> None:
    rows = model.entry(_INPUT).shape[0]
    if rows != len(base.pieces):
        raise InputError(
            f"{model.path}: {_INPUT} has {rows} rows, its tokenizer {len(base.pieces)} pieces.",
            effect="New rows would be appended at ids that the tokenizer does not give.",
            way_out="Use the tokenizer.model that belongs to this model.",
        )


def _spell(base: SentencePieces, pieces: Sequence[str], spelling: str) -> list[list[int]]:
    if spelling == "text":  # the reference's way, to compare with
        return [[base.bos_id, *base.encode(piece)] for piece in pieces]
    return [base.spell(piece) for piece in pieces]


def _count_identical(spellings: Sequence[Sequence[int]]) -> int:
    """Count rows that share their row with another: a mean does not see the order of its parts."""
    groups: dict[tuple[int, ...], int] = {}
    for ids in spellings:
        key = tuple(sorted(ids))
        groups[key] = groups.get(key, 0) + 1
    return sum(count for count in groups.values() if count > 1)


def _expand(
    model: ModelFolder, spellings: list[list[int]], settings: EmbedSettings, draft: Draft
) -> int:
    """Write or link every shard; return how many were linked."""
    grown = {name for name in (_INPUT, _OUTPUT) if name in model.weight_map}
    linked = total_bytes = 0
    with draft.progress("expand", len(model.shards), "shards") as progress:
        for shard in model.shards:
            entries = model.entries(shard)
            if grown.isdisjoint(e.name for e in entries):
                link_or_copy(model.path / shard, draft.path / shard)
                linked += 1
            else:
                entries = [_grown(e, len(spellings)) if e.name in grown else e for e in entries]
                write_shard(
                    draft.path / shard,
                    entries,
                    lambda entry: _tensor(model, entry, grown, spellings, settings, draft.seed),
                )
            total_bytes += sum(e.size_bytes for e in entries)
            progress.advance(1, shard)
    write_index(draft.path, model.weight_map, total_bytes)
    return linked


def _grown(entry: TensorEntry, added: int) -> TensorEntry:
    return TensorEntry(entry.name, entry.dtype, (entry.shape[0] + added, *entry.shape[1:]))


def _tensor(
    model: ModelFolder,
    entry: TensorEntry,
    grown: set[str],
    spellings: list[list[int]],
    settings: EmbedSettings,
    seed: int,
) -> torch.Tensor:
    base_VD = model.tensor(entry.name)
    if entry.name not in grown or not spellings:
        return base_VD
    if settings.method == "mean":
        rows_ND = mean_rows(base_VD, spellings)
    else:
        std = float(model.config.get("initializer_range", 0.02))
        # embed_tokens and lm_head must not start as copies of each other.
        rows_ND = normal_rows(base_VD, len(spellings), std, seed + (entry.name == _OUTPUT))
    return torch.cat([base_VD, rows_ND])


def _write_configs(model: ModelFolder, vocab_size: int, folder: Path) -> None:
    write_json(folder / "config.json", {**model.config, "vocab_size": vocab_size})
    generation = model.path / "generation_config.json"
    if generation.is_file():
        write_json(folder / generation.name, json.loads(generation.read_text(encoding="utf-8")))
