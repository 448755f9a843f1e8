"""Which benchmarks a name stands for, and how each is asked.

The reference was measured at 5 shots on C-Eval, CMMLU, MMLU and HellaSwag, and by the Open LLM
Leaderboard's first version on six tasks with shots of their own. Any other name is a task, group
or tag of EleutherAI's lm-evaluation-harness.

Sources: HIT-SCIR/Chinese-Mixtral-8x7B, README (5 shots; HellaSwag's 65.69 there is plain accuracy,
the leaderboard's 85.98 the one normalised by length); Open LLM Leaderboard v1, "About" (25 shots of
ARC, 10 of HellaSwag, 5 of MMLU, Winogrande and GSM8K, 0 of TruthfulQA).
"""

from __future__ import annotations

import difflib
from collections.abc import Collection
from typing import NamedTuple

from ..errors import UsageError

__all__ = ["FOLDERS", "SUITES", "Benchmark", "find_suite"]


class Benchmark(NamedTuple):
    """One row of a result: a task or group of the harness, its shots, the metric to show."""

    task: str
    title: str
    num_fewshot: int | None
    """None: as the task's own configuration says."""
    metric: str
    """Harness name of the metric; "": the task's first."""
    filter: str

    @property
    def key(self) -> str:
        """Name of its files; the same task may stand in two suites with different shots."""
        shots = "" if self.num_fewshot is None else f"@{self.num_fewshot}"
        return f"{self.task}{shots}"


_CEVAL = Benchmark("ceval-valid", "C-Eval (val)", 5, "acc", "none")
_CMMLU = Benchmark("cmmlu", "CMMLU", 5, "acc", "none")
_MMLU = Benchmark("mmlu", "MMLU", 5, "acc", "none")
_HELLASWAG = Benchmark("hellaswag", "HellaSwag", 5, "acc", "none")

SUITES: dict[str, tuple[Benchmark, ...]] = {
    "zh": (_CEVAL, _CMMLU),
    "en": (_MMLU, _HELLASWAG),
    "leaderboard": (
        Benchmark("arc_challenge", "ARC-Challenge", 25, "acc_norm", "none"),
        _HELLASWAG._replace(num_fewshot=10, metric="acc_norm"),
        _MMLU,
        Benchmark("truthfulqa_mc2", "TruthfulQA (mc2)", 0, "acc", "none"),
        Benchmark("winogrande", "Winogrande", 5, "acc", "none"),
        Benchmark("gsm8k", "GSM8K", 5, "exact_match", "strict-match"),
    ),
}

FOLDERS = (
    *("ceval", "cmmlu", "mmlu/default", "hellaswag"),
    *("arc", "truthfulqa", "winogrande", "gsm8k"),
)
"""Where the harness keeps the task files of all these."""

_KNOWN = {b.task: b for suite in reversed(SUITES.values()) for b in suite}
"""By name alone HellaSwag is asked as in "en"."""


def find_suite(
    name: str, num_fewshot: int | None, harness_names: Collection[str], *, complete: bool
) -> tuple[Benchmark, ...] | None:
    """Look a suite up.

    Args:
        name: A suite, or a name of the harness.
        num_fewshot: Replaces every benchmark's own number; None: does not.
        harness_names: Tasks, groups and tags.
        complete: Whether the harness has no others.

    Returns:
        Its benchmarks; None: all of the harness's names are needed to tell.

    Raises:
        UsageError: There is no such suite or name.
    """
    if name in SUITES:
        found = SUITES[name]
    elif name in _KNOWN:
        found = (_KNOWN[name],)
    elif name in harness_names:
        found = (Benchmark(name, name, None, "", ""),)
    elif not complete:
        return None
    else:
        near = difflib.get_close_matches(name, [*SUITES, "bpb", *harness_names], n=3)
        hint = f"Did you mean {' or '.join(repr(n) for n in near)}? " if near else ""
        raise UsageError(
            f"--suite {name}: no such suite or task.",
            way_out=f"{hint}Suites: {', '.join(SUITES)}, bpb; tasks: lm_eval ls tasks.",
        )
    if num_fewshot is None:
        return found
    return tuple(b if b.num_fewshot == 0 else b._replace(num_fewshot=num_fewshot) for b in found)
