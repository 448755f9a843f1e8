"""Identities, digests and manifests."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingraft.errors import VerifyError
from lingraft.manifest import (
    Facts,
    FileEntry,
    Identity,
    Manifest,
    canonical_json,
    file_sha256,
    read_manifest,
)

IDENTITY = Identity(
    stage="vocab", stage_version=1, settings={"a": {"b": 1}}, seed=17, inputs={"corpus": "00ff"}
)


def manifest(time_s: float = 1.0, sha: str = "ab") -> Manifest:
    entry = FileEntry(path="x", size_bytes=1, sha256=sha)
    return Manifest.build(IDENTITY, [entry], Facts(), {"time_s": time_s})


def test_circumstances_do_not_move_the_digest() -> None:
    assert manifest(time_s=1.0).digest == manifest(time_s=2.0).digest


def test_bytes_move_the_digest() -> None:
    assert manifest(sha="ab").digest != manifest(sha="cd").digest


def test_changes_are_told_as_before_and_after() -> None:
    other = IDENTITY.model_copy(update={"settings": {"a": {"b": 2}}, "seed": 17})
    assert other.changes_from(IDENTITY) == ["settings.a.b: 1 -> 2"]


def test_an_added_setting_is_told_as_absent_before() -> None:
    other = IDENTITY.model_copy(update={"settings": {"a": {"b": 1}, "long": "x" * 99}})
    (line,) = other.changes_from(IDENTITY)
    assert line.startswith("settings.long: (absent) -> ")
    assert line.endswith("...")


@given(st.dictionaries(st.text(), st.integers() | st.text()))
def test_canonical_json_does_not_depend_on_order(value: dict[str, int | str]) -> None:
    assert canonical_json(value) == canonical_json(dict(reversed(value.items())))


def test_nan_has_no_canonical_form() -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(float("nan"))


def test_a_manifest_survives_the_disk(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(manifest().model_dump_json(), encoding="utf-8")
    assert read_manifest(tmp_path) == manifest()


def test_a_folder_without_manifest_is_no_artefact(tmp_path: Path) -> None:
    with pytest.raises(VerifyError, match="not an artefact"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("text", ["{}", "not json", '{"format": 3}'])
def test_a_broken_manifest_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text, encoding="utf-8")
    with pytest.raises(VerifyError, match="not a manifest"):
        read_manifest(tmp_path)


def test_a_manifest_of_another_format_is_refused(tmp_path: Path) -> None:
    text = manifest().model_dump_json().replace("lingraft.manifest/1", "lingraft.manifest/9")
    (tmp_path / "manifest.json").write_text(text, encoding="utf-8")
    with pytest.raises(VerifyError, match="manifest/9"):
        read_manifest(tmp_path)


def test_sha256_of_the_empty_file(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    assert file_sha256(tmp_path / "x").startswith("e3b0c44298fc1c14")
