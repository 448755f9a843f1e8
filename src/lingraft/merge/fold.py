"""Which adapter matrix goes where, and the sum itself.

Every matrix of the adapter must find its place, else the merged model would lack part of
what was trained, and nothing downstream would tell.

Shapes: O outputs, I inputs, R rank.
Source: LoRA (Hu et al. 2021, arXiv 2106.09685), section 4.1; names as PEFT writes them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ..errors import InputError
from ..nf4 import round_trip

__all__ = ["AdapterMap", "body_weight", "fold", "is_linear", "map_adapter"]

_PREFIX = "base_model.model."
_KEY = re.compile(r"^base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight$")
_LINEAR = re.compile(r"\.layers\.\d+\..*\.(\w+_proj|w[123])\.weight$")
_UNSUPPORTED = ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern")


@dataclass(frozen=True)
class AdapterMap:
    """Where the tensors of an adapter go, by published parameter name."""

    pairs: dict[str, tuple[str, str]]
    """Parameter -> names of its A and B in the adapter."""
    whole: dict[str, str]
    """Parameter -> name of the matrix that replaces it."""
    scale: float
    """alpha / rank."""


def map_adapter(
    config: Mapping[str, Any], tensor_names: Iterable[str], parameters: Iterable[str]
) -> AdapterMap:
    """Find the place of every adapter tensor.

    Args:
        config: The adapter's `adapter_config.json`.
        tensor_names: Names in the adapter's weight file.
        parameters: Published parameter names of the model.

    Raises:
        InputError: The adapter is of another kind than plain LoRA, or a tensor of it has no
            place in the model, or half a pair is missing.
    """
    _refuse_kind(config)
    known = set(parameters)
    sides: dict[str, dict[str, str]] = {}
    whole: dict[str, str] = {}
    unused = []
    for name in sorted(tensor_names):
        match = _KEY.match(name)
        parameter = f"{match['module']}.weight" if match else name.removeprefix(_PREFIX)
        if parameter not in known:
            unused.append(name)
        elif match:
            sides.setdefault(parameter, {})[match["side"]] = name
        else:
            whole[parameter] = name
    halves = [parameter for parameter, found in sides.items() if len(found) != 2]
    if unused or halves:
        what = f"'{unused[0]}' has no place in the model" if unused else f"half of '{halves[0]}'"
        raise InputError(
            f"the adapter does not fit: {what} ({len(unused)} tensors without a place, "
            f"{len(halves)} half pairs).",
            effect="The merged model would lack what these were trained to do.",
            way_out="Merge into the model that the adapter was trained on.",
        )
    pairs = {parameter: (found["A"], found["B"]) for parameter, found in sides.items()}
    return AdapterMap(pairs, whole, config["lora_alpha"] / config["r"])


def fold(
    weight_OI: torch.Tensor, a_RI: torch.Tensor, b_OR: torch.Tensor, scale: float
) -> torch.Tensor:
    """W + scale B A, in float32.

    Raises:
        InputError: The shapes do not belong together.
    """
    expected = (b_OR.shape[0], a_RI.shape[1])
    if tuple(weight_OI.shape) != expected or a_RI.shape[0] != b_OR.shape[1]:
        raise InputError(
            f"A {tuple(a_RI.shape)} and B {tuple(b_OR.shape)} of the adapter do not fit a "
            f"weight of shape {tuple(weight_OI.shape)}.",
            way_out="Merge into the model that the adapter was trained on.",
        )
    return torch.addmm(weight_OI.float(), b_OR.float(), a_RI.float(), alpha=scale)


def is_linear(parameter: str) -> bool:
    """Tell whether a parameter is a linear map of the body, of those that training packs."""
    return _LINEAR.search(parameter) is not None


def body_weight(parameter: str, weight: torch.Tensor, body: str) -> torch.Tensor:
    """The weight that the adapter was trained beside, or the original one.

    Args:
        parameter: Published name.
        weight: As the expanded model has it.
        body: `original`, or `nf4` for what 4-bit training saw of linear maps.
    """
    return round_trip(weight) if body == "nf4" and is_linear(parameter) else weight


def _refuse_kind(config: Mapping[str, Any]) -> None:
    used = [key for key in _UNSUPPORTED if config.get(key)]
    if config.get("peft_type") != "LORA" or config.get("bias", "none") != "none" or used:
        raise InputError(
            f"adapter of type '{config.get('peft_type')}' with "
            f"{', '.join(used) or 'bias ' + repr(config.get('bias'))}; "
            "expected plain LoRA without bias.",
            effect="Its arithmetic is another than W + (alpha / rank) B A.",
            way_out="Merge it with PEFT: PeftModel.merge_and_unload().",
        )
