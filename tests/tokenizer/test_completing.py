"""Bases that lack bytes: extended, they lose nothing, and the certificate says so."""

import json
from pathlib import Path
from typing import Any

import pytest
from byte_tokenizers import byte_level, without_bytes
from extended_tokenizers import ADDED_RULES, BASE_RULES, write_bytes_file
from typer import Typer
from typer.testing import CliRunner

from lingraft import cli_extend
from lingraft.bases import ByteLevelBase, read_base
from lingraft.tokenizer import verifying
from lingraft.tokenizer.completing import WholeEncoder, complete_as, holds_bytes
from lingraft.tokenizer.extending import ExtendResult, extend
from lingraft.tokenizer.verifying import VerifyResult, verify

LACKED = b"\x04\xac\xc0"
"""A control character, a part of 嬗 (E5 AC 97), and what no text holds."""
SIZE = 258
TEXTS = ["ab\x04c", "a b", "中文", "嬗", "嬗中\x04文"]
POINTS = "aé中嬗\x04"


@pytest.fixture(autouse=True)
def few_code_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them take seconds a run."""
    monkeypatch.setattr(verifying, "every_code_point", lambda: iter(["\n".join(POINTS)]))
    monkeypatch.setattr(verifying, "code_points", lambda: iter(POINTS))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_lacking(tmp_path / "base")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return path


def write_lacking(folder: Path, rules: Any = BASE_RULES) -> Path:
    return write_bytes_file(folder, rules, lambda s: s.update(without_bytes(s, LACKED)))


def extended(tmp_path: Path, base: Path, **asked: Any) -> ExtendResult:
    listed = tmp_path / "pieces.txt"
    listed.write_text('中\n"<0xE5><0xAC>"\n嬗\n', encoding="utf-8")
    return extend(base=base, pieces=listed, out=tmp_path / "out", **asked)


def checks(result: VerifyResult) -> dict[str, tuple[str, str]]:
    return {check.name: (check.state, check.text) for check in result.checks}


def test_missing_bytes_come_first_and_pieces_may_be_made_of_them(
    tmp_path: Path, base: Path
) -> None:
    result = extended(tmp_path, base, special=["<|a|>"], pad_to_multiple=8)
    assert (result.base_size, result.num_pieces, result.size) == (SIZE, 3, 272)
    assert result.missing_bytes == (0x04, 0xAC, 0xC0)
    assert result.num_padding == 272 - SIZE - 3 - 3 - 1
    made = read_base(str(result.folder))
    assert made.missing_bytes == b""
    pieces = [made.piece_bytes(id) for id in range(SIZE, SIZE + 6)]
    assert pieces == [b"\x04", b"\xac", b"\xc0", "中".encode(), b"\xe5\xac", "嬗".encode()]
    assert made.encode_batch(["嬗\x04"]) == [[SIZE + 5, SIZE]]
    assert result.record["missing_bytes"] == [0x04, 0xAC, 0xC0]
    assert "3 of the 256 bytes (04 AC C0) and loses them" in result.warnings[0]
    assert "ids 258 to 260" in result.warnings[0]


def test_tokens_of_the_configs_stay_before_the_bytes(tmp_path: Path, base: Path) -> None:
    flags = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False}
    token = {"content": "<|x|>", "special": True, **flags}
    config = {"added_tokens_decoder": {str(SIZE): token}}
    (base.parent / "tokenizer_config.json").write_text(json.dumps(config))
    result = extended(tmp_path, base.parent)
    assert (result.base_size, result.size) == (SIZE + 1, SIZE + 7)
    assert any("ids 259 to 261" in warning for warning in result.warnings)
    plain, made = read_base(str(base)), read_base(str(result.folder))
    assert made.piece(SIZE) == "<|x|>"
    whole = complete_as(plain, made)
    assert [whole.piece_bytes(id) for id in range(SIZE, SIZE + 4)] == [
        b"",
        b"\x04",
        b"\xac",
        b"\xc0",
    ]
    assert not verify(result.folder, base=base).failed


def test_the_certificate_tells_texts_that_are_kept_from_unchanged_ones(
    tmp_path: Path, base: Path, corpus: Path
) -> None:
    result = verify(extended(tmp_path, base).folder, base=base, corpus=corpus)
    assert not result.failed
    found = checks(result)
    assert found["base kept"][1] == (
        "all 258 ids are the base's; 3 bytes that it has no pieces for and 3 added"
    )
    assert found["replay on the corpora"][1] == (
        "1 texts without the new scripts unchanged; 1 with them: the base's tokens, 1 with some "
        "joined; 3 with bytes that the base loses, now kept"
    )
    assert result.certificate is not None
    assert result.certificate["completed_bytes"] == [0x04, 0xAC, 0xC0]
    assert result.certificate["coarsening_proved"]
    assert result.certificate["corpora"]["texts with bytes that the base loses"] == 3
    assert result.certificate["corpora"]["texts with bytes that the base loses, broken up"] == 0
    assert result.certificate["proved"] == [
        "Any text without a character of the scripts Han and without the 3 bytes 04 AC C0 is "
        "encoded exactly as by the base.",
        "The encoding of any text is the base's (with a piece for each byte that it loses) with "
        "some neighbours joined, so it is never longer, and taking it apart gives the base's back.",
        "No text loses a byte: the 3 that the base has no pieces for, and loses, were added "
        "first; texts with them are not encoded as by the base.",
    ]
    assert result.certificate["measured"][1].endswith("3 hold bytes that the base loses: now kept.")


def test_an_extension_that_still_loses_bytes_is_told(
    tmp_path: Path, base: Path, corpus: Path
) -> None:
    mine = write_lacking(tmp_path / "mine", [*BASE_RULES, ADDED_RULES[0]])
    result = verify(mine, base=base, corpus=corpus)
    assert not result.failed
    assert result.certificate is not None
    assert result.certificate["completed_bytes"] == []
    assert result.certificate["coarsening_proved"]
    assert (
        "Not kept: the 3 bytes 04 AC C0, which have no piece; texts with them lose them."
        in result.certificate["measured"]
    )


def test_bytes_that_stand_elsewhere_are_added_pieces_like_others(
    tmp_path: Path, base: Path, corpus: Path
) -> None:
    spec = without_bytes(byte_level([*BASE_RULES, ADDED_RULES[0]]), LACKED)
    whole = ByteLevelBase(json.dumps(spec)).completed()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "tokenizer.json").write_text(whole.content)
    result = verify(tmp_path / "mine", base=base, corpus=corpus)
    assert {check.name for check in result.failed} >= {"scope", "replay on the corpora"}
    assert result.certificate is not None
    assert not result.certificate["coarsening_proved"]
    assert result.certificate["completed_bytes"] == []


def test_texts_go_to_the_base_or_to_its_completed_form() -> None:
    spec = without_bytes(byte_level([(b"a", b"b")]), b"x")
    base = ByteLevelBase(json.dumps(spec))
    both = WholeEncoder(base, base.completed())
    assert both.completed == b"x"
    ids = both.encode_batch(["ab", "axb", "", "b"])
    assert [each.tolist() for each in ids] == [[256], [ord("a"), 257, ord("b")], [], [ord("b")]]
    alone = WholeEncoder(base, base)
    assert alone.completed == b""
    assert alone.encode_batch(["axb"])[0].tolist() == [256]
    assert holds_bytes("é", b"\xa9")
    assert not holds_bytes("é", b"a\xaa")


def test_the_command_tells_the_bytes(tmp_path: Path, base: Path) -> None:
    (tmp_path / "pieces.txt").write_text("中\n", encoding="utf-8")
    app = Typer()
    app.callback()(lambda: None)
    cli_extend.register(app)
    words = ["--base", base, "--pieces", tmp_path / "pieces.txt", "--out", tmp_path / "out"]
    done = CliRunner().invoke(app, ["extend", *map(str, words)])
    assert done.exit_code == 0, done.output
    assert "262 ids: 258 of the base + 3 bytes that it lacks + 1 pieces" in done.output
    done = CliRunner().invoke(app, ["extend", *map(str, words), "--json"])
    assert '"missing_bytes": [' in done.output
