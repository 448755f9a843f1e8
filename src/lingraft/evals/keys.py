"""What decides a model's figures, in a row: kept results of another model or way are not used."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ..models import ModelFolder
from .placing import fingerprint
from .plans import LoadPlan, device_of, dtype_of

__all__ = ["model_key"]

_SMALL = ("*.json", "*.model", "*.txt", "*.jinja")
"""Tokenizer, and what ends a text: a fingerprint is of config and weights alone."""


def model_key(label: str, folder: Path, plan: LoadPlan) -> str:
    """Tell a model, and where and in which numbers it computes.

    Args:
        label: What results call it; "" where they do not depend on that.
        folder: Where it lies.
        plan: How it is loaded; "auto" stands here as what this machine makes of it.

    Raises:
        UsageError: There is no such device.
    """
    device = device_of(plan)
    dtype = str(dtype_of(plan, ModelFolder(folder), device)).removeprefix("torch.")
    digest = hashlib.sha256()
    patterns = (*_SMALL, "*.py") if plan.trust_remote_code else _SMALL
    for path in sorted(path for pattern in patterns for path in folder.glob(pattern)):
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)} ".encode() + content)
    return f"{label} {fingerprint(folder)} {digest.hexdigest()} {device.type} {dtype}"
