"""Figures of one set, added up from what its units and the buckets tell, one after the other.

Memory holds the sums, and of examples not many more than are shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .dropped import MAX_EXAMPLES, Example, merge
from .plan import Plan
from .settings import SplitFacts

__all__ = ["SetSum"]

_MAX_SOURCES = 20
_OTHER_SOURCES = "(other)"
_SIZES = tuple(SplitFacts.model_fields)
_MAX_WAITING = 10_000

Int64 = npt.NDArray[np.int64]
Where = Callable[[int, int, int], str]
"""Names the place of a document from unit, piece and line."""


class SetSum:
    """The figures of one set. Shapes: F files of the plan."""

    def __init__(self, plan: Plan, set_index: int) -> None:
        """Begin with nothing."""
        self._plan, self._set_index = plan, set_index
        self._num_docs = self._num_surrogates = 0
        self._dropped: Counter[str] = Counter()
        self._masked: Counter[str] = Counter()
        self._overlaps: Counter[str] = Counter(dict.fromkeys(plan.benchmark_names, 0))
        self._splits = {split: dict.fromkeys(_SIZES, 0) for split in plan.settings.splits}
        self._lengths: list[int] = []
        self._kept: list[dict[str, str]] = []
        self._examples: list[Example] = []

    def add_unit(self, told: Mapping[str, Any]) -> None:
        """Take what one of the set's units tells."""
        self._num_docs += told["num_docs"]
        self._num_surrogates += told.get("num_surrogates", 0)  # units of before do not tell
        self._masked.update(told["masked"])
        self._overlaps.update(told["overlaps"])
        self._drop(told["dropped"], told["examples"])

    def add_kept(self, told: Mapping[str, Any]) -> None:
        """Take what a bucket tells of the set's kept documents; buckets come in order."""
        for split, section in told["splits"].items():
            for key in _SIZES:
                self._splits[split][key] += section[key]
        lengths = told["lengths"]
        self._lengths += [0] * (len(lengths) - len(self._lengths))
        for n, num_docs in enumerate(lengths):
            self._lengths[n] += num_docs
        self._kept += told["examples"][: MAX_EXAMPLES - len(self._kept)]

    def add_dropped(self, told: Mapping[str, Any]) -> None:
        """Take what a bucket tells of the set's dropped documents."""
        self._drop(told["counts"], told["examples"])

    def stats(self, docs_F: Int64, sizes_F: Int64, where: Where) -> dict[str, Any]:
        """Give the figures as `stats.json` has them.

        Args:
            docs_F: Kept documents of each file.
            sizes_F: Their UTF-8 bytes.
            where: Names places.
        """
        dropped: dict[str, list[dict[str, str]]] = {}
        for example in self.examples():
            dropped.setdefault(example.reason, []).append(_shown(example, where))
        return {
            **({"num_surrogates": self._num_surrogates} if self._num_surrogates else {}),
            "language": self._plan.sets[self._set_index].language,
            "num_docs_read": self._num_docs,
            "dropped": dict(sorted(self._dropped.items())),
            "splits": self._splits,
            "chars_histogram": {
                "edges": [1 << n for n in range(len(self._lengths) + 1)],
                "counts": self._lengths,
            },
            "sources": list(self._rank_sources(docs_F, sizes_F)),
            "masked": dict(sorted(self._masked.items())),
            "overlaps": dict(sorted(self._overlaps.items())),
            "examples": {"kept": self._kept, "dropped": dict(sorted(dropped.items()))},
        }

    def examples(self) -> list[Example]:
        """Give the first dropped documents of each reason, as they were read."""
        self._examples = merge(self._examples)
        return self._examples

    def dropped_rows(self, where: Where) -> Iterator[dict[str, str]]:
        """Give the same as rows of `dropped.jsonl`."""
        name = self._plan.sets[self._set_index].name
        for example in self.examples():
            yield {"set": name, "reason": example.reason, **_shown(example, where)}

    def _drop(self, counts: Mapping[str, int], examples: Sequence[Sequence[Any]]) -> None:
        self._dropped.update(counts)
        self._examples += [Example(*row) for row in examples]
        if len(self._examples) > _MAX_WAITING:
            self.examples()

    def _rank_sources(self, docs_F: Int64, sizes_F: Int64) -> Iterator[dict[str, Any]]:
        """Give the largest files, and all others together."""
        sources = [
            (file.label, int(docs_F[n]), int(sizes_F[n]))
            for n, file in enumerate(self._plan.files)
            if file.set_index == self._set_index and docs_F[n]
        ]
        sources.sort(key=lambda source: (-source[2], source[0]))
        if others := sources[_MAX_SOURCES:]:
            rest = sum(source[1] for source in others), sum(source[2] for source in others)
            sources = [*sources[:_MAX_SOURCES], (_OTHER_SOURCES, *rest)]
        for name, num_docs, size_bytes in sources:
            yield {"name": name, "num_docs": num_docs, "size_bytes": size_bytes}


def _shown(example: Example, where: Where) -> dict[str, str]:
    return {
        "where": where(example.unit, example.piece, example.line),
        "text": example.text,
    }
