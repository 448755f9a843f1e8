"""A model for the harness: loaded when it is first asked, by transformers or by vLLM."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..errors import InputError, MissingPackageError, UsageError
from ..manifest import canonical_json
from ..models import ModelFolder
from ..packages import has_package
from ..progress import Reporter
from .answering import watch_logits
from .loading import load_model
from .placing import locate_model
from .plans import DTYPES, LoadPlan, device_of, dtype_of
from .prefixes import make_sharing_lm, refuse_windows
from .reading import tell_contradiction

__all__ = ["BACKENDS", "HarnessModel", "check_vllm", "digest_model", "model_key"]

BACKENDS = ("transformers", "vllm")

_WHOLE_BYTES = 1 << 24
_SLICES, _SLICE_BYTES = 64, 1 << 16
_VLLM_CHUNK = 1_024
"""vLLM reports its answers when all are there; so many are lost to a kill at most."""


_OWN_ARGS = {
    "pretrained": "MODEL",
    "dtype": "--dtype",
    "batch_size": "--batch-size",
    "trust_remote_code": "--trust-remote-code",
}


def check_vllm(load: LoadPlan, model_args: Mapping[str, Any]) -> None:
    """Refuse what vLLM would not be told, or be told twice.

    Raises:
        UsageError: A way of loading that only transformers has, an unknown dtype, or a model
            argument that an option of ours gives.
    """
    for option, value, default in (
        ("--attn", load.attn, ""),
        ("--device", load.device, "auto"),
        ("--packed-cache", load.packed_cache, ""),
    ):
        if value != default:
            raise UsageError(
                f"{option} {value} with --backend vllm: vLLM chooses by itself.",
                effect="It would not be used.",
                way_out=f"Leave {option} out; the environment's CUDA_VISIBLE_DEVICES names GPUs.",
            )
    if load.dtype not in DTYPES:
        raise UsageError(f"--dtype {load.dtype}: expected one of {', '.join(DTYPES)}.")
    options = _OWN_ARGS | ({"quantization": "load='4bit'"} if load.load == "4bit" else {})
    for name in model_args:
        if name in options:
            raise UsageError(
                f"--model-args {name}=...: lingraft gives it; expected {options[name]} instead."
            )


class HarnessModel:
    """One model, as it is to be loaded."""

    def __init__(
        self,
        name: str,
        label: str,
        backend: str,
        load: LoadPlan,
        model_args: dict[str, str],
        batch_size: str,
        share_prefixes: bool,
    ) -> None:
        """Locate the model's folder; a hub's model is fetched."""
        self.label, self.backend, self.load = label, backend, load
        self.model_args, self.batch_size = model_args, batch_size
        self.share_prefixes = share_prefixes
        self.folder = locate_model(name, load)
        self.chunk = _VLLM_CHUNK if backend == "vllm" else 0
        self._lm: Any = None
        self._loaded: Any = None

    def open(self, reporter: Reporter) -> Any:
        """Load it, once.

        Raises:
            InputError: It cannot be loaded.
            MissingPackageError: vLLM is asked for and missing.
            UsageError: Its beginnings cannot be shared.
        """
        if self._lm is None:
            reporter.note(f"loading {self.label}")
            self._lm = self._open_vllm() if self.backend == "vllm" else self._open_transformers()
            if self._loaded and (told := tell_contradiction(self.folder, self._loaded.tokenizer)):
                reporter.note(f"{self.label}: {told}")
        return self._lm

    def _open_transformers(self) -> Any:
        from lm_eval.models.huggingface import HFLM

        self._loaded = load_model(str(self.folder), self.load, self.label)
        if self.share_prefixes:
            refuse_windows(self._loaded.model, self.label)
            size = int(self.batch_size)
            lm = make_sharing_lm(self._loaded.model, self._loaded.tokenizer, size)
            return watch_logits(lm, self.label)
        lm = HFLM(
            pretrained=self._loaded.model,
            tokenizer=self._loaded.tokenizer,
            backend="causal",
            batch_size=self.batch_size if self.batch_size == "auto" else int(self.batch_size),
        )
        return watch_logits(lm, self.label)

    def _open_vllm(self) -> Any:
        if not has_package("vllm"):
            raise MissingPackageError(
                "--backend vllm needs the package vllm.",
                way_out="pip install vllm, on a machine with a GPU; or use --backend transformers.",
            )
        from lm_eval.models.vllm_causallms import VLLM

        options: dict[str, Any] = {"dtype": self.load.dtype, "batch_size": self.batch_size}
        if self.load.load == "4bit":
            options["quantization"] = "bitsandbytes"
        if self.load.trust_remote_code:
            options["trust_remote_code"] = True
        return VLLM(pretrained=str(self.folder), **options, **self.model_args)

    def close(self) -> None:
        """Let the model go, before the next one is loaded."""
        self._lm = self._loaded = None

    def describe(self) -> dict[str, Any]:
        """Tell for results what was loaded and how, and by which versions."""
        if self.backend == "vllm":
            told: dict[str, Any] = {"load": self.load.load, "dtype": self.load.dtype}
            told |= {"model_args": self.model_args, "vllm": version("vllm")}
        else:
            assert self._loaded is not None, "a model is described while it is loaded"
            told = self._loaded.describe()
        if self.load.trust_remote_code:
            told["trust_remote_code"] = True
        if self.share_prefixes:
            told["share_prefixes"] = True
        versions = {name: version(name) for name in ("torch", "transformers")}
        return {"folder": str(self.folder), "backend": self.backend, **told, **versions}


def model_key(model: HarnessModel) -> str:
    """Name a model's answers: by its files and everything that can change an answer.

    What "auto" stands for on this machine is in it: answers of a CPU in float32 and of a GPU in
    bfloat16 are not mixed. vLLM finds its dtype by itself, from the files.
    """
    digest = digest_model(model.folder, with_code=model.load.trust_remote_code)
    load = model.load.deciding()
    if model.backend == "transformers":
        device = device_of(model.load)
        dtype = dtype_of(model.load, ModelFolder(model.folder), device)
        load |= {"device": device.type, "dtype": str(dtype), "split": model.load.device == "split"}
    content = {
        "model": digest,
        "backend": model.backend,
        "load": load,
        "model_args": model.model_args,
        "batch_size": model.batch_size,
        "share_prefixes": model.share_prefixes,
    }
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def digest_model(folder: Path, *, with_code: bool = False) -> str:
    """Digest a model folder: small files whole, of large ones size, time and 64 slices.

    What is written over changes it, whatever stands there now; a copy with times of its own is
    another model, too.

    Args:
        folder: Where the model lies.
        with_code: Whether its Python files run, and so belong to it.

    Raises:
        InputError: The folder holds no weights.
    """
    digest = hashlib.sha256()
    paths = sorted(
        p for p in folder.iterdir() if p.suffix in _SUFFIXES and p.is_file() and p.name[0] != "."
    )
    if not any(path.suffix in (".safetensors", ".bin") for path in paths):
        raise InputError(
            f"{folder}: holds no .safetensors and no .bin file; expected a model folder.",
            way_out="Fetch or write the model again.",
        )
    if with_code:
        paths += sorted(folder.rglob("*.py"))
    for path in paths:
        name = path.relative_to(folder).as_posix()
        stat = path.stat()
        time = stat.st_mtime_ns if stat.st_size > _WHOLE_BYTES else 0
        digest.update(f"{name}\0{stat.st_size}\0{time}\0".encode())
        for part in _parts(path):
            digest.update(part)
    return digest.hexdigest()


_SUFFIXES = (".json", ".model", ".safetensors", ".bin", ".jinja", ".txt")


def _parts(path: Path) -> Iterator[bytes]:
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        if size_bytes <= _WHOLE_BYTES:
            yield file.read()
            return
        for number in range(_SLICES):
            file.seek(number * (size_bytes - _SLICE_BYTES) // (_SLICES - 1))
            yield file.read(_SLICE_BYTES)
