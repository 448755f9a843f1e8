from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from artefacts import empty_draft
from pydantic import ValidationError

from lingraft.corpus.registry import read_registry
from lingraft.corpus.settings import CorpusFacts, CorpusSettings
from lingraft.corpus.stage import run
from lingraft.documents import Document, read_documents
from lingraft.errors import InputError
from lingraft.store import Artefact, Draft

LINES = [f"Document number {n} is long enough to be kept." for n in range(200)]


def settings_for(folder: Path, sets: dict[str, Sequence[str]], **settings: Any) -> CorpusSettings:
    """Write each set's lines to a file, and give settings that read them."""
    rows = []
    for name, lines in sets.items():
        path = folder / f"{name}.txt"
        path.write_text("\n".join(lines), encoding="utf-8")
        rows.append({"name": name, "language": "en", "sources": [str(path)], "reader": "lines"})
    return CorpusSettings.model_validate({"sets": rows, "valid_frac": 0.2, **settings})


def make(
    folder: Path, sets: dict[str, Sequence[str]], **settings: Any
) -> tuple[Draft, CorpusFacts]:
    draft = empty_draft(folder, "10-corpus")
    return draft, run(settings_for(folder, sets, **settings), {}, draft)


def docs_of(draft: Draft, name: str) -> list[Document]:
    return list(read_documents(draft.path / f"{name}.jsonl"))


def test_every_document_read_is_in_one_split_or_dropped_for_a_reason(tmp_path: Path) -> None:
    lines = [*LINES, "too short", LINES[0], LINES[1] + "  ", "x" * 5001, "\ufffd" * 20]
    draft, facts = make(tmp_path, {"a": lines}, max_chars=5000)
    found = facts.sets["a"]
    assert found.dropped == {
        "duplicate": 2,
        "replacement_characters": 1,
        "too_long": 1,
        "too_short": 1,
    }
    assert found.num_docs_read == found.train.num_docs + found.valid.num_docs + 5 == 205
    texts = [d.text for split in ("train", "valid") for d in docs_of(draft, f"a-{split}")]
    assert sorted(texts) == sorted(LINES)


def test_sizes_count_characters_and_utf8_bytes(tmp_path: Path) -> None:
    draft, facts = make(
        tmp_path, {"a": [f"第{n:03}号文件，足够长，所以留下来了。" for n in range(100)]}
    )
    train = docs_of(draft, "a-train")
    assert facts.sets["a"].train.num_docs == len(train)
    assert facts.sets["a"].train.num_chars == 19 * len(train)
    assert facts.sets["a"].train.size_bytes == (3 + 16 * 3) * len(train)


def test_documents_stand_in_the_order_of_their_ids(tmp_path: Path) -> None:
    draft, _ = make(tmp_path, {"a": LINES})
    ids = [d.id for d in docs_of(draft, "a-train")]
    assert ids == sorted(ids)


def test_the_first_set_that_has_a_text_keeps_it(tmp_path: Path) -> None:
    _, facts = make(tmp_path, {"a": LINES[:120], "b": LINES[60:]})
    assert facts.sets["a"].dropped == {}
    assert facts.sets["b"].dropped == {"duplicate": 60}


def test_duplicates_stay_where_they_are_wanted(tmp_path: Path) -> None:
    _, facts = make(tmp_path, {"a": [*LINES, *LINES]}, deduplicate=False)
    assert facts.sets["a"].train.num_docs + facts.sets["a"].valid.num_docs == 400


def test_the_split_of_a_document_stays_when_data_is_added(tmp_path: Path) -> None:
    held_out = []
    for name, lines in (("few", LINES[:100]), ("all", LINES[::-1])):
        folder = tmp_path / name
        folder.mkdir()
        draft, _ = make(folder, {"a": lines})
        held_out.append({d.text for d in docs_of(draft, "a-valid")})
    assert held_out[0] == held_out[1] & set(LINES[:100])


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    digests = set()
    settings = settings_for(tmp_path, {"a": LINES, "b": ["short", *LINES[:3]]}, deduplicate=False)
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        draft = empty_draft(folder, "10-corpus")
        digests.add(draft.seal(run(settings, {}, draft), {}).manifest.digest)
    assert len(digests) == 1


def test_twenty_examples_of_each_reason_are_kept(tmp_path: Path) -> None:
    lines = [*LINES, *(f"short {n}" for n in range(30)), "y" * 5001]
    draft, facts = make(tmp_path, {"a": lines}, max_chars=5000)
    text = (draft.path / "dropped.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    assert facts.sets["a"].dropped["too_short"] == 30
    assert [r["reason"] for r in rows] == ["too_short"] * 20 + ["too_long"]
    assert rows[0] == {
        "set": "a",
        "reason": "too_short",
        "where": f"{tmp_path}/a.txt:201",
        "text": "short 0",
    }
    assert rows[-1]["text"] == "y" * 199 + "…"


def test_the_registry_leads_to_the_documents(tmp_path: Path) -> None:
    draft, facts = make(tmp_path, {"a": LINES})
    artefact: Artefact = draft.seal(facts, {})
    sets = read_registry(artefact.file("datasets.toml"))
    assert sets["a"].docs["valid"].is_file()


@pytest.mark.parametrize(
    ("lines", "valid_frac", "message", "way_out"),
    [
        (LINES[:5], 0.0001, "5 documents leave none for valid", "Raise corpus.valid_frac"),
        (LINES[:5], 0.9999, "5 documents leave none for train", "Lower corpus.valid_frac"),
        (["a", "b"], 0.5, "no document was kept .dropped: 2 too_short", "min_chars"),
        ([], 0.5, "none was found", "sources"),
    ],
)
def test_an_empty_split_is_refused(
    tmp_path: Path, lines: list[str], valid_frac: float, message: str, way_out: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        make(tmp_path, {"a": lines}, valid_frac=valid_frac)
    assert way_out in caught.value.way_out


def test_a_bad_line_stops_the_stage_before_its_set_is_written(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "fine"}\n{"txt": "bad"}\n', encoding="utf-8")
    settings = CorpusSettings.model_validate(
        {"sets": [{"name": "a", "language": "en", "sources": [str(path)]}]}
    )
    draft = empty_draft(tmp_path, "10-corpus")
    with pytest.raises(InputError, match=r"a\.jsonl:2"):
        run(settings, {}, draft)
    assert not list(draft.path.glob("a-*"))
    assert not draft.final.exists()


def test_two_sets_of_one_name_are_refused(tmp_path: Path) -> None:
    row = {"name": "a", "language": "en", "sources": [str(tmp_path)]}
    with pytest.raises(ValidationError, match="given twice: a"):
        CorpusSettings.model_validate({"sets": [row, row]})


def test_every_source_of_every_set_is_part_of_the_identity(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, {"a": LINES, "b": LINES})
    assert list(settings.outside().values()) == [tmp_path / "a.txt", tmp_path / "b.txt"]
