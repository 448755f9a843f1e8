"""Special ids as transformers and tokenizers give them, and added tokens that are vocabulary."""

import json
from pathlib import Path
from typing import Any

import pytest
from extended_tokenizers import (
    ADDED,
    BASE_RULES,
    SIZE,
    extended,
    write_bytes_file,
    write_folder,
    write_model,
)
from small_tokenizers import build

from lingraft.errors import VerifyError
from lingraft.pieces import Kind
from lingraft.tokenizer.added import added_pieces
from lingraft.tokenizer.forms import Forms, read_forms
from lingraft.tokenizer.loading import (
    auto_form,
    check_added_tokens,
    check_special_ids,
    load_auto,
    renumbered,
    special_ids,
)


def token(id: int, content: str, *, special: bool = True) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": id, "content": content, "special": special, **flags}


def bytes_forms(folder: Path, tokens: list[dict[str, Any]], config: Any = None) -> Forms:
    path = write_bytes_file(folder, BASE_RULES, lambda spec: spec.update(added_tokens=tokens))
    if config is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return read_forms(str(path if config is None else folder))


FAST_CLASS = {"tokenizer_class": "PreTrainedTokenizerFast"}


def test_ids_are_kept_when_saved_and_loaded_again(tmp_path: Path) -> None:
    forms = read_forms(str(write_folder(tmp_path, extended())))
    check = check_special_ids(forms, load_auto(tmp_path))
    assert check.state == "ok"
    assert check.figures["special and added tokens"] == 3
    assert special_ids(forms) == {"<unk>": 0, "<s>": 1, "</s>": 2}


def test_literal_special_tokens_stay_text(tmp_path: Path) -> None:
    forms = read_forms(str(write_folder(tmp_path, extended())))
    form = auto_form(load_auto(tmp_path), 5)
    assert form.encode([]) == []
    assert form.most == 5
    assert form.encode(["<s>", "嬗变"]) == forms.base.encode_batch(["<s>", "嬗变"])


def test_tokens_that_tokenizers_numbers_anew_are_found(tmp_path: Path) -> None:
    right = bytes_forms(tmp_path / "a", [token(258, "<|end|>")])
    assert renumbered(right) == []
    assert check_special_ids(right, None).state == "ok"
    wrong = bytes_forms(tmp_path / "b", [token(300, "<|end|>")])
    assert renumbered(wrong) == ["'<|end|>' has id 258; in the file 300"]
    check = check_special_ids(wrong, None)
    assert check.state == "differs"
    assert "1 special and added tokens moved when loaded by tokenizers" in check.text


def test_ids_that_move_in_transformers_are_found(tmp_path: Path) -> None:
    forms = bytes_forms(tmp_path, [token(300, "<|end|>")], FAST_CLASS)
    check = check_special_ids(forms, load_auto(tmp_path))
    assert check.state == "differs"
    assert check.examples[0] == "loaded: '<|end|>' has id 258; in the file 300"


def test_a_loaded_piece_that_moved_is_found(tmp_path: Path) -> None:
    other = write_folder(tmp_path / "other", extended([ADDED[1], ADDED[0], *ADDED[2:]]))
    forms = read_forms(str(write_folder(tmp_path / "mine", extended())))
    check = check_special_ids(forms, load_auto(other))
    assert "0 special and 2 of all pieces moved when loaded" in check.text


def test_a_model_alone_cannot_be_asked(tmp_path: Path) -> None:
    forms = read_forms(str(write_model(tmp_path, extended())))
    assert check_special_ids(forms, None).state == "skipped"
    assert renumbered(forms) == []


def test_a_folder_that_transformers_cannot_load_is_a_failure(tmp_path: Path) -> None:
    forms = bytes_forms(tmp_path, [], {"tokenizer_class": "NoSuchTokenizer"})
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(VerifyError, match="transformers cannot load it") as caught:
        load_auto(tmp_path)
    assert check_special_ids(forms, caught.value).state == "differs"


class Unsaved:
    """A tokenizer whose saved folder cannot be read again."""

    def save_pretrained(self, folder: str) -> None:
        (Path(folder) / "tokenizer_config.json").write_text("{}")


def test_a_saved_tokenizer_that_does_not_load_again_is_a_failure(tmp_path: Path) -> None:
    forms = read_forms(str(write_folder(tmp_path, extended())))
    check = check_special_ids(forms, Unsaved())
    assert check.state == "differs"
    assert check.text.startswith("saved again: transformers cannot load it")


@pytest.mark.parametrize(("num", "state"), [(0, "ok"), (3, "told"), (65, "differs")])
def test_vocabulary_added_as_tokens_is_found(tmp_path: Path, num: int, state: str) -> None:
    base = bytes_forms(tmp_path / "a", [token(258, "<tool>", special=False)])
    tokens = [token(258, "<tool>", special=False), token(259, "<|end|>")]
    tokens += [token(260 + n, f"词{n}", special=False) for n in range(num)]
    forms = bytes_forms(tmp_path / "b", tokens)
    check = check_added_tokens(forms, base, added_pieces(forms.base, 259))
    assert check.state == state
    assert check.figures["ordinary added tokens"] == num
    assert "'<|end|>'" in check.notes[0]


def test_user_defined_pieces_are_such_tokens(tmp_path: Path) -> None:
    base = read_forms(str(write_model(tmp_path / "a", build())))
    proto = extended([("中文嬗", -2e9)], kind=Kind.USER_DEFINED)
    forms = read_forms(str(write_model(tmp_path / "b", proto)))
    check = check_added_tokens(forms, base, added_pieces(forms.base, SIZE))
    assert (check.state, check.examples) == ("told", ["'中文嬗'"])
    assert check_added_tokens(forms, None, []).state == "ok"
