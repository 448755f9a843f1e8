"""Model folders: headers, shards, indexes."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lingraft.errors import InputError
from lingraft.manifest import file_sha256
from lingraft.models import (
    ModelFolder,
    TensorEntry,
    load_causal_lm,
    plan_shards,
    write_index,
    write_shard,
)
from lingraft.weights import open_weights, row_slices

TENSORS = {
    "a": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "b": torch.ones(4, dtype=torch.bfloat16),
    "c": torch.tensor([[7]], dtype=torch.float16),
}
ENTRIES = [
    TensorEntry("a", "F32", (2, 3)),
    TensorEntry("b", "BF16", (4,)),
    TensorEntry("c", "F16", (1, 1)),
]


def folder_of(path: Path, max_bytes: int) -> ModelFolder:
    (path / "config.json").write_text("{}", encoding="utf-8")
    weight_map: dict[str, str] = {}
    for name, entries in plan_shards(ENTRIES, max_bytes).items():
        write_shard(path / name, entries, lambda e: TENSORS[e.name])
        weight_map |= {e.name: name for e in entries}
    write_index(path, weight_map, sum(e.size_bytes for e in ENTRIES))
    return ModelFolder(path)


@pytest.mark.parametrize(("max_bytes", "shards"), [(1 << 20, 1), (24, 2), (1, 3)])
def test_tensors_come_back_whatever_the_shard_size(
    tmp_path: Path, max_bytes: int, shards: int
) -> None:
    model = folder_of(tmp_path, max_bytes)
    assert len(model.shards) == shards
    assert model.all_entries() == ENTRIES
    for name, tensor in TENSORS.items():
        assert torch.equal(model.tensor(name), tensor)


def test_shards_are_what_safetensors_reads(tmp_path: Path) -> None:
    write_shard(tmp_path / "x.safetensors", ENTRIES, lambda e: TENSORS[e.name])
    loaded = load_file(tmp_path / "x.safetensors")
    assert {k: v.tolist() for k, v in loaded.items()} == {k: v.tolist() for k, v in TENSORS.items()}


def test_headers_written_by_safetensors_are_read(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    assert sorted(ModelFolder(tmp_path).all_entries(), key=lambda e: e.name) == ENTRIES


def test_a_tensor_is_cast_to_its_entry(tmp_path: Path) -> None:
    entry = TensorEntry("a", "F16", (2, 3))
    write_shard(tmp_path / "x.safetensors", [entry], lambda e: TENSORS[e.name])
    assert load_file(tmp_path / "x.safetensors")["a"].dtype == torch.float16


def test_shard_names_follow_transformers() -> None:
    assert list(plan_shards(ENTRIES, 24)) == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ]


def test_a_folder_without_config_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.json: no such file"):
        ModelFolder(tmp_path)


def test_a_folder_without_weights_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match=r"no model\.safetensors"):
        ModelFolder(tmp_path)


def test_a_broken_config_is_told(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="not JSON"):
        ModelFolder(tmp_path)


def test_a_config_that_is_no_object_is_told(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[1]", encoding="utf-8")
    with pytest.raises(InputError, match="a JSON list; expected an object"):
        ModelFolder(tmp_path)


@pytest.mark.parametrize("index", ["{}", '{"weight_map": ["a"]}', '{"weight_map": {"a": 1}}'])
def test_an_index_without_a_weight_map_is_told(tmp_path: Path, index: str) -> None:
    folder_of(tmp_path, 24)
    (tmp_path / "model.safetensors.index.json").write_text(index, encoding="utf-8")
    with pytest.raises(InputError, match="no table 'weight_map'"):
        ModelFolder(tmp_path)


def test_a_shard_that_was_cut_short_is_told(tmp_path: Path) -> None:
    model = folder_of(tmp_path, 24)
    shard = tmp_path / model.shards[-1]
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(InputError, match="its header speaks of"):
        ModelFolder(tmp_path).all_entries()


def test_a_dtype_that_nothing_here_can_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    save_file({"a": torch.zeros(2, dtype=torch.uint16)}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="tensor 'a' is U16; expected one of F"):
        ModelFolder(tmp_path)


def test_a_missing_shard_is_told(tmp_path: Path) -> None:
    folder_of(tmp_path, 24)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(InputError, match=r"00002-of-00002.*missing"):
        ModelFolder(tmp_path)


def test_an_absent_tensor_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no tensor 'z' among 3"):
        folder_of(tmp_path, 24).tensor("z")


@pytest.mark.parametrize(
    "data", [b"", b"\xff" * 9, b"\x02\0\0\0\0\0\0\0{]", b'\x09\0\0\0\0\0\0\0{"a":{}} ']
)
def test_a_file_that_is_not_safetensors_is_told(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "model.safetensors").write_bytes(data)
    with pytest.raises(InputError, match="not a safetensors file"):
        ModelFolder(tmp_path)


def test_a_model_that_transformers_cannot_load_is_told(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "nonsense"}), encoding="utf-8")
    with pytest.raises(InputError, match="transformers cannot load it"):
        load_causal_lm(tmp_path)


def test_rows_are_read_without_the_rest(tmp_path: Path) -> None:
    model = folder_of(tmp_path, 24)
    assert model.rows("a", 1, 2).tolist() == [[3, 4, 5]]
    assert model.rows("b", 1, 3).tolist() == [1, 1]
    assert model.read("a", 2, 3).tolist() == [2, 3, 4]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_told_where_they_are(tmp_path: Path, bad: float) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    rows = torch.zeros(4, 3)
    rows[2, 1] = bad
    save_file({"a": rows}, tmp_path / "model.safetensors")
    model = ModelFolder(tmp_path)
    model.tensor("a")
    with pytest.raises(InputError, match=r"tensor 'a': .* not finite, first in row\(s\) 2"):
        model.tensor("a", finite=True)


def edit_index(folder: Path, **places: str | None) -> None:
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text(encoding="utf-8"))
    index["weight_map"] |= {name: shard for name, shard in places.items() if shard}
    for name in [name for name, shard in places.items() if shard is None]:
        del index["weight_map"][name]
    path.write_text(json.dumps(index), encoding="utf-8")


def test_an_index_that_names_a_missing_tensor_is_refused(tmp_path: Path) -> None:
    folder_of(tmp_path, 24)
    edit_index(tmp_path, z="model-00002-of-00002.safetensors")
    with pytest.raises(InputError, match=r"tensor 'z' in .*; it is in no shard"):
        ModelFolder(tmp_path)


def test_an_index_that_names_the_wrong_shard_is_refused(tmp_path: Path) -> None:
    folder_of(tmp_path, 24)
    edit_index(tmp_path, b="model-00001-of-00002.safetensors")
    with pytest.raises(InputError, match="it is in model-00002-of-00002"):
        ModelFolder(tmp_path)


def test_a_tensor_that_the_index_does_not_name_is_refused(tmp_path: Path) -> None:
    folder_of(tmp_path, 24)
    edit_index(tmp_path, c=None)
    with pytest.raises(InputError, match="holds tensor 'c', which the index does not name"):
        ModelFolder(tmp_path)


def test_a_tensor_in_two_shards_is_refused(tmp_path: Path) -> None:
    model = folder_of(tmp_path, 24)
    write_shard(tmp_path / model.shards[1], ENTRIES, lambda e: TENSORS[e.name])
    with pytest.raises(InputError, match="tensor 'a' is in two shards"):
        ModelFolder(tmp_path)


def test_a_header_whose_sizes_disagree_is_refused(tmp_path: Path) -> None:
    head = b'{"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,8]}}'
    content = len(head).to_bytes(8, "little") + head + bytes(8)
    (tmp_path / "model.safetensors").write_bytes(content)
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match=r"8 bytes; its shape \[2, 2\] in F32 needs 16"):
        ModelFolder(tmp_path)


def test_a_file_that_shrinks_while_it_is_read_is_told(tmp_path: Path) -> None:
    model = folder_of(tmp_path, 1 << 20)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="ends inside tensor 'c'"):
        model.tensor("c")


def bin_folder(folder: Path, content: object, **options: bool) -> Path:
    (folder / "config.json").write_text("{}", encoding="utf-8")
    torch.save(content, folder / "pytorch_model.bin", **options)
    return folder


def test_a_bin_model_is_read_by_rows(tmp_path: Path) -> None:
    model = ModelFolder(bin_folder(tmp_path, TENSORS))
    assert not model.is_safetensors
    assert model.all_entries() == ENTRIES
    assert torch.equal(model.tensor("b"), TENSORS["b"])
    assert model.rows("a", 0, 1).tolist() == [[0, 1, 2]]


def test_a_sharded_bin_model_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    shards = {name: f"pytorch_model-{name}.bin" for name in TENSORS}
    for name, shard in shards.items():
        torch.save({name: TENSORS[name]}, tmp_path / shard)
    index = json.dumps({"weight_map": shards})
    (tmp_path / "pytorch_model.bin.index.json").write_text(index, encoding="utf-8")
    model = ModelFolder(tmp_path)
    assert len(model.shards) == 3
    assert torch.equal(model.tensor("c"), TENSORS["c"])


class Surprise:
    def __reduce__(self) -> tuple[object, ...]:
        return print, ("code that was run",)


@pytest.mark.parametrize("content", [{"a": Surprise()}, {"a": 1}, [TENSORS["a"]]])
def test_a_bin_file_of_more_than_tensors_is_refused(
    tmp_path: Path, content: object, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match="tensors"):
        ModelFolder(bin_folder(tmp_path, content))
    assert "code that was run" not in capsys.readouterr().out


def test_a_bin_file_of_the_format_before_zip_is_read(tmp_path: Path) -> None:
    model = ModelFolder(bin_folder(tmp_path, TENSORS, _use_new_zipfile_serialization=False))
    assert model.all_entries() == ENTRIES
    assert model.rows("a", 1, 2).tolist() == [[3, 4, 5]]
    assert torch.equal(model.tensor("c"), TENSORS["c"])


def test_code_in_a_bin_file_of_the_format_before_zip_is_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = bin_folder(tmp_path, {"a": Surprise()}, _use_new_zipfile_serialization=False)
    with pytest.raises(InputError, match="cannot be read as tensors alone"):
        ModelFolder(folder)
    assert "code that was run" not in capsys.readouterr().out


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 and no more", b"nonsense"])
def test_a_damaged_bin_file_is_told(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "pytorch_model.bin").write_bytes(data)
    with pytest.raises(InputError, match=r"alone: \w(?s:.*)damaged.*\n.*Fetch it again"):
        ModelFolder(tmp_path)


def test_a_bin_tensor_of_an_unknown_dtype_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="tensor 'a' is complex64"):
        ModelFolder(bin_folder(tmp_path, {"a": torch.zeros(2, dtype=torch.complex64)}))


SMALL = {
    "bool": torch.tensor([True, False, True]),
    "i16": torch.tensor([-300, 7, 300], dtype=torch.int16),
    "e4m3": torch.tensor([1.0, -2.0, 0.5]).to(torch.float8_e4m3fn),
    "e5m2": torch.tensor([1.0, -2.0, 0.5]).to(torch.float8_e5m2),
}


def test_masks_and_numbers_of_eight_bits_are_read_and_written(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    save_file(SMALL, tmp_path / "model.safetensors")
    model = ModelFolder(tmp_path)
    for name, tensor in SMALL.items():
        assert torch.equal(model.tensor(name, finite=True), tensor)
    write_shard(tmp_path / "x.safetensors", model.all_entries(), lambda e: SMALL[e.name])
    loaded = load_file(tmp_path / "x.safetensors")
    assert all(torch.equal(loaded[name], tensor) for name, tensor in SMALL.items())
    torch.save(SMALL, tmp_path / "x.bin")
    assert dict(open_weights(tmp_path / "x.bin").entries) == {
        entry.name: entry for entry in model.all_entries()
    }


def test_a_number_of_eight_bits_that_is_not_finite_is_told(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    bad = torch.tensor([0.0, float("nan")]).to(torch.float8_e4m3fn)
    save_file({"a": bad}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=r"not finite, first in row\(s\) 1"):
        ModelFolder(tmp_path).tensor("a", finite=True)


@pytest.mark.parametrize(
    "shard",
    [
        "../x.safetensors",
        "sub/x.safetensors",
        "..\\x.safetensors",
        "/x.safetensors",
        "C:x.bin",
        ".x.safetensors",
        "config.json",
        "",
    ],
)
def test_an_index_that_names_a_file_elsewhere_is_refused(tmp_path: Path, shard: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    folder_of(folder, 24)
    (folder / "sub").mkdir()
    for place in (tmp_path, folder / "sub"):
        save_file({"z": TENSORS["a"]}, place / "x.safetensors")
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text(encoding="utf-8"))
    index["weight_map"]["z"] = shard
    path.write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(InputError, match=r"names the file .* in its own folder"):
        ModelFolder(folder)


def test_weights_are_taken_in_the_order_of_transformers(tmp_path: Path) -> None:
    folder_of(tmp_path, 24)  # two shards and an index
    bin_folder(tmp_path, {"bin": torch.ones(1)})
    bin_index = json.dumps({"weight_map": {"none": "none.bin"}})
    (tmp_path / "pytorch_model.bin.index.json").write_text(bin_index, encoding="utf-8")
    assert ModelFolder(tmp_path).weight_map.keys() == TENSORS.keys()
    save_file({"one": torch.ones(1)}, tmp_path / "model.safetensors")
    assert ModelFolder(tmp_path).weight_map == {"one": "model.safetensors"}
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "model.safetensors.index.json").unlink()
    assert ModelFolder(tmp_path).weight_map == {"bin": "pytorch_model.bin"}


def test_a_shard_is_written_from_pieces(tmp_path: Path) -> None:
    pieces = {name: torch.split(tensor.flatten(), 2) for name, tensor in TENSORS.items()}
    sha256 = write_shard(tmp_path / "x.safetensors", ENTRIES, lambda e: iter(pieces[e.name]))
    whole = write_shard(tmp_path / "y.safetensors", ENTRIES, lambda e: TENSORS[e.name])
    assert sha256 == whole == file_sha256(tmp_path / "x.safetensors")
    assert torch.equal(load_file(tmp_path / "x.safetensors")["a"], TENSORS["a"])


def test_a_shard_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, seen = tmp_path / "x.safetensors", []
    real = os.fsync

    def sync(fd: int) -> None:
        seen.append((path.exists(), os.fstat(fd).st_ino))
        real(fd)

    monkeypatch.setattr(os, "fsync", sync)
    write_shard(path, ENTRIES, lambda e: TENSORS[e.name])
    assert seen == [(False, path.stat().st_ino)]


@pytest.mark.parametrize(
    ("shape", "expected"), [((5, 2), [(0, 2), (2, 4), (4, 5)]), ((2, 9), [(0, 1), (1, 2)])]
)
def test_rows_are_cut_into_slices(shape: tuple[int, ...], expected: list[tuple[int, int]]) -> None:
    assert list(row_slices(TensorEntry("a", "F32", shape), items=4)) == expected
