"""Continuations and talks at their bounds: what a text depends on, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from grafts import base_folder
from small_tokenizers import FIRST
from typer.testing import CliRunner

from lingraft.cli import app
from lingraft.errors import InputError
from lingraft.evals import continuing
from lingraft.evals.chatting import Chat
from lingraft.evals.continuing import generate, read_prompts
from lingraft.evals.loading import Loaded, load_model
from lingraft.evals.plans import LoadPlan
from lingraft.evals.sampling import Sampling, continue_prompt

HOW = Sampling(max_new_tokens=4)
SPACED = FIRST + 2  # "▁a"
HALF = r'{"prompt": "a\ud83d"}'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return base_folder(tmp_path_factory.mktemp("models") / "base")


@pytest.fixture(scope="module")
def base(folder: Path) -> Loaded:
    return load_model(str(folder), LoadPlan())


def saying(loaded: Loaded, *ids: int, monkeypatch: pytest.MonkeyPatch) -> tuple[Chat, list[str]]:
    """A talk with a model that says the same tokens each time, and the parts that it wrote."""

    def say(given: torch.Tensor, *, streamer: Any, **_: Any) -> torch.Tensor:
        streamer.put(given)
        for id in ids:
            streamer.put(torch.tensor([id]))
        streamer.end()
        return torch.cat([given, torch.tensor([ids])], 1)

    monkeypatch.setattr(loaded.model, "generate", say)
    written: list[str] = []
    return Chat(loaded, HOW, written.append, lambda text: None), written


def test_the_space_before_an_answer_is_written_and_fed_to_the_next_turn(
    base: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat, written = saying(base, SPACED, SPACED, monkeypatch=monkeypatch)
    assert chat.answer("ab") == " a a"
    assert written == [" a", " a"]
    assert chat._ids(chat.turns) == base.tokenizer("ab a a")["input_ids"]


def test_a_message_of_a_template_is_a_text_of_its_own(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_model(str(folder), LoadPlan())
    loaded.tokenizer.chat_template = "{{ messages[0].content }}"
    chat, _ = saying(loaded, SPACED, monkeypatch=monkeypatch)
    assert chat.answer("ab") == "a"


def test_characters_are_not_written_in_parts(base: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [3 + byte for byte in "嬗é".encode()]
    chat, written = saying(base, *ids, monkeypatch=monkeypatch)
    chat.answer("ab")
    assert written == ["嬗", "é"]
    chat, written = saying(base, *ids[:2], monkeypatch=monkeypatch)
    assert chat.answer("ab") == "\ufffd\ufffd"  # what is not whole is written at the end
    chat, _ = saying(base, *ids, ids[0], monkeypatch=monkeypatch)
    assert chat.answer("ab").startswith("嬗é")
    assert chat.answer("ab").count("\ufffd") <= 1, "it spoils nothing that was shown"


@pytest.mark.parametrize("greedy", [True, False])
@pytest.mark.parametrize(("first", "number"), [(5, torch.inf), (0, -torch.inf), (5, torch.nan)])
def test_logits_that_nothing_can_be_chosen_by_are_refused(
    base: Loaded, greedy: bool, first: int, number: float
) -> None:
    def spoil(module: Any, given: Any, out: Any) -> None:
        out.logits[..., first:] = number

    how = Sampling(max_new_tokens=2, greedy=greedy)
    with (
        base.model.register_forward_hook(spoil),
        pytest.raises(InputError, match=f"m: its highest logit is {number:g} after 3 tokens"),
    ):
        continue_prompt(base.model, base.tokenizer, "ab", how, seed=4, name="m")


def test_a_temperature_that_logits_overflow_by_is_refused(base: Loaded) -> None:
    how = Sampling(temperature=1e-40, max_new_tokens=2)
    with pytest.raises(InputError, match="larger --temperature"):
        continue_prompt(base.model, base.tokenizer, "ab", how, seed=4)


def test_tokens_that_are_never_written_are_fine(base: Loaded) -> None:
    def mask(module: Any, given: Any, out: Any) -> None:
        out.logits[..., :SPACED] = -torch.inf

    with base.model.register_forward_hook(mask):
        written = continue_prompt(base.model, base.tokenizer, "ab", HOW, seed=4)
    assert len(written.ids) == 4
    assert min(written.ids) >= SPACED


def texts(*models: Path, **more: Any) -> list[list[str]]:
    table = generate(models, prompts=["ab", "中文"], how=HOW, **more)
    return [[sample.text for sample in by.samples] for by in table.models]


def test_neither_other_models_nor_its_place_change_a_text(tmp_path: Path, folder: Path) -> None:
    models = [shutil.copytree(folder, tmp_path / name) for name in ("c/m", "a/m", "other")]
    alone = texts(models[0])[0]
    assert texts(folder, models[0]) == [alone] * 2  # its label is m
    assert texts(folder, *models) == [alone] * 4  # its label is c/m


def test_kept_texts_are_used_when_a_model_is_added(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = [base_folder(tmp_path / name, num_hidden_layers=1) for name in ("c/m", "a/m")]
    whole, out, done = texts(folder, *models), tmp_path / "c.md", list[str]()

    def cut(*given: Any, **named: Any) -> Any:
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(named["name"])
        return continue_prompt(*given, **named)

    monkeypatch.setattr(continuing, "continue_prompt", cut)
    with pytest.raises(KeyboardInterrupt):
        texts(folder, models[0], out=out)
    assert done == ["base", "base", "m"]
    done.clear()
    assert texts(folder, *models, out=out) == whole
    assert done == ["c/m", "a/m", "a/m"]


def test_contexts_are_looked_at_before_any_model_writes(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = base_folder(tmp_path / "short", max_position_embeddings=8)
    monkeypatch.setattr(continuing, "load_model", lambda *_: pytest.fail("a model was loaded"))
    with pytest.raises(InputError, match=r"short: prompt 2 has 7 tokens; .* context of 8"):
        generate([folder, short], prompts=["ab", "abc 中文 abc"], how=HOW)


def test_half_a_surrogate_pair_is_named(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(f'"a"\n{HALF}\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"p\.jsonl:2: character 2 is half .*U\+D83D"):
        read_prompts(path)
    with pytest.raises(InputError, match="prompt 1: character 2 is half"):
        generate([folder], prompts=["a\ud83d"])


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        (b"ab\nhel\xe9lo\n", [], r"standard input: not utf-8 text: .* \(byte 0xE9\)"),
        (b"ab\n", ["--system", "a\udce9"], "--system: character 2 is half"),
    ],
)
def test_bytes_that_are_no_text_end_a_talk(
    folder: Path, given: bytes, options: list[str], message: str
) -> None:
    words = ["chat", str(folder), "--seed", "3", "--max-new-tokens", "4", *options]
    done = CliRunner().invoke(app, words, input=given)
    with pytest.raises(InputError, match=message):
        raise done.exception or AssertionError("no error")


def test_a_message_with_half_a_surrogate_pair_is_refused(base: Loaded) -> None:
    chat = Chat(base, HOW, lambda text: None, lambda text: None)
    with pytest.raises(InputError, match="the message: character 1 is half"):
        chat.answer("\udce9")


def test_names_with_brackets_are_printed_as_they_are(tmp_path: Path, folder: Path) -> None:
    model, prompts = shutil.copytree(folder, tmp_path / "base[zh]"), tmp_path / "p.txt"
    prompts.write_text("[b]ab[/b]\n", encoding="utf-8")
    words = ["generate", str(model), "--prompts", str(prompts), "--max-new-tokens", "2"]
    printed = CliRunner().invoke(app, words).output
    assert "base[zh]: " in printed
    assert "[b]ab[/b]" in printed
