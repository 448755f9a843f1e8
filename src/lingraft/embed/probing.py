"""`--method probe`: a short training of several methods on the token files, and its winner.

The judge is a held-out set (`NAME-valid`) of the token folder: the one with the largest share of
new pieces, unless another is named. Its training set (`NAME-train`) is what every candidate is
trained on. All held-out sets are scored, so that the curves show what becomes of other languages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

from ..errors import UsageError
from ..mixture import Mixture
from ..models import load_causal_lm
from ..progress import Reporter
from ..shards import TokenFile, TokenFolder, open_folder
from .probe import Candidate, Curve, HeldOut, ProbePlan, Rows, choose, probe
from .sources import Source

__all__ = ["PROBE", "Probed", "choose_by_probe", "curve_facts", "read_candidates"]

PROBE = "probe"
_VALID = "-valid"
_TIED = "mean,calibrated,hierarchical,char-length"
_UNTIED = "mean/mean,calibrated/char-length,hierarchical/hierarchical,mean/head-frequency"


class Probed(NamedTuple):
    """How a probe went."""

    winner: Candidate
    judge: str
    """The held-out set that decided."""
    curves: list[Curve]


def choose_by_probe(
    source: Source,
    rows_of: Callable[[Candidate, torch.Tensor, torch.Tensor | None], Rows],
    seed: int,
    *,
    candidates: str = "",
    judge: str = "",
    steps: int = 50,
    batch_size: int = 8,
    seq_len: int = 128,
    row_lr: float = 0.01,
    max_docs: int = 64,
    reporter: Reporter | None = None,
) -> Probed:
    """Train the new rows of every candidate for a few steps, and give the best.

    Args:
        source: The base model, which is loaded whole in float32, with a token folder.
        rows_of: Makes the rows of a candidate from the base's input and head rows.
        seed: Decides the order of the training text.
        candidates: Methods as `METHOD/HEAD,METHOD/HEAD`; of a tied model `METHOD,METHOD`.
        judge: Name of the held-out set that decides, without `-valid`.
        steps: Of each candidate.
        batch_size: Sequences a step.
        seq_len: Tokens of a sequence.
        row_lr: Peak step, as a share of the base rows' root mean square.
        max_docs: Documents of each held-out set that are scored.
        reporter: Where progress goes.

    Raises:
        UsageError: A candidate cannot be tried, or there is no held-out text.
    """
    tried = read_candidates(candidates, tied=source.matrices.tied)
    assert source.tokens is not None, "checked before: the probe needs token files"
    folder = open_folder(source.tokens)
    name = _find_judge(folder, judge, source.added.num_base)
    held_out = {
        known.removesuffix(_VALID): _held_out(file, max_docs)
        for known, file in folder.files.items()
        if known.endswith(_VALID) and file.num_docs
    }
    mixture = Mixture(source.tokens, [f"1 epochs:{name}"], seq_len, seed)
    base = load_causal_lm(source.model.path)
    num_base = source.added.num_base
    rows_VD = base.get_input_embeddings().weight.detach()[:num_base]
    head_VD = base.get_output_embeddings().weight.detach()[:num_base]

    def rows(candidate: Candidate) -> Rows:
        return rows_of(candidate, rows_VD, None if source.matrices.tied else head_VD)

    plan = ProbePlan(row_steps=steps, batch_size=batch_size, seq_len=seq_len, row_lr=row_lr)
    curves = probe(base, num_base, tried, rows, mixture, held_out, plan, reporter)
    return Probed(choose(curves, name), name, curves)


def read_candidates(text: str, *, tied: bool) -> list[Candidate]:
    """Read `METHOD/HEAD,METHOD/HEAD`; nothing gives those that need no training of their own.

    Raises:
        UsageError: There are fewer than two, or they have a head where the model has none.
    """
    found = []
    for word in (text or (_TIED if tied else _UNTIED)).split(","):
        method, slash, head = word.strip().partition("/")
        if bool(slash) == tied or PROBE in (method, head):
            raise UsageError(
                f"candidate {word.strip()!r}: expected "
                + ("METHOD, for the head is tied." if tied else "METHOD/HEAD_METHOD."),
                way_out=f"As --option candidates={_TIED if tied else _UNTIED}.",
            )
        found.append(Candidate(method, head or None))
    if len(set(found)) < 2:
        raise UsageError(
            f"candidates {text!r}: expected two or more.", way_out="Name the one with --method."
        )
    return found


def _find_judge(folder: TokenFolder, judge: str, num_base: int) -> str:
    """Give the name of the held-out set that decides."""
    train = {name.removesuffix("-train") for name in folder.files}
    shares = {
        name.removesuffix(_VALID): float(np.mean(file.ids[: 1 << 22].astype(np.int64) >= num_base))
        for name, file in folder.files.items()
        if name.endswith(_VALID) and len(file.ids) and name.removesuffix(_VALID) in train
    }
    if not shares or (judge and judge not in shares):
        raise UsageError(
            f"{folder.path}: no held-out set {judge!r} with a training set beside it."
            if judge
            else f"{folder.path}: no set with both NAME-train and NAME-valid.",
            effect="Nothing would tell which method reads the new language best.",
            way_out="Encode both parts of a corpus into one folder"
            + (f"; there are: {', '.join(shares)}." if shares else "."),
        )
    return judge or max(shares, key=lambda name: shares[name])


def _held_out(file: TokenFile, max_docs: int) -> HeldOut:
    assert file.sizes_bytes is not None, "an indexed token file has the sizes of its texts"
    docs = [file.doc(n) for n in range(min(file.num_docs, max_docs))]
    return HeldOut(docs, np.asarray(file.sizes_bytes[: len(docs)]))


def curve_facts(curves: list[Curve]) -> list[Mapping[str, Any]]:
    """Give curves as plain values: bits per byte of every set at each step that was scored."""
    return [
        {
            "method": curve.candidate.method,
            "head_method": curve.candidate.head_method,
            "steps": [point.step for point in curve.points],
            "bpb": {name: [p.bpb[name] for p in curve.points] for name in curve.points[0].bpb},
        }
        for curve in curves
    ]
