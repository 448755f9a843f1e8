"""What a killed call kept is used for the same model, base, device and numbers alone."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from extended_tokenizers import extended
from grafts import CHINESE_DOCS, base_folder, grafted_folder, write_docs
from pico import save_llama

from lingraft.evals import bitscommand, continuing, keys
from lingraft.evals.bitscommand import bits_per_byte
from lingraft.evals.continuing import generate
from lingraft.evals.keys import model_key
from lingraft.evals.plans import LoadPlan
from lingraft.evals.sampling import Sampling
from lingraft.fast import write_tokenizer

HOW = Sampling(max_new_tokens=2)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return base_folder(tmp_path_factory.mktemp("models") / "base")


def killed(module: Any, name: str, call: Callable[[], Any]) -> None:
    """Call, and be killed when everything is kept and nothing written."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, name, lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            call()


def loads(monkeypatch: pytest.MonkeyPatch, module: Any, call: Callable[[], Any]) -> int:
    """Count the models that a call loads."""
    names: list[str] = []
    load = module.load_model

    def counted(*given: Any) -> Any:
        names.append(given[0])
        return load(*given)

    with monkeypatch.context() as patch:
        patch.setattr(module, "load_model", counted)
        call()
    return len(names)


@pytest.mark.parametrize("verb", ["bpb", "generate"])
@pytest.mark.parametrize("change", ["nothing", "device_of", "dtype_of", "tokenizer"])
def test_figures_of_another_device_dtype_or_tokenizer_are_not_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, change: str
) -> None:
    folder = base_folder(tmp_path / "base")
    text = write_docs(tmp_path / "zh.jsonl", CHINESE_DOCS)
    module, name, call = {
        "bpb": (
            bitscommand,
            "write_json",
            lambda: bits_per_byte([folder], [text], out=tmp_path / "o.json"),
        ),
        "generate": (
            continuing,
            "write_text",
            lambda: generate([folder], prompts=["ab"], how=HOW, out=tmp_path / "o.json"),
        ),
    }[verb]
    killed(module, name, call)
    if change == "tokenizer":
        path = folder / "tokenizer_config.json"
        path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    elif change == "device_of":
        monkeypatch.setattr(keys, "device_of", lambda _: SimpleNamespace(type="cuda"))
    elif change == "dtype_of":
        monkeypatch.setattr(keys, "dtype_of", lambda *_: torch.bfloat16)
    assert loads(monkeypatch, module, call) == (0 if change == "nothing" else 1)


def test_a_key_holds_what_auto_means_here(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert model_key("base", base, LoadPlan()).endswith(" cpu float32")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert " cuda " in model_key("base", base, LoadPlan())


def test_code_of_a_model_that_may_run_is_in_its_key(tmp_path: Path) -> None:
    folder = base_folder(tmp_path / "base")
    found = []
    for code in ("a = 1", "a = 2"):
        (folder / "modeling.py").write_text(code, encoding="utf-8")
        found += [model_key("b", folder, LoadPlan(trust_remote_code=may)) for may in (False, True)]
    assert found[0] == found[2]
    assert len({found[1], found[2], found[3]}) == 3


@pytest.mark.parametrize("verb", ["bpb", "generate"])
def test_new_pieces_beside_another_base_are_counted_anew(
    tmp_path: Path, base: Path, verb: str
) -> None:
    """The grafted model has four pieces more than one base, and two more than the other."""
    grafted = grafted_folder(tmp_path / "grafted")
    middle = _middle(tmp_path / "middle")
    text = write_docs(tmp_path / "zh.jsonl", CHINESE_DOCS)
    out = tmp_path / "o.json"

    def call(first: Path, out: Path | None) -> Any:
        if verb == "bpb":
            return bits_per_byte([first, grafted], [text], new_pieces=True, out=out)
        return generate([first, grafted], prompts=["ab"] * 2, how=HOW, out=out)

    module, name = (bitscommand, "write_json") if verb == "bpb" else (continuing, "write_text")
    killed(module, name, lambda: call(base, out))
    assert call(middle, out) == call(middle, None)


def _middle(folder: Path) -> Path:
    """A model with the first half of the pieces that the grafted one has more."""
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(extended())
    del proto.pieces[-2:]
    proto.trainer_spec.vocab_size = len(proto.pieces)
    save_llama(folder, vocab_size=len(proto.pieces))
    write_tokenizer(proto.SerializeToString(), folder)
    return folder
