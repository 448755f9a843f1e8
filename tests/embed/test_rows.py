"""First rows of new pieces, each method by hand."""

from collections import Counter

import numpy as np
import pytest
import torch

from lingraft.embed.added import Added
from lingraft.embed.averaging import weighted_rows
from lingraft.embed.calibrated import calibrated_rows, script_of
from lingraft.embed.head_frequency import head_frequency_rows
from lingraft.embed.hierarchical import hierarchical_rows
from lingraft.embed.mean import mean_rows, mean_text_rows
from lingraft.embed.meancov import mean_cov_rows
from lingraft.embed.methods import METHODS, Method, find_method
from lingraft.embed.normal import normal_rows
from lingraft.embed.weighted import char_length_rows, frequency_rows, position_rows
from lingraft.errors import InputError, UsageError

BASE_VD = torch.tensor([[0, 0], [2, 0], [0, 4]], dtype=torch.float16)


def pieces(
    spellings: list[tuple[int, ...]],
    data: list[bytes] | None = None,
    parents: list[tuple[int, int] | None] | None = None,
    base: list[bytes] | None = None,
    counts: list[int] | None = None,
) -> Added:
    count = len(spellings)
    return Added(
        num_base=len(base or [b"", b"", b""]),
        texts=[f"piece {n}" for n in range(count)],
        pieces=data or [b"xy"] * count,
        kinds=["copied" if len(ids) == 1 else "spelled" for ids in spellings],
        spellings=spellings,
        text_spellings=[(0, *ids) for ids in spellings],
        parents=parents or [None] * count,
        base_pieces=base or [b"", b"", b""],
        counts=None if counts is None else np.array(counts, np.int64),
    )


def test_a_row_is_the_mean_of_its_spelling() -> None:
    assert mean_rows(BASE_VD, pieces([(1, 2), (2,)]), "input", 0).tolist() == [[1, 2], [0, 4]]


def test_a_part_that_comes_twice_counts_twice() -> None:
    assert mean_rows(BASE_VD, pieces([(1, 1, 2, 0)]), "output", 0).tolist() == [[1, 1]]


def test_the_text_mean_has_what_the_text_path_adds() -> None:
    assert mean_text_rows(BASE_VD, pieces([(1, 2, 2)]), "input", 0).tolist() == [[0.5, 2]]


@pytest.mark.parametrize("spelling", [(3,), (-1, 0)])
def test_a_spelling_the_base_cannot_read_is_refused(spelling: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="new piece 1 is spelled"):
        weighted_rows(BASE_VD, [(0,), spelling])


def test_the_order_and_number_of_equal_shares_do_not_change_a_bit() -> None:
    wide = torch.full((1, 1), 60_000, dtype=torch.float16)  # two of them overflow float16
    assert weighted_rows(wide, [(0, 0)]).tolist() == [[60_000]]
    rows = torch.randn(50, 7, generator=torch.Generator().manual_seed(1))
    ids = list(range(50))
    made = weighted_rows(rows, [ids, ids[::-1], ids * 3, ids[25:] + ids[:25]])
    assert all(torch.equal(row, made[0]) for row in made)


def test_many_pieces_take_many_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    spellings = [(1, 2), (), (2,), (0, 1, 2)]
    weights = [(1, 3), (), (1,), (2, 1, 1)]
    whole = weighted_rows(BASE_VD, spellings, weights)
    monkeypatch.setattr("lingraft.embed.averaging._CHUNK", 2)
    assert torch.equal(whole, weighted_rows(BASE_VD, spellings, weights))
    assert whole.tolist() == [[0.5, 3], [0, 0], [0, 4], [0.5, 1]]


def test_normal_rows_have_the_wanted_spread_and_follow_the_seed() -> None:
    many = pieces([(1, 2)] * 3_000)
    rows = normal_rows(BASE_VD, many, "input", 1, std=0.5)
    assert rows.shape == (3_000, 2)
    assert abs(float(rows.std()) - 0.5) < 0.02
    assert torch.equal(rows, normal_rows(BASE_VD, many, "input", 1, std=0.5))
    assert not torch.equal(rows, normal_rows(BASE_VD, many, "output", 1, std=0.5))
    assert not torch.equal(rows, normal_rows(BASE_VD, many, "input", 2, std=0.5))


def test_mean_cov_rows_have_mean_and_covariance_of_the_base() -> None:
    base = torch.randn(4_000, 3, generator=torch.Generator().manual_seed(0))
    base = base @ torch.tensor([[2.0, 0, 0], [1, 1, 0], [0, 0, 0.5]]) + torch.tensor([5.0, 0, -3])
    rows = mean_cov_rows(base, pieces([(1, 2)] * 20_000), "input", 3, scale=1.0)
    assert torch.allclose(rows.mean(0), base.mean(0), atol=0.08)
    assert torch.allclose(rows.T.cov(), base.T.cov(), atol=0.15)
    close = mean_cov_rows(base, pieces([(1, 2)]), "input", 3)
    assert torch.allclose(close, base.mean(0), atol=1e-3)  # transformers' scale: all but the mean


def test_positions_weigh_the_last_part_of_input_rows_and_the_first_of_output_rows() -> None:
    added = pieces([(1, 2)])
    e = np.e
    input_row = position_rows(BASE_VD, added, "input", 0)
    output_row = position_rows(BASE_VD, added, "output", 0)
    assert torch.allclose(input_row, torch.tensor([[2 / (1 + e), 4 * e / (1 + e)]]).float())
    assert torch.allclose(output_row, torch.tensor([[2 * e / (1 + e), 4 / (1 + e)]]).float())
    assert position_rows(BASE_VD, added, "input", 0, rate=0.0).tolist() == [[1, 2]]


def test_positions_of_a_long_piece_do_not_overflow() -> None:
    added = pieces([(1,) * 40 + (2,)])  # exp(40 * 100) is more than a float can hold
    assert position_rows(BASE_VD, added, "input", 0, rate=100.0)[0, 1] == 4
    assert position_rows(BASE_VD, added, "output", 0, rate=100.0)[0, 0] == 2


def test_frequent_parts_weigh_less() -> None:
    added = pieces([(1, 2)], counts=[0, 90, 10, 0])
    row = frequency_rows(BASE_VD, added, "input", 0, smoothing=0.1)
    weights = np.array([0.1 / (0.1 + 0.9), 0.1 / (0.1 + 0.1)])  # 0.1 and 0.5
    assert np.allclose(row.numpy(), [[2 * weights[0] / 0.6, 4 * weights[1] / 0.6]])


def test_parts_weigh_the_characters_that_they_hold() -> None:
    base = [b"", "中".encode(), "文".encode()[:1]]
    added = pieces([(1, 2)], ["中文".encode()[:4]], base=base)
    # 中 is a whole character; one byte of 文, cut off from the rest, is a third of one.
    row = char_length_rows(BASE_VD, added, "output", 0)
    assert np.allclose(row.numpy(), [[2 * 0.75, 4 * 0.25]])
    latin = pieces([(1, 2)], [b"abcd"], base=[b"", b"abc", b"d"])
    assert char_length_rows(BASE_VD, latin, "output", 0).tolist() == [[1.5, 1]]


def test_a_piece_of_two_halves_gives_each_half_the_same_weight() -> None:
    spelled = [(1, 1, 2), (1, 1, 1, 2), (2,)]
    data = [b"abc", b"abcd", b"e"]
    added = pieces(spelled, data, [(1, 5), (3, 2), None])
    rows = hierarchical_rows(BASE_VD, added, "input", 0)
    assert rows.tolist() == [[1, 2], [0.5, 3], [0, 4]]


def test_norms_become_those_of_base_rows_of_the_script() -> None:
    han = [chr(0x4E00 + n).encode() for n in range(40)]
    base = [b"", *(b"ab" for _ in range(40)), *han]
    rows = torch.cat(
        [torch.zeros(1, 2), torch.eye(2).repeat(20, 1), 3 * torch.eye(2).repeat(20, 1)]
    )
    notes: Counter[str] = Counter()
    added = pieces(
        [(41, 42), (1, 2), (1, 2), (41,)],
        ["中文".encode(), "да".encode(), b"abab", "中".encode()],
        base=base,
    )
    made = calibrated_rows(rows, added, "input", 0, notes=notes)
    assert torch.allclose(made.norm(dim=1), torch.tensor([3.0, 1, 1, 3]))
    assert torch.allclose(made[0], torch.tensor([3.0, 3]) / 2**0.5)
    # The base has no Cyrillic: its whole words lend their norm.
    assert notes == {
        "norm of base pieces in Han": 1,
        "norm of whole words of the base": 1,
        "norm of base pieces in Latin": 1,
    }


def test_without_words_all_rows_lend_their_norm() -> None:
    notes: Counter[str] = Counter()
    added = pieces([(1, 2)], ["中文".encode()], base=[b"", b"1", b"2"])
    made = calibrated_rows(BASE_VD, added, "input", 0, notes=notes)
    assert torch.allclose(made.norm(dim=1), torch.tensor([3.0]))
    assert notes == {"norm of all base rows": 1}


@pytest.mark.parametrize(
    ("data", "script"),
    [("中a".encode(), "Han"), (b" the", "Latin"), (b"\xe5", "none"), (b"", "none")],
)
def test_the_first_letter_tells_the_script(data: bytes, script: str) -> None:
    assert script_of(data) == script


def base_of_frequencies() -> tuple[torch.Tensor, list[int]]:
    """Rows whose product with (0, 1, 0) is the log of their count; the rest is noise."""
    counts = [2**n for n in range(4, 12)] * 8
    noise = torch.randn(64, 3, generator=torch.Generator().manual_seed(5))
    noise[:, 1] = torch.tensor(counts).float().log()
    return noise, counts


def test_head_rows_get_the_logit_of_their_frequency() -> None:
    rows, counts = base_of_frequencies()
    added = pieces([(0, 1), (7, 7)], base=[b"x"] * 64, counts=[*counts, 4, 300])
    made = head_frequency_rows(rows, added, "output", 0, max_move=100)
    mean_hidden = torch.tensor([0.0, 1, 0])  # E[h]: logits are log counts, up to a constant
    assert torch.allclose(made @ mean_hidden, torch.tensor([4.0, 300]).log(), atol=1e-4)


def test_long_moves_are_cut_and_counted() -> None:
    rows, counts = base_of_frequencies()
    added = pieces([(7, 7), ()], base=[b"x"] * 64, counts=[*counts, 0, 0])
    notes: Counter[str] = Counter()
    made = head_frequency_rows(rows, added, "output", 0, max_move=0.1, notes=notes)
    longest = 0.1 * float(rows.norm(dim=1).median())
    assert abs(float((made[0] - rows[7]).norm()) - longest) < 1e-4
    assert notes == {"moves cut": 1}


def test_too_little_counted_text_is_refused() -> None:
    added = pieces([(0, 1)], base=[b"x"] * 3, counts=[9, 9, 9, 9])
    with pytest.raises(InputError, match="3 base pieces occur 5 times or more"):
        head_frequency_rows(BASE_VD, added, "output", 0)


def test_methods_are_found_by_name_and_role() -> None:
    assert find_method("mean", "output").name == "mean"
    with pytest.raises(UsageError, match=r"(?s)'meen': unknown.*Did you mean 'mean'"):
        find_method("meen", "input")
    with pytest.raises(UsageError, match="lingraft embed methods"):
        find_method("??", "input")
    with pytest.raises(UsageError, match="makes no input rows, only output rows"):
        find_method("head-frequency", "input")


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.name)
def test_every_method_of_the_table_can_be_loaded(method: Method) -> None:
    assert callable(method.load())
    assert method.summary
    assert method.source
    assert not {"seed", "role", "notes"} & method.settings().keys()
