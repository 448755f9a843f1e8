"""`embeddings.html`: base and new rows of both matrices as one page that opens from disk."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import InputError
from ..models import ModelFolder
from ..pages import page_environment
from ..store import disk_errors, write_json, write_text
from .diagnostics import NormGroup, Survey, survey_rows
from .drawing import draw_heat, draw_map, draw_norms
from .sources import Source, read_source

__all__ = ["PAGE", "plot", "write_page"]

PAGE = "embeddings.html"
_KINDS = {"png": "image/png", "svg": "image/svg+xml"}


class _Picture(NamedTuple):
    title: str
    uri: str
    alt: str


class _View(NamedTuple):
    survey: Survey
    anchor: str
    role: str
    pictures: list[_Picture]


def plot(
    *,
    expanded: str | Path,
    base: str | Path,
    out: str | Path,
    base_tokenizer: str | Path | None = None,
) -> list[Path]:
    """Draw an expanded model's rows beside its base's.

    Args:
        expanded: Folder of the expanded model, with its tokenizer; it may have been trained.
        base: Folder of its base model.
        out: Folder to write `embeddings.html` and the pictures into.
        base_tokenizer: File or folder of the base's tokenizer; None: in the base's folder.

    Returns:
        The files, the page first.

    Raises:
        InputError: The two do not belong together.
        UsageError: There is no such folder.
    """
    folder, model = Path(out).expanduser(), Path(expanded).expanduser()
    other = None if base_tokenizer is None else Path(base_tokenizer).expanduser()
    source = read_source(Path(base).expanduser(), model, base=other)
    with disk_errors(folder, place="--out DIR"):
        return write_page(source, model, folder, model.name, _record(model))


def write_page(
    source: Source, expanded: Path, folder: Path, name: str, facts: Mapping[str, Any]
) -> list[Path]:
    """Write page, pictures and figures; give their paths.

    Args:
        source: The base model and the new pieces.
        expanded: Folder of the expanded model.
        folder: Made if it is not there.
        name: What the page calls the model.
        facts: Those of its expansion, as `EmbedFacts` has them; {} where they are not known.

    Raises:
        InputError: The expanded model has not the rows of base and new pieces.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = ModelFolder(expanded)
    paths, views = [folder / PAGE], []
    for role, tensor in _matrices(source):
        survey = _survey(source, model, tensor)
        pictures = []
        for kind, ending, draw, title, alt in _PICTURES:
            content = draw(survey)
            path = folder / f"{role}-{kind}.{ending}"
            path.write_bytes(content)
            paths.append(path)
            uri = f"data:{_KINDS[ending]};base64,{base64.b64encode(content).decode()}"
            pictures.append(_Picture(title, uri, alt))
        views.append(_View(survey, f"matrix-{role}", role, pictures))
    figures = {view.role: _figures(view.survey) for view in views}
    write_json(folder / "embeddings.json", figures)
    html = page_environment("embed").get_template(PAGE)
    write_text(paths[0], html.render(views=views, name=name, facts=facts))
    return [*paths, folder / "embeddings.json"]


_PICTURES = (
    (
        "norms", "svg", draw_norms, "Norms",
        "Euclidean norms of base and new rows by script; the figures are in the table below.",
    ),
    (
        "map", "svg", draw_map, "Map",
        "Base and new rows in the two directions in which base rows vary most.",
    ),
    (
        "matrix", "png", draw_heat, "Matrix",
        "The matrix as colours, averaged in blocks; new rows are below a line.",
    ),
)  # fmt: skip


def _matrices(source: Source) -> list[tuple[str, str]]:
    found = [("input", source.matrices.input_name)]
    if source.matrices.output_name and not source.matrices.tied:
        found.append(("output", source.matrices.output_name))
    return found


def _survey(source: Source, model: ModelFolder, name: str) -> Survey:
    added, rows = source.added, model.entry(name).shape[0]
    if rows < added.num_extended:
        raise InputError(
            f"{model.path}: {name} has {rows} rows; its tokenizer has {added.num_extended} ids.",
            way_out="Name the folder that lingraft embed expand wrote.",
        )
    base_VD = source.model.rows(name, 0, added.num_base)
    grown = model.rows(name, 0, added.num_extended).to(base_VD.dtype)
    return survey_rows(name, base_VD, grown, added)


def _record(expanded: Path) -> dict[str, Any]:
    """Give the facts of the expansion where its manifest is there."""
    path = expanded / "manifest.json"
    if not path.is_file():
        return {}
    facts = json.loads(path.read_text(encoding="utf-8")).get("facts")
    return facts if isinstance(facts, dict) and "averaged_over" in facts else {}


def _figures(survey: Survey) -> dict[str, Any]:
    return {
        "tensor": survey.name,
        "base_rows": survey.num_base,
        "added_rows": survey.num_added,
        "base_rows_changed": survey.base_changed,
        "norms": [_norms(group) for group in survey.groups],
        "nearest": [
            {"piece": view.shown, "norm": view.norm, "base": view.neighbours}
            for view in survey.pieces
        ],
        "explained": list(survey.row_map.explained),
    }


def _norms(group: NormGroup) -> dict[str, Any]:
    quantiles = {f"q{round(100 * q):02d}": group.quantile(q) for q in (0.05, 0.25, 0.5, 0.75, 0.95)}
    return {
        "group": group.name,
        "is_added": group.is_added,
        "rows": len(group.norms),
        **quantiles,
    }
