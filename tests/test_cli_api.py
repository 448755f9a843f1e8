"""The command line: exit codes, messages, JSON; the functions behind it."""

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest

import lingraft
from lingraft import cli
from lingraft.errors import UsageError
from lingraft.manifest import Facts, Identity
from lingraft.progress import LineReporter, RichReporter, SilentReporter
from lingraft.store import Artefact, open_draft, write_json


class Numbers(Facts):
    """Facts with something nested."""

    sets: dict[str, dict[str, int]] = {"zh": {"num_docs": 3}}  # noqa: RUF012
    items: list[dict[str, int]] = [{"a": 1}]  # noqa: RUF012


def artefact(
    run: Path, folder: str, value: int = 1, inputs: dict[str, str] | None = None
) -> Artefact:
    stage = folder[3:]
    identity = Identity(
        stage=stage, stage_version=1, settings={"value": value}, seed=17, inputs=inputs or {}
    )
    draft = open_draft(run / folder, identity, SilentReporter(), resumable=False)
    write_json(draft.path / "x.json", value)
    return draft.seal(Numbers(sets={"zh": {"num_docs": value}}), {"time_s": 1.5})


def run_cli(*arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "lingraft", *arguments], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["lingraft", *arguments])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0)


def test_a_missing_recipe_ends_in_a_message_and_code_2() -> None:
    code, out, err = run_cli("run", "absent.toml")
    assert (code, out) == (2, "")
    assert err.startswith("UsageError: absent.toml: no such file.")
    assert "Traceback" not in err


def test_check_lists_problems_and_exits_with_2(
    tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "check", str(tiny_recipe), "--set", "train.lrr=1") == 2
    out = capsys.readouterr().out
    assert "1 problem\n" in out
    assert "train.lrr = 1: no such setting. Did you mean 'lr'?" in out


def test_check_tells_what_a_run_needs(
    tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "check", str(tiny_recipe)) == 0
    out = capsys.readouterr().out
    assert "no problems" in out
    assert "memory on each of 1 device(s)" in out
    assert "training: 0.000 B tokens" in out


def test_check_says_what_starts_many_processes(
    tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        call(monkeypatch, "check", str(tiny_recipe), "--set", "train.launch.gpus_per_node=8") == 0
    )
    out = capsys.readouterr().out
    assert "memory on each of 8 device(s)" in out
    assert "note: 8 processes train together, and torchrun starts them" in out


def test_check_warns_of_a_mixture_that_rehearses_nothing(
    tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "check", str(tiny_recipe), "--set", "train.mixture=['1:zh']") == 0
    out = capsys.readouterr().out
    assert "no problems" in out
    assert "note: train.mixture = ['1:zh']: holds zh alone" in out


def test_check_gives_json(
    tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "check", str(tiny_recipe), "--json") == 0
    assert json.loads(capsys.readouterr().out)["problems"] == []


def test_without_a_shape_or_tokens_check_says_what_it_does_not_know(
    tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "check", str(tiny_recipe), "--set", "train.max_steps=0") == 0
    assert "not known before encoding" in capsys.readouterr().out
    text = tiny_recipe.read_text(encoding="utf-8")
    text = text[: text.index("[base.shape]")] + text[text.index("[vocab]") :]
    tiny_recipe.write_text(text, encoding="utf-8")
    model = tiny_recipe.parent / "model"
    model.mkdir()
    assert lingraft.check(tiny_recipe, set=[f"base.model='{model}'"]).estimate is None


def test_show_tells_stages_digests_and_facts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    artefact(tmp_path, "10-corpus")
    second = artefact(tmp_path, "80-evals")
    assert call(monkeypatch, "show", str(tmp_path)) == 0
    out = capsys.readouterr().out
    assert second.manifest.digest[:12] in out
    assert "sets.zh.num_docs = 1" in out
    assert "items.0.a = 1" in out
    assert call(monkeypatch, "show", str(tmp_path), "--json") == 0
    assert len(json.loads(capsys.readouterr().out)) == 2


def test_verify_exits_with_3_where_a_byte_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = artefact(tmp_path, "10-corpus")
    assert call(monkeypatch, "verify", str(tmp_path)) == 0
    assert "every file is as recorded" in capsys.readouterr().out
    (found.path / "x.json").write_text("2\n", encoding="utf-8")
    assert call(monkeypatch, "verify", str(tmp_path)) == 3
    assert "x.json: sha256" in capsys.readouterr().out
    assert call(monkeypatch, "verify", str(tmp_path), "--json") == 3


def test_verify_notices_a_stage_made_from_another_input(tmp_path: Path) -> None:
    artefact(tmp_path, "10-corpus")
    artefact(tmp_path, "80-evals", inputs={"corpus": "0123"})
    (text,) = lingraft.verify(tmp_path)
    assert "made from another 'corpus'" in text


def test_diff_tells_settings_files_and_facts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    artefact(a, "10-corpus", 1)
    artefact(b, "10-corpus", 2)
    artefact(b, "80-evals")
    assert call(monkeypatch, "diff", str(a), str(b)) == 3
    out = capsys.readouterr().out
    assert "identity  settings.value: 1 -> 2" in out
    assert "files     x.json" in out
    assert "facts     sets.zh.num_docs: 1 -> 2" in out
    assert f"evals      identity  only in {b}" in out
    assert call(monkeypatch, "diff", str(a), str(a)) == 0
    assert call(monkeypatch, "diff", str(a), str(b), "--json") == 3


def test_diff_of_unlike_things_is_refused(tmp_path: Path) -> None:
    artefact(tmp_path / "a", "10-corpus")
    artefact(tmp_path / "b", "80-evals")
    with pytest.raises(UsageError, match="no stage in common"):
        lingraft.diff(tmp_path / "a", tmp_path / "b")


def test_a_terminal_gets_live_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert isinstance(cli.make_reporter(quiet=False), RichReporter)
    assert isinstance(cli.make_reporter(quiet=True), LineReporter)


def test_control_c_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lingraft.api.run", stop)
    assert call(monkeypatch, "run", "x.toml") == 130
    assert "Run the same command again" in capsys.readouterr().err


def test_a_place_without_rights_ends_in_a_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "runs/x/manifest.json")

    monkeypatch.setattr("lingraft.api.show", refuse)
    assert call(monkeypatch, "show", "runs/x") == 1
    assert "runs/x/manifest.json: Permission denied" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "text"), [(90, "2 min"), (7200, "2.0 h"), (864000, "10.0 days")]
)
def test_durations_are_told_in_a_fitting_unit(seconds: float, text: str) -> None:
    assert cli._duration(seconds) == text
