"""Special tokens that plain text becomes: refused where they are made, found where they are."""

from pathlib import Path
from typing import Any

import pytest
from extended_tokenizers import (
    ADDED_RULES,
    BASE_RULES,
    extended,
    write_bytes_file,
    write_folder,
    write_model,
)
from small_tokenizers import build

from lingraft.bases import read_base
from lingraft.errors import InputError
from lingraft.tokenizer import verifying
from lingraft.tokenizer.added import added_pieces
from lingraft.tokenizer.extending import extend
from lingraft.tokenizer.literal import read_specials
from lingraft.tokenizer.verifying import verify

NUM = 258 + len(ADDED_RULES)


def special(content: str, *rules: tuple[str, str], **model: Any) -> Any:
    """A change: a special token behind the added pieces, and rules that lead to it."""

    def change(spec: Any) -> None:
        flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
        spec["model"]["vocab"][content] = NUM
        spec["model"]["merges"] += [list(rule) for rule in rules]
        spec["model"].update(model)
        spec["added_tokens"] = [{"id": NUM, "content": content, "special": True, **flags}]

    return change


def found_in(folder: Path, content: str, *rules: tuple[str, str], **model: Any) -> dict[int, bytes]:
    change = special(content, *rules, **model)
    path = write_bytes_file(folder, BASE_RULES + ADDED_RULES, change)
    return read_specials(read_base(str(path)), [NUM])


def test_a_special_token_that_a_rule_makes_is_read_out_of_text(tmp_path: Path) -> None:
    assert found_in(tmp_path, "abc", ("ab", "c")) == {NUM: b"abc"}


def test_a_special_token_without_a_rule_is_not(tmp_path: Path) -> None:
    assert found_in(tmp_path, "abc") == {}


def test_a_whole_pre_token_is_looked_up_where_merges_are_ignored(tmp_path: Path) -> None:
    assert found_in(tmp_path / "a", "abc", ignore_merges=True) == {NUM: b"abc"}
    assert found_in(tmp_path / "b", "<|abc|>", ignore_merges=True) == {}
    assert found_in(tmp_path / "c", "Ġabc", ignore_merges=True) == {NUM: b" abc"}


@pytest.mark.parametrize("content", ["终", "å¬"])
def test_a_token_that_spells_no_text_is_not(tmp_path: Path, content: str) -> None:
    # Outside the alphabet of bytes; two bytes of a character.
    assert found_in(tmp_path, content, ignore_merges=True) == {}


def test_a_lone_character_is_looked_up_in_a_fast_file_alone(tmp_path: Path) -> None:
    proto = extended(change=lambda p: p.pieces.add(piece="🦙", score=0.0, type=3))
    folder = write_folder(tmp_path, proto)
    fast, model = (read_base(str(folder / f"tokenizer.{end}")) for end in ("json", "model"))
    last = fast.size - 1
    assert read_specials(fast, [last]) == {last: "🦙".encode()}
    assert read_specials(model, [last]) == {}
    assert [(a.piece, a.special) for a in added_pieces(fast, last)] == [("🦙", True)]


@pytest.mark.parametrize(
    ("content", "rules", "model"),
    [("abc", [("ab", "c")], {}), ("abc", [], {"ignore_merges": True})],
)
def test_verify_reports_a_special_token_that_is_made_of_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, rules: Any, model: Any
) -> None:
    monkeypatch.setattr(verifying, "every_code_point", lambda: iter(["\n".join("aé中嬗")]))
    monkeypatch.setattr(verifying, "code_points", lambda: iter("aé中嬗"))
    base = write_bytes_file(tmp_path / "a", BASE_RULES, lambda s: s["model"].update(model))
    change = special(content, *rules, **model)
    mine = write_bytes_file(tmp_path / "b", BASE_RULES + ADDED_RULES, change)
    result = verify(mine, base=base)
    assert {check.name for check in result.failed} >= {"scope", "added tokens"}
    added = next(check for check in result.checks if check.name == "added tokens")
    assert added.text == "1 special token is made of plain text"
    assert result.certificate is not None
    assert result.certificate["out_of_scope"] == ["abc"]
    assert not result.certificate["coarsening_proved"]


def extend_by(tmp_path: Path, base: Path, token: str) -> int:
    listed = tmp_path / "pieces.txt"
    listed.write_text("嬗\n" if base.suffix == ".model" else "é\n", encoding="utf-8")
    return extend(base=base, pieces=listed, out=tmp_path / "out", special=[token]).size


def test_extend_refuses_a_special_token_of_one_character(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", build())
    with pytest.raises(InputError, match=r"(?s)'🦙' would be read.*single char.*'<\|🦙\|>'"):
        extend_by(tmp_path, base, "🦙")
    assert extend_by(tmp_path, base, "<|🦙|>")


def test_extend_refuses_a_whole_pre_token_where_merges_are_ignored(tmp_path: Path) -> None:
    base = write_bytes_file(
        tmp_path / "a", BASE_RULES, lambda s: s["model"].update(ignore_merges=True)
    )
    with pytest.raises(InputError, match=r"(?s)'foo' would be read.*ignore_merges.*'<\|foo\|>'"):
        extend_by(tmp_path, base, "foo")
    assert extend_by(tmp_path, base, "<|foo|>")
    assert extend_by(tmp_path / "a", write_bytes_file(tmp_path / "b", BASE_RULES), "foo")
