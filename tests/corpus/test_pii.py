"""Masking of e-mail addresses and telephone numbers. All numbers are made up."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from lingraft.corpus.methods import PiiSettings
from lingraft.corpus.pii import KINDS, MASKED_EMAIL, MASKED_PHONE, check_regions, mask
from lingraft.errors import UsageError


def masked(text: str, *regions: str) -> str:
    return mask(text, KINDS, regions or ("CN",))[0]


@pytest.mark.parametrize(
    "text",
    [
        "写信给 {} 吧",
        "邮箱：{}。",
        "邮箱{}请联系",
        "<{}>",
        "({}), or",
        "mailto:{}?subject=x",
        "mail={}&a=1",
        "{}",
    ],
)
@pytest.mark.parametrize(
    "address", ["li.si@qq.com", "a-b_c+d@mail.example-firm.co.uk", "x%y@a1.io", "Q9@B.MUSEUM"]
)
def test_an_address_is_masked_whatever_stands_beside_it(text: str, address: str) -> None:
    found, counts = mask(text.format(address), KINDS)
    assert found == text.format(MASKED_EMAIL)
    assert counts == {"email": 1}


@pytest.mark.parametrize(
    "text",
    [
        "git clone git@github.com:owner/repository.git",
        "scp file root@host.org:~/x",
        "logo@2x.png, app@3.1.js",
        "lodash@4.17.21",
        "me@localhost",
        "@someone said a@b",
        "a@example.com, b@mail.example.org, c@x.test",
        "a@b..com",
        "3 @ 4.com",
        "user@host.com@other",
    ],
)
def test_what_only_looks_like_an_address_stays(text: str) -> None:
    assert mask(text, KINDS) == (text, {})


@pytest.mark.parametrize(
    "number",
    [
        "13812345678",
        "138-1234-5678",
        "138 1234 5678",
        "010-62781234",
        "(010) 6278 1234",
        "（010）62781234",
        "+86 138 1234 5678",
        "+8613812345678",
        "0086-10-62781234",
        "400-810-8888",
        "+1 206-342-8631",
        "+44 20 7946 0958",
        "１３８１２３４５６７８",
    ],
)
@pytest.mark.parametrize("text", ["电话：{}，请联系", "请拨打{}咨询", "call {} now", "{}"])
def test_a_telephone_number_is_masked(text: str, number: str) -> None:
    found, counts = mask(text.format(number), KINDS)
    assert found == text.format(MASKED_PHONE)
    assert counts == {"phone": 1}


@pytest.mark.parametrize(
    "text",
    [
        "12345678",
        "圆周率 3.14159265358979",
        "返回 0.9990234375",
        "2024-01-02 13:45:56",
        "2024.01.02",
        "1999-2000",
        "从1949年到2024年",
        "1,234,567,890",
        "12 345 678 901",
        "ISBN 978-7-302-12345-6",
        "ISBN 7-302-12345-6",
        "订单号13912345678901",
        "110101199003070010",
        "192.168.100.100",
        "1700000000",
        "1700000000000",
        "二进制 1010 1001",
        "编号 A13812345678",
        "https://item.org/13812345678.html",
        "?id=13812345678",
        "13812345678.5",
        "v1.13812345678",
        "QQ：1234567890",
        "第138页 1234 5678",
        "（1000590446）・（4294967295）",
        MASKED_PHONE,
    ],
)
def test_an_ordinary_number_stays(text: str) -> None:
    assert mask(text, KINDS, ("CN", "US")) == (text, {})


def test_bare_digits_are_a_number_where_they_are_called_one() -> None:
    assert masked("Tel: 2063428631", "US") == f"Tel: {MASKED_PHONE}"
    assert masked("total 2063428631", "US") == "total 2063428631"


def test_only_countries_that_are_named_have_numbers_without_their_code() -> None:
    assert masked("206-342-8631", "CN") == "206-342-8631"
    assert masked("206-342-8631", "CN", "US") == MASKED_PHONE
    assert mask("+1 206-342-8631, 13812345678", KINDS, ())[0] == f"{MASKED_PHONE}, 13812345678"


def test_an_extension_stays_behind_its_number() -> None:
    assert masked("电话 0755-86012345转801") == f"电话 {MASKED_PHONE}转801"


def test_only_the_kinds_that_are_asked_for_are_masked() -> None:
    text = "a@b.org 13812345678"
    assert mask(text, ["email"]) == (f"{MASKED_EMAIL} 13812345678", {"email": 1})
    assert mask(text, ["phone"]) == (f"a@b.org {MASKED_PHONE}", {"phone": 1})
    assert mask(text, []) == (text, {})


def test_every_place_is_counted() -> None:
    assert mask("a@b.org c@d.net 13812345678", KINDS)[1] == {"email": 2, "phone": 1}


PIECES = ["138", "1234", "5678", "010", "+86", "206", "342", "-", " ", ".", "(", ")", "电话", "@"]
PIECES += ["13812345678", "a@b.org", "x", "com", MASKED_PHONE, MASKED_EMAIL]


@settings(deadline=None, max_examples=300)
@given(st.lists(st.sampled_from(PIECES), max_size=9).map("".join))
def test_what_is_masked_is_not_masked_again(text: str) -> None:
    once, _ = mask(text, KINDS, ("CN", "US"))
    assert mask(once, KINDS, ("CN", "US")) == (once, {})


@settings(deadline=None)
@given(st.text(max_size=60))
def test_text_without_digits_and_at_signs_stays(text: str) -> None:
    plain = "".join(char for char in text if char != "@" and not char.isdigit())
    assert mask(plain, KINDS) == (plain, {})


def test_an_unknown_country_is_refused() -> None:
    check_regions(["CN", "US"])
    with pytest.raises(UsageError, match="no country 'China'"):
        check_regions(["China"])
    with pytest.raises(ValidationError, match="no country 'China'"):
        PiiSettings(phone_regions=["China"])
