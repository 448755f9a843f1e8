"""What models write: side by side, and in a talk."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from grafts import base_folder, byte_folder, grafted_folder, spoil
from html_reader import Reader
from typer.testing import CliRunner

from lingraft.cli import app
from lingraft.errors import InputError, UsageError
from lingraft.evals import continuing
from lingraft.evals.chatting import Chat
from lingraft.evals.continuing import check_sampling, generate, read_prompts
from lingraft.evals.loading import Loaded, load_model
from lingraft.evals.plans import LoadPlan
from lingraft.evals.sampling import Sampling, continue_prompt, sampling_options
from lingraft.progress import LineReporter

HOW = Sampling(max_new_tokens=6)
TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}<assistant>"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {
        "base": base_folder(root / "base"),
        "grafted": grafted_folder(root / "grafted"),
        "bytes": byte_folder(root / "bytes"),
    }


@pytest.fixture(scope="module")
def base(folders: dict[str, Path]) -> Loaded:
    return load_model(str(folders["base"]), LoadPlan())


class _Parrot:
    """A model that says the prompt, one chosen token, and perhaps EOS."""

    def __init__(self, *says: int) -> None:
        self._says = says
        self.embed = torch.nn.Embedding(1, 1)

    def get_input_embeddings(self) -> torch.nn.Module:
        return self.embed

    def generate(self, ids: torch.Tensor, **how: Any) -> torch.Tensor:
        self.how = how
        return torch.cat([ids, torch.tensor([self._says])], 1)


def test_a_continuation_leaves_the_prompt_and_eos_out(base: Loaded) -> None:
    parrot, tokenizer = _Parrot(262, 2), base.tokenizer  # "▁a" + "bc"... then EOS
    piece = tokenizer.convert_ids_to_tokens(262)
    written = continue_prompt(parrot, tokenizer, "ab", HOW, seed=4)
    assert written == (piece.replace("▁", " "), [262], True)
    assert continue_prompt(_Parrot(262), tokenizer, "ab", HOW, seed=4).ended is False


@pytest.mark.parametrize(
    "asks",
    [
        {"repetition_penalty": 9.0, "top_k": 1, "min_p": 0.9, "no_repeat_ngram_size": 1},
        {"suppress_tokens": list(range(3, 265)), "begin_suppress_tokens": [5]},
        {"bad_words_ids": [[id] for id in range(3, 265)]},
        {"sequence_bias": [[[264], 90.0]], "epsilon_cutoff": 0.5},
        {"forced_bos_token_id": 264, "forced_eos_token_id": 264, "min_new_tokens": 6},
        {"exponential_decay_length_penalty": [1, 9.0], "stop_strings": ["a"]},
        {"num_return_sequences": 2, "do_sample": True, "return_dict_in_generate": True},
    ],
    ids=lambda asks: next(iter(asks)),
)
def test_sampling_is_pure_nucleus_sampling_whatever_the_model_asks(
    tmp_path: Path, folders: dict[str, Path], asks: dict[str, Any]
) -> None:
    """A generation_config.json with a penalty changes no text."""
    penalised = base_folder(tmp_path / "base")
    path = penalised / "generation_config.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(content | asks), encoding="utf-8")
    texts = [
        [s.text for s in generate([model], prompts=["ab", "中文"], how=HOW).models[0].samples]
        for model in (folders["base"], penalised)
    ]
    assert texts[0] == texts[1]
    greedy = generate([penalised], prompts=["ab"], how=Sampling(greedy=True, max_new_tokens=6))
    plain = generate([folders["base"]], prompts=["ab"], how=Sampling(greedy=True, max_new_tokens=6))
    assert greedy.models[0].samples == plain.models[0].samples
    assert sampling_options(HOW)["top_k"] == 0


def test_the_models_own_configuration_is_put_back_and_its_eos_used(base: Loaded) -> None:
    own = base.model.generation_config
    written = continue_prompt(base.model, base.tokenizer, "ab", HOW, seed=4)
    assert base.model.generation_config is own
    own.eos_token_id = [2, written.ids[1]]
    again = continue_prompt(base.model, base.tokenizer, "ab", HOW, seed=4)
    own.eos_token_id = 2
    assert again.ids == written.ids[: written.ids.index(written.ids[1])]
    assert again.ended


def test_a_text_depends_on_seed_model_and_prompt_alone(folders: dict[str, Path]) -> None:
    models = [folders["base"], folders["grafted"]]
    both = generate(models, prompts=["ab", "中文"], how=HOW)
    again = generate(models[::-1], prompts=["中文"], how=HOW)
    assert both.models[1].samples[1].text == again.models[0].samples[0].text
    other = generate(models, prompts=["ab", "中文"], how=HOW, seed=18)
    assert [m.samples for m in other.models] != [m.samples for m in both.models]


def test_new_pieces_are_counted_in_what_a_grafted_model_writes(folders: dict[str, Path]) -> None:
    table = generate([folders["base"], folders["grafted"]], prompts=["ab"] * 3, how=HOW)
    plain, grafted = table.models
    assert (plain.is_grafted, plain.added_share) == (False, "")
    assert grafted.is_grafted
    assert all(0 <= s.num_added <= s.num_tokens <= 6 for s in grafted.samples)
    unlike = generate([folders["base"], folders["bytes"]], prompts=["ab"], how=HOW)
    assert unlike.models[1].is_grafted is False


def test_prompts_are_lines_or_rows(tmp_path: Path) -> None:
    lines, rows = tmp_path / "p.txt", tmp_path / "p.jsonl"
    lines.write_text("中文\n\n  \nab {\n", encoding="utf-8")
    rows.write_text('{"prompt": "a\\nb"}\n{"text": "c"}\n"d"\n', encoding="utf-8")
    assert read_prompts(lines) == ["中文", "ab {"]
    assert read_prompts(rows) == ["a\nb", "c", "d"]


@pytest.mark.parametrize(
    ("row", "message"), [("{", r"p\.jsonl:2: not JSON"), ('{"x": 1}', r"p\.jsonl:2: no prompt")]
)
def test_a_row_without_a_prompt_is_named(tmp_path: Path, row: str, message: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(f'"a"\n{row}\n', encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_prompts(path)


def test_no_prompts_are_refused(tmp_path: Path, folders: dict[str, Path]) -> None:
    path = tmp_path / "p.txt"
    path.write_text("\n", encoding="utf-8")
    with pytest.raises(InputError, match="holds no prompt"):
        read_prompts(path)
    with pytest.raises(UsageError, match="no such file"):
        read_prompts(tmp_path / "none.txt")
    with pytest.raises(UsageError, match="there is no prompt"):
        generate([folders["base"]], prompts=[])


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (Sampling(temperature=0), "--temperature 0"),
        (Sampling(top_p=0), "--top-p 0"),
        (Sampling(top_p=1.1), r"--top-p 1\.1"),
        (Sampling(max_new_tokens=0), "--max-new-tokens 0"),
    ],
)
def test_numbers_that_nothing_can_be_sampled_with_are_refused(how: Sampling, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_sampling(how)


def test_a_prompt_that_fills_the_context_is_refused(folders: dict[str, Path]) -> None:
    with pytest.raises(InputError, match=r"base: prompt 2 has .* context of 64 is exceeded"):
        generate([folders["base"]], prompts=["ab", "变" * 40], how=HOW)


@pytest.mark.parametrize("greedy", [True, False])
def test_not_a_number_names_the_model(tmp_path: Path, greedy: bool) -> None:
    folder = spoil(base_folder(tmp_path / "spoiled"))
    with pytest.raises(InputError, match="spoiled: its highest logit is nan after 3 tokens"):
        generate([folder], prompts=["ab"], how=Sampling(max_new_tokens=3, greedy=greedy))


@pytest.mark.parametrize("name", ["c.txt", "none/c.md"])
def test_an_output_that_cannot_be_is_refused_at_once(
    tmp_path: Path, folders: dict[str, Path], name: str
) -> None:
    with pytest.raises(UsageError, match="--out"):
        generate([folders["base"]], prompts=["ab"], out=tmp_path / name)


def test_a_killed_call_goes_on(
    tmp_path: Path, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    models, out = [folders["base"], folders["grafted"]], tmp_path / "c.json"
    whole = generate(models, prompts=["ab", "中文"], how=HOW)
    done: list[str] = []

    def cut(*given: Any, **named: Any) -> Any:
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(given[2])
        return continue_prompt(*given, **named)

    monkeypatch.setattr(continuing, "continue_prompt", cut)
    with pytest.raises(KeyboardInterrupt):
        generate(models, prompts=["ab", "中文"], how=HOW, out=out)
    done.clear()
    assert generate(models, prompts=["ab", "中文"], how=HOW, out=out) == whole
    assert done == ["中文"]
    assert list(tmp_path.iterdir()) == [out]


def test_what_is_lost_without_a_file_is_told(tmp_path: Path, folders: dict[str, Path]) -> None:
    prompts = tmp_path / "p.txt"
    prompts.write_text("ab\nabc\n", encoding="utf-8")
    bad = spoil(base_folder(tmp_path / "bad"))
    words = ["generate", str(folders["base"]), str(bad), "--prompts", str(prompts)]
    words += ["--max-new-tokens", "5"]
    told = "what was written is lost (2 of 4 texts); with --out FILE it would be kept"
    done = CliRunner().invoke(app, words)
    assert done.exit_code != 0
    assert told in done.output
    out = tmp_path / "c.json"
    done = CliRunner().invoke(app, [*words, "--out", str(out)])
    assert done.exit_code != 0
    assert told not in done.output
    assert (tmp_path / ".c.json.partial").is_file()
    alone = CliRunner().invoke(app, ["generate", str(bad), "--prompts", str(prompts)])
    assert alone.exit_code != 0
    assert "lost" not in alone.output


def test_what_ctrl_c_loses_is_told(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    told: list[str] = []

    def cut(*given: Any, **named: Any) -> Any:
        if done:
            raise KeyboardInterrupt
        done.append(given[2])
        return continue_prompt(*given, **named)

    monkeypatch.setattr(continuing, "continue_prompt", cut)
    with pytest.raises(KeyboardInterrupt):
        generate(
            [folders["base"]], prompts=["ab", "c"], how=HOW, reporter=LineReporter(told.append)
        )
    assert any("what was written is lost (1 of 2 texts)" in line for line in told)


def test_the_command_writes_json_markdown_and_a_page(
    tmp_path: Path, folders: dict[str, Path]
) -> None:
    prompts = tmp_path / "p.txt"
    prompts.write_text("<b>中文 | *ab*\nabc\n", encoding="utf-8")
    words = ["generate", str(folders["base"]), str(folders["grafted"]), "--prompts", str(prompts)]
    words += ["--max-new-tokens", "5"]
    for ending in ("json", "md", "html"):
        done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / f"c.{ending}")])
        assert done.exit_code == 0, done.output
        assert "2 prompts, 2 models; temperature 0.8, top-p 0.9, at most 5 tokens" in done.output
    table = json.loads((tmp_path / "c.json").read_text(encoding="utf-8"))
    assert [row["model"] for row in table["samples"]] == ["base", "grafted"] * 2
    assert table["models"][0]["new_pieces"] is None
    assert table["models"][1]["new_pieces"]["tokens"] <= 10
    markdown = (tmp_path / "c.md").read_text(encoding="utf-8")
    assert r"| \<b\>中文 \| \*ab\* |" in markdown
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {4}
    page = Reader((tmp_path / "c.html").read_text(encoding="utf-8"))
    assert "<b>中文 | *ab*" in page.text
    printed = CliRunner().invoke(app, words)
    assert "of the tokens written are new pieces" in printed.output
    assert json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout) == table


def talk(loaded: Loaded, **more: Any) -> tuple[Chat, list[str], list[str]]:
    written: list[str] = []
    told: list[str] = []
    how = more.pop("how", HOW)
    return Chat(loaded, how, written.append, told.append, **more), written, told


def test_a_base_model_goes_on_with_the_text(base: Loaded) -> None:
    torch.manual_seed(1)
    chat, written, told = talk(base)
    chat.greet()
    assert "no chat template" in told[0]
    answer = chat.answer("ab")
    assert "".join(written) == answer
    assert chat.take("中文")
    ids = chat._ids(chat.turns[:3])
    assert ids == base.tokenizer(f"ab{answer}\n中文")["input_ids"]


def test_a_chat_model_gets_its_template(folders: dict[str, Path], tmp_path: Path) -> None:
    loaded = load_model(str(folders["base"]), LoadPlan())
    loaded.tokenizer.chat_template = TEMPLATE
    chat, _, told = talk(loaded, system="abc")
    chat.greet()
    assert "chat template" in told[0]
    assert "no chat template" not in told[0]
    chat.answer("ab")
    text = loaded.tokenizer.decode(chat._ids(chat.turns[:1]), skip_special_tokens=True)
    assert text.strip() == "<system>abc\n<user>ab\n<assistant>"


def test_a_template_that_refuses_is_told(folders: dict[str, Path]) -> None:
    loaded = load_model(str(folders["base"]), LoadPlan())
    loaded.tokenizer.chat_template = "{{ raise_exception('no system') }}"
    chat, _, _ = talk(loaded, system="abc")
    with pytest.raises(InputError, match="refuses the talk: no system"):
        chat.answer("ab")


def test_old_messages_leave_when_the_context_is_full(base: Loaded) -> None:
    chat, _, told = talk(base)
    for _ in range(8):
        chat.answer("变变变")
    assert any("no longer fit the context" in line for line in told)
    assert len(chat._ids(chat.turns[:-1])) + HOW.max_new_tokens <= 64
    assert chat.turns[0].role == "user"
    assert chat.answer("变" * 80) == ""
    assert "The message is too long" in told[-1]
    assert chat.turns[-1].role == "assistant"


def test_commands_of_the_talk(base: Loaded) -> None:
    chat, written, told = talk(base)
    chat.answer("ab")
    assert chat.take("/reset")
    assert chat.turns == []
    assert chat.take("/help")
    assert chat.take("/what now")
    assert "/what: no such command" in told[-1]
    assert chat.take("  ")
    assert not chat.take(" /exit ")
    assert len(written) > 0


def test_ctrl_c_stops_an_answer_and_keeps_the_talk(
    base: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(base.model, "generate", stop)
    chat, _, told = talk(base)
    assert chat.answer("ab") == ""
    assert "(stopped)" in told[-1]
    assert [turn.role for turn in chat.turns] == ["user", "assistant"]


def test_the_command_talks_over_a_pipe(folders: dict[str, Path]) -> None:
    words = ["chat", str(folders["base"]), "--seed", "3", "--max-new-tokens", "4"]
    done = [CliRunner().invoke(app, words, input="ab\n/reset\nab\n/exit\n") for _ in range(2)]
    assert done[0].exit_code == 0
    assert done[0].output == done[1].output
    assert "The talk begins anew." in done[0].stderr
    assert CliRunner().invoke(app, words, input="ab\n").exit_code == 0
