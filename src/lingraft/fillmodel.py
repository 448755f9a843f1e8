"""Fill a transformers model that has no numbers yet from its folder, tensor by tensor.

The model is made on the meta device, where it takes no memory. Who fills it puts modules of its
own in the place of linear maps, packed or not; what is left is read as it is stored. A tensor of
the folder that finds no place is an error, and so is a parameter that the folder lacks.

Names are the published ones: transformers calls a Mixtral's router `mlp.gate`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .errors import InputError
from .models import ModelFolder
from .nf4 import Packed
from .packedcache import Pack, pack_anew

if TYPE_CHECKING:
    import torch

__all__ = ["ROUTERS", "ModelFiller", "empty_model"]

ROUTERS = "block_sparse_moe.gate"
"""The published name of a layer's router."""
_EXPERTS = "block_sparse_moe.experts"
_HEAD = "lm_head.weight"


def empty_model(config: Any, dtype: torch.dtype, attn: str = "") -> Any:
    """Make a causal LM of a transformers config whose parameters are shapes alone.

    Args:
        config: The config.
        dtype: Of its parameters.
        attn: transformers' way of attention; "": its own choice.
    """
    import torch
    from transformers import AutoModelForCausalLM

    options = {"attn_implementation": attn} if attn else {}
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=dtype, **options)


class ModelFiller:
    """Reads the tensors of a folder for one model, and remembers which."""

    def __init__(
        self,
        files: ModelFolder,
        model: Any,
        dtype: torch.dtype,
        device: torch.device,
        pack: Pack = pack_anew,
    ) -> None:
        """Begin.

        Args:
            files: The folder, with published names.
            model: What `empty_model` gave.
            dtype: Of what is kept as it is.
            device: Where everything shall be.
            pack: Gives packed matrices.
        """
        self.files, self.model, self.device = files, model, device
        self._dtype, self._pack = dtype, pack
        self._unused = set(files.weight_map)
        if model.config.tie_word_embeddings:
            self._unused.discard(_HEAD)  # a copy that some folders hold

    def take(self, name: str) -> torch.Tensor:
        """Read a tensor to the device, in its own dtype."""
        self._unused.discard(name)
        return self.files.tensor(name).to(self.device)

    def packed(self, name: str) -> Packed:
        """Give a matrix in NF4."""
        self._unused.discard(name)
        return self._pack(name, lambda: self.take(name))

    def layers(self) -> Iterator[tuple[str, Any]]:
        """Give each layer of the body with its published prefix."""
        for number, layer in enumerate(self.model.model.layers):
            yield f"model.layers.{number}", layer

    def linears(self, prefix: str, layer: Any) -> list[tuple[str, str, torch.nn.Linear]]:
        """Give a layer's linear maps: place in the layer, published name, and module."""
        from torch import nn

        found = ((name, m) for name, m in layer.named_modules() if isinstance(m, nn.Linear))
        return [(name, f"{prefix}.{name}", module) for name, module in found]

    def experts(self, prefix: str, layer: Any) -> list[str]:
        """Give the published prefix of each expert of a layer; none in a dense model."""
        fused = getattr(layer.mlp, "experts", None)
        count = fused.num_experts if fused is not None else 0
        return [f"{prefix}.{_EXPERTS}.{number}" for number in range(count)]

    def finish(self, effect: str, way_out: str) -> None:
        """Read what is left (routers, norms, untouched rows), frozen; compute what is computed.

        Args:
            effect: What tensors without a place would lead to.
            way_out: What the user can do then.

        Raises:
            InputError: The folder lacks a tensor, or one has no place.
        """
        from torch import nn

        for name, parameter in list(self.model.named_parameters()):
            if parameter.is_meta:
                published = name.replace(".mlp.gate.weight", f".{ROUTERS}.weight")
                kept = nn.Parameter(self.take(published).to(self._dtype), requires_grad=False)
                owner, _, attribute = name.rpartition(".")
                setattr(self.model.get_submodule(owner), attribute, kept)
        if self._unused:
            raise InputError(
                f"{self.files.path}: {len(self._unused)} tensors have no place in this "
                f"architecture, the first is '{min(self._unused)}'.",
                effect=effect,
                way_out=way_out,
            )
        # Tables of positions are computed, not read; the meta device had nothing to compute with.
        body = self.model.model
        body.rotary_emb = type(body.rotary_emb)(self.model.config).to(self.device)
