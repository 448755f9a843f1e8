"""The two matrices of a model whose rows are pieces, found by their role.

*Input*: the row that the body reads for a piece (`model.embed_tokens`). *Output*: the row that
scores a piece (`lm_head`). A *tied* model has one matrix for both; some store it twice. Either may
have more rows than the tokenizer has ids: padding, for the sake of fast kernels.

Source of the names: the model classes of transformers 5 (Llama, Mistral, Mixtral, Qwen, Gemma,
Phi, OLMo; GPT-2, Falcon, BLOOM; GPT-NeoX; OPT; models with a vision part).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import InputError
from .models import ModelFolder
from .weights import row_slices

__all__ = [
    "Matrices",
    "check_rows",
    "find_matrices",
    "is_tied",
    "named_matrices",
    "require_equal",
    "text_config",
]

_INPUT = re.compile(
    r"(?:.*\.)?(?:embed_tokens|wte|embed_in|word_embeddings|tok_embeddings)\.weight"
    r"|(?:.*\.)?(?:backbone|model)\.embeddings\.weight"
)
_OUTPUT = re.compile(r"(?:.*\.)?(?:lm_head|embed_out|output)\.weight")
_OTHER = re.compile(
    r"(?:^|\.)(?:vision|visual|audio|encoder|speech|image|mtp|draft)", re.IGNORECASE
)
_BIAS = re.compile(r"(?:.*\.)?(?:lm_head|embed_out|output)\.bias")
_MOST_PADDING_FRAC, _MOST_PADDING = 0.05, 512


@dataclass(frozen=True)
class Matrices:
    """Names and rows of the matrices of a model.

    Attributes:
        input_name: Tensor of the input rows.
        output_name: Tensor of the output rows; None where it is not stored.
        tied: Whether both are one matrix, stored once or twice.
        rows: Rows of either.
    """

    input_name: str
    output_name: str | None
    tied: bool
    rows: int

    @property
    def names(self) -> tuple[str, ...]:
        """The tensors that grow."""
        return (self.input_name, *([self.output_name] if self.output_name else []))


def find_matrices(model: ModelFolder) -> Matrices:
    """Find the matrices of a model.

    Raises:
        InputError: There is none, or several, or the two do not belong together.
    """
    shapes = {entry.name: entry.shape for entry in model.all_entries()}
    flat = {name: shape for name, shape in shapes.items() if len(shape) == 2}
    named, heads = named_matrices(shapes)
    input_name = _only(model, named, "input")
    rows = flat[input_name][0]
    output_name = _only(model, heads, "output") if heads else None
    tied = is_tied(model.config)
    if output_name is None and not tied:
        raise InputError(
            f"{model.path}: no lm_head among {len(shapes)} tensors, and config.json ties no "
            "embeddings.",
            effect="There would be no head to expand, and a random one when it is loaded.",
            way_out='Fetch the missing shard, or set "tie_word_embeddings": true where that is so.',
        )
    if output_name is not None and flat[output_name] != flat[input_name]:
        raise InputError(
            f"{model.path}: {input_name} has the shape {list(flat[input_name])}, {output_name} "
            f"{list(flat[output_name])}; expected the same.",
            way_out="Fetch the model again, or make it anew from its checkpoint.",
        )
    biases = [name for name in shapes if _BIAS.fullmatch(name) and shapes[name] == (rows,)]
    if biases:
        raise InputError(
            f"{model.path}: the head has a bias, {biases[0]}, which cannot be expanded here.",
            way_out="Use a model without one.",
        )
    return Matrices(input_name, output_name, tied, rows)


def named_matrices(shapes: Mapping[str, Sequence[int]]) -> tuple[list[str], list[str]]:
    """Give the tensors, by name -> shape, whose names are those of input and of output rows."""
    flat = [n for n, shape in shapes.items() if len(shape) == 2 and not _OTHER.search(n)]
    named = [name for name in flat if _INPUT.fullmatch(name)]
    return named, [name for name in flat if _OUTPUT.fullmatch(name) and name not in named]


def require_equal(model: ModelFolder, first: str, second: str) -> None:
    """Refuse a model whose config ties what its weights do not.

    Args:
        model: A model that stores both of its matrices.
        first: One of them.
        second: The other, of the same shape.

    Raises:
        InputError: They differ.
    """
    import torch

    for begin, end in row_slices(model.entry(first)):
        here, there = (model.rows(name, begin, end) for name in (first, second))
        if not torch.equal(here, there):
            row = begin + int((here != there).any(dim=1).nonzero()[0])
            raise InputError(
                f"{model.path}: config.json ties {first} and {second}, and their rows {row} "
                "differ.",
                effect="Loaders would use one of the two, and which one is up to them.",
                way_out='Set "tie_word_embeddings": false, or save the model without its lm_head.',
            )


def is_tied(config: Mapping[str, Any]) -> bool:
    """Tell whether a config ties the two matrices; where it does not say, its class's default."""
    for part in (text_config(config), config):
        if isinstance(part.get("tie_word_embeddings"), bool):
            return bool(part["tie_word_embeddings"])
    from transformers import CONFIG_MAPPING

    try:
        default = CONFIG_MAPPING[str(text_config(config).get("model_type", ""))]()
    except KeyError:
        return False
    return bool(getattr(default, "tie_word_embeddings", False))


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give the part of a config that is about text: nested in models that also see or hear."""
    nested = config.get("text_config")
    return nested if isinstance(nested, dict) else config


def check_rows(model: ModelFolder, matrices: Matrices, num_base: int) -> None:
    """Refuse a tokenizer that cannot be the model's.

    Args:
        model: The base model.
        matrices: Its matrices.
        num_base: Ids of the base tokenizer, special ones of its configs included.

    Raises:
        InputError: There are fewer rows than ids, or far more.
    """
    most = num_base + max(_MOST_PADDING, round(num_base * _MOST_PADDING_FRAC))
    if not num_base <= matrices.rows <= most:
        raise InputError(
            f"{model.path}: {matrices.input_name} has {matrices.rows} rows, its tokenizer "
            f"{num_base} pieces; expected as many, or up to {most - num_base} rows of padding.",
            effect="New rows would be put at ids that the tokenizer does not give.",
            way_out="Use the tokenizer that belongs to this model.",
        )


def _only(model: ModelFolder, names: Sequence[str], role: str) -> str:
    if len(names) == 1:
        return names[0]
    found = f"{len(names)}: {', '.join(sorted(names)[:4])}" if names else "none"
    raise InputError(
        f"{model.path}: cannot tell which tensor holds the {role} rows; found {found}.",
        effect="Rows of something else would be expanded.",
        way_out="Known are embed_tokens, wte, embed_in and word_embeddings for input rows, "
        "lm_head and embed_out for output rows. Save the model with transformers first.",
    )
