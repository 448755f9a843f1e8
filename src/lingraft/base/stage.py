"""Bring the base model into the run: link it, fetch it, or train a small one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

import torch

from ..bases import find_tokenizer_file, read_base
from ..documents import read_documents
from ..encoder import FastEncoder
from ..errors import InputError
from ..fast import write_tokenizer
from ..hub import fetch_snapshot
from ..mixture import Mixture
from ..models import INDEX, SINGLE, ModelFolder, TensorEntry, plan_shards, write_index, write_shard
from ..settings import StageSettings
from ..shards import TokenFile, open_tokens, write_tokens
from ..sources import is_hub_source, locate_source
from ..special import Bounds, find_bounds
from ..store import Artefact, Draft, link_or_copy, write_json
from ..training import fit
from .fetch import FAST_FILES, MODEL_FILES, check_model, files_beside
from .pretrain import build_model, group_of, model_config, plan_of, published_tensors, step_of
from .settings import BaseFacts, BaseSettings, ModelShape, PretrainSettings

__all__ = ["run"]

_BATCH_DOCS = 512
_CONFIGS = ("config.json", "generation_config.json")


def run(settings: StageSettings, inputs: Mapping[str, Artefact], draft: Draft) -> BaseFacts:
    """Write the base model folder.

    Raises:
        InputError: The model cannot be fetched or used, or does not fit its tokenizer.
        LingraftError: The loss of `pretrain` is no longer finite.
    """
    assert isinstance(settings, BaseSettings), "base.run got another stage's settings"
    losses: list[float] = []
    train_tokens = 0
    if settings.pretrain and settings.shape:
        _place_tokenizer(find_tokenizer_file(settings.tokenizer), draft.path)
        losses = _pretrain(settings.pretrain, settings.shape, inputs["corpus"], draft)
        train_tokens = len(losses) * settings.pretrain.batch_size * settings.pretrain.seq_len
    else:
        _link_model(settings, draft)
    model = ModelFolder(draft.path)
    last = losses[-max(len(losses) // 10, 1) :]
    facts = BaseFacts(
        num_parameters=sum(e.num_items for e in model.all_entries()),
        vocab_size=model.config["vocab_size"],
        num_shards=len(model.shards),
        size_bytes=sum(e.size_bytes for e in model.all_entries()),
        train_tokens=train_tokens,
        final_loss=sum(last) / len(last) if last else None,
    )
    trained = f", trained on {train_tokens:,} tokens" if train_tokens else ""
    draft.note(f"{facts.num_parameters:,} parameters in {facts.num_shards} shards{trained}")
    return facts


def _link_model(settings: BaseSettings, draft: Draft) -> None:
    """Link the weights and place the tokenizer."""
    if is_hub_source(settings.model):
        folder = fetch_snapshot(settings.model, "model", settings.revision, MODEL_FILES)
    else:
        folder = locate_source(settings.model)
    tokenizer = find_tokenizer_file(settings.tokenizer or str(folder))
    model = check_model(folder, tokenizer)
    for former in draft.path.glob("*.safetensors"):
        former.unlink()  # a killed run may have linked those of another revision
    (draft.path / INDEX).unlink(missing_ok=True)
    index = [] if SINGLE in model.shards else [INDEX]  # one beside a single file is of no use
    for name in (*index, *model.shards):
        if (folder / name).is_file():
            link_or_copy(folder / name, draft.path / name)
    for name in _CONFIGS:  # small, and people edit them in place: a link would follow
        (draft.path / name).unlink(missing_ok=True)
        if (folder / name).is_file():
            shutil.copyfile(folder / name, draft.path / name)
    _place_tokenizer(tokenizer, draft.path)


def _place_tokenizer(tokenizer: Path, folder: Path) -> None:
    """Write a tokenizer.model in every form, all made from it; copy a fast tokenizer's files."""
    for former in ("tokenizer.model", *FAST_FILES):
        (folder / former).unlink(missing_ok=True)
    if tokenizer.suffix != ".json":
        write_tokenizer(tokenizer.read_bytes(), folder)
        return
    for name, path in files_beside(tokenizer).items():
        shutil.copyfile(path, folder / name)


def _pretrain(
    settings: PretrainSettings, shape: ModelShape, corpus: Artefact, draft: Draft
) -> list[float]:
    """Train the model and write it; return the loss of every step."""
    base = read_base(str(draft.path))
    if shape.vocab_size != base.size:
        raise InputError(
            f"base.shape.vocab_size = {shape.vocab_size}, base.tokenizer has "
            f"{base.size} pieces; expected as many.",
            way_out=f"Set base.shape.vocab_size to {base.size}.",
        )
    bounds = find_bounds(str(draft.path), base)
    config = model_config(shape, bounds)
    names = dict.fromkeys(settings.sets)
    files = {name: _encode(corpus, name, bounds, base.size, draft) for name in names}
    mixture = Mixture(
        files,
        [f"1:{name}" for name in settings.sets],
        settings.seq_len,
        draft.seed,
        documents=settings.documents,
    )
    for line in mixture.table().splitlines():
        draft.note(line)
    model = build_model(config, draft.seed)
    losses = fit(
        [group_of(model, settings.lr)],
        plan_of(settings),
        step_of(model, mixture, settings.batch_size),
        draft,
    )
    _write_model(published_tensors(model), int(settings.max_shard_mb * 2**20), draft.path)
    write_json(draft.path / "config.json", config)
    generation = {"bos_token_id": bounds.begin_id, "eos_token_id": bounds.end_id}
    write_json(draft.path / "generation_config.json", generation)
    return losses


def _encode(
    corpus: Artefact, name: str, bounds: Bounds, num_pieces: int, draft: Draft
) -> TokenFile:
    """Encode a set's training split into scratch; done anew after a kill, it takes seconds."""
    encoder = FastEncoder.read(draft.path / "tokenizer.json")
    texts = (doc.text for doc in read_documents(corpus.file(f"{name}-train.jsonl")))
    num_docs = corpus.facts["sets"][name]["train"]["num_docs"]
    target = draft.scratch / f"{name}.npy"

    def docs() -> Iterator[list[int]]:
        with draft.progress(f"encode {name}", num_docs, "docs") as progress:
            while batch := list(islice(texts, _BATCH_DOCS)):
                for ids in encoder.encode_batch(batch):
                    yield [bounds.begin_id, *ids, bounds.end_id]
                progress.advance(len(batch))

    write_tokens(target, docs(), num_pieces)
    return open_tokens(target)


def _write_model(tensors: Mapping[str, torch.Tensor], max_bytes: int, folder: Path) -> None:
    entries = [TensorEntry(name, "F32", tuple(tensor.shape)) for name, tensor in tensors.items()]
    weight_map: dict[str, str] = {}
    for shard, members in plan_shards(entries, max_bytes).items():
        write_shard(folder / shard, members, lambda entry: tensors[entry.name])
        weight_map |= {entry.name: shard for entry in members}
    write_index(folder, weight_map, sum(entry.size_bytes for entry in entries))
