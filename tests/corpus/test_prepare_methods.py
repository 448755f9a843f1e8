"""The methods of `lingraft corpus prepare` at work together: what they drop, mask and count."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from corpora import bytes_of, rows_of

from lingraft.corpus import engine, plan, prepare
from lingraft.corpus.settings import CorpusSettings, method_inputs
from lingraft.documents import read_documents
from lingraft.errors import InputError, UsageError

WORDS = [f"{a}{b}{c}" for a in "bdfgk" for b in "aeiou" for c in ("n", "r", "s", "t")]


def prose(seed: int, count: int = 120) -> str:
    """Give words in no order, as sentences: every rule of quality is content."""
    rng = random.Random(seed)
    words = [rng.choice(WORDS) + rng.choice(WORDS) for _ in range(count)]
    return ". ".join(" ".join(words[n : n + 12]) for n in range(0, count, 12)) + "."


TEXTS = [prose(n) for n in range(60)]


def near(text: str) -> str:
    """Change one word in the middle."""
    words = text.split(" ")
    words[60] = "CHANGED"
    return " ".join(words)


def make(folder: Path, texts: Sequence[str], out: str = "out", **options: Any) -> dict[str, Any]:
    source = folder / "set.jsonl"
    source.write_bytes(rows_of(texts))
    options = {"valid_frac": 0.2, "language": "en", "jobs": 1, **options}
    found: dict[str, Any] = prepare(source, out=folder / out, **options).stats["sets"]["set"]
    return found


def kept_in(folder: Path, splits: Sequence[str] = ("train", "valid")) -> list[str]:
    return [d.text for split in splits for d in read_documents(folder / f"set-{split}.jsonl")]


def test_of_near_duplicates_the_first_stays(tmp_path: Path) -> None:
    texts = [*TEXTS, *(near(text) for text in TEXTS[:5]), TEXTS[7]]
    found = make(tmp_path, texts, near_duplicates=True)
    assert found["dropped"] == {"duplicate": 1, "near_duplicate": 5}
    assert sorted(kept_in(tmp_path / "out")) == sorted(TEXTS)
    shown = found["examples"]["dropped"]["near_duplicate"]
    assert [example["where"].rpartition(":")[2] for example in shown] == list(
        map(str, range(61, 66))
    )


def test_without_exact_duplicates_equal_texts_are_near_ones(tmp_path: Path) -> None:
    found = make(tmp_path, [*TEXTS, TEXTS[0]], near_duplicates=True, deduplicate=False)
    assert found["dropped"] == {"near_duplicate": 1}


@pytest.fixture
def cut_small(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    def cut(unit_bytes: int, bucket_bytes: int) -> None:
        monkeypatch.setattr(plan, "_UNIT_BYTES", unit_bytes)
        monkeypatch.setattr(plan, "_MOST_UNITS", 1 << 30)
        monkeypatch.setattr(plan, "_BUCKET_BYTES", bucket_bytes)
        monkeypatch.setattr(engine, "_SMALL_BYTES", 0)

    return cut


@pytest.mark.parametrize("jobs", [1, 2])
def test_all_methods_together_give_the_same_bytes_in_any_cut(
    jobs: int, tmp_path: Path, cut_small: Callable[[int, int], None]
) -> None:
    texts = [*TEXTS, *(near(text) for text in TEXTS[::3]), "x" * 900, *TEXTS[5:9], "a b " * 300]
    (tmp_path / "exam.jsonl").write_text(
        json.dumps({"question": TEXTS[11][:200]}), encoding="utf-8"
    )
    options: dict[str, Any] = {
        "near_duplicates": True,
        "quality": True,
        "decontaminate": tmp_path / "exam.jsonl",
        "mask": ["email"],
        "keep_dropped": True,
        "test_frac": 0.1,
    }
    found = make(tmp_path, texts, **options)
    assert found["dropped"]["near_duplicate"] == 20
    assert found["dropped"]["benchmark_overlap"] == 1
    assert len(found["dropped"]) >= 4
    cut_small(3000, 9000)
    make(tmp_path, texts, out="other", **{**options, "jobs": jobs})
    assert bytes_of(tmp_path / "other") == bytes_of(tmp_path / "out")


def test_repetition_and_other_scripts_are_dropped_by_reason(tmp_path: Path) -> None:
    chinese = "这是一篇很长的文章，里面没有拉丁字母，所以它的文字不对。" * 3
    texts = [*TEXTS, "\n".join(["the same line again and again"] * 40), chinese]
    found = make(tmp_path, texts, quality={"scripts": ["Latin"]})
    assert found["num_docs_read"] - sum(found["dropped"].values()) == 60
    assert sum(found["dropped"].values()) == 2


def test_personal_data_is_masked_and_counted(tmp_path: Path) -> None:
    texts = [*TEXTS, f"Write to someone.else@mail.org or me@here.net. {prose(99)}"]
    found = make(tmp_path, texts, mask=["email"])
    assert found["masked"] == {"email": 2}
    assert not [text for text in kept_in(tmp_path / "out") if "someone.else" in text]


def test_traditional_characters_become_simplified_before_texts_are_compared(
    tmp_path: Path,
) -> None:
    pytest.importorskip("opencc", reason="needs OpenCC (extra zh)")
    pairs = [("漢語是一種語言，有很多方言，歷史悠久。", "汉语是一种语言，有很多方言，历史悠久。")]
    rows = [text for pair in pairs for text in pair]
    found = make(tmp_path, [*TEXTS, *rows], simplify=True)
    assert found["dropped"] == {"duplicate": 1}
    assert pairs[0][1] in kept_in(tmp_path / "out")


@pytest.fixture
def exam(tmp_path: Path) -> Path:
    """A benchmark whose three questions stand in three documents."""
    rows = [json.dumps({"question": text[100:400]}) for text in TEXTS[:3]]
    path = tmp_path / "exam.jsonl"
    path.write_text("\n".join(rows), encoding="utf-8")
    return path


def test_documents_that_overlap_a_benchmark_are_dropped(tmp_path: Path, exam: Path) -> None:
    found = make(tmp_path, TEXTS, decontaminate=[exam])
    assert (found["dropped"], found["overlaps"]) == ({"benchmark_overlap": 3}, {"exam": 3})


def test_a_benchmark_that_nothing_overlaps_is_told_too(tmp_path: Path, exam: Path) -> None:
    found = make(tmp_path, TEXTS[3:], decontaminate=[exam])
    assert (found["dropped"], found["overlaps"]) == ({}, {"exam": 0})


def test_overlaps_may_be_dropped_from_some_splits_only(tmp_path: Path, exam: Path) -> None:
    make(tmp_path, TEXTS, out="whole")
    held_out = set(kept_in(tmp_path / "whole", ["valid"])) & set(TEXTS[:3])
    found = make(
        tmp_path, TEXTS, decontaminate=[exam], decontaminate_splits=["valid"], valid_frac=0.2
    )
    assert found["overlaps"] == {"exam": 3}
    assert found["dropped"].get("benchmark_overlap", 0) == len(held_out)
    assert set(TEXTS[:3]) - held_out <= set(kept_in(tmp_path / "out", ["train"]))


def test_a_benchmark_that_changes_meanwhile_is_told(
    tmp_path: Path, exam: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = plan.make_plan

    def meanwhile(*arguments: Any, **options: Any) -> plan.Plan:
        made = real(*arguments, **options)
        exam.write_text(json.dumps({"question": prose(500)}), encoding="utf-8")
        return made

    monkeypatch.setattr("lingraft.corpus.command.make_plan", meanwhile)
    with pytest.raises(InputError, match=r"exam\.jsonl: not what it was"):
        make(tmp_path, TEXTS, decontaminate=[exam])


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"mask": {"phone_regions": ["XX"]}}, "XX"),
        ({"mask": ["fax"]}, "fax"),
        ({"quality": {"scripts": ["Hann"]}}, "Hann"),
        ({"decontaminate": ["absent"]}, "absent"),
    ],
)
def test_what_a_method_cannot_do_is_told_before_any_work(
    options: dict[str, Any], text: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=text):
        make(tmp_path, TEXTS, **options)
    assert not (tmp_path / "out" / ".work").exists()


def test_what_methods_depend_on_is_part_of_the_identity(tmp_path: Path) -> None:
    row: dict[str, Any] = {"name": "a", "language": "zh", "sources": [str(tmp_path)]}
    plain = CorpusSettings.model_validate({"sets": [row]})
    assert method_inputs(plain) == {}
    row |= {"simplify": True}
    methods: dict[str, Any] = {"near_duplicates": {}, "mask": {}}
    asked = CorpusSettings.model_validate({"sets": [row], **methods})
    assert set(method_inputs(asked)) == {"OpenCC", "characters", "minhash", "phonenumbers"}
    assert method_inputs(asked).items() <= asked.outside().items()


def test_units_that_keep_nothing_are_matched_too(
    tmp_path: Path, cut_small: Callable[[int, int], None]
) -> None:
    cut_small(2000, 1 << 20)
    found = make(
        tmp_path,
        [*["short"] * 300, *TEXTS, near(TEXTS[0]), *["x"] * 800],
        jobs=1,
        near_duplicates=True,
    )
    assert found["dropped"] == {"near_duplicate": 1, "too_short": 1100}
