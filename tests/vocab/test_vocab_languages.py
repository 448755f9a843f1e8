"""Searches in other languages: what new pieces are, and that no other text changes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from byte_tokenizers import extend, trained_bytes
from samples import ARABIC, CHINESE, HINDI, KAZAKH, THAI, VIETNAMESE
from searches import search_files, write_rows
from small_tokenizers import trained

from lingraft.encoder import FastEncoder
from lingraft.pieces import SentencePieces
from lingraft.text import in_scripts
from lingraft.tokenizer.piecerules import PieceRow, extend_model
from lingraft.vocab.chars import Row
from lingraft.vocab.command import SearchResult

PROOF = {"Thai": THAI, "Arabic": ARABIC, "Devanagari": HINDI}
OTHERS = [*CHINESE, *KAZAKH, *VIETNAMESE, "plain text, 123 ๏ ฿ ، ؟ ।", "e\u0301 \u0e4f", "🌈"]
BASES: Mapping[str, tuple[str, bytes]] = {
    "sentencepiece": ("base.model", trained()),
    "byte-level": ("base.json", trained_bytes().encode()),
}


def search_language(
    place: Path, texts: list[str], family: str, **options: Any
) -> tuple[SearchResult, Callable[[list[str]], list[list[int]]], Callable[[list[str]], Any]]:
    """Search on sentences; give the encoders of the base and of the extended tokenizer."""
    name, content = BASES[family]
    (place / name).write_bytes(content)
    write_rows(place / "train.jsonl", texts[:18] * 2)
    write_rows(place / "valid.jsonl", texts[18:])
    common = {"base": name, "corpus": "train.jsonl", "eval": {"a": "valid.jsonl"}}
    found = search_files(**(common | {"chars": None, "max_size": 150} | options))
    text = (place / "out" / "pieces.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    if family == "sentencepiece":
        base = SentencePieces(content)
        model = extend_model(base, [PieceRow(**{**row, "count": 0}) for row in rows])
        return found, base.encode_batch, SentencePieces(model).encode_batch
    for row in rows:
        row.pop("count")
    encoder = FastEncoder.parse(content.decode())
    extended = extend(json.loads(content), [Row(**row) for row in rows], encoder.size)
    return found, encoder.encode_batch, FastEncoder.parse(extended).encode_batch


@pytest.mark.usefixtures("without_plots")
@pytest.mark.parametrize("family", BASES)
@pytest.mark.parametrize("script", PROOF)
def test_a_language_of_its_own_script_is_found_and_changes_no_other_text(
    place: Path, script: str, family: str
) -> None:
    texts = PROOF[script]
    found, before, after = search_language(place, texts, family)
    assert found.choice["scripts"] == [script]
    assert len(found.pieces) > 9
    whole = [piece for piece in found.pieces if not piece.startswith("<0x")]
    assert all(in_scripts(piece, [script]) for piece in whole)
    assert family == "byte-level" or len(whole) == len(found.pieces)
    others = [line for s, lines in PROOF.items() if s != script for line in lines] + [
        text for text in OTHERS if not in_scripts(text, [script])
    ]
    assert before(others) == after(others)
    tokens = [sum(map(len, encode(texts[18:]))) for encode in (before, after)]
    assert tokens[1] < tokens[0]
    assert found.choice["evals"]["a"]["base"]["tokens"] == tokens[0]
    assert found.choice["evals"]["a"]["choice"]["tokens"] == tokens[1]


@pytest.mark.usefixtures("without_plots")
@pytest.mark.parametrize("family", BASES)
@pytest.mark.parametrize("script", ["Latin", "Cyrillic"])
def test_words_of_a_language_with_spaces_may_begin_with_one(
    place: Path, script: str, family: str
) -> None:
    texts = {"Latin": VIETNAMESE, "Cyrillic": KAZAKH}[script]
    found, before, after = search_language(place, texts, family)
    assert (found.choice["scripts"], found.choice["word_start"]) == ([script], True)
    assert any(piece.startswith("▁") and len(piece) > 2 for piece in found.pieces)
    assert not any("▁" in piece[1:] for piece in found.pieces)
    assert found.choice["evals"]["a"]["num_words"] == sum(len(t.split()) for t in texts[18:])
    assert found.choice["evals"]["a"]["choice"]["tokens"] == sum(map(len, after(texts[18:])))
    assert before(CHINESE) == after(CHINESE)


def test_words_need_not_begin_with_a_space(place: Path) -> None:
    found, *_ = search_language(place, KAZAKH, "sentencepiece", word_start=False)
    assert not any("▁" in piece for piece in found.pieces)


@pytest.mark.usefixtures("without_plots")
def test_what_changes_in_other_languages_of_the_script_is_told(place: Path) -> None:
    english = ["the cat sat on the mat", "what is the matter?"]
    keep = {"en": write_rows(place / "en.jsonl", english), "zh": "zh.jsonl"}
    found, before, after = search_language(place, VIETNAMESE, "sentencepiece", keep=keep)
    kept = found.choice["kept"]
    assert (kept["en"]["num_docs"], kept["zh"]["num_docs"]) == (2, 80)
    assert kept["en"]["base_tokens"] == sum(map(len, before(english)))
    assert kept["en"]["tokens"] == sum(map(len, after(english)))
    assert kept["zh"]["tokens"] == kept["zh"]["base_tokens"]
    assert kept["zh"]["tokens_saved_frac"] == 0
