"""`lingraft.corpus.list` and `add`: a person's file grows, and stays what it was."""

from __future__ import annotations

import fcntl
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import lingraft
from lingraft.corpus.registry import read_registry
from lingraft.errors import DiskFullError, InputError, UsageError

WRITTEN = """# ours, do not touch
[a]   # first
splits = ["train"]
root = "{DATA_DIR}"
doc = "{name}"
encoded = "{name}-tokens"
"""


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    path = tmp_path / "datasets.toml"
    path.write_text(WRITTEN, encoding="utf-8")
    return path


def touch(path: Path, text: str = "x") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_a_set_is_added_behind_what_a_person_wrote(registry: Path) -> None:
    result = lingraft.corpus.add(registry, "b", root="{DATA_DIR}/b", splits=["train", "dev"])
    text = registry.read_text(encoding="utf-8")
    assert text.startswith(WRITTEN + "\n[b]\n")
    assert text.endswith(result.text)
    assert not result.created
    found = read_registry(registry)["b"]
    assert found.docs["dev"] == registry.parent / "b/b-dev.jsonl"


def test_a_registry_is_made_where_there_is_none(tmp_path: Path) -> None:
    result = lingraft.corpus.add(tmp_path / "x/sets.toml", "b")
    assert result.created
    assert (tmp_path / "x/sets.toml").read_text(encoding="utf-8") == result.text
    assert lingraft.corpus.add(tmp_path, "b").registry == tmp_path / "datasets.toml"


def test_line_ends_stay_as_they_are(registry: Path) -> None:
    registry.write_bytes(WRITTEN.rstrip().replace("\n", "\r\n").encode())
    lingraft.corpus.add(registry, "b")
    data = registry.read_bytes()
    assert data.count(b"\n") == data.count(b"\r\n")
    assert list(read_registry(registry)) == ["a", "b"]


def test_a_link_stays_a_link(registry: Path, tmp_path: Path) -> None:
    (tmp_path / "link.toml").symlink_to(registry)
    lingraft.corpus.add(tmp_path / "link.toml", "b")
    assert (tmp_path / "link.toml").is_symlink()
    assert list(read_registry(registry)) == ["a", "b"]


def test_a_name_that_is_there_is_refused(registry: Path) -> None:
    with pytest.raises(UsageError, match="has a set 'a' already"):
        lingraft.corpus.add(registry, "a")
    assert registry.read_text(encoding="utf-8") == WRITTEN


@pytest.mark.parametrize("name", ["", " a", "a b", "a:b", "a/b", "a,b", "a\nb", "a\\b", "-x", ".x"])
def test_a_name_that_a_mixture_cannot_hold_is_refused(registry: Path, name: str) -> None:
    with pytest.raises(
        UsageError, match=r"set name .*: expected letters, digits, '\.', '_' and '-'"
    ):
        lingraft.corpus.add(registry, name)


def test_a_set_that_would_be_bad_is_refused(registry: Path) -> None:
    with pytest.raises(InputError, match=r"the set to add to .*: b\.root = '\{HOME\}'"):
        lingraft.corpus.add(registry, "b", root="{HOME}")
    with pytest.raises(UsageError, match="--splits: none is given"):
        lingraft.corpus.add(registry, "b", splits=[])
    assert registry.read_text(encoding="utf-8") == WRITTEN


def test_nothing_is_added_to_a_registry_that_is_bad(registry: Path) -> None:
    registry.write_text("[a", encoding="utf-8")
    with pytest.raises(InputError, match="not TOML"):
        lingraft.corpus.add(registry, "b")
    registry.write_bytes(b"\xff")
    with pytest.raises(InputError, match="cannot read the registry"):
        lingraft.corpus.add(registry, "b")


def test_a_place_that_cannot_be_a_folder_is_a_usage_error(registry: Path) -> None:
    with pytest.raises(UsageError, match="cannot be made a folder"):
        lingraft.corpus.add(registry / "x.toml", "b")


def test_a_full_disk_leaves_the_registry_as_it_was(
    registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("lingraft.corpus.registering.write_text", fill)
    with pytest.raises(DiskFullError, match="No space left"):
        lingraft.corpus.add(registry, "b")
    assert registry.read_text(encoding="utf-8") == WRITTEN


def test_sets_added_at_the_same_time_are_all_there(registry: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: lingraft.corpus.add(registry, f"b{n}"), range(16)))
    assert sorted(read_registry(registry)) == sorted(["a", *(f"b{n}" for n in range(16))])
    assert [path.name for path in registry.parent.iterdir()] == ["datasets.toml"]


def test_a_lock_that_is_taken_away_while_one_waits_for_it_is_made_anew(
    registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, waits = registry.with_name(f".{registry.name}.lock"), []

    def wait(file: Any, how: int) -> None:
        fcntl.flock(file, how)
        waits.append(how)
        if len(waits) < 3:
            lock.unlink()
        if len(waits) == 2:  # and a third process made its own
            lock.touch()

    monkeypatch.setattr(
        "lingraft.corpus.registering.fcntl", SimpleNamespace(flock=wait, LOCK_EX=fcntl.LOCK_EX)
    )
    lingraft.corpus.add(registry, "b")
    assert len(waits) == 3
    assert sorted(read_registry(registry)) == ["a", "b"]
    assert not lock.exists()


def test_a_listing_tells_what_is_there(registry: Path) -> None:
    lingraft.corpus.add(registry, "b")
    touch(registry.parent / "a.jsonl", "12345")
    (registry.parent / "a-tokens").mkdir()
    first, train, valid = lingraft.corpus.list(registry)
    assert (first.name, first.split, first.size_bytes) == ("a", "train", 5)
    assert first.files == (registry.parent / "a.jsonl",)
    assert first.has_tokens
    assert (train.name, train.split, train.files, train.has_tokens) == ("b", "train", (), False)
    assert valid.doc == registry.parent / "b-valid.jsonl"


def test_a_folder_stands_for_its_registry(registry: Path) -> None:
    assert lingraft.corpus.list(registry.parent) == lingraft.corpus.list(registry)
    with pytest.raises(UsageError, match="a: there is no registry"):
        lingraft.corpus.list(registry.parent / "a")


def test_data_may_lie_elsewhere(registry: Path, tmp_path: Path) -> None:
    touch(tmp_path / "else/a.jsonl")
    assert lingraft.corpus.list(registry, data_dir=tmp_path / "else")[0].size_bytes == 1


@pytest.mark.parametrize("name", ["a", "a.jsonl.zst", "a.parquet", "a/b.txt"])
def test_documents_are_found_as_they_may_be_stored(registry: Path, name: str) -> None:
    touch(registry.parent / name)
    assert lingraft.corpus.list(registry)[0].files == (registry.parent / name,)


def test_the_files_of_a_folder_are_one_split(registry: Path) -> None:
    touch(registry.parent / "a/2.jsonl")
    touch(registry.parent / "a/1.jsonl.gz")
    files = lingraft.corpus.list(registry)[0].files
    assert [file.name for file in files] == ["1.jsonl.gz", "2.jsonl"]


def test_a_folder_without_text_holds_no_documents(registry: Path) -> None:
    touch(registry.parent / "a/index.json")
    assert lingraft.corpus.list(registry)[0].files == ()


def test_what_the_registry_means_by_default_comes_first(registry: Path) -> None:
    touch(registry.parent / "a.jsonl")
    touch(registry.parent / "a.parquet")
    assert lingraft.corpus.list(registry)[0].files == (registry.parent / "a.jsonl",)


def test_several_files_that_could_be_meant_are_refused(registry: Path) -> None:
    touch(registry.parent / "a.parquet")
    touch(registry.parent / "a/1.txt")
    with pytest.raises(InputError, match="several others could be meant"):
        lingraft.corpus.list(registry)
