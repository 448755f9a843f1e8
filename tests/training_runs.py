"""Small runs of the training stage: settings, token files, and what came of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from artefacts import SEED
from pico import SIZES

from lingraft.manifest import Identity
from lingraft.progress import SilentReporter
from lingraft.shards import INDEX_NAME, IndexedTokenizer, TokenIndex, write_tokens
from lingraft.store import Artefact, Draft, open_draft
from lingraft.train import stage
from lingraft.train.settings import LoraSettings, TrainSettings

__all__ = [
    "KilledError",
    "curve",
    "open_train_draft",
    "settings",
    "train",
    "write_index",
    "write_set",
]

SETTINGS: dict[str, Any] = {
    "mixture": ["1:zh", "0.5:en"],
    "seq_len": 16,
    "micro_batch_size": 2,
    "max_steps": 6,
    "lr": 1e-2,
    "dtype": "float32",
    "lora": LoraSettings(rank=4, alpha=8.0, dropout=0.1),
    "eval_every": 4,
    "eval_docs": 2,
    "checkpoint_every": 2,
}


def settings(**changes: Any) -> TrainSettings:
    return TrainSettings(**{**SETTINGS, **changes})


def write_set(folder: Path, name: str, first: int, num_valid: int = 3) -> None:
    """Documents that count upwards from `first`: easy to learn."""
    for split, num_docs in (("train", 12), ("valid", num_valid)):
        docs = [[1, *range(first + n, first + n + 20), 2] for n in range(num_docs)]
        write_tokens(folder / f"{name}-{split}.npy", docs, SIZES["vocab_size"])
        np.save(folder / f"{name}-{split}.bytes.npy", np.full(num_docs, 60, np.uint32))
    write_index(folder)


def write_index(
    folder: Path, vocab_size: int = SIZES["vocab_size"], digest: str = "0" * 64
) -> None:
    """The index of a folder's token files, without what training does not read of it."""
    tokenizer = IndexedTokenizer(
        name="counting", digest=digest, vocab_size=vocab_size, bos_id=1, eos_id=2
    )
    (folder / INDEX_NAME).write_text(TokenIndex.build(tokenizer, []).model_dump_json())


def open_train_draft(folder: Path, s: TrainSettings) -> Draft:
    identity = Identity(
        stage="train",
        stage_version=1,
        settings=s.deciding(),
        seed=SEED,
        inputs={},
    )
    return open_draft(folder / "60-train", identity, SilentReporter(), resumable=True)


def train(folder: Path, inputs: dict[str, Artefact], s: TrainSettings) -> Artefact:
    draft = open_train_draft(folder, s)
    return draft.seal(stage.run(s, inputs, draft), {})


def curve(artefact: Artefact) -> list[dict[str, Any]]:
    lines = artefact.file("curve.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


class KilledError(Exception):
    """Stands for SIGKILL."""
