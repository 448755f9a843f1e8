"""What the hub answers, as messages; the corpus tests ask a real stand-in over HTTP."""

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors

from lingraft.base.fetch import MODEL_FILES
from lingraft.errors import InputError
from lingraft.hub import fetch_snapshot


@pytest.mark.parametrize(
    ("kind", "said", "told"),
    [
        (errors.GatedRepoError, "", "accepted its terms[\\s\\S]*HF_TOKEN"),
        (errors.RepositoryNotFoundError, "", "no such model"),
        (errors.RevisionNotFoundError, "", "no revision 'main'"),
        (errors.HfHubHTTPError, "server\nerror", "cannot be fetched: server."),
        (errors.LocalEntryNotFoundError, "you are offline", "offline[\\s\\S]*HF_ENDPOINT"),
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
        fetch_snapshot("hub:owner/name", "model", "main", ["*"])
    assert "source 'hub:owner/name'" in raised.value.what
    assert raised.value.way_out


def test_a_full_disk_is_not_blamed_on_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(OSError, match="No space"):
        fetch_snapshot("hub:owner/name", "model", "main", ["*"])


def test_only_the_files_of_a_graft_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: dict[str, Any] = {}

    def give(repository: str, **how: Any) -> str:
        asked.update(how, repository=repository)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", give)
    assert fetch_snapshot("hub:owner/name", "model", "abc", MODEL_FILES) == tmp_path
    assert (asked["repository"], asked["revision"]) == ("owner/name", "abc")
    assert "model*.safetensors" in asked["allow_patterns"]
