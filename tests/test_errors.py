"""Messages and exit codes of the error tree."""

import pytest

from lingraft import errors
from lingraft.errors import LingraftError, Problem, RecipeError


def test_a_message_tells_what_then_effect_then_way_out() -> None:
    error = LingraftError("what.", effect="effect.", way_out="way out.")
    assert str(error) == "what.\n  effect.\n  way out."


def test_a_recipe_error_lists_every_problem() -> None:
    error = RecipeError("r.toml", [Problem("a.b", "1", "is odd."), Problem("c", "", "is missing.")])
    assert str(error) == "r.toml: 2 problems\n  a.b = 1: is odd.\n  c: is missing."


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("LingraftError", 1),
        ("InputError", 1),
        ("DiskFullError", 1),
        ("UsageError", 2),
        ("RecipeError", 2),
        ("StaleError", 2),
        ("LockedError", 2),
        ("MissingPackageError", 2),
        ("VerifyError", 3),
    ],
)
def test_each_error_knows_its_exit_code(name: str, code: int) -> None:
    assert getattr(errors, name).exit_code == code
