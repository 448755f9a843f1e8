"""What may be a base model, and what the hub may answer."""

import json
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors
from pico import save_mixtral
from small_tokenizers import build

from lingraft.base.fetch import check_model, fetch_model
from lingraft.errors import InputError
from lingraft.pieces import SentencePieces

NUM_PIECES = len(SentencePieces(build()).pieces)


def model_folder(path: Path, **sizes: Any) -> Path:
    save_mixtral(path, **{"vocab_size": NUM_PIECES, **sizes})
    (path / "tokenizer.model").write_bytes(build())
    return path


def test_a_causal_model_with_its_tokenizer_is_taken(tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    assert check_model(folder, folder / "tokenizer.model").path == folder


def test_a_model_of_another_kind_is_refused(tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["architectures"] = ["BertForMaskedLM"]
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(InputError, match=r"architectures = \['BertForMaskedLM'\]"):
        check_model(folder, folder / "tokenizer.model")


def test_a_model_without_sentencepiece_file_is_refused(tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    with pytest.raises(InputError, match=r"none\.model: no such file[\s\S]*base\.tokenizer"):
        check_model(folder, folder / "none.model")


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    folder = model_folder(tmp_path, vocab_size=300)
    with pytest.raises(InputError, match=f"vocab_size = 300, but .* has {NUM_PIECES} pieces"):
        check_model(folder, folder / "tokenizer.model")


@pytest.mark.parametrize(
    ("kind", "said", "told"),
    [
        (errors.GatedRepoError, "", "asks for consent[\\s\\S]*HF_TOKEN"),
        (errors.RepositoryNotFoundError, "", "no such model"),
        (errors.HFValidationError, "", "no such model"),
        (errors.RevisionNotFoundError, "", "no such revision"),
        (errors.HfHubHTTPError, "server\nerror", "cannot be fetched: server\n"),
        (errors.LocalEntryNotFoundError, "you are offline", "offline[\\s\\S]*a local folder"),
    ],
)
def test_what_the_hub_answers_becomes_a_message_with_a_way_out(
    monkeypatch: pytest.MonkeyPatch, kind: type[Exception], said: str, told: str
) -> None:
    def refuse(*_: object, **__: object) -> str:
        error = kind.__new__(kind)  # without the answer of a server that __init__ asks for
        error.args = (said,)
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(InputError, match=told) as raised:
        fetch_model("owner/name", "main")
    assert "hub:owner/name at revision 'main'" in raised.value.what
    assert raised.value.way_out


def test_a_full_disk_is_not_blamed_on_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(OSError, match="No space"):
        fetch_model("owner/name", "main")


def test_only_the_files_of_a_graft_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: dict[str, Any] = {}

    def give(repository: str, **how: Any) -> str:
        asked.update(how, repository=repository)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", give)
    assert fetch_model("owner/name", "abc") == tmp_path
    assert (asked["repository"], asked["revision"]) == ("owner/name", "abc")
    assert "model*.safetensors" in asked["allow_patterns"]
