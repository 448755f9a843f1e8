"""Which tensor of the adapter goes where.

Every tensor of the adapter must find its place, else the merged model would lack part of what
was trained, and nothing downstream would tell.

Classic names have a pair of matrices for each published linear map. PEFT's fused form has one
pair for all experts of a layer: A (E r, inputs), expert after expert, and B (outputs, r E), whose
columns count the expert fastest. The wrapper of gate_up_proj lies inside the one of down_proj
(`experts.base_layer.lora_A`); which pair belongs to which is told by its shapes.

Source: PEFT 0.21, `tuners/lora/layer.py` (ParamWrapper), `utils/save_and_load.py`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import InputError
from ..weights import TensorEntry
from .adapter import scale_of
from .layout import Part, split_fused, stored_name

__all__ = ["Change", "LowRank", "Whole", "map_adapter"]

_PREFIX = "base_model.model."
_WAY_OUT = "Merge into the model that the adapter was trained on."
_KEYS = (
    (re.compile(r"^(?P<module>.+)\.lora_(?P<side>[AB])\.weight$"), "pair"),
    (re.compile(r"^(?P<module>.+)\.lora_B\.bias$"), "shift"),
    (re.compile(r"^(?P<module>.+)\.lora_embedding_(?P<side>[AB])$"), "embedding"),
    (re.compile(r"^(?P<module>.+)\.lora_magnitude_vector(\.weight)?$"), "magnitude"),
    (re.compile(r"^(?P<module>.+)\.token_adapter\.trainable_tokens_delta$"), "tokens"),
    (re.compile(r"^(?P<module>.+)\.(original_module|token_adapter\.base_layer)\.weight$"), "base"),
    (re.compile(r"^(?P<module>.+)\.modules_to_save\.weight$"), "whole"),
)
_EXPERTS = re.compile(r"^(?P<layer>.+)\.mlp\.experts(\.base_layer)?$")


@dataclass(frozen=True)
class LowRank:
    """A pair of matrices whose product, times `scale`, is added to a weight (O, I).

    With `num_experts` the pair is PEFT's fused form, `expert` says whose part this is, and
    `first_row` where the weight's rows begin in B. With `turned` the weight is stored as (I, O).
    """

    a: str
    b: str
    rank: int
    scale: float
    expert: int = 0
    num_experts: int = 1
    first_row: int = 0
    turned: bool = False
    magnitude: str = ""
    """Name of DoRA's vector of magnitudes (O,), or empty."""


@dataclass(frozen=True)
class Whole:
    """A tensor of the adapter that replaces a weight, from number `first` of it on."""

    name: str
    first: int = 0


@dataclass(frozen=True)
class Change:
    """What the adapter does to one published tensor, in this order."""

    whole: Whole | None = None
    low_rank: LowRank | None = None
    tokens: str = ""
    """Name of rows that replace those of `token_ids`, or empty."""
    token_ids: tuple[int, ...] = ()
    shift: str = ""
    """Name of a vector that, times `shift_scale`, is added, or empty."""
    shift_scale: float = 1.0


@dataclass
class _Found:
    """Names of an adapter's tensors for one module."""

    sides: dict[str, str] = field(default_factory=dict)
    kind: str = ""
    magnitude: str = ""


class _Mapper:
    def __init__(
        self,
        config: Mapping[str, Any],
        entries: Mapping[str, TensorEntry],
        parts: Mapping[str, Part],
        head_of: Mapping[str, str],
        turned: Collection[str],
    ) -> None:
        self._config, self._entries, self._parts = config, entries, parts
        self._head_of, self._turned = head_of, turned
        self._modules: dict[str, _Found] = {}
        self._changes: dict[str, Change] = {}
        self._fallback: dict[str, str] = {}
        self._lost: list[str] = []

    def run(self) -> dict[str, Change]:
        for name in sorted(self._entries):
            self._take(name)
        for name, parameter in self._fallback.items():
            if self._changes.get(parameter, Change()).whole is None:
                self._take_whole(name, parameter)
        halves = [m for m, found in self._modules.items() if set(found.sides) != {"A", "B"}]
        if not self._lost and not halves:
            for module, found in self._modules.items():
                self._place(module, found)
        if self._lost or halves:
            what = (
                f"'{self._lost[0]}' has no place in the model"
                if self._lost
                else f"half of a pair is missing at '{halves[0]}'"
            )
            raise InputError(
                f"the adapter does not fit: {what} ({len(self._lost)} tensors without a place, "
                f"{len(halves)} half pairs).",
                effect="The merged model would lack what these were trained to do.",
                way_out=_WAY_OUT,
            )
        return self._changes

    def _take(self, name: str) -> None:
        key = name.removeprefix(_PREFIX)
        for pattern, kind in _KEYS:
            match = pattern.match(key)
            if match is None:
                continue
            module = match["module"]
            if kind in ("pair", "embedding"):
                found = self._modules.setdefault(module, _Found())
                found.sides[match["side"]], found.kind = name, kind
            elif kind == "magnitude":
                self._modules.setdefault(module, _Found()).magnitude = name
            elif kind == "shift":
                scale = scale_of(self._config, module)[1]
                self._put(name, f"{module}.bias", shift=name, shift_scale=scale)
            elif kind == "tokens":
                ids = self._token_ids(module, name)
                self._put(name, f"{module}.weight", tokens=name, token_ids=ids)
            elif kind == "base":
                self._fallback[name] = self._published(f"{module}.weight")
            else:
                self._take_whole(name, f"{module}.weight")
            return
        self._take_whole(name, key)

    def _take_whole(self, name: str, key: str) -> None:
        key = re.sub(r"\.base_layer\.(weight|bias)$", r".\1", key)
        entry = replace(self._entries[name], name=key)
        is_stored = self._known(self._published(key))
        for part in [Part(entry, name)] if is_stored else split_fused(entry):
            published = self._published(part.entry.name)
            if self._known(published) and part.entry.shape != self._shape(published):
                raise InputError(
                    f"the adapter's '{name}' has shape {list(part.entry.shape)}, the model's "
                    f"'{published}' {list(self._shape(published))}.",
                    effect="Rows would be missing or left over: another vocabulary, or model.",
                    way_out=f"{_WAY_OUT} If the vocabulary grew, expand the base first: "
                    "lingraft embed expand.",
                )
            self._put(name, published, whole=Whole(name, part.first))

    def _put(self, name: str, parameter: str, **change: Any) -> None:
        parameter = self._published(parameter)
        if self._known(parameter):
            self._set(parameter, **change)
        else:
            self._lost.append(name)

    def _set(self, parameter: str, **change: Any) -> None:
        self._changes[parameter] = replace(self._changes.get(parameter, Change()), **change)

    def _published(self, parameter: str) -> str:
        return stored_name(parameter, self._known) or parameter

    def _known(self, parameter: str) -> bool:
        return parameter in self._parts or parameter in self._head_of

    def _shape(self, parameter: str) -> tuple[int, ...]:
        return self._parts[self._head_of.get(parameter, parameter)].entry.shape

    def _token_ids(self, module: str, name: str) -> tuple[int, ...]:
        """Find which rows of a module were trained, in the order of the adapter's rows."""
        given = self._config.get("trainable_token_indices")
        if isinstance(given, Mapping):
            ends = [key for key in given if module == key or module.endswith(f".{key}")]
            given = given[ends[0]] if ends else None
        ids = tuple(given or ())
        rows = self._shape(f"{module}.weight")[0] if self._known(f"{module}.weight") else 0
        if len(ids) != self._entries[name].shape[0] or any(not 0 <= i < rows for i in ids):
            raise InputError(
                f"the adapter's '{name}' has {self._entries[name].shape[0]} rows; its config "
                f"names {len(ids)} ids for a matrix of {rows} rows.",
                effect="Rows would be put at the wrong ids.",
                way_out=_WAY_OUT,
            )
        return ids

    def _place(self, module: str, found: _Found) -> None:
        a, b = found.sides["A"], found.sides["B"]
        experts = _EXPERTS.match(module)
        if experts:
            self._place_fused(experts["layer"], a, b)
            return
        parameter = self._published(f"{module}.weight")
        if not self._known(parameter) or len(self._shape(parameter)) != 2:
            self._lost += [a, b]
            return
        rank, scale = scale_of(self._config, module)
        turned = found.kind == "embedding" or parameter in self._turned
        outputs, inputs = self._shape(parameter)[:: -1 if turned else 1]
        self._check(a, (rank, inputs))
        self._check(b, (outputs, rank))
        if found.magnitude:
            self._check(found.magnitude, (outputs,))
        if bool(self._config.get("use_dora")) != bool(found.magnitude) or (
            found.magnitude and found.kind == "embedding"
        ):
            raise InputError(
                f"the adapter at '{module}': DoRA with a vector of magnitudes for a linear map "
                "was expected, or neither.",
                effect="Its arithmetic is another than the one known here.",
                way_out="Merge it with PEFT: PeftModel.merge_and_unload().",
            )
        pair = LowRank(a, b, rank, scale, turned=turned, magnitude=found.magnitude)
        self._set(parameter, low_rank=pair)

    def _place_fused(self, layer: str, a: str, b: str) -> None:
        """Give each expert its part of a pair for all experts of a layer."""
        stem = f"{layer}.block_sparse_moe.experts"
        names = [name for name in self._parts if name.startswith(f"{stem}.")]
        num_experts = len({name.removeprefix(f"{stem}.").split(".")[0] for name in names})
        if not num_experts:
            self._lost += [a, b]
            return
        inner, width = self._shape(f"{stem}.0.w1.weight")
        shapes = {"gate_up_proj": (2 * inner, width), "down_proj": (width, inner)}
        found = (self._entries[b].shape[0], self._entries[a].shape[-1])
        fits = [which for which, shape in shapes.items() if shape == found]
        which = fits[0] if fits else "gate_up_proj"
        rank, scale = scale_of(self._config, f"{layer}.mlp.experts.{which}")
        self._check(a, (rank * num_experts, shapes[which][1]))
        self._check(b, (shapes[which][0], rank * num_experts))
        roles = {"w1": 0, "w3": inner} if which == "gate_up_proj" else {"w2": 0}
        for expert in range(num_experts):
            for role, first_row in roles.items():
                pair = LowRank(a, b, rank, scale, expert, num_experts, first_row)
                self._set(f"{stem}.{expert}.{role}.weight", low_rank=pair)

    def _check(self, name: str, expected: tuple[int, ...]) -> None:
        shape = self._entries[name].shape
        if shape != expected:
            raise InputError(
                f"the adapter's '{name}' has shape {list(shape)}; rank and model ask for "
                f"{list(expected)}.",
                effect="The adapter is of another base, or its config of another rank.",
                way_out=_WAY_OUT,
            )


def map_adapter(
    config: Mapping[str, Any],
    entries: Mapping[str, TensorEntry],
    parts: Mapping[str, Part],
    head_of: Mapping[str, str] | None = None,
    turned: Collection[str] = (),
) -> dict[str, Change]:
    """Find the place of every adapter tensor.

    Args:
        config: The adapter's `adapter_config.json`.
        entries: The tensors of the adapter's weight file.
        parts: Published tensors of the model.
        head_of: Output matrix -> input matrix whose rows it shares, for tied models.
        turned: Linear maps of the model that are stored as (inputs, outputs).

    Returns:
        Published name -> what the adapter does to it.

    Raises:
        InputError: A tensor of the adapter has no place in the model, or half a pair is missing,
            or shapes do not belong together.
    """
    return _Mapper(config, entries, parts, head_of or {}, turned).run()
