"""Characters as pieces: what a byte-level base needs for them, and that the counts are exact."""

import io
import json
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from byte_tokenizers import NUM_BYTES, byte_level, extend, spell, trained_bytes
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import ARABIC, CHINESE, VIETNAMESE
from small_tokenizers import build

from lingraft.bases import ByteLevelBase, SentencePieceBase, read_base
from lingraft.encoder import FastEncoder
from lingraft.pieces import SentencePieces
from lingraft.text import in_scripts
from lingraft.vocab.alphabet import Alphabet
from lingraft.vocab.chars import CharPieces, Row, is_safe

# 父 E7 88 B6 and 爷 E7 88 B7 begin alike; B6 E6 straddles 父 and what begins with E6, as 文 does.
SMALL = byte_level([(b"\xb6", b"\xe6")])
LOOKED_UP = byte_level([(b"\xb6", b"\xe6")], ignore_merges=True)
V = NUM_BYTES + 1
FATHER, GRANDFATHER, ZERO = V + ord("父"), V + ord("爷"), V + ord("〇")


def alphabet_of(spec: dict[str, Any], *scripts: str) -> Alphabet:
    return Alphabet(ByteLevelBase(json.dumps(spec)), scripts or ("Han",))


HAN = alphabet_of(SMALL)


def test_a_character_of_three_tokens_needs_one_partial_piece() -> None:
    chars = CharPieces(HAN, [FATHER])
    begin = spell(b"\xe7\x88")
    assert chars.rows(1) == [
        Row(begin, "partial", spell(b"\xe7"), spell(b"\x88")),
        Row(spell("父".encode()), "char", begin, spell(b"\xb6")),
    ]
    assert chars.num_added(0) == 0
    assert chars.num_added(1) == 2


def test_characters_that_begin_alike_share_their_partial_piece() -> None:
    chars = CharPieces(HAN, [FATHER, GRANDFATHER])
    assert chars.num_added(2) == 3
    assert [row.kind for row in chars.rows(2)] == ["partial", "char", "char"]
    assert chars.partial_piece(0) == spell(b"\xe7\x88")


def test_a_character_that_is_no_piece_is_spelled_with_partial_pieces() -> None:
    chars = CharPieces(HAN, [FATHER, GRANDFATHER])
    assert chars.spell(GRANDFATHER, 0) == (0xE7, 0x88, 0xB7)
    assert chars.spell(GRANDFATHER, 1) == (V + 0, 0xB7)


def test_four_tokens_are_folded_from_the_left() -> None:
    code = V + ord("𠮷")  # F0 A0 AE B7
    chars = CharPieces(HAN, [code])
    pieces = [spell(b"\xf0\xa0\xae\xb7"[:size]) for size in (2, 3, 4)]
    assert [row.piece for row in chars.rows(1)] == pieces
    assert chars.num_added(1) == 3
    assert chars.spell(V + ord("𠮸"), 1) == (V + 1, 0xB8)


def test_the_largest_number_of_characters_that_fits_is_told() -> None:
    chars = CharPieces(HAN, [FATHER, GRANDFATHER])
    assert [chars.num_chars_within(n) for n in range(5)] == [0, 0, 1, 2, 2]


def test_a_character_is_refused_if_others_begin_like_it() -> None:
    assert is_safe(HAN, FATHER)
    assert not is_safe(HAN, ZERO)  # 〇 E3 80 87 begins like the comma 、 E3 80 81


def test_a_character_of_two_tokens_is_safe_whatever_begins_like_it() -> None:
    alphabet = alphabet_of(byte_level([(b"\xe3", b"\x80")]))
    assert is_safe(alphabet, V + ord("〇"))
    assert CharPieces(alphabet, [V + ord("〇")]).num_added(1) == 1


def test_what_is_no_character_spelled_in_tokens_is_no_candidate() -> None:
    beginning = next(c for c in HAN.read(["父文"])[0].tolist() if c >= V)
    for code in (0x41, V + ord("a"), beginning):
        assert not is_safe(HAN, code)


def test_a_piece_that_no_rule_leads_to_is_not_made_twice() -> None:
    for bytes_ in ("父".encode(), "父".encode()[:2]):
        spec = byte_level()
        spec["model"]["vocab"][spell(bytes_)] = NUM_BYTES
        assert not is_safe(alphabet_of(spec), NUM_BYTES + 1 + ord("父"))


def test_sentencepiece_needs_no_rule_and_no_partial_piece() -> None:
    alphabet = Alphabet(SentencePieceBase(SentencePieces(build())), ["Han"])
    code = alphabet.num_base + ord("父")
    chars = CharPieces(alphabet, [code])
    assert is_safe(alphabet, code)
    assert chars.rows(1) == [Row("父", "char", "", "")]
    assert chars.num_added(1) == 1
    assert chars.spell(alphabet.num_base + ord("爷"), 1) == alphabet.spelling(
        alphabet.num_base + ord("爷")
    )


def test_the_beginning_before_a_straddling_token_is_joined_too() -> None:
    codes, fixed_V = HAN.read(["父文"])
    chars = CharPieces(HAN, [GRANDFATHER])
    assert chars.spell(int(codes[0]), 0) == (0xE7, 0x88)
    assert chars.spell(int(codes[0]), 1) == (V + 0,)
    assert np.flatnonzero(fixed_V).tolist() == [0x87, 0x96, NUM_BYTES]


def predicted(alphabet: Alphabet, chars: CharPieces, num_chars: int, texts: Sequence[str]) -> Any:
    """Count the ids of the extended tokenizer from codes alone."""
    codes, fixed_V = alphabet.read(texts)
    counts = Counter({int(id): int(fixed_V[id]) for id in np.flatnonzero(fixed_V)})
    size, numbers = alphabet.num_base, {"char": list[int](), "partial": list[int]()}
    for number, row in enumerate(chars.rows(num_chars)):
        numbers[row.kind].append(size + number)
    pieces = dict(zip(chars.codes[:num_chars], numbers["char"], strict=True))
    for code, count in Counter(codes[codes >= 0].tolist()).items():
        if code < size:
            counts[code] += count
        elif code in pieces:
            counts[pieces[code]] += count
        else:
            for part in chars.spell(code, num_chars):
                counts[part if part < size else numbers["partial"][part - size]] += count
    return counts


@cache
def read_alphabet(content: str, script: str) -> Alphabet:
    return Alphabet(ByteLevelBase(content), [script])


def check_exact(content: str, script: str, texts: Sequence[str], steps: int) -> int:
    """Compare with real encoding for several numbers of characters; give their number."""
    alphabet = read_alphabet(content, script)
    base = alphabet.base
    codes, _ = alphabet.read(texts)
    order = Counter(codes[codes >= base.size].tolist()).most_common()
    chars = CharPieces(alphabet, [code for code, _ in order if is_safe(alphabet, code)])
    for num_chars in sorted({len(chars.codes) * step // steps for step in range(1, steps + 1)}):
        rows = chars.rows(num_chars)
        assert len(rows) == chars.num_added(num_chars)
        longer = FastEncoder.parse(extend(json.loads(content), rows, base.size))
        real = Counter(id for ids in longer.encode_batch(texts) for id in ids)
        assert real == predicted(alphabet, chars, num_chars, texts)
    return len(chars.codes)


@pytest.mark.parametrize("script", ["Han", "Arabic", "Latin"])
def test_counts_are_those_of_the_extended_tokenizer(script: str) -> None:
    assert check_exact(trained_bytes(), script, [*CHINESE, *ARABIC, *VIETNAMESE], 5)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.text(st.sampled_from("父爷文中国今天，。 、〇a1𠮷𠮸爻的"), max_size=12), max_size=4)
)
def test_counts_are_exact_on_any_text(texts: list[str]) -> None:
    check_exact(json.dumps(SMALL), "Han", texts, 3)
    check_exact(json.dumps(LOOKED_UP), "Han", texts, 3)
    check_exact(trained_bytes(), "Han", texts, 3)


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cn"]), max_size=30))
def test_a_text_without_the_scripts_keeps_its_ids(text: str) -> None:
    text = "".join(char for char in "、。㉠" + text if not in_scripts(char, ["Han"]))
    assert _LONGER.encode_batch([text]) == HAN.base.encode_batch([text])


_ADDED = CharPieces(HAN, [V + ord(char) for char in "父爷是𠮷人"])
_LONGER = FastEncoder.parse(extend(SMALL, _ADDED.rows(5), V))


@pytest.mark.parametrize("name", ["gpt2", "qwen3"])
def test_counts_are_exact_with_published_tokenizers(shared_data: Path, name: str) -> None:
    path = shared_data / "tokenizers" / f"{name}.tokenizer.json"
    with (shared_data / "corpora" / "zh" / "wiki_rc_paragraphs.jsonl.zst").open("rb") as file:
        reader = io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(file), "utf-8")
        texts = [json.loads(next(reader))["text"] for _ in range(40)]
    assert read_base(str(path)).family == "byte-level"
    assert check_exact(path.read_text("utf-8"), "Han", [*texts, *CHINESE, "𠮷野家 父文"], 1)
