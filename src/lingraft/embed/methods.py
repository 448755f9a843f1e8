"""The methods that give new pieces their first rows: their names, sources and needs.

A method is one function in one file of this folder::

    def NAME_rows(base_VD, added, role, seed, *, option=default) -> rows_ND

    base_VD  torch tensor, the base's rows of one matrix: V ids, D numbers each, any float dtype.
    added    `Added`: what is known about the N new pieces.
    role     "input" (embed_tokens, what the body reads) or "output" (lm_head, what it predicts).
             A tied model has one matrix; its role is "input".
    seed     decides every draw; the same call gives the same rows.
    options  what `needs` names, and settings with defaults; all by keyword.
    notes    a `Counter[str]` or None, for functions that take it: pieces that a method treats
             otherwise than its name says are counted there ("norm of whole words": 12).
    reporter a `Reporter` or None, for functions that take it: where progress goes.
    rows_ND  float32 on the CPU, every number finite, one row a new piece in the order of ids.

A method needs no care for pieces that cannot be spelled, nor for ties: `filling.py` gives special
and unspellable pieces the mean of all base rows, a byte that the base lacks the mean of the rows
of its bytes, and tells pieces with the same parts apart.
Whoever builds on a spelling must let an empty one pass (any finite row will do).
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ..errors import UsageError

if TYPE_CHECKING:
    import torch

__all__ = [
    "INPUT_DEFAULT",
    "METHODS",
    "OUTPUT_DEFAULT",
    "Method",
    "Need",
    "Range",
    "Role",
    "check_ranges",
    "find_method",
]

Role = Literal["input", "output"]
Need = Literal["counts", "tokens", "auxiliary", "model", "donor"]
"""What a method is given beside the base rows and the pieces.

`counts`: `added.counts` is there. The others are keyword arguments of the function: `tokens: Path`,
a token folder of the extended tokenizer; `auxiliary_VA: np.ndarray`, a vector for each extended id,
float32; `model: Path`, the base model's folder; `donor: Path`, the folder of another model.
"""


class Range(NamedTuple):
    """What an option may be; outside it the method fails, or its rows are of no use."""

    low: float
    high: float
    above: bool = False
    """Whether `low` itself is outside."""

    def holds(self, value: float) -> bool:
        """Whether a number is inside; NaN is in no range."""
        return self.low <= value <= self.high and not (self.above and value == self.low)

    def __str__(self) -> str:
        if self.above:
            return f"more than {self.low:,}, up to {self.high:,}"
        return f"{self.low:,} to {self.high:,}"


@dataclass(frozen=True)
class Method:
    """One method.

    Attributes:
        name: What `--method` and recipes call it.
        summary: What the rows are, in one line.
        source: Where the rule comes from.
        place: `module:function` inside this folder; loaded when it is used.
        needs: What the function is given beside its first four arguments.
        instead: What may be given in place of the first need.
        roles: The matrices that it can make rows for.
        ranges: Of each option that is a number.
    """

    name: str
    summary: str
    source: str
    place: str
    needs: tuple[Need, ...] = ()
    instead: Need | None = None
    roles: tuple[Role, ...] = ("input", "output")
    ranges: Mapping[str, Range] = field(default_factory=dict)

    def load(self) -> Callable[..., torch.Tensor]:
        """Import the function."""
        module, _, function = self.place.partition(":")
        return getattr(  # type: ignore[no-any-return]
            importlib.import_module(f".{module}", __package__), function
        )

    def settings(self) -> dict[str, Any]:
        """Give the options that have a default, with it."""
        parameters = inspect.signature(self.load()).parameters.values()
        return {
            p.name: p.default
            for p in parameters
            if p.default is not inspect.Parameter.empty and p.name not in _NO_SETTINGS
        }


_NO_SETTINGS = (
    "notes", "reporter", "start_ND", "tokens", "auxiliary_VA", "model", "donor",
)  # fmt: skip
_COUNT = Range(1, 1_000_000)
_RATE = Range(0, 10, above=True)
_LIST = "lingraft embed methods lists them, and the matrix that each is for."
_REFERENCE = "HIT-SCIR/Chinese-Mixtral-8x7B models/init_embeddings.py (a672672)"
_HEWITT = "Hewitt 2021, Initializing New Word Embeddings for Pretrained Language Models"
_BIL = "Joshi et al. 2026, arXiv 2608.03494"

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            "mean",
            "mean of the base rows that spell the piece's bytes",
            "Gee et al. 2022, Fast Vocabulary Transfer; spelling without BOS and prefix is ours",
            "mean:mean_rows",
        ),
        Method(
            "mean-text",
            "mean of the base rows of the piece as a text, BOS and prefix included",
            _REFERENCE,
            "mean:mean_text_rows",
        ),
        Method(
            "normal",
            "draws with mean 0 and a fixed standard deviation",
            "the reference's README (its comparison); transformers' `_init_weights`",
            "normal:normal_rows",
            ranges={"std": Range(0, 100, above=True)},
        ),
        Method(
            "mean-cov",
            "draws from a normal with mean and covariance of the base rows",
            f"{_HEWITT}; transformers' `resize_token_embeddings`",
            "meancov:mean_cov_rows",
            ranges={"scale": Range(0, 100, above=True)},
        ),
        Method(
            "position",
            "mean with weights that change along the spelling",
            "Nakash et al. 2025, AdaptiVocab (exponential weights), arXiv 2503.19693",
            "weighted:position_rows",
            ranges={"rate": Range(0, 100)},
        ),
        Method(
            "frequency",
            "mean in which frequent base pieces weigh less",
            "Arora et al. 2017, smooth inverse frequency, applied to a piece's parts",
            "weighted:frequency_rows",
            ("counts",),
            ranges={"smoothing": Range(0, 1, above=True)},
        ),
        Method(
            "hierarchical",
            "mean of the rows of the two pieces that its merge rule joins, new ones included",
            "ours",
            "hierarchical:hierarchical_rows",
        ),
        Method(
            "calibrated",
            "mean, scaled to the typical norm of base rows of the same script",
            f"{_BIL} (script-norm calibration of input rows)",
            "calibrated:calibrated_rows",
        ),
        Method(
            "char-length",
            "mean in which each base piece weighs as many characters as it has",
            f"{_BIL} (output rows)",
            "weighted:char_length_rows",
        ),
        Method(
            "head-frequency",
            "mean, moved so that the expected logit is that of the piece's corpus frequency",
            "ours; see head_frequency.py for the derivation",
            "head_frequency:head_frequency_rows",
            ("counts",),
            roles=("output",),
            ranges={"min_count": _COUNT, "max_move": Range(0, 100, above=True)},
        ),
        Method(
            "focus",
            "mean of the base pieces that stand in like contexts, weighted by nearness",
            "FOCUS, Dobler & de Melo 2023, arXiv 2305.14481; vectors are trained on the tokens",
            "focus:focus_rows",
            ("auxiliary",),
            ranges={"temperature": Range(0.001, 1_000)},
        ),
        Method(
            "omp",
            "a few base pieces, combined as their vectors combine to the new piece's",
            "Goddard & Fernandes Neto 2025, arXiv 2506.06607",
            "omp:omp_rows",
            ("auxiliary",),
            "donor",
            ranges={"num_atoms": Range(1, 4_096)},
        ),
        Method(
            "distil",
            "trained so that the body's states after the piece are those after its spelling",
            "Token Distillation, Dobler et al. 2025, arXiv 2505.20133",
            "distil:distil_rows",
            ("model", "tokens"),
            roles=("input",),
            ranges={
                "share": Range(0, 1),
                "per_piece": _COUNT,
                "batch": _COUNT,
                "lr": _RATE,
                "head_weight": Range(0, 1_000),
            },
        ),
        Method(
            "headdistil",
            "trained to give the base's own probability of the piece's spelling",
            "ours; see headdistil.py for the derivation",
            "headdistil:head_distil_rows",
            ("model", "tokens"),
            roles=("output",),
            ranges={"per_piece": _COUNT, "batch": _COUNT, "lr": _RATE},
        ),
        Method(
            "probe",
            "the method, of several, that reads held-out text best after a short training",
            f"{_BIL} (50 steps choose better than the loss at step 0)",
            "probing:choose_by_probe",
            ("model", "tokens"),
            roles=("input",),
            ranges={
                "steps": _COUNT,
                "batch_size": _COUNT,
                "seq_len": Range(2, 1_000_000),
                "row_lr": _RATE,
                "max_docs": _COUNT,
            },
        ),
    )
}
"""By name, in the order in which they are shown."""
INPUT_DEFAULT = "mean"
OUTPUT_DEFAULT = "mean"
"""The defaults of `--method` and `--head-method`: here, and nowhere else."""


def find_method(name: str, role: Role) -> Method:
    """Give a method by name.

    Raises:
        UsageError: There is none of this name, or it makes no rows for this matrix.
    """
    if name not in METHODS:
        close = difflib.get_close_matches(name, METHODS, n=1)
        raise UsageError(
            f"method {name!r}: unknown; there are {', '.join(METHODS)}.",
            way_out=f"Did you mean {close[0]!r}?" if close else _LIST,
        )
    method = METHODS[name]
    if role not in method.roles:
        raise UsageError(
            f"method {name!r}: makes no {role} rows, only {' and '.join(method.roles)} rows.",
            way_out=_LIST,
        )
    return method


def check_ranges(method: Method, options: Mapping[str, Any]) -> None:
    """Refuse numbers that are outside the range of their option; needs no heavy import.

    Raises:
        UsageError: There is one, or one that is not finite.
    """
    for name, value in options.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        allowed = method.ranges.get(name)
        if allowed is None and math.isfinite(value):
            continue
        if allowed is None or not allowed.holds(value):
            raise UsageError(
                f"method {method.name!r}: option {name} = {value!r}; expected "
                f"{allowed or 'a finite number'}.",
                effect="Its rows could not be made, or would be of no use.",
                way_out="lingraft embed methods lists the options and their ranges.",
            )
