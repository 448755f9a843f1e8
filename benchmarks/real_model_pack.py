"""Carry the model and the text of `real_model.py` to a machine without a network, in little.

A GGUF's blocks are the whole information of a model that was stored in them, so they travel, not
the bfloat16 numbers that they become: 5 bits a weight. Base ids are not carried at all: an
extended encoding is the base's with neighbours joined, so they follow from the spelling of each
added piece. Unpacking checks the hashes of every tensor and token file.

Run here:   python benchmarks/real_model_pack.py pack --gguf FILE --model DIR --base-tokens DIR \
                --extended-tokens DIR --tokenizer DIR --base DIR --rows DIR --out DIR --parts 3
Run there:  python benchmarks/real_model_pack.py unpack PART... --out DIR
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import zipfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

CHUNK_BYTES = 4_000_000
BLOCK = 32
EMBED = "model.embed_tokens.weight"
KINDS = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
         "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
         "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm",
         "ffn_norm": "post_attention_layernorm"}  # fmt: skip


def published(name: str) -> str:
    """The published name of a GGUF's tensor."""
    if name in ("token_embd.weight", "output_norm.weight"):
        return EMBED if name.startswith("token") else "model.norm.weight"
    _, layer, kind, _ = name.split(".")
    return f"model.layers.{layer}.{KINDS[kind]}.weight"


def halves_together(rows: np.ndarray, heads: int) -> np.ndarray:
    """Undo llama.cpp's order of the rows of q and k: halves of a head, not pairs."""
    dim = len(rows) // heads // 2
    return rows.reshape(heads, dim, 2, -1).swapaxes(1, 2).reshape(rows.shape)


def read_blocks(gguf: Path, heads: dict[str, int]) -> dict[str, tuple[str, tuple[int, ...], Any]]:
    """Published name -> (kind, shape, raw rows)."""
    from gguf import GGUFReader  # a package that only this direction needs

    found: dict[str, tuple[str, tuple[int, ...], Any]] = {}
    for tensor in GGUFReader(gguf).tensors:
        name, rows = published(tensor.name), np.array(tensor.data)
        for part, count in heads.items():
            if f".{part}." in name:
                rows = halves_together(rows, count)
        shape = tuple(int(n) for n in reversed(tensor.shape))
        found[name] = (tensor.tensor_type.name, shape, rows)
    return found


def dequantize(kind: str, shape: tuple[int, ...], scales: np.ndarray, codes: np.ndarray) -> Any:
    """Blocks to float32: Q4_1 is scale x nibble + minimum, Q8_0 scale x byte."""
    scales_t = torch.from_numpy(scales.view(np.float16).copy()).float()
    if kind == "Q8_0":
        values = torch.from_numpy(codes.view(np.int8).copy()).view(-1, BLOCK).float()
        return (values * scales_t.view(-1, 1)).view(shape)
    packed = torch.from_numpy(codes.copy()).view(-1, BLOCK // 2)
    values = torch.cat([packed & 15, packed >> 4], 1).float()
    pair = scales_t.view(-1, 2)
    return (values * pair[:, :1] + pair[:, 1:]).view(shape)


def split_rows(kind: str, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Raw rows to scales and codes."""
    scale_bytes, block_bytes = (4, 20) if kind == "Q4_1" else (2, 34)
    blocks = rows.reshape(-1, block_bytes)
    return blocks[:, :scale_bytes].copy().reshape(-1), blocks[:, scale_bytes:].copy().reshape(-1)


def pack(args: argparse.Namespace) -> None:
    """Write PART-1.zip and so on, of like size."""
    config = json.loads((args.model / "config.json").read_text())
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    truth = load_file(args.model / "model.safetensors")
    blobs: dict[str, bytes] = {}
    about: dict[str, Any] = {"model": {}, "extra": {}, "sha256": {}}
    kept = {}
    for name, (kind, shape, rows) in read_blocks(args.gguf, heads).items():
        if kind == "F32":
            kept[name] = truth[name]
            continue
        scales, codes = split_rows(kind, rows)
        blobs[f"scales/{name}"], blobs[f"codes/{name}"] = scales.tobytes(), codes.tobytes()
        about["model"][name] = [kind, list(shape)]
        made = dequantize(kind, shape, scales, codes).bfloat16()
        assert torch.equal(made, truth[name][: len(made)]), f"{name} is not what the folder holds"
        if len(made) < len(truth[name]):
            kept[f"behind/{name}"] = truth[name][len(made) :]
        about["sha256"][name] = tensor_sha(truth[name])
    assert set(about["model"]) | {n for n in kept if "/" not in n} == set(truth), "other tensors"
    save_file({n: t.contiguous() for n, t in kept.items()}, args.out / "kept.safetensors")
    blobs["kept.safetensors"] = (args.out / "kept.safetensors").read_bytes()
    (args.out / "kept.safetensors").unlink()
    blobs["config.json"] = (args.model / "config.json").read_bytes()
    add_tokens(blobs, args)
    for kind, folder in (("base", args.base), ("ext", args.tokenizer)):
        for path in sorted(folder.glob("*token*.json")):
            blobs[f"tokenizer-{kind}/{path.name}"] = path.read_bytes()
    for path in sorted(args.rows.glob("*.safetensors")) if args.rows else []:
        blobs[f"rows/{path.name}"] = path.read_bytes()
    blobs["about.json"] = json.dumps(about).encode()
    write_parts(blobs, args.out, args.parts)


def add_tokens(blobs: dict[str, bytes], args: argparse.Namespace) -> None:
    """Extended token files, the spelling of each added piece, and both indexes."""
    from lingraft.bases import read_base

    base, extended = read_base(str(args.base)), read_base(str(args.tokenizer))
    spellings = [spell(base, extended, id) for id in range(base.size, extended.size)]
    blobs["spellings.json"] = json.dumps(spellings).encode()
    blobs["prompts.json"] = args.prompts.read_bytes() if args.prompts else b"{}"
    for path in sorted(args.extended_tokens.glob("*.npy")):
        blobs[f"tokens-ext/{path.name}"] = path.read_bytes()
        if not path.name.endswith((".ends.npy", ".bytes.npy")):
            ids = np.load(path)
            made, counts = respell(ids, spellings, base.size)
            assert np.array_equal(made, np.load(args.base_tokens / path.name)), path.name
            ends = np.load(path.with_suffix(".ends.npy"))
            assert np.array_equal(
                np.concatenate([[0], np.cumsum(counts)])[ends.astype(np.int64)],
                np.load(args.base_tokens / path.with_suffix(".ends.npy").name),
            ), path.name
    for kind, folder in (("ext", args.extended_tokens), ("base", args.base_tokens)):
        blobs[f"tokens-{kind}/index.json"] = (folder / "index.json").read_bytes()


def spell(base: Any, extended: Any, id: int) -> list[int]:
    """Base ids of an added piece, by the merge rules that made it."""
    from lingraft.embed.added import read_added

    if not hasattr(spell, "known"):
        spell.known = read_added(base, extended).spellings  # type: ignore[attr-defined]
    return [int(n) for n in spell.known[id - base.size]]  # type: ignore[attr-defined]


def respell(
    ids: np.ndarray, spellings: list[list[int]], num_base: int
) -> tuple[np.ndarray, np.ndarray]:
    """Take every added piece apart; gives base ids and how many each id became."""
    lengths = np.array([1] * num_base + [len(s) for s in spellings])
    flat = np.concatenate([np.arange(num_base), *map(np.asarray, spellings)]).astype(np.uint16)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    counts = lengths[ids]
    before = np.cumsum(counts) - counts
    places = np.repeat(starts[ids] - before, counts) + np.arange(int(counts.sum()))
    return flat[places], counts


def write_parts(blobs: dict[str, bytes], out: Path, parts: int) -> None:
    """Compress chunks, deal them to the parts by size, and write zip files."""
    chunks = [
        (f"{name}#{n // CHUNK_BYTES:04d}", data[n : n + CHUNK_BYTES])
        for name, data in blobs.items()
        for n in range(0, max(len(data), 1), CHUNK_BYTES)
    ]
    with ProcessPoolExecutor() as pool:
        packed = list(pool.map(squeeze, chunks, chunksize=4))
    packed.sort(key=lambda item: -len(item[2]))
    sizes, dealt = [0] * parts, [[] for _ in range(parts)]  # type: ignore[var-annotated]
    for item in packed:
        part = sizes.index(min(sizes))
        dealt[part].append(item)
        sizes[part] += len(item[2])
    for number, items in enumerate(dealt, 1):
        with zipfile.ZipFile(out / f"part-{number}.zip", "w", zipfile.ZIP_STORED) as file:
            for name, method, data in items:
                file.writestr(f"{method}/{name}", data)
        print(f"part-{number}.zip: {(out / f'part-{number}.zip').stat().st_size:,} bytes")


FILTERS = [{"id": __import__("lzma").FILTER_LZMA2, "preset": 6, "lc": 0, "lp": 1, "pb": 1}]


def squeeze(chunk: tuple[str, bytes]) -> tuple[str, str, bytes]:
    """Compress a chunk as it pays: (name, method, data)."""
    import lzma

    name, data = chunk
    if name.startswith(("codes/", "rows/")):
        return name, "raw", data
    small = lzma.compress(data, format=lzma.FORMAT_RAW, filters=FILTERS)
    return (name, "lzma", small) if len(small) < 0.98 * len(data) else (name, "raw", data)


def unsqueeze(where: tuple[str, str]) -> tuple[str, bytes]:
    """Read one chunk of a part."""
    import lzma

    with zipfile.ZipFile(where[0]) as file:
        data = file.read(where[1])
    method, _, name = where[1].partition("/")
    if method == "lzma":
        data = lzma.decompress(data, format=lzma.FORMAT_RAW, filters=FILTERS)
    return name, data


def unpack(args: argparse.Namespace) -> None:
    """Write model, tokens-ext, tokens-base, rows, spellings.json and prompts.json."""
    places = [(str(p), n) for p in args.parts_found for n in zipfile.ZipFile(p).namelist()]
    with ProcessPoolExecutor() as pool:
        chunks = dict(pool.map(unsqueeze, places, chunksize=2))
    blobs: dict[str, bytes] = {}
    for name in sorted(chunks):
        stem = name.rpartition("#")[0]
        blobs[stem] = blobs.get(stem, b"") + chunks[name]
    about = json.loads(blobs["about.json"])
    kinds = ("tokens-ext", "tokens-base", "tokenizer-ext", "tokenizer-base")
    for folder in ("model", "rows", *kinds):
        (args.out / folder).mkdir(parents=True, exist_ok=True)
    unpack_model(blobs, about, args.out / "model")
    for name, data in blobs.items():
        if name.startswith((*kinds, "rows/")) or name in ("spellings.json", "prompts.json"):
            (args.out / name).write_bytes(data)
    unpack_base_tokens(args.out, json.loads(blobs["spellings.json"]))
    print(f"unpacked into {args.out}")


def unpack_model(blobs: dict[str, bytes], about: dict[str, Any], folder: Path) -> None:
    """Write model.safetensors and config.json; every tensor is compared with its hash."""
    (folder / "kept.safetensors").write_bytes(blobs["kept.safetensors"])
    kept = load_file(folder / "kept.safetensors")
    (folder / "kept.safetensors").unlink()
    tensors = {name: t for name, t in kept.items() if "/" not in name}
    for name, (kind, shape) in about["model"].items():
        scales = np.frombuffer(blobs[f"scales/{name}"], np.uint8)
        codes = np.frombuffer(blobs[f"codes/{name}"], np.uint8)
        made = dequantize(kind, tuple(shape), scales, codes).bfloat16()
        behind = kept.get(f"behind/{name}")
        tensors[name] = made if behind is None else torch.cat([made, behind])
        assert tensor_sha(tensors[name]) == about["sha256"][name], f"{name} came out different"
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_bytes(blobs["config.json"])


def unpack_base_tokens(out: Path, spellings: list[list[int]]) -> None:
    """Make the base's token files from the extended ones; hashes are compared with the index."""
    index = json.loads((out / "tokens-base" / "index.json").read_text())
    num_base = index["tokenizer"]["vocab_size"]
    for entry in index["files"]:
        name = entry["name"]
        ids, counts = respell(np.load(out / f"tokens-ext/{name}.npy"), spellings, num_base)
        np.save(out / f"tokens-base/{name}.npy", ids)
        ends = np.load(out / f"tokens-ext/{name}.ends.npy").astype(np.int64)
        reached = np.concatenate([[0], np.cumsum(counts)])[ends].astype(np.uint64)
        np.save(out / f"tokens-base/{name}.ends.npy", reached)
        shutil.copy(out / f"tokens-ext/{name}.bytes.npy", out / "tokens-base")
    for kind in ("base", "ext"):
        index = json.loads((out / f"tokens-{kind}/index.json").read_text())
        for entry in index["files"]:
            for file, wanted in entry["sha256"].items():
                found = hashlib.sha256((out / f"tokens-{kind}" / file).read_bytes()).hexdigest()
                assert found == wanted, f"tokens-{kind}/{file} came out different"


def tensor_sha(tensor: torch.Tensor) -> str:
    """sha256 of a bfloat16 tensor's bytes."""
    return hashlib.sha256(tensor.contiguous().view(torch.int16).numpy().tobytes()).hexdigest()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    there = verbs.add_parser("unpack")
    there.add_argument("parts_found", type=Path, nargs="+")
    here = verbs.add_parser("pack")
    for name in ("gguf", "model", "base-tokens", "extended-tokens", "tokenizer", "base"):
        here.add_argument(f"--{name}", type=Path, required=True)
    for name in ("rows", "prompts"):
        here.add_argument(f"--{name}", type=Path)
    here.add_argument("--parts", type=int, default=3)
    for verb in (there, here):
        verb.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    (pack if args.verb == "pack" else unpack)(args)


if __name__ == "__main__":
    main()
