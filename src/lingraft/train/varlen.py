"""What attention is told of the documents of a micro-batch, by who computes it.

SDPA and flex attention of transformers 5 keep documents apart by positions that begin anew, in
batches of any shape. FlashAttention-2 does so in batches of one row alone; of more rows it would
let every document see those before it, and say nothing. So for it the sequences are laid end to
end into one row, and where each document begins is told in so many words.

Shapes: B sequences of L tokens, N = B L.
Source: transformers 5, `modeling_flash_attention_utils._flash_attention_forward`; flash-attn's
changes (github.com/Dao-AILab/flash-attention, 2.4.1: deterministic backward pass).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..errors import MissingPackageError, UsageError
from ..mixture import Batch
from ..models import ModelFolder
from .settings import AttentionName

__all__ = ["model_inputs", "refuse_dropout", "require_attention"]

_FLASH = "flash_attention_2"
_OLDEST = "2.4.1"
"""The first flash-attn whose backward pass can be asked to add in one order."""
_CAPABILITY = (8, 0)
_WAY_OUT = "Train with torch's own: --set train.attention=sdpa."


def require_attention(name: AttentionName, device: torch.device) -> None:
    """Refuse an attention that cannot train here.

    Raises:
        UsageError: It needs a GPU, or a newer one.
        MissingPackageError: It needs a package that is not installed.
    """
    if name == "sdpa":
        return
    if device.type != "cuda":
        raise UsageError(
            f"train.attention = '{name}' needs a GPU, and training is on {device.type}.",
            effect="It cannot train there.",
            way_out=_WAY_OUT,
        )
    if name == _FLASH:
        _require_flash(device)


def _require_flash(device: torch.device) -> None:
    from transformers.utils import is_flash_attn_greater_or_equal

    if not is_flash_attn_greater_or_equal(_OLDEST):
        raise MissingPackageError(
            f"train.attention = '{_FLASH}' needs the package flash-attn, {_OLDEST} or newer, and "
            "there is none here.",
            way_out=f"pip install 'flash-attn>={_OLDEST}', or take 'flex_attention' or 'sdpa', "
            "which are torch's own.",
        )
    capability = torch.cuda.get_device_capability(device)
    if capability < _CAPABILITY:
        raise UsageError(
            f"train.attention = '{_FLASH}' needs a GPU of compute capability 8.0 or more; this "
            f"one has {capability[0]}.{capability[1]}.",
            effect="flash-attn's kernels would refuse to start.",
            way_out=_WAY_OUT,
        )


def refuse_dropout(name: AttentionName, model: ModelFolder) -> None:
    """Refuse flex attention for a model that drops attention's weights in training.

    Raises:
        UsageError: Its config says so.
    """
    share = model.config.get("attention_dropout") or 0.0
    if name == "flex_attention" and share:
        raise UsageError(
            f"train.attention = '{name}' has no dropout; attention_dropout in "
            f"{model.path / 'config.json'} is {share}.",
            effect="It would train without dropout, and not as the config says.",
            way_out=f"{_WAY_OUT} Or set attention_dropout to 0 in the base's config.",
        )


def model_inputs(name: AttentionName, batch: Batch, device: torch.device) -> dict[str, Any]:
    """Give what a decoder is called with, so that documents stay apart as their positions say.

    Args:
        name: Who computes attention.
        batch: A micro-batch; a document, or part of one, begins wherever a position is 0.
        device: Where the model is.

    Returns:
        `input_ids` and `position_ids`, (B, L); or (1, N), the borders of documents, and that the
        backward pass shall add in one order, so that equal runs give equal bits.
    """
    ids, positions = (torch.from_numpy(a).to(device) for a in (batch.inputs, batch.position_ids))
    if name != _FLASH:
        return {"input_ids": ids, "position_ids": positions}
    starts = np.flatnonzero(batch.position_ids == 0)
    assert starts[:1].tolist() == [0], "the first row does not begin at position 0"
    ends = np.append(starts, batch.position_ids.size)
    borders = torch.from_numpy(ends.astype(np.int32)).to(device)
    longest = int(np.diff(ends).max())
    return {
        "input_ids": ids.reshape(1, -1),
        "position_ids": positions.reshape(1, -1),
        "cu_seq_lens_q": borders,
        "cu_seq_lens_k": borders,
        "max_length_q": longest,
        "max_length_k": longest,
        "deterministic": True,
    }
