from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from webs import COMMIT, HUB_FILES, Web

from lingraft.corpus.finding import find_commits, find_files
from lingraft.errors import InputError, UsageError


def test_only_the_files_of_a_repository_that_match_are_fetched(hub: Web) -> None:
    files = find_files(["hub:owner/set"], "jsonl", ["2022-*.jsonl"], "main")
    assert [f.label for f in files] == ["hub:owner/set/data/2022-00.jsonl"]
    assert files[0].path.read_bytes() == HUB_FILES["data/2022-00.jsonl"]
    assert not [line for line in hub.seen if "2023" in line or "README" in line]


def test_without_patterns_the_reader_decides_what_is_fetched(hub: Web) -> None:
    files = find_files(["hub:owner/set"], "jsonl", [], COMMIT)
    assert [f.path.name for f in files] == ["2022-00.jsonl", "2023-00.jsonl"]


def test_what_the_cache_holds_is_not_fetched_again(hub: Web) -> None:
    find_files(["hub:owner/set"], "jsonl", [], "main")
    hub.seen.clear()
    find_files(["hub:owner/set"], "jsonl", [], "main")
    assert not [line for line in hub.seen if line.startswith("GET data")]


def test_a_file_of_the_hub_tells_the_commit_it_came_from(hub: Web, tmp_path: Path) -> None:
    touch(tmp_path, "a.jsonl")
    sources = ["hub:owner/set", str(tmp_path)]
    files = find_files(sources, "jsonl", ["*-*.jsonl", "a.jsonl"], "main")
    assert [file.commit for file in files] == [COMMIT, COMMIT, ""]
    assert find_commits(sources, files) == {"hub:owner/set": COMMIT}


@pytest.mark.parametrize(
    ("source", "revision", "message"),
    [
        ("hub:owner/absent", "main", "no such dataset"),
        ("hub:owner/gated", "main", "accepted its terms"),
        ("hub:owner/set", "v9", "no revision 'v9'"),
        ("hub:owner/broken", "main", "cannot be fetched"),
    ],
)
def test_what_the_hub_refuses_is_explained_without_the_token(
    hub: Web, source: str, revision: str, message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        find_files([source], "jsonl", [], revision)
    assert caught.value.way_out
    assert "hf_secret" not in str(caught.value)


def test_without_a_network_the_way_out_names_mirrors(
    hub: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(InputError, match="HF_ENDPOINT"):
        find_files(["hub:owner/set"], "jsonl", [], "main")


def test_a_malformed_repository_name_is_a_usage_error(hub: Web) -> None:
    with pytest.raises(UsageError, match="OWNER/NAME"):
        find_files(["hub:a/b/c/d"], "jsonl", [], "main")


def test_a_full_disk_is_left_to_the_runner_to_explain(
    hub: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(*args: object, **kwargs: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fill)
    with pytest.raises(OSError, match="No space left"):
        find_files(["hub:owner/set"], "jsonl", [], "main")


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x", encoding="utf-8")


def test_a_folder_gives_the_readers_files_in_the_order_of_their_names(tmp_path: Path) -> None:
    touch(tmp_path, "b.jsonl", "a/c.jsonl.gz", "a/z.jsonl.zst", "note.txt", ".hidden.jsonl")
    files = find_files([str(tmp_path)], "jsonl", [], "main")
    assert [f.label.removeprefix(f"{tmp_path}/") for f in files] == [
        "a/c.jsonl.gz",
        "a/z.jsonl.zst",
        "b.jsonl",
    ]


def test_a_file_named_twice_is_read_once(tmp_path: Path) -> None:
    touch(tmp_path, "a.txt", "b.txt")
    files = find_files([f"{tmp_path}/b.txt", str(tmp_path)], "lines", [], "main")
    assert [f.path.name for f in files] == ["b.txt", "a.txt"]


def test_tests_and_packages_inside_a_python_folder_are_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "a.py", "tests/b.py", "site-packages/c.py", "x/__pycache__/d.py", "x/e.py")
    touch(tmp_path, "_sysconfigdata__linux.py")
    files = find_files([str(tmp_path)], "python-strings", [], "main")
    assert [f.path.name for f in files] == ["a.py", "e.py"]


def test_a_source_without_matching_files_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a.txt")
    with pytest.raises(InputError, match=r"2022-\*\.jsonl"):
        find_files([str(tmp_path)], "jsonl", ["2022-*.jsonl"], "main")


def test_a_folder_that_cannot_be_listed_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text("x", encoding="utf-8")
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def refuse(path: str) -> object:
        if Path(path).name == "closed":
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(PermissionError, match="closed"):
        find_files([str(tmp_path)], "lines", [], "main")
