"""Load a model to be looked at: whole or in 4 bits, on any device, by any way of attention.

One loader for `eval`, `bpb`, `generate` and `chat`, so that they all see the same model. What a
flag needs is looked for before the first byte is read; nothing is loaded in another way than
asked. A tensor that the folder lacks is an error: transformers would draw it by chance.

Source of the ways: the inference examples of HIT-SCIR/Chinese-Mixtral-8x7B (FlashAttention-2,
`load_in_4bit`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from ..errors import InputError, MissingPackageError
from ..models import ModelFolder
from ..packages import has_package
from ..packedcache import Pack, open_cache, pack_anew
from .fourbit import has_packed_form, load_packed
from .placing import context_in, explained, labels_of, locate_model, read_tokenizer_of
from .plans import LoadPlan, check_plan, device_of, dtype_of

__all__ = ["LoadPlan", "Loaded", "check_plan", "labels_of", "load_model", "locate_model"]

_log = logging.getLogger("lingraft")
_WARNS = "WARNING: "
_PACK_HINT = "Install bitsandbytes and accelerate: pip install bitsandbytes accelerate."


class Loaded:
    """A model on its device with its tokenizer.

    Attributes:
        name: What results call it.
        folder: Where it lies.
        model: The transformers model, in eval mode.
        plan: How it was loaded.
    """

    def __init__(self, name: str, folder: Path, model: Any, plan: LoadPlan) -> None:
        """Keep what was loaded."""
        self.name, self.folder, self.model, self.plan = name, folder, model, plan

    @cached_property
    def tokenizer(self) -> Any:
        """Its transformers tokenizer.

        Raises:
            InputError: transformers cannot read it.
        """
        return read_tokenizer_of(self.folder, self.plan)

    @property
    def context(self) -> int | None:
        """Positions that it was made for; None: its config does not tell."""
        return context_in(self.model.config)

    def describe(self) -> dict[str, Any]:
        """Tell for results how it was loaded."""
        config = self.model.config.get_text_config()
        return {
            "load": self.plan.load,
            "dtype": str(self.model.get_input_embeddings().weight.dtype).removeprefix("torch."),
            "attention": str(getattr(config, "_attn_implementation", "") or ""),
            "device": self.model.get_input_embeddings().weight.device.type,
        }


def load_model(name: str, plan: LoadPlan, label: str = "") -> Loaded:
    """Load a model.

    Args:
        name: A folder, or OWNER/NAME of the hub.
        plan: How.
        label: What results call it; "": the end of its name.

    Raises:
        UsageError: There is no such model, or the plan cannot be carried out.
        MissingPackageError: A library is missing.
        InputError: The folder cannot be loaded, or lacks tensors.
    """
    check_plan(plan)
    folder = locate_model(name, plan)
    files = ModelFolder(folder)
    device = device_of(plan)
    if plan.load == "4bit" and has_packed_form(files):
        make = partial(
            load_packed, files, dtype=dtype_of(plan, files, device), device=device, attn=plan.attn
        )
        model = _through_cache(files, plan, device, lambda pack: make(pack=pack))
    else:
        if plan.packed_cache:
            _log.warning("%s: --packed-cache keeps the weights of a Mixtral alone", folder)
        model = _load(files, plan, device)
    return Loaded(label or labels_of([name])[0], folder, model.eval(), plan)


def _through_cache(
    files: ModelFolder, plan: LoadPlan, device: Any, make: Callable[[Pack], Any]
) -> Any:
    """Have a model built from kept packed weights where the plan names a place for them."""
    if not plan.packed_cache:
        return make(pack_anew)
    place = Path(plan.packed_cache).expanduser()
    return open_cache(place, files, device, _note).build(make)


def _note(line: str) -> None:
    """Log what the cache tells; what it tells as a warning is one."""
    warns = line.startswith(_WARNS)
    _log.log(logging.WARNING if warns else logging.INFO, "%s", line.removeprefix(_WARNS))


def _load(files: ModelFolder, plan: LoadPlan, device: Any) -> Any:
    """Load with transformers.

    Raises:
        InputError: It cannot, or tensors are missing, or experts would stay in 16 bits.
        MissingPackageError: 4 bits are wanted and bitsandbytes is missing.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    options: dict[str, Any] = {"dtype": dtype_of(plan, files, device)}
    if plan.attn:
        options["attn_implementation"] = plan.attn
    if plan.load == "4bit":
        options["quantization_config"] = _four_bits(options["dtype"])
    on_load = plan.load == "4bit" or plan.device == "split" or _can_map(device)
    if on_load:
        options["device_map"] = "auto" if plan.device == "split" else {"": device}
    disable_progress_bar()  # lingraft shows its own

    def load() -> Any:
        return AutoModelForCausalLM.from_pretrained(
            files.path,
            local_files_only=True,
            trust_remote_code=plan.trust_remote_code,
            output_loading_info=True,
            **options,
        )

    model, told = explained(files.path, load)
    _refuse_missing(files.path, sorted(told["missing_keys"]))
    if plan.load == "4bit":
        _refuse_unpacked(files.path, model)
    return model if on_load else model.to(device)


def _refuse_missing(folder: Path, missing: Sequence[str]) -> None:
    if missing:
        raise InputError(
            f"{folder}: {len(missing):,} tensors of its architecture are missing, the first is "
            f"'{missing[0]}'.",
            effect="transformers would draw them by chance, and every figure would be noise.",
            way_out="Fetch or write the model again.",
        )


def _refuse_unpacked(folder: Path, model: Any) -> None:
    """Refuse experts that bitsandbytes passed over: it packs nn.Linear and nothing else."""
    left = [n for n, p in model.named_parameters() if p.ndim == 3 and "expert" in n]
    if left:
        raise InputError(
            f"{folder}: bitsandbytes leaves its experts in 16 bits ('{left[0]}').",
            effect="It would take about four times the memory that 4 bits need, unseen.",
            way_out="4-bit experts are supported for Mixtral; load this one with --load full.",
        )


def _four_bits(dtype: Any) -> Any:
    """Give the settings of QLoRA: NF4, double quantisation.

    Raises:
        MissingPackageError: There is no bitsandbytes.
    """
    missing = [name for name in ("bitsandbytes", "accelerate") if not has_package(name)]
    if missing:
        raise MissingPackageError(
            f"--load 4bit needs {' and '.join(missing)} for this model.", way_out=_PACK_HINT
        )
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def _can_map(device: Any) -> bool:
    """Whether weights can go to a GPU as they are read, without standing in memory first."""
    return bool(device.type == "cuda" and has_package("accelerate"))
