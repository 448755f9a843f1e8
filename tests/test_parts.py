"""The parts of a mixture: what is read, what is written back, what is refused."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingraft.parts import Part, Unit, parse_mixture, parse_part


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("0.1:news", "0.1", "passes"),
        ("2.5:news", "2.5", "passes"),
        ("2 epochs:news", "2", "passes"),
        ("1 epoch:news", "1", "passes"),
        ("5e9 tokens:news", "5000000000", "tokens"),
        ("5B tokens:news", "5000000000", "tokens"),
        ("1.5T tokens:news", "1500000000000", "tokens"),
        ("300M tokens:news", "300000000", "tokens"),
        ("20 K tokens:news", "20000", "tokens"),
        ("7tokens:news", "7", "tokens"),
        ("30%:news", "30", "percent"),
        ("0.5 %: news ", "0.5", "percent"),
    ],
)
def test_a_part_is_an_amount_of_a_set(text: str, amount: str, unit: Unit) -> None:
    assert parse_part(text) == Part(Decimal(amount), unit, "news")


def test_a_name_may_hold_colons_and_spaces() -> None:
    assert parse_part("0.1:a:b c").name == "a:b c"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("2 epochs:a", "2:a"),
        ("0.10:a", "0.1:a"),
        ("5e9 tokens:a", "5B tokens:a"),
        ("1500000 tokens:a", "1500K tokens:a"),
        ("12345 tokens:a", "12345 tokens:a"),
        ("1e1%:a", "10%:a"),
    ],
)
def test_a_part_is_written_in_its_shortest_form(text: str, written: str) -> None:
    assert str(parse_part(text)) == written


@given(
    st.one_of(
        st.builds("{}:{}".format, st.decimals("0.001", 1_000, places=3), st.just("a")),
        st.builds("{} epochs:{}".format, st.integers(1, 1_000), st.just("b")),
        st.builds("{} tokens:{}".format, st.integers(1, 10**18), st.just("c")),
        st.builds("{}{} tokens:d".format, st.integers(1, 900), st.sampled_from("KMBT")),
        st.builds("{}%:{}".format, st.decimals("0.01", 100, places=2), st.just("e")),
    )
)
def test_what_is_written_is_read_as_the_same(text: str) -> None:
    part = parse_part(text)
    assert parse_part(str(part)) == part
    assert str(parse_part(str(part))) == str(part)


@pytest.mark.parametrize(
    "text",
    [
        "news",
        "x:news",
        "-1:news",
        "1:",
        "1: ",
        "inf:news",
        "nan:a",
        "5 pounds:a",
        "5X tokens:a",
        "%:a",
    ],
)
def test_a_part_of_another_form_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(ValueError, match=r"0\.1:NAME, 2 epochs:NAME, 5e9 tokens:NAME or 30%:NAME"):
        parse_part(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("0:news", "more than 0 and at most 1,000,000 passes"),
        ("1e9:news", "more than 0 and at most 1,000,000 passes"),
        ("101%:news", "at most 100 percent"),
        ("1e30 tokens:news", "at most 1,000,000,000,000,000,000 tokens"),
        ("0.5 tokens:news", "0.5 tokens; expected a whole number"),
    ],
)
def test_an_amount_beyond_reason_is_refused(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        parse_part(text)


@pytest.mark.parametrize(
    ("texts", "total_tokens", "told"),
    [
        ([], None, "one part or more"),
        (["30%:a", "0.7:b"], 100, "'30%:a' is a weight and '0.7:b' is none"),
        (["30%:a", "60.5%:b"], 100, "the weights are 90.5% together; expected 100%"),
        (["100%:a"], None, "'100%:a' is a share of total_tokens"),
        (["1:a"], 100, "divided by weights; '1:a' is none"),
        (["100%:a"], 0, "total_tokens = 0"),
    ],
)
def test_parts_that_do_not_go_together_are_refused(
    texts: list[str], total_tokens: int | None, told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        parse_mixture(texts, total_tokens)


def test_passes_and_budgets_may_stand_together_and_weights_among_themselves() -> None:
    assert len(parse_mixture(["0.1:a", "2 epochs:b", "5K tokens:c"])) == 3
    assert len(parse_mixture(["33.3%:a", "33.3%:b", "33.4%:c"], 100)) == 3
