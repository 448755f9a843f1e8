"""The two matrices of a model, found by their role."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from lingraft.errors import InputError
from lingraft.matrices import check_rows, find_matrices, is_tied
from lingraft.models import ModelFolder


def folder(path: Path, config: dict[str, Any], **shapes: tuple[int, ...]) -> ModelFolder:
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    tensors = {name.replace("__", "."): torch.zeros(shape) for name, shape in shapes.items()}
    save_file(tensors, path / "model.safetensors")
    return ModelFolder(path)


@pytest.mark.parametrize(
    ("rows", "head"),
    [
        ("model.embed_tokens.weight", "lm_head.weight"),
        ("transformer.wte.weight", "lm_head.weight"),
        ("gpt_neox.embed_in.weight", "embed_out.weight"),
        ("transformer.word_embeddings.weight", "lm_head.weight"),
        ("language_model.model.embed_tokens.weight", "language_model.lm_head.weight"),
        ("model.language_model.embed_tokens.weight", "lm_head.weight"),
        ("model.tok_embeddings.weight", "output.weight"),
    ],
)
def test_names_of_common_architectures_are_known(tmp_path: Path, rows: str, head: str) -> None:
    shapes = {
        rows: (7, 2),
        head: (7, 2),
        "vision_tower.embed_tokens.weight": (9, 2),
        "model.layers.0.self_attn.o_proj.weight": (2, 2),
    }
    named = {name.replace(".", "__"): shape for name, shape in shapes.items()}
    found = find_matrices(folder(tmp_path, {"tie_word_embeddings": False}, **named))
    assert (found.input_name, found.output_name, found.tied, found.rows) == (rows, head, False, 7)
    assert found.names == (rows, head)


def test_a_tied_model_has_one_matrix(tmp_path: Path) -> None:
    model = folder(tmp_path, {"tie_word_embeddings": True}, model__embed_tokens__weight=(7, 2))
    found = find_matrices(model)
    assert (found.output_name, found.tied, found.names) == (
        None,
        True,
        ("model.embed_tokens.weight",),
    )


@pytest.mark.parametrize(
    ("config", "tied"),
    [
        ({"tie_word_embeddings": True}, True),
        ({"model_type": "llama"}, False),
        ({"model_type": "gpt2"}, True),
        ({"model_type": "unheard-of"}, False),
        ({"text_config": {"tie_word_embeddings": True}, "tie_word_embeddings": False}, True),
        ({"text_config": {"model_type": "llama"}, "tie_word_embeddings": True}, True),
    ],
)
def test_the_config_tells_whether_they_are_tied(config: dict[str, Any], tied: bool) -> None:
    assert is_tied(config) is tied


def test_what_cannot_be_told_is_refused(tmp_path: Path) -> None:
    free = {"tie_word_embeddings": False}
    with pytest.raises(InputError, match=r"cannot tell which tensor holds the input rows; .* none"):
        find_matrices(folder(tmp_path, free, encoder__weight=(7, 2)))
    two = {"a__embed_tokens__weight": (7, 2), "b__embed_tokens__weight": (7, 2)}
    with pytest.raises(InputError, match=r"found 2: a.embed_tokens.weight, b.embed"):
        find_matrices(folder(tmp_path, free, **two))
    with pytest.raises(InputError, match="no lm_head among 1 tensors"):
        find_matrices(folder(tmp_path, free, model__embed_tokens__weight=(7, 2)))
    unlike = {"model__embed_tokens__weight": (7, 2), "lm_head__weight": (8, 2)}
    with pytest.raises(InputError, match=r"the shape \[7, 2\], lm_head.weight \[8, 2\]"):
        find_matrices(folder(tmp_path, free, **unlike))
    biased = {
        "model__embed_tokens__weight": (7, 2),
        "lm_head__weight": (7, 2),
        "lm_head__bias": (7,),
    }
    with pytest.raises(InputError, match=r"the head has a bias, lm_head.bias"):
        find_matrices(folder(tmp_path, free, **biased))


@pytest.mark.parametrize("num_base", [7_001, 6_400])
def test_fewer_rows_than_ids_or_far_more_are_refused(tmp_path: Path, num_base: int) -> None:
    model = folder(tmp_path, {"tie_word_embeddings": True}, model__embed_tokens__weight=(7_000, 2))
    matrices = find_matrices(model)
    check_rows(model, matrices, 6_999)
    check_rows(model, matrices, 6_600)
    with pytest.raises(InputError, match=f"7000 rows, its tokenizer {num_base} pieces"):
        check_rows(model, matrices, num_base)
