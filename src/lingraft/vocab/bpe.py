"""Byte pair encoding over weighted segments: exact, at every size, for every number of characters.

Each rule joins the pair that would make the most joins in the training text. What counts is
joins, not places side by side: "aaa" holds one join of (a, a). Ties go to the piece that sorts
first by code point, then to the shorter left part. No number of a symbol decides anything.

A pair may join if its piece has at most `max_chars` characters, is not banned, and is no piece
already. These conditions act here and not afterwards: a rule taken out later would leave others
that need it. (In a fixed order of rules, text between two edges has one spelling whatever stands
around it. So a piece cannot come up again through other parts, unless the base holds a piece that
its own rules never reach; the condition is for that.)

*One run for all sizes*: training is greedy, so the first k rules are the vocabulary of k rules.

*One run for all numbers of characters*, as far as it goes: with fewer single characters, pairs
that hold one of the missing characters are passed over. Until the run for the larger number picks
such a pair, both runs are the same, choice by choice. There the state is copied and the two go on
apart. A rare character takes part in frequent pairs late or never, so most of the work is shared.

How it works: see `kernel`. Bounds of existing pairs only fall, so a heap whose entries are counted
again when they reach the top finds the next rule. Work is proportional to joins.

Sources: P. Gage 1994; R. Sennrich, B. Haddow, A. Birch 2016, arXiv 1508.07909. The lazy heap is
common in trainers; counting joins, forking and the kernel are ours.

Shapes: N positions, W columns of counts, S symbols, K rules.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from .kernel import EXHAUSTED, FORK, FULL, Places, fill, learn, most_places, order_places
from .scratch import Scratch
from .state import (
    HEAP,
    PAIRS,
    PLACES,
    STATUS,
    SYMBOLS,
    Int32,
    Int64,
    State,
    enter_names,
    squeeze,
)

__all__ = ["BARRIER", "CutText", "Rules", "compile_kernel", "train_rules"]

BARRIER = -1
"""The symbol that joins with nothing; one stands at both ends of every segment."""
_CHUNK_RULES = 200
"""Rules between two reports of progress."""
_ROOM_PAIRS = 1 << 17
_PAIR_ARRAYS = ("left_P", "right_P", "key_P", "begin_P", "length_P", "heap_P", "bound_P")
_SYMBOL_ARRAYS: tuple[str, ...] = ("chars_SC", "length_S", "span_S", "need_S", "names_H")
_SYMBOL_ARRAYS += ("found_B3", "tally_S4", "sizes")
_FILLS = 8
"""Passes over the text to make the first pairs; more need less memory."""
_MOST_SHORT_PLACES = 1 << 32


@dataclass(frozen=True)
class CutText:
    """Segments one after the other, and what their symbols are.

    Attributes:
        cells_N2: The symbol at each position (BARRIER before, between and after segments), and
            how often its segment occurs.
        bounds_W: Where the positions of each column end: the training text, then each evaluation
            text.
        texts: Text of each symbol.
        need_S: How many single characters must be added for the symbol to exist; 0 for pieces of
            the base.
    """

    cells_N2: Int32
    bounds_W: Int64
    texts: Sequence[str]
    need_S: Int32


@dataclass(frozen=True)
class Rules:
    """Merge rules in the order of learning; rule k makes symbol S + k of S initial symbols."""

    num_symbols: int
    """S, those included that a smaller count of characters leaves out."""
    left_K: Int32
    right_K: Int32
    joins_KW: Int64
    """Joins of each rule: in the training text (column 0), then in each evaluation text."""

    def __len__(self) -> int:
        return len(self.left_K)

    def first(self, num: int) -> Rules:
        """The first `num` rules."""
        return Rules(self.num_symbols, self.left_K[:num], self.right_K[:num], self.joins_KW[:num])


def train_rules(
    text: CutText,
    max_rules: Mapping[int, int],
    *,
    max_chars: int,
    min_count: int,
    banned: Sequence[str] = (),
    jobs: int = 1,
    scratch: Scratch | None = None,
    on_rules: Callable[[int], None] = lambda number: None,
) -> dict[int, Rules]:
    """Learn merge rules, for several numbers of single characters at once.

    Args:
        text: The text; its cells are used up where `scratch` keeps one copy only.
        max_rules: Number of single characters -> most rules to learn with them.
        max_chars: Longest piece, in characters.
        min_count: Fewest joins of a rule.
        banned: Texts that no rule may make.
        jobs: Threads; the rules are the same with any number.
        scratch: Where arrays are kept; in memory by default.
        on_rules: Called with numbers of rules learned, summed over the counts, from any thread.

    Returns:
        The rules for each number of characters; fewer than asked where no pair is left.
    """
    run = _Run(max_rules, max_chars, min_count, scratch or Scratch(), on_rules)
    state = run.begin(text, banned)
    out_KR = np.zeros((max(max_rules.values(), default=0), 2 + len(text.bounds_W)), np.int64)
    with ThreadPoolExecutor(max(1, jobs)) as pool:
        run.pool = pool
        run.submit(state, out_KR, 0, sorted(max_rules))
        run.wait()
    return run.rules


class _Run:
    """One training: groups of counts that still have all their rules in common, in threads."""

    pool: ThreadPoolExecutor
    _num_symbols: int

    def __init__(
        self,
        max_rules: Mapping[int, int],
        max_chars: int,
        min_count: int,
        scratch: Scratch,
        on_rules: Callable[[int], None],
    ) -> None:
        self._max_rules, self._max_chars, self._min_count = max_rules, max_chars, min_count
        self._scratch, self._on_rules = scratch, on_rules
        self._futures: list[Future[None]] = []
        self._lock = threading.Lock()
        self.rules: dict[int, Rules] = {}

    def submit(self, state: State, out_KR: Int64, done: int, counts: Sequence[int]) -> None:
        with self._lock:
            self._futures.append(self.pool.submit(self._go_on, state, out_KR, done, counts))

    def wait(self) -> None:
        """Wait for all groups, those too that fork off meanwhile."""
        done = 0
        while done < len(self._futures):
            self._futures[done].result()
            done += 1

    def _go_on(self, state: State, out_KR: Int64, done: int, counts: Sequence[int]) -> None:
        """Learn the rest of the rules that a group of counts has in common; fork where needed."""
        shared = list(counts)
        while done < (todo := max(self._max_rules[count] for count in shared)):
            target = min(done + _CHUNK_RULES, todo)
            limit, split = shared[-1], shared[0]
            reached = learn(
                state, out_KR, done, target, limit, split, self._max_chars, self._min_count
            )
            self._tell(done, reached, shared)
            done, status = reached, int(state.sizes[STATUS])
            if status == FULL:
                state = self._grow(state)
            elif status == FORK:
                shared = self._fork(state, out_KR, done, shared)
            elif status == EXHAUSTED:
                break
        self._keep(out_KR, done, shared)

    def _tell(self, done: int, reached: int, counts: Sequence[int]) -> None:
        most = [self._max_rules[count] for count in counts]
        self._on_rules(sum(min(reached, m) - min(done, m) for m in most))

    def _fork(self, state: State, out_KR: Int64, done: int, counts: list[int]) -> list[int]:
        """Let the counts that lack a character of the next rule go on by themselves."""
        pair = state.heap_P[0]
        need = int(max(state.need_S[state.left_P[pair]], state.need_S[state.right_P[pair]]))
        apart = [count for count in counts if count < need]
        unfinished = [count for count in apart if self._max_rules[count] > done]
        self._keep(out_KR, done, [count for count in apart if count not in unfinished])
        if unfinished:
            self.submit(self._copy(state), out_KR.copy(), done, unfinished)
        return [count for count in counts if count >= need]

    def _keep(self, out_KR: Int64, done: int, counts: Sequence[int]) -> None:
        for count in counts:
            rows_KR = out_KR[: min(done, self._max_rules[count])]
            left_K, right_K = rows_KR[:, 0].astype(np.int32), rows_KR[:, 1].astype(np.int32)
            self.rules[count] = Rules(self._num_symbols, left_K, right_K, rows_KR[:, 2:].copy())

    def begin(self, text: CutText, banned: Sequence[str]) -> State:
        """Make the state before any rule."""
        state = self._symbols(text, banned)
        self._num_symbols = len(text.texts)
        num_S = np.zeros(len(text.texts), np.int64)
        total, most = most_places(state.cells_N2, num_S)
        state = state._replace(found_B3=np.zeros((2 * most + 2, 3), np.int64))
        room = total + 3 * len(state.found_B3)
        state = self._resized(state, _ROOM_PAIRS, room)
        order_A = self._scratch.array(max(most, total // _FILLS), state.places_A.dtype)
        first = 0
        while first < len(num_S):  # as many symbols at a time as there is room for
            last = first + int(np.searchsorted(np.cumsum(num_S[first:]), len(order_A), "right"))
            state = self._fill(state, num_S, order_A, first, last)
            first = last
        return state

    def _fill(self, state: State, num_S: Int64, order_A: Places, first: int, last: int) -> State:
        """Make the pairs that begin with symbols `first` to `last`."""
        ends_S = np.zeros_like(num_S)
        ends_S[first + 1 : last] = np.cumsum(num_S[first : last - 1])
        order_places(state.cells_N2, ends_S, order_A, first, last)
        limits, done = (self._max_chars, self._min_count), first
        while (done := fill(state, ends_S, order_A, first, done, last, *limits)) < last:
            num_pairs = 2 * len(state.left_P) + len(num_S)
            state = self._resized(state, num_pairs, len(state.places_A))
        return state

    def _symbols(self, text: CutText, banned: Sequence[str]) -> State:
        """Make a state that knows the symbols, without room for pairs."""
        num_texts, most_rules = len(text.texts), max(self._max_rules.values(), default=0)
        num_symbols = num_texts + most_rules + 1  # one more: the name that is being tried
        width = max([self._max_chars, 1, *map(len, text.texts)])
        num_names = num_symbols + len(banned)
        none = np.zeros(0, np.int64)
        state = State(
            cells_N2=text.cells_N2,
            bounds_W=text.bounds_W.astype(np.int64),
            left_P=none.astype(np.int32),
            right_P=none.astype(np.int32),
            key_P=none.astype(np.uint64),
            begin_P=none,
            length_P=none,
            heap_P=none.astype(np.int32),
            bound_P=none,
            places_A=none.astype(_place_type(len(text.cells_N2))),
            chars_SC=np.zeros((num_names, width), np.int32),
            length_S=np.zeros(num_names, np.int32),
            span_S=np.ones(num_names, np.int32),
            need_S=np.zeros(num_names, np.int32),
            names_H=np.full(1 << (2 * num_names).bit_length(), -1, np.int32),
            found_B3=np.zeros((0, 3), np.int64),
            tally_S4=np.zeros((num_symbols, 4), np.int64),
            sizes=np.zeros(5, np.int64),
        )
        state.need_S[:num_texts] = text.need_S
        # Banned texts stand behind all symbols that can be made: names that are taken.
        fitting = [piece for piece in banned if len(piece) <= width]
        for symbol, piece in [*enumerate(text.texts), *enumerate(fitting, num_symbols)]:
            state.chars_SC[symbol, : len(piece)] = [ord(char) for char in piece]
            state.length_S[symbol] = len(piece)
        enter_names(state, 0, num_texts)
        enter_names(state, num_symbols, num_symbols + len(fitting))
        state.sizes[SYMBOLS] = num_texts
        return state

    def _resized(self, state: State, num_pairs: int, num_places: int) -> State:
        """Give the state room for this many pairs and places; what it holds stays."""
        sizes = dict.fromkeys(_PAIR_ARRAYS, num_pairs) | {"places_A": num_places}
        for name, size in sizes.items():
            array = getattr(state, name)
            if len(array) != size:
                longer = self._scratch.array(size, array.dtype)
                longer[: len(array)] = array[:size]
                state = state._replace(**{name: longer})
        return state

    def _grow(self, state: State) -> State:
        """Throw away what is used up; where that is not enough, make more room."""
        self._squeeze(state)
        num_pairs, num_places = int(state.sizes[PAIRS]), int(state.sizes[PLACES])
        # Twice what the next rule may need, or this would be called for every rule.
        more_pairs = _ROOM_PAIRS + 4 * len(state.tally_S4)
        more_places = 2 * len(state.found_B3)
        has_pairs = len(state.left_P) - num_pairs >= more_pairs
        has_places = len(state.places_A) - num_places >= more_places
        return self._resized(
            state,
            len(state.left_P) if has_pairs else 3 * num_pairs // 2 + more_pairs,
            len(state.places_A) if has_places else 5 * num_places // 4 + more_places,
        )

    @staticmethod
    def _squeeze(state: State) -> None:
        live_P = np.sort(state.heap_P[: state.sizes[HEAP]]).astype(np.int64)
        squeeze(state, live_P, np.empty(int(state.sizes[PAIRS]), np.int32))

    def _copy(self, state: State) -> State:
        """Copy a state, so that two trainings can go on from it; see to its room when it does."""
        self._squeeze(state)
        places_A = state.places_A[: state.sizes[PLACES]]
        return state._replace(
            cells_N2=self._scratch.copy(state.cells_N2),
            places_A=self._scratch.copy(places_A),
            **{name: self._scratch.copy(getattr(state, name)) for name in _PAIR_ARRAYS},
            **{name: getattr(state, name).copy() for name in _SYMBOL_ARRAYS},
        )


def _place_type(num_cells: int) -> type[np.unsignedinteger[Any]]:
    """The smallest type that holds a place: 4 bytes do up to 4 billion symbols."""
    return np.uint32 if num_cells <= _MOST_SHORT_PLACES else np.uint64


def compile_kernel() -> None:
    """Compile the kernel, or load it from numba's cache: some seconds once, then none."""
    cells_N2 = np.array([[BARRIER, 0], [0, 1], [0, 1], [BARRIER, 0]], np.int32)
    text = CutText(cells_N2, np.array([4]), ["a"], np.zeros(1, np.int32))
    train_rules(text, {0: 1}, max_chars=2, min_count=1)
