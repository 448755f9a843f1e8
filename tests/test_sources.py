"""Where sources lie."""

from pathlib import Path

import pytest

from lingraft.errors import MissingPackageError, UsageError
from lingraft.sources import identify_source, is_hub_source, locate_source


def test_a_package_file_is_found_without_importing_it() -> None:
    path = locate_source("package:pydantic/main.py")
    assert path.name == "main.py"
    assert path.is_file()


def test_a_file_of_python_itself_is_found() -> None:
    assert locate_source("stdlib:pydoc_data/topics.py").is_file()


def test_a_plain_path_is_itself(tmp_path: Path) -> None:
    assert locate_source(str(tmp_path)) == tmp_path
    assert identify_source(str(tmp_path)) == tmp_path


def test_a_missing_path_is_told() -> None:
    with pytest.raises(UsageError, match="nothing at"):
        locate_source("no/such/path")


@pytest.mark.parametrize("source", ["package:pydantic/absent.py", "stdlib:absent.py"])
def test_a_file_missing_from_a_package_is_told_before_any_work(source: str) -> None:
    with pytest.raises(UsageError, match="nothing at"):
        identify_source(source)


def test_a_place_that_cannot_be_looked_at_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        locate_source(str(tmp_path / ("x" * 999)))


@pytest.mark.parametrize("source", ["package:not_installed_here/x", "package:a-b/x"])
def test_a_missing_package_is_told_with_the_pip_line(source: str) -> None:
    with pytest.raises(MissingPackageError, match="pip install"):
        locate_source(source)


def test_packages_are_identified_by_version_and_python_by_its_own() -> None:
    found = identify_source("package:pydantic/main.py")
    assert isinstance(found, str)
    assert found.startswith("pydantic ")
    python = identify_source("stdlib:os.py")
    assert isinstance(python, str)
    assert python.startswith("python 3.")


def test_a_package_without_distribution_is_identified_by_its_files() -> None:
    assert isinstance(identify_source("package:json/decoder.py"), Path)


def test_hub_sources_are_names_only() -> None:
    assert is_hub_source("hub:a/b")
    assert identify_source("hub:a/b") == "hub:a/b"
    assert not is_hub_source("a/b")
