"""Models for the harness: what names their answers, what vLLM is told, what is looked at."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from benchmark_files import save_model, write_gsm8k
from typer.testing import CliRunner

pytest.importorskip("lm_eval", reason="needs the extra 'eval' (lm-evaluation-harness)")

import torch
from transformers import AutoTokenizer

from lingraft.cli import app
from lingraft.errors import InputError, UsageError
from lingraft.evals import backends
from lingraft.evals.backends import HarnessModel, check_vllm, digest_model, model_key
from lingraft.evals.evaluating import EvalPlan, evaluate_models
from lingraft.evals.items import read_items
from lingraft.evals.plans import LoadPlan
from lingraft.evals.reading import tell_contradiction
from lingraft.progress import LineReporter, SilentReporter

pytestmark = pytest.mark.filterwarnings("ignore")  # the harness's and datasets' own


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("models") / "m")


def harness_model(folder: Path, backend: str = "transformers", **changes: Any) -> HarnessModel:
    args = changes.pop("model_args", {})
    return HarnessModel(str(folder), "m", backend, LoadPlan(**changes), args, "1", False)


def test_what_auto_stands_for_names_the_answers(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    auto = model_key(harness_model(folder))
    assert auto == model_key(harness_model(folder, dtype="float32", device="cpu"))
    assert auto != model_key(harness_model(folder, dtype="bfloat16"))
    monkeypatch.setattr(backends, "device_of", lambda plan: torch.device("cuda:0"))
    assert auto != model_key(harness_model(folder))


def test_code_belongs_to_a_model_where_it_runs(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "m")
    without, with_code = digest_model(folder), digest_model(folder, with_code=True)
    key = model_key(harness_model(folder, trust_remote_code=True))
    (folder / "parts").mkdir()
    (folder / "parts/modeling.py").write_text("x = 1\n")
    assert digest_model(folder) == without
    assert digest_model(folder, with_code=True) != with_code
    assert model_key(harness_model(folder, trust_remote_code=True)) != key


@pytest.mark.parametrize(
    ("load", "args", "problem"),
    [
        (LoadPlan(attn="sdpa"), {}, "--attn sdpa with --backend vllm"),
        (LoadPlan(device="cuda:1"), {}, "--device cuda:1 with --backend vllm"),
        (LoadPlan("4bit", packed_cache="d"), {}, "--packed-cache d with --backend vllm"),
        (LoadPlan(dtype="fp8"), {}, "--dtype fp8: expected one of auto, float32"),
        (LoadPlan(), {"dtype": "half"}, "--model-args dtype=.* expected --dtype instead"),
        (LoadPlan(), {"batch_size": 4}, "expected --batch-size instead"),
        (LoadPlan("4bit"), {"quantization": "awq"}, "--model-args quantization="),
    ],
)
def test_what_vllm_cannot_be_told_is_refused(
    load: LoadPlan, args: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=problem):
        check_vllm(load, args)
    plan = EvalPlan("zh", backend="vllm", load=load, model_args=args)
    with pytest.raises(UsageError, match=problem):
        evaluate_models(["m"], plan, out=tmp_path / "out")


def test_vllm_gets_and_results_tell_what_was_asked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("lm_eval.models.vllm_causallms")
    module.VLLM = SimpleNamespace  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lm_eval.models.vllm_causallms", module)
    monkeypatch.setattr(backends, "has_package", lambda name: True)
    monkeypatch.setattr(backends, "version", lambda name: "1.2")
    args = {"tensor_parallel_size": 2}
    check_vllm(LoadPlan(dtype="bfloat16"), args)
    model = harness_model(folder, "vllm", dtype="bfloat16", model_args=args)
    given = vars(model.open(SilentReporter()))
    expected = {"pretrained": str(folder), "dtype": "bfloat16", "batch_size": "1"}
    assert given == expected | {"tensor_parallel_size": 2}
    assert model.describe() == {
        "folder": str(folder),
        "backend": "vllm",
        "load": "full",
        "dtype": "bfloat16",
        "model_args": args,
        **dict.fromkeys(("vllm", "torch", "transformers"), "1.2"),
    }


def test_a_bos_that_is_said_and_not_added_is_told(folder: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    harness_model(folder).open(LineReporter(lines.append))
    assert lines == ["  loading m"]
    other = save_model(tmp_path / "m")
    path = other / "tokenizer_config.json"
    config = json.loads(path.read_text()) | {"bos_token": "<|end|>"}
    path.write_text(json.dumps(config | {"add_bos_token": True}))
    model = harness_model(other)
    for _ in range(2):  # loaded and told once
        model.open(LineReporter(lines.append))
    assert lines[1] == "  loading m"
    assert len(lines) == 3
    assert lines[2].startswith("  m: tokenizer_config.json says add_bos_token: true, but")
    assert "texts are read without BOS" in lines[2]
    for said in (None, False):
        path.write_text(json.dumps(config | {"add_bos_token": said}))
        tokenizer = AutoTokenizer.from_pretrained(other)
        assert tell_contradiction(other, tokenizer) == ""


def test_a_bos_that_is_added_against_what_is_said_is_told(folder: Path, tmp_path: Path) -> None:
    config = tmp_path / "tokenizer_config.json"
    config.write_text('{"add_bos_token": false}')
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.bos_token = "<|end|>"
    tokenizer.add_bos_token = True
    assert tell_contradiction(tmp_path, tokenizer) == "", "no tokenizer.json to go by"
    shutil.copy(folder / "tokenizer.json", tmp_path)
    assert "texts are read with BOS" in tell_contradiction(tmp_path, tokenizer)
    tokenizer.add_bos_token, tokenizer.add_eos_token = False, True
    tokenizer.eos_token = "<|end|>"
    assert tell_contradiction(tmp_path, tokenizer) == "", "an EOS is no BOS"
    tokenizer.add_bos_token = True
    config.unlink()
    assert tell_contradiction(tmp_path, tokenizer) == ""


def test_results_tell_the_versions(folder: Path) -> None:
    import transformers

    model = harness_model(folder, trust_remote_code=True)
    model.open(SilentReporter())
    told = model.describe()
    assert told["trust_remote_code"] is True
    assert told["transformers"] == transformers.__version__
    assert told["torch"] == torch.__version__
    assert (told["dtype"], told["device"]) == ("float32", "cpu")


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_a_model_of_nan_is_named_where_it_generates(
    number: float, share: bool, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    path = save_model(tmp_path / "broken") / "model.safetensors"
    tensors = load_file(path)
    name = "model.norm.weight"
    tensors[name] = torch.full_like(tensors[name], number)
    save_file(tensors, path, metadata={"format": "pt"})
    write_gsm8k(tmp_path / "data")
    plan = EvalPlan(
        "gsm8k", tmp_path / "data", limit=2, num_fewshot=1, batch_size="2", share_prefixes=share
    )
    with pytest.raises(InputError, match=r"model 'broken': a logit .* ends with .*e ?r ?:'"):
        evaluate_models([str(tmp_path / "broken")], plan, out=tmp_path / "out")


_REPEATS = """\
task: sampled
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
output_type: generate_until
test_split: test
doc_to_text: "{{{{text}}}}"
doc_to_target: "a"
repeats: 4
generation_kwargs: {{until: ["@@@"], do_sample: true, temperature: 1.0, max_gen_toks: 8}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
"""


class Killing:
    """Counts answers and ends the run after some."""

    def __init__(self, after: int | None = None) -> None:
        self.num_answers, self._after = 0, after

    def __enter__(self) -> Killing:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def task(self, label: str, total: int, unit: str, done: int = 0) -> Killing:
        return self

    def advance(self, amount: int = 1, text: str = "") -> None:
        self.num_answers += amount
        if self.num_answers == self._after:
            raise KeyboardInterrupt

    def note(self, text: str) -> None:
        pass


def test_an_item_sampled_several_times_keeps_every_answer(folder: Path, tmp_path: Path) -> None:
    rows, own = tmp_path / "rows.jsonl", tmp_path / "own"
    own.mkdir()
    rows.write_text('{"text": "one two"}\n{"text": "three"}\n')
    (own / "w.yaml").write_text(_REPEATS.format(rows=rows))
    plan = EvalPlan("sampled", include_path=own, resamples=0)

    def ask(out: str, reporter: Any) -> list[list[str]]:
        evaluate_models([str(folder)], plan, out=tmp_path / out, reporter=reporter)
        found = next((tmp_path / out).glob("models/*/*.jsonl"))
        return [row["generated"] for row in read_items(found)]

    whole = ask("whole", Killing())
    assert [len(texts) for texts in whole] == [4, 4]
    assert all(len(set(texts)) > 1 for texts in whole)
    with pytest.raises(KeyboardInterrupt):
        ask("cut", Killing(3))
    rest = Killing()
    assert [len(texts) for texts in ask("cut", rest)] == [4, 4]
    assert rest.num_answers == 5


_BITS = ["eval", "m", "--suite", "bpb", "--data-dir", "texts"]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--backend", "vllm"], "--backend vllm: expected transformers or 4bit"),
        (["--backend", "nonsense"], "--backend nonsense"),
        (["--out", "x"], "bpb with --out"),
        (["--items", "4"], "bpb with --items"),
        (["--batch-size", "1"], "bpb with --batch-size"),
        (["--published"], "bpb with --published"),
        (["--subjects"], "bpb with --subjects"),
        (["--num-fewshot", "0"], "bpb with --num-fewshot"),
        (["--redo"], "bpb with --redo"),
        (["--share-prefixes"], "bpb with --share-prefixes"),
        (["--include-path", "x"], "bpb with --include-path"),
        (["--model-args", "a=1"], "bpb with --model-args"),
        (["--too-long", "cut"], "bpb with --too-long"),
    ],
)
def test_options_without_meaning_for_bits_per_byte_are_refused(
    words: list[str], problem: str
) -> None:
    done = CliRunner().invoke(app, [*_BITS, *words])
    assert isinstance(done.exception, UsageError)
    assert problem in str(done.exception)


@pytest.mark.parametrize("suite", ["bpb", "zh"])
def test_a_folder_to_write_results_to_is_refused_before_the_work(
    suite: str, tmp_path: Path
) -> None:
    call = ["eval", "m", "--suite", suite, "--json", str(tmp_path)]
    done = CliRunner().invoke(app, call)
    assert isinstance(done.exception, UsageError)
    assert "is a folder; expected a file" in str(done.exception)
