from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar
from urllib.parse import unquote, urlsplit

import pytest

from lingraft.corpus.fetch import find_files
from lingraft.errors import InputError, UsageError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "data/2022-00.jsonl": b'{"text": "one"}\n',
    "data/2023-00.jsonl": b'{"text": "two"}\n',
    "README.md": b"# not data\n",
}


class Hub(BaseHTTPRequestHandler):
    """As much of a hub as a download needs: owner/set, one commit, three files."""

    protocol_version = "HTTP/1.1"
    seen: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def answer(self, *, with_body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        Hub.seen.append(f"{self.command} {path}")
        status, headers, body = self.route(path)
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def route(self, path: str) -> tuple[int, dict[str, str], bytes]:
        for repo, status, code in (
            ("owner/absent", 404, "RepoNotFound"),
            ("owner/gated", 403, "GatedRepo"),
            ("owner/broken", 400, ""),
        ):
            if path.startswith(f"/api/datasets/{repo}"):
                return status, {"X-Error-Code": code} if code else {}, b"{}"
        api = "/api/datasets/owner/set/"
        if path in (f"{api}revision/main", f"{api}revision/{COMMIT}"):
            siblings = [{"rfilename": name} for name in FILES]
            info = {"id": "owner/set", "sha": COMMIT, "siblings": siblings}
            return 200, {}, json.dumps(info).encode()
        if path.startswith(f"{api}revision/"):
            return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}"
        if path.startswith(f"{api}tree/{COMMIT}"):
            rows = [
                {"type": "file", "path": name, "size": len(data), "oid": f"{n:040x}"}
                for n, (name, data) in enumerate(FILES.items(), 1)
            ]
            return 200, {}, json.dumps(rows).encode()
        name = path.removeprefix(f"/datasets/owner/set/resolve/{COMMIT}/")
        if name in FILES:
            etag = f'"{list(FILES).index(name) + 1:040x}"'
            return 200, {"ETag": etag, "X-Repo-Commit": COMMIT}, FILES[name]
        return 404, {"X-Error-Code": "EntryNotFound"}, b"{}"

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    from huggingface_hub import close_session, constants

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("HF_ENDPOINT", address)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    Hub.seen.clear()
    close_session()
    yield address
    close_session()
    server.shutdown()
    server.server_close()
    thread.join()


def test_only_the_files_of_a_repository_that_match_are_fetched(hub: str) -> None:
    files = find_files(["hub:owner/set"], "jsonl", ["2022-*.jsonl"], "main")
    assert [f.label for f in files] == ["hub:owner/set/data/2022-00.jsonl"]
    assert files[0].path.read_bytes() == FILES["data/2022-00.jsonl"]
    assert not [line for line in Hub.seen if "2023" in line or "README" in line]


def test_without_patterns_the_reader_decides_what_is_fetched(hub: str) -> None:
    files = find_files(["hub:owner/set"], "jsonl", [], COMMIT)
    assert [f.path.name for f in files] == ["2022-00.jsonl", "2023-00.jsonl"]


def test_what_the_cache_holds_is_not_fetched_again(hub: str) -> None:
    find_files(["hub:owner/set"], "jsonl", [], "main")
    Hub.seen.clear()
    find_files(["hub:owner/set"], "jsonl", [], "main")
    assert not [line for line in Hub.seen if line.startswith("GET /datasets")]


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
    hub: str, source: str, revision: str, message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        find_files([source], "jsonl", [], revision)
    assert caught.value.way_out
    assert "hf_secret" not in str(caught.value)


def test_without_a_network_the_way_out_names_mirrors(
    hub: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(InputError, match="HF_ENDPOINT"):
        find_files(["hub:owner/set"], "jsonl", [], "main")


def test_a_malformed_repository_name_is_a_usage_error(hub: str) -> None:
    with pytest.raises(UsageError, match="OWNER/NAME"):
        find_files(["hub:a/b/c/d"], "jsonl", [], "main")


def test_a_full_disk_is_left_to_the_runner_to_explain(
    hub: str, monkeypatch: pytest.MonkeyPatch
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
