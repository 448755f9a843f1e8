"""Planning, skipping, redoing, reusing and going on, with two small stages."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

import lingraft.runner as runner
from lingraft.errors import InputError, RecipeError, StaleError, UsageError, VerifyError
from lingraft.manifest import Facts
from lingraft.progress import SilentReporter
from lingraft.recipe import read_recipe
from lingraft.settings import StageSettings
from lingraft.stages import STAGES, Stage, find_stage
from lingraft.store import Artefact, Draft, write_json

Code = Callable[[StageSettings, Mapping[str, Artefact], Draft], Facts]


@dataclass(frozen=True)
class FakeStage(Stage):
    """A stage whose code is at hand."""

    code: Code = lambda _settings, _inputs, _draft: Facts()

    def load(self) -> Code:
        return self.code


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace the table by two stages that write a file; gives the names of those that ran."""
    ran: list[str] = []

    def code(_settings: StageSettings, inputs: Mapping[str, Artefact], draft: Draft) -> Facts:
        ran.append(draft.identity.stage)
        write_json(draft.path / "out.json", [sorted(inputs), draft.seed])
        return Facts()

    corpus = FakeStage("corpus", 10, 1, (), "corpus", code=code)
    evals = FakeStage("evals", 80, 1, ("corpus",), "evals", code=code)
    monkeypatch.setattr(runner, "STAGES", (corpus, evals))
    return ran


def go(recipe: Path, *overrides: str, to: str = "", redo: list[str] | None = None) -> list[str]:
    result = runner.run_recipe(read_recipe(recipe, overrides), to=to, redo=redo or [])
    return [stage.state for stage in result.stages]


def test_a_second_run_skips_everything(tiny_recipe: Path, calls: list[str]) -> None:
    assert go(tiny_recipe) == ["done", "done"]
    assert go(tiny_recipe) == ["skipped", "skipped"]
    assert calls == ["corpus", "evals"]


def test_a_run_can_stop_after_a_stage(tiny_recipe: Path, calls: list[str]) -> None:
    assert go(tiny_recipe, to="corpus") == ["done"]
    assert calls == ["corpus"]


def test_a_redo_beyond_the_last_stage_is_refused(tiny_recipe: Path, calls: list[str]) -> None:
    with pytest.raises(UsageError, match="--redo evals: that stage comes after --to corpus"):
        go(tiny_recipe, to="corpus", redo=["evals"])
    assert calls == []


def test_changed_settings_stop_the_run_and_are_named(tiny_recipe: Path, calls: list[str]) -> None:
    go(tiny_recipe)
    with pytest.raises(StaleError) as caught:
        go(tiny_recipe, "evals.max_docs=5")
    assert "settings.max_docs: 4 -> 5" in str(caught.value)
    assert "--redo evals" in str(caught.value)
    assert calls == ["corpus", "evals"]


def test_many_changes_are_cut_short(tiny_recipe: Path, calls: list[str]) -> None:
    go(tiny_recipe)
    prompts = ", ".join(f"'{n}'" for n in range(3))
    changes = [f"evals.prompts=[{prompts}]", "evals.max_docs=9", "evals.max_tokens=9"]
    changes += ["evals.temperature=0.5", "evals.top_p=0.5", "evals.max_new_tokens=9", "run.seed=1"]
    with pytest.raises(StaleError, match="seed: 17 -> 1"):
        go(tiny_recipe, *changes)
    with pytest.raises(StaleError, match=r"\.\.\. and 1 more"):
        go(tiny_recipe, *changes, "evals.sets=['zh']", "corpus.min_chars=1", redo=["corpus"])
    assert calls == ["corpus", "evals", "corpus"]


def test_redoing_a_stage_with_equal_result_leaves_the_next_alone(
    tiny_recipe: Path, calls: list[str]
) -> None:
    go(tiny_recipe)
    assert go(tiny_recipe, redo=["10-corpus"]) == ["done", "skipped"]
    assert calls == ["corpus", "evals", "corpus"]


def test_a_changed_corpus_file_makes_the_corpus_stale(tiny_recipe: Path, calls: list[str]) -> None:
    go(tiny_recipe)
    (tiny_recipe.parent / "zh.txt").write_text("别的文字", encoding="utf-8")
    with pytest.raises(StaleError, match=r"zh\.txt"):
        go(tiny_recipe)
    assert calls == ["corpus", "evals"]


def test_a_folder_of_sources_counts_by_its_files(tiny_recipe: Path, calls: list[str]) -> None:
    folder = tiny_recipe.parent / "texts"
    folder.mkdir()
    (tiny_recipe.parent / "zh.txt").rename(folder / "zh.txt")
    text = tiny_recipe.read_text(encoding="utf-8")
    tiny_recipe.write_text(text.replace("/zh.txt", "/texts"), encoding="utf-8")
    go(tiny_recipe)
    assert go(tiny_recipe) == ["skipped", "skipped"]
    (folder / "more.txt").write_text("更多的文字", encoding="utf-8")
    with pytest.raises(StaleError, match="texts"):
        go(tiny_recipe)
    assert len(calls) == 2


def test_a_lost_file_is_noticed_before_it_is_used(tiny_recipe: Path, calls: list[str]) -> None:
    go(tiny_recipe)
    out = tiny_recipe.parent / "runs" / "tiny" / "10-corpus" / "out.json"
    out.unlink()
    with pytest.raises(VerifyError, match="--redo corpus"):
        go(tiny_recipe)
    assert len(calls) == 2


def test_an_identical_stage_of_another_run_is_linked(tiny_recipe: Path, calls: list[str]) -> None:
    go(tiny_recipe)
    other = tiny_recipe.parent / "runs" / "tiny"
    reuse = ["run.name='second'", f"run.reuse=['{tiny_recipe.parent}', '{other}']"]
    assert go(tiny_recipe, *reuse) == ["reused", "reused"]
    a, b = (tiny_recipe.parent / "runs" / n / "10-corpus" / "out.json" for n in ("tiny", "second"))
    assert a.samefile(b)
    assert len(calls) == 2


def test_a_link_that_was_cut_short_is_not_taken_for_whole(
    tiny_recipe: Path, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    go(tiny_recipe, to="corpus")
    reuse = f"run.reuse=['{tiny_recipe.parent / 'runs' / 'tiny'}']"

    def killed(source: str, _: str) -> None:
        raise KeyboardInterrupt(source)

    with monkeypatch.context() as patch:
        patch.setattr(runner, "_link", killed)
        with pytest.raises(KeyboardInterrupt, match=r"out\.json"):
            go(tiny_recipe, "run.name='second'", reuse, to="corpus")
    draft = tiny_recipe.parent / "runs" / "second" / ".draft-10-corpus"
    assert not (draft / "manifest.json").exists()
    assert go(tiny_recipe, "run.name='second'", to="corpus") == ["done"]


def test_another_seed_is_not_reused(tiny_recipe: Path, calls: list[str]) -> None:
    go(tiny_recipe)
    other = tiny_recipe.parent / "runs" / "tiny"
    reuse = ["run.name='second'", "run.seed=3", f"run.reuse=['{other}']"]
    assert go(tiny_recipe, *reuse) == ["done", "done"]
    assert len(calls) == 4


def test_a_failing_stage_is_named_and_leaves_no_artefact(
    tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Facts:
        raise InputError("line 3 is odd.")

    monkeypatch.setattr(runner, "STAGES", (FakeStage("corpus", 10, 1, (), "x", code=fail),))
    with pytest.raises(InputError, match=r"stage 10-corpus: line 3 is odd\."):
        go(tiny_recipe)
    assert not (tiny_recipe.parent / "runs" / "tiny" / "10-corpus").exists()


def test_a_recipe_with_problems_starts_nothing(tiny_recipe: Path, calls: list[str]) -> None:
    with pytest.raises(RecipeError):
        go(tiny_recipe, "vocab.sets=['absent']")
    assert calls == []


def test_many_processes_are_refused_before_any_work(tiny_recipe: Path, calls: list[str]) -> None:
    with pytest.raises(UsageError, match=r"train\.launch asks for 32 processes"):
        go(tiny_recipe, "train.launch.nodes=4", "train.launch.gpus_per_node=8")
    assert calls == []
    assert go(tiny_recipe, "train.launch.nodes=4", to="corpus") == ["done"]


def test_the_log_has_a_row_a_stage(tiny_recipe: Path, calls: list[str]) -> None:
    go(tiny_recipe)
    run = tiny_recipe.parent / "runs" / "tiny"
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [(r["stage"], r["state"]) for r in rows] == [("corpus", "done"), ("evals", "done")]
    assert json.loads((run / "recipe.resolved.json").read_text())["run"]["seed"] == 17
    assert len(calls) == 2


def test_settings_that_decide_nothing_are_kept_and_make_nothing_stale(
    tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = FakeStage("train", 60, 1, (), "train")
    monkeypatch.setattr(runner, "STAGES", (train,))
    run = tiny_recipe.parent / "runs" / "tiny"
    for trackers, state in (('["tensorboard"]', "done"), ("[]", "skipped")):
        assert go(tiny_recipe, f"train.trackers={trackers}") == [state]
        kept = json.loads((run / "recipe.resolved.json").read_text())["train"]["trackers"]
        assert kept == json.loads(trackers)
    manifest = json.loads((run / "60-train" / "manifest.json").read_text())
    assert "trackers" not in manifest["identity"]["settings"]
    assert "lr" in manifest["identity"]["settings"]


class Listening(SilentReporter):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_folders_that_belong_to_no_stage_are_told(tiny_recipe: Path, calls: list[str]) -> None:
    run = tiny_recipe.parent / "runs" / "tiny"
    for name in ("50-encode", ".draft-50-encode", ".draft-80-evals", "notes", "2024-notes"):
        (run / name).mkdir(parents=True)
    (run / "60-file").write_text("")
    listening = Listening()
    runner.run_recipe(read_recipe(tiny_recipe), reporter=listening)
    told = [note for note in listening.notes if "belongs to no stage" in note]
    assert told == [
        f"note: {run / name} belongs to no stage of this version: nothing here reads "
        "it, and it may be deleted."
        for name in (".draft-50-encode", "50-encode")
    ]
    assert calls == ["corpus", "evals"]


def test_runs_and_stages_are_found_by_path(tiny_recipe: Path, calls: list[str]) -> None:
    go(tiny_recipe)
    run = tiny_recipe.parent / "runs" / "tiny"
    assert list(runner.digests(runner.resolve_run(run))) == ["corpus", "evals"]
    assert list(runner.digests(runner.resolve_run(run / "80-evals"))) == ["evals"]
    with pytest.raises(UsageError, match="no run and no artefact"):
        runner.resolve_run(tiny_recipe.parent)
    assert len(calls) == 2


def test_a_broken_memory_of_hashes_is_forgotten(tiny_recipe: Path, calls: list[str]) -> None:
    go(tiny_recipe)
    (tiny_recipe.parent / "runs" / "tiny" / ".hashes.json").write_text("{", encoding="utf-8")
    assert go(tiny_recipe) == ["skipped", "skipped"]
    assert len(calls) == 2


def test_a_stage_that_was_killed_while_sealing_is_not_done_again(
    tiny_recipe: Path, calls: list[str]
) -> None:
    go(tiny_recipe, to="corpus")
    run = tiny_recipe.parent / "runs" / "tiny"
    (run / "10-corpus").rename(run / ".draft-10-corpus")
    assert go(tiny_recipe, to="corpus") == ["done"]
    assert calls == ["corpus"]


def test_stages_are_found_by_name_and_folder() -> None:
    assert find_stage("train") is find_stage("60-train")
    with pytest.raises(UsageError, match="no stage 'trian'"):
        find_stage("trian")


def test_a_stage_without_its_package_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_: str) -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr("importlib.import_module", absent)
    with pytest.raises(UsageError, match=r"needs the package 'torch'(.|\n)*lingraft\[train\]"):
        STAGES[0].load()


def test_our_own_missing_module_is_not_blamed_on_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_: str) -> None:
        raise ModuleNotFoundError("No module named 'lingraft.x'", name="lingraft.x")

    monkeypatch.setattr("importlib.import_module", absent)
    with pytest.raises(ModuleNotFoundError):
        STAGES[0].load()
