"""What the files alone prove: the base kept, scope, order of rules; and what is only measured."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from extended_tokenizers import (
    ADDED,
    ADDED_RULES,
    BASE,
    BASE_RULES,
    SIZE,
    ZHONG,
    extended,
    write_bytes_file,
    write_folder,
    write_model,
)
from sentencepiece import sentencepiece_model_pb2
from small_tokenizers import BY_HAND, build

from lingraft.pieces import Kind, SentencePieces
from lingraft.tokenizer.added import added_pieces, show_piece
from lingraft.tokenizer.certificate import Proofs, Replay, certify, check_order, check_scope
from lingraft.tokenizer.forms import read_forms
from lingraft.tokenizer.kept import check_kept, model_changes
from lingraft.tokenizer.priority import Priority, check_priority
from lingraft.tokenizer.rules import list_ranks, trace
from lingraft.tokenizer.scope import Scope

HAN = Scope(["Han"])


def order_of(tmp_path: Path, pieces: Any, **asked: Any) -> Priority:
    forms = read_forms(str(write_model(tmp_path / "m", extended(pieces, **asked))))
    stands = [a.piece for a in added_pieces(forms.base, SIZE) if a.stands]
    return check_priority(forms, SIZE, stands)


def kept(tmp_path: Path, change: Callable[[Any], None]) -> str:
    paths = [write_model(tmp_path / "a", build()), write_model(tmp_path / "b", extended())]
    paths[1].write_bytes(extended(change=change))
    base, changed = (read_forms(str(path)) for path in paths)
    return check_kept(base, changed).text


def test_an_extended_model_keeps_its_base(tmp_path: Path) -> None:
    assert kept(tmp_path, lambda _: None) == f"all {SIZE} ids are the base's; 4 added"


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda p: setattr(p.pieces[SIZE - 1], "score", -99.0), f"id {SIZE - 1} is ('文', -99.0"),
        (lambda p: setattr(p.normalizer_spec, "add_dummy_prefix", False), "add_dummy_prefix is"),
        (lambda p: setattr(p.normalizer_spec, "remove_extra_whitespaces", True), "extra_white"),
        (lambda p: p.pieces.pop(SIZE - 1), f"id {SIZE - 1} is ('嬗'"),
    ],
)
def test_a_change_of_the_base_is_found(
    tmp_path: Path, change: Callable[[Any], None], found: str
) -> None:
    assert found in kept(tmp_path, change)


def test_another_character_map_is_found() -> None:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a b c"] * 9), model_writer=model, model_type="bpe", vocab_size=8,
        normalization_rule_name="nmt_nfkc", hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    made = sentencepiece_model_pb2.ModelProto.FromString(model.getvalue()).normalizer_spec

    def change(proto: Any) -> None:
        proto.normalizer_spec.precompiled_charsmap = made.precompiled_charsmap

    other = SentencePieces(extended(change=change))
    assert model_changes(BASE, other)[0] == (
        "normaliser precompiled_charsmap is another one; in the base it is the base's"
    )


def test_a_base_of_which_pieces_are_lost_is_found() -> None:
    lost = model_changes(SentencePieces(extended()), BASE)
    assert lost == [f"{SIZE} pieces, the base has {SIZE + 4}"]


def bytes_kept(tmp_path: Path, rules: Any, change: Callable[[Any], None]) -> str:
    base = write_bytes_file(tmp_path / "a", BASE_RULES)
    mine = write_bytes_file(tmp_path / "b", rules, change)
    return check_kept(read_forms(str(base)), read_forms(str(mine))).text


def test_appended_rules_keep_a_byte_level_base(tmp_path: Path) -> None:
    text = bytes_kept(tmp_path, BASE_RULES + ADDED_RULES, lambda _: None)
    assert text == "all 258 ids are the base's; 4 added"


def _swap(spec: Any) -> None:
    merges = spec["model"]["merges"]
    merges[0], merges[1] = merges[1], merges[0]


def _special(id: int, content: str) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": id, "content": content, "special": True, **flags}


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (_swap, "merge rule 0 of the base is"),
        (lambda s: s["model"]["merges"].pop(1), "1 merge rules of the base are there; it has 2"),
        (lambda s: s["model"]["merges"].append(["ä", "b"]) or s["model"]["vocab"].update(
            {"äb": 300}), ""),
        (lambda s: s["model"].update(ignore_merges=True), "model.ignore_merges is True"),
        (lambda s: s.update(normalizer={"type": "NFC"}), "its normalizer differs"),
        (lambda s: s["pre_tokenizer"].update(add_prefix_space=True), "its pre_tokenizer differs"),
        (lambda s: s["model"]["vocab"].update({"!": 900}), "piece '!' has id 900; in the base"),
        (
            lambda s: s.update(added_tokens=[_special(258, "<|end|>")]),
            "loaded by tokenizers, '<|end|>' has id 262; in the file 258",
        ),
    ],
)  # fmt: skip
def test_a_change_of_a_byte_level_base_is_found(
    tmp_path: Path, change: Callable[[Any], None], found: str
) -> None:
    assert found in bytes_kept(tmp_path, BASE_RULES + ADDED_RULES, change)


def test_another_rule_for_a_base_piece_is_found(tmp_path: Path) -> None:
    base = write_bytes_file(tmp_path / "a", [(b"a", b"b"), (b"ab", b"c"), (b"b", b"c")])
    mine = write_bytes_file(
        tmp_path / "b",
        [(b"a", b"b"), (b"ab", b"c"), (b"b", b"c")],
        lambda s: s["model"]["merges"].append(["a", "bc"]),
    )
    text = check_kept(read_forms(str(base)), read_forms(str(mine))).text
    assert "merge rule 'a' 'bc' makes a base piece in a way the base has not" in text


@pytest.mark.parametrize(
    ("tokens", "found"),
    [([], "'<|end|>' has id None; in the base 258"), (["<|END|>"], "added token 258 is")],
)
def test_a_lost_or_changed_added_token_is_found(
    tmp_path: Path, tokens: list[str], found: str
) -> None:
    def with_tokens(*contents: str) -> Callable[[Any], None]:
        made = [_special(258, content) for content in contents]
        return lambda spec: spec.update(added_tokens=made)

    base = write_bytes_file(tmp_path / "a", BASE_RULES, with_tokens("<|end|>"))
    mine = write_bytes_file(tmp_path / "b", BASE_RULES, with_tokens(*tokens))
    assert found in check_kept(read_forms(str(base)), read_forms(str(mine))).text


def test_a_model_is_compared_with_a_fast_file(tmp_path: Path) -> None:
    model = write_model(tmp_path / "a", build())
    fast = write_folder(tmp_path / "b", extended()) / "tokenizer.json"
    assert check_kept(read_forms(str(model)), read_forms(str(fast))).state == "ok"


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda s: s.update(normalizer=None), "its normalizer differs"),
        (lambda s: s["normalizer"]["normalizers"].append(
            {"type": "Replace", "pattern": {"String": "zz"}, "content": "z"}
        ), "its normalizer differs"),
        (lambda s: s["model"].update(ignore_merges=True), "model.ignore_merges is True"),
        (lambda s: s["added_tokens"][1].update(special=False), "added token 1 is"),
        (lambda s: s["added_tokens"][1].update(normalized=True), "all 271 ids are the base's"),
        (lambda s: s["model"].pop("type") and s["model"].update(fuse_unk=False), "all 271 ids"),
    ],
)  # fmt: skip
def test_what_a_model_becomes_is_compared_with_a_fast_file(
    tmp_path: Path, change: Callable[[Any], None], found: str
) -> None:
    model = write_model(tmp_path / "a", build())
    fast = write_folder(tmp_path / "b", extended()) / "tokenizer.json"
    spec = json.loads(fast.read_text())
    change(spec)
    mine = write_folder(tmp_path / "c", extended())  # of which the file alone is read
    (mine / "tokenizer.json").write_text(json.dumps(spec))
    forms = read_forms(str(mine / "tokenizer.json"))
    assert found in check_kept(read_forms(str(model)), forms).text


def test_a_piece_on_a_free_id_of_the_base_is_found(tmp_path: Path) -> None:
    base = write_bytes_file(tmp_path / "a", BASE_RULES, lambda s: s.update(
        added_tokens=[_special(260, "<|end|>")]))  # fmt: skip

    def change(spec: Any) -> None:
        spec["model"]["vocab"].update({"<|end|>": 260, "foo": 259, "<|x|>": 258})
        spec["added_tokens"] = [_special(260, "<|end|>")]

    mine = write_bytes_file(tmp_path / "b", BASE_RULES, change)
    text = check_kept(read_forms(str(base)), read_forms(str(mine))).text
    assert "piece 'foo' has id 259, which is one of the base's" in text


def test_a_rule_that_makes_a_token_of_the_base_is_found(tmp_path: Path) -> None:
    def change(spec: Any) -> None:
        spec["model"]["vocab"]["abc!"] = 258
        spec["added_tokens"] = [_special(258, "abc!")]

    def with_rule(spec: Any) -> None:
        change(spec)
        spec["model"]["vocab"]["abc"] = 259
        spec["model"]["merges"] += [["ab", "c"], ["abc", "!"]]

    paths = [
        write_bytes_file(tmp_path / name, BASE_RULES, made)
        for name, made in (("a", change), ("b", with_rule))
    ]
    base, changed = (read_forms(str(path)) for path in paths)
    text = check_kept(base, changed).text
    assert "merge rule 'abc' '!' makes the base's token 'abc!' of text" in text


def test_rules_below_the_base_s_are_in_order(tmp_path: Path) -> None:
    order = order_of(tmp_path, ADDED)
    assert order.coarsens
    assert order.is_one_tokenizer
    assert check_order(order, 4).state == "ok"


@pytest.mark.parametrize(
    ("pieces", "name", "expected"),
    [
        ([*ADDED[:3], ("变嬗", 0.0)], "above", ["变嬗"]),
        ([*ADDED[:3], ("变嬗", float("nan"))], "above", ["变嬗"]),
        ([*ADDED[:3], ("变嬗", ADDED[2][1])], "tied", ["嬗变", "变嬗"]),
        ([*ADDED[:2], ("嬗变a", -2.2e9)], "underived", {"嬗变a": ["嬗", "变", "a"]}),
        ([("嬗变", -2.2e9)], "underived", {"嬗变": ["嬗", "变"]}),
    ],
)
def test_rules_out_of_order_are_named(
    tmp_path: Path, pieces: Any, name: str, expected: object
) -> None:
    order = order_of(tmp_path, pieces)
    assert getattr(order, name) == expected
    check = check_order(order, len(pieces))
    assert check.state == "differs"
    assert check.notes


def test_float32_that_holds_no_difference_is_a_tie(tmp_path: Path) -> None:
    pieces = [*ADDED[:2], ("嬗变", -2_000_000_001.0), ("变嬗", -2_000_000_002.0)]
    assert order_of(tmp_path, pieces).tied == ["嬗变", "变嬗"]


def test_user_defined_pieces_are_read_before_any_rule(tmp_path: Path) -> None:
    order = order_of(tmp_path, [("中文嬗", -2e9)], kind=Kind.USER_DEFINED)
    assert order.stands == ["中文嬗"]
    assert not order.coarsens


def test_runs_of_spaces_may_stand_below_what_never_meets_them(tmp_path: Path) -> None:
    # ▁▁ has score -1e9; no added piece holds ▁, and no other piece of the base holds ▁▁.
    order = order_of(tmp_path, [("嬗", -50.0), ("变", -51.0), ("嬗变", -52.0)])
    assert order.coarsens
    assert order.lowest == "score -5"
    assert not order_of(tmp_path, [("嬗", -50.0), ("▁嬗", -51.0)]).coarsens


def test_a_run_that_another_base_piece_grows_from_is_not_apart(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.model"
    grown = [*BY_HAND, ("a▁▁", -4.5), ("嬗", -50.0), ("变", -51.0), ("嬗变", -52.0)]
    path.write_bytes(build(grown))
    order = check_priority(read_forms(str(path)), SIZE + 1, [])
    assert order.above == ["嬗变"]


def test_listed_rules_are_in_order(tmp_path: Path) -> None:
    path = write_bytes_file(tmp_path, BASE_RULES + ADDED_RULES)
    order = check_priority(read_forms(str(path)), 258, [])
    assert (order.lowest, order.coarsens, order.is_one_tokenizer) == ("rule 1", True, True)


def test_a_listed_rule_before_the_base_s_is_named(tmp_path: Path) -> None:
    def change(spec: Any) -> None:
        merges = spec["model"]["merges"]
        merges.insert(1, merges.pop(2))

    path = write_bytes_file(tmp_path, BASE_RULES + ADDED_RULES, change)
    order = check_priority(read_forms(str(path)), 258, [])
    assert len(order.above) == 1


def test_a_listed_piece_without_a_rule_is_named(tmp_path: Path) -> None:
    def change(spec: Any) -> None:
        spec["model"]["merges"].pop(2)

    path = write_bytes_file(tmp_path, [*BASE_RULES, (ZHONG[:2], ZHONG[2:])], change)
    order = check_priority(read_forms(str(path)), 258, [])
    assert [len(parts) for parts in order.underived.values()] == [2]
    assert not order.is_one_tokenizer


def test_joins_go_by_rank_then_by_place() -> None:
    rank = list_ranks([("b", "a"), ("a", "b"), ("ba", "b")])
    symbols, joins = trace("ababa", rank)
    assert symbols == ["a", "bab", "a"] or symbols == ["a", "ba", "ba"]
    assert [(j.begin, j.end, j.rank) for j in joins] == [(1, 3, 0), (3, 5, 0)]
    assert trace("ababa", rank, limit=0)[0] == list("ababa")


def test_pieces_out_of_scope_are_named(tmp_path: Path) -> None:
    path = write_model(tmp_path, extended([*ADDED, ("cab", -3e9), ("，", -4e9)]))
    check = check_scope(added_pieces(read_forms(str(path)).base, SIZE), HAN)
    assert check.state == "differs"
    assert check.figures["out of scope"] == 2
    assert check.examples == ["'cab', '，'"]


def replayed(tmp_path: Path, pieces: Any, texts: list[str]) -> Replay:
    base, mine = (
        read_forms(str(write_model(tmp_path / name, proto))).base
        for name, proto in (("a", build()), ("b", extended(pieces)))
    )
    import numpy as np

    replay = Replay(base, mine, HAN)
    encoded = ([np.array(ids, np.int32) for ids in one.encode_batch(texts)] for one in (base, mine))
    replay.add(texts, "texts", *encoded)
    return replay


def test_a_replay_counts_texts_and_tokens(tmp_path: Path) -> None:
    replay = replayed(tmp_path, ADDED, ["abc", "嬗变", "中文"])
    # ▁ abc; ▁ and 6 bytes become ▁ 嬗变; ▁ 中文.
    assert replay.figures["base tokens"] == 2 + 7 + 2
    assert replay.figures["extended tokens"] == 2 + 2 + 2
    assert replay.figures["texts without the new scripts, unchanged"] == 1
    assert replay.figures["texts with them, changed"] == 1
    assert replay.outcome("replay").state == "ok"


def test_a_text_without_the_scripts_that_changes_is_shown(tmp_path: Path) -> None:
    replay = replayed(tmp_path, [("ca", -2e9)], ["caa"])
    check = replay.outcome("replay")
    assert check.state == "differs"
    assert "1 of 1 texts without the new scripts changed" in check.text
    assert (
        "base, from token 0: ▁ | abc | a"
        in replayed(tmp_path, [("ca", -0.5)], ["abca"]).examples["broken up"]
    )


def certified(tmp_path: Path, proofs: Proofs, scope: Scope = HAN) -> dict[str, Any]:
    replay = replayed(tmp_path, ADDED, ["嬗变"])
    return certify(proofs, scope, False, replay, replay)


def test_a_certificate_tells_what_is_proved_and_what_is_measured(tmp_path: Path) -> None:
    made = certified(tmp_path, Proofs(True, True))
    assert len(made["proved"]) == 2
    assert made["proved"][0].startswith("Any text without a character of the scripts Han")
    assert not any("Not proved" in line for line in made["measured"])
    assert any("7.0000" in line or "3.5000 -> 1.0000" in line for line in made["measured"])


def test_pieces_out_of_scope_are_excepted_from_the_proof(tmp_path: Path) -> None:
    made = certified(tmp_path, Proofs(True, False, ["，"]))
    assert "nor one of the 1 added pieces out of scope" in made["proved"][0]
    assert made["out_of_scope"] == ["，"]
    assert not made["invariance_proved"]
    assert sum("Not proved" in line for line in made["measured"]) == 2


def test_what_is_proved_of_one_form_says_so(tmp_path: Path) -> None:
    made = certified(tmp_path, Proofs(True, True, only="tokenizer.model"))
    assert made["proved_only_of"] == "tokenizer.model"
    assert all("any text, as tokenizer.model reads it" in p.lower() for p in made["proved"])
    assert any("anything of the forms that do not give the ids" in m for m in made["measured"])


def test_scripts_of_the_base_s_own_languages_are_told(tmp_path: Path) -> None:
    path = write_model(tmp_path, extended())
    check = check_scope(added_pieces(read_forms(str(path)).base, SIZE), HAN, ["Han"])
    assert check.state == "told"
    assert check.text.endswith("the base has its own pieces of Han")
    assert "Measure it with lingraft tokenizer verify --corpus" in check.notes[0]


def test_a_script_that_the_base_s_language_has_is_measured(tmp_path: Path) -> None:
    made = certified(tmp_path, Proofs(True, True), Scope(["Latin"]))
    assert any("shares its texts" in line for line in made["measured"])


def test_nothing_is_proved_where_the_base_is_not_kept(tmp_path: Path) -> None:
    assert certified(tmp_path, Proofs(False, False))["proved"] == []


def test_special_pieces_in_the_vocabulary_need_no_rule(tmp_path: Path) -> None:
    def change(spec: Any) -> None:
        spec["model"]["vocab"]["<|end|>"] = 262
        spec["added_tokens"] = [_special(262, "<|end|>")]

    path = write_bytes_file(tmp_path, BASE_RULES + ADDED_RULES, change)
    assert check_priority(read_forms(str(path)), 258, []).is_one_tokenizer


def test_byte_level_pieces_are_shown_as_text_or_bytes(tmp_path: Path) -> None:
    base = read_forms(str(write_bytes_file(tmp_path, BASE_RULES + ADDED_RULES))).base
    assert [show_piece(base, id) for id in (32, 258, 259)] == ["▁", "中", "<0xE6><0x96>"]
