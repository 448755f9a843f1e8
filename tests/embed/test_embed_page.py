"""The page of base and new rows, and the figures on it."""

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from expandable import (
    SIZE,
    change_tensors,
    extended_folder,
    tied_llama,
    untied_llama,
)
from html_reader import Reader

from lingraft.embed import expand, plot
from lingraft.embed.added import Added
from lingraft.embed.diagnostics import survey_rows
from lingraft.errors import InputError


def pieces(count: int) -> Added:
    return Added(
        num_base=4,
        texts=["中"] * count,
        pieces=["中".encode()] * count,
        kinds=["spelled"] * count,
        spellings=[(0, 1)] * count,
        text_spellings=[(0, 1)] * count,
        parents=[None] * count,
        base_pieces=[b"a", b" the", b"\xe4", b""],
    )


BASE_VD = torch.tensor([[3.0, 0], [0, 4], [-1, -1], [2, -1]])


def test_norms_are_grouped_by_script_new_rows_first() -> None:
    rows = torch.cat([BASE_VD, torch.tensor([[6.0, 8], [0, 1]])])
    survey = survey_rows("rows", BASE_VD, rows, pieces(2))
    assert [(g.name, g.is_added, g.norms.tolist()) for g in survey.groups] == [
        ("Han", True, [10, 1])
    ]
    assert survey.base_changed == 0


def test_nearest_base_rows_are_those_of_the_largest_cosine() -> None:
    rows = torch.cat([BASE_VD, torch.tensor([[0.1, 9.0]])])
    view = survey_rows("rows", BASE_VD, rows, pieces(1)).pieces[0]
    assert [name for name, _ in view.neighbours] == ["▁the", "a", "id 3", "<E4>"]
    assert view.neighbours[0][1] == pytest.approx(9 / np.hypot(0.1, 9))
    assert view.spelling == ["a", "▁the"]


def test_the_map_shows_the_largest_directions_of_base_rows() -> None:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(300, 5, generator=generator) * torch.tensor([9.0, 0.1, 3, 0.1, 0.1])
    added = Added(**{**pieces(1).__dict__, "num_base": 300, "base_pieces": [b"a"] * 300})
    rows = torch.cat([base, base.mean(0, keepdim=True) + torch.tensor([[5.0, 0, 0, 0, 0]])])
    found = survey_rows("rows", base, rows, added).row_map
    assert found.explained[0] > 0.8
    assert sum(found.explained) > 0.99
    assert abs(abs(found.added_S2[0, 0]) - 5) < 0.1
    again = survey_rows("rows", base, rows, added).row_map
    assert np.array_equal(found.base_S2, again.base_S2)


def test_heat_is_in_standard_deviations_and_keeps_shares() -> None:
    rows = torch.cat([BASE_VD, BASE_VD])
    heat = survey_rows("rows", BASE_VD, rows, pieces(4)).heat
    assert heat.base_share == 0.5
    assert np.std(heat.blocks[:4]) == pytest.approx(1)


def test_expand_writes_the_page_beside_the_model(tmp_path: Path) -> None:
    base = untied_llama(tmp_path / "base")
    tokenizer = extended_folder(tmp_path / "extended")
    out = expand(model=base.path, tokenizer=tokenizer, out=tmp_path / "out", plots=True).folder
    files = {path.name for path in (out / "plots").iterdir()}
    pictures = {"norms.svg", "map.svg", "matrix.png"}
    assert files == {"embeddings.html", "embeddings.json"} | {
        f"{role}-{picture}" for role in ("input", "output") for picture in pictures
    }
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert not [f for f in manifest["files"] if f["path"].startswith("plots")]
    page = Reader((out / "plots" / "embeddings.html").read_text(encoding="utf-8"))
    assert "unchanged" in page.text
    assert "嬗变" in page.text
    assert "Equal new rows" in page.text
    sources = [str(image["src"]) for image in page.all("img")]
    assert len(sources) == 6
    assert all(source.startswith("data:image/") for source in sources)
    assert all(image["alt"] for image in page.all("img"))
    for path in (out / "plots").glob("*.svg"):
        ElementTree.parse(path)


def test_a_model_that_was_trained_since_shows_its_changed_rows(tmp_path: Path) -> None:
    base = tied_llama(tmp_path / "base")
    tokenizer = extended_folder(tmp_path / "extended")
    out = expand(model=base.path, tokenizer=tokenizer, out=tmp_path / "out").folder
    rows = base.tensor("model.embed_tokens.weight")
    grown = torch.cat([rows, rows[:4]])
    grown[7] += 1
    (out / "manifest.json").unlink()
    change_tensors(out, model__embed_tokens__weight=grown)
    files = plot(expanded=out, base=base.path, out=tmp_path / "plots")
    assert files[0] == tmp_path / "plots" / "embeddings.html"
    assert len(files) == 5
    figures = json.loads((tmp_path / "plots" / "embeddings.json").read_text(encoding="utf-8"))
    assert figures["input"]["base_rows_changed"] == 1
    assert figures["input"]["added_rows"] == 4
    assert "1 changed" in Reader(files[0].read_text(encoding="utf-8")).text


def test_a_model_that_was_never_expanded_has_no_page(tmp_path: Path) -> None:
    base = untied_llama(tmp_path / "base")
    other = untied_llama(tmp_path / "other")
    extended_folder(other.path)
    with pytest.raises(InputError, match=f"has {SIZE} rows; its tokenizer has {SIZE + 4} ids"):
        plot(expanded=other.path, base=base.path, out=tmp_path / "plots")
