"""Reading TOML, overrides, and the wording of problems."""

from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import ValidationError

from lingraft.errors import RecipeError, UsageError
from lingraft.settings import Settings, StageSettings, apply_overrides, explain, read_toml


class Inner(Settings):
    """A section inside a section."""

    rank: int = 8


class Outer(Settings):
    """A small recipe."""

    inner: Inner = Inner()
    size: Literal["knee"] | int = "knee"
    items: list[Inner] = []  # noqa: RUF012
    name: str


def explained(tree: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(tree)
    error = explain(Outer, caught.value, "r.toml")
    assert isinstance(error, RecipeError)
    return str(error)


def test_every_problem_is_told_at_once() -> None:
    text = explained({"inner": {"rnk": 1}, "size": 1.5})
    assert text.splitlines() == [
        "r.toml: 3 problems",
        "  inner.rnk = 1: no such setting. Did you mean 'rank'?",
        "  size = 1.5: Input should be 'knee'. Or: Input should be a valid integer.",
        "  name: is required and missing.",
    ]


def test_a_key_far_from_any_other_gets_no_suggestion() -> None:
    assert "xyzzy = 1: no such setting.\n" in explained({"name": "a", "xyzzy": 1}) + "\n"


def test_a_problem_in_a_list_names_its_place() -> None:
    assert "items.1.rnk = 2: no such" in explained({"name": "a", "items": [{}, {"rnk": 2}]})


def test_a_long_value_is_cut() -> None:
    assert "..." in explained({"name": ["x" * 100]})


def test_text_is_not_a_number() -> None:
    assert "inner.rank = '8'" in explained({"name": "a", "inner": {"rank": "8"}})


def test_overrides_are_read_as_toml_and_reach_deep() -> None:
    tree = {"a": {"b": 1}}
    assert apply_overrides(tree, ["a.b=2e-3", "c.d=[1, 2]", "e=plain"]) == {
        "a": {"b": 2e-3},
        "c": {"d": [1, 2]},
        "e": "plain",
    }
    assert tree == {"a": {"b": 1}}


@pytest.mark.parametrize("override", ["a.b", "=3", "a.b.c=1"])
def test_a_malformed_override_is_refused(override: str) -> None:
    with pytest.raises(UsageError, match="--set"):
        apply_overrides({"a": {"b": 1}}, [override])


def test_a_missing_recipe_names_its_nearest_neighbour(tmp_path: Path) -> None:
    (tmp_path / "demo.toml").write_text("", encoding="utf-8")
    with pytest.raises(UsageError, match=r"Did you mean '.*demo\.toml'"):
        read_toml(tmp_path / "demoo.toml")


def test_a_missing_recipe_without_neighbours_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Check the path"):
        read_toml(tmp_path / "nothing" / "x.toml")


def test_a_recipe_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("", encoding="utf-8")
    with pytest.raises(UsageError, match="cannot be read: Not a directory"):
        read_toml(tmp_path / "r.toml" / "x.toml")


def test_a_folder_is_not_a_recipe(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        read_toml(tmp_path)


def test_broken_toml_names_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text("a = 1\nb =\n", encoding="utf-8")
    with pytest.raises(UsageError, match="line 2"):
        read_toml(path)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Inner().rank = 3


def test_a_stage_reads_nothing_outside_by_default() -> None:
    assert StageSettings().outside() == {}
