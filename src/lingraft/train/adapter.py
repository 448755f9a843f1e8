"""The trained adapter as a PEFT adapter, one pair of matrices for each published linear map.

The classic per-expert names are written (`block_sparse_moe.experts.3.w1`), not PEFT's form
for fused experts: every version of PEFT and transformers that knows Mixtral reads the
former, and nothing converts the latter back. embed_tokens and lm_head go in whole, also where
only some of their rows were trained, and both also where they are tied: plain PEFT replaces each
of the two modules by what it finds under its name, and one alone would leave the other as it was.

Source of the format: PEFT's checkpoint format (huggingface.co/docs/peft, developer guides).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch

from .lora import LoraPair
from .settings import LoraSettings

__all__ = ["ADAPTER_CONFIG", "ADAPTER_WEIGHTS", "adapter_config", "adapter_tensors"]

ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
_PREFIX = "base_model.model."


def adapter_tensors(
    pairs: Mapping[str, LoraPair], embed: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Name every trained matrix as PEFT does, float32, on the CPU.

    Args:
        pairs: By published module name, `{}` standing for the number of the expert.
        embed: Matrices trained whole, by published parameter name.
    """
    tensors = dict(_lora_tensors(pairs))
    tensors |= {_PREFIX + name: weight for name, weight in embed.items()}
    return {
        name: tensors[name].detach().to("cpu", torch.float32).contiguous()
        for name in sorted(tensors)
    }


def adapter_config(lora: LoraSettings, roles: Iterable[str], rows: bool = True) -> dict[str, Any]:
    """What PEFT needs to know to load the adapter.

    Args:
        lora: How it was trained.
        roles: Of the linear maps that carry an adapter.
        rows: Whether embed_tokens and lm_head are in it.
    """
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        # A path here would be this machine's; PEFT is given the base model explicitly anyway.
        "base_model_name_or_path": "",
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        # Training used lora.dropout. PEFT 0.21 refuses to load any other value than 0 for
        # experts that transformers has fused, and a loaded adapter is for inference.
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "target_modules": list(roles),
        "modules_to_save": ["embed_tokens", "lm_head"] if rows else None,
    }


def _lora_tensors(pairs: Mapping[str, LoraPair]) -> Iterator[tuple[str, torch.Tensor]]:
    for name, pair in pairs.items():
        for number in range(pair.A.shape[0]):
            module = _PREFIX + name.format(number)
            yield f"{module}.lora_A.weight", pair.A[number]
            yield f"{module}.lora_B.weight", pair.B[number]
