"""Parts of an evaluation that need no model: suites, differences, items, answers, tables."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lingraft.errors import InputError, UsageError, VerifyError
from lingraft.evals.answering import refuse_nan, request_key, request_keys
from lingraft.evals.compare import compare_items
from lingraft.evals.fitting import Fitting
from lingraft.evals.items import (
    chosen_text,
    item_rows,
    read_items,
    shared_prompt,
    values_of,
    write_items,
)
from lingraft.evals.suites import SUITES, find_suite
from lingraft.evals.tables import markdown, published_figures, result_table, subject_table


def test_the_leaderboard_has_its_six_tasks_and_shots() -> None:
    assert [(b.task, b.num_fewshot, b.metric) for b in SUITES["leaderboard"]] == [
        ("arc_challenge", 25, "acc_norm"),
        ("hellaswag", 10, "acc_norm"),
        ("mmlu", 5, "acc"),
        ("truthfulqa_mc2", 0, "acc"),
        ("winogrande", 5, "acc"),
        ("gsm8k", 5, "exact_match"),
    ]


@pytest.mark.parametrize("suite", ["zh", "en"])
def test_the_languages_are_asked_at_five_shots(suite: str) -> None:
    assert {b.num_fewshot for b in SUITES[suite]} == {5}


def test_shots_can_be_replaced_but_not_where_there_are_none() -> None:
    found = find_suite("leaderboard", 1, [], complete=True)
    assert found is not None
    assert [b.num_fewshot for b in found] == [1, 1, 1, 0, 1, 1]


def test_a_name_of_the_harness_is_a_suite_of_one() -> None:
    (found,) = find_suite("piqa", None, ["piqa"], complete=False) or ()
    assert (found.task, found.num_fewshot, found.key) == ("piqa", None, "piqa")
    assert find_suite("piqa", None, [], complete=False) is None


def test_an_unknown_suite_is_told_with_what_was_meant() -> None:
    with pytest.raises(UsageError, match=r"Did you mean 'leaderboard'\?"):
        find_suite("leaderbord", None, ["piqa"], complete=True)
    with pytest.raises(UsageError, match="no such suite or task"):
        find_suite("qqqqqqqq", None, ["piqa"], complete=True)


def key(n: int) -> tuple[str, int]:
    return ("task", n)


def test_a_difference_counts_items_that_turned() -> None:
    base = {key(n): v for n, v in enumerate([1, 1, 0, 0])}
    other = {key(n): v for n, v in enumerate([1, 0, 1, 1])}
    found = compare_items(base, other, resamples=2_000, seed=1)
    assert (found["value"], found["num_better"], found["num_worse"]) == (0.25, 2, 1)
    assert found["low"] < 0 < found["high"]
    assert found == compare_items(base, other, resamples=2_000, seed=1)


def test_the_interval_is_that_of_the_mean_of_paired_differences() -> None:
    # 900 items the same, 60 better, 40 worse: standard error sqrt(0.1 - 0.02**2) / sqrt(1000)
    values = [0] * 900 + [1] * 60 + [-1] * 40
    base = {key(n): 0.0 for n in range(1_000)}
    other = {key(n): float(v) for n, v in enumerate(values)}
    found = compare_items(base, other, resamples=20_000, seed=2)
    half = 1.96 * math.sqrt(0.1 - 0.02**2) / math.sqrt(1_000)
    assert found["low"] == pytest.approx(0.02 - half, abs=0.001)
    assert found["high"] == pytest.approx(0.02 + half, abs=0.001)


def test_one_item_has_no_interval() -> None:
    found = compare_items({key(0): 0.0}, {key(0): 1.0}, resamples=10, seed=1)
    assert (found["value"], found["low"], found["high"]) == (1.0, None, None)


def test_models_that_were_asked_other_items_are_not_compared() -> None:
    with pytest.raises(VerifyError, match="item 1 of task"):
        compare_items({key(0): 0.0}, {key(0): 1.0, key(1): 0.0}, resamples=10, seed=1)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_likelihood_that_is_no_number_is_refused(number: float) -> None:
    with pytest.raises(InputError, match=r"model 'm': its likelihood .* ends with 'question'"):
        refuse_nan((number, False), "m", "question")


def test_a_probability_of_zero_is_a_number() -> None:
    refuse_nan((-math.inf, False), "m", "question")
    refuse_nan("generated", "m", "question")


def test_requests_are_told_apart_by_kind_prompt_and_answer() -> None:
    keys = {
        request_key("loglikelihood", ("a", "b")),
        request_key("loglikelihood", ("ab", "")),
        request_key("generate_until", ("a", {"until": ["b"], "do_sample": False})),
    }
    assert len(keys) == 3
    same = request_key("generate_until", ("a", {"do_sample": False, "until": ["b"]}))
    assert same in keys


def test_a_request_asked_again_has_a_name_of_its_own() -> None:
    first, other, again, third = request_keys("generate_until", [("a",), ("b",), ("a",), ("a",)])
    assert len({first, other, again, third}) == 4
    assert first == request_key("generate_until", ("a",))


def sample(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "doc_id": 0,
        "doc": {"q": 1},
        "target": 1,
        "arguments": [("Q: 1?\nA:", " no"), ("Q: 1?\nA:", " yes, it is")],
        "resps": [[(-1.0, False)], [(-3.0, True)]],
        "filtered_resps": [(-1.0, False), (-3.0, True)],
        "filter": "none",
        "metrics": ["acc"],
        "acc": 0.0,
        **{"doc_hash": "d", "prompt_hash": "p", "target_hash": "t"},
    }
    return found | changes


def test_a_prompt_stands_once_in_a_row() -> None:
    (row,) = item_rows({"t": [sample()]})
    assert row["prompt"] == "Q: 1?\nA:"
    assert row["continuations"] == [" no", " yes, it is"]
    assert row["answers"] == [[-1.0, False], [-3.0, True]]
    assert values_of([row], "acc", "none") == {("t", 0): 0.0}
    assert values_of([row], "acc", "strict") == {}


def test_the_choice_is_the_likeliest_or_the_likeliest_by_length() -> None:
    (row,) = item_rows({"t": [sample()]})
    assert chosen_text(row, "acc") == "no"
    assert chosen_text(row, "acc_norm") == "yes, it is"  # -1/2 against -3/10


def test_choices_in_the_prompt_are_told_by_where_prompts_part() -> None:
    args = [
        ("A dog and a duck, because the dog", " ran"),
        ("A dog and a duck, because the duck", " ran"),
    ]
    (row,) = item_rows({"t": [sample(arguments=args)]})
    assert chosen_text(row, "acc") == "dog"
    assert shared_prompt(row) == "A dog and a duck, because the"


def test_generated_text_is_shown_as_the_filter_gives_it() -> None:
    args = [("Q: 1?\nA:", {"until": ["\n"]})]
    made = sample(arguments=args, resps=[["It is 2. #### 2"]], filtered_resps=["2"])
    (row,) = item_rows({"t": [made]})
    assert row["generated"] == ["It is 2. #### 2"]
    assert chosen_text(row, "exact_match") == "2"


def test_all_responses_of_an_item_asked_several_times_are_kept() -> None:
    args = [("Q: 1?\nA:", {"until": ["\n"]})]
    made = sample(arguments=args, resps=[["2", "3", "2"]], filtered_resps=["2"])
    (row,) = item_rows({"t": [made]})
    assert row["generated"] == ["2", "3", "2"]
    assert chosen_text(row, "exact_match") == "2"


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    import numpy as np

    (row,) = item_rows({"t": [sample(acc=np.float64(0.5))]})
    write_items(tmp_path / "x.jsonl", [row, row])
    assert read_items(tmp_path / "x.jsonl")[1]["metrics"] == {"acc": 0.5}


def test_damaged_rows_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"a": 1}\n{"a"')
    with pytest.raises(VerifyError, match="cannot be read"):
        read_items(tmp_path / "x.jsonl")


class ByteModel:
    """A model of the harness that has a token a byte."""

    max_length, max_gen_toks = 20, 5

    def tok_encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return list(text.encode())


class WordModel:
    """A model of the harness that has a token a word, and a BOS if told so."""

    max_length, max_gen_toks = 20, 5

    def __init__(self, has_bos: bool) -> None:
        self._bos = [0] if has_bos else []

    def tok_encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return [*(self._bos if add_special_tokens else []), *map(len, text.split())]


def request(prompt: str, answer: Any, doc_id: int = 0) -> SimpleNamespace:
    return SimpleNamespace(args=(prompt, answer), task_name="t", doc_id=doc_id)


def test_items_longer_than_the_context_are_counted_once() -> None:
    fitting = Fitting("m", ByteModel(), refuse=False)
    fits, long = "a" * 19, "a" * 20
    requests = [request(fits, "bb", 0), request(long, "b", 1), request(long, "bb", 1)]
    fitting.inspect("loglikelihood", [*requests, request(long, "bb", 2)])
    assert fitting.num_items == 2  # 20 tokens before the last fit: item 1 by one answer, not both


@pytest.mark.parametrize("has_bos", [False, True])
@pytest.mark.parametrize("answer", [" A", " false", " something longer"])
def test_prompt_and_answer_are_counted_as_one_text(answer: str, has_bos: bool) -> None:
    # 20 tokens are read, and the last of the answer is not: 21 with BOS and answer fit
    most = 21 - len(answer.split()) - has_bos
    for num_words in range(most - 2, most + 3):
        fitting = Fitting("m", WordModel(has_bos), refuse=False)
        prompt = " ".join(["wordwordw"] * num_words)
        fitting.inspect("loglikelihood", [request(prompt, answer)])
        assert fitting.num_items == (num_words > most)


def test_one_token_stands_for_an_empty_prompt() -> None:
    fitting = Fitting("m", WordModel(True), refuse=False)
    fitting.inspect("loglikelihood", [request("", "wordword " * 20)])
    with pytest.raises(InputError, match="needs 21 for its answer alone"):
        fitting.inspect("loglikelihood", [request("", "wordword " * 21)])


@pytest.mark.parametrize(
    ("settings", "most"), [({}, 15), ({"max_gen_toks": 8}, 12), ({"max_new_tokens": 8}, 12)]
)
def test_tokens_to_generate_have_any_of_their_names(settings: Any, most: int) -> None:
    fitting = Fitting("m", ByteModel(), refuse=False)
    fitting.inspect("generate_until", [request("a" * most, settings)])
    assert fitting.num_items == 0
    fitting.inspect("generate_until", [request("a" * (most + 1), settings)])
    assert fitting.num_items == 1
    with pytest.raises(InputError, match="needs 20 for its answer alone"):
        fitting.inspect("generate_until", [request("a", {"max_tokens": 20})])


def test_generated_text_needs_room_too() -> None:
    fitting = Fitting("m", ByteModel(), refuse=False)
    fitting.inspect("generate_until", [request("a" * 15, {}), request("a" * 16, {}, 1)])
    assert fitting.num_items == 1
    fitting.inspect("loglikelihood_rolling", [request("a" * 99, "")])
    assert fitting.num_items == 1


def test_too_long_items_can_be_refused() -> None:
    fitting = Fitting("m", ByteModel(), refuse=True)
    with pytest.raises(InputError, match="1 items are longer, the longest is t 3 by 4 tokens"):
        fitting.inspect("loglikelihood", [request("a" * 23, "bb", 3)])


def test_an_answer_longer_than_the_context_is_refused() -> None:
    fitting = Fitting("m", ByteModel(), refuse=False)
    with pytest.raises(InputError, match="needs 21 for its answer alone"):
        fitting.inspect("loglikelihood", [request("a", "b" * 21)])


def results() -> dict[str, Any]:
    score = {"value": 0.25, "stderr": 0.01, "num_too_long": 0, "time_s": 1.0, "others": {}}
    worse = {"value": -0.05, "low": -0.1, "high": 0.01, "num_better": 1, "num_worse": 6}
    row = {
        "benchmark": "ceval-valid",
        "title": "C-Eval (val)",
        "num_fewshot": 5,
        "metric": "acc",
        "num_items": 1_346,
        "scores": {"base": score, "ext": score | {"value": 0.2, "stderr": None}},
        "differences": {"ext": worse},
        "subjects": {
            "ceval-valid_law": {
                "title": "law",
                "num_items": 24,
                "scores": {"base": 0.5, "ext": None},
            }
        },
        "notes": ["something | to know"],
    }
    return {
        **{"suite": "zh", "harness": "1", "lingraft": "2", "resamples": 10, "seed": 3},
        "models": [{"name": "base"}, {"name": "ext"}],
        "rows": [row],
        "average": {"base": 0.25, "ext": 0.2},
        "commands": ["lm_eval run"],
    }


def test_the_table_shows_scores_and_differences() -> None:
    table = result_table(results(), published=False)
    assert table.columns == ["model", "C-Eval (val)\n5 shots, acc\n1,346 items", "average"]
    assert table.rows == [
        ["base", "25.00 ±1.00", "25.00"],
        ["ext", "20.00", "20.00"],
        ["  to the base (95%)", "-5.00 (-10.00 to +1.00)", ""],
    ]


def test_published_figures_stand_beside_where_asked() -> None:
    rows = result_table(results(), published=True).rows
    assert rows[3:] == [
        ["published: IDEA-CCNL/Ziya2-13B-Base", "59.29", ""],
        ["published: TigerResearch/tigerbot-13b-base-v3", "50.52", ""],
        ["published: Linly-AI/Chinese-LLaMA-2-13B-hf", "42.57", ""],
        ["published: hfl/chinese-llama-2-13b", "41.90", ""],
        ["published: HIT-SCIR/Chinese-Mixtral-8x7B", "52.08", ""],
    ]


def test_published_figures_are_not_set_beside_other_shots() -> None:
    other = results()
    other["rows"][0]["num_fewshot"] = 0
    assert len(result_table(other, published=True).rows) == 3


def test_the_published_average_is_that_of_its_six() -> None:
    entry = published_figures()["rows"][-1]
    assert round(sum(entry["values"].values()) / 6, 2) == pytest.approx(entry["average"], abs=0.01)


def test_subjects_have_a_table_of_their_own() -> None:
    found = results()
    table = subject_table(found["rows"][0], ["base", "ext"])
    assert table.rows == [["law", "24", "50.00", "-"]]
    text = markdown(found)
    assert "| base | 25.00 ±1.00 | 25.00 |" in text
    assert "- something | to know" in text
    assert json.dumps(found)
