from __future__ import annotations

import numpy as np
import pytest

from lingraft.embed.learned import Spelled
from lingraft.embed.spelltrie import Endings, SpellTrie


def test_the_pieces_below_a_node_are_a_range_in_the_order_of_spellings() -> None:
    trie = SpellTrie([(5, 2), (2, 3, 4), (9,), (2, 3), ()])
    assert trie.order_S.tolist() == [3, 1, 0]  # (2, 3), (2, 3, 4), (5, 2); short ones left out
    two, two_three, two_three_four = trie.walk([2, 3, 4, 4], 0)
    assert [trie.start_T[two], trie.stop_T[two]] == [0, 2]
    assert trie.own_stop_T[two] == 0, "no new piece is spelled (2,)"
    assert [trie.start_T[two_three], trie.own_stop_T[two_three], trie.stop_T[two_three]] == [
        0,
        1,
        2,
    ]
    assert [trie.start_T[two_three_four], trie.stop_T[two_three_four]] == [1, 2]
    assert trie.height == 3


def test_a_walk_ends_where_the_trie_or_the_text_does() -> None:
    trie = SpellTrie([(2, 3, 4)])
    assert trie.walk([2, 3, 5], 0) == [0, 1]
    assert trie.walk([2, 3], 0) == [0, 1]
    assert trie.walk([7, 2], 0) == []
    assert trie.walk([7, 2], 1) == [0]


def test_the_longest_end_counts_pieces_on_the_way() -> None:
    trie = SpellTrie([(2, 3), (2, 3, 4, 5)])
    assert trie.longest_T[trie.walk([2, 3, 4, 5], 0)].tolist() == [1, 2, 2, 4]


def test_without_text_the_longest_token_is_expected() -> None:
    endings = Endings(SpellTrie([(2, 3), (2, 3, 4)]))
    assert endings.reach_T.tolist() == [1, 1, 1]
    assert endings.leave_TH.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_endings_are_counted_on_encoded_text() -> None:
    # The text 2 3 9 three times, of which the tokenizer joined 2 3 twice, and 2 9 once.
    spelled, trie = Spelled([(2, 3)], 10), SpellTrie([(2, 3)])
    ids = np.array([0, 10, 9, 10, 9, 2, 3, 9, 2, 9])
    endings = Endings(trie).count_all([spelled.write_out(ids)])
    two, two_three = trie.walk([2, 3], 0)
    # Passed 2 3: three times and the one that is assumed; short once, with 2 alone.
    np.testing.assert_allclose(endings.short_TH[two_three], [1 / 4, 0])
    np.testing.assert_allclose(endings.reach_T[two_three], 3 / 4)
    # Left behind 2 3: three times and the one that is assumed; ended at 3 in all but one.
    np.testing.assert_allclose(endings.leave_TH[two_three], [1 / 4, 3 / 4])
    np.testing.assert_allclose(endings.leave_TH[two], [1, 0])


def test_a_token_longer_than_its_path_is_our_mistake() -> None:
    endings = Endings(SpellTrie([(2, 3)]))
    with pytest.raises(AssertionError, match="not a coarsening"):
        endings.count(np.array([2, 9, 9, 9]), np.array([2, 3]))
