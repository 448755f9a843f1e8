"""Byte pair encoding, compiled: the symbols of a part of text are joined, best rule first.

Among equal ranks the leftmost pair goes first, as in both libraries: sentencepiece ranks pieces
by score and joins any two neighbours whose joined spelling is one; tokenizers ranks pairs.

Source of the order: sentencepiece, src/bpe_model.cc; tokenizers, src/models/bpe/word.rs.

Shapes: H hash places.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .jit import jit, jit_inline

__all__ = ["NO_RULE", "find_rule", "merge_symbols", "rule_table"]

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Uint64 = npt.NDArray[np.uint64]

NO_RULE = 1 << 62
"""What `find_rule` gives for a pair that does not join: later than every rule."""
_SHORT = 48
"""Parts up to this length are merged by looking at all pairs; longer ones with a heap."""


def rule_table(rows: Sequence[tuple[int, ...]]) -> Uint64:
    """Put (left, right, joined, rank) into open addressing, for `find_rule`.

    Returns:
        Rows of a key and a value, side by side in memory: one look-up, one place. Of two rows with
        one pair the later one counts. A symbol is a number below 2^31.
    """
    size = 1 << max(4, (2 * len(rows)).bit_length())
    rules_H2 = np.full((size, 2), np.uint64(0xFFFFFFFFFFFFFFFF), np.uint64)
    table = np.array(rows, np.int64).reshape(-1, 4)
    _fill(rules_H2, *(np.ascontiguousarray(column) for column in table.T))
    return rules_H2


@jit_inline
def _place(rules_H2: Uint64, key: np.uint64) -> int:
    mask = np.uint64(len(rules_H2) - 1)
    mixed = (key ^ (key >> np.uint64(29))) * np.uint64(0x9E3779B97F4A7C15)
    place = (mixed >> np.uint64(32)) & mask
    while rules_H2[place, 0] != key and rules_H2[place, 0] != np.uint64(0xFFFFFFFFFFFFFFFF):
        place = (place + np.uint64(1)) & mask
    return int(np.int64(place))


@jit
def _fill(rules_H2: Uint64, left_R: Int64, right_R: Int64, joined_R: Int64, rank_R: Int64) -> None:
    for r in range(len(left_R)):
        key = (np.uint64(left_R[r]) << np.uint64(32)) | np.uint64(right_R[r])
        place = _place(rules_H2, key)
        rules_H2[place, 0] = key
        rules_H2[place, 1] = (np.uint64(rank_R[r]) << np.uint64(32)) | np.uint64(joined_R[r])


@jit_inline
def find_rule(rules_H2: Uint64, left: int, right: int) -> int:
    """Give rank * 2^32 + joined symbol of a pair, or NO_RULE."""
    key = (np.uint64(left) << np.uint64(32)) | np.uint64(right)
    place = _place(rules_H2, key)
    missing = rules_H2[place, 0] == np.uint64(0xFFFFFFFFFFFFFFFF)
    return NO_RULE if missing else int(np.int64(rules_H2[place, 1]))


@jit
def _merge_short(rules_H2: Uint64, symbols: Int32, num: int) -> int:
    """Join the symbols of a part in place; give how many are left."""
    rules = np.empty(num, np.int64)
    for i in range(num - 1):
        rules[i] = find_rule(rules_H2, symbols[i], symbols[i + 1])
    while num > 1:
        best = 0
        for i in range(1, num - 1):
            if rules[i] >> 32 < rules[best] >> 32:
                best = i
        if rules[best] == NO_RULE:
            break
        symbols[best] = rules[best] & 0xFFFFFFFF
        for i in range(best + 1, num - 1):
            symbols[i] = symbols[i + 1]
            rules[i] = rules[i + 1]
        num -= 1
        if best > 0:
            rules[best - 1] = find_rule(rules_H2, symbols[best - 1], symbols[best])
        if best < num - 1:
            rules[best] = find_rule(rules_H2, symbols[best], symbols[best + 1])
    return num


@jit
def _push(heap: Int64, size: int, key: int) -> int:
    i = size
    while i > 0 and heap[(i - 1) // 2] > key:
        heap[i] = heap[(i - 1) // 2]
        i = (i - 1) // 2
    heap[i] = key
    return size + 1


@jit
def _pop(heap: Int64, size: int) -> int:
    """Take the least key off; the caller has read it from the top."""
    size -= 1
    key, i = heap[size], 0
    while 2 * i + 1 < size:
        child = 2 * i + 1
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= key:
            break
        heap[i] = heap[child]
        i = child
    heap[i] = key
    return size


@jit
def _merge_long(rules_H2: Uint64, symbols: Int32, num: int) -> int:
    """Join the symbols of a long part in place; give how many are left."""
    after, before = np.arange(1, num + 1), np.arange(-1, num - 1)
    heap, size = np.empty(3 * num, np.int64), 0
    for i in range(num - 1):
        rule = find_rule(rules_H2, symbols[i], symbols[i + 1])
        if rule != NO_RULE:
            size = _push(heap, size, (rule >> 32 << 32) | i)
    while size > 0:
        key = heap[0]
        size = _pop(heap, size)
        i = key & 0xFFFFFFFF
        j = after[i]
        if symbols[i] < 0 or j >= num:
            continue
        rule = find_rule(rules_H2, symbols[i], symbols[j])
        if rule >> 32 != key >> 32:
            continue  # one of the two was joined to something else meanwhile
        symbols[i] = rule & 0xFFFFFFFF
        symbols[j] = -1
        after[i] = after[j]
        if after[i] < num:
            before[after[i]] = i
            rule = find_rule(rules_H2, symbols[i], symbols[after[i]])
            if rule != NO_RULE:
                size = _push(heap, size, (rule >> 32 << 32) | i)
        if before[i] >= 0:
            rule = find_rule(rules_H2, symbols[before[i]], symbols[i])
            if rule != NO_RULE:
                size = _push(heap, size, (rule >> 32 << 32) | before[i])
    kept = 0
    for i in range(num):
        if symbols[i] >= 0:
            symbols[kept] = symbols[i]
            kept += 1
    return kept


@jit
def merge_symbols(rules_H2: Uint64, symbols: Int32, num: int) -> int:
    """Join the first `num` symbols in place until no rule applies; give how many are left."""
    if num <= _SHORT:
        return int(_merge_short(rules_H2, symbols, num))
    return int(_merge_long(rules_H2, symbols, num))
