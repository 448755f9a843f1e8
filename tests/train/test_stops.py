"""What ends a run before its first step, or beside its steps: SIGTERM, no memory, ids without rows.

A process that handles SIGTERM nowhere ends without a word; here that would be pytest itself, so
tests put a handler of their own below the stage's.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from artefacts import make_artefact
from byte_tokenizers import trained_bytes
from pico import save_mixtral
from small_tokenizers import build as build_pieces
from training_runs import open_train_draft, settings, train, write_index, write_set

from lingraft import packedcache, scoring
from lingraft.errors import InputError, LingraftError, StoppedError
from lingraft.manifest import Facts
from lingraft.othertokenizers import read_tokenizer
from lingraft.ranks import Ranks
from lingraft.store import Artefact
from lingraft.train import stage, trainer
from lingraft.train.settings import PhaseSettings
from lingraft.train.trainer import Trainer
from lingraft.training import Termination

PHASES = [PhaseSettings(trains=["added", "base"], frac=0.5), PhaseSettings(trains=["lora"])]


class _UnhandledError(Exception):
    """SIGTERM came where nobody noticed it."""


@pytest.fixture(autouse=True)
def handler() -> Iterator[Callable[..., None]]:
    def fail(*_: object) -> None:
        raise _UnhandledError

    former = signal.signal(signal.SIGTERM, fail)
    yield fail
    assert signal.getsignal(signal.SIGTERM) is fail
    signal.signal(signal.SIGTERM, former)


def ask_in_call(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, number: int = 1
) -> list[int]:
    """Send SIGTERM in a call of a function; give a list with an entry for each call."""
    function, calls = getattr(owner, name), list[int]()

    def asked(*args: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGTERM)
        return function(*args, **options)

    monkeypatch.setattr(owner, name, asked)
    return calls


def test_sigterm_in_packing_ends_it_after_that_matrix_and_keeps_nothing_half(
    inputs: dict[str, Artefact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = settings(packed_cache=str(tmp_path / "cache"))
    with monkeypatch.context() as patch:
        packed = ask_in_call(patch, packedcache, "quantize", 3)
        with pytest.raises(StoppedError, match="by SIGTERM while the model was built") as caught:
            train(tmp_path / "stopped", inputs, s)
    assert caught.value.exit_code == 75
    assert len(packed) == 3
    assert not list((tmp_path / "cache").glob("**/*.safetensors"))
    assert not (open_train_draft(tmp_path / "stopped", s).path / "curve.jsonl").exists()
    digests = [train(tmp_path / name, inputs, s).manifest.digest for name in ("stopped", "alone")]
    assert digests[0] == digests[1]


def test_sigterm_in_the_first_validation_ends_it_before_the_next_batch(
    inputs: dict[str, Artefact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring._Scorer, "most_tokens", lambda *_: 32)  # 2 windows of 16
    s = settings()
    calls = ask_in_call(monkeypatch, scoring._Scorer, "score")
    with pytest.raises(StoppedError, match="by SIGTERM in the validation before step 0"):
        train(tmp_path, inputs, s)
    assert len(calls) == 1
    assert not (open_train_draft(tmp_path, s).path / "curve.jsonl").exists()


def test_sigterm_between_phases_ends_the_run_before_the_next_step(
    inputs: dict[str, Artefact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = settings(phases=PHASES)
    with monkeypatch.context() as patch:
        ask_in_call(patch, Trainer, "groups", 2)
        with pytest.raises(StoppedError, match="by SIGTERM before step 3; "):
            train(tmp_path / "stopped", inputs, s)
    digests = [train(tmp_path / name, inputs, s).manifest.digest for name in ("stopped", "alone")]
    assert digests[0] == digests[1]


def test_a_run_that_has_all_its_steps_ends_as_if_sigterm_had_not_come(
    inputs: dict[str, Artefact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask_in_call(monkeypatch, stage, "_write_adapter")
    assert train(tmp_path, inputs, settings(max_steps=2)).facts["steps"] == 2


def test_a_process_stops_where_another_was_asked() -> None:
    class Asked(Ranks):
        def sum_number(self, number: float) -> float:
            return number + 1

    with Termination() as termination:
        termination.stop_if_asked(Ranks(), "now")
        with pytest.raises(StoppedError, match="by SIGTERM now"):
            termination.stop_if_asked(Asked(1, 2), "now")


def test_several_processes_agree_before_each_set_and_not_within(
    inputs: dict[str, Artefact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would else do as many batches as it finds finite, and take sums for other sums."""
    monkeypatch.setattr(scoring._Scorer, "most_tokens", lambda *_: 32)
    made: list[Trainer] = []
    groups = Trainer.groups

    def kept(self: Trainer, *args: Any) -> Any:
        made.append(self)
        return groups(self, *args)

    monkeypatch.setattr(Trainer, "groups", kept)
    train(tmp_path, inputs, settings(max_steps=1))
    pauses: list[int] = []
    made[0].validate(0, pause=lambda: pauses.append(1))
    alone = len(pauses)
    made[0]._ranks = _Silent(0, 2)
    made[0].validate(0, pause=lambda: pauses.append(1))
    assert (alone > 2, len(pauses) - alone) == (True, 2)


class _Silent(Ranks):
    def sum_number(self, number: float) -> float:
        return number


LACKS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB.\nmore"),
    MemoryError(),
]


@pytest.mark.parametrize("error", LACKS)
@pytest.mark.parametrize(("number", "step"), [(1, 0), (3, 4)])
def test_no_memory_in_a_validation_says_what_to_lower(
    inputs: dict[str, Artefact],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    number: int,
    step: int,
) -> None:
    score_docs, calls = trainer.score_docs, list[int]()  # type: ignore[attr-defined]

    def lacking(*args: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == number:  # two sets, before step 0 and after step 4
            raise error
        return score_docs(*args, **options)

    monkeypatch.setattr(trainer, "score_docs", lacking)
    with pytest.raises(LingraftError, match=f"after step {step}, of 'zh': memory ran") as caught:
        train(tmp_path, inputs, settings())
    assert "lower train.lora.rank, take train.optimizer = 'adamw-8bit'" in str(caught.value)
    assert ("The checkpoint before this step is kept" in str(caught.value)) is (step > 0)


@pytest.mark.parametrize(
    ("quantize", "told"), [("none", "Set train.quantize = 'nf4'"), ("nf4", "more memory, or lower")]
)
def test_no_memory_for_the_model_says_what_to_do(
    inputs: dict[str, Artefact],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    quantize: str,
    told: str,
) -> None:
    def lacking(*_: object, **__: object) -> Any:
        raise LACKS[0]

    monkeypatch.setattr(stage, "build", lacking)
    with pytest.raises(LingraftError, match="building the model: memory ran out: CUDA") as caught:
        train(tmp_path, inputs, settings(quantize=quantize))
    assert told in str(caught.value)


def test_a_model_with_fewer_rows_than_the_sets_tokenizer_is_refused_before_it_is_built(
    inputs: dict[str, Artefact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(path: Path) -> Facts:
        save_mixtral(path, vocab_size=290)
        return Facts()

    monkeypatch.delattr(stage, "build")
    small = {**inputs, "embed": make_artefact(tmp_path, "40-embed", fill)}
    told = r"'zh', 'en' are of a tokenizer with 300 pieces \(counting\); the model in .* 290 rows"
    with pytest.raises(InputError, match=told) as caught:
        train(tmp_path, small, settings())
    assert "--redo encode --redo embed" in str(caught.value)


@pytest.mark.parametrize("name", ["tokenizer.model", "tokenizer.json"])
@pytest.mark.parametrize("is_same", [True, False])
def test_a_model_beside_another_tokenizer_than_the_sets_is_refused_though_it_has_the_rows(
    inputs: dict[str, Artefact], tmp_path: Path, is_same: bool, name: str
) -> None:
    def fill_embed(path: Path) -> Facts:
        save_mixtral(path)
        content = build_pieces() if name == "tokenizer.model" else trained_bytes().encode()
        (path / name).write_bytes(content)
        return Facts()

    embed = make_artefact(tmp_path, "40-embed", fill_embed)
    digest = read_tokenizer(str(embed.path)).digest if is_same else "ab" * 32

    def fill_encode(path: Path) -> Facts:
        write_set(path, "zh", 10)
        write_set(path, "en", 100)
        write_index(path, digest=digest)
        return Facts()

    both = {"embed": embed, "encode": make_artefact(tmp_path, "35-encode", fill_encode)}
    if is_same:
        assert train(tmp_path, both, settings(max_steps=1)).facts["steps"] == 1
        return
    with pytest.raises(
        InputError, match=r"is another \(digest \w{12}; the sets' has abababababab\)"
    ):
        train(tmp_path, both, settings())


def test_a_damaged_tokenizer_beside_the_model_is_told(
    inputs: dict[str, Artefact], tmp_path: Path
) -> None:
    def fill(path: Path) -> Facts:
        save_mixtral(path)
        (path / "tokenizer.model").write_bytes(build_pieces()[:99])
        return Facts()

    damaged = {**inputs, "embed": make_artefact(tmp_path, "40-embed", fill)}
    with pytest.raises(InputError, match=r"tokenizer cannot be read: .*40-embed") as caught:
        train(tmp_path, damaged, settings())
    assert "--redo embed" in str(caught.value)


class _OneIsStopped(Ranks):
    """This process is of two; the other one was asked to stop."""

    def sum_number(self, number: float) -> float:
        return number + 1


@pytest.mark.parametrize("error", [None, InputError("the first process could not build")])
def test_a_process_that_has_built_stops_with_the_one_that_was_stopped(
    error: LingraftError | None,
) -> None:
    with pytest.raises(StoppedError, match="SIGTERM while the model was built"):
        stage._await_others(_OneIsStopped(0, 2), error)
