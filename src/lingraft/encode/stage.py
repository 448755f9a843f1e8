"""Encode every set and split with the extended tokenizer."""

from __future__ import annotations

from collections.abc import Mapping

from ..settings import StageSettings
from ..shards import IndexedFile, token_dtype
from ..store import Artefact, Draft, link_or_copy
from ..streaming import num_cores
from ..units import cut_units
from .command import Texts, encode_units
from .joining import INPUTS_NAME
from .settings import EncodedSplit, EncodeFacts, EncodeSettings

__all__ = ["run"]


def run(settings: StageSettings, inputs: Mapping[str, Artefact], draft: Draft) -> EncodeFacts:
    """Write `SET-SPLIT.npy`, `.ends.npy` and `.bytes.npy` for every set and split, `index.json`."""
    assert isinstance(settings, EncodeSettings), "encode.run got another stage's settings"
    corpus, tokenizer = inputs["corpus"], inputs["tokenizer"]
    files = {
        f"{name}-{split}": (name, split)
        for name, facts in corpus.facts["sets"].items()
        for split in _SPLITS
        if facts.get(split)
    }
    cut = [(name, unit) for name in files for unit in cut_units([corpus.file(f"{name}.jsonl")])]
    texts = Texts(
        [unit for _, unit in cut], [name for name, _ in cut], [f"{name}.jsonl" for name, _ in cut]
    )
    found = encode_units(
        texts,
        tokenizer=str(tokenizer.path),
        out=draft.path,
        work=draft.scratch / "parts",
        threads=num_cores(),
        bos=settings.prepend_bos,
        eos=settings.append_eos,
        text_key="text",
        teller=draft.reporter,
        redo=True,
    )
    (draft.path / INPUTS_NAME).unlink(missing_ok=True)  # it names this machine's files
    link_or_copy(corpus.file("datasets.toml"), draft.path / "datasets.toml")
    assert found.index is not None, "nobody else encodes a stage"
    sets: dict[str, dict[str, EncodedSplit]] = {}
    for file in found.index.files:
        name, split = files[file.name]
        sets.setdefault(name, {})[split] = _facts(file)
    draft.note(f"{found.total_tokens:,} tokens in {len(sets)} sets")
    return EncodeFacts(
        sets=sets,
        total_tokens=found.total_tokens,
        token_bytes=token_dtype(found.index.tokenizer.vocab_size).itemsize,
    )


_SPLITS = ("train", "valid", "test")


def _facts(file: IndexedFile) -> EncodedSplit:
    return EncodedSplit(
        num_docs=file.num_docs, total_tokens=file.total_tokens, size_bytes=file.size_bytes
    )
