"""Base tokenizers of both families: what is read, what it says, what is refused."""

import hashlib
import json
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
from byte_tokenizers import NUM_BYTES, byte_level, spell
from huggingface_hub import errors
from samples import ARABIC, CHINESE, VIETNAMESE
from small_tokenizers import FIRST, build, trained, without_bytes

from lingraft.bases import (
    BORDER,
    BaseTokenizer,
    ByteLevelBase,
    FastSentencePieceBase,
    SentencePieceBase,
    read_base,
)
from lingraft.errors import InputError, UsageError
from lingraft.fast import fast_tokenizer
from lingraft.pieces import Kind, SentencePieces

MODEL = SentencePieceBase(SentencePieces(build()))
FAST = FastSentencePieceBase(json.dumps(fast_tokenizer(MODEL.pieces)))
BYTES = ByteLevelBase(json.dumps(byte_level([(b"a", b"b"), (b" ", b"ab")])))


def write_json(folder: Path, spec: Any) -> str:
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(spec), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("base", [MODEL, FAST], ids=["model", "json"])
def test_both_forms_of_a_sentencepiece_base_say_the_same(base: BaseTokenizer) -> None:
    assert (base.family, base.size, base.has_normalizer) == ("sentencepiece", FIRST + 12, False)
    assert base.has_byte_fallback
    assert base.encode_batch(["abc 嬗", "<s>"]) == MODEL.pieces.encode_batch(["abc 嬗", "<s>"])
    assert [ids.tolist() for ids in base.encode_words(["abc"])] == base.encode_batch(["abc"])
    assert (base.piece(FIRST), base.piece_bytes(FIRST)) == ("▁▁", b"  ")
    assert (base.piece_bytes(3 + 0xE5), base.piece_bytes(1)) == (b"\xe5", b"")
    assert [base.is_normal(id) for id in (0, 1, 3, FIRST)] == [False, False, False, True]
    assert base.spell("中".encode()) == (FIRST + 10,)
    assert base.spell("嬗".encode()) == (3 + 0xE5, 3 + 0xAC, 3 + 0x97)
    assert base.spell_bytes(b" a") == "▁a"
    assert base.find_piece("abc") == FIRST + 3
    assert base.find_piece("nothing") is None


def test_control_and_byte_pieces_are_not_found_by_their_spelling() -> None:
    assert MODEL.find_piece("<s>") is None
    assert MODEL.find_piece("<0xE5>") is None


@pytest.mark.parametrize("base", [MODEL, FAST], ids=["model", "json"])
def test_rules_are_all_pairs_that_join_into_a_piece(base: BaseTokenizer) -> None:
    rules = base.rule_arrays()
    rows = [[base.piece(id) for id in row] for row in np.stack(rules[:3], axis=1).tolist()]
    assert rows[:2] == [["a", "b", "ab"], ["▁", "a", "▁a"]]
    assert sorted(rows[2:4]) == [["a", "bc", "abc"], ["ab", "c", "abc"]]
    assert rows[4:] == [["b", "c", "bc"], ["中", "文", "中文"], ["▁", "▁", "▁▁"]]
    assert (np.diff(rules.rank_R) >= 0).all()


def test_pieces_of_equal_score_are_of_equal_rank() -> None:
    pieces = (("ab", -1.0), ("bc", -1.0), ("cd", 0.0), *((c, -9.0) for c in "abcd"))
    rules = SentencePieceBase(SentencePieces(build(pieces))).rule_arrays()
    assert rules.merged_R.tolist() == [FIRST + 2, FIRST, FIRST + 1]
    assert rules.rank_R[1] == rules.rank_R[2] > rules.rank_R[0]


@pytest.mark.parametrize("base", [MODEL, FAST, BYTES], ids=["model", "json", "bytes"])
def test_rules_are_kept_by_the_piece_that_they_make(base: BaseTokenizer) -> None:
    rules = base.rule_arrays(lambda piece: piece == "ab")
    assert [base.piece(int(ids[0])) for ids in rules[:3]] == ["a", "b", "ab"]
    assert all(len(ids) == 0 for ids in base.rule_arrays(lambda _: False))


def test_a_byte_level_base_spells_bytes_visibly() -> None:
    joined = NUM_BYTES + 1
    assert (BYTES.family, BYTES.size) == ("byte-level", NUM_BYTES + 2)
    assert (BYTES.piece(joined), BYTES.piece_bytes(joined)) == ("Ġab", b" ab")
    assert [BYTES.piece_bytes(byte) for byte in range(256)] == [bytes([b]) for b in range(256)]
    assert BYTES.spell_bytes(bytes(range(256))) == spell(bytes(range(256)))
    assert BYTES.spell(b" ab") == (joined,)
    assert BYTES.find_piece("Ġab") == joined
    assert BYTES.is_normal(joined)


def test_borders_stand_between_pre_tokens() -> None:
    texts = ["ab ab1", "", "a"]
    words = [ids.tolist() for ids in BYTES.encode_words(texts)]
    assert words == [[256, BORDER, 257, BORDER, 0x31], [], [0x61]]
    assert [[i for i in ids if i != BORDER] for ids in words] == BYTES.encode_batch(texts)


def test_added_tokens_are_no_normal_pieces() -> None:
    spec = byte_level()
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    spec["added_tokens"] = [
        {"id": NUM_BYTES, "content": "<end>", "special": True, **flags},
        {"id": NUM_BYTES + 2, "content": "<tool>", "special": False, **flags},
    ]
    base = ByteLevelBase(json.dumps(spec))
    assert base.size == NUM_BYTES + 3
    assert [base.piece(NUM_BYTES + n) for n in range(3)] == ["<end>", "", "<tool>"]
    assert [base.piece_bytes(NUM_BYTES + n) for n in range(3)] == [b"", b"", b"<tool>"]
    assert not any(base.is_normal(NUM_BYTES + n) for n in range(3))
    assert base.encode_batch(["<end>"]) == [list(b"<end>")]  # special: text stays text


def test_a_piece_that_spells_no_bytes_stands_for_none() -> None:
    spec = byte_level()
    spec["model"]["vocab"]["｜"] = NUM_BYTES
    assert ByteLevelBase(json.dumps(spec)).piece_bytes(NUM_BYTES) == b""


@pytest.mark.parametrize(
    ("normalizer", "changes"), [(None, False), ({"type": "NFC"}, True)], ids=["none", "nfc"]
)
def test_a_normaliser_is_told(normalizer: Any, changes: bool) -> None:
    assert ByteLevelBase(json.dumps({**byte_level(), "normalizer": normalizer})).has_normalizer is (
        changes
    )
    spec = fast_tokenizer(MODEL.pieces)
    if changes:
        spec["normalizer"]["normalizers"].append(normalizer)
    assert FastSentencePieceBase(json.dumps(spec)).has_normalizer is changes


def test_a_model_is_preferred_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(build())
    write_json(tmp_path, byte_level())
    base = read_base(str(tmp_path))
    assert isinstance(base, SentencePieceBase)
    assert base.name == str(tmp_path / "tokenizer.model")
    assert base.digest == hashlib.sha256(build()).hexdigest()


def test_a_folder_with_a_fast_tokenizer_alone_is_read(tmp_path: Path) -> None:
    path = write_json(tmp_path, byte_level())
    base = read_base(str(tmp_path))
    assert isinstance(base, ByteLevelBase)
    assert base.digest == hashlib.sha256(Path(path).read_bytes()).hexdigest()
    assert read_base(path).digest == base.digest


@pytest.mark.parametrize("metaspace", [False, True])
def test_a_fast_tokenizer_of_the_sentencepiece_kind_is_read(
    tmp_path: Path, metaspace: bool
) -> None:
    spec = fast_tokenizer(MODEL.pieces)
    if metaspace:
        spec["normalizer"] = None
        spec["pre_tokenizer"] = {
            "type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False
        }  # fmt: skip
    base = read_base(write_json(tmp_path, spec))
    assert isinstance(base, FastSentencePieceBase)
    assert base.encode_batch(["abc 中文"]) == MODEL.encode_batch(["abc 中文"])


@pytest.mark.parametrize("name", ["hub:owner/name", "owner/name"])
def test_a_hub_name_is_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    asked: dict[str, Any] = {}

    def give(repository: str, **how: Any) -> str:
        asked.update(how, repository=repository)
        (tmp_path / "tokenizer.model").write_bytes(build())
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", give)
    assert read_base(name).family == "sentencepiece"
    assert asked["repository"] == "owner/name"
    assert {"tokenizer.model", "tokenizer.json"} < set(asked["allow_patterns"])


def test_a_folder_of_that_name_goes_before_the_hub(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "name").mkdir(parents=True)
    write_json(tmp_path / "owner" / "name", byte_level())
    assert read_base("owner/name").family == "byte-level"


def test_what_the_hub_refuses_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise errors.LocalEntryNotFoundError("you are offline")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(InputError, match="owner/name"):
        read_base("owner/name")


@pytest.mark.parametrize("name", ["/nowhere/at/all", "nowhere/tokenizer.json", "nowhere", "./a/b"])
def test_a_path_to_nothing_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="nothing at"):
        read_base(name)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"neither tokenizer\.model nor tokenizer\.json"):
        read_base(str(tmp_path))


@pytest.mark.parametrize("content", [b"{}", b"no json", b"\xff\xfe", b"[]", b'{"model": 1}'])
def test_a_file_that_is_no_fast_tokenizer_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(InputError, match="not a fast tokenizer"):
        read_base(str(tmp_path))


@pytest.mark.parametrize("kind", ["Unigram", "WordPiece", "WordLevel"])
def test_another_algorithm_is_refused(tmp_path: Path, kind: str) -> None:
    spec = byte_level(type=kind)
    with pytest.raises(InputError, match=f"of type {kind}; expected BPE"):
        read_base(write_json(tmp_path, spec))


@pytest.mark.parametrize(
    ("key", "value"),
    [("end_of_word_suffix", "</w>"), ("continuing_subword_prefix", "##"), ("dropout", 0.1)],
)
def test_bpe_with_marks_or_chance_is_refused(tmp_path: Path, key: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"{key} = {value!r}"):
        read_base(write_json(tmp_path, byte_level(**{key: value})))


@pytest.mark.parametrize(
    "pre_tokenizer", [None, {"type": "Whitespace"}, {"type": "Metaspace", "split": True}]
)
def test_bpe_on_neither_bytes_nor_whole_texts_is_refused(
    tmp_path: Path, pre_tokenizer: Any
) -> None:
    falls_back = pre_tokenizer is not None
    spec = {**byte_level(byte_fallback=falls_back), "pre_tokenizer": pre_tokenizer}
    with pytest.raises(InputError, match="neither works on bytes nor falls back"):
        read_base(write_json(tmp_path, spec))


def test_a_model_without_bytes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(build(change=without_bytes))
    with pytest.raises(InputError, match=r"no byte fallback.*0 of 256"):
        read_base(str(tmp_path))


def test_a_fast_tokenizer_that_lacks_a_fallback_byte_is_refused(tmp_path: Path) -> None:
    spec = fast_tokenizer(MODEL.pieces)
    spec["model"]["vocab"].pop("<0xE5>")
    with pytest.raises(InputError, match=r"no byte fallback.*255 of 256"):
        read_base(write_json(tmp_path, spec))


def test_unused_pieces_are_refused() -> None:
    def change(proto: Any) -> None:
        proto.pieces[FIRST].type = int(Kind.UNUSED)

    with pytest.raises(InputError, match="marked as unused"):
        SentencePieceBase(SentencePieces(build(change=change)))


def test_both_forms_encode_every_language_alike() -> None:
    model = SentencePieceBase(SentencePieces(trained()))
    fast = FastSentencePieceBase(json.dumps(fast_tokenizer(model.pieces)))
    texts = [*CHINESE, *ARABIC, *VIETNAMESE]
    assert fast.encode_batch(texts) == model.encode_batch(texts)


@pytest.mark.parametrize(
    ("file", "family", "size"),
    [
        ("gpt2.tokenizer.json", "byte-level", 50257),
        ("qwen3.tokenizer.json", "byte-level", 151669),
        ("mixtral-mistral-v0.1.tokenizer.json", "sentencepiece", 32000),
        ("mixtral-8x7b-v0.1.tokenizer.model", "sentencepiece", 32000),
        ("baichuan-7b-64000.tokenizer.model", "sentencepiece", 64000),
    ],
)
def test_published_tokenizers_are_read(
    shared_data: Path, file: str, family: str, size: int
) -> None:
    base = read_base(str(shared_data / "tokenizers" / file))
    assert (base.family, base.size) == (family, size)
    assert base.has_normalizer is (file.startswith(("qwen3", "baichuan")))
