"""Packed matrices on disk: the same bits as packed anew, or told and made again."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from artefacts import make_artefact
from pico import save_mixtral

from lingraft import packedcache
from lingraft.errors import InputError
from lingraft.folders import hold_place
from lingraft.manifest import Facts
from lingraft.models import ModelFolder
from lingraft.nf4 import Packed, quantize
from lingraft.packedcache import Pack, PackedCache, body_entries, open_cache, pack_anew
from lingraft.weights import SafetensorsFile, write_shard

CPU = torch.device("cpu")
Bodies = dict[str, Packed]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    return save_mixtral(tmp_path_factory.mktemp("model"))


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packedcache, "_SHARD_BYTES", 4_000)


def body_of(files: ModelFolder, pack: Pack) -> Bodies:
    names = [entry.name for entry in body_entries(files)]
    return {name: pack(name, lambda name=name: files.tensor(name)) for name in names}  # type: ignore[misc]


class Loads(NamedTuple):
    """A place for caches of a model, and what was told."""

    place: Path
    files: ModelFolder
    told: list[str]

    @property
    def cache(self) -> PackedCache:
        return open_cache(self.place, self.files, CPU, self.told.append)

    def load(self, **options: Any) -> Bodies:
        return self.cache.build(lambda pack: body_of(self.files, pack), **options)


@pytest.fixture
def loads(tmp_path: Path, model: ModelFolder) -> Loads:
    return Loads(tmp_path / "caches", model, [])


def assert_packed_anew(found: Bodies, files: ModelFolder) -> None:
    expected = body_of(files, pack_anew)
    assert list(found) == list(expected)
    for name, packed in expected.items():
        assert found[name].shape == packed.shape
        for one, other in zip(found[name].parts, packed.parts, strict=True):
            assert torch.equal(one, other)
            assert one.dtype == other.dtype


def refuse_to_pack(weight: torch.Tensor) -> Packed:
    raise AssertionError("a matrix was packed")


def test_the_body_is_the_matrices_of_the_layers_without_routers(model: ModelFolder) -> None:
    names = [entry.name for entry in body_entries(model)]
    assert len(names) == 2 * (4 + 4 * 3)
    assert not [name for name in names if "gate.weight" in name or "norm" in name]


def test_a_second_load_reads_the_same_bits_and_packs_nothing(
    loads: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_packed_anew(loads.load(), loads.files)
    folder = loads.cache.folder
    assert len(list(folder.glob("*.safetensors"))) > 4
    assert sorted(path.name for path in loads.place.iterdir()) == [folder.name]
    monkeypatch.setattr(packedcache, "quantize", refuse_to_pack)
    found = loads.load()
    monkeypatch.undo()
    assert_packed_anew(found, loads.files)
    assert loads.told == [
        f"packed body kept in {folder}: 0.00 GB", f"packed body read from {folder}",
    ]  # fmt: skip


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def flip_the_last_byte(folder: Path) -> None:
    flip(folder / "packed-00002.safetensors", -1)


def cut_a_shard(folder: Path) -> None:
    path = folder / "packed-00002.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def lose_a_shard(folder: Path) -> None:
    (folder / "packed-00002.safetensors").unlink()


def swap_shards(folder: Path) -> None:
    shutil.copy(folder / "packed-00001.safetensors", folder / "packed-00002.safetensors")


def cut_the_index(folder: Path) -> None:
    path = folder / "packed.json"
    path.write_text(path.read_text()[:-20])


def lose_the_index(folder: Path) -> None:
    (folder / "packed.json").unlink()


def edit_index(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    index = json.loads((folder / "packed.json").read_text())
    change(index)
    (folder / "packed.json").write_text(json.dumps(index))


def lose_a_matrix(folder: Path) -> None:
    edit_index(folder, lambda index: index["matrices"].popitem())


def break_a_row(folder: Path) -> None:
    edit_index(folder, lambda index: index["matrices"].update(dict.fromkeys(index["matrices"], 3)))


@pytest.mark.parametrize(
    "damage",
    [
        flip_the_last_byte,
        cut_a_shard,
        lose_a_shard,
        swap_shards,
        cut_the_index,
        lose_the_index,
        lose_a_matrix,
        break_a_row,
    ],
)
def test_a_damaged_cache_is_told_and_made_again(
    loads: Loads, damage: Callable[[Path], None]
) -> None:
    loads.load()
    damage(loads.cache.folder)
    loads.told.clear()
    assert_packed_anew(loads.load(), loads.files)
    assert sum("the packed body is damaged (" in line for line in loads.told) == 1
    assert not [line for line in loads.told if "\n" in line]
    loads.told.clear()
    assert_packed_anew(loads.load(), loads.files)
    assert loads.told == [f"packed body read from {loads.cache.folder}"]


@pytest.mark.parametrize("key", ["identity", "format"])
def test_a_cache_of_something_else_is_told_and_made_again(loads: Loads, key: str) -> None:
    loads.load()
    edit_index(loads.cache.folder, lambda index: index.update({key: "else"}))
    loads.told.clear()
    assert_packed_anew(loads.load(), loads.files)
    assert "holds another model's packed body; packed anew" in loads.told[0]
    assert "kept in" in loads.told[1]


def test_a_model_that_was_written_again_is_packed_anew(tmp_path: Path) -> None:
    """It has no manifest, the same config and the same headers."""
    loads = Loads(tmp_path / "caches", save_mixtral(tmp_path / "model"), [])
    before, former = loads.load(), loads.cache.folder
    name = body_entries(loads.files)[0].name
    path = tmp_path / "model" / loads.files.weight_map[name]
    flip(path, -1)
    again = Loads(loads.place, ModelFolder(tmp_path / "model"), [])
    assert again.cache.folder != former
    found = again.load()
    assert_packed_anew(found, again.files)
    assert any(
        not torch.equal(one, other)
        for key, packed in before.items()
        for one, other in zip(packed.parts, found[key].parts, strict=True)
    )


def test_a_manifest_does_not_hide_that_weights_were_written_over(tmp_path: Path) -> None:
    def fill(path: Path) -> Facts:
        save_mixtral(path)
        return Facts()

    folder = make_artefact(tmp_path / "a", "40-embed", fill).path
    loads = Loads(tmp_path / "caches", ModelFolder(folder), [])
    loads.load()
    former = loads.cache.folder
    name = body_entries(loads.files)[0].name
    flip(folder / loads.files.weight_map[name], -1)
    again = Loads(loads.place, ModelFolder(folder), [])
    assert again.cache.folder != former
    assert_packed_anew(again.load(), again.files)


def test_a_cpus_and_a_gpus_packing_are_kept_apart(loads: Loads) -> None:
    gpu = open_cache(loads.place, loads.files, torch.device("cuda"), print)
    assert gpu.folder != loads.cache.folder


def test_a_process_that_may_not_write_reads_or_packs(loads: Loads) -> None:
    assert_packed_anew(loads.load(writes=False), loads.files)
    assert not loads.place.exists()
    loads.load()
    flip_the_last_byte(loads.cache.folder)
    damaged = [path.read_bytes() for path in sorted(loads.cache.folder.iterdir())]
    assert_packed_anew(loads.load(writes=False), loads.files)
    assert [path.read_bytes() for path in sorted(loads.cache.folder.iterdir())] == damaged


def test_while_another_process_writes_nobody_else_does(loads: Loads) -> None:
    with hold_place(loads.cache.folder):
        assert_packed_anew(loads.load(), loads.files)
    assert not loads.cache.folder.exists()
    assert loads.told == [
        f"{loads.cache.folder}: another process is making it; packed anew this once"
    ]


@pytest.mark.parametrize("at", ["packed.json", "packed-00003.safetensors"])
def test_what_cannot_be_read_just_now_is_left_alone(
    loads: Loads, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    loads.load()
    cache, before = loads.cache, loads.cache.stamp()
    read, opened = Path.read_text, SafetensorsFile

    def run_out(path: Path) -> None:
        if path.name == at:
            raise OSError(errno.EMFILE, "Too many open files")

    def read_text(path: Path, *rest: Any, **options: Any) -> str:
        run_out(path)
        return read(path, *rest, **options)

    def open_file(path: Path) -> Any:
        run_out(path)
        return opened(path)

    monkeypatch.setattr(Path, "read_text", read_text)
    monkeypatch.setattr(packedcache, "SafetensorsFile", open_file)
    loads.told.clear()
    assert_packed_anew(loads.load(), loads.files)
    assert "cannot be read (" in loads.told[-1]
    assert "Too many open files); packed anew this once" in loads.told[-1]
    assert cache.stamp() == before


def test_what_another_process_made_meanwhile_is_left_alone(loads: Loads) -> None:
    loads.load()
    flip_the_last_byte(loads.cache.folder)
    remade: list[tuple[int, int] | None] = []

    def make(pack: Pack) -> Bodies:
        try:
            return body_of(loads.files, pack)
        finally:
            if not remade:
                remade.append(None)  # what loads below comes here, too
                loads.load()
                remade[0] = loads.cache.stamp()

    assert_packed_anew(loads.cache.build(make), loads.files)
    assert "made by another process meanwhile" in loads.told[-1]
    assert loads.cache.stamp() == remade[0]


def test_a_damaged_one_that_cannot_be_moved_is_told_before_anything_is_packed(
    loads: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads.load()
    flip_the_last_byte(loads.cache.folder)

    def refuse(path: Path, target: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "rename", refuse)
    loads.told.clear()
    assert_packed_anew(loads.load(), loads.files)
    assert "is not kept" in loads.told[-1]
    assert "Permission denied" in loads.told[-1]
    assert not loads.cache.draft.exists()


def test_a_disk_that_is_too_small_is_told_and_the_load_goes_on(
    loads: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "lingraft.store.shutil.disk_usage", lambda path: shutil._ntuple_diskusage(9, 9, 0)
    )
    assert_packed_anew(loads.load(), loads.files)
    (line,) = loads.told
    assert "not kept, and the next start packs anew" in line
    assert "and 0.00 GB are free" in line
    assert list(loads.place.iterdir()) == []


def test_a_disk_that_runs_full_is_told_once_and_the_load_goes_on(
    loads: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_full(path: Path, *rest: Any) -> str:
        if path.name == "packed-00003.safetensors":
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_shard(path, *rest)

    monkeypatch.setattr(packedcache, "write_shard", run_full)
    assert_packed_anew(loads.load(), loads.files)
    (line,) = loads.told
    assert "not kept" in line
    assert "No space left on device" in line
    assert list(loads.place.iterdir()) == []


def test_a_place_that_can_be_no_folder_is_told(loads: Loads) -> None:
    loads.place.write_text("")
    assert_packed_anew(loads.load(), loads.files)
    assert "not kept" in loads.told[0]


def test_a_place_where_nothing_can_be_made_is_told(
    loads: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", "there")

    monkeypatch.setattr(packedcache, "require_space", refuse)
    assert_packed_anew(loads.load(), loads.files)
    assert "there: Read-only file system" in loads.told[0]


def test_a_load_that_fails_leaves_nothing(loads: Loads) -> None:
    def fail(pack: Pack) -> None:
        body_of(loads.files, pack)
        raise InputError("no such model")

    with pytest.raises(InputError, match="no such model"):
        loads.cache.build(fail)
    assert list(loads.place.iterdir()) == []


_KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from lingraft import packedcache
from lingraft.models import ModelFolder

packedcache._SHARD_BYTES = 4_000
files = ModelFolder(Path(sys.argv[1]))

def make(pack):
    for number, entry in enumerate(packedcache.body_entries(files)):
        if number == 12:
            os.kill(os.getpid(), signal.SIGKILL)
        pack(entry.name, lambda: files.tensor(entry.name))

packedcache.open_cache(Path(sys.argv[2]), files, torch.device("cpu"), print).build(make)
"""


def test_what_a_kill_left_aside_goes_when_it_is_packed_again(loads: Loads) -> None:
    aside = loads.place / f".former-{loads.cache.folder.name}"
    aside.mkdir(parents=True)
    loads.load()
    assert not aside.exists()


def test_a_kill_while_it_is_written_leaves_nothing_that_is_read(loads: Loads) -> None:
    arguments = [str(loads.files.path), str(loads.place)]
    done = subprocess.run([sys.executable, "-c", _KILLED, *arguments], check=False)
    assert done.returncode == -signal.SIGKILL
    assert list(loads.cache.draft.glob("*.safetensors"))
    assert not loads.cache.folder.exists()
    assert_packed_anew(loads.load(), loads.files)
    assert not loads.cache.draft.exists()
    assert_packed_anew(loads.load(), loads.files)
    assert [line.partition(" in ")[0].partition(" from ")[0] for line in loads.told] == [
        "packed body kept", "packed body read",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "digest"),
    [(300, "673c7ab601f675a9"), (70_000, "f818c43e1168ce4e")],
    ids=["small", "large"],
)
def test_what_packing_gives_is_what_its_version_says(rows: int, digest: str) -> None:
    """Where this fails, caches on disk hold other bits than packing gives: raise PACKING.

    The large one has more constants than one thread adds up, and more numbers than one chunk.
    """
    items = torch.arange(64 * rows, dtype=torch.float64)
    weight = ((items * 0.7548776662466927 % 1 - 0.5) * (1 + items % 977 / 100)).float()
    found = hashlib.sha256()
    for part in quantize(weight.view(rows, 64)).parts:
        found.update(part.reshape(-1).view(torch.uint8).numpy().tobytes())
    assert (packedcache.PACKING, found.hexdigest()[:16]) == (1, digest)


def test_packing_does_not_depend_on_the_number_of_threads() -> None:
    """A mean in float32 did: sums of more than 65,536 numbers are divided among threads."""
    before = torch.get_num_threads()
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        weight = torch.randn(1 << 12, 1 << 11, generator=generator).bfloat16()
        found = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(quantize(weight))
        torch.set_num_threads(before)
        for packed in found[1:]:
            assert packed.mean.equal(found[0].mean)
            assert packed.constants.equal(found[0].constants)
