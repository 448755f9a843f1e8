"""Spellings of new pieces as a trie of base ids, and where extended tokens end on its paths.

Read text as base ids. From the begin of an extended token its ids walk down the trie until it
has no branch for the next one. The token ends at a depth on this path: at 1 it is a base piece,
deeper it is the new piece whose spelling the path is so far. Which depth is not always known
before the text is: `ab` may be left apart because `bc` is joined first. How often it ends where
is counted on text that the extended tokenizer has encoded.

New pieces are put in the order of their spellings. The pieces below a branch are then a range.

Shapes: T branches (nodes) of the trie, H its largest depth, S spelled pieces in their order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["Endings", "SpellTrie"]

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]


class SpellTrie:
    """All spellings of two or more base ids.

    Attributes:
        order_S: Numbers of the new pieces, by their spelling.
        depth_T: Base ids on the path to a node, 1 or more.
        start_T: The pieces at and below a node are [start, stop) of `order_S`.
        own_stop_T: Those whose spelling is the path to the node itself are [start, own_stop).
        stop_T: See `start_T`.
        longest_T: The largest depth at or above a node where a token can end.
        child_parts: Base ids of a node's branches.
        child_nodes: Nodes that they lead to.
        roots: Node of each base id that a spelling begins with.
        height: H.
    """

    def __init__(self, spellings: Sequence[Sequence[int]]) -> None:
        """Sort the spellings and name the nodes; shorter ones than two ids are left out."""
        spelled = [n for n, ids in enumerate(spellings) if len(ids) > 1]
        order = sorted(spelled, key=lambda n: tuple(spellings[n]))
        self.order_S = np.array(order, np.int64)
        self.roots: dict[int, int] = {}
        self._branches: list[dict[int, int]] = []
        depth: list[int] = []
        start: list[int] = []
        stop: list[int] = []
        own_stop: list[int] = []
        longest: list[int] = []
        for place, n in enumerate(order):
            branches, above = self.roots, 1
            for level, part in enumerate(spellings[n], 1):
                node = branches.get(part)
                if node is None:
                    node = branches[part] = len(depth)
                    self._branches.append({})
                    depth.append(level)
                    start.append(place)
                    stop.append(place)
                    own_stop.append(place)
                    longest.append(above)
                stop[node] = place + 1
                if level == len(spellings[n]):
                    own_stop[node], longest[node] = place + 1, level
                branches, above = self._branches[node], longest[node]
        self.depth_T, self.start_T, self.stop_T, self.own_stop_T, self.longest_T = (
            np.array(column, np.int64) for column in (depth, start, stop, own_stop, longest)
        )
        self.child_parts = [np.array(list(b), np.int64) for b in self._branches]
        self.child_nodes = [np.array(list(b.values()), np.int64) for b in self._branches]
        self.height = max(depth, default=1)

    def __len__(self) -> int:
        """T, the number of nodes."""
        return len(self._branches)

    def walk(self, base_M: Sequence[int], first: int) -> list[int]:
        """Give the nodes that the ids from `first` on pass, until the trie or the text ends."""
        path: list[int] = []
        branches = self.roots
        for place in range(first, len(base_M)):
            node = branches.get(base_M[place])
            if node is None:
                break
            path.append(node)
            branches = self._branches[node]
        return path


class Endings:
    """Where the first token of a text ends, given how far the text follows the trie.

    Attributes:
        short_TH: [t, h-1]: share of texts that begin with the path to t, but whose first token
            ends at depth h, above t.
        reach_T: Share of those whose first token ends at t or below; 1 less the row of `short_TH`.
        leave_TH: [t, h-1]: share of texts that follow the path to t and leave the trie there,
            whose first token ends at depth h.
    """

    def __init__(self, trie: SpellTrie) -> None:
        """Expect the longest token everywhere, with the weight of one text."""
        self._trie = trie
        self._short = np.zeros((len(trie), trie.height))
        self._passed = np.ones(len(trie))
        self._leave = np.zeros((len(trie), trie.height))
        self._leave[np.arange(len(trie)), trie.longest_T - 1] = 1

    def count(self, base_M: Int64, ends_L: Int64) -> None:
        """Add the tokens of one document: base ids, and where the last part of each token is."""
        base, first = base_M.tolist(), 0
        for end in ends_L.tolist():
            length = end - first + 1
            path = self._trie.walk(base, first)
            for depth, node in enumerate(path, 1):
                self._passed[node] += 1
                if length < depth:
                    self._short[node, length - 1] += 1
            if path and first + len(path) < len(base):
                assert length <= len(path), "a token is longer than its path: not a coarsening"
                self._leave[path[-1], length - 1] += 1
            first = end + 1

    def count_all(self, documents: Iterable[tuple[Int64, Int64]]) -> Endings:
        """Add the tokens of many documents; gives itself."""
        for base_M, ends_L in documents:
            self.count(base_M, ends_L)
        return self

    @property
    def short_TH(self) -> Float64:  # noqa: N802
        """See the class."""
        shares: Float64 = self._short / self._passed[:, None]
        return shares

    @property
    def reach_T(self) -> Float64:  # noqa: N802
        """See the class."""
        reach: Float64 = 1 - self.short_TH.sum(axis=1)
        return reach

    @property
    def leave_TH(self) -> Float64:  # noqa: N802
        """See the class."""
        shares: Float64 = self._leave / self._leave.sum(axis=1, keepdims=True)
        return shares
