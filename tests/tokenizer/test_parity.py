"""Forms that agree, forms that do not, and why."""

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from extended_tokenizers import ADDED, BASE, SIZE, extended, write_folder, write_model
from small_tokenizers import BY_HAND, build

from lingraft.encoder import FastEncoder
from lingraft.exact import Encoder
from lingraft.fast import fast_tokenizer
from lingraft.pieces import SentencePieces
from lingraft.tokenizer.differences import Side, cut_text, first_difference, show_sides
from lingraft.tokenizer.forms import read_forms
from lingraft.tokenizer.own_forms import own_forms
from lingraft.tokenizer.parity import Decoding, Form, FormsAgree
from lingraft.tokenizer.ties import explain_ties

TIED = SentencePieces(extended([(piece, 0.0) for piece, _ in ADDED]))


def forms_of(pieces: SentencePieces) -> list[Form]:
    fast = FastEncoder.parse(json.dumps(fast_tokenizer(pieces)))
    return [
        Form("SentencePiece", pieces.encode_batch, pieces.decode_batch),
        Form("fast", fast.encode_batch, fast.decode_batch),
    ]


def test_forms_that_agree_are_counted() -> None:
    agree = FormsAgree(forms_of(SentencePieces(extended())))
    ids = agree.add(["abc", "嬗变嬗"], "texts")
    assert ids[0].tolist() == BASE.encode("abc")
    assert len(ids[1]) == 3  # ▁ 嬗变 嬗
    check = agree.outcome(TIED.pieces.__getitem__, [])
    assert (check.state, check.figures["fast: texts"]) == ("ok", 2)
    assert check.text == "SentencePiece = fast on all 2 texts"


def test_texts_and_lines_that_differ_are_counted_and_the_first_line_is_shown() -> None:
    agree = FormsAgree(forms_of(TIED), forms_of(BASE))
    agree.add(["abc", "a\n变嬗变\nb\n变嬗变"], "reviews")
    agree.add(["变嬗变"], "news")
    check = agree.outcome(TIED.pieces.__getitem__, [])
    assert check.state == "differs"
    assert check.text == "SentencePiece = fast, but on 2 of 3 texts"
    assert check.figures["fast, reviews: differing lines"] == 2
    assert check.figures["fast, reviews: lines"] == 5
    assert check.figures["fast, news: differing lines"] == 1
    assert check.examples[0].split("\n") == [
        "reviews: SentencePiece and fast differ from token 1 of '变嬗变'",
        "SentencePiece, from token 0: ▁ | 变嬗 | 变",
        "fast, from token 0: ▁ | 变 | 嬗变",
    ]
    assert len(check.examples) == 2


def test_a_text_that_differs_only_as_a_whole_is_shown_whole() -> None:
    first = Form("one", lambda texts: [[len(text)] for text in texts])
    other = Form("two", lambda texts: [[len(text) + ("\n" in text)] for text in texts])
    agree = FormsAgree([first, other])
    agree.add(["a\nb"], "texts")
    assert agree.differences[0].text == "a\nb"
    assert agree.outcome(str, []).figures["two, texts: differing lines"] == 0


def test_what_the_base_s_own_forms_do_is_told_and_no_failure() -> None:
    tied = [*BY_HAND, ("ba", -0.5), ("ca", -0.5), ("ac", -0.5)]
    base = SentencePieces(build(tied))
    agree = FormsAgree(forms_of(base), forms_of(base))
    agree.add(["acacaca", "abc"], "texts")
    check = agree.outcome(base.pieces.__getitem__, [])
    assert check.state == "told"
    assert any("the base's own forms differ on it too" in note for note in check.notes)
    alone = FormsAgree(forms_of(base), forms_of(base)[:1])
    alone.add(["acacaca"], "texts")
    assert alone.outcome(base.pieces.__getitem__, []).state == "differs"


def test_a_slow_form_is_compared_on_the_first_texts() -> None:
    seen: list[str] = []

    def encode(texts: Sequence[str]) -> list[list[int]]:
        seen.extend(texts)
        return [[1] for _ in texts]

    agree = FormsAgree([Form("one", lambda t: [[1] for _ in t]), Form("two", encode, most=3)])
    for _ in range(3):
        agree.add(["a\nb", "c"], "texts")
    assert seen == ["a\nb", "c", "a\nb"]
    assert agree.outcome(str, []).figures["two: texts"] == 3


def test_one_form_alone_is_compared_with_nothing() -> None:
    agree = FormsAgree(forms_of(BASE)[:1])
    assert agree.outcome(str, ["why"]).state == "skipped"


def test_known_ids_are_taken_as_the_first_form_s() -> None:
    agree = FormsAgree(forms_of(BASE))
    agree.add(["abc"], "texts", [np.array([7], np.int32)])
    assert agree.differences[0].left.ids == [7]


def decoded(forms: Sequence[Form], texts: list[str]) -> Decoding:
    decoding = Decoding(forms, forms_of(BASE)[0])
    ids = [np.array(one, np.int32) for one in forms[0].encode(texts)]
    decoding.add(texts, "texts", ids)
    return decoding


def test_texts_that_the_base_gives_back_come_back() -> None:
    decoding = decoded(forms_of(SentencePieces(extended())), ["abc 嬗变", "a▁b", ""])
    assert decoding.outcome().state == "ok"
    assert decoding.base_lost == 1  # a literal ▁ comes back as a space


def test_a_decoder_that_loses_text_is_found() -> None:
    content = fast_tokenizer(SentencePieces(extended()))
    content["decoder"]["decoders"].pop()  # leaves the dummy prefix's space in
    fast = FastEncoder.parse(json.dumps(content))
    check = decoded([Form("fast", fast.encode_batch, fast.decode_batch)], ["abc", "c"]).outcome()
    assert check.state == "differs"
    assert check.figures["fast: lost texts"] == 2
    assert check.examples == ["texts: fast decodes 'abc' as ' abc'"]


def test_tied_scores_are_explained_by_the_rules_that_conflict() -> None:
    agree = FormsAgree(forms_of(TIED))
    agree.add(["变嬗变"], "news")
    notes = explain_ties(TIED, SIZE, agree.differences)
    assert notes[0].startswith("2 of the 2 rules of added pieces share their score")
    assert "2 have score 0, which is above every rule of the base" in notes[0]
    assert "all added pieces, 4 have this score" in notes[0]
    assert notes[1] == (
        "news: in '变嬗变', SentencePiece joins 变 + 嬗 (score 0) where the fast form joins "
        "嬗 + 变 (rule 0 of its list, score 0): both cannot be."
    )


def test_ties_among_the_base_s_rules_are_placed() -> None:
    tied = SentencePieces(extended([*ADDED[:2], ("嬗变", -4.5), ("变嬗", -4.5)]))
    assert "which 4 of the base's 6 rules are not below" in explain_ties(tied, SIZE, [])[0]
    assert "of pieces" in explain_ties(tied, None, [])[0]


def test_distinct_scores_need_no_explanation() -> None:
    assert explain_ties(SentencePieces(extended()), SIZE, []) == []


def test_a_folder_s_forms_are_its_files(tmp_path: Path) -> None:
    forms = read_forms(str(write_folder(tmp_path, extended())))
    found, notes = own_forms(forms, Encoder(forms.base), 1)
    assert [form.name for form in found] == ["SentencePiece", "fast", "lingraft"]
    assert notes == []
    assert np.asarray(found[2].encode(["嬗变"])[0]).tolist() == found[0].encode(["嬗变"])[0]


def test_a_model_alone_has_the_fast_form_that_converters_make(tmp_path: Path) -> None:
    forms = read_forms(str(write_model(tmp_path, extended())))
    found, notes = own_forms(forms, None, None)
    assert [form.name for form in found] == ["SentencePiece", "fast"]
    assert notes == ["The fast form is made of tokenizer.model as converters make it."]


def test_a_form_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    def strip(proto: object) -> None:
        proto.normalizer_spec.remove_extra_whitespaces = True  # type: ignore[attr-defined]

    forms = read_forms(str(write_model(tmp_path, extended(change=strip))))
    encoder: Any = SimpleNamespace(reason="a reason")
    found, notes = own_forms(forms, encoder, 1)
    assert [form.name for form in found] == ["SentencePiece"]
    assert "No fast form to compare with" in notes[0]
    assert notes[1] == "lingraft's encoder uses the tokenizer's own library: a reason."


def test_encodings_are_shown_from_a_little_before_they_part() -> None:
    left, right = Side("one", [1, 2, 3, 4]), Side("two", [1, 2, 3, 5])
    assert first_difference(left.ids, right.ids) == 3
    assert first_difference([1], [1, 2]) == 1
    assert show_sides(left, right, str) == [
        "one, from token 1: 2 | 3 | 4",
        "two, from token 1: 2 | 3 | 5",
    ]
    assert show_sides(left, right, lambda id: "\n", str)[0] == r"one, from token 1: \n | \n | \n"
    assert cut_text("a" * 300).endswith("... (300 characters)")


@pytest.mark.parametrize("ids", [([259, 260], [259, 260]), ([259], [259, 3])])
def test_no_stretch_is_explained_where_nothing_differs(ids: tuple[list[int], list[int]]) -> None:
    from lingraft.tokenizer.parity import Difference

    same = Difference("x", "text", Side("SentencePiece", ids[0]), Side("fast", ids[1]), False)
    assert len(explain_ties(TIED, SIZE, [same])) == 1
