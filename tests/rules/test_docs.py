"""What the documents say is what there is."""

import doctest
import importlib
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from typer.core import TyperGroup

from lingraft import cli

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "lingraft"
VOCABULARY = ROOT / "docs" / "vocabulary.md"
TOKENIZERS = ROOT / "docs" / "tokenizers.md"
CORPUS = ROOT / "docs" / "corpus.md"
ENCODING = ROOT / "docs" / "encoding.md"
MERGING = ROOT / "docs" / "merging.md"
EMBEDDINGS = ROOT / "docs" / "embeddings.md"
TRAINING = ROOT / "docs" / "training.md"
EVALUATION = ROOT / "docs" / "evaluation.md"
READMES = [ROOT / "README.md", ROOT / "README.zh.md"]


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def commands(path: Path) -> list[list[str]]:
    """Give every lingraft command line of a document, without its comment."""
    text = read(path).replace("\\\n", " ")
    lines = re.findall(r"^(?:\.venv/bin/)?lingraft (.*?)\s*(?:#.*)?$", text, re.MULTILINE)
    return [shlex.split(line) for line in lines]


@pytest.mark.parametrize(
    "path",
    [
        *READMES,
        VOCABULARY,
        TOKENIZERS,
        CORPUS,
        ENCODING,
        MERGING,
        EMBEDDINGS,
        TRAINING,
        EVALUATION,
    ],
    ids=lambda p: p.name,
)
def test_every_command_of_the_documents_is_understood(path: Path) -> None:
    """Parsed as typed, options and their values, and not run."""
    assert len(commands(path)) >= 2
    for line in commands(path):
        command: Any = typer.main.get_command(cli.app)
        words = list(line)
        while isinstance(command, TyperGroup):
            command = command.commands[words.pop(0)]
        context = command.make_context(command.name, words)
        assert context.args == []


@pytest.mark.parametrize("path", READMES, ids=lambda p: p.name)
def test_every_make_target_of_the_readme_exists(path: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", read(ROOT / "Makefile"), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z]+)\b", read(path)))
    assert {"demo", "test"} <= named <= targets


def test_the_twins_name_the_same_commands_and_figures() -> None:
    english, chinese = map(read, READMES)
    assert commands(READMES[0]) == commands(READMES[1])
    tables = [
        re.findall(r"\d[\d,]*\.\d+", text.split("<!-- /demo-table -->")[0])
        for text in (english, chinese)
    ]
    assert tables[0] == tables[1]


@pytest.mark.parametrize("path", READMES, ids=lambda p: p.name)
def test_every_file_named_in_the_readme_exists(path: Path) -> None:
    named = re.findall(r"\b((?:recipes|docs|benchmarks|tests|src)/[\w./-]*\w)", read(path))
    made_by_runs = [name for name in named if not (ROOT / name).exists()]
    assert made_by_runs == []


def test_the_design_names_every_module_of_the_spine() -> None:
    text = read(ROOT / "docs" / "design.md").partition("```text")[2].partition("```")[0]
    spine = {p.stem for p in SOURCE.glob("*.py")} - {"__init__", "__main__"}
    assert spine <= set(re.findall(r"[a-z0-9_]+", text))
    assert {p.name for p in SOURCE.iterdir() if (p / "stage.py").is_file()} <= set(text.split())


def test_every_dependency_is_accounted_for() -> None:
    declared = re.findall(r'^    "([a-zA-Z_-]+)[>=\[]', read(ROOT / "pyproject.toml"), re.MULTILINE)
    explained = read(ROOT / "docs" / "dependencies.md")
    extras = ["torch", "transformers", "tensorboard", "mistral-common", "snownlp", "peft"]
    missing = [
        n for n in [*declared, *extras] if n.replace("_", "-") not in explained.replace("_", "-")
    ]
    assert missing == []


def test_every_pinned_version_satisfies_what_is_declared() -> None:
    text = read(ROOT / "constraints" / "cpu.txt")
    lines = re.findall(r"^([\w.-]+)==(.+)$", text, re.MULTILINE)
    pinned = {canonicalize_name(name): version for name, version in lines}
    project = tomllib.loads(read(ROOT / "pyproject.toml"))["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    wanted = [Requirement(text) for group in groups for text in group]
    assert len(wanted) > 20
    wrong = [r for r in wanted if pinned.get(canonicalize_name(r.name), "0") not in r.specifier]
    assert wrong == []


@pytest.mark.parametrize(
    "module",
    ["parts", "encode.documents", "corpus.counting", "corpus.histogram", "corpus.origins"],
)
def test_examples_in_docstrings_run(module: str) -> None:
    result = doctest.testmod(importlib.import_module(f"lingraft.{module}"))
    assert result.attempted > 0
    assert result.failed == 0
