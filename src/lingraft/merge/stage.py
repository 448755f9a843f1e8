"""Merge the trained adapter into the expanded model, shard by shard, and prove it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from ..errors import UsageError, VerifyError
from ..models import (
    ModelFolder,
    TensorEntry,
    link_tokenizer,
    load_causal_lm,
    write_index,
    write_shard,
)
from ..nf4 import round_trip
from ..settings import StageSettings
from ..store import Artefact, Draft, link_or_copy, write_json
from .fold import AdapterMap, body_weight, fold, is_linear, map_adapter
from .settings import MergeFacts, MergeSettings
from .verify import (
    TOLERANCE,
    add_adapter,
    fixed_prompts,
    follow_routing,
    record_routing,
    set_linears,
)

__all__ = ["run"]

_DTYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
_COARSER = ("F32", "F16", "BF16")


def run(settings: StageSettings, inputs: Mapping[str, Artefact], draft: Draft) -> MergeFacts:
    """Write the merged model folder.

    Raises:
        InputError: The adapter does not fit the model.
        UsageError: The NF4 body is asked for, but training did not see one.
        VerifyError: The merged model does not say what base and adapter say.
    """
    assert isinstance(settings, MergeSettings), "merge.run got another stage's settings"
    trained = inputs["train"]
    _refuse_unseen_body(settings, trained)
    model = ModelFolder(inputs["embed"].path)
    weights = trained.file("adapter/adapter_model.safetensors")
    config = json.loads(trained.file("adapter/adapter_config.json").read_text(encoding="utf-8"))
    with safe_open(weights, "pt") as adapter:
        plan = map_adapter(config, adapter.keys(), model.weight_map)
        merger = _Merger(model, adapter, plan, settings)
        size_bytes = merger.write(draft)
        _write_configs(model, settings.dtype, draft.path)
        difference = merger.verify(draft)
    num_used = len(plan.pairs) + len(plan.whole)
    return MergeFacts(
        tensors_merged=len(plan.pairs),
        tensors_replaced=len(plan.whole),
        tensors_kept=len(model.weight_map) - num_used,
        size_bytes=size_bytes,
        max_logit_difference=difference,
    )


class _Merger:
    """The expanded model, the adapter, and where its tensors go."""

    def __init__(
        self, model: ModelFolder, adapter: Any, plan: AdapterMap, settings: MergeSettings
    ) -> None:
        self._model, self._adapter, self._plan = model, adapter, plan
        self._body, self._dtype = settings.body, settings.dtype

    def write(self, draft: Draft) -> int:
        """Write every shard and the index; return the bytes of all tensors."""
        total_bytes = 0
        with draft.progress("merge", len(self._model.shards), "shards") as progress:
            for shard in self._model.shards:
                entries = [self._stored(entry) for entry in self._model.entries(shard)]
                if all(self._is_kept(entry) for entry in entries):
                    link_or_copy(self._model.path / shard, draft.path / shard)
                else:
                    write_shard(draft.path / shard, entries, lambda e: self._merged(e.name))
                total_bytes += sum(entry.size_bytes for entry in entries)
                progress.advance(1, shard)
        write_index(draft.path, self._model.weight_map, total_bytes)
        return total_bytes

    def verify(self, draft: Draft) -> float:
        """Compare logits; return the largest difference.

        Memory holds one float32 model at a time.

        Raises:
            VerifyError: The difference is larger than rounding explains.
        """
        draft.note("comparing logits of the merged model with those of base and adapter")
        prompts = fixed_prompts(self._model.entry("model.embed_tokens.weight").shape[0])
        with torch.no_grad():
            reference = self._reference()
            choices = record_routing(reference)
            expected = reference(input_ids=prompts).logits
            del reference
            merged = load_causal_lm(draft.path)
            follow_routing(merged, choices)
            found = merged(input_ids=prompts).logits
        difference = float((found - expected).abs().max())
        stored = {self._stored(entry).dtype for entry in self._model.all_entries()}
        coarsest = max(stored, key=_COARSER.index)
        allowed = TOLERANCE[coarsest] * float(expected.abs().max())
        # Not `>`: a difference that is no number must not pass.
        if not difference <= allowed:
            raise VerifyError(
                f"{draft.path}: logits of the merged model differ by {difference:.3g} from those "
                f"of base and adapter; {coarsest} rounding explains {allowed:.3g}.",
                effect="The merged model would not be the model that was trained.",
                way_out="Merge again (--redo merge); if it stays, merge.dtype is too coarse.",
            )
        draft.note(f"largest difference of logits {difference:.2e} (allowed {allowed:.2e})")
        return difference

    def _stored(self, entry: TensorEntry) -> TensorEntry:
        return entry if self._dtype == "keep" else replace(entry, dtype=_DTYPES[self._dtype])

    def _is_kept(self, entry: TensorEntry) -> bool:
        """Tell whether a tensor is stored exactly as the expanded model has it."""
        used = entry.name in self._plan.pairs or entry.name in self._plan.whole
        packed = self._body == "nf4" and is_linear(entry.name)
        return not used and not packed and entry == self._model.entry(entry.name)

    def _merged(self, parameter: str) -> torch.Tensor:
        if parameter in self._plan.whole:
            return self._read(self._plan.whole[parameter])
        weight = body_weight(parameter, self._model.tensor(parameter), self._body)
        if parameter not in self._plan.pairs:
            return weight
        return fold(weight, *self._pair(parameter), self._plan.scale)

    def _reference(self) -> Any:
        """The expanded model with the adapter beside it, not in it."""
        model = load_causal_lm(self._model.path)
        if self._body == "nf4":
            set_linears(model, lambda name: round_trip(self._model.tensor(name)))
        for parameter, name in self._plan.whole.items():
            model.get_parameter(parameter).copy_(self._read(name))
        pairs = {parameter: self._pair(parameter) for parameter in self._plan.pairs}
        add_adapter(model, pairs, self._plan.scale)
        return model

    def _pair(self, parameter: str) -> tuple[torch.Tensor, torch.Tensor]:
        a, b = self._plan.pairs[parameter]
        return self._read(a), self._read(b)

    def _read(self, name: str) -> torch.Tensor:
        tensor: torch.Tensor = self._adapter.get_tensor(name)
        return tensor.float()


def _refuse_unseen_body(settings: MergeSettings, trained: Artefact) -> None:
    quantize = trained.manifest.identity.settings.get("quantize")
    if settings.body == "nf4" and quantize != "nf4":
        raise UsageError(
            f'merge.body = "nf4", but training ran with train.quantize = "{quantize}".',
            effect="The adapter would be added to weights that it was not trained beside.",
            way_out='Use merge.body = "original".',
        )


def _write_configs(model: ModelFolder, dtype: str, folder: Path) -> None:
    config = dict(model.config)
    if dtype != "keep":
        config.pop("torch_dtype", None)
        config["dtype"] = dtype
    write_json(folder / "config.json", config)
    generation = model.path / "generation_config.json"
    if generation.is_file():
        link_or_copy(generation, folder / generation.name)
    link_tokenizer(model.path, folder)
