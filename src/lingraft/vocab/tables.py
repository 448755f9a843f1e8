"""The curves as a table, and the choice as a record, for whoever reads the search's folder.

`curves.parquet` has a row for every count of single characters, evaluation text and size, in
that order; all figures are of that text, encoded with the base and the added pieces:

    num_chars           int32     added single characters
    size                int32     all added pieces
    num_added           int32     the same: every piece counted in `size` is really added
    eval                string    name of the text
    alp                 float64   nats per document
    alp_per_byte        float64   nats per UTF-8 byte
    tokens              int64     tokens of all documents
    chars_per_token     float64   code points
    tokens_per_char     float64
    bytes_per_token     float64   UTF-8 bytes
    tokens_per_word     float64   fertility; null where words are not written with spaces between
    byte_fallback_frac  float64   tokens that are byte pieces or parts of a character, 0 to 1
    nsl                 float64   tokens over the base's tokens (normalised sequence length)

A word is what stands between spaces; where a script does without, the count of such runs says
nothing of words, and none is made up.

Source of fertility: Rust et al. 2021, arXiv 2012.15613; of NSL: Dagan et al. 2024, arXiv
2402.01035.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .alp import Curve, EvalFacts
from .choose import Choice

__all__ = ["CURVE_SCHEMA", "choice_record", "curves_table", "surrogates_record", "write_curves"]

CURVE_SCHEMA = pa.schema(
    [
        pa.field("num_chars", pa.int32(), nullable=False),
        pa.field("size", pa.int32(), nullable=False),
        pa.field("num_added", pa.int32(), nullable=False),
        pa.field("eval", pa.string(), nullable=False),
        pa.field("alp", pa.float64(), nullable=False),
        pa.field("alp_per_byte", pa.float64(), nullable=False),
        pa.field("tokens", pa.int64(), nullable=False),
        pa.field("chars_per_token", pa.float64(), nullable=False),
        pa.field("tokens_per_char", pa.float64(), nullable=False),
        pa.field("bytes_per_token", pa.float64(), nullable=False),
        pa.field("tokens_per_word", pa.float64(), nullable=True),
        pa.field("byte_fallback_frac", pa.float64(), nullable=False),
        pa.field("nsl", pa.float64(), nullable=False),
    ]
)

_INTEGERS = ("num_chars", "size", "num_added", "tokens")
_FLOATS = [name for name in CURVE_SCHEMA.names if name not in (*_INTEGERS, "eval")]


def curves_table(curves: Sequence[Curve], evals: Sequence[EvalFacts]) -> pa.Table:
    """Lay out every size of every curve, as the module tells.

    Args:
        curves: One for each number of single characters, in the order of the rows to come.
        evals: The evaluation texts, in the order of the curves' rows; none is empty.
    """
    parts = [_text_columns(curve, row, text) for curve in curves for row, text in enumerate(evals)]
    batches = [pa.table(columns, schema=CURVE_SCHEMA) for columns in parts]
    return pa.concat_tables(batches) if batches else CURVE_SCHEMA.empty_table()


def write_curves(table: pa.Table) -> bytes:
    """Give the table as a Parquet file; equal tables give equal bytes."""
    content = io.BytesIO()
    pq.write_table(
        table,
        content,
        compression="zstd",
        compression_level=3,
        # Neighbouring sizes have nearly the same value: split by byte, the high ones compress.
        column_encoding={
            **dict.fromkeys(_FLOATS, "BYTE_STREAM_SPLIT"),
            **dict.fromkeys(_INTEGERS, "DELTA_BINARY_PACKED"),
        },
        use_dictionary=["eval"],
        store_schema=False,
        row_group_size=1 << 20,
    )
    return content.getvalue()


def choice_record(
    choice: Choice,
    curves: Sequence[Curve],
    evals: Sequence[EvalFacts],
    *,
    num_chars_in_base: int,
    num_pieces_in_base: int,
) -> dict[str, Any]:
    """Give the choice with its reasons and figures, ready for JSON.

    Args:
        choice: The vocabulary.
        curves: Those it was chosen from.
        evals: The evaluation texts, in the order of the curves' rows.
        num_chars_in_base: Characters of the target scripts that are pieces of the base already.
        num_pieces_in_base: Pieces of the target scripts, characters among them, in the base.
    """
    curve = next(c for c in curves if c.num_chars == choice.num_chars)
    place = choice.size - curve.start
    return {
        "num_chars": choice.num_chars,
        "size": choice.size,
        "num_added": choice.size,
        "rule": choice.rule,
        "reasons": list(choice.reasons),
        "min_gain": choice.min_gain,
        "still_pays_at_end": choice.at_end,
        "rules_ran_out": choice.exhausted,
        "knee": choice.knee,
        "knee_sensitivity": choice.sensitivity,
        "num_chars_in_base": num_chars_in_base,
        "num_pieces_in_base": num_pieces_in_base,
        "counts": [
            {
                "num_chars": other.num_chars,
                "first_size": other.start,
                "last_size": other.end,
                "alp_per_byte": other.alp_per_byte,
            }
            for other in choice.counts
        ],
        "evals": {
            text.name: {
                "num_docs": text.num_docs,
                "num_chars": text.num_chars,
                "num_bytes": text.num_bytes,
                "num_words": text.num_words,
                **surrogates_record(text.num_surrogates),
                "base": _figures(text, text.base_alp, text.base_tokens, text.base_byte_tokens),
                "choice": _figures(
                    text,
                    float(curve.alp_EK[row, place]),
                    int(curve.tokens_EK[row, place]),
                    int(curve.byte_tokens_E[row]),
                ),
            }
            for row, text in enumerate(evals)
        },
    }


def surrogates_record(number: int) -> dict[str, int]:
    """Tell halves of surrogate pairs where a text has any; hardly one has."""
    return {"num_surrogates": number} if number else {}


def _text_columns(curve: Curve, row: int, text: EvalFacts) -> dict[str, Any]:
    alp_K, tokens_K = curve.alp_EK[row], curve.tokens_EK[row]
    num_rows = len(alp_K)
    sizes = np.arange(curve.start, curve.end + 1, dtype=np.int32)
    columns = {
        "num_chars": np.full(num_rows, curve.num_chars, np.int32),
        "size": sizes,
        "num_added": sizes,
        "eval": pa.repeat(pa.scalar(text.name, pa.string()), num_rows),
        "tokens": tokens_K,
        **_figures(text, alp_K, tokens_K, int(curve.byte_tokens_E[row])),
    }
    if columns["tokens_per_word"] is None:
        columns["tokens_per_word"] = pa.nulls(num_rows, pa.float64())
    return columns


def _figures(text: EvalFacts, alp: Any, tokens: Any, byte_tokens: int) -> dict[str, Any]:
    """Derive every figure of a text from its ALP and its tokens: numbers, or arrays of them."""
    assert text.num_chars > 0, f"{text.name} has no characters"
    assert text.base_tokens > 0, f"{text.name} has no tokens"
    return {
        "alp": alp,
        "alp_per_byte": alp * (text.num_docs / text.num_bytes),
        "tokens": tokens,
        "chars_per_token": text.num_chars / tokens,
        "tokens_per_char": tokens / text.num_chars,
        "bytes_per_token": text.num_bytes / tokens,
        "tokens_per_word": tokens / text.num_words if text.num_words else None,
        "byte_fallback_frac": byte_tokens / tokens,
        "nsl": tokens / text.base_tokens,
    }
