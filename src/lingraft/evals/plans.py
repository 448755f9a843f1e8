"""How a model is to be loaded, and whether this machine can."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ..errors import MissingPackageError, UsageError
from ..models import ModelFolder
from ..packages import has_package

__all__ = ["DTYPES", "LoadPlan", "check_plan", "device_of", "dtype_of"]

DTYPES = ("auto", "float32", "bfloat16", "float16")
_ATTENTIONS = ("", "sdpa", "eager", "flash_attention_2")
_LOADS = ("full", "4bit")


@dataclass(frozen=True)
class LoadPlan:
    """How models are loaded.

    Attributes:
        load: "full", or "4bit": NF4 with double quantisation, by bitsandbytes; a Mixtral's
            experts, which bitsandbytes passes over, by our own NF4.
        attn: Attention: "sdpa", "eager", "flash_attention_2"; "": transformers' own choice.
        dtype: Of arithmetic and unpacked weights; "auto": as stored on a GPU, float32 on a CPU.
        device: "cpu", "cuda", "cuda:1"; "auto": the first GPU, else the CPU; "split": over all
            GPUs, by accelerate.
        trust_remote_code: Whether Python files of the model's folder may run.
        packed_cache: Folder where a Mixtral's packed weights are kept, so that the next load need
            not pack them anew; "": none.
    """

    load: str = "full"
    attn: str = ""
    dtype: str = "auto"
    device: str = "auto"
    trust_remote_code: bool = False
    packed_cache: str = ""

    def deciding(self) -> dict[str, Any]:
        """All that results depend on: where packed weights are kept does not decide any."""
        return {key: value for key, value in asdict(self).items() if key != "packed_cache"}


def check_plan(plan: LoadPlan) -> None:
    """Look for what a plan needs.

    Raises:
        UsageError: A value is none of those known, or there is no such device.
        MissingPackageError: A library is missing.
    """
    for name, value, known in (
        ("--load", plan.load, _LOADS),
        ("--attn", plan.attn, _ATTENTIONS),
        ("--dtype", plan.dtype, DTYPES),
    ):
        if value not in known:
            choices = ", ".join(choice for choice in known if choice)
            raise UsageError(f"{name} {value}: expected one of {choices}.")
    if plan.packed_cache in ("auto", "none"):  # words of a recipe's train.packed_cache
        raise UsageError(
            f"--packed-cache {plan.packed_cache}: expected a folder.",
            way_out="Leave it out, and nothing is kept.",
        )
    if plan.packed_cache and plan.load != "4bit":
        raise UsageError(
            f"--packed-cache {plan.packed_cache} without 4 bits: nothing would be packed.",
            way_out="Leave it out, or load in 4 bits.",
        )
    device = device_of(plan)
    if plan.device == "split" and not has_package("accelerate"):
        raise MissingPackageError(
            "--device split needs accelerate.", way_out="pip install accelerate."
        )
    if plan.attn != "flash_attention_2":
        return
    if device.type != "cuda":
        raise UsageError(
            f"--attn flash_attention_2 on the device {device}: it runs on NVIDIA GPUs only.",
            way_out="Leave --attn out, or use --attn sdpa.",
        )
    if not has_package("flash_attn"):
        raise MissingPackageError(
            "--attn flash_attention_2 needs the package flash-attn.",
            way_out="pip install flash-attn; or use --attn sdpa, which is as exact.",
        )
    if plan.dtype == "float32":
        raise UsageError(
            "--attn flash_attention_2 with --dtype float32: it computes in 16 bits only.",
            way_out="Use --dtype bfloat16.",
        )


def device_of(plan: LoadPlan) -> Any:
    """Find the device.

    Raises:
        UsageError: There is none of this name, or no GPU.
    """
    import torch

    if plan.device in ("auto", "split"):
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(plan.device)
    except RuntimeError:
        raise UsageError(
            f"--device {plan.device}: expected auto, split, cpu, cuda or cuda:N."
        ) from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(
            f"--device {plan.device}: this machine has {torch.cuda.device_count()} GPUs.",
            way_out="Use --device cpu, or a GPU that is there.",
        )
    return device


def dtype_of(plan: LoadPlan, files: ModelFolder, device: Any) -> Any:
    """Give the torch dtype; "auto" is float32 on a CPU, and the one of the files on a GPU."""
    import torch

    if plan.dtype != "auto":
        return getattr(torch, plan.dtype)
    if device.type == "cpu":
        return torch.float32
    config = files.config.get("text_config") or files.config
    stored = config.get("dtype") or config.get("torch_dtype") or "bfloat16"
    return getattr(torch, str(stored).removeprefix("torch."), torch.bfloat16)
