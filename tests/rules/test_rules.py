"""The rules of the house, as tests: layers, weight of imports, limits, names, recipes."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import lingraft
from lingraft import api, cli, errors
from lingraft.recipe import Recipe, find_problems, read_recipe
from lingraft.stages import STAGES

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "lingraft"
FILES = sorted(SOURCE.rglob("*.py"))
STAGE_NAMES = {stage.name for stage in STAGES}
HEAVY = {
    "torch",
    "transformers",
    "tokenizers",
    "sentencepiece",
    "numba",
    "matplotlib",
    "pyarrow",
    "peft",
    "kneed",
    "huggingface_hub",
    "datasets",
    "tensorboard",
}
MAY_BE_HEAVY = {
    *(
        "jit",
        "nf4",
        "nf4_triton",
        "losses",
        "threads",
        "training",
        "scoring",
        "checkpoints",
        "ranks",
    )
}


def name_of(path: Path) -> str:
    return path.relative_to(SOURCE).with_suffix("").as_posix()


def imports_of(path: Path, *, top_only: bool) -> Iterator[tuple[int, str]]:
    """Give (relative level, dotted name) of every import, except those for type checkers."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_only else list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.module:
                yield node.level, node.module
            else:
                yield from ((node.level, alias.name) for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_stage_imports_another(path: Path) -> None:
    inside = path.relative_to(SOURCE).parts
    if len(inside) == 1 or inside[0] not in STAGE_NAMES:
        return
    for level, module in imports_of(path, top_only=False):
        first = module.removeprefix("lingraft.").split(".")[0]
        if level == 2 or module.startswith("lingraft."):
            assert first not in STAGE_NAMES, f"{path} reaches into stage '{first}'"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_heavy_packages_are_imported_where_allowed(path: Path) -> None:
    inside = path.relative_to(SOURCE).parts
    light_file = path.name in ("__init__.py", "settings.py") if len(inside) > 1 else True
    if not light_file or path.stem in MAY_BE_HEAVY:
        return
    heavy = [
        m for level, m in imports_of(path, top_only=True) if not level and m.split(".")[0] in HEAVY
    ]
    assert heavy == [], f"{path} imports {heavy} at its top"


@pytest.mark.parametrize(
    "code",
    ["import lingraft", "import lingraft.recipe", "from lingraft import check, errors, run"],
)
def test_importing_lingraft_loads_no_heavy_package(code: str) -> None:
    check = f"{code}\nimport sys\nprint([m for m in {sorted(HEAVY)!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_loads_neither_numpy_nor_pydantic() -> None:
    check = (
        "import sys, contextlib, lingraft.cli as cli\nsys.argv = ['lingraft', '--help']\n"
        "with contextlib.suppress(SystemExit): cli.main()\n"
        "print([m for m in ('numpy', 'pydantic', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400, f"{path} holds more than one idea"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= 60, f"{path}:{node.lineno} {node.name} is {length} lines long"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_public_names_are_listed_and_sorted(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    listed = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
    ]
    if path.name == "__main__.py" or (path.name == "__init__.py" and path.parent != SOURCE):
        return
    assert listed, f"{path} has no __all__"
    assert listed[0] == sorted(listed[0], key=_isort_key), f"{path}: __all__ is not sorted"


def _isort_key(name: str) -> tuple[int, str]:
    """Constants, then classes, then the rest, as ruff sorts __all__."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


@pytest.mark.parametrize("stage", STAGES, ids=lambda s: s.name)
def test_a_stage_opens_with_its_idea_and_imports_nothing(stage: object) -> None:
    path = SOURCE / getattr(stage, "name", "") / "__init__.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert len(ast.get_docstring(tree) or "") > 100
    loads = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert [getattr(node, "module", "") for node in loads] in ([], ["typing"]), (
        f"{path}: settings are read without loading the stage's methods"
    )


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_nothing_is_pickled_and_no_remote_code_is_run(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"\bimport pickle|torch\.save\(|allow_pickle=True", text)
    loads = re.findall(r"torch\.load\([^)]*\)", text)
    assert all("weights_only=True" in load for load in loads)  # tensors alone, no code
    assert not re.search(r"trust_remote_code=True", text)


def test_folders_are_two_levels_deep_at_most() -> None:
    assert max(len(path.relative_to(SOURCE).parts) for path in FILES) == 2


@pytest.mark.parametrize("stage", STAGES, ids=lambda s: s.name)
def test_each_stage_has_settings_code_and_tests(stage: object) -> None:
    name = getattr(stage, "name", "")
    assert name in Recipe.model_fields
    for part in ("__init__.py", "settings.py", "stage.py"):
        assert (SOURCE / name / part).is_file()
    assert list((ROOT / "tests" / name).glob("test_*.py"))


def test_stages_take_only_what_is_made_before_them() -> None:
    seen: set[str] = set()
    for stage in STAGES:
        assert set(stage.takes) <= seen, f"{stage.name} takes what is not made yet"
        seen.add(stage.name)
    numbers = [stage.number for stage in STAGES]
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("stage", STAGES, ids=lambda s: s.name)
def test_every_setting_is_explained(stage: object) -> None:
    section = Recipe.model_fields[getattr(stage, "name", "")].annotation
    assert section is not None
    silent = [n for n, f in section.model_fields.items() if not f.description]
    obvious = {
        "max_new_tokens",
        "temperature",
        "top_p",
        "schedule",
        "warmup_frac",
        "weight_decay",
        "adam_beta2",
        "max_grad_norm",
        "lora",
        "launch",
    }
    assert set(silent) <= obvious


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.toml")), ids=lambda p: p.name)
def test_every_recipe_is_accepted(path: Path) -> None:
    assert find_problems(read_recipe(path)) == []


@pytest.mark.parametrize("verb", ["run", "check", "show", "verify", "diff"])
def test_each_verb_is_a_function_of_the_same_parameters(verb: str) -> None:
    command = set(inspect.signature(getattr(cli, verb)).parameters) - {"json"}
    function = set(inspect.signature(getattr(api, verb)).parameters) - {"reporter"}
    assert command == function
    assert getattr(lingraft, verb) is getattr(api, verb)


def test_every_public_name_resolves() -> None:
    for name in lingraft.__all__:
        assert getattr(lingraft, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        lingraft.nothing  # noqa: B018


def test_the_error_tree_is_drawn_in_full() -> None:
    drawn = errors.__doc__ or ""
    for name in errors.__all__:
        if name.endswith("Error"):
            assert name in drawn


def test_no_project_file_names_a_machine_or_a_registry() -> None:
    hosts = ["py" + "pi.org", "python" + "hosted", "registry." + "npmjs", "deb." + "debian"]
    bad = re.compile("|".join([r"/(work|tmp|root)/[a-z]", *map(re.escape, hosts)]))
    files = [
        p
        for folder in ("src", "docs", "recipes", "scripts", "benchmarks", "examples")
        for p in (ROOT / folder).rglob("*")
        if p.suffix in (".py", ".md", ".toml", ".sh")
    ]
    found = [str(p) for p in [*files, *ROOT.glob("*.md")] if bad.search(p.read_text("utf-8"))]
    assert found == []
