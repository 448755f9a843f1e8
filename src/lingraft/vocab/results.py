"""What a search gives away: the chosen pieces, the rules of every count, the curves, the plots."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from .choose import Choice
from .grid import Grid
from .interactive import curves_page
from .plot import plot_curves
from .tables import choice_record, curves_table, surrogates_record, write_curves

__all__ = [
    "PieceRow",
    "choice_of",
    "count_known_pieces",
    "piece_rows",
    "piece_text",
    "render",
    "rules_parquet",
]

PieceRow = dict[str, Any]

_SCOPE = "Every new piece holds a character of {}: texts without any encode as before."


def piece_rows(grid: Grid, num_chars: int, size: int) -> Iterator[PieceRow]:
    """Give the new pieces of one vocabulary in the order of ids to come.

    Each row has `piece` as the vocabulary spells it, `kind` ("char", "rule", or "partial": part
    of a character, which byte-level bases need), the parts `left` and `right` ("" where there is
    no rule), how often it came up in the training text when it was made (`count`; null for
    partial pieces).
    """
    symbols = grid.symbols
    base, num_base = symbols.alphabet.base, symbols.num_base
    counts = dict(zip(symbols.codes_S.tolist(), symbols.counts_S.tolist(), strict=True))
    chars = iter(symbols.codes_S[num_base:].tolist())
    for row in symbols.chars.rows(num_chars):
        count = counts[next(chars)] if row.kind == "char" else None
        yield {**row._asdict(), "count": count}
    rules = grid.rules[num_chars].first(size - symbols.chars.num_added(num_chars))
    texts = symbols.texts(rules.num_symbols - num_base)
    spelled = [base.spell_bytes(_bytes(text)) for text in texts]
    for left, right, joins in zip(
        rules.left_K.tolist(), rules.right_K.tolist(), rules.joins_KW[:, 0].tolist(), strict=True
    ):
        spelled.append(spelled[left] + spelled[right])
        yield {
            "piece": spelled[-1],
            "kind": "rule",
            "left": spelled[left],
            "right": spelled[right],
            "count": joins,
        }


def piece_text(grid: Grid, piece: str) -> str:
    """Give the text that a piece stands for: ▁ for a leading space, <0xE5> for bytes of no text."""
    data = grid.symbols.alphabet.base.read_piece(piece)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return "".join(f"<0x{byte:02X}>" for byte in data)
    return "\u2581" + text[1:] if text.startswith(" ") else text


def _bytes(text: str) -> bytes:
    """Give the text of a symbol as bytes: ▁ at its head stands for a space."""
    return text.replace("\u2581", " ").encode()


def rules_parquet(grid: Grid) -> bytes:
    """Give the pieces of every count of characters at the largest size, as a Parquet file.

    Columns: num_chars, size (of the vocabulary that ends with this piece), piece, kind, left,
    right, count.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [
            ("num_chars", pa.int32()),
            ("size", pa.int32()),
            ("piece", pa.string()),
            ("kind", pa.dictionary(pa.int8(), pa.string())),
            ("left", pa.string()),
            ("right", pa.string()),
            ("count", pa.int64()),
        ]
    )
    parts = []
    for curve in grid.curves:
        rows = list(piece_rows(grid, curve.num_chars, curve.end))
        columns: dict[str, Any] = {name: [row[name] for row in rows] for name in schema.names[2:]}
        columns["num_chars"] = np.full(len(rows), curve.num_chars, np.int32)
        columns["size"] = np.arange(1, len(rows) + 1, dtype=np.int32)
        parts.append(pa.table({name: columns[name] for name in schema.names}, schema=schema))
    content = io.BytesIO()
    pq.write_table(pa.concat_tables(parts), content, compression="zstd", store_schema=False)
    return content.getvalue()


def count_known_pieces(grid: Grid) -> tuple[int, int]:
    """Count the base's pieces of the target scripts: single characters, and all."""
    texts = grid.symbols.texts(0)
    marks = sum(text == "\u2581" for text in texts)
    chars = sum(len(text) == 1 for text in texts)
    return chars - marks, len(texts) - marks


def choice_of(grid: Grid, choice: Choice) -> dict[str, Any]:
    """Give the record of the choice, ready for JSON."""
    num_chars, num_pieces = count_known_pieces(grid)
    record = choice_record(
        choice,
        grid.curves,
        grid.evals,
        num_chars_in_base=num_chars,
        num_pieces_in_base=num_pieces,
    )
    alphabet, facts = grid.symbols.alphabet, grid.facts
    missing = alphabet.missing_bytes
    return {
        **record,
        "base": {
            "family": alphabet.base.family,
            "size": alphabet.base.size - len(missing),
            "sha256": alphabet.base.digest,
            **({"missing_bytes": list(missing)} if missing else {}),
        },
        "scripts": list(alphabet.scripts),
        "word_start": alphabet.word_start,
        "scope": _SCOPE.format(", ".join(alphabet.scripts)),
        "kept": {name: _kept(grid, choice, name) for name in grid.kept},
        "num_vocabularies": sum(curve.end - curve.start + 1 for curve in grid.curves),
        "num_candidate_chars": grid.symbols.num_candidates,
        "training": {
            "num_docs": grid.num_docs,
            "num_bytes": grid.num_bytes,
            **surrogates_record(grid.num_surrogates),
            "num_symbols": facts.num_symbols,
            "num_segments": facts.num_segments,
            "cut_threshold": facts.threshold,
            "cut_retries": facts.retries,
        },
    }


def render(grid: Grid, choice: Choice) -> dict[str, Callable[[], bytes]]:
    """Give the files of a search by name; each is made when it is asked for."""
    rows = list(piece_rows(grid, choice.num_chars, choice.size))

    def lines(values: Iterable[object]) -> bytes:
        told = (json.dumps(value, ensure_ascii=False) for value in values)
        return "".join(line + "\n" for line in told).encode()

    return {
        "curves.parquet": lambda: write_curves(curves_table(grid.curves, grid.evals)),
        "rules.parquet": lambda: rules_parquet(grid),
        "pieces.txt": lambda: lines(piece_text(grid, row["piece"]) for row in rows),
        "pieces.jsonl": lambda: lines(rows),
        "alp.svg": lambda: plot_curves(grid.curves, grid.evals, choice, "svg"),
        "alp.png": lambda: plot_curves(grid.curves, grid.evals, choice, "png"),
        "alp.html": lambda: curves_page(grid.curves, grid.evals, choice).encode(),
        "choice.json": lambda: _json(choice_of(grid, choice)),
    }


def _kept(grid: Grid, choice: Choice, name: str) -> dict[str, Any]:
    """Tell what the chosen pieces do to a text of another language."""
    facts, tokens = grid.kept[name]
    place = choice.size - grid.symbols.chars.num_added(choice.num_chars)
    after = int(tokens[choice.num_chars][place])
    return {
        "num_docs": facts.num_docs,
        "num_bytes": facts.num_bytes,
        **surrogates_record(facts.num_surrogates),
        "base_tokens": facts.base_tokens,
        "tokens": after,
        "tokens_saved_frac": 1 - after / facts.base_tokens,
    }


def _json(record: dict[str, Any]) -> bytes:
    return (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode()
