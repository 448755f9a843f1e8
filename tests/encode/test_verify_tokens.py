"""`lingraft verify` on token files: what is damaged is told, each file by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from small_tokenizers import trained

from lingraft import api, cli
from lingraft.encode import encode


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tokenizer.model").write_bytes(trained())
    (tmp_path / "a.txt").write_text("the cat\nthe dog sat\n", encoding="utf-8")
    (tmp_path / "b.txt").write_text("我们 books\n", encoding="utf-8")
    files = [tmp_path / "a.txt", tmp_path / "b.txt"]
    return encode(files, tokenizer=tmp_path / "tokenizer.model", out=tmp_path / "out").folder


def call(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["lingraft", "verify", *words])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0)


def test_a_folder_as_it_was_written_is_fine(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, str(folder)) == 0
    assert capsys.readouterr().out == f"{folder}: every file is as recorded.\n"
    assert call(monkeypatch, str(folder), "--json") == 0
    assert json.loads(capsys.readouterr().out) == []


def change_an_id(folder: Path) -> None:
    ids = np.load(folder / "a.npy")
    ids[2] += 1
    np.save(folder / "a.npy", ids)


def cut_short(folder: Path) -> None:
    np.save(folder / "a.npy", np.load(folder / "a.npy")[:-1])


def change_a_size(folder: Path) -> None:
    sizes = np.load(folder / "a.bytes.npy")
    sizes[0] += 1
    np.save(folder / "a.bytes.npy", sizes)


def remove(folder: Path) -> None:
    (folder / "a.ends.npy").unlink()


def add(folder: Path) -> None:
    np.save(folder / "c.npy", np.zeros(3, np.uint16))


def edit_index(change: Callable[[dict[str, object]], object]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "index.json"
        index = json.loads(path.read_text(encoding="utf-8"))
        change(index["files"][0])
        path.write_text(json.dumps(index), encoding="utf-8")

    return edit


def break_index(folder: Path) -> None:
    (folder / "index.json").write_text('{"format": "lingraft-tokens"', encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (change_an_id, [r"a.npy: sha256 "]),
        (cut_short, [r"a.npy: sha256 ", "a.npy: uint16 "]),
        (change_a_size, ["a.bytes.npy: sha256 ", "a.bytes.npy: 19 bytes of text, expected 18"]),
        (remove, ["a.ends.npy: missing"]),
        (add, ["c.npy: not in index.json"]),
        (edit_index(lambda file: file.update(num_docs=3)), ["a.npy: 2 documents, "]),
        (edit_index(lambda file: file.update(sha256={})), ["a.npy: no hash in index.json"]),
        (break_index, ["index.json: not the index of a folder of token files: Invalid JSON"]),
        (edit_index(lambda file: file.pop("num_docs")), ["files.0.num_docs: Field required"]),
    ],
)
def test_damage_is_told_by_file(
    folder: Path,
    damage: Callable[[Path], None],
    told: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    damage(folder)
    assert call(monkeypatch, str(folder), "--json") == 3
    wrong = json.loads(capsys.readouterr().out)
    assert all(any(text in line for line in wrong) for text in told), wrong
    assert not any("b." in line.removeprefix(str(folder)) for line in wrong)
    assert call(monkeypatch, str(folder)) == 3
    assert capsys.readouterr().out.splitlines() == wrong


def test_python_lists_the_same(folder: Path) -> None:
    assert api.verify(folder) == []
    remove(folder)
    (line,) = api.verify(folder)
    assert line == f"{folder / 'a.ends.npy'}: missing"
