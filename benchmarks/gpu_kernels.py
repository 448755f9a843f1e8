"""Check the GPU's kernels against plain torch, and time the parts of a Mixtral layer.

Checked: see gpu_checks.py.
Timed:   by the host's clock around a synchronised call, after two that do not count, median:
         unpacking, the products of an expert, an expert block at true widths (loop of products;
         grouped products), attention, the head's loss, tiles of the kernels that hold a product,
         two layers of a built model with a profile; Liger-Kernel's loss, where it is installed.
Run:     python benchmarks/gpu_kernels.py --out gpu_kernels.json
Small:   python benchmarks/gpu_kernels.py --device cpu   (plain torch only: tests the script)
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from gpu_bench import BF16, FP32, Bench, make_experts, route_evenly
from gpu_checks import check_attention, check_experts, check_model, check_nf4, check_steps
from random_model import RandomModel
from torch.nn.functional import scaled_dot_product_attention

from lingraft.losses import linear_cross_entropy
from lingraft.train import steps
from lingraft.train.experts import product32
from lingraft.train.lora import FrozenStack, QLoraExperts, use_path


def widths(bench: Bench) -> tuple[int, int, int]:
    """Model width, inner width, rank."""
    return (4096, 14336, 64) if bench.is_gpu else (128, 256, 16)


def time_ceilings(bench: Bench) -> dict[str, Any]:
    """A large product and a large copy."""
    size = 8192 if bench.is_gpu else 512
    a, b = bench.random(size, size, dtype=BF16), bench.random(size, size, dtype=BF16)
    ms = bench.time_ms(lambda: a @ b)
    big = torch.empty(size * size * 16, dtype=BF16, device=bench.device)
    other = torch.empty_like(big)
    copy_ms = bench.time_ms(lambda: other.copy_(big))
    return {
        "product_tflops": round(2 * size**3 / ms / 1e9, 1),
        "copy_gb_s": round(4 * big.numel() / copy_ms / 1e6),
    }


def time_unpack(bench: Bench) -> dict[str, Any]:
    """One expert's gate and up, into the buffer that also holds B, and alone."""
    width, inner, rank = widths(bench)
    matrices = (bench.random(inner, width, dtype=BF16, std=0.02) for _ in range(8))
    stack = FrozenStack(matrices, True, parts=2)
    out = torch.empty(2 * inner, width + 2 * rank, dtype=BF16, device=bench.device)
    items = 2 * inner * width
    targets = {"beside_b": out[:, :width], "alone": out.view(-1)[:items].view(-1, width)}
    found: dict[str, Any] = {}
    for name, target in targets.items():
        ms = bench.time_ms(partial(unpack_all, stack, target)) / 4
        found[f"{name}_ms"] = round(ms, 3)
        found[f"{name}_gb_s"] = round(items * (2 + 4.127 / 8) / ms / 1e6)
    return found


def unpack_all(stack: FrozenStack, out: torch.Tensor) -> None:
    """Unpack four experts, one over the other."""
    for number in range(4):
        stack.unpack_into(number, out)


def time_products(bench: Bench) -> dict[str, Any]:
    """The products of an expert, by its rows: large ones in TFLOP/s, narrow ones in us."""
    found: dict[str, Any] = {}
    for rows in (2048, 4096, 4111, 8192) if bench.is_gpu else (64,):
        found |= time_products_of(bench, rows)
    return found


def time_products_of(bench: Bench, rows: int) -> dict[str, Any]:
    """Those of one number of rows."""
    width, inner, rank = widths(bench)
    w_in = bench.random(2 * inner, width + 2 * rank, dtype=BF16, std=0.02)
    w_down = bench.random(width, inner + rank, dtype=BF16, std=0.02)
    x, h = (bench.random(rows, w.shape[1], dtype=BF16) for w in (w_in, w_down))
    gate_up, y = (bench.random(rows, len(w), dtype=BF16) for w in (w_in, w_down))
    low, a = bench.random(rows, 2 * rank, dtype=BF16), bench.random(2 * rank, width, dtype=BF16)
    of_a = torch.empty(2 * rank, width, device=bench.device)
    of_b = torch.empty(inner, rank, device=bench.device)
    large = {
        "gate_up": (lambda: x @ w_in.t(), w_in),
        "of_x": (lambda: gate_up @ w_in, w_in),
        "down": (lambda: h @ w_down.t(), w_down),
        "of_inner": (lambda: y @ w_down, w_down),
    }
    narrow = {
        "a": lambda: x[:, :width] @ a.t(),
        "of_a32": lambda: product32(low.t(), x[:, :width], of_a),
        "of_b32": lambda: product32(gate_up[:, :inner].t(), low[:, :rank], of_b),
    }
    found: dict[str, Any] = {}
    for name, (run, weight) in large.items():
        found[f"{name}_{rows}"] = round(2 * rows * weight.numel() / bench.time_ms(run) / 1e9)
    for name, run_narrow in narrow.items():
        found[f"{name}_{rows}_us"] = round(bench.time_ms(run_narrow) * 1e3)
    return found


def time_block(bench: Bench) -> dict[str, Any]:
    """A whole expert block, loop over experts, with and without dropout."""
    width, inner, rank = widths(bench)
    found: dict[str, Any] = {}
    for drop in (0.05, 0.0):
        module = make_experts(bench, width, inner, rank, 8, BF16, drop)
        for tokens in (8192, 16384, 32768) if bench.is_gpu else (64,):
            found[f"{tokens}_drop{drop}"] = time_block_of(bench, module, tokens)
    return found


def time_block_of(bench: Bench, module: QLoraExperts, tokens: int) -> dict[str, Any]:
    """One number of tokens."""
    width, inner, _ = widths(bench)
    index, shares = route_evenly(bench, tokens, 8)
    x = bench.random(tokens, width, dtype=BF16).requires_grad_()
    outer, base = bench.random(tokens, width, dtype=BF16), 0
    if bench.is_gpu:
        torch.cuda.reset_peak_memory_stats()
        base = torch.cuda.memory_allocated()
    forward_ms = bench.time_ms(lambda: module(x, index, shares), 3)
    ms = bench.time_ms(lambda: module(x, index, shares).backward(outer), 3)
    # Forward 2, backward 2, gate and up once more: 5 1/3 operations a parameter.
    operations = tokens * 2 * 3 * width * inner * (4 + 4 / 3)
    found = {
        "forward_ms": round(forward_ms, 2),
        "both_ms": round(ms, 2),
        "tflops": round(operations / ms / 1e9),
    }
    if bench.is_gpu:
        found["peak_gb"] = round((torch.cuda.max_memory_allocated() - base) / 1e9, 2)
    return found


def time_grouped(bench: Bench) -> dict[str, Any]:
    """Grouped products over a whole layer's unpacked weights, against a loop, TFLOP/s."""
    width, inner, rank = widths(bench)
    w_in = bench.random(8, 2 * inner, width + 2 * rank, dtype=BF16, std=0.02)
    found: dict[str, Any] = {}
    for tokens in (8192, 16384) if bench.is_gpu else (64,):
        rows = 2 * tokens
        x = bench.random(rows, width + 2 * rank, dtype=BF16)
        gate_up = bench.random(rows, 2 * inner, dtype=BF16)
        counts = torch.bincount(torch.randint(8, (rows,)), minlength=8)
        for name, run in grouped_cases(x, gate_up, w_in, counts).items():
            ms = bench.time_ms(run, 3)
            found[f"{name}_{tokens}"] = round(2 * rows * w_in[0].numel() / ms / 1e9)
    return found


def grouped_cases(
    x: torch.Tensor, gate_up: torch.Tensor, w_in: torch.Tensor, counts: torch.Tensor
) -> dict[str, Any]:
    """Both ways, there and back."""
    grouped = torch.nn.functional.grouped_mm
    offsets, spans = counts.cumsum(0).to(x.device, torch.int32), counts.tolist()

    def loop(rows: torch.Tensor, weights: Iterator[torch.Tensor]) -> list[torch.Tensor]:
        return [a @ w for a, w in zip(torch.split(rows, spans), weights, strict=True)]

    return {
        "loop": lambda: loop(x, (w.t() for w in w_in)),
        "grouped": lambda: grouped(x, w_in.transpose(1, 2), offs=offsets),
        "loop_of_x": lambda: loop(gate_up, iter(w_in)),
        "grouped_of_x": lambda: grouped(gate_up, w_in, offs=offsets),
    }


def time_attention(bench: Bench) -> dict[str, Any]:
    """Attention of 8 rows of 2,048 tokens: forward, and forward and backward."""
    rows, heads, kv, length, size = (8, 32, 8, 2048, 128) if bench.is_gpu else (1, 4, 2, 64, 32)
    q = bench.random(rows, heads, length, size, dtype=BF16).requires_grad_()
    k, v = (bench.random(rows, kv, length, size, dtype=BF16).requires_grad_() for _ in range(2))
    outer = bench.random(rows, heads, length, size, dtype=BF16)
    mask = torch.ones(length, length, dtype=torch.bool, device=bench.device).tril()
    mask = mask.expand(rows, 1, -1, -1)

    def masked() -> torch.Tensor:
        wide_k, wide_v = (t.repeat_interleave(heads // kv, 1) for t in (k, v))
        return scaled_dot_product_attention(q, wide_k, wide_v, attn_mask=mask)

    def causal() -> torch.Tensor:
        return scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)

    def both(run: Any) -> None:
        torch.autograd.backward(run(), outer)

    found: dict[str, Any] = {}
    operations = 4 * rows * heads * length * length / 2 * size
    for name, run in (("causal", causal), ("masked", masked)):
        times = [bench.time_ms(run, 3), bench.time_ms(partial(both, run), 3)]
        found[f"{name}_ms"] = [round(ms, 3) for ms in times]
        rates = [operations / times[0], 3.5 * operations / times[1]]
        found[f"{name}_tflops"] = [round(rate / 1e9) for rate in rates]
    return found


def time_head(bench: Bench) -> dict[str, Any]:
    """The head's loss and both gradients, by the size of a chunk."""
    tokens, pieces, width = (16384, 57_000, 4096) if bench.is_gpu else (256, 500, 64)
    x = bench.random(tokens, width, dtype=BF16).requires_grad_()
    weight = bench.random(pieces, width, std=0.02).requires_grad_()
    labels = torch.randint(pieces, (tokens,), device=bench.device)
    found: dict[str, Any] = {}
    for chunk in (256, 1024, 2048, 4096):
        ms = bench.time_ms(partial(linear_cross_entropy, x, weight, labels, chunk), 3)
        found[f"chunk_{chunk}_ms"] = round(ms, 1)
        found[f"chunk_{chunk}_tflops"] = round(6 * tokens * pieces * width / ms / 1e9)
    return found


def time_liger(bench: Bench) -> dict[str, Any]:
    """The same loss and gradients by Liger-Kernel, and how far from ours; float32 sums in both."""
    from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

    tokens, pieces, width = (16384, 57_000, 4096) if bench.is_gpu else (256, 500, 64)
    labels = torch.randint(pieces, (tokens,), device=bench.device)
    liger = LigerFusedLinearCrossEntropyLoss(accum_dtype=FP32)
    tensors = (bench.random(tokens, width, dtype=BF16), bench.random(pieces, width, std=0.02))
    x, weight = (tensor.requires_grad_() for tensor in tensors)

    def run_liger() -> torch.Tensor:
        loss: torch.Tensor = liger(weight.to(BF16), x, labels)
        return loss

    found: dict[str, Any] = {"version": version("liger-kernel")}
    grads = []
    for name, run in (
        ("ours", partial(linear_cross_entropy, x, weight, labels)),
        ("liger", run_liger),
    ):
        found[f"{name}_ms"] = round(bench.time_ms(run, 3), 1)
        loss = run()
        torch.autograd.backward(loss)
        grads.append((x.grad, weight.grad))
        x.grad = weight.grad = None
        found[f"{name}_loss"] = float(loss.detach())
    for name, own, other in zip(("x", "weight"), *grads, strict=True):
        found[f"grad_{name}_off"] = float((own - other).float().norm() / own.float().norm())
    return found


def time_layer(bench: Bench) -> dict[str, Any]:
    """Two layers from the builder: seconds to build, a step, and where its time goes."""
    from lingraft.train.build import build
    from lingraft.train.settings import LoraSettings

    sizes: dict[str, Any] = {"num_hidden_layers": 2}
    if not bench.is_gpu:
        sizes |= {"hidden_size": 128, "intermediate_size": 256, "vocab_size": 500}
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        start = time.perf_counter()
        source: Any = RandomModel(Path(name), bench.device, **sizes)
        lora = LoraSettings()
        built = build(source, lora, quantize="nf4", dtype="bfloat16", seed=3, device=bench.device)
        bench.sync()
        found["build_s"] = round(time.perf_counter() - start, 2)
    built.recompute_activations()
    built.model.train()
    ids = torch.randint(500, (8, 2048) if bench.is_gpu else (2, 32), device=bench.device)
    parameters = [*built.lora.values(), *built.embed.values()]

    def body() -> torch.Tensor:
        out: torch.Tensor = built.model.model(input_ids=ids, use_cache=False).last_hidden_state
        return out.flatten(0, 1)

    def step() -> None:
        loss = linear_cross_entropy(body(), built.model.lm_head.weight, ids.flatten())
        torch.autograd.backward(loss)
        for parameter in parameters:
            parameter.grad = None

    found["body_ms"] = round(bench.time_ms(lambda: torch.autograd.backward(body().sum()), 3), 1)
    found["step_ms"] = round(bench.time_ms(step, 3), 1)
    if bench.is_gpu:
        found |= profile(bench, step)
    return found


def profile(bench: Bench, step: Any) -> dict[str, Any]:
    """Milliseconds and calls of each kernel in one step."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as watched:
        step()
        bench.sync()
    events = [
        (event.key[:60], round(event.self_device_time_total / 1e3, 2), event.count)
        for event in watched.key_averages()
    ]
    top = sorted(events, key=lambda row: -row[1])[:40]
    return {"kernels_ms": round(sum(row[1] for row in events), 1), "top": top}


def time_tiles(bench: Bench) -> dict[str, Any]:
    """Tiles (rows, columns, warps) of the two kernels that hold a product, milliseconds."""
    if not bench.is_gpu:
        return {"left out": "kernels of a GPU"}
    from lingraft.train import glukernels

    width, inner, rank = widths(bench)
    rows, dropout = 32_768, steps.Dropout(0.05, 77)
    gate_up, grad = (bench.random(rows, n, dtype=BF16) for n in (2 * inner, inner + rank))
    a, a_in = bench.random(rank, inner, dtype=BF16), bench.random(2 * rank, width, dtype=BF16)
    x, low = bench.random(rows, width, dtype=BF16), bench.random(rows, 2 * rank, dtype=BF16)
    shares = torch.rand(rows, device=bench.device, dtype=FP32)

    def back() -> None:
        of_inner, of_low = grad[:, :inner], grad[:, inner:]
        glukernels.glu_backward(gate_up, of_inner, of_low, a, shares, dropout)

    found: dict[str, Any] = {}
    for tile in ((32, 64, 4), (64, 64, 4), (64, 64, 8), (32, 128, 8), (64, 128, 8), (16, 128, 4)):
        glukernels.BACK_TILE = glukernels.ADD_TILE = tile
        add = bench.time_ms(lambda: glukernels.add_adapter(x, low, a_in, dropout), 3)
        found[str(tile)] = [round(bench.time_ms(back, 3), 3), round(add, 3)]
    return found


PARTS = {
    "nf4": check_nf4,
    "steps": check_steps,
    "experts": check_experts,
    "model": check_model,
    "documents": check_attention,
    "ceilings": time_ceilings,
    "unpack": time_unpack,
    "products": time_products,
    "block": time_block,
    "grouped": time_grouped,
    "attention": time_attention,
    "head": time_head,
    "liger": time_liger,
    "layer": time_layer,
    "tiles": time_tiles,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", default="")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", default="", help=f"some of {', '.join(PARTS)}")
    bench = Bench(parser.parse_args())
    torch.manual_seed(1)
    chosen = [part for part in bench.options.only.split(",") if part] or list(PARTS)
    with use_path("fused"):  # on a CPU too: its steps are then those of plain torch
        for name in chosen:
            bench.part(name, PARTS[name])


if __name__ == "__main__":
    main()
