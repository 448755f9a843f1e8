"""Token files: whole documents with BOS and EOS, sizes in bytes beside them."""

import json
from pathlib import Path

import numpy as np
import pytest
from artefacts import empty_draft, make_artefact

from lingraft.encode.settings import EncodeSettings
from lingraft.encode.stage import run
from lingraft.fast import write_tokenizer
from lingraft.manifest import Facts
from lingraft.pieces import SentencePieces
from lingraft.shards import open_tokens
from lingraft.sources import locate_source
from lingraft.store import Artefact

MIXTRAL = locate_source("package:mistral_common/data/tokenizer.model.v1")
TEXTS = ["Hello, world.", "你好，世界。", "literal <s> and </s>"]


class SetsFacts(Facts):
    """What encode reads of the corpus facts."""

    sets: dict[str, dict[str, dict[str, int]]]


def corpus_folder(path: Path) -> Facts:
    (path / "datasets.toml").write_text("", encoding="utf-8")
    for split, texts in (("train", TEXTS), ("valid", TEXTS[:1])):
        rows = "".join(json.dumps({"id": str(n), "text": t}) + "\n" for n, t in enumerate(texts))
        (path / f"mix-{split}.jsonl").write_text(rows, encoding="utf-8")
    return SetsFacts(sets={"mix": {"train": {"num_docs": 3}, "valid": {"num_docs": 1}}})


def tokenizer_folder(path: Path) -> Facts:
    write_tokenizer(MIXTRAL.read_bytes(), path)
    return Facts()


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artefact]:
    """Three documents and Mixtral's own tokenizer."""
    folder = tmp_path_factory.mktemp("inputs")
    return {
        "corpus": make_artefact(folder, "10-corpus", corpus_folder),
        "tokenizer": make_artefact(folder, "30-tokenizer", tokenizer_folder),
    }


def test_documents_are_whole_with_bos_and_eos(tmp_path: Path, inputs: dict[str, Artefact]) -> None:
    draft = empty_draft(tmp_path, "35-encode")
    facts = run(EncodeSettings(), inputs, draft)
    pieces = SentencePieces.read(MIXTRAL)
    file = open_tokens(draft.path / "mix-train.npy")
    for number, text in enumerate(TEXTS):
        assert file.doc(number).tolist() == [1, *pieces.encode(text), 2]
    assert facts.sets["mix"]["train"].num_docs == 3
    assert facts.sets["mix"]["train"].total_tokens == len(file.ids)
    assert facts.total_tokens == len(file.ids) + facts.sets["mix"]["valid"].total_tokens
    assert facts.token_bytes == 2


def test_sizes_in_bytes_stand_beside(tmp_path: Path, inputs: dict[str, Artefact]) -> None:
    draft = empty_draft(tmp_path, "35-encode")
    facts = run(EncodeSettings(), inputs, draft)
    sizes = np.load(draft.path / "mix-train.bytes.npy")
    assert sizes.tolist() == [13, 18, 20]
    assert facts.sets["mix"]["train"].size_bytes == 51


def test_bos_and_eos_can_be_left_out(tmp_path: Path, inputs: dict[str, Artefact]) -> None:
    draft = empty_draft(tmp_path, "35-encode")
    run(EncodeSettings(append_eos=False, prepend_bos=False), inputs, draft)
    first = open_tokens(draft.path / "mix-train.npy").doc(0).tolist()
    assert first == SentencePieces.read(MIXTRAL).encode(TEXTS[0])
