"""`lingraft.corpus.fetch`: from a hub, a web server, memory and disk; stopped, and gone on with."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import fsspec
import pytest
from webs import COMMIT, HUB_FILES, Hub, Web, serve_web

import lingraft
from lingraft.corpus import transfer
from lingraft.corpus.origins import redact
from lingraft.corpus.remote import FetchResult
from lingraft.corpus.transfer import StoppedError
from lingraft.errors import DiskFullError, InputError, LockedError, MissingPackageError, UsageError
from lingraft.progress import LineReporter
from lingraft.store import lock_folder

DATA = bytes(range(256)) * 1024  # 256 KiB
CHUNK = 1 << 16


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small chunks, and no waiting between tries."""
    monkeypatch.setattr(transfer, "_CHUNK_BYTES", CHUNK)
    monkeypatch.setattr(transfer, "_WAIT_S", 0)


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    pytest.importorskip("aiohttp")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    files = {"a/one.jsonl": DATA, "a/two.jsonl": b"2", "a/b/three.txt": b"", "a/.hidden": b"h"}
    tags = {name: f"tag-{n}" for n, name in enumerate(files)}
    with serve_web(Web(files, tags)) as web:
        yield web


@pytest.fixture
def memory() -> Iterator[Any]:
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    system.pipe({"/set/x.jsonl": DATA, "/set/y.jsonl": b"y"})
    yield system
    system.store.clear()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def contents(folder: Path) -> dict[str, bytes]:
    """Give the files of a folder but those that fetching keeps for itself."""
    own = {"fetched.json", ".lock"}
    files = (p for p in folder.rglob("*") if p.is_file())
    named = {p.relative_to(folder).as_posix(): p for p in files}
    return {name: path.read_bytes() for name, path in named.items() if name not in own}


def record(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "fetched.json").read_text(encoding="utf-8")))


def states(result: FetchResult) -> dict[str, str]:
    return {file.name: file.state for file in result.files}


class CutError(Exception):
    """What a test throws to stop in the middle."""


class StopAt:
    """A reporter that stops the work once so many bytes are told."""

    def __init__(self, size_bytes: int) -> None:
        self.left = size_bytes

    def __enter__(self) -> StopAt:
        return self

    def __exit__(self, *args: object) -> None:
        pass

    def task(self, label: str, total: int, unit: str, done: int = 0) -> StopAt:
        return self

    def advance(self, amount: int = 1, text: str = "") -> None:
        self.left -= amount
        if self.left <= 0:
            raise CutError

    def note(self, text: str) -> None:
        pass


# --- the hub


def test_a_data_set_of_the_hub_keeps_its_names(hub: Web, out: Path) -> None:
    result = lingraft.corpus.fetch("hub:owner/set", out=out)
    assert contents(out) == HUB_FILES
    assert states(result) == dict.fromkeys(sorted(HUB_FILES), "missing")
    assert result.is_done


def test_the_record_names_the_commit_that_a_branch_was(hub: Web, out: Path) -> None:
    lingraft.corpus.fetch("hub:owner/set", out=out, patterns=["2022-*"])
    found = record(out)
    assert found["sources"] == [{"source": "hub:owner/set", "revision": "main", "commit": COMMIT}]
    (file,) = found["files"]
    data = HUB_FILES["data/2022-00.jsonl"]
    assert file["name"] == "data/2022-00.jsonl"
    assert file["commit"] == COMMIT
    assert file["size_bytes"] == len(data)
    assert file["sha256"] == hashlib.sha256(data).hexdigest()
    assert "hf_secret" not in (out / "fetched.json").read_text(encoding="utf-8")


def test_more_of_a_data_set_can_be_fetched_later(hub: Web, out: Path) -> None:
    lingraft.corpus.fetch("hub:owner/set", out=out, patterns=["2022-*"])
    result = lingraft.corpus.fetch("hub:owner/set", out=out, patterns=["2023-*"])
    assert [file.name for file in result.to_fetch] == ["data/2023-00.jsonl"]
    assert [f["name"] for f in record(out)["files"]] == ["data/2022-00.jsonl", "data/2023-00.jsonl"]


def test_a_large_file_of_the_hub_goes_on_where_it_was_cut(hub: Web, out: Path) -> None:
    hub.files["big.jsonl"] = DATA
    with pytest.raises(CutError):
        lingraft.corpus.fetch(
            "hub:owner/set", out=out, patterns=["big*"], reporter=StopAt(2 * CHUNK)
        )
    hub.seen.clear()
    lingraft.corpus.fetch("hub:owner/set", out=out, patterns=["big*"])
    assert contents(out)["big.jsonl"] == DATA
    firsts = [int(line.partition("=")[2].partition("-")[0]) for line in hub.gets("big.jsonl")]
    assert min(firsts) >= CHUNK


def test_a_mirror_without_ranges_is_read_from_end_to_end(hub: Web, out: Path) -> None:
    hub.files["big.jsonl"], hub.has_ranges = DATA, False
    lingraft.corpus.fetch("hub:owner/set", out=out, patterns=["big*"])
    assert contents(out) == {"big.jsonl": DATA}


def test_the_hash_that_the_hub_knows_is_compared(
    hub: Web, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, data = "data/2022-00.jsonl", HUB_FILES["data/2022-00.jsonl"]
    monkeypatch.setattr(Hub, "sha256", {name: hashlib.sha256(b"else").hexdigest()})
    with pytest.raises(InputError, match=f"{name} came with sha256"):
        lingraft.corpus.fetch("hub:owner/set", out=out, patterns=["2022*"])
    assert contents(out) == {}
    monkeypatch.setattr(Hub, "sha256", {name: hashlib.sha256(data).hexdigest()})
    lingraft.corpus.fetch("hub:owner/set", out=out, patterns=["2022*"])
    assert contents(out) == {name: data}


@pytest.mark.parametrize(
    ("source", "revision", "message"),
    [
        ("hub:owner/absent", None, "no such dataset"),
        ("hub:owner/gated", None, "accepted its terms"),
        ("hub:owner/set", "v9", "no revision 'v9'"),
        ("hub:owner/broken", None, "cannot be fetched"),
        ("hub:owner/vague", None, "does not tell which commit 'main' is"),
    ],
)
def test_what_the_hub_refuses_is_explained_without_the_token(
    hub: Web, out: Path, source: str, revision: str | None, message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        lingraft.corpus.fetch(source, out=out, revision=revision)
    assert caught.value.way_out
    assert "hf_secret" not in str(caught.value)


def test_a_revision_means_nothing_to_other_sources(tmp_path: Path, out: Path) -> None:
    with pytest.raises(UsageError, match="--revision v1: no source is a hub repository"):
        lingraft.corpus.fetch(tmp_path, out=out, revision="v1")


def test_nothing_is_fetched_where_it_is_only_asked(hub: Web, out: Path) -> None:
    result = lingraft.corpus.fetch("hub:owner/set", out=out, list_only=True)
    assert [file.size_bytes for file in result.files] == [11, 16, 16]
    assert not result.is_done
    assert not out.exists()


def test_a_pattern_that_no_file_has_is_refused(hub: Web, out: Path) -> None:
    with pytest.raises(InputError, match=r"none of its 3 files is named \*\.zst"):
        lingraft.corpus.fetch("hub:owner/set", out=out, patterns=["*.zst"])


# --- the web


def test_a_file_of_the_web_is_named_after_its_address(web: Web, out: Path) -> None:
    lingraft.corpus.fetch(f"{web.address}/a/one.jsonl?sig=secret", out=out)
    assert contents(out) == {"one.jsonl": DATA}
    text = (out / "fetched.json").read_text(encoding="utf-8")
    assert "secret" not in text
    assert record(out)["sources"][0]["source"] == f"{web.address}/a/one.jsonl?..."


def test_a_folder_of_the_web_gives_what_its_page_links_to(web: Web, out: Path) -> None:
    lingraft.corpus.fetch(f"{web.address}/a/", out=out)
    assert contents(out) == {"one.jsonl": DATA, "two.jsonl": b"2", "b/three.txt": b""}


def test_a_connection_that_breaks_is_taken_up_again(web: Web, out: Path) -> None:
    web.cuts, web.cut_bytes = 3, CHUNK // 2
    lingraft.corpus.fetch(f"{web.address}/a/one.jsonl", out=out)
    assert contents(out) == {"one.jsonl": DATA}


def test_a_fetch_that_was_stopped_goes_on_from_the_bytes_it_has(web: Web, out: Path) -> None:
    source = f"{web.address}/a/one.jsonl"
    with pytest.raises(CutError):
        lingraft.corpus.fetch(source, out=out, reporter=StopAt(2 * CHUNK))
    assert not (out / "one.jsonl").exists()
    assert states(lingraft.corpus.fetch(source, out=out, list_only=True)) == {"one.jsonl": "begun"}
    web.seen.clear()
    lingraft.corpus.fetch(source, out=out)
    assert contents(out) == {"one.jsonl": DATA}
    assert web.gets("a/one.jsonl")[0].startswith(f"bytes={2 * CHUNK}-")
    assert record(out)["files"][0]["sha256"] == hashlib.sha256(DATA).hexdigest()


def test_what_has_changed_in_between_is_fetched_from_its_beginning(web: Web, out: Path) -> None:
    source = f"{web.address}/a/one.jsonl"
    with pytest.raises(CutError):
        lingraft.corpus.fetch(source, out=out, reporter=StopAt(2 * CHUNK))
    web.files["a/one.jsonl"], web.tags["a/one.jsonl"] = DATA[::-1], "other"
    lingraft.corpus.fetch(source, out=out)
    assert contents(out) == {"one.jsonl": DATA[::-1]}


def test_without_a_tag_or_date_nothing_is_gone_on_with(web: Web, out: Path) -> None:
    source = f"{web.address}/a/one.jsonl"
    del web.tags["a/one.jsonl"]
    with pytest.raises(CutError):
        lingraft.corpus.fetch(source, out=out, reporter=StopAt(2 * CHUNK))
    web.files["a/one.jsonl"] = DATA[::-1]
    lingraft.corpus.fetch(source, out=out)
    assert contents(out) == {"one.jsonl": DATA[::-1]}


@pytest.mark.parametrize("has_lengths", [True, False])
def test_a_server_without_ranges_is_read_from_end_to_end(
    web: Web, out: Path, has_lengths: bool
) -> None:
    web.has_ranges, web.has_lengths = False, has_lengths
    source = f"{web.address}/a/one.jsonl"
    lingraft.corpus.fetch(source, out=out)
    assert contents(out) == {"one.jsonl": DATA}
    assert states(lingraft.corpus.fetch(source, out=out)) == {"one.jsonl": "fetched"}


def test_what_nothing_is_told_of_is_fetched_each_time(web: Web, out: Path) -> None:
    web.has_lengths = False
    web.tags.clear()
    source = f"{web.address}/a/one.jsonl"
    lingraft.corpus.fetch(source, out=out)
    assert states(lingraft.corpus.fetch(source, out=out)) == {"one.jsonl": "changed"}


def test_a_server_that_never_ends_a_file_is_given_up(web: Web, out: Path) -> None:
    web.has_ranges = False
    web.cuts, web.cut_bytes = 99, CHUNK // 2
    with pytest.raises(InputError, match=r"one\.jsonl cannot be read on"):
        lingraft.corpus.fetch(f"{web.address}/a/one.jsonl", out=out)
    assert not (out / "one.jsonl").exists()
    web.cuts = 0
    lingraft.corpus.fetch(f"{web.address}/a/one.jsonl", out=out)
    assert contents(out) == {"one.jsonl": DATA}


def test_a_file_that_vanishes_is_named(web: Web, out: Path) -> None:
    class Remove(StopAt):
        def advance(self, amount: int = 1, text: str = "") -> None:
            web.files.pop("a/one.jsonl", None)

    with pytest.raises(InputError, match=r"one\.jsonl is not there any more"):
        lingraft.corpus.fetch(f"{web.address}/a/one.jsonl", out=out, reporter=Remove(0))


def test_a_file_that_may_not_be_read_is_named(web: Web, out: Path) -> None:
    class Refuse(StopAt):
        def advance(self, amount: int = 1, text: str = "") -> None:
            web.refused.add("a/one.jsonl")

    with pytest.raises(InputError, match=r"one\.jsonl may not be read: 403"):
        lingraft.corpus.fetch(f"{web.address}/a/one.jsonl", out=out, reporter=Refuse(0))


def test_nothing_at_an_address_is_a_usage_error(web: Web, out: Path) -> None:
    with pytest.raises(UsageError, match="nothing there"):
        lingraft.corpus.fetch(f"{web.address}/a/four.jsonl", out=out)


def test_a_server_that_cannot_be_reached_or_refuses_is_told_apart(web: Web, out: Path) -> None:
    web.refused.add("a/two.jsonl")
    with pytest.raises(InputError, match="cannot be listed: 403"):
        lingraft.corpus.fetch(f"{web.address}/a/two.jsonl", out=out)
    with pytest.raises(InputError, match="cannot be listed: Cannot connect"):
        lingraft.corpus.fetch("http://127.0.0.1:9/x.jsonl", out=out)


# --- any file system


def test_a_folder_of_any_file_system_is_fetched(memory: Any, out: Path) -> None:
    lingraft.corpus.fetch("memory://set", out=out)
    assert contents(out) == {"x.jsonl": DATA, "y.jsonl": b"y"}


def test_a_pattern_in_an_address_gives_its_files(memory: Any, out: Path) -> None:
    lingraft.corpus.fetch("memory://set/x*", out=out)
    assert contents(out) == {"x.jsonl": DATA}
    with pytest.raises(UsageError, match="nothing there"):
        lingraft.corpus.fetch("memory://set/z*", out=out)


def test_a_file_that_changes_while_it_is_fetched_is_refused(memory: Any, out: Path) -> None:
    class Change(StopAt):
        def advance(self, amount: int = 1, text: str = "") -> None:
            memory.pipe("/set/x.jsonl", DATA)

    with pytest.raises(InputError, match=r"x\.jsonl changed while it was fetched"):
        lingraft.corpus.fetch("memory://set/x.jsonl", out=out, reporter=Change(0))
    assert not list((out / ".fetching").iterdir())


def test_a_file_that_grew_since_it_was_listed_is_refused(
    memory: Any, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def list_shorter(*args: object, **kwargs: object) -> dict[str, dict[str, Any]]:
        return {"/set/x.jsonl": {"name": "/set/x.jsonl", "size": CHUNK, "type": "file"}}

    monkeypatch.setattr(type(memory), "find", list_shorter)
    with pytest.raises(InputError, match=r"x\.jsonl changed while it was fetched"):
        lingraft.corpus.fetch("memory://set", out=out)


def test_a_file_that_ends_too_early_is_refused(
    memory: Any, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(memory), "_open", lambda *args, **kwargs: io.BytesIO(DATA[:100]))
    with pytest.raises(InputError, match=r"x\.jsonl cannot be read on: it ended after 100 of 262"):
        lingraft.corpus.fetch("memory://set/x.jsonl", out=out)


def test_a_file_that_is_gone_when_it_is_looked_at_again_is_named(memory: Any, out: Path) -> None:
    class Remove(StopAt):
        def advance(self, amount: int = 1, text: str = "") -> None:
            memory.store.pop("/set/y.jsonl", None)

    with pytest.raises(InputError, match=r"y\.jsonl is not there any more"):
        lingraft.corpus.fetch("memory://set/y.jsonl", out=out, reporter=Remove(0))


def test_whatever_a_file_system_raises_is_told(
    memory: Any, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("no luck at https://host/x?key=secret")

    with monkeypatch.context() as patch:
        patch.setattr(type(memory), "info", fail)
        with pytest.raises(InputError, match=r"cannot be listed: no luck at https://host/x\?\.\."):
            lingraft.corpus.fetch("memory://set", out=out)
    with monkeypatch.context() as patch:
        patch.setattr(type(memory), "_open", fail)
        with pytest.raises(InputError, match=r"cannot be read on: no luck"):
            lingraft.corpus.fetch("memory://set", out=out)
    with monkeypatch.context() as patch:
        patch.setattr("lingraft.corpus.origins.Origin.info", fail)
        with pytest.raises(InputError, match=r"cannot be looked at: no luck") as caught:
            lingraft.corpus.fetch("memory://set", out=out)
    assert "secret" not in str(caught.value)


def test_a_missing_package_is_named(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> type:
        raise ImportError("Install s3fs to access S3") from ModuleNotFoundError(name="s3fs")

    monkeypatch.setattr("fsspec.core.get_filesystem_class", absent)
    with pytest.raises(MissingPackageError, match="needs the package 's3fs'") as caught:
        lingraft.corpus.fetch("s3://bucket/set", out=out)
    assert caught.value.way_out == "pip install s3fs"


def test_a_kind_of_address_that_there_is_none_of_is_refused(out: Path) -> None:
    with pytest.raises(UsageError, match=r"Did you mean https://\?"):
        lingraft.corpus.fetch("htps://host/x", out=out)


def test_a_file_system_that_cannot_be_opened_is_told(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(url: str) -> None:
        raise RuntimeError("no credentials")

    monkeypatch.setattr("fsspec.core.url_to_fs", fail)
    with pytest.raises(InputError, match="cannot be listed: no credentials"):
        lingraft.corpus.fetch("s3://bucket/set", out=out)


@pytest.mark.parametrize("name", ["fetched.json", ".lock", ".fetching/x", "../x", "a//b"])
def test_a_name_that_leads_elsewhere_is_refused(
    memory: Any, out: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    found = {f"/set/{name}": {"name": f"/set/{name}", "size": 1, "type": "file"}}
    monkeypatch.setattr(type(memory), "find", lambda *args, **kwargs: found)
    with pytest.raises(InputError, match="has a file named"):
        lingraft.corpus.fetch("memory://set", out=out, patterns=["*"])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:pw@host/a b", "https://host/a b"),
        ("of 'https://host/a?x=1&y=2' or s3://b/c", "of 'https://host/a?...' or s3://b/c"),
        ("no address, a@b?", "no address, a@b?"),
    ],
)
def test_passwords_and_queries_are_not_told(text: str, shown: str) -> None:
    assert redact(text) == shown


# --- paths, and the folder that is fetched into


def write(folder: Path, **files: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / f"{name}.jsonl").write_bytes(data)
    return folder


def test_a_path_is_copied(tmp_path: Path, out: Path) -> None:
    source = write(tmp_path / "in", a=DATA, b=b"b")
    write(source / ".git", c=b"c")
    write(source / "inner folder", d=b"d")
    lingraft.corpus.fetch(source, out=out)
    assert contents(out) == {"a.jsonl": DATA, "b.jsonl": b"b", "inner folder/d.jsonl": b"d"}


def test_patterns_and_files_of_this_machine(tmp_path: Path, out: Path) -> None:
    source = write(tmp_path / "in", a=b"a", b=b"b")
    lingraft.corpus.fetch([f"{source}/a*", source / "b.jsonl"], out=out)
    assert contents(out) == {"a.jsonl": b"a", "b.jsonl": b"b"}


@pytest.mark.parametrize("name", ["data [1]", "a*b?", "x::y", "with space"])
def test_awkward_names_of_folders_are_no_patterns(tmp_path: Path, out: Path, name: str) -> None:
    lingraft.corpus.fetch(write(tmp_path / name, a=b"a"), out=out)
    assert contents(out) == {"a.jsonl": b"a"}


def test_what_stands_for_a_folder_is_no_file(
    memory: Any, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["/set/", "/set/y.jsonl"]
    found = {name: {"name": name, "size": 1, "type": "file"} for name in names}
    monkeypatch.setattr(type(memory), "find", lambda *args, **kwargs: found)
    lingraft.corpus.fetch("memory://set", out=out)
    assert contents(out) == {"y.jsonl": b"y"}


def test_other_orders_of_a_page_are_not_followed(web: Web, out: Path) -> None:
    web.files["a/?C=S"] = b"sorted otherwise"
    lingraft.corpus.fetch(f"{web.address}/a/", out=out)
    assert sorted(contents(out)) == ["b/three.txt", "one.jsonl", "two.jsonl"]


def test_what_is_there_is_not_fetched_again(tmp_path: Path, out: Path) -> None:
    source = write(tmp_path / "in", a=DATA, b=b"b")
    lingraft.corpus.fetch(source, out=out)
    before = (out / "fetched.json").read_bytes()
    os.utime(out / "a.jsonl", (1, 1))
    result = lingraft.corpus.fetch(source, out=out)
    assert states(result) == {"a.jsonl": "fetched", "b.jsonl": "fetched"}
    assert (out / "a.jsonl").stat().st_mtime == 1
    assert (out / "fetched.json").read_bytes() == before
    assert not (out / ".fetching").exists()


def test_what_is_missing_changed_or_damaged_is_fetched(tmp_path: Path, out: Path) -> None:
    source = write(tmp_path / "in", a=b"a", b=b"b", c=b"c", d=b"d")
    lingraft.corpus.fetch(source, out=out)
    write(source, a=b"A")
    os.utime(source / "a.jsonl", (1, 1))
    (out / "b.jsonl").unlink()
    write(out, c=b"longer")
    result = lingraft.corpus.fetch(source, out=out)
    assert states(result) == {
        "a.jsonl": "changed",
        "b.jsonl": "missing",
        "c.jsonl": "damaged",
        "d.jsonl": "fetched",
    }
    assert contents(out) == {"a.jsonl": b"A", "b.jsonl": b"b", "c.jsonl": b"c", "d.jsonl": b"d"}


def test_a_file_that_is_gone_at_its_source_stops_it(tmp_path: Path, out: Path) -> None:
    source = write(tmp_path / "in", a=b"a", b=b"b", c=b"c")
    lingraft.corpus.fetch(source, out=out)
    (source / "a.jsonl").unlink()
    (source / "b.jsonl").unlink()
    with pytest.raises(InputError, match=r"a\.jsonl and 1 more, fetched before, is not there any"):
        lingraft.corpus.fetch(source, out=out)
    (out / "a.jsonl").unlink()
    (out / "b.jsonl").unlink()
    lingraft.corpus.fetch(source, out=out)
    assert [file["name"] for file in record(out)["files"]] == ["c.jsonl"]


def test_a_file_of_others_is_not_written_over(tmp_path: Path, out: Path) -> None:
    source = write(tmp_path / "in", a=b"a")
    write(out, a=b"mine")
    with pytest.raises(UsageError, match=r"a\.jsonl: is there already, and was not fetched"):
        lingraft.corpus.fetch(source, out=out)
    assert contents(out) == {"a.jsonl": b"mine"}


def test_a_file_of_another_source_is_not_written_over(tmp_path: Path, out: Path) -> None:
    first, second = write(tmp_path / "in", a=b"a"), write(tmp_path / "other", a=b"A")
    lingraft.corpus.fetch(first, out=out)
    with pytest.raises(UsageError, match="is there already, and was fetched from"):
        lingraft.corpus.fetch(second, out=out)


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path, out: Path) -> None:
    write(tmp_path / "in/a.jsonl", b=b"b")
    write(out, a=b"mine")
    with pytest.raises(UsageError, match=r"out/a\.jsonl: is there already"):
        lingraft.corpus.fetch(tmp_path / "in", out=out)


def test_two_files_of_one_name_are_refused(tmp_path: Path, out: Path) -> None:
    first, second = write(tmp_path / "in", a=b"a"), write(tmp_path / "other", a=b"A")
    assert lingraft.corpus.fetch(first, out=out, list_only=True).record["is_done"] is False
    with pytest.raises(UsageError, match=r"two files are named a\.jsonl"):
        lingraft.corpus.fetch([first, second], out=out)
    lingraft.corpus.fetch([first, first], out=out)


def test_sources_gather_in_one_folder(tmp_path: Path, out: Path) -> None:
    first, second = write(tmp_path / "in", a=b"a"), write(tmp_path / "other", b=b"b")
    lingraft.corpus.fetch(first, out=out)
    lingraft.corpus.fetch(second, out=out)
    found = record(out)
    assert [source["source"] for source in found["sources"]] == [str(first), str(second)]
    assert [file["source"] for file in found["files"]] == [str(first), str(second)]


def test_a_kill_between_two_files_loses_none(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, other = write(tmp_path / "in", a=b"a", b=b"b"), write(tmp_path / "other", c=b"c")

    def cut(*args: object) -> None:
        raise CutError

    with monkeypatch.context() as patch:
        patch.setattr("lingraft.corpus.remote._finish", cut)  # as if killed before the record
        with pytest.raises(CutError):
            lingraft.corpus.fetch(source, out=out)
    assert not (out / "fetched.json").exists()
    lingraft.corpus.fetch(other, out=out)
    assert len(record(out)["sources"]) == 2
    result = lingraft.corpus.fetch(source, out=out)
    assert states(result) == {"a.jsonl": "fetched", "b.jsonl": "fetched"}


def test_the_first_failure_stops_the_others(memory: Any, out: Path) -> None:
    class Remove(StopAt):
        def advance(self, amount: int = 1, text: str = "") -> None:
            memory.store.pop("/set/y.jsonl", None)

    with pytest.raises(InputError, match=r"y\.jsonl is not there"):
        lingraft.corpus.fetch("memory://set", out=out, jobs=1, reporter=Remove(0))
    memory.pipe("/set/y.jsonl", b"y")
    lingraft.corpus.fetch("memory://set", out=out, jobs=2)
    assert contents(out) == {"x.jsonl": DATA, "y.jsonl": b"y"}


def test_a_transfer_that_is_told_to_stop_keeps_its_part(memory: Any, tmp_path: Path) -> None:
    from lingraft.corpus.origins import find_origin

    origin, stop = find_origin("memory://set/x.jsonl", (), "main"), Event()
    part = tmp_path / "x.partial"

    def tell(size_bytes: int) -> None:
        stop.set()

    with pytest.raises(StoppedError):
        transfer.Transfer(origin, origin.files[0], part, tell, stop).gather()
    assert part.read_bytes() == DATA[:CHUNK]


def test_what_is_fetched_into_may_not_be_a_source(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is inside the source"):
        lingraft.corpus.fetch(tmp_path, out=tmp_path / "out")


def test_one_folder_is_fetched_into_by_one_process(tmp_path: Path, out: Path) -> None:
    source = write(tmp_path / "in", a=b"a")
    with lock_folder(out), pytest.raises(LockedError, match="another run is at work"):
        lingraft.corpus.fetch(source, out=out)


def test_a_record_that_is_none_is_named(tmp_path: Path, out: Path) -> None:
    write(out)
    (out / "fetched.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match=r"fetched\.json: not a record"):
        lingraft.corpus.fetch(write(tmp_path / "in", a=b"a"), out=out)


def test_a_full_disk_is_told_with_a_way_out(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(self: object, block: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lingraft.corpus.transfer._Part.append", fill)
    with pytest.raises(DiskFullError, match="No space left"):
        lingraft.corpus.fetch(write(tmp_path / "in", a=b"a"), out=out)


def test_progress_counts_the_bytes(tmp_path: Path, out: Path) -> None:
    lines: list[str] = []
    reporter = LineReporter(lines.append, clock=lambda: 0.0)
    lingraft.corpus.fetch(write(tmp_path / "in", a=DATA), out=out, reporter=reporter)
    assert lines[-1].startswith("  fetch: 0.3/0.3 MB (100%)")


def test_a_number_of_jobs_that_is_none_is_refused(tmp_path: Path, out: Path) -> None:
    with pytest.raises(UsageError, match="jobs = 0"):
        lingraft.corpus.fetch(tmp_path, out=out, jobs=0)
