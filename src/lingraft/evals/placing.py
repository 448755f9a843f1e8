"""Where models lie, what they are called, and what can be known before one is loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError, UsageError
from ..folders import model_fingerprint
from ..hub import fetch_snapshot
from ..models import ModelFolder
from .plans import LoadPlan

__all__ = [
    "context_in",
    "context_of",
    "explained",
    "fingerprint",
    "labels_of",
    "locate_model",
    "read_tokenizer_of",
]

_WEIGHTS = ("model*.safetensors", "model.safetensors.index.json")
_BINS = ("pytorch_model*.bin", "pytorch_model.bin.index.json")
_SMALL = ("*.json", "tokenizer.model", "*.jinja", "merges.txt", "vocab.txt")


def labels_of(models: Sequence[str]) -> list[str]:
    """Give each model a short name of its own: the end of its path, as long as needs be.

    >>> labels_of(["runs/a/70-merge", "runs/b/70-merge", "base"])
    ['a/70-merge', 'b/70-merge', 'base']

    Raises:
        UsageError: A model is named twice.
    """
    paths = [Path(name).expanduser().absolute().parts for name in models]
    if len(set(paths)) < len(paths):
        raise UsageError("a model is named twice; expected each once, the base first.")

    def shorten(path: tuple[str, ...]) -> str:
        for length in range(1, len(path) + 1):
            if sum(other[-length:] == path[-length:] for other in paths) == 1:
                return "/".join(path[-length:])
        return "/".join(path)

    return [shorten(path) for path in paths]


def locate_model(name: str, plan: LoadPlan) -> Path:
    """Give the folder of a model; one of the hub is fetched into its cache.

    Args:
        name: A folder, or OWNER/NAME of the hub where there is no such folder.
        plan: Whether its own code may run.

    Raises:
        UsageError: There is no such place, or it is not what a model lies in.
        InputError: The hub does not give it.
    """
    path = Path(name).expanduser()
    owner, _, repository = name.removeprefix("hub:").partition("/")
    named = bool(owner and repository) and "/" not in repository and owner[0] not in ".~"
    if name.startswith("hub:") or (named and not path.exists()):
        source = f"hub:{name.removeprefix('hub:')}"
        code = ("*.py",) if plan.trust_remote_code else ()
        folder = fetch_snapshot(source, "model", "main", (*_WEIGHTS, *_SMALL, *code))
        if not list(folder.glob("*.safetensors")):
            fetch_snapshot(source, "model", "main", _BINS)
        return folder
    if path.suffix == ".gguf":
        raise UsageError(
            f"{name}: a GGUF file; expected a model folder.",
            way_out="Unpack it: lingraft embed from-gguf --model FILE --out DIR.",
        )
    if not path.is_dir():
        raise UsageError(f"{name}: no such folder; expected a model folder, or OWNER/NAME.")
    if (path / "adapter_config.json").is_file() and not (path / "config.json").is_file():
        raise UsageError(
            f"{name}: an adapter; expected a whole model.",
            way_out="Merge it into its base: lingraft merge.",
        )
    return path


def explained(folder: Path, load: Callable[[], Any]) -> Any:
    """Turn what transformers raises into a message.

    Raises:
        InputError: It raised.
    """
    try:
        return load()
    except (OSError, ValueError, RuntimeError, KeyError, ImportError, AttributeError) as error:
        told = str(error).strip().partition("\n")[0] or type(error).__name__
        raise InputError(
            f"{folder}: transformers cannot load it: {told}",
            way_out="Check config.json and the versions; or name another --attn, --dtype or "
            "--device.",
        ) from error


def context_of(folder: Path, plan: LoadPlan) -> int | None:
    """Positions that a model was made for, from its config alone; None: it does not tell.

    Raises:
        InputError: The config cannot be read.
    """
    from transformers import AutoConfig

    ModelFolder(folder)  # tells what is damaged or missing better than the library does
    return context_in(
        explained(
            folder,
            lambda: AutoConfig.from_pretrained(
                folder, local_files_only=True, trust_remote_code=plan.trust_remote_code
            ),
        )
    )


def context_in(config: Any) -> int | None:
    """Positions that a transformers config tells; None: it does not."""
    found = getattr(config.get_text_config(), "max_position_embeddings", None)
    return int(found) if found else None


def fingerprint(folder: Path) -> str:
    """Tell one model from another, and from what lay in its place before."""
    files = ModelFolder(folder)
    stats = [(folder / shard).stat() for shard in files.shards]
    written = [f"{stat.st_size}:{stat.st_mtime_ns}" for stat in stats]
    return f"{folder.resolve()} {model_fingerprint(files)} {' '.join(written)}"


def read_tokenizer_of(folder: Path, plan: LoadPlan) -> Any:
    """Read a model's tokenizer with transformers.

    Raises:
        InputError: It cannot be read.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=plan.trust_remote_code
        )
    except Exception as error:  # the library's own and Rust's errors have no common root
        told = str(error).strip().partition("\n")[0]
        raise InputError(
            f"{folder}: transformers cannot read its tokenizer: {told}",
            way_out="The tokenizer's files belong into the model's folder.",
        ) from error
