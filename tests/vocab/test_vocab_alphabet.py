"""What a base's tokens are to new pieces, in both families."""

import json
from typing import Any

import numpy as np
import pytest
from byte_tokenizers import NUM_BYTES, byte_level, spell, trained_bytes
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import ARABIC, CHINESE, HINDI, KAZAKH, THAI, VIETNAMESE
from small_tokenizers import BY_HAND, FIRST, build, trained

from lingraft.bases import BaseTokenizer, ByteLevelBase, SentencePieceBase
from lingraft.errors import UsageError
from lingraft.pieces import Kind, SentencePieces
from lingraft.vocab.alphabet import ALONE, BARRIER, CLASS_SHIFT, IS_SYMBOL, STARTS_WORD, Alphabet

B = BARRIER
SMALL = SentencePieceBase(SentencePieces(build()))
HAN = Alphabet(SMALL, ["Han"])
V = SMALL.size
ZHONGWEN, SPACES = FIRST + 5, FIRST + 6
"""Ids of 中文 and of the lone ▁."""
ZHONG, WEN = FIRST + 10, FIRST + 11

CYRILLIC_PIECES = (("▁д", -1.0), ("▁да", -2.0), *((c, -9.0 - n) for n, c in enumerate("▁да१")))
CYRILLIC = SentencePieceBase(SentencePieces(build(CYRILLIC_PIECES)))

A = "а".encode()  # D0 B0, Cyrillic
BYTE_RULES = [(A[:1], A[1:]), (b" ", A), (b"\xb6", b"\xe6")]


def bytes_base(spec: dict[str, Any]) -> ByteLevelBase:
    return ByteLevelBase(json.dumps(spec))


def codes_of(alphabet: Alphabet, *texts: str) -> list[int]:
    codes: list[int] = alphabet.read(texts)[0].tolist()
    return codes


def test_tokens_of_target_characters_are_symbols() -> None:
    symbols = np.flatnonzero(HAN.flags_C[:V] & IS_SYMBOL).tolist()
    assert symbols == [ZHONGWEN, ZHONG, WEN]
    assert [HAN.text_of(id) for id in symbols] == ["中文", "中", "文"]


def test_a_character_in_byte_pieces_is_one_code() -> None:
    assert codes_of(HAN, "中文嬗a") == [B, ZHONGWEN, V + ord("嬗"), B]
    assert HAN.text_of(V + ord("嬗")) == "嬗"
    assert [SMALL.piece(id) for id in HAN.spelling(V + ord("嬗"))] == ["<0xE5>", "<0xAC>", "<0x97>"]


def test_codes_of_points_are_ids_where_one_token_spells_them() -> None:
    chars = "中嬗a、"
    assert HAN.code_of_point[[ord(c) for c in chars]].tolist() == [ZHONG, V + ord("嬗"), B, B]


def test_documents_never_touch() -> None:
    assert codes_of(HAN, "嬗", "", "嬗") == [B, V + ord("嬗"), B, V + ord("嬗"), B]


def test_no_document_gives_no_code() -> None:
    codes, fixed_V = HAN.read([])
    assert codes.tolist() == []
    assert fixed_V.tolist() == [0] * V


def test_tokens_outside_symbols_are_counted_and_bytes_of_characters_are_not() -> None:
    fixed_V = HAN.read(["a嬗é"])[1]
    # ▁a is one piece; é is two byte pieces of another script.
    assert {SMALL.piece(i): int(fixed_V[i]) for i in np.flatnonzero(fixed_V)} == {
        "▁a": 1,
        "<0xC3>": 1,
        "<0xA9>": 1,
    }


def test_scripts_with_spaces_have_pieces_that_start_words() -> None:
    alphabet = Alphabet(CYRILLIC, ["Cyrillic"])
    word, mark, a = (CYRILLIC.find_piece(piece) for piece in ("▁да", "▁", "а"))
    assert alphabet.word_start
    assert alphabet.flags_C[word] == IS_SYMBOL | STARTS_WORD | 1 << CLASS_SHIFT
    assert alphabet.flags_C[mark] == IS_SYMBOL | STARTS_WORD
    assert alphabet.flags_C[a] == IS_SYMBOL | 1 << CLASS_SHIFT
    assert [alphabet.text_of(id) for id in (word, mark) if id is not None] == ["▁да", "▁"]


def test_a_lone_space_mark_is_a_symbol_only_before_a_target_character() -> None:
    alphabet = Alphabet(CYRILLIC, ["Cyrillic"])
    mark, a = CYRILLIC.find_piece("▁"), CYRILLIC.find_piece("а")
    assert codes_of(alphabet, "а") == [mark, a, B]
    assert codes_of(alphabet, "ж") == [mark, alphabet.num_base + ord("ж"), B]
    assert codes_of(alphabet, "x  да") == [B, CYRILLIC.find_piece("▁да"), B]
    assert alphabet.read(["x"])[1][mark] == 1


def test_words_are_not_started_where_no_spaces_are_written() -> None:
    alphabet = Alphabet(CYRILLIC, ["Cyrillic"], word_start=False)
    assert codes_of(alphabet, "да ж") == [B, alphabet.num_base + ord("ж"), B]
    assert not (alphabet.flags_C & STARTS_WORD).any()


def test_digits_stand_alone() -> None:
    alphabet = Alphabet(CYRILLIC, ["Devanagari"])
    one = CYRILLIC.find_piece("१")
    assert alphabet.flags_C[one] == IS_SYMBOL | ALONE
    assert alphabet.flags_C[alphabet.num_base + ord("२")] == IS_SYMBOL | ALONE


def test_a_piece_of_two_scripts_stands_alone() -> None:
    base = SentencePieceBase(SentencePieces(build((("дa", -1.0), *BY_HAND))))
    alphabet = Alphabet(base, ["Cyrillic", "Latin"])
    assert alphabet.flags_C[FIRST] == IS_SYMBOL | ALONE


def test_classes_part_scripts() -> None:
    flags_C = Alphabet(SMALL, ["Cyrillic", "Han", "Hiragana"]).flags_C
    assert [int(flags_C[V + ord(c)] >> CLASS_SHIFT) for c in "ж嬗の"] == [1, 2, 2]


def test_user_defined_pieces_join_with_nothing() -> None:
    def change(proto: Any) -> None:
        proto.pieces[ZHONG].type = int(Kind.USER_DEFINED)

    alphabet = Alphabet(SentencePieceBase(SentencePieces(build(change=change))), ["Han"])
    assert codes_of(alphabet, "中文") == [B, WEN, B]
    assert alphabet.code_of_point[ord("中")] == B
    assert alphabet.needs_general_path


@pytest.mark.parametrize(
    ("base", "script", "needed"),
    [
        (SMALL, "Han", False),
        (SMALL, "Latin", True),  # words are written apart: ▁a
        (SentencePieceBase(SentencePieces(build((("中a", -1.0), *BY_HAND)))), "Han", True),
        (SentencePieceBase(SentencePieces(build((("爷父", -1.0), *BY_HAND)))), "Han", True),
        (bytes_base(byte_level()), "Han", True),
    ],
)
def test_runs_encode_by_themselves_unless_a_piece_ties_them(
    base: BaseTokenizer, script: str, needed: bool
) -> None:
    assert Alphabet(base, [script]).needs_general_path is needed


def test_a_normaliser_needs_the_general_path() -> None:
    def change(proto: Any) -> None:
        proto.normalizer_spec.escape_whitespaces = False

    base = SentencePieceBase(SentencePieces(build(change=change)))
    assert Alphabet(base, ["Han"]).needs_general_path


def test_no_script_is_refused() -> None:
    with pytest.raises(UsageError, match="no scripts given"):
        Alphabet(SMALL, [])


def test_a_byte_level_character_is_a_code_where_its_own_tokens_cover_it() -> None:
    alphabet = Alphabet(bytes_base(byte_level(BYTE_RULES)), ["Han"])
    father, size = ord("父"), alphabet.num_base
    assert codes_of(alphabet, "父父") == [size + father, size + father, B]
    assert alphabet.spelling(size + father) == (0xE7, 0x88, 0xB6)
    assert not alphabet.read(["父父"])[1].any()


def test_the_beginning_of_a_straddled_character_has_a_code_that_never_joins() -> None:
    alphabet = Alphabet(bytes_base(byte_level(BYTE_RULES)), ["Han"])
    first, *rest = codes_of(alphabet, "父文")  # E7 88 [B6 E6] 96 87
    assert rest == [B]
    assert alphabet.spelling(first) == (0xE7, 0x88)
    assert alphabet.flags_C[first] == IS_SYMBOL | ALONE


def test_a_beginning_of_one_token_is_fixed() -> None:
    rules = [(b"\xe7", b"\x88"), (b"\xb6", b"\xe6")]
    alphabet = Alphabet(bytes_base(byte_level(rules)), ["Han"])
    codes, fixed_V = alphabet.read(["父文"])
    assert codes.tolist() == [B]
    assert np.flatnonzero(fixed_V).tolist() == [0x87, 0x96, NUM_BYTES, NUM_BYTES + 1]


def test_borders_of_pre_tokens_part_symbols() -> None:
    alphabet = Alphabet(bytes_base(byte_level(BYTE_RULES)), ["Cyrillic"])
    size, a, spaced = alphabet.num_base, NUM_BYTES, NUM_BYTES + 1
    zhe = size + ord("ж")
    assert codes_of(alphabet, "аа аа ж") == [a, a, B, spaced, a, B, 0x20, zhe, B]
    assert alphabet.text_of(spaced) == "▁а"


def test_a_space_before_a_border_is_fixed() -> None:
    alphabet = Alphabet(bytes_base(byte_level(BYTE_RULES)), ["Cyrillic"])
    codes, fixed_V = alphabet.read(["а  а"])  # а, one space alone, space and а
    assert codes.tolist() == [NUM_BYTES, B, NUM_BYTES + 1, B]
    assert np.flatnonzero(fixed_V).tolist() == [0x20]


def test_rules_say_how_a_character_is_spelled_even_where_whole_words_are_looked_up() -> None:
    spec = byte_level(ignore_merges=True)
    spec["model"]["vocab"][spell("父".encode())] = NUM_BYTES
    alphabet = Alphabet(bytes_base(spec), ["Han"])
    father = alphabet.num_base + ord("父")
    assert alphabet.code_of_point[ord("父")] == father
    assert codes_of(alphabet, "父") == [NUM_BYTES, B]  # the word is in the vocabulary
    assert codes_of(alphabet, "父父") == [father, father, B]


def num_tokens(alphabet: Alphabet, texts: list[str]) -> tuple[int, int]:
    """Count tokens from codes, and as the base gives them."""
    codes, fixed_V = alphabet.read(texts)
    inside = sum(len(alphabet.spelling(code)) for code in codes.tolist() if code >= 0)
    return inside + int(fixed_V.sum()), sum(map(len, alphabet.base.encode_batch(texts)))


SCRIPTS = ["Thai", "Arabic", "Devanagari", "Latin", "Cyrillic", "Han"]
TRAINED = SentencePieceBase(SentencePieces(trained()))
BASES = [TRAINED, ByteLevelBase(trained_bytes())]


@pytest.mark.parametrize("base", BASES, ids=lambda base: base.family)
@pytest.mark.parametrize("script", SCRIPTS)
def test_no_token_is_lost_or_counted_twice(base: BaseTokenizer, script: str) -> None:
    texts = [*THAI, *ARABIC, *HINDI, *VIETNAMESE, *KAZAKH, *CHINESE]
    told, real = num_tokens(Alphabet(base, [script]), texts)
    assert told == real


MIXED = "the ca父爷文中国，。 ▁é\n\u0301嬗<s>🌈"
ALPHABETS = [Alphabet(base, [script]) for base in BASES for script in ("Han", "Latin")]


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(ALPHABETS),
    st.lists(
        st.text(st.sampled_from("the ca父爷文中国，。 ▁é\n\u0301嬗<s>🌈"), max_size=20), max_size=4
    ),
)
def test_codes_and_fixed_tokens_make_up_any_text(alphabet: Alphabet, texts: list[str]) -> None:
    told, real = num_tokens(alphabet, texts)
    assert told == real
