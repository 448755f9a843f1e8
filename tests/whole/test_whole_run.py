"""The whole job on a recipe of seconds: done, skipped, killed, gone on with, loaded elsewhere."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import lingraft
from lingraft import cli
from lingraft.stages import STAGES
from recipes import write_tiny_recipe

PLAIN_LOAD = """
import sys
sys.modules["lingraft"] = None  # importing it would fail
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
ids = tokenizer("今天的天气很好", return_tensors="pt")
assert ids["input_ids"][0, 0] == tokenizer.bos_token_id
assert tokenizer.decode(ids["input_ids"][0], skip_special_tokens=True) == "今天的天气很好"
logits = model(**ids).logits
assert logits.shape[-1] == len(tokenizer) == model.config.vocab_size
print(len(tokenizer), type(model).__name__)
"""


def start(recipe: Path, name: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "lingraft", "run", str(recipe), "--set", f"run.name={name}"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)


def digests(run: Path) -> dict[str, str]:
    return {m["identity"]["stage"]: m["digest"] for m in lingraft.show(run)}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the tiny recipe; gives the recipe's path."""
    recipe = write_tiny_recipe(tmp_path_factory.mktemp("whole"))
    lingraft.run(recipe)
    return recipe


def run_of(recipe: Path, name: str = "tiny") -> Path:
    return recipe.parent / "runs" / name


def test_every_stage_leaves_an_artefact_that_verifies(finished: Path) -> None:
    assert list(digests(run_of(finished))) == [stage.name for stage in STAGES]
    assert lingraft.verify(run_of(finished)) == []


def test_a_second_run_skips_every_stage(finished: Path) -> None:
    assert {stage.state for stage in lingraft.run(finished).stages} == {"skipped"}


def test_the_command_prints_stages_scores_and_the_report(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["lingraft", "run", str(finished)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert "bits per byte on held-out text" in out
    assert "trainable" in out
    assert out.rstrip().endswith("90-report/report.html")


def test_with_json_standard_output_is_json_alone(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["lingraft", "run", str(finished), "--json"])
    with pytest.raises(SystemExit):
        cli.main()
    stages = json.loads(capsys.readouterr().out)["stages"]
    assert [s["state"] for s in stages] == ["skipped"] * len(STAGES)


def test_the_facts_tell_what_happened(finished: Path) -> None:
    facts = {m["identity"]["stage"]: m["facts"] for m in lingraft.show(run_of(finished))}
    assert facts["vocab"]["num_pieces"] == facts["tokenizer"]["added_pieces"] == 40
    assert facts["embed"]["added_rows"] == 40
    zh = facts["tokenizer"]["efficiency"]["zh"]
    assert zh["extended_tokens"] < zh["base_tokens"]
    assert facts["tokenizer"]["unreachable_pieces"] == 0
    train = facts["train"]
    assert train["lora_modules"] == train["lora_modules_expected"] == 2 * (4 + 3 * 8)
    assert train["steps"] == 6
    assert set(facts["evals"]["scores"]) == {"base", "expanded", "trained"}
    assert train["valid_bpb_end"]["zh"] < train["valid_bpb_start"]["zh"]


def test_english_scores_of_base_and_expanded_differ_only_by_the_softmax(finished: Path) -> None:
    scores = next(m for m in lingraft.show(run_of(finished)) if m["identity"]["stage"] == "evals")
    base, expanded = (scores["facts"]["scores"][m]["en"] for m in ("base", "expanded"))
    assert base["total_tokens"] == expanded["total_tokens"]
    assert expanded["bpb"] >= base["bpb"]  # more pieces share the probability


def test_the_merged_model_loads_without_lingraft(finished: Path) -> None:
    merged = run_of(finished) / "70-merge"
    done = subprocess.run(
        [sys.executable, "-c", PLAIN_LOAD, str(merged)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["32040", "MixtralForCausalLM"]
    names = json.loads((merged / "model.safetensors.index.json").read_text())["weight_map"]
    assert "model.layers.0.block_sparse_moe.experts.0.w1.weight" in names


def test_the_control_without_new_pieces_runs_too(finished: Path) -> None:
    settings = [
        "run.name=control",
        "vocab.size=0",
    ]
    reuse = f"run.reuse=['{run_of(finished)}']"
    result = lingraft.run(finished, set=[*settings, reuse])
    states = {stage.stage: stage.state for stage in result.stages}
    assert states["corpus"] == states["base"] == "reused"
    facts = {m["identity"]["stage"]: m["facts"] for m in lingraft.show(result.folder)}
    assert facts["embed"]["added_rows"] == 0
    base, trained = (facts["evals"]["scores"][m]["zh"] for m in ("base", "trained"))
    assert base["total_tokens"] == trained["total_tokens"]


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_digests(finished: Path) -> None:
    run = run_of(finished, "killed")
    for stage in ("15-base", "60-train", "80-evals"):
        process = start(finished, "killed")
        while process.poll() is None and not (run / f".draft-{stage}").exists():
            time.sleep(0.005)
        time.sleep(0.3)
        assert process.poll() is None, f"the run ended before it was killed in {stage}"
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert not (run / stage / "manifest.json").exists() or stage == "80-evals"
    assert start(finished, "killed").wait() == 0
    assert digests(run) == digests(run_of(finished))
    assert lingraft.verify(run) == []


def test_a_run_in_a_folder_that_is_at_work_is_refused(finished: Path) -> None:
    process = start(finished, "busy")
    lock = run_of(finished, "busy") / ".lock"
    while not (lock.is_file() and lock.read_text(encoding="utf-8")):
        time.sleep(0.005)
    done = subprocess.run(
        [sys.executable, "-m", "lingraft", "run", str(finished), "--set", "run.name=busy"],
        capture_output=True,
        text=True,
        check=False,
    )
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert done.returncode == 2
    assert f"another run is at work here (process {process.pid})" in done.stderr
