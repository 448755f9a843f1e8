"""Drafts, sealing, locks and what a full disk looks like."""

import errno
import multiprocessing
import os
from pathlib import Path

import pytest

from lingraft.errors import DiskFullError, InputError, LockedError, UsageError, VerifyError
from lingraft.manifest import Facts, Identity
from lingraft.progress import SilentReporter
from lingraft.store import (
    Draft,
    disk_errors,
    link_or_copy,
    lock_folder,
    open_artefact,
    open_draft,
    require_space,
    verify_artefact,
    write_json,
)

IDENTITY = Identity(stage="embed", stage_version=1, settings={}, seed=3, inputs={})


def draft_in(folder: Path, *, seed: int = 3, resumable: bool = True) -> Draft:
    identity = IDENTITY.model_copy(update={"seed": seed})
    return open_draft(folder / "40-embed", identity, SilentReporter(), resumable=resumable)


def test_a_sealed_draft_is_an_artefact_with_its_files_hashed(tmp_path: Path) -> None:
    draft = draft_in(tmp_path)
    write_json(draft.path / "a.json", [1])
    artefact = draft.seal(Facts(), {"time_s": 1.0})
    assert artefact.path == tmp_path / "40-embed"
    assert [f.path for f in artefact.manifest.files] == ["a.json"]
    assert open_artefact(artefact.path) == artefact
    assert artefact.file("a.json").read_text(encoding="utf-8") == "[\n 1\n]\n"
    assert not draft.path.exists()


def test_space_that_is_there_is_enough_and_space_that_is_not_is_refused(tmp_path: Path) -> None:
    require_space(tmp_path / "not" / "yet", 1)
    with pytest.raises(DiskFullError, match=r"not: 1000000000\.00 GB are to be written.*\n.*Not"):
        require_space(tmp_path / "not", 10**18)


def test_a_hash_that_is_known_is_not_taken_again(tmp_path: Path) -> None:
    draft = draft_in(tmp_path)
    write_json(draft.path / "a.json", [1])
    draft.know_sha256("a.json", "f" * 64)
    assert draft.seal(Facts(), {}).manifest.files[0].sha256 == "f" * 64


@pytest.mark.parametrize("error", [None, errno.EXDEV, errno.ENOSPC])
def test_a_file_that_cannot_be_linked_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int | None
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "no link")

    def fail(*_: object) -> int:
        assert error is not None
        raise OSError(error, os.strerror(error))

    (tmp_path / "a").write_bytes(b"content" * 99)
    monkeypatch.setattr(os, "link", refuse)
    if error is not None:
        monkeypatch.setattr(os, "copy_file_range", fail)
    if error == errno.ENOSPC:
        with pytest.raises(OSError, match="No space"):
            link_or_copy(tmp_path / "a", tmp_path / "b")
        return
    link_or_copy(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"content" * 99
    assert not (tmp_path / "b").samefile(tmp_path / "a")


def test_scratch_is_not_part_of_the_artefact(tmp_path: Path) -> None:
    draft = draft_in(tmp_path)
    (draft.scratch / "step").write_text("x", encoding="utf-8")
    assert draft.seal(Facts(), {}).manifest.files == []
    assert not (tmp_path / "40-embed" / "scratch").exists()


def test_files_set_aside_do_not_move_the_digest(tmp_path: Path) -> None:
    digests = []
    for text in ("one", "two"):
        draft = draft_in(tmp_path)
        draft.set_aside("logs/*")
        (draft.path / "logs").mkdir()
        (draft.path / "logs" / "x").write_text(text, encoding="utf-8")
        digests.append(draft.seal(Facts(), {}).manifest.digest)
    assert digests[0] == digests[1]


def test_a_resumable_stage_gets_its_draft_back(tmp_path: Path) -> None:
    (draft_in(tmp_path).scratch / "step").write_text("x", encoding="utf-8")
    assert (draft_in(tmp_path).scratch / "step").is_file()


@pytest.mark.parametrize(("seed", "resumable"), [(4, True), (3, False)])
def test_a_draft_of_another_identity_or_kind_is_thrown_away(
    tmp_path: Path, seed: int, resumable: bool
) -> None:
    (draft_in(tmp_path).scratch / "step").write_text("x", encoding="utf-8")
    again = draft_in(tmp_path, seed=seed, resumable=resumable)
    assert not (again.scratch / "step").exists()
    assert again.seed == seed


@pytest.mark.parametrize("cut_after", ["rmtree", "rename"])
def test_a_kill_while_sealing_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut_after: str
) -> None:
    draft = draft_in(tmp_path)
    (draft.scratch / "step").write_text("x", encoding="utf-8")
    write_json(draft.path / "a.json", 1)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    target = "shutil.rmtree" if cut_after == "rmtree" else "pathlib.Path.rename"
    with monkeypatch.context() as patch:
        patch.setattr(target, killed)
        with pytest.raises(KeyboardInterrupt):
            draft.seal(Facts(), {"time_s": 7.0})
    again = draft_in(tmp_path, resumable=False)
    assert again.is_sealed
    artefact = again.finish()
    assert [f.path for f in artefact.manifest.files] == ["a.json"]
    assert sorted(p.name for p in artefact.path.iterdir()) == ["a.json", "manifest.json"]


def test_a_sealed_draft_of_another_identity_is_thrown_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    draft = draft_in(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.rename", killed)
        with pytest.raises(KeyboardInterrupt):
            draft.seal(Facts(), {})
    assert not draft_in(tmp_path, seed=4).is_sealed


def test_sealing_again_replaces_the_former_artefact(tmp_path: Path) -> None:
    draft_in(tmp_path).seal(Facts(), {})
    draft = draft_in(tmp_path)
    write_json(draft.path / "b.json", 2)
    draft.seal(Facts(), {})
    assert [f.path for f in open_artefact(tmp_path / "40-embed").manifest.files] == ["b.json"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["40-embed"]


def test_an_unlisted_file_is_not_handed_out(tmp_path: Path) -> None:
    artefact = draft_in(tmp_path).seal(Facts(), {})
    with pytest.raises(VerifyError, match="lists no file 'x'"):
        artefact.file("x")


@pytest.mark.parametrize(
    ("damage", "found"), [("missing", "missing"), ("longer", "3 bytes"), ("other", "sha256")]
)
def test_damage_is_found(tmp_path: Path, damage: str, found: str) -> None:
    draft = draft_in(tmp_path)
    (draft.path / "x").write_text("ab", encoding="utf-8")
    artefact = draft.seal(Facts(), {})
    if damage == "missing":
        (artefact.path / "x").unlink()
    else:
        (artefact.path / "x").write_text("abc" if damage == "longer" else "cd", encoding="utf-8")
    (line,) = verify_artefact(artefact, full=True)
    assert found in line


def test_a_kill_inside_the_writing_of_the_manifest_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    draft = draft_in(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.replace", killed)
        with pytest.raises(KeyboardInterrupt):
            draft.seal(Facts(), {})
    again = draft_in(tmp_path)
    assert (again.path / "manifest.json.partial").is_file()
    assert again.seal(Facts(), {}).manifest.files == []


def test_an_edited_manifest_is_found(tmp_path: Path) -> None:
    path = draft_in(tmp_path).seal(Facts(), {}).path
    manifest = path / "manifest.json"
    text = manifest.read_text(encoding="utf-8")
    manifest.write_text(text.replace('"seed": 3', '"seed": 4'), encoding="utf-8")
    (line,) = verify_artefact(open_artefact(path), full=True)
    assert "digest is not that of its content" in line


def test_whole_artefacts_verify(tmp_path: Path) -> None:
    assert verify_artefact(draft_in(tmp_path).seal(Facts(), {}), full=True) == []


def _hold(
    folder: Path, held: "multiprocessing.synchronize.Event", go: "multiprocessing.synchronize.Event"
) -> None:
    with lock_folder(folder):
        held.set()
        go.wait(30)


def test_two_runs_in_one_folder_are_refused(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held, go = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path, held, go))
    other.start()
    assert held.wait(30)
    with pytest.raises(LockedError, match=f"process {other.pid}"), lock_folder(tmp_path):
        raise AssertionError("the lock was given twice")
    go.set()
    other.join()
    with lock_folder(tmp_path):
        assert (tmp_path / ".lock").read_text(encoding="utf-8") == str(os.getpid())


def test_a_full_disk_is_told_with_a_way_out(tmp_path: Path) -> None:
    with (
        pytest.raises(DiskFullError, match=r"No space left(.|\n)*--set run\.folder"),
        disk_errors(tmp_path),
    ):
        raise OSError(errno.ENOSPC, "No space left on device", "x.bin")


def test_a_source_without_rights_is_told_as_such(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match=r"zh\.txt: cannot be read"),
        disk_errors(tmp_path / "runs"),
    ):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "zh.txt"))


def test_a_run_folder_without_rights_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(DiskFullError, match="cannot write"), disk_errors(tmp_path):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "10-corpus"))


def test_a_file_is_no_place_for_a_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    for folder in (tmp_path / "file", tmp_path / "file" / "demo"):
        with pytest.raises(UsageError, match="cannot be made a folder"), lock_folder(folder):
            raise AssertionError("a file was locked as a folder")


def test_other_operating_system_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), disk_errors(tmp_path):
        (tmp_path / "absent").read_text(encoding="utf-8")


def test_linking_falls_back_to_copying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text("x", encoding="utf-8")
    link_or_copy(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a").samefile(tmp_path / "b")

    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "other file system")

    monkeypatch.setattr("os.link", refuse)
    link_or_copy(tmp_path / "a", tmp_path / "c")
    assert (tmp_path / "c").read_text(encoding="utf-8") == "x"
    assert not (tmp_path / "a").samefile(tmp_path / "c")
