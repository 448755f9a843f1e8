"""The forms in which one tokenizer can be run: its libraries', and ours."""

from __future__ import annotations

import json
from collections.abc import Sequence

from ..basetypes import Int32
from ..encoder import FastEncoder
from ..errors import InputError
from ..exact import Encoder
from ..fast import fast_tokenizer
from .forms import Forms
from .parity import Form

__all__ = ["FAST", "own_forms"]

FAST = "fast"
"""Name of the form that `tokenizers` runs."""


def own_forms(
    forms: Forms, encoder: Encoder | None, jobs: int | None
) -> tuple[list[Form], list[str]]:
    """List the forms, the file's own library first, and tell what was left out.

    Args:
        forms: The tokenizer's files.
        encoder: Ours; None: it is not wanted.
        jobs: Threads of ours; None: one a core.
    """
    found: list[Form] = []
    notes: list[str] = []
    if forms.model is not None:
        found.append(Form("SentencePiece", forms.model.encode_batch, forms.model.decode_batch))
    fast = _fast(forms, notes)
    if fast is not None:
        found.append(Form(FAST, fast.encode_batch, fast.decode_batch))
    assert found, "a tokenizer has a tokenizer.model or a tokenizer.json"
    if encoder is not None and encoder.reason:
        notes.append(f"lingraft's encoder uses the tokenizer's own library: {encoder.reason}.")
    elif encoder is not None:

        def encode(texts: Sequence[str]) -> Sequence[Sequence[int] | Int32]:
            return encoder.encode_batch(texts, num_threads=jobs)

        found.append(Form("lingraft", encode))
    return found, notes


def _fast(forms: Forms, notes: list[str]) -> FastEncoder | None:
    if forms.fast_file is not None:
        return FastEncoder.read(forms.fast_file)
    assert forms.model is not None, "a tokenizer has a tokenizer.model or a tokenizer.json"
    try:
        content = json.dumps(fast_tokenizer(forms.model))
    except InputError as error:
        notes.append(f"No fast form to compare with: {error.what}")
        return None
    notes.append("The fast form is made of tokenizer.model as converters make it.")
    return FastEncoder.parse(content, forms.name)
