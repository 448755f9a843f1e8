"""The stage as a run calls it: artefacts in, files and facts out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from artefacts import empty_draft, make_artefact
from pydantic import ValidationError
from searches import write_rows
from small_tokenizers import build

from lingraft.errors import InputError, UsageError
from lingraft.manifest import Facts
from lingraft.store import Artefact
from lingraft.vocab import engine, stage
from lingraft.vocab.settings import VocabFacts, VocabSettings

TRAIN = ["房间很干净，房间很大", "房间干净", "很大很大", "中文房间", "中文很好"] * 3
VALID = ["房间很干净", "中文很大，很好"]


class _CorpusFacts(Facts):
    sets: dict[str, dict[str, dict[str, int]]]


def inputs_in(folder: Path, train: Sequence[str] = TRAIN) -> Mapping[str, Artefact]:
    def corpus(path: Path) -> Facts:
        write_rows(path / "zh-train.jsonl", train)
        write_rows(path / "zh-valid.jsonl", VALID)
        sizes = {"train": {"num_docs": len(train)}, "valid": {"num_docs": len(VALID)}}
        return _CorpusFacts(sets={"zh": sizes})

    def base(path: Path) -> Facts:
        (path / "tokenizer.model").write_bytes(build())
        return Facts()

    return {
        "corpus": make_artefact(folder, "10-corpus", corpus),
        "base": make_artefact(folder, "15-base", base),
    }


def settings_with(**values: Any) -> VocabSettings:
    common = {"sets": ["zh"], "evaluation": ["zh"], "char_counts": [4, 2], "max_pieces": 8}
    return VocabSettings(**{**common, **values})


def search(folder: Path, **values: Any) -> tuple[VocabFacts, Artefact]:
    draft = empty_draft(folder, "20-vocab")
    facts = stage.run(settings_with(**values), inputs_in(folder), draft)
    return facts, draft.seal(facts, {})


def rows_of(artefact: Artefact) -> list[dict[str, Any]]:
    lines = artefact.file("pieces.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_the_files_of_a_search_are_written(tmp_path: Path) -> None:
    _, artefact = search(tmp_path, size=6)
    assert sorted(entry.path for entry in artefact.manifest.files) == [
        "alp.html", "alp.svg", "choice.json", "curves.parquet", "pieces.jsonl", "pieces.txt",
        "rules.parquet",
    ]  # fmt: skip


def test_pieces_are_characters_by_count_and_then_rules_in_order(tmp_path: Path) -> None:
    """Bytes in the base: 很 15, 大 9, 房 12, 间 12, 干 6, 净 6, 好 3; 房间 joins 12 times."""
    _, artefact = search(tmp_path, size=6, num_chars=4)
    assert rows_of(artefact)[:5] == [
        {"piece": "很", "kind": "char", "left": "", "right": "", "count": 15},
        {"piece": "房", "kind": "char", "left": "", "right": "", "count": 12},
        {"piece": "间", "kind": "char", "left": "", "right": "", "count": 12},
        {"piece": "大", "kind": "char", "left": "", "right": "", "count": 9},
        {"piece": "房间", "kind": "rule", "left": "房", "right": "间", "count": 12},
    ]


def test_facts_count_every_size_of_every_curve(tmp_path: Path) -> None:
    facts, artefact = search(tmp_path, size=6)
    curves = pq.read_table(artefact.file("curves.parquet"))
    assert [c.num_chars for c in facts.curves] == [2, 4]
    assert facts.num_candidates == sum(c.num_rules + 1 for c in facts.curves) == len(curves)
    assert (facts.num_pieces, facts.rule, facts.num_chars_in_base) == (6, "given", 2)
    assert facts.rule_count_at_cut == rows_of(artefact)[-1]["count"]
    choice = json.loads(artefact.file("choice.json").read_text(encoding="utf-8"))
    assert choice["reasons"] == facts.reasons
    assert facts.knee == choice["knee"]


def test_curves_give_alp_and_tokens_per_character_at_their_sizes(tmp_path: Path) -> None:
    """The base spells 房间很干净 in ▁ and 15 bytes, the other in ▁, 中文 and 5 x 3 bytes."""
    facts, artefact = search(tmp_path, size=6, num_chars=4)
    choice = json.loads(artefact.file("choice.json").read_text(encoding="utf-8"))
    assert choice["evals"]["zh"]["base"]["tokens_per_char"] == 33 / 12
    rows = pq.read_table(artefact.file("curves.parquet")).to_pylist()
    (row,) = (row for row in rows if (row["num_chars"], row["size"]) == (4, 6))
    assert row["alp"] == facts.curves[1].alp_at_choice["zh"]


def test_a_curve_without_the_chosen_size_has_no_alp_there(tmp_path: Path) -> None:
    facts, _ = search(tmp_path, size=3)
    assert [sorted(c.alp_at_choice) for c in facts.curves] == [["zh"], []]


def test_a_size_that_is_not_given_is_found_by_gain(tmp_path: Path) -> None:
    """So short a text gains far more than 0.0035 nats a byte with each piece."""
    facts, artefact = search(tmp_path, char_counts=[0, 4], max_pieces=12)
    assert facts.rule == "gain"
    assert facts.num_pieces == len(rows_of(artefact)) > 4


def test_the_knee_is_the_size_where_it_is_asked_for(tmp_path: Path) -> None:
    facts, _ = search(tmp_path, char_counts=[0, 4], max_pieces=12, size="knee")
    assert (facts.rule, facts.knee) == ("knee", facts.num_pieces)


def test_size_0_is_the_base_as_it_is(tmp_path: Path) -> None:
    facts, artefact = search(tmp_path, size=0, num_chars=4)
    assert artefact.file("pieces.jsonl").read_bytes() == b""
    assert artefact.file("pieces.txt").read_bytes() == b""
    assert (facts.num_pieces, facts.num_candidates, facts.curves) == (0, 1, [])
    assert "<svg" in artefact.file("alp.svg").read_text(encoding="utf-8")


def test_a_banned_piece_is_never_made(tmp_path: Path) -> None:
    _, artefact = search(tmp_path, size=6, ban=["房间"])
    assert "房间" not in [row["piece"] for row in rows_of(artefact)]


def test_the_number_of_cores_does_not_change_a_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = []
    for cores in (1, 3):
        monkeypatch.setattr(stage, "num_cores", lambda cores=cores: cores)
        digests.append(search(tmp_path / str(cores), size=6)[1].manifest.digest)
    assert digests[0] == digests[1]


def test_more_characters_than_the_text_has_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="9 single characters to add; the training text has 7"):
        search(tmp_path, char_counts=[2, 9], max_pieces=20)


def test_more_characters_than_pieces_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the largest size, 3, is below the 4 pieces"):
        search(tmp_path, max_pieces=3)


def test_a_failure_in_a_search_reaches_the_caller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(engine, "train_rules", broken)
    with pytest.raises(MemoryError, match="no room"):
        search(tmp_path, size=6)


def test_an_unknown_script_is_refused_with_the_recipe() -> None:
    with pytest.raises(ValidationError, match=r"no Unicode script 'Hann'\. Did you mean 'Han'"):
        settings_with(scripts=["Hann"])
