"""Three models scored side by side, and their continuations."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from artefacts import empty_draft, make_artefact
from pico import save_mixtral
from small_tokenizers import BY_HAND, build
from transformers import AutoModelForCausalLM, AutoTokenizer

from lingraft.errors import InputError
from lingraft.evals.bits import BitsSettings
from lingraft.evals.bitscommand import bits_per_byte
from lingraft.evals.sampling import seed_of
from lingraft.evals.settings import EvalsFacts, EvalsSettings
from lingraft.evals.stage import run
from lingraft.fast import write_tokenizer
from lingraft.manifest import Facts
from lingraft.pieces import SentencePieces
from lingraft.store import Artefact, Draft

EXTENDED = (*BY_HAND, ("中文中文", -20.0))
TEXTS = {"news": ["中文中文中文", "中文", "中文abc"], "reviews": ["中文ab"], "docs": ["abc ab a"]}
LANGUAGES = {"news": "zh", "reviews": "zh", "docs": "en"}
SETTINGS = EvalsSettings(max_docs=2, max_tokens=16, prompts=["中文", "abc"], max_new_tokens=5)


class _Corpus(Facts):
    sets: dict[str, Any]


def fill_corpus(path: Path) -> Facts:
    for name, texts in TEXTS.items():
        rows = [json.dumps({"id": str(n), "text": text}) for n, text in enumerate(texts)]
        (path / f"{name}-valid.jsonl").write_text("\n".join(rows), encoding="utf-8")
    (path / "empty-valid.jsonl").write_text("", encoding="utf-8")
    return _Corpus(sets={name: {"language": language} for name, language in LANGUAGES.items()})


def fill_model(pieces: tuple[tuple[str, float], ...]) -> Any:
    def fill(path: Path) -> Facts:
        proto = build(pieces)
        save_mixtral(path, vocab_size=len(SentencePieces(proto).pieces))
        write_tokenizer(proto, path)
        return Facts()

    return fill


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artefact]:
    folder = tmp_path_factory.mktemp("artefacts")
    return {
        "corpus": make_artefact(folder, "10-corpus", fill_corpus),
        "base": make_artefact(folder, "15-base", fill_model(BY_HAND)),
        "embed": make_artefact(folder, "40-embed", fill_model(EXTENDED)),
        "merge": make_artefact(folder, "70-merge", fill_model(EXTENDED)),
    }


def scored(
    tmp_path: Path, inputs: Mapping[str, Artefact], settings: EvalsSettings = SETTINGS
) -> tuple[EvalsFacts, Draft]:
    draft = empty_draft(tmp_path, "80-evals")
    return run(settings, inputs, draft), draft


def test_each_model_reads_with_its_own_tokenizer(
    tmp_path: Path, inputs: dict[str, Artefact]
) -> None:
    facts, _ = scored(tmp_path, inputs)
    assert list(facts.scores) == ["base", "expanded", "trained"]
    # "▁中文中文中文" is ▁ 中文 中文 中文 or ▁ 中文中文 中文; "▁中文" is ▁ 中文; EOS for both.
    assert facts.scores["base"]["news"].total_tokens == 4 + 2 + 2
    assert facts.scores["trained"]["news"].total_tokens == 3 + 2 + 2
    assert facts.scores["base"]["news"].tokens_per_char == 6 / 8
    assert facts.scores["trained"]["news"].size_bytes == 8 * 3


def test_scores_are_those_of_the_models_own_loss(
    tmp_path: Path, inputs: dict[str, Artefact]
) -> None:
    facts, _ = scored(tmp_path, inputs)
    folder = inputs["base"].path
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(folder),
        AutoTokenizer.from_pretrained(folder),
    )
    ids = torch.tensor([[*tokenizer("中文ab")["input_ids"], tokenizer.eos_token_id]])
    with torch.no_grad():
        bits = model(ids, labels=ids).loss.item() * (ids.shape[1] - 1) / torch.log(torch.tensor(2))
    assert facts.scores["base"]["reviews"].bpb == pytest.approx(bits.item() / 8, rel=1e-5)


def test_the_command_gives_the_recipes_figures(tmp_path: Path, inputs: dict[str, Artefact]) -> None:
    facts, _ = scored(tmp_path, inputs)
    path = inputs["corpus"].file("news-valid.jsonl")
    how = BitsSettings(max_tokens=SETTINGS.max_tokens, stride=SETTINGS.max_tokens, eos=True)
    limit = SETTINGS.max_docs
    for name, folder in (("base", inputs["base"].path), ("trained", inputs["merge"].path)):
        (row,) = bits_per_byte([folder], [path], settings=how, limit=limit)
        assert row["bpb"] == facts.scores[name]["news"].bpb
        assert row["tokens"] == facts.scores[name]["news"].total_tokens


def test_languages_pool_their_sets(tmp_path: Path, inputs: dict[str, Artefact]) -> None:
    facts, _ = scored(tmp_path, inputs)
    news, reviews = facts.scores["base"]["news"], facts.scores["base"]["reviews"]
    zh = facts.languages["base"]["zh"]
    assert zh.num_docs == 3  # max_docs takes two of the three news
    weighed = news.bpb * news.size_bytes + reviews.bpb * reviews.size_bytes
    assert zh.bpb == pytest.approx(weighed / (news.size_bytes + reviews.size_bytes))
    assert facts.languages["base"]["en"] == facts.scores["base"]["docs"]


def test_differences_to_the_base_have_an_interval(
    tmp_path: Path, inputs: dict[str, Artefact]
) -> None:
    facts, _ = scored(tmp_path, inputs)
    assert list(facts.differences) == ["expanded", "trained"]
    news = facts.differences["trained"]["news"]
    change = facts.scores["trained"]["news"].bpb - facts.scores["base"]["news"].bpb
    assert news.bpb == pytest.approx(change)
    assert news.low is not None
    assert news.high is not None
    assert news.low <= news.bpb <= news.high
    one = facts.differences["trained"]["reviews"]  # one document has no spread
    assert (one.low, one.high) == (None, None)
    zh = facts.language_differences["trained"]["zh"]
    change = facts.languages["trained"]["zh"].bpb - facts.languages["base"]["zh"].bpb
    assert zh.bpb == pytest.approx(change)


def test_files_say_what_the_facts_say(tmp_path: Path, inputs: dict[str, Artefact]) -> None:
    facts, draft = scored(tmp_path, inputs)
    content = facts.model_dump(mode="json")
    samples = json.loads((draft.path / "samples.json").read_text(encoding="utf-8"))
    assert samples == content.pop("samples")
    assert json.loads((draft.path / "scores.json").read_text(encoding="utf-8")) == content
    assert [(s["model"], s["prompt"]) for s in samples] == [
        (model, prompt) for model in facts.scores for prompt in SETTINGS.prompts
    ]


def test_two_runs_say_the_same(tmp_path: Path, inputs: dict[str, Artefact]) -> None:
    assert scored(tmp_path / "a", inputs)[0] == scored(tmp_path / "b", inputs)[0]


def test_a_sample_does_not_depend_on_the_other_prompts(
    tmp_path: Path, inputs: dict[str, Artefact]
) -> None:
    both, _ = scored(tmp_path / "a", inputs)
    alone = SETTINGS.model_copy(update={"prompts": ["abc"]})
    one, _ = scored(tmp_path / "b", inputs, alone)
    assert one.samples == [s for s in both.samples if s.prompt == "abc"]


def test_only_the_named_sets_are_scored_and_prompts_may_be_none(
    tmp_path: Path, inputs: dict[str, Artefact]
) -> None:
    facts, draft = scored(tmp_path, inputs, EvalsSettings(sets=["docs"]))
    assert list(facts.scores["trained"]) == ["docs"]
    assert list(facts.languages["trained"]) == ["en"]
    assert json.loads((draft.path / "samples.json").read_text(encoding="utf-8")) == []


def test_a_set_without_held_out_text_is_refused(
    tmp_path: Path, inputs: dict[str, Artefact]
) -> None:
    corpus = inputs["corpus"]
    corpus.facts["sets"]["empty"] = {"language": "zh"}
    with pytest.raises(InputError, match=r"0 bytes of text[\s\S]*valid_frac"):
        scored(tmp_path, inputs, EvalsSettings(sets=["empty"]))


def test_seeds_differ_by_run_model_and_prompt() -> None:
    seeds = {seed_of(s, m, p) for s in (1, 2) for m in ("base", "trained") for p in ("a", "b")}
    assert len(seeds) == 8
