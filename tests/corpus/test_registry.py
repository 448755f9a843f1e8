"""The registry as it is written: the reference's own, templates, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingraft.corpus.registry import entry_text, parse_registry, read_registry, write_registry
from lingraft.errors import InputError

REFERENCE = """
[DKYoon-SlimPajama-6B]                  # name of the set
splits = ["train", "dev"]
root = "{DATA_DIR}/en/{name}"
doc = "{name}-{split}"
encoded = "encoded-{name}-{split}"
"""
HERE = Path("data")


def parse_one(**changes: str) -> tuple[Path, Path]:
    """Give the places of the split `train` of a set `a` with some keys changed."""
    text = entry_text("a", ["train"], **changes)
    found = parse_registry(text, HERE, "datasets.toml")["a"]
    return found.docs["train"], found.encoded["train"]


def refusal(text: str) -> str:
    with pytest.raises(InputError) as caught:
        parse_registry(text, HERE, "datasets.toml")
    return str(caught.value)


def test_the_references_own_registry_is_read_unchanged() -> None:
    sets = parse_registry(REFERENCE, HERE, "datasets.toml")
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
    assert sets["zh"].encoded["train"] == tmp_path / "zh-train.npy"


def test_an_ending_that_is_named_is_kept() -> None:
    assert parse_one(doc="{name}.jsonl.zst")[0] == Path("data/a.jsonl.zst")
    assert parse_one(doc="{name}.v2")[0] == Path("data/a.v2.jsonl")


def test_keys_may_be_used_in_other_keys() -> None:
    docs, encoded = parse_one(root="{DATA_DIR}/{name}", encoded="{doc}-tokens")
    assert docs == Path("data/a/a-train.jsonl")
    assert encoded == Path("data/a/a-train-tokens")


@pytest.mark.parametrize("encoded", ["{root}/x", "{DATA_DIR}/zh/x", "{doc}/x"])
def test_what_begins_at_the_root_is_not_put_under_it_again(encoded: str) -> None:
    assert parse_one(root="{DATA_DIR}/zh", doc="{root}", encoded=encoded)[1] == Path("data/zh/x")


def test_an_absolute_place_is_itself() -> None:
    assert parse_one(encoded="/fast/{name}")[1] == Path("/fast/a")


def test_a_doubled_brace_is_a_brace() -> None:
    assert parse_one(encoded="{{{name}}}")[1] == Path("data/{a}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[a", "not TOML"),
        ("a = 1", "a = 1: expected a table"),
        ("[a]", "a.splits: is required and missing"),
        (REFERENCE + "x = 1", "DKYoon-SlimPajama-6B.x: no such key. Expected splits, root"),
        (REFERENCE + "encode = 1", "6B.encode: no such key. Did you mean 'encoded'?"),
        (REFERENCE + "[DKYoon-SlimPajama-6B.en]", '["DKYoon-SlimPajama-6B.en"]'),
        (REFERENCE.replace('["train", "dev"]', '"train"'), "splits = 'train': expected a list"),
        (REFERENCE.replace('["train", "dev"]', "[]"), "splits = []: expected a list"),
        (REFERENCE.replace('["train", "dev"]', '[""]'), "splits = ['']: expected a list"),
        (REFERENCE.replace('["train", "dev"]', "[1]"), "splits = [1]: expected a list"),
        (REFERENCE.replace('"dev"', '"train"'), "the same split twice"),
        (REFERENCE.replace('"{name}-{split}"', "7"), "doc = 7: expected text"),
        (REFERENCE.replace('"{name}-{split}"', '""'), "doc = '': expected text"),
        (REFERENCE.replace("{DATA_DIR}", "{HOME}"), "no such template {HOME}. Expected one of"),
        (REFERENCE.replace("{DATA_DIR}", "{data_dir}"), "Did you mean 'DATA_DIR'?"),
        (REFERENCE.replace("{DATA_DIR}", "{}"), "no such template {}"),
        (REFERENCE.replace("{DATA_DIR}", "{name:>9}"), "{name} takes no format"),
        (REFERENCE.replace("{DATA_DIR}", "{name!r}"), "{name} takes no format"),
        (REFERENCE.replace("{DATA_DIR}", "{name"), "a brace that is meant is doubled"),
        (REFERENCE.replace("{DATA_DIR}", "{doc}").replace("{name}-{split}", "{root}"),
         "root = '{doc}/en/{name}': goes in a circle: {root} -> {doc} -> {root}."),
        (REFERENCE.replace("{DATA_DIR}", "{root}"), "circle: {root} -> {root}"),
        (REFERENCE.replace('"{name}-{split}"', '"{name}"'), "is one place"),
    ],
)  # fmt: skip
def test_a_bad_entry_is_named(text: str, message: str) -> None:
    told = refusal(text)
    assert message in told
    assert told.startswith("datasets.toml: ")


def test_all_problems_are_told_at_once() -> None:
    told = refusal(REFERENCE.replace("{DATA_DIR}", "{HOME}") + "[b]\n[c]\nx = 1")
    assert told.startswith("datasets.toml: 10 problems")
    assert "{HOME}" in told
    assert "b.encoded: is required" in told
    assert "c.x: no such key" in told


def test_splits_that_share_token_files_are_refused() -> None:
    told = refusal(entry_text("a", ["train", "valid"], encoded="tokens"))
    assert "a.encoded = 'tokens': is one place, data/tokens, for several splits" in told


def test_a_registry_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read the registry"):
        read_registry(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_bytes(b"\xff")
    with pytest.raises(InputError, match=r"bad\.toml: cannot read"):
        read_registry(tmp_path / "bad.toml")


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@given(names, st.lists(names, min_size=1, unique=True))
def test_any_names_survive_being_written(name: str, splits: list[str]) -> None:
    found = parse_registry(entry_text(name, splits, doc="x-{split}-"), HERE, "r")
    assert list(found) == [name]
    assert list(found[name].docs) == splits
