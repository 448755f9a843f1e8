"""Benchmarks read from files: the rows that the harness's tasks want, and what is refused."""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from pathlib import Path

import pytest
from benchmark_files import (
    arc_requests,
    write_arc,
    write_arrow,
    write_gsm8k,
    write_hellaswag,
    write_subjects,
    write_truthfulqa,
    write_winogrande,
)

from lingraft.errors import InputError, UsageError, VerifyError
from lingraft.evals.localdata import find_local, local_names, read_local
from lingraft.evals.taskfolder import check_sources, local_benchmarks, write_task_folder


def test_ceval_rows_carry_the_fields_of_the_hub(tmp_path: Path) -> None:
    write_subjects(tmp_path, "ceval", ["law", "logic"])
    found = read_local("ceval", tmp_path)
    assert [task.name for task in found.tasks] == ["ceval-valid_law", "ceval-valid_logic"]
    law = found.tasks[0].splits
    assert (len(law["dev"]), len(law["val"])) == (5, 3)
    assert law["val"][1] == {
        "question": "law，第 1 题：几天？",
        **{"A": "1 天", "B": "2 天", "C": "3 天", "D": "4 天"},
        "answer": "B",
    }
    assert len(found.files) == 4


def test_cmmlu_rows_carry_the_fields_of_the_hub(tmp_path: Path) -> None:
    write_subjects(tmp_path, "cmmlu", ["arts"])
    (task,) = read_local("cmmlu", tmp_path).tasks
    assert task.name == "cmmlu_arts"
    assert sorted(task.splits["test"][0]) == ["A", "Answer", "B", "C", "D", "Question"]


def test_mmlu_is_the_same_from_arrow_and_from_csv(tmp_path: Path) -> None:
    rows = [{"question": "2, or 3?", "choices": ["1", "2", "3", "4"], "answer": 2}]
    for split in ("dev", "test"):
        write_arrow(tmp_path / "arrow/mmlu/hf_datasets_mmlu_no_train/anatomy" / split, rows)
        path = tmp_path / "csv/mmlu" / split / f"anatomy_{split}.csv"
        path.parent.mkdir(parents=True)
        path.write_text('question,choice0,choice1,choice2,choice3,answer\n"2, or 3?",1,2,3,4,2\n')
    from_arrow = read_local("mmlu", tmp_path / "arrow").tasks
    assert from_arrow == read_local("mmlu", tmp_path / "csv").tasks
    assert from_arrow[0].splits["test"] == rows


def test_items_set_aside_are_not_evaluated(tmp_path: Path) -> None:
    write_winogrande(tmp_path, num_items=200)
    found = read_local("winogrande", tmp_path)
    splits = found.tasks[0].splits
    assert (len(splits["train"]), len(splits["validation"])) == (64, 136)
    assert not any(row in splits["validation"] for row in splits["train"])
    order = [row["sentence"] for row in splits["validation"]]
    assert order == sorted(order, key=lambda text: int(text.split()[1]))
    assert "64 of 200 validation items are set aside" in found.notes[0]


def test_half_of_a_small_set_is_set_aside_at_most(tmp_path: Path) -> None:
    write_hellaswag(tmp_path, num_items=10)
    splits = read_local("hellaswag", tmp_path).tasks[0].splits
    assert (len(splits["train"]), len(splits["validation"])) == (5, 5)


def test_arc_items_come_out_of_requests_once(tmp_path: Path) -> None:
    write_arc(tmp_path, num_items=3)
    (task,) = read_local("arc_challenge", tmp_path).tasks
    assert [row["id"] for row in task.splits["test"]] == ["test-0", "test-1", "test-2"]
    assert task.splits["test"][0] == {
        "id": "test-0",
        "question": "How many stones\nare in the box of test-0?",
        "choices": {"text": ["0 stones", "1 stones", "2 stones"], "label": ["A", "B", "C"]},
        "answerKey": "A",
    }
    assert task.splits["test"][2]["answerKey"] == "C"


def test_truthfulqa_targets_become_lists(tmp_path: Path) -> None:
    write_truthfulqa(tmp_path, num_items=1)
    mc1, mc2 = read_local("truthfulqa", tmp_path).tasks
    assert (mc1.name, mc2.name) == ("truthfulqa_mc1", "truthfulqa_mc2")
    targets = mc2.splits["validation"][0]["mc2_targets"]
    assert targets == {"choices": ["1", "The number 1.", "Nothing."], "labels": [1, 1, 0]}


def test_gsm8k_is_read_as_it_is(tmp_path: Path) -> None:
    write_gsm8k(tmp_path, num_items=2)
    splits = read_local("gsm8k", tmp_path).tasks[0].splits
    assert splits["test"][1] == {"question": "What is 1 and 0?", "answer": "They are 1.\n#### 1"}


@pytest.mark.parametrize("benchmark", local_names())
def test_a_missing_file_is_named(benchmark: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_local(benchmark, tmp_path)


def test_a_missing_example_file_is_named(tmp_path: Path) -> None:
    write_subjects(tmp_path, "ceval", ["law"])
    (tmp_path / "ceval/dev/law_dev.csv").unlink()
    with pytest.raises(InputError, match=r"law_dev\.csv: no such file"):
        read_local("ceval", tmp_path)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("id,question,A,B,C,D,answer\n0,q,1,2,3,4,E\n", "row 0 has the answer 'E'"),
        ("id,question,A,B,C,D,answer\n0,q,1,2,3,4,A\n1,q,1,2,3,4,2\n", "row 1 has the answer '2'"),
        ("id,question,A,B,C,answer\n0,q,1,2,3,A\n", "row 0 has no field 'D'"),
        ("id,question,A,B,C,D,answer\n0,q,1,2\n", "row 0 has no field 'C'"),
        ("id,question,A,B,C,D,answer\n", "no rows"),
    ],
)
def test_a_damaged_csv_is_refused(content: str, problem: str, tmp_path: Path) -> None:
    write_subjects(tmp_path, "ceval", ["law"])
    (tmp_path / "ceval/val/law_val.csv").write_text(content)
    with pytest.raises(InputError, match=problem):
        read_local("ceval", tmp_path)


def test_a_csv_with_an_open_quote_is_refused(tmp_path: Path) -> None:
    write_subjects(tmp_path, "mmlu", ["anatomy"])
    path = tmp_path / "mmlu/test/anatomy_test.csv"
    path.write_text(path.read_text("utf-8") + '9,"' + "x" * 140_000, encoding="utf-8")
    with pytest.raises(InputError, match=r"test\.csv: the row from line 5 on: field larger"):
        read_local("mmlu", tmp_path)


def test_spaces_around_an_answer_are_none_of_it(tmp_path: Path) -> None:
    write_subjects(tmp_path, "ceval", ["law"])
    path = tmp_path / "ceval/val/law_val.csv"
    path.write_text("id,question,A,B,C,D,answer\n0,q ,1,2,3,4, B \n")
    row = read_local("ceval", tmp_path).tasks[0].splits["val"][0]
    assert (row["question"], row["answer"]) == ("q ", "B")
    path.write_text("id,question,A,B,C,D,answer\n0,q,1,2,3,4,3\n")
    with pytest.raises(
        InputError, match=r"law_val\.csv: row 0 has the answer '3'; .* A, B, C, D\."
    ):
        read_local("ceval", tmp_path)


@pytest.mark.parametrize("answer", ["C", " C ", "2", " 2"])
def test_answers_of_mmlu_are_letters_or_numbers(answer: str, tmp_path: Path) -> None:
    for split in ("dev", "test"):
        path = tmp_path / "mmlu" / split / f"anatomy_{split}.csv"
        path.parent.mkdir(parents=True)
        path.write_text(f"question,choice0,choice1,choice2,choice3,answer\nq,1,2,3,4,{answer}\n")
    assert read_local("mmlu", tmp_path).tasks[0].splits["test"][0]["answer"] == 2
    path.write_text("question,choice0,choice1,choice2,choice3,answer\nq,1,2,3,4,E\n")
    with pytest.raises(InputError, match="the answer 'E'"):
        read_local("mmlu", tmp_path)


def test_a_damaged_arrow_file_is_refused(tmp_path: Path) -> None:
    write_winogrande(tmp_path)
    next(tmp_path.rglob("*.arrow")).write_bytes(b"not arrow")
    with pytest.raises(InputError, match="not an Arrow stream"):
        read_local("winogrande", tmp_path)


def test_an_arrow_file_cut_short_is_refused(tmp_path: Path) -> None:
    write_winogrande(tmp_path)
    path = next(tmp_path.rglob("*.arrow"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(InputError, match=r"arrow: not an Arrow stream"):
        read_local("winogrande", tmp_path)


def test_places_outside_an_arrow_file_are_refused(tmp_path: Path) -> None:
    names = ("sentence", "option1", "option2", "answer")
    write_arrow(
        tmp_path / "winogrande/hf_datasets/winogrande_xl/validation",
        [dict.fromkeys(names, "x" * 77_777)],
    )
    path = next(tmp_path.rglob("*.arrow"))
    content = bytearray(path.read_bytes())
    place = content.rindex(struct.pack("<ii", 0, 77_777))  # where a column's text begins and ends
    content[place : place + 8] = struct.pack("<ii", 0, 1 << 30)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"arrow: not an Arrow stream"):
        read_local("winogrande", tmp_path)


def test_arc_requests_without_their_choices_are_refused(tmp_path: Path) -> None:
    write_arc(tmp_path)
    request = arc_requests("x", 1)[0]
    request["doc"]["query"] = "Question: what?\nAnswer:"
    path = tmp_path / "arc/olmo/arc_challenge/test_mc_5shot/requests.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(request).encode()))
    with pytest.raises(InputError, match="line 1: no question with the choices A, B, C, D"):
        read_local("arc_challenge", tmp_path)


def test_a_damaged_gzip_is_refused(tmp_path: Path) -> None:
    write_arc(tmp_path)
    (tmp_path / "arc/olmo/arc_challenge/test_mc_5shot/requests.jsonl.gz").write_bytes(b"plain")
    with pytest.raises(InputError, match="Fetch the file again"):
        read_local("arc_challenge", tmp_path)


def test_a_gzip_with_other_bytes_inside_is_refused(tmp_path: Path) -> None:
    write_arc(tmp_path)
    path = tmp_path / "arc/olmo/arc_challenge/test_mc_5shot/requests.jsonl.gz"
    content = bytearray(path.read_bytes())
    content[40:60] = bytes(byte ^ 0x5A for byte in content[40:60])
    path.write_bytes(content)
    with pytest.raises(zlib.error):  # not an OSError
        gzip.decompress(content)
    with pytest.raises(InputError, match=r"requests\.jsonl\.gz: Error -3"):
        read_local("arc_challenge", tmp_path)


GOOD = '{"question": "q", "answer": "a"}\n'


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ('{"question": ', "line 2: not JSON"),
        ("{}", "item 2 has None for 'question'; expected a text"),
        ("3", "item 2 has None for 'question'"),
        ('{"question": 5, "answer": "a"}', "item 2 has 5 for 'question'"),
        ('{"question": "q", "answer": null}', "item 2 has None for 'answer'"),
    ],
)
def test_a_damaged_jsonl_is_refused(row: str, problem: str, tmp_path: Path) -> None:
    write_gsm8k(tmp_path)
    (tmp_path / "gsm8k/test.jsonl").write_text(f"{GOOD}{row}\n")
    with pytest.raises(InputError, match=rf"test\.jsonl: {problem}"):
        read_local("gsm8k", tmp_path)


def test_an_arrow_file_without_its_fields_is_refused(tmp_path: Path) -> None:
    write_arrow(tmp_path / "hellaswag/hf_datasets/none/validation", [{"ctx": "A"}])
    with pytest.raises(InputError, match="validation: item 1 has None for 'activity_label'"):
        read_local("hellaswag", tmp_path)


def test_a_json_file_that_is_no_list_is_refused(tmp_path: Path) -> None:
    write_truthfulqa(tmp_path)
    (tmp_path / "truthfulqa/data/v1/mc_task.json").write_text("3")
    with pytest.raises(InputError, match="an item is not as truthfulqa has it: TypeError"):
        read_local("truthfulqa", tmp_path)


@pytest.mark.parametrize("row", ['{"extra": "x"}', r'{"extra": "\ud83d"}'])
def test_items_that_fit_into_no_table_are_refused(row: str, tmp_path: Path) -> None:
    write_gsm8k(tmp_path)
    rows = [json.loads(GOOD) | json.loads(more) for more in ('{"extra": 5}', row)]
    text = "".join(json.dumps(one) + "\n" for one in rows[row.count("u") :])
    (tmp_path / "gsm8k/test.jsonl").write_text(text)
    configs = {"gsm8k": Path("/harness/gsm8k.yaml")}
    with pytest.raises(InputError, match=r"gsm8k: the items of gsm8k \(test\) are not all of one"):
        write_task_folder(["gsm8k"], ["gsm8k"], tmp_path, tmp_path / "tasks", configs)


@pytest.mark.parametrize(
    ("name", "benchmark"),
    [
        ("ceval-valid", "ceval"),
        ("ceval-valid_law", "ceval"),
        ("mmlu_stem", "mmlu"),
        ("truthfulqa_mc1", "truthfulqa"),
        ("truthfulqa_gen", None),
        ("hellaswag_fr", None),
    ],
)
def test_a_task_belongs_to_a_benchmark(name: str, benchmark: str | None) -> None:
    assert find_local(name) == benchmark


def test_a_task_without_local_files_is_refused() -> None:
    with pytest.raises(UsageError, match="'piqa' with --data-dir: lingraft reads no local files"):
        local_benchmarks(["winogrande", "piqa"])


def test_the_task_folder_includes_the_harness_own_configuration(tmp_path: Path) -> None:
    write_winogrande(tmp_path / "data")
    config = Path("/harness/winogrande.yaml")
    folder = tmp_path / "tasks"
    sources = write_task_folder(
        ["winogrande"], ["winogrande"], tmp_path / "data", folder, {"winogrande": config}
    )
    lines = (folder / "winogrande.yaml").read_text().splitlines()
    assert lines[:3] == [f'include: "{config}"', "dataset_path: parquet", "dataset_name: null"]
    assert sources["benchmarks"]["winogrande"]["items"] == {
        "winogrande": {"train": 6, "validation": 6}
    }
    assert sources == json.loads((folder / "sources.json").read_text())


def test_rows_of_a_task_that_the_harness_lacks_are_refused(tmp_path: Path) -> None:
    write_subjects(tmp_path, "ceval", ["alchemy"])
    with pytest.raises(InputError, match="rows of 'ceval-valid_alchemy'"):
        write_task_folder(["ceval"], [], tmp_path, tmp_path / "tasks", {})


def test_subjects_without_files_are_refused(tmp_path: Path) -> None:
    write_subjects(tmp_path, "ceval", ["law"])
    configs = {"ceval-valid_law": Path("/harness/law.yaml")}
    wanted = ["ceval-valid_law", "ceval-valid_logic"]
    with pytest.raises(InputError, match="no rows of 1 tasks, the first is 'ceval-valid_logic'"):
        write_task_folder(["ceval"], wanted, tmp_path, tmp_path / "tasks", configs)
    assert not (tmp_path / "tasks/sources.json").exists()


@pytest.mark.parametrize(("change", "problem"), [("", "is gone"), ("{}", "has other bytes")])
def test_changed_data_files_are_noticed(change: str, problem: str, tmp_path: Path) -> None:
    write_gsm8k(tmp_path)
    configs = {"gsm8k": Path("/harness/gsm8k.yaml")}
    sources = write_task_folder(["gsm8k"], ["gsm8k"], tmp_path, tmp_path / "tasks", configs)
    check_sources(sources, tmp_path, tmp_path / "tasks")
    path = tmp_path / "gsm8k/test.jsonl"
    path.write_text(change) if change else path.unlink()
    with pytest.raises(VerifyError, match=rf"test\.jsonl: {problem}"):
        check_sources(sources, tmp_path, tmp_path / "tasks")


@pytest.mark.parametrize("name", ["gsm8k.yaml", "rows/gsm8k-test.parquet"])
def test_changed_task_files_are_noticed(name: str, tmp_path: Path) -> None:
    write_gsm8k(tmp_path)
    configs = {"gsm8k": Path("/harness/gsm8k.yaml")}
    folder = tmp_path / "tasks"
    sources = write_task_folder(["gsm8k"], ["gsm8k"], tmp_path, folder, configs)
    (folder / name).write_text("x")
    with pytest.raises(VerifyError, match=rf"{name}: has other bytes"):
        check_sources(sources, tmp_path, folder)
