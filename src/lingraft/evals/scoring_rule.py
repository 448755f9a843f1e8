"""How the harness makes a benchmark's score out of its items, as far as an interval needs it.

A task's score is the mean of its items, or something else (a perplexity, a correlation). A group's
is the mean of its tasks' scores, weighted by their size or each alike; a tag has none.

Source: lm_eval.api.group.Group.aggregate and lm_eval.evaluator_utils of lm-eval 0.4.13.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .harness import LoadedBenchmark

__all__ = ["averages_items", "weights_of"]


def averages_items(found: LoadedBenchmark, metric: str) -> bool:
    """Tell whether the score of every task of a benchmark is the mean of its items."""
    from lm_eval.api.metrics import mean

    return all(task.aggregation().get(metric, mean) is mean for task in found.tasks.values())


def weights_of(
    found: LoadedBenchmark,
    metric: str,
    filter_name: str,
    results: Mapping[str, Mapping[str, Any]],
    num_items: Mapping[str, int],
) -> dict[str, float] | None:
    """Give what each task's mean counts in a group's score.

    Args:
        found: The benchmark.
        metric: Of the score.
        filter_name: Of the score.
        results: Task -> its scores, as the harness gives them.
        num_items: Task -> items that have a value of the metric.

    Returns:
        Weights, 1 together; None: the score is the mean of all items.
    """
    group = found.groups.get(found.benchmark.task)
    if group is None:
        return None
    rules = [
        rule
        for rule in group.aggregate_metric_list or []
        if rule.metric == metric and (rule.filter_list is None or filter_name in rule.filter_list)
    ]
    names = [name for name in found.tasks if f"{metric},{filter_name}" in results[name]]
    by_size = not rules or rules[-1].weight_by_size  # of two rules the later one is written
    sizes = {name: results[name]["sample_len"] if by_size else 1 for name in names}
    if by_size and all(num_items.get(name) == size for name, size in sizes.items()):
        return None
    return {name: size / sum(sizes.values()) for name, size in sizes.items()}
