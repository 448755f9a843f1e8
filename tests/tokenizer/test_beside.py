"""The two files of one tokenizer: the same, provably or not, or different."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from extended_tokenizers import ADDED, SIZE, extended, write_folder, write_model
from small_tokenizers import BY_HAND, build

from lingraft.fast import fast_tokenizer
from lingraft.pieces import Kind, SentencePieces
from lingraft.tokenizer import verifying
from lingraft.tokenizer.beside import Unlike, check_files, compare_files
from lingraft.tokenizer.forms import Forms, read_forms
from lingraft.tokenizer.outcome import Check
from lingraft.tokenizer.verifying import verify

Change = Callable[[Any], object]


def changed(folder: Path, change: Change, proto: bytes | None = None) -> Forms:
    """Both files of a small tokenizer, the tokenizer.json altered."""
    write_folder(folder, proto or extended())
    path = folder / "tokenizer.json"
    spec = json.loads(path.read_text())
    change(spec)
    path.write_text(json.dumps(spec))
    return read_forms(str(folder))


def token(id: int, content: str, *, special: bool) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": id, "content": content, "special": special, **flags}


def test_files_that_were_written_together_are_one_tokenizer(tmp_path: Path) -> None:
    check = check_files(changed(tmp_path, lambda _: None), None)
    assert (check.state, check.figures["differences"]) == ("ok", 0)


def test_one_file_alone_is_compared_with_nothing(tmp_path: Path) -> None:
    model = write_model(tmp_path / "a", extended())
    assert check_files(read_forms(str(model)), None).state == "skipped"
    fast = write_folder(tmp_path / "b", extended()) / "tokenizer.json"
    check = check_files(read_forms(str(fast)), None)
    assert check.text == "there is one file only: tokenizer.json"


def drop_rules_of(piece: str) -> Change:
    def change(spec: Any) -> None:
        merges = spec["model"]["merges"]
        merges[:] = [rule for rule in merges if "".join(rule) != piece]

    return change


def reverse_rules(spec: Any) -> None:
    spec["model"]["merges"].reverse()


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (drop_rules_of("ab"), "'ab', alone, is a | b by the merge rules of tokenizer.json"),
        (reverse_rules, "the merge rule of "),
        (lambda s: s.update(normalizer=None), "its normalizer differs"),
        (lambda s: s["model"].update(ignore_merges=True), "model.ignore_merges is True; by token"),
        (lambda s: s["model"].update(byte_fallback=False), "model.byte_fallback is False"),
        (lambda s: s["model"]["vocab"].update(嬗=900), "piece '嬗' has id 900 in tokenizer.json"),
        (lambda s: s["model"]["vocab"].update(x=SIZE + 4), "tokenizer.json has a piece 'x' that"),
        (
            lambda s: s["added_tokens"].append(token(SIZE, "嬗", special=True)),
            f"piece '嬗' ({SIZE}) is a special token there",
        ),
        (lambda s: s["added_tokens"].pop(1), "piece '<s>' (1) is no special token there"),
        (
            lambda s: (
                s["model"]["merges"].append(["<s>", "a"])
                or s["model"]["vocab"].update({"<s>a": SIZE + 4})
                or s["added_tokens"].append(token(SIZE + 4, "<s>a", special=True))
            ),
            "has a merge rule '<s>' 'a' that no two pieces",
        ),
    ],
)
def test_what_gives_other_ids_is_a_failure(tmp_path: Path, change: Change, found: str) -> None:
    check = check_files(changed(tmp_path, change), None)
    assert check.state == "differs"
    assert any(found in line for line in check.examples), check.examples


def test_a_control_piece_of_one_character_is_read_by_one_file_alone(tmp_path: Path) -> None:
    proto = extended(change=lambda p: p.pieces.add(piece="🦙", score=0.0, type=int(Kind.CONTROL)))
    check = check_files(changed(tmp_path, lambda _: None, proto), None)
    assert check.state == "differs"
    assert "reads its special token '🦙'" in check.text


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s["model"].update(fuse_unk=False, unk_token=None),  # nothing is unknown
        lambda s: s["added_tokens"][1].update(normalized=True),
        lambda s: s["added_tokens"].append(token(SIZE + 4, "<pad>", special=True)),
        lambda s: s.update(normalizer={"type": "Sequence", "normalizers": [s["normalizer"]]}),
        # A rule that never joins: c joins b before bc could meet a.
        lambda s: s["model"]["merges"].remove(["a", "bc"]),
    ],
)
def test_what_decides_no_id_is_none(tmp_path: Path, change: Change) -> None:
    assert check_files(changed(tmp_path, change), None).state == "ok"


def told(check: Check) -> str:
    assert check.state == "told"
    assert "measured on texts" in check.notes[0]
    return check.text


def test_a_decoder_spelled_otherwise_is_left_to_measuring(tmp_path: Path) -> None:
    forms = changed(tmp_path, lambda s: s.update(decoder={"type": "Fuse"}))
    assert told(check_files(forms, None)) == "its decoder differs"


def test_a_piece_put_together_otherwise_is_left_to_measuring(tmp_path: Path) -> None:
    # ab and ba have one score: aba is ab + a by one order of the list, a + ba by the other.
    proto = build([("ab", -5.0), ("ba", -5.0), ("aba", -6.0), ("a", -9.0), ("b", -9.5)])

    def change(spec: Any) -> None:
        spec["model"]["merges"][:2] = reversed(spec["model"]["merges"][:2])

    assert "put together otherwise" in told(check_files(changed(tmp_path, change, proto), None))


def test_another_order_of_equal_scores_is_left_to_measuring(tmp_path: Path) -> None:
    proto = build([*BY_HAND, ("ca", -7.0), ("cb", -7.0)])

    def change(spec: Any) -> None:
        merges = spec["model"]["merges"]
        a, b = merges.index(["c", "a"]), merges.index(["c", "b"])
        merges[a], merges[b] = merges[b], merges[a]

    text = told(check_files(changed(tmp_path, change, proto), None))
    assert text == "tokenizer.json orders merge rules of equal score otherwise"


def test_a_model_without_a_fast_form_is_left_to_measuring(tmp_path: Path) -> None:
    changed(tmp_path, lambda _: None)
    proto = extended(change=lambda p: setattr(p.normalizer_spec, "remove_extra_whitespaces", True))
    (tmp_path / "tokenizer.model").write_bytes(proto)
    forms = read_forms(str(tmp_path))
    assert "no equal fast tokenizer" in told(check_files(forms, None))


def test_what_the_base_s_own_files_do_is_told(tmp_path: Path) -> None:
    base = changed(tmp_path / "a", drop_rules_of("ab"), build())
    mine = changed(tmp_path / "b", drop_rules_of("ab"))
    assert check_files(mine, base).state == "told"
    assert check_files(mine, changed(tmp_path / "c", lambda _: None)).state == "differs"


def test_what_is_proved_of_files_that_differ_is_proved_of_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifying, "every_code_point", lambda: iter(["\n".join("aé中嬗")]))
    monkeypatch.setattr(verifying, "code_points", lambda: iter("aé中嬗"))
    # Nothing that is tried holds bbacca: only the files tell.
    parts = [("cc", -5.3), ("bb", -5.4), ("bba", -5.5), ("cca", -5.6), ("bbacca", -6.0)]
    base = write_model(tmp_path / "base", build([*BY_HAND, *parts]))
    proto = build([*BY_HAND, *parts, *ADDED])
    changed(tmp_path / "out", drop_rules_of("bbacca"), proto)
    result = verify(tmp_path / "out", base=base)
    assert [check.name for check in result.failed] == ["forms"]
    assert result.certificate is not None
    assert len(result.certificate["proved"]) == 2
    assert all("as tokenizer.model reads it" in line for line in result.certificate["proved"])
    assert any("Not proved: anything of the forms" in m for m in result.certificate["measured"])


def test_the_published_pair_of_mixtral_is_one_tokenizer(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "tokenizers"
    names = {
        "tokenizer.model": "mixtral-8x7b-v0.1.tokenizer.model",
        "tokenizer.json": "mixtral-mistral-v0.1.tokenizer.json",
    }
    for name, source in names.items():
        (tmp_path / name).symlink_to(folder / source)
    assert check_files(read_forms(str(tmp_path)), None).state == "ok"


def test_a_rule_of_mixtral_that_never_joins_may_be_missing(
    shared_data: Path, tmp_path: Path
) -> None:
    model = shared_data / "tokenizers" / "mixtral-8x7b-v0.1.tokenizer.model"
    (tmp_path / "tokenizer.model").symlink_to(model)
    spec = fast_tokenizer(SentencePieces.read(model))
    # he is rule 4, th comes later: the is always t + he.
    spec["model"]["merges"].remove(("th", "e"))
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec))
    assert compare_files(read_forms(str(tmp_path))) == Unlike([], [])
