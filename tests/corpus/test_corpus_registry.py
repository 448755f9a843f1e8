from __future__ import annotations

from pathlib import Path

import pytest

from lingraft.corpus.registry import parse_registry, read_registry, write_registry
from lingraft.errors import InputError

REFERENCE = """
[DKYoon-SlimPajama-6B]                  # name of the set
splits = ["train", "dev"]
root = "{DATA_DIR}/en/{name}"
doc = "{name}-{split}"
encoded = "encoded-{name}-{split}"
"""


def test_the_references_own_registry_is_read_unchanged() -> None:
    sets = parse_registry(REFERENCE, Path("data"), "datasets.toml")
    root = Path("data/en/DKYoon-SlimPajama-6B")
    assert sets["DKYoon-SlimPajama-6B"].docs == {
        "train": root / "DKYoon-SlimPajama-6B-train.jsonl",
        "dev": root / "DKYoon-SlimPajama-6B-dev.jsonl",
    }
    assert sets["DKYoon-SlimPajama-6B"].encoded["dev"] == root / "encoded-DKYoon-SlimPajama-6B-dev"


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "datasets.toml"
    path.write_text(write_registry(["zh", "wiki-2.1"], ["train", "valid"]), encoding="utf-8")
    sets = read_registry(path)
    assert list(sets) == ["zh", "wiki-2.1"]
    assert sets["wiki-2.1"].docs["valid"] == tmp_path / "wiki-2.1-valid.jsonl"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[a", "not TOML"),
        ("a = 1", "a has 1; expected"),
        ("[a]", "a has nothing; expected"),
        (REFERENCE + "x = 1", "has splits, root, doc, encoded, x; expected"),
        (REFERENCE.replace('["train", "dev"]', '"train"'), r"splits is 'train'"),
        (REFERENCE.replace('["train", "dev"]', "[]"), r"splits is \[\]"),
        (REFERENCE.replace('["train", "dev"]', "[1]"), r"splits is \[1\]"),
        (REFERENCE.replace('"{name}-{split}"', "7"), "doc is 7; expected text"),
        (REFERENCE.replace("{DATA_DIR}", "{HOME}"), r"root has \{HOME\}; expected only"),
    ],
)
def test_a_bad_entry_is_named(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_registry(text, Path("data"), "datasets.toml")


def test_a_registry_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read the registry"):
        read_registry(tmp_path / "none.toml")
