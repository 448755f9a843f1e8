"""A model folder from the hub or from disk, looked at before anything is built on it."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError
from ..models import ModelFolder
from ..pieces import SentencePieces

__all__ = ["check_model", "fetch_model"]

_WANTED = (
    "config.json",
    "generation_config.json",
    "model*.safetensors",  # not consolidated*.safetensors: the same weights once more
    "model.safetensors.index.json",
    "tokenizer.model",
)


def fetch_model(repository: str, revision: str) -> Path:
    """Fetch a hub repository into the hub's own cache; what is there already is not fetched again.

    A token, where the repository needs one, comes from huggingface_hub's own places (HF_TOKEN,
    a login); it never passes through here.

    Args:
        repository: `OWNER/NAME`.
        revision: Commit, tag or branch.

    Raises:
        InputError: The repository or revision does not exist, needs a login, or cannot be reached.
    """
    from huggingface_hub import errors, snapshot_download

    where = f"base.model = hub:{repository} at revision '{revision}'"
    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=list(_WANTED)))
    except errors.GatedRepoError:
        raise InputError(
            f"{where}: its owner asks for consent first.",
            way_out="Accept its terms on its page, then log in (hf auth login) or set HF_TOKEN.",
        ) from None
    except (errors.HFValidationError, errors.RepositoryNotFoundError):
        raise InputError(
            f"{where}: no such model, or it is private.",
            way_out="Check OWNER/NAME; for a private model log in (hf auth login).",
        ) from None
    except errors.RevisionNotFoundError:
        raise InputError(
            f"{where}: no such revision.", way_out="Give a branch, a tag or a commit of it."
        ) from None
    # The library's errors have no root of their own; these two cover network, server and cache.
    # HTTPError is that of its HTTP client, which is not the same one in every version.
    except (getattr(errors, "HTTPError"), OSError) as error:  # noqa: B009 - not in its stubs
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the disk, not of the hub
        said = str(error).strip().partition("\n")[0] or type(error).__name__
        raise InputError(
            f"{where}: cannot be fetched: {said}",
            effect="What was fetched so far is kept.",
            way_out="Run again when the network is back, or give a local folder as base.model.",
        ) from error


def check_model(folder: Path, tokenizer: Path) -> ModelFolder:
    """Open a model folder and see that a language can be grafted onto it.

    Args:
        folder: The model.
        tokenizer: Its SentencePiece file.

    Raises:
        InputError: It is no causal language model in safetensors, its tokenizer is not a
            SentencePiece file, or the two do not belong together.
    """
    model = ModelFolder(folder)
    architectures = model.config.get("architectures") or []
    if not any(str(name).endswith("ForCausalLM") for name in architectures):
        raise InputError(
            f"{folder / 'config.json'}: architectures = {architectures}; "
            "expected one that ends in ForCausalLM.",
            way_out="Give a causal language model.",
        )
    if not tokenizer.is_file():
        raise InputError(
            f"{tokenizer}: no such file; expected the model's SentencePiece file.",
            effect="Only SentencePiece vocabularies can be extended.",
            way_out="Name the file in base.tokenizer, or choose a model that has one.",
        )
    rows, pieces = model.config.get("vocab_size"), len(SentencePieces.read(tokenizer).pieces)
    if rows != pieces:
        raise InputError(
            f"{folder / 'config.json'}: vocab_size = {rows}, but {tokenizer} has {pieces} pieces.",
            effect="Ids of added pieces would meet rows of something else.",
            way_out="Give the tokenizer.model that the model was trained with.",
        )
    return model
