"""The base that extension.json tells of."""

import json
from pathlib import Path
from typing import Any

import pytest
from extended_tokenizers import extended, write_folder, write_model
from small_tokenizers import build

from lingraft.bases import read_base
from lingraft.errors import InputError, UsageError
from lingraft.tokenizer.finding import find_base, recorded_scripts, scripts_were_named
from lingraft.tokenizer.forms import Forms, read_forms


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_model(tmp_path / "llama", build())


def recorded(tmp_path: Path, record: Any) -> Forms:
    folder = write_folder(tmp_path / "out", extended())
    text = record if isinstance(record, str) else json.dumps(record)
    (folder / "extension.json").write_text(text)
    return read_forms(str(folder))


def of(base: Path, **changes: Any) -> dict[str, Any]:
    record = {"name": "llama/tokenizer.model", "sha256": read_base(str(base)).digest, **changes}
    return {"base": record, "scripts": ["Han"]}


def test_a_base_that_is_named_is_taken(tmp_path: Path, base: Path) -> None:
    forms = recorded(tmp_path, of(base, sha256="0"))
    found, why = find_base(forms, str(base))
    assert found is not None
    assert (found.name, why) == (str(base), "")
    with pytest.raises(UsageError):
        find_base(forms, str(tmp_path / "nowhere"))


def test_a_recorded_base_is_found_above_the_tokenizer(tmp_path: Path, base: Path) -> None:
    found, why = find_base(recorded(tmp_path, of(base)), None)
    assert found is not None
    assert (found.base.digest, why) == (read_base(str(base)).digest, "")


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ({"sha256": "0"}, "that extension.json tells of is not there"),
        ({"name": "elsewhere/x.model"}, "that extension.json tells of is not there"),
        ({"name": ""}, "extension.json tells of none"),
    ],
)
def test_another_base_is_not_taken_for_it(
    tmp_path: Path, base: Path, record: dict[str, Any], why: str
) -> None:
    found, told = find_base(recorded(tmp_path, of(base, **record)), None)
    assert found is None
    assert why in told


def test_a_file_of_that_name_that_is_no_tokenizer_is_passed_over(
    tmp_path: Path, base: Path
) -> None:
    forms = recorded(tmp_path, of(base))
    base.write_bytes(b"damaged")
    assert find_base(forms, None)[0] is None


def test_records_without_a_base_tell_none(tmp_path: Path) -> None:
    forms = recorded(tmp_path, {"base": "x"})
    assert "tells of none" in find_base(forms, None)[1]
    assert recorded_scripts(forms) is None


def test_scripts_are_recorded(tmp_path: Path, base: Path) -> None:
    assert recorded_scripts(recorded(tmp_path, of(base))) == ["Han"]


def test_without_a_record_the_user_is_asked(tmp_path: Path) -> None:
    forms = read_forms(str(write_folder(tmp_path, extended())))
    assert find_base(forms, None) == (None, "no base: name it with --base")


@pytest.mark.parametrize(("text", "found"), [("{", "not JSON"), ("[]", "expected a JSON object")])
def test_a_damaged_record_is_refused(tmp_path: Path, text: str, found: str) -> None:
    with pytest.raises(InputError, match=found):
        find_base(recorded(tmp_path, text), None)


@pytest.mark.parametrize(("told", "named"), [("named", True), ("found", False), (None, False)])
def test_the_record_tells_whether_scripts_were_named(
    tmp_path: Path, base: Path, told: str | None, named: bool
) -> None:
    assert scripts_were_named(recorded(tmp_path, {**of(base), "scripts_from": told})) is named
