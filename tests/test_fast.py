"""tokenizer.json and its companions say what the SentencePiece model says."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tokenizers import build, trained, without_bytes

from lingraft.encoder import FastEncoder
from lingraft.errors import InputError
from lingraft.fast import fast_tokenizer, merge_rules, write_tokenizer
from lingraft.pieces import SPACE, Kind, SentencePieces, parse_model
from lingraft.sources import locate_source
from lingraft.tokenizer.hard import HARD_TEXTS, every_code_point

SMALL = SentencePieces(build())
MIXTRAL = locate_source("package:mistral_common/data/tokenizer.model.v1")
TEXTS = ["", "a", "  中文 a  <0x0A>\n\0 ▁", "the cat  sat\n\n  on 嬗变 é🌈", " \t "]


def test_every_split_of_a_piece_is_a_rule_in_the_order_of_scores() -> None:
    assert merge_rules(SMALL) == [
        ("a", "b"),
        (SPACE, "a"),
        ("ab", "c"),
        ("a", "bc"),
        ("b", "c"),
        ("中", "文"),
        (SPACE, SPACE),
    ]


def test_equal_scores_are_ordered_by_id() -> None:
    tied = [("aaaa", -7.0), ("aa", -7.0), ("a", -9.0)]
    assert merge_rules(SentencePieces(build(tied))) == [("aa", "aa"), ("a", "a")]


def test_a_byte_or_control_piece_is_in_no_rule() -> None:
    spelled = [("<s", -1.0), (">", -2.0), ("<", -3.0), ("s", -4.0), ("<s>a", -5.0), ("a", -6.0)]
    assert merge_rules(SentencePieces(build(spelled))) == [("<", "s")]


def test_the_published_mixtral_file_is_rebuilt_part_by_part(shared_data: Path) -> None:
    path = shared_data / "tokenizers" / "mixtral-mistral-v0.1.tokenizer.json"
    published = json.loads(path.read_text(encoding="utf-8"))
    ours = fast_tokenizer(SentencePieces.read(MIXTRAL))
    rules = [tuple(rule.split(" ")) for rule in published["model"].pop("merges")]
    assert ours["model"].pop("merges") == rules
    assert ours["model"].pop("ignore_merges") is False  # the default, younger than that file
    assert ours == published


def test_the_files_are_written_and_the_model_is_kept_byte_for_byte(tmp_path: Path) -> None:
    write_tokenizer(SMALL.proto, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
    ]
    assert (tmp_path / "tokenizer.model").read_bytes() == SMALL.proto


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_tokenizer(trained(), tmp_path / name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


@pytest.mark.parametrize("model_type", [None, "mixtral", "mistral", "llama"])
def test_transformers_loads_the_folder_as_it_is(tmp_path: Path, model_type: str | None) -> None:
    from transformers import AutoTokenizer

    proto = trained()
    write_tokenizer(proto, tmp_path)
    if model_type:
        (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    pieces, fast = SentencePieces(proto), FastEncoder.read(tmp_path / "tokenizer.json")
    for text in TEXTS:
        ids = [pieces.bos_id, *pieces.encode(text)]
        assert loaded(text).input_ids == ids == [pieces.bos_id, *fast.encode_batch([text])[0]]
        assert loaded.decode(ids, skip_special_tokens=True) == pieces.decode(ids)
    assert (loaded.bos_token_id, loaded.eos_token_id, loaded.unk_token_id) == (1, 2, 0)
    assert len(loaded) == len(pieces.pieces)


def test_a_model_without_dummy_prefix_has_none_in_the_fast_form() -> None:
    def change(proto: Any) -> None:
        proto.normalizer_spec.add_dummy_prefix = False

    pieces = SentencePieces(build(change=change))
    fast = FastEncoder.parse(json.dumps(fast_tokenizer(pieces)))
    for text in ("abc", " a", "", "中文"):
        assert fast.encode_batch([text])[0] == pieces.encode(text)
        assert fast.decode(pieces.encode(text)) == text


def test_a_model_without_byte_fallback_joins_unknown_characters_in_both_forms() -> None:
    pieces = SentencePieces(build(change=without_bytes))
    fast = FastEncoder.parse(json.dumps(fast_tokenizer(pieces)))
    assert fast.encode_batch(["a嬗变b"])[0] == pieces.encode("a嬗变b")


def normalizer(name: str, value: object) -> Callable[[Any], None]:
    return lambda proto: setattr(proto.normalizer_spec, name, value)


def last_piece(kind: Kind) -> Callable[[Any], None]:
    return lambda proto: setattr(proto.pieces[-1], "type", int(kind))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (normalizer("remove_extra_whitespaces", True), "removes extra spaces"),
        (normalizer("escape_whitespaces", False), "leaves spaces unescaped"),
        (
            lambda proto: setattr(proto.trainer_spec, "treat_whitespace_as_suffix", True),
            "at the end of words",
        ),
        (last_piece(Kind.UNUSED), "marked as unused"),
    ],
)
def test_what_the_fast_form_cannot_say_is_refused(
    change: Callable[[Any], None], reason: str
) -> None:
    with pytest.raises(InputError, match=reason):
        fast_tokenizer(SentencePieces(build(change=change)))


OWN = ("中文", "<x>", "ab", "▁c", "\n")
"""User-defined pieces: text of any kind, one in front of another, with a space, a newline."""


def with_own_pieces(prefixed: bool = True) -> SentencePieces:
    def change(proto: Any) -> None:
        proto.normalizer_spec.add_dummy_prefix = prefixed
        for piece in proto.pieces:
            if piece.piece in OWN:
                piece.type = int(Kind.USER_DEFINED)
        known = {piece.piece for piece in proto.pieces}
        for piece in OWN:
            if piece not in known:
                proto.pieces.add(piece=piece, score=0.0, type=int(Kind.USER_DEFINED))

    return SentencePieces(build(change=change))


@pytest.mark.parametrize("prefixed", [True, False])
@given(
    text=st.lists(
        st.sampled_from(
            [*OWN, "a", "b", "c", " ", "中", "文", "<", "x>", "s>", "嬗", "<s>", "</s>", "<unk>",
             "<0x0A>", "<0xE5>", "▁", "é"]
        ),
        max_size=12,
    ).map("".join)
)  # fmt: skip
@settings(max_examples=400, deadline=None)
def test_user_defined_pieces_are_cut_out_alike_in_both_forms(prefixed: bool, text: str) -> None:
    pieces, fast = OWN_FORMS[prefixed]
    ids = pieces.encode(text)
    assert fast.encode_batch([text])[0] == ids
    assert fast.decode(ids) == pieces.decode(ids)


OWN_FORMS = {
    prefixed: (pieces, FastEncoder.parse(json.dumps(fast_tokenizer(pieces))))
    for prefixed in (True, False)
    for pieces in [with_own_pieces(prefixed)]
}


def test_a_control_piece_of_one_character_beside_user_defined_ones_is_refused() -> None:
    def change(proto: Any) -> None:
        proto.pieces[-1].type = int(Kind.USER_DEFINED)
        proto.pieces.add(piece="é", score=0.0, type=int(Kind.CONTROL))

    with pytest.raises(InputError, match="no seam in its piece 'é'"):
        fast_tokenizer(SentencePieces(build(change=change)))


def test_mistral_v3_is_the_same_in_both_forms(shared_data: Path) -> None:
    path = shared_data / "tokenizers" / "mistral-v3-32768.tokenizer.model"
    pieces = SentencePieces.read(path)
    fast = FastEncoder.parse(json.dumps(fast_tokenizer(pieces)))
    own = "[REFERENCE_DOC_1]"
    texts = [*HARD_TEXTS, *every_code_point()]
    texts += [
        f"{a}{own}{b}" for a in ("", " ", "a") for b in ("<s>", "[INST]", "<0x0A>", "9]", own)
    ]
    texts += [f"{own}{piece}{own}" for piece in pieces.pieces[::7]]
    assert fast.encode_batch(texts) == pieces.encode_batch(texts)


def test_a_character_map_has_no_equal_fast_form(shared_data: Path) -> None:
    """Why such models are refused: their own map, in `tokenizers`, gives other text."""
    from tokenizers.normalizers import Precompiled

    path = shared_data / "tokenizers" / "gogpt-zh-40k.sp.model"
    spec = parse_model(path.read_bytes(), "x").normalizer_spec
    mapped = Precompiled(spec.precompiled_charsmap)
    normalize = sentencepiece.SentencePieceProcessor(model_file=str(path)).normalize
    texts = ["か\u3099", "e\u0327\u0301x"]
    assert [normalize(text) for text in texts] == ["▁が", "▁\u0229\u0301x"]
    assert [mapped.normalize_str(text) for text in texts] == ["か\u3099", "\u0229x"]


def test_a_model_with_a_normaliser_is_refused(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "tokenizers" / "gogpt-zh-40k.sp.model"
    with pytest.raises(InputError, match=r"sp\.model.*normaliser is 'nfkc'"):
        write_tokenizer(path.read_bytes(), tmp_path, path.name)
