"""The fast encoder gives SentencePiece's ids, and reads no special piece out of text."""

import json
from pathlib import Path

import pytest
from byte_tokenizers import byte_level
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tokenizers import build, trained

from lingraft.encoder import FastEncoder
from lingraft.errors import InputError
from lingraft.fast import fast_tokenizer, write_tokenizer
from lingraft.pieces import SentencePieces

SMALL, TRAINED = SentencePieces(build()), SentencePieces(trained())


def encoder_of(pieces: SentencePieces) -> FastEncoder:
    return FastEncoder.parse(json.dumps(fast_tokenizer(pieces)))


def test_ids_are_those_of_sentencepiece_without_special_ids() -> None:
    assert encoder_of(SMALL).encode_batch(["abc", "", " 中文嬗"]) == [
        SMALL.encode("abc"),
        [],
        SMALL.encode(" 中文嬗"),
    ]


def test_a_literal_special_piece_stays_text() -> None:
    ids = encoder_of(SMALL).encode_batch(["<s>a</s>"])[0]
    assert ids == SMALL.encode("<s>a</s>")
    assert SMALL.bos_id not in ids


def test_decoding_gives_the_text_back_and_leaves_special_pieces_out() -> None:
    encoder = encoder_of(SMALL)
    ids = encoder.encode_batch(["  a 嬗\n"])[0]
    assert encoder.decode([SMALL.bos_id, *ids, SMALL.eos_id]) == "  a 嬗\n"
    assert encoder.decode_batch([ids, []]) == ["  a 嬗\n", ""]


def test_size_counts_every_piece() -> None:
    assert encoder_of(SMALL).size == len(SMALL.pieces)


def test_a_written_file_is_read_back(tmp_path: Path) -> None:
    write_tokenizer(SMALL.proto, tmp_path)
    encoder = FastEncoder.read(tmp_path / "tokenizer.json")
    assert encoder.encode_batch(["abc"]) == [SMALL.encode("abc")]


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from("thecat sonm  我们在这里嬗▁\n\t\0é🌈<s>0x"), max_size=60))
def test_sentencepiece_and_fast_encoder_agree_on_a_trained_model(text: str) -> None:
    assert _TRAINED_FAST.encode_batch([text]) == [TRAINED.encode(text)]
    assert _TRAINED_FAST.decode(TRAINED.encode(text)) == TRAINED.decode(TRAINED.encode(text))


_TRAINED_FAST = encoder_of(TRAINED)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        FastEncoder.read(tmp_path / "tokenizer.json")


@pytest.mark.parametrize("content", [b"{}", b"no json", b"\xff\xfe"])
def test_a_file_that_is_no_fast_tokenizer_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(InputError, match="not a fast tokenizer"):
        FastEncoder.read(tmp_path / "tokenizer.json")


def test_a_pattern_whose_search_never_ends_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    spec = byte_level()
    endless = {"Regex": "(?:a|aa|aaa)+c"}
    split = {"type": "Split", "pattern": endless, "behavior": "Isolated", "invert": False}
    spec["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [split, spec["pre_tokenizer"]],
    }
    encoder = FastEncoder.parse(json.dumps(spec), "odd.json")
    for encode in (encoder.encode_batch, encoder.encode_words):
        with pytest.raises(InputError, match=r"odd\.json: its library gave up on a text"):
            encode(["a" * 80])
    capfd.readouterr()  # the library tells of its panic on standard error


@pytest.mark.parametrize("prefix", ["xy", "é"])
def test_a_prefix_longer_than_a_piece_is_refused_before_the_library_ends(prefix: str) -> None:
    spec = byte_level([(b"a", b"b")])
    spec["model"]["continuing_subword_prefix"] = prefix
    with pytest.raises(InputError, match=r"model\.merges\[0\] joins 'b'"):
        FastEncoder.parse(json.dumps(spec))


def test_a_prefix_that_cuts_a_character_is_refused() -> None:
    spec = byte_level([(b"a", b"\xff")])
    spec["model"]["continuing_subword_prefix"] = "x"
    with pytest.raises(InputError, match=r"model\.merges\[0\] joins 'ÿ'"):
        FastEncoder.parse(json.dumps(spec))
