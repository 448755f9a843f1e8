"""What `lingraft embed expand` refuses, before it writes, and what a kill leaves."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from expandable import (
    SIZE,
    change_tensors,
    extended_bytes_folder,
    extended_folder,
    tied_llama,
    untied_llama,
    untied_mixtral,
)
from extended_tokenizers import ADDED, extended, write_folder
from small_tokenizers import build

from lingraft import verify
from lingraft.embed import expand
from lingraft.errors import DiskFullError, InputError, LingraftError, UsageError
from lingraft.manifest import file_sha256
from lingraft.models import ModelFolder

INPUT = "model.embed_tokens.weight"


def refused(tmp_path: Path, kind: type[LingraftError], match: str, **options: Any) -> None:
    """Expect a refusal, and that nothing was written."""
    call: dict[str, Any] = {
        "model": tmp_path / "base",
        "tokenizer": tmp_path / "extended",
        "out": tmp_path / "out",
    }
    with pytest.raises(kind, match=match):
        expand(**{**call, **options})
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".*"))


def test_a_model_of_fewer_rows_than_its_tokenizer_has_ids(tmp_path: Path) -> None:
    untied_llama(tmp_path / "base", vocab_size=SIZE - 1)
    extended_folder(tmp_path / "extended")
    refused(tmp_path, InputError, f"{SIZE - 1} rows, its tokenizer {SIZE} pieces")


def test_a_tokenizer_of_another_base(tmp_path: Path) -> None:
    untied_llama(tmp_path / "base")
    other = [("▁▁", -1e9), ("cab", -1.0), *(("▁", -9.0), ("a", -10.0), ("b", -11.0), ("c", -12.0))]
    write_folder(tmp_path / "base", build([*other, *((c, -20.0) for c in "中文x嬗y变")]))
    extended_folder(tmp_path / "extended")
    refused(tmp_path, InputError, r"id 260 is 'ab'; in the base .* it is 'cab'")
    extended_bytes_folder(tmp_path / "bytes")
    refused(tmp_path, InputError, "a byte-level tokenizer", tokenizer=tmp_path / "bytes")


def test_extra_special_tokens_that_the_tokenizer_does_not_know(tmp_path: Path) -> None:
    base = untied_llama(tmp_path / "base", vocab_size=SIZE + 1)
    path = base.path / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["added_tokens_decoder"] = {str(SIZE): {"content": "<pad>"}}
    path.write_text(json.dumps(config), encoding="utf-8")
    extended_folder(tmp_path / "extended")
    refused(tmp_path, InputError, rf"(?s)id {SIZE} is '嬗'; .* give it to '<pad>'.*--base DIR")
    config["added_tokens_decoder"] = {str(SIZE + 2): {"content": "<pad>"}}
    path.write_text(json.dumps(config), encoding="utf-8")
    refused(tmp_path, InputError, f"there is no token {SIZE} before it")
    path.write_text("{", encoding="utf-8")
    refused(tmp_path, InputError, "tokenizer_config.json: not JSON")


def test_a_missing_shard_and_an_index_that_names_a_missing_tensor(tmp_path: Path) -> None:
    base = untied_mixtral(tmp_path / "base")
    extended_folder(tmp_path / "extended")
    index = base.path / "model.safetensors.index.json"
    whole = index.read_text(encoding="utf-8")
    record = json.loads(whole)
    record["weight_map"]["model.absent.weight"] = base.shards[0]
    index.write_text(json.dumps(record), encoding="utf-8")
    refused(tmp_path, InputError, "places tensor 'model.absent.weight'")
    index.write_text(whole, encoding="utf-8")
    (base.path / base.shards[1]).unlink()
    refused(tmp_path, InputError, rf"shard '{base.shards[1]}' of the index is missing")


def test_rows_that_are_not_finite_are_named(tmp_path: Path) -> None:
    base = untied_llama(tmp_path / "base", vocab_size=SIZE + 9)
    rows = base.tensor(INPUT)
    broken = rows.clone()
    broken[7, 3] = float("nan")
    broken[12] = float("inf")
    change_tensors(base.path, model__embed_tokens__weight=broken)
    extended_folder(tmp_path / "extended")
    refused(tmp_path, InputError, r"'model.embed_tokens.weight': .* row\(s\) 7, 12")
    rows[SIZE + 8] = float("nan")
    change_tensors(base.path, model__embed_tokens__weight=rows)
    refused(tmp_path, InputError, rf"row\(s\) {SIZE + 8}\.")


def test_a_tied_model_whose_stored_head_differs(tmp_path: Path) -> None:
    base = tied_llama(tmp_path / "base")
    head = base.tensor(INPUT)
    head[5] += 1
    change_tensors(base.path, lm_head__weight=head)
    extended_folder(tmp_path / "extended")
    refused(tmp_path, InputError, "ties model.embed_tokens.weight and lm_head.weight, .* 5 differ")


def test_a_head_method_for_a_tied_model(tmp_path: Path) -> None:
    tied_llama(tmp_path / "base")
    extended_folder(tmp_path / "extended")
    refused(tmp_path, UsageError, "--head-method mean would have nothing", head_method="mean")
    refused(tmp_path, UsageError, "cannot have options", head_options={"std": 0.1})


def test_a_disk_too_small_before_the_first_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    untied_llama(tmp_path / "base")
    extended_folder(tmp_path / "extended")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000))
    refused(tmp_path, DiskFullError, r"(?s)GB are to be written.*Nothing was written")
    assert not list(tmp_path.glob(".draft*"))


def test_a_base_without_a_tokenizer(tmp_path: Path) -> None:
    base = untied_llama(tmp_path / "base")
    extended_folder(tmp_path / "extended")
    kept = write_folder(tmp_path / "own", build())
    for name in ("tokenizer.model", "tokenizer.json"):
        (base.path / name).unlink()
    refused(tmp_path, InputError, r"(?s)holds neither.*--base-tokenizer DIR")
    refused(tmp_path, UsageError, "no such folder", base_tokenizer=tmp_path / "absent")
    result = expand(
        model=base.path,
        tokenizer=tmp_path / "extended",
        out=tmp_path / "out",
        base_tokenizer=kept,
    )
    assert result.facts.added_rows == 4


def test_calls_that_cannot_be_meant(tmp_path: Path) -> None:
    untied_llama(tmp_path / "base")
    extended_folder(tmp_path / "extended")
    refused(tmp_path, UsageError, "no such folder", model=tmp_path / "absent")
    refused(tmp_path, UsageError, "no such folder", tokenizer=tmp_path / "absent")
    refused(tmp_path, UsageError, "from-gguf", model=tmp_path / "x.gguf")
    refused(tmp_path, UsageError, "pad-to-multiple-of 0", pad_to_multiple_of=0)
    refused(tmp_path, UsageError, "is --model, or holds it", out=tmp_path / "base")
    refused(tmp_path, UsageError, "is --model, or holds it", out=tmp_path)
    refused(tmp_path, UsageError, "'omp' needs auxiliary", method="omp")
    refused(tmp_path, UsageError, "seed -1: expected 0 to", seed=-1)
    refused(tmp_path, UsageError, "seed", seed=1 << 70)


@pytest.mark.parametrize(
    ("method", "options", "expected"),
    [
        ("position", {"rate": 1000}, "rate = 1000; expected 0 to 100"),
        ("mean-cov", {"scale": -1}, "scale = -1; expected more than 0, up to 100"),
        ("normal", {"std": float("inf")}, "std = inf; expected more than 0, up to 100"),
        ("normal", {"std": float("nan")}, "std = nan; expected"),
        ("normal", {"std": -1}, "std = -1; expected"),
        ("normal", {"std": 0}, "std = 0; expected"),
    ],
)
def test_options_that_give_no_rows_or_useless_ones(
    tmp_path: Path, method: str, options: dict[str, float], expected: str
) -> None:
    untied_llama(tmp_path / "base")
    extended_folder(tmp_path / "extended")
    refused(tmp_path, UsageError, expected, method=method, options=options)
    refused(tmp_path, UsageError, expected, head_method=method, head_options=options)


@pytest.mark.parametrize("name", ["model", "tokenizer", "donor", "counts", "base_tokenizer"])
def test_a_folder_inside_an_input_or_around_it_is_refused(tmp_path: Path, name: str) -> None:
    untied_llama(tmp_path / "base")
    extended_folder(tmp_path / "extended")
    place = {"model": tmp_path / "base", "tokenizer": tmp_path / "extended"}.get(name)
    place = place or tmp_path / "more" / name
    place.mkdir(parents=True, exist_ok=True)
    before = sorted(place.rglob("*"))
    option = "--" + name.replace("_", "-")
    for out in (place / "sub", place / "a" / "b"):
        refused(tmp_path, UsageError, f"lies inside {option}", out=out, **{name: place})
    (tmp_path / "link").symlink_to(place, target_is_directory=True)
    out = tmp_path / "link" / "sub"
    refused(tmp_path, UsageError, f"lies inside {option}", out=out, **{name: place})
    if place.parent.name == "more":
        message = f"is {option}, or holds it"
        refused(tmp_path, UsageError, message, out=place.parent, redo=True, **{name: place})
    assert sorted(place.rglob("*")) == before


def test_a_folder_of_something_else_is_never_written_over(tmp_path: Path) -> None:
    untied_llama(tmp_path / "base")
    extended_folder(tmp_path / "extended")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine", encoding="utf-8")
    for redo in (False, True):
        with pytest.raises(UsageError, match="holds something else"):
            expand(
                model=tmp_path / "base",
                tokenizer=tmp_path / "extended",
                out=tmp_path / "full",
                redo=redo,
            )
    assert (tmp_path / "full" / "thesis.txt").read_text(encoding="utf-8") == "mine"


KILLED = """
import sys, time
from pathlib import Path
from lingraft.embed import expand, writing

def slow(path, entries, tensor_of):
    entries = list(entries)
    sha256 = real(path, entries, tensor_of)
    print("one", flush=True)
    time.sleep(60)
    return sha256

real, writing.write_shard = writing.write_shard, slow
base, tokenizer, out = sys.argv[1:]
expand(model=base, tokenizer=tokenizer, out=out)
"""


def test_a_kill_leaves_inputs_untouched_and_no_finished_folder(tmp_path: Path) -> None:
    base = untied_mixtral(tmp_path / "base")
    tokenizer = write_folder(tmp_path / "extended", extended(ADDED))
    before = {path: file_sha256(path) for path in sorted(base.path.iterdir())}
    out = tmp_path / "out"
    script = [sys.executable, "-c", KILLED, str(base.path), str(tokenizer), str(out)]
    process = subprocess.Popen(script, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "one\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not out.exists()
    assert list(tmp_path.glob(".draft-out/*.safetensors"))
    assert not list(tmp_path.glob(".draft-out/manifest.json"))
    result = expand(model=base.path, tokenizer=tokenizer, out=out)
    assert verify(result.folder) == []
    assert before == {path: file_sha256(path) for path in sorted(base.path.iterdir())}
    assert not list(tmp_path.glob(".*"))
    assert torch.isfinite(ModelFolder(out).tensor(INPUT)).all()


def test_a_draft_that_was_sealed_when_its_process_died_is_made_again(tmp_path: Path) -> None:
    base = untied_llama(tmp_path / "base")
    tokenizer = extended_folder(tmp_path / "extended")
    out = tmp_path / "out"
    first = expand(model=base.path, tokenizer=tokenizer, out=out)
    out.rename(tmp_path / ".draft-out")
    again = expand(model=base.path, tokenizer=tokenizer, out=out)
    assert not again.was_done
    assert again.facts == first.facts
    assert time.time() - (out / "manifest.json").stat().st_mtime < 60
