"""GGUF files of small models as model folders, through transformers.

The weights come out of their packing and are stored in bfloat16: what the quantisation lost stays
lost, and it is said in `facts`. A GGUF names the split pattern of its tokenizer (`smollm`,
`qwen2`), and the conversion may give another: that is told, for a wrong pattern changes ids.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError, MissingPackageError, UsageError
from ..packages import has_package
from ..progress import Reporter, SilentReporter
from ..store import disk_errors, require_space

__all__ = ["GgufResult", "from_gguf"]

_MAGIC = b"GGUF"
_MOST_BYTES = 4_000_000_000
_BYTES_PER_PACKED = 8  # Q2 to float32 and bfloat16 side by side: an upper bound


@dataclass(frozen=True)
class GgufResult:
    """A model folder made of a GGUF file.

    Attributes:
        folder: Where it lies.
        num_parameters: Numbers in its tensors, tied ones once.
        split_pattern: The name that the file gives to the tokenizer's split pattern; "" for none.
    """

    folder: Path
    num_parameters: int
    split_pattern: str


def from_gguf(
    *, model: str | Path, out: str | Path, reporter: Reporter | None = None
) -> GgufResult:
    """Write a GGUF file as a model folder in bfloat16, with its tokenizer.

    Args:
        model: The file; up to 4 GB, for it is held in memory as float32.
        out: Folder to write; it must not exist or be empty.
        reporter: Where progress goes.

    Raises:
        InputError: It is no GGUF file, or transformers cannot read its architecture.
        UsageError: There is no such file, it is too large, or `out` holds something.
        MissingPackageError: The package `gguf` is not installed.
    """
    path, folder = Path(model).expanduser(), Path(out).expanduser().absolute()
    _check(path, folder)
    teller = reporter or SilentReporter()
    require_space(folder, path.stat().st_size * _BYTES_PER_PACKED)
    draft = folder.with_name(f".draft-{folder.name}")
    with disk_errors(folder, place="--out DIR"):
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        with teller.task("unpack", 1, "model") as progress:
            num_parameters = _convert(path, draft)
            progress.advance(1, path.name)
        if folder.exists():
            folder.rmdir()
        draft.rename(folder)
    pattern = _split_pattern(path)
    if pattern not in ("", "default", "gpt-2"):
        teller.note(
            f"{path.name} names the split pattern {pattern!r}; compare pre_tokenizer in "
            "tokenizer.json with the published one, for the conversion may give another."
        )
    return GgufResult(folder, num_parameters, pattern)


def _check(path: Path, folder: Path) -> None:
    if not path.is_file():
        raise UsageError(f"{path}: no such file.", way_out="Check --model FILE.")
    with path.open("rb") as file:
        magic = file.read(4)
    if magic != _MAGIC:
        raise InputError(
            f"{path}: not a GGUF file: it begins with {magic!r}, expected {_MAGIC!r}.",
            way_out="A model folder needs no unpacking: lingraft embed expand --model DIR.",
        )
    if path.stat().st_size > _MOST_BYTES:
        raise UsageError(
            f"{path}: {path.stat().st_size / 1e9:.1f} GB; expected 4 GB or less.",
            effect="It would be held in memory whole, in float32.",
            way_out="Fetch the model in safetensors instead.",
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(
            f"{folder}: holds something.",
            effect="It would be overwritten.",
            way_out="Name another folder with --out.",
        )
    if not has_package("gguf"):
        raise MissingPackageError(
            "reading GGUF files needs the package 'gguf', which is not installed.",
            way_out="pip install gguf",
        )


def _convert(path: Path, folder: Path) -> int:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # lingraft shows its own
    place: dict[str, Any] = {"gguf_file": path.name, "local_files_only": True}
    try:
        tokenizer = AutoTokenizer.from_pretrained(path.parent, **place)
        model = AutoModelForCausalLM.from_pretrained(
            path.parent, dtype=torch.float32, **place, **_unpacked()
        )
    except (OSError, ValueError, KeyError, RuntimeError, NotImplementedError) as error:
        raise InputError(
            f"{path}: transformers cannot read it: {error}.",
            way_out="Fetch the model in safetensors instead.",
        ) from error
    model = model.to(torch.bfloat16)
    model.config._name_or_path = path.name
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for file in folder.iterdir():
        file.chmod(0o644)  # weights are written for their owner alone
    return int(model.num_parameters())


def _unpacked() -> dict[str, Any]:
    """Ask transformers for plain weights: its later versions keep them packed otherwise."""
    from transformers.utils import quantization_config

    config = getattr(quantization_config, "GgufConfig", None)
    return {} if config is None else {"quantization_config": config(dequantize=True)}


def _split_pattern(path: Path) -> str:
    from gguf import GGUFReader  # type: ignore[import-not-found, unused-ignore]

    field = GGUFReader(path).fields.get("tokenizer.ggml.pre")
    return "" if field is None else str(field.contents())
