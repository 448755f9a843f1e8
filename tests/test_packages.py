"""Which packages are installed."""

from pathlib import Path

import pytest

from lingraft.errors import MissingPackageError
from lingraft.packages import find_package, has_package
from lingraft.sources import locate_source


def test_packages_and_modules_are_found() -> None:
    assert has_package("pydantic")
    assert has_package("this")  # of Python itself, and it would print on import


@pytest.mark.parametrize("name", ["", "not_installed_here", "a-b", "pydantic.main"])
def test_what_is_no_package_is_not_found(name: str) -> None:
    assert not has_package(name)


@pytest.fixture
def bare_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that a program left in the working directory."""
    folder = tmp_path / "left_by_a_run"
    folder.mkdir()
    (folder / "x.txt").touch()
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def test_a_bare_folder_on_the_path_is_no_package(bare_folder: Path) -> None:
    assert not has_package(bare_folder.name)
    with pytest.raises(MissingPackageError, match="no package 'left_by_a_run' is installed"):
        locate_source(f"package:{bare_folder.name}/x.txt")


def test_a_bare_folder_that_a_distribution_brings_modules_in_is_one(bare_folder: Path) -> None:
    about = bare_folder.parent / "brought-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: brought\nVersion: 1\n")
    (about / "RECORD").write_text(f"{bare_folder.name}/x.py,,\nbrought-1.dist-info/METADATA,,\n")
    assert find_package(bare_folder.name) is not None
    assert locate_source(f"package:{bare_folder.name}/x.txt").is_file()
