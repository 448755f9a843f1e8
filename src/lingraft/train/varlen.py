"""What attention is told of the documents of a micro-batch, by who computes it.

SDPA and flex attention of transformers 5 keep documents apart by positions that begin anew, in
batches of any shape. FlashAttention-2 does so in batches of one row alone; of more rows it would
let every document see those before it, and say nothing. So for it the sequences are laid end to
end into one row, and where each document begins is told in so many words.

Shapes: B sequences of L tokens, N = B L.
Source: transformers 5, `modeling_flash_attention_utils._flash_attention_forward`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..errors import MissingPackageError, UsageError
from ..mixture import Batch
from ..packages import has_package
from .settings import AttentionName

__all__ = ["model_inputs", "require_attention"]

_FLASH = "flash_attention_2"


def require_attention(name: AttentionName, device: torch.device) -> None:
    """Refuse an attention that cannot train here.

    Raises:
        UsageError: It needs a GPU.
        MissingPackageError: It needs a package that is not installed.
    """
    if name == "sdpa":
        return
    if device.type != "cuda":
        raise UsageError(
            f"train.attention = '{name}' needs a GPU, and training is on {device.type}.",
            effect="It has no backward pass there.",
            way_out="Train with torch's own: --set train.attention=sdpa.",
        )
    if name == _FLASH and not has_package("flash_attn"):
        raise MissingPackageError(
            f"train.attention = '{name}' needs the package flash-attn, which is not installed.",
            way_out="pip install flash-attn, or take 'flex_attention' or 'sdpa', which are "
            "torch's own.",
        )


def model_inputs(name: AttentionName, batch: Batch, device: torch.device) -> dict[str, Any]:
    """Give what a decoder is called with, so that documents stay apart as their positions say.

    Args:
        name: Who computes attention.
        batch: A micro-batch; a document, or part of one, begins wherever a position is 0.
        device: Where the model is.

    Returns:
        `input_ids` and `position_ids`, (B, L), or (1, N) with the borders of documents beside them.
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
        "input_ids": ids.view(1, -1),
        "position_ids": positions.view(1, -1),
        "cu_seq_lens_q": borders,
        "cu_seq_lens_k": borders,
        "max_length_q": longest,
        "max_length_k": longest,
    }
