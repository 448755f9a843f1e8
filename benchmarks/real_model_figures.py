"""Rows, tables and pictures of what `real_model.py` measured.

Rows:   python benchmarks/real_model_figures.py rows OUT/real_model.json >> benchmarks/results.jsonl
Tables: python benchmarks/real_model_figures.py tables benchmarks/results.jsonl
Images: python benchmarks/real_model_figures.py images benchmarks/results.jsonl --out docs/img
        Both take `--device cpu` for the rows of a CPU.
Row:    bench real_model, run, settings of the run, curve (one list a column), final scores.
Read:   `zh` is the mean of book and wiki, in bits per byte. Rows of a GPU are of one process; those
        of a CPU are of another plan, of less text and other held-out documents.
"""

from __future__ import annotations

import argparse
import json
import sys
from math import floor
from pathlib import Path
from typing import Any

from bench_vocab import commit

SETS = ("book", "wiki", "en")
COLORS = {
    "base": "#444444",
    "ext-equal-text": "#c0392b",
    "ext-equal-text-seed-2": "#e59866",
    "ext-equal-compute": "#2471a3",
}
LABELS = {
    "base": "not extended",
    "ext-equal-text": "extended, the same text",
    "ext-equal-text-seed-2": "extended, other order of the documents",
    "ext-equal-compute": "extended, the same compute",
}


def make_rows(result: dict[str, Any]) -> list[dict[str, Any]]:
    """One row a run."""
    plan, rows = result["plan"], []
    for name, run in result["runs"].items():
        curve = run["curve"]
        columns = {k: [round(p[k], 4) for p in curve] for k in ("text_mb", "train_s")}
        columns |= {"tokens": [p["tokens"] for p in curve], "flops": [p["flops"] for p in curve]}
        for s in SETS:
            columns[s] = [round(p["scores"][s]["bpb"], 5) for p in curve]
        kept = ("model", "init", "lr", "added_lr", "rows_frac", "seed")
        rows.append({
            "bench": "real_model", "run": name, "whole": run["whole"], "steps": run["steps"],
            **{k: run["run"][k] for k in kept}, "rows_only_steps": run["rows_only_steps"],
            "seq_len": plan["seq_len"], "rows": plan["rows"][run["run"]["model"]],
            "replay": plan["replay"], "compiled": result.get("compiled", False), "curve": columns,
            "equal_text_window": _window(run), "device": result["device"], "commit": commit(),
        })  # fmt: skip
    return rows


def _window(run: dict[str, Any]) -> dict[str, Any]:
    found = run.get("at_equal_text_context")
    if not found:
        return {}
    scores = {s: round(found["scores"][s]["bpb"], 5) for s in SETS}
    return {"tokens": found["window_tokens"], **scores}


def read_rows(path: Path, device: str) -> dict[str, dict[str, Any]]:
    """Rows of this benchmark on `cpu` or `cuda`, by run; the last one of a name counts."""
    lines = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    rows = (row for row in lines if row["bench"] == "real_model")
    return {row["run"]: row for row in rows if row["device"].startswith("cpu") == (device == "cpu")}


def chinese(curve: dict[str, list[float]], place: int = -1) -> float:
    """Mean of book and wiki."""
    return (curve["book"][place] + curve["wiki"][place]) / 2


def _pflop(curve: dict[str, list[float]]) -> str:
    pflop = curve["flops"][-1] / 1e15
    return f"{pflop:.2f}" if pflop >= 1 else f"{pflop:.3f}"


def print_tables(rows: dict[str, dict[str, Any]]) -> None:
    """Markdown."""
    print("| run | peak rate | MB of text | M tokens | PFLOP | s | book | wiki | zh | en |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name, row in rows.items():
        c = row["curve"]
        print(
            f"| {name} | {row['lr']:g} | {c['text_mb'][-1]:.1f} | {c['tokens'][-1] / 1e6:.2f} | "
            f"{_pflop(c)} | {c['train_s'][-1]:.0f} | {c['book'][-1]:.3f} | "
            f"{c['wiki'][-1]:.3f} | {chinese(c):.3f} | {c['en'][-1]:.3f} |"
        )
    print("\n| first rows | step 0 | after rows only | after all | en |\n|---|---|---|---|---|")
    for name, row in rows.items():
        if name.startswith("init-"):
            c = row["curve"]
            cells = " | ".join(f"{chinese(c, n):.3f}" for n in (0, 1, -1))
            print(f"| {row['init']} | {cells} | {c['en'][-1]:.3f} |")
    print(
        "\n| windows of as much text | tokens | book | wiki | zh | en |\n|---|---|---|---|---|---|"
    )
    for name, row in rows.items():
        if w := row["equal_text_window"]:
            mean = (w["book"] + w["wiki"]) / 2
            print(
                f"| {name} | {w['tokens']} | {w['book']:.3f} | {w['wiki']:.3f} | {mean:.3f} | "
                f"{w['en']:.3f} |"
            )


def draw(rows: dict[str, dict[str, Any]], path: Path) -> None:
    """Chinese and English against text and against compute; first rows against text, if tried."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "lingraft"
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(9.6, 7.2), sharey="row", constrained_layout=True)
    for (column, scale, title), pair in zip(
        (("text_mb", 1, "MB of text read"), ("flops", 1e15, "training compute, PFLOP")),
        axes.T,
        strict=True,
    ):
        for name, label in LABELS.items():
            if name not in rows:
                continue
            c = rows[name]["curve"]
            x = [value / scale for value in c[column]]
            zh = [chinese(c, n) for n in range(len(x))]
            for axis, y in zip(pair, (zh, c["en"]), strict=True):
                axis.plot(x, y, marker="o", ms=3, lw=1.4, color=COLORS[name], label=label)
        pair[1].set_xlabel(title)
    axes[0, 0].set_ylabel("bits per byte, Chinese (book, wiki)")
    axes[1, 0].set_ylabel("bits per byte, English (WikiText-2)")
    shown = [row["curve"] for name, row in rows.items() if name in LABELS]
    ends = [chinese(curve, -1) for curve in shown] + [chinese(rows["base"]["curve"], 0)]
    axes[0, 0].set_ylim(floor(20 * (min(ends) - 0.01)) / 20, max(2.6, *ends))
    axes[0, 1].legend(frameon=False, fontsize=9)
    _save(figure, axes.flat, path)
    if not any(name.startswith("init-") for name in rows):
        return
    figure, axis = plt.subplots(figsize=(6.4, 4.2), constrained_layout=True)
    for name, row in rows.items():
        if name.startswith("init-"):
            c = row["curve"]
            y = [chinese(c, n) for n in range(len(c["text_mb"]))]
            axis.plot(c["text_mb"], y, marker="o", ms=3, lw=1.4, label=row["init"])
    axis.set_ylim(2.1, 3.7)
    axis.set_xlabel("MB of text read; the first 1.3 MB train the added rows alone")
    axis.set_ylabel("bits per byte, Chinese (book, wiki)")
    axis.legend(frameon=False, fontsize=9)
    _save(figure, [axis], path.with_name(f"{path.name}-init"))


def _save(figure: Any, axes: Any, path: Path) -> None:
    for axis in axes:
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
    figure.savefig(path.with_suffix(".png"), dpi=120, metadata={"Software": None})


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("verb", choices=("rows", "tables", "images"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/img"))
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    args = parser.parse_args()
    if args.verb == "rows":
        for row in make_rows(json.loads(args.file.read_text())):
            sys.stdout.write(json.dumps(row) + "\n")
    elif args.verb == "tables":
        print_tables(read_rows(args.file, args.device))
    else:
        name = "real-model" if args.device == "cuda" else "real-model-cpu"
        draw(read_rows(args.file, args.device), args.out / name)


if __name__ == "__main__":
    main()
