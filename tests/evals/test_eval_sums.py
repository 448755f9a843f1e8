"""What a result says is what the harness scored; and nothing is removed but what was written."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from benchmark_files import save_model, write_gsm8k, write_winogrande

pytest.importorskip("lm_eval", reason="needs the extra 'eval' (lm-evaluation-harness)")

from lingraft.errors import StaleError, UsageError, VerifyError
from lingraft.evals.bitscommand import bits_per_byte
from lingraft.evals.compare import compare_items
from lingraft.evals.continuing import generate
from lingraft.evals.evaluating import EvalPlan, evaluate_models
from lingraft.evals.kept import Kept
from lingraft.evals.scoring_rule import weights_of
from lingraft.evals.spelling import spell_command, why_no_command
from lingraft.evals.suites import Benchmark
from lingraft.evals.tables import markdown, result_table
from lingraft.progress import SilentReporter

pytestmark = pytest.mark.filterwarnings("ignore")  # the harness's and datasets' own


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models, two benchmarks of files, and task files of the user's own."""
    folder = tmp_path_factory.mktemp("sums")
    save_model(folder / "base")
    save_model(folder / "ext", seed=4)
    write_winogrande(folder / "data")
    write_gsm8k(folder / "data")
    write_own_tasks(folder / "own")
    return folder


def write_own_tasks(folder: Path) -> None:
    """Two tasks of 2 and 9 items, in groups that weigh them alike, by size, and in a tag."""
    folder.mkdir()
    for name, number in (("mine_a", 2), ("mine_b", 9)):
        rows = [
            {"q": f"{n} and", "choices": [f" {n * k} pears" for k in (3, 7, 11)], "answer": n % 3}
            for n in range(number)
        ]
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")
        metrics = [{"metric": "acc", "aggregation": "mean"}]
        task: dict[str, Any] = {"output_type": "multiple_choice", "tag": "mine_tag"}
        task |= {"doc_to_text": "{{q}}:", "doc_to_target": "answer"}
        task |= {"doc_to_choice": "choices", "metric_list": metrics}
        write_task(folder, name, task)
    text = [{"page": f"Snow fell on the {n} roofs ." * (n + 1)} for n in range(3)]
    pq.write_table(pa.Table.from_pylist(text), folder / "mine_text.parquet")
    metrics = [{"metric": name} for name in ("word_perplexity", "bits_per_byte")]
    task = {"output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{page}}"}
    lines = "def process_results(doc, results):\n    size = len(doc['page'])\n"
    lines += "    return dict.fromkeys(('word_perplexity', 'bits_per_byte'), (results[0], size))\n"
    (folder / "sizes.py").write_text(lines)
    write_task(folder, "mine_text", task | {"metric_list": metrics},
               "process_results: !function sizes.process_results\n")  # fmt: skip
    for name, by_size in (("mine_macro", False), ("mine_micro", True)):
        rule = {"metric": "acc", "weight_by_size": by_size}
        group = {"group": name, "task": ["mine_a", "mine_b"], "aggregate_metric_list": [rule]}
        (folder / f"{name}.yaml").write_text(json.dumps(group))


def write_task(folder: Path, name: str, task: dict[str, Any], more: str = "") -> None:
    files = {"test": str(folder / f"{name}.parquet")}
    source = {"data_files": files, "cache_dir": str(folder / ".datasets")}
    task = {"task": name, "dataset_path": "parquet", "dataset_kwargs": source} | task
    task |= {"test_split": "test", "metadata": {"version": 1.0}}
    text = "".join(f"{key}: {json.dumps(value)}\n" for key, value in task.items())
    (folder / f"{name}.yaml").write_text(text + more)


def evaluate(place: Path, out: Path, *models: str, redo: bool = False, **plan: Any) -> Any:
    settings: dict[str, Any] = {"suite": "winogrande", "data_dir": place / "data"}
    settings |= {"resamples": 200} | plan
    names = [str(place / model) for model in models or ("base", "ext")]
    told = settings.pop("reporter", SilentReporter())
    return evaluate_models(names, EvalPlan(**settings), out=out, redo=redo, reporter=told).results


def own(place: Path, out: Path, suite: str, *models: str, **plan: Any) -> Any:
    plan |= {"data_dir": None, "include_path": place / "own"}
    return evaluate(place, out, *models, suite=suite, **plan)


class Telling(SilentReporter):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.mark.parametrize("suite", ["mine_macro", "mine_micro", "mine_b", "mine_text"])
def test_a_difference_is_that_of_the_two_scores(suite: str, place: Path, tmp_path: Path) -> None:
    (row,) = own(place, tmp_path, suite)["rows"]
    base, ext = (row["scores"][name]["value"] for name in ("base", "ext"))
    assert base != ext, "this test needs models that differ"
    assert row["differences"]["ext"]["value"] == pytest.approx(ext - base, rel=1e-12)
    assert row["percent"] is (suite != "mine_text")
    assert (row["differences"]["ext"]["low"] is None) is (suite == "mine_text")


def test_groups_that_weigh_alike_are_drawn_within_subjects() -> None:
    """Subject a: +1, 0; b: 0 for 8 of 9, else -1. By hand: 1/2 * 1/2 - 1/2 * 1/9 = 7/36."""
    base = {("a", n): 0.0 for n in range(2)} | {("b", n): 0.0 for n in range(9)}
    other = base | {("a", 0): 1.0, ("b", 3): -1.0}
    weights = {"a": 0.5, "b": 0.5}
    found = compare_items(base, other, resamples=40_000, seed=1, weights=weights)
    assert found["value"] == pytest.approx(7 / 36)
    assert (found["num_better"], found["num_worse"]) == (1, 1)
    draws = np.random.default_rng(5).binomial([2, 9], [1 / 2, 1 / 9], (40_000, 2)) @ [
        1 / 4,
        -1 / 18,
    ]
    low, high = np.quantile(draws, [0.025, 0.975])
    assert (found["low"], found["high"]) == pytest.approx((low, high), abs=0.03)


def test_a_score_by_size_counts_items_without_a_value_as_the_harness_does() -> None:
    rule = SimpleNamespace(metric="acc", filter_list=["none"], weight_by_size=True)
    tasks = dict.fromkeys("abc")
    group = SimpleNamespace(aggregate_metric_list=[rule])
    found: Any = SimpleNamespace(
        benchmark=Benchmark("g", "", None, "", ""), tasks=tasks, groups={"g": group}
    )
    results: dict[str, Any] = {name: {"acc,none": 0.5, "sample_len": 4} for name in "ab"}
    results["c"] = {"sample_len": 3}
    assert weights_of(found, "acc", "none", results, {"a": 4, "b": 4}) is None
    assert weights_of(found, "acc", "none", results, {"a": 4, "b": 1}) == {"a": 0.5, "b": 0.5}


def test_a_subject_of_one_item_has_no_interval() -> None:
    base = {("a", 0): 0.0, ("b", 0): 0.0, ("b", 1): 0.0}
    other = base | {("b", 1): 1.0}
    found = compare_items(base, other, resamples=9, seed=1, weights={"a": 0.5, "b": 0.5})
    assert (found["value"], found["low"], found["high"]) == (0.25, None, None)


def test_a_tag_has_no_score_and_no_difference(place: Path, tmp_path: Path) -> None:
    results = own(place, tmp_path, "mine_tag")
    (row,) = results["rows"]
    assert row["scores"]["base"]["value"] is None
    assert row["differences"] == {}
    assert result_table(results, published=False).rows[-1] == ["  to the base (95%)", "-"]


def test_a_text_is_scored_and_its_perplexity_is_no_percent(place: Path, tmp_path: Path) -> None:
    results = own(place, tmp_path, "mine_text")
    table = result_table(results, published=False)
    (row,) = results["rows"]
    assert row["metric"] == "word_perplexity"
    assert table.title == "scores, with standard errors"
    assert table.rows[0][1] == f"{row['scores']['base']['value']:,.4f}"
    change = row["scores"]["ext"]["value"] - row["scores"]["base"]["value"]
    assert table.rows[2][1] == f"{change:+,.4f}"
    items = [json.loads(x) for x in next(tmp_path.glob("models/base-*/*.jsonl")).open()]
    assert [item["log_likelihood"] < 0 for item in items] == [True] * 3
    assert results["samples"][0]["answers"]["base"]["text"].startswith("log-likelihood -")
    assert results["samples"][0]["answers"]["base"]["right"] is False


def test_redo_removes_what_was_written_and_nothing_else(place: Path, tmp_path: Path) -> None:
    evaluate(place, tmp_path, "base", limit=1)
    (kept,) = tmp_path.glob("models/base-*/winogrande@5.json")
    strangers = [tmp_path / "models/mixtral-0123456789ab/config.json", kept.with_name("notes.md")]
    strangers.append(tmp_path / "models/mixtral/winogrande@5.json")
    for path in strangers:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    stale = tmp_path / "models/base-ba9876543210/winogrande@5.json"
    stale.parent.mkdir()
    stale.write_text("{}")
    evaluate(place, tmp_path, "ext", limit=1, redo=True)
    assert all(path.read_text() == "mine" for path in strangers)
    assert not kept.exists()
    assert not stale.parent.exists()


def test_redo_without_a_record_is_refused(place: Path, tmp_path: Path) -> None:
    mine = tmp_path / "models/mixtral-0123456789ab/winogrande@5.json"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    for record in ("", "{", '{"format": "other/1"}'):
        if record:
            (tmp_path / "evaluation.json").write_text(record)
        with pytest.raises(UsageError, match=r"--redo: .* is no record of an evaluation"):
            evaluate(place, tmp_path, "base", redo=True)
    assert mine.read_text() == "mine"


def test_redo_leaves_a_task_folder_of_others(place: Path, tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks/mine.txt").write_text("mine")
    own(place, tmp_path, "mine_a", "base", redo=True)
    own(place, tmp_path, "mine_a", "base", redo=True)
    assert (tmp_path / "tasks/mine.txt").read_text() == "mine"


def test_a_mistyped_model_is_told_before_answers_are_removed(place: Path, tmp_path: Path) -> None:
    evaluate(place, tmp_path, "base", limit=1)
    with pytest.raises(UsageError, match="no such folder"):
        evaluate(place, tmp_path, "bsae", limit=1, redo=True)
    assert len(list(tmp_path.glob("models/base-*/winogrande@5.json"))) == 1


def test_results_do_not_lie_among_what_is_read(place: Path) -> None:
    for name in ("base", "data"):
        with pytest.raises(UsageError, match=rf"is .*{name}, which is read"):
            evaluate(place, place / name)
    with pytest.raises(UsageError, match=r"holds .*base, which is read"):
        evaluate(place, place, redo=True)
    assert not (place / "evaluation.json").exists()


def test_a_left_over_task_folder_of_another_suite_is_written_anew(
    place: Path, tmp_path: Path
) -> None:
    evaluate(place, tmp_path, "base", limit=1)
    (tmp_path / "evaluation.json").unlink()
    found = evaluate(place, tmp_path, "base", suite="gsm8k", limit=1, num_fewshot=1)
    assert found["data"]["benchmarks"].keys() == {"gsm8k"}
    with pytest.raises(StaleError, match="whose suite was"):
        evaluate(place, tmp_path, "base", limit=1)


def test_a_task_folder_that_lacks_a_task_is_refused(place: Path, tmp_path: Path) -> None:
    evaluate(place, tmp_path, "base", limit=1)
    for path in (tmp_path / "tasks/sources.json", tmp_path / "evaluation.json"):
        text = path.read_text().replace('"winogrande": {\n', '"piqa": {\n')
        assert '"piqa"' in text
        path.write_text(text)
    with pytest.raises(VerifyError, match=r"no rows of 1 tasks, the first is 'winogrande'"):
        evaluate(place, tmp_path, "base", limit=1)


def damage_row(path: Path, number: int) -> None:
    lines = path.read_bytes().split(b"\n")
    lines[number] = b"\0" * len(lines[number])
    path.write_bytes(b"\n".join(lines))


def test_answers_before_a_damaged_row_are_kept_and_that_is_told(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "x", "id")
    for key in "abcd":
        kept.put(key, [key])
    damage_row(tmp_path / ".x.partial", 3)
    again = Kept(tmp_path / "x", "id")
    assert [again.get(key) for key in "abcd"] == [["a"], ["b"], None, None]
    assert "row 4 is damaged; the 2 results before it are kept" in again.damage
    again.put("c", 3)
    third = Kept(tmp_path / "x", "id")
    assert ([third.get(key) for key in "abc"], third.damage) == ([["a"], ["b"], 3], "")
    for bad in (b'"only a text"', b"[1, 2]", b'["a", "\xff"]'):
        path = tmp_path / ".x.partial"
        path.write_bytes(path.read_bytes() + bad + b"\n")
        assert "row 5 is damaged" in Kept(tmp_path / "x", "id").damage
    damage_row(tmp_path / ".x.partial", 0)
    assert "its first row is damaged" in Kept(tmp_path / "x", "id").damage


def test_a_damaged_partial_file_is_told_and_gone_on_from(place: Path, tmp_path: Path) -> None:
    whole = evaluate(place, tmp_path / "whole", "base")
    evaluate(place, tmp_path / "cut", "base")
    (path,) = (tmp_path / "cut").glob("models/*/winogrande@5.jsonl")
    identity = {"benchmark": "winogrande@5", "harness": whole["harness"], "num_tasks": 1}
    kept = Kept(path, identity)
    kept.put("some", 1)
    kept.put("more", 2)
    damage_row(path.with_name(f".{path.name}.partial"), 2)
    path.with_suffix(".json").unlink()
    telling = Telling()
    again = evaluate(place, tmp_path / "cut", "base", reporter=telling)
    assert any("row 3 is damaged; the 1 results" in note for note in telling.notes)
    assert (
        again["rows"][0]["scores"]["base"]["value"] == whole["rows"][0]["scores"]["base"]["value"]
    )


def test_bits_and_continuations_tell_of_damage_too(place: Path, tmp_path: Path) -> None:
    model = [str(place / "base")]
    (tmp_path / "a.txt").write_text("今天天气很好。")
    for name in ("bits.json", "side.md"):
        (tmp_path / f".{name}.partial").write_bytes(b"\0\0\n")
    telling = Telling()
    texts = [tmp_path / "a.txt"]
    bits_per_byte(model, texts, out=tmp_path / "bits.json", reporter=telling)
    generate(model, prompts=["今天"], out=tmp_path / "side.md", reporter=telling)
    told = [note for note in telling.notes if "its first row is damaged" in note]
    assert [name in note for name, note in zip(("bits", "side"), told, strict=True)] == [True] * 2


RECORD: dict[str, Any] = {"data": {"kind": "local"}, "include_path": None}
MODEL: dict[str, Any] = {
    "backend": "transformers",
    "load": "full",
    "dtype": "bfloat16",
    "device": "cuda",
}
ASKED = {"batch_size": "1", "attn": "", "device": "auto"}


def test_a_spelled_command_can_be_pasted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = MODEL | {"folder": "my models/it's", "trust_remote_code": True}
    Path(model["folder"]).mkdir(parents=True)
    record = {"data": {"kind": "hub"}, "include_path": "/own tasks"}
    spelled = spell_command(Benchmark("cmmlu", "", 5, "", ""), record, model, 3, "8")
    words = shlex.split(spelled)
    arguments = dict(word.split("=") for word in words[5].split(","))
    assert Path(arguments["pretrained"]) == tmp_path / "my models/it's"
    assert Path(arguments["pretrained"]).is_dir()
    assert words[:5] == ["lm_eval", "run", "--model", "hf", "--model_args"]
    assert words[6:] == [
        *("--device", "cuda", "--tasks", "cmmlu", "--num_fewshot", "5", "--limit", "3"),
        *("--batch_size", "8", "--trust_remote_code", "--include_path", "/own tasks"),
    ]


@pytest.mark.parametrize(
    ("model", "asked", "record", "reason"),
    [
        ({}, {}, {}, ""),
        ({"backend": "vllm"}, {}, {}, "the backend was vllm"),
        ({"share_prefixes": True}, {}, {}, "--share-prefixes reads"),
        ({"load": "4bit"}, {}, {}, "loads models in 4bit by code of its own"),
        ({}, {"attn": "eager"}, {}, "--attn eager"),
        ({}, {"device": "split"}, {}, "--device split"),
        ({"folder": "/a,b"}, {}, {}, "holds a comma"),
        ({}, {}, {"include_path": "/own"}, "one folder of task files"),
    ],
)
def test_what_the_harness_cannot_repeat_has_a_reason_and_no_command(
    model: dict[str, Any], asked: dict[str, str], record: dict[str, Any], reason: str
) -> None:
    found = why_no_command(RECORD | record, {"folder": "/m"} | MODEL | model, ASKED | asked)
    assert found.startswith(reason) if not reason else reason in found
    assert bool(found) is bool(reason)


def test_results_tell_why_there_is_no_command(place: Path, tmp_path: Path) -> None:
    results = evaluate(place, tmp_path, "base", limit=1, share_prefixes=True)
    assert results["commands"] == []
    assert "cannot repeat it: --share-prefixes reads prompts in another way." in markdown(results)


def test_the_spelled_command_names_what_is_there(place: Path, tmp_path: Path) -> None:
    (command,) = evaluate(place, tmp_path, "base", limit=1, batch_size="2")["commands"]
    words = shlex.split(command)
    folder = Path(words[5].split(",")[0].removeprefix("pretrained="))
    assert (folder / "config.json").is_file()
    assert (tmp_path / words[words.index("--include_path") + 1] / "winogrande.yaml").is_file()
    assert words[words.index("--batch_size") + 1] == "2"
