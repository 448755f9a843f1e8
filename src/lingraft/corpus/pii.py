"""Masking: e-mail addresses and telephone numbers become addresses and numbers of nobody.

A text that is masked still reads as text, so nothing else has to learn a mark. Addresses in
domains that are reserved for examples stay, which makes masking idempotent. What is an address or
a number is told by its form alone: those of companies are masked, too, and one that is spelled out
("me at home dot org") is not.

A telephone number must be valid by its country's numbering plan and be grouped as numbers are
there. Digits that nothing parts and no + leads are taken where they can only be a mobile number
(China: 11 digits from 13 to 19), or where a word for telephone stands just before them.

Source: FineWeb's replacements (Penedo et al. 2024, arXiv 2406.17557, section 3.7); numbering
plans, the package `phonenumbers` (Google's libphonenumber); reserved domains, RFC 2606.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ..errors import UsageError

__all__ = ["KINDS", "MASKED_EMAIL", "MASKED_PHONE", "check_regions", "mask"]

KINDS = ("email", "phone")
MASKED_EMAIL = "email@example.com"
MASKED_PHONE = "000-0000-0000"
"""Of the form of a number, and valid nowhere."""

_EMAIL = re.compile(
    r"(?<![A-Za-z0-9._%+-])"
    r"[A-Za-z0-9](?:[A-Za-z0-9._%+-]{0,62}[A-Za-z0-9_%+-])?"
    r"@((?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}([A-Za-z]{2,24}))"
    r"(?![A-Za-z0-9_@-]|\.[A-Za-z0-9]|:[A-Za-z0-9_~./-])"  # user@host:path is no address
)
_RESERVED = re.compile(r"(?:.*\.)?(?:example(?:\.(?:com|net|org))?|invalid|test|localhost)", re.I)
_FILE_ENDINGS = frozenset(
    ("css", "gif", "htm", "html", "ico", "jpeg", "jpg", "js", "json", "png", "svg", "webp", "xml")
)
"""Endings of files such as icon@2x.png; none is a top-level domain."""

_DIGIT = "[0-9\uff10-\uff19]"
_DIGITS = re.compile(rf"{_DIGIT}(?:[-. ()（）\u3000－]{{0,2}}{_DIGIT}){{6,16}}")
_OPENERS = "+＋(（"
_BEFORE = re.compile(r"[A-Za-z0-9_.,/=&#%@-]")
_AFTER = re.compile(r"[A-Za-z0-9_@/=%]|[-.,]\d")
_DECIMAL = re.compile(r"\d+\.\d+")
_BINARY = re.compile(r"[01 ]+")
_CUE = re.compile(
    "(?:tel|phone|fax|call|mobile|cell|whatsapp|电话|電話|手机|手機|传真|傳真|热线|熱線|致电|拨打)"
    r"\W{0,4}$",
    re.IGNORECASE,
)
_CUE_CHARS = 16


def mask(
    text: str, kinds: Sequence[str], regions: Sequence[str] = ("CN",)
) -> tuple[str, dict[str, int]]:
    """Mask personal data in a text.

    Args:
        text: The text.
        kinds: Of `KINDS`.
        regions: Countries whose numbers are known without their country code, as `CN`.

    Returns:
        The text, and how many of each kind were masked; kinds that were not are left out.
    """
    counts: dict[str, int] = {}
    if "email" in kinds and "@" in text:
        text, counts["email"] = _mask_emails(text)
    if "phone" in kinds:
        text, counts["phone"] = _mask_phones(text, regions)
    return text, {kind: count for kind, count in counts.items() if count}


def check_regions(regions: Sequence[str]) -> None:
    """Refuse countries that have no numbering plan.

    Raises:
        UsageError: One is none of ISO 3166's codes.
    """
    from phonenumbers import SUPPORTED_REGIONS

    for region in regions:
        if region not in SUPPORTED_REGIONS:
            raise UsageError(
                f"no country '{region}' with a numbering plan.",
                way_out="Use codes of two capital letters (ISO 3166), as CN or US.",
            )


def _mask_emails(text: str) -> tuple[str, int]:
    count = 0

    def replace(match: re.Match[str]) -> str:
        nonlocal count
        if _RESERVED.fullmatch(match[1]) or match[2].lower() in _FILE_ENDINGS:
            return match[0]
        count += 1
        return MASKED_EMAIL

    return _EMAIL.sub(replace, text), count


def _mask_phones(text: str, regions: Sequence[str]) -> tuple[str, int]:
    spans = [
        span
        for match in _DIGITS.finditer(text)
        for span in _find_phones(text, match.start(), match.end(), regions)
    ]
    parts, done = [], 0
    for begin, end in spans:
        parts += [text[done:begin], MASKED_PHONE]
        done = end
    return "".join([*parts, text[done:]]), len(spans)


def _find_phones(text: str, begin: int, end: int, regions: Sequence[str]) -> list[tuple[int, int]]:
    """Find the numbers in a stretch of digits, for the first region that has any."""
    from phonenumbers import Leniency, PhoneNumberMatcher

    while begin and text[begin - 1] in _OPENERS:
        begin -= 1
    for region in regions or (None,):
        spans = []
        for match in PhoneNumberMatcher(text[begin:end], region, Leniency.STRICT_GROUPING):
            start, stop = begin + match.start, begin + match.end
            is_inside = _BEFORE.match(text, max(0, start - 1), start) or _AFTER.match(text, stop)
            before = text[max(0, start - _CUE_CHARS) : start]
            if not is_inside and _is_phone(match.raw_string, before, match.number):
                spans.append((start, stop))
        if spans:
            return spans
    return []


def _is_phone(digits: str, before: str, number: Any) -> bool:
    """Tell a valid number that is written as one from a number that happens to be valid."""
    from phonenumbers import PhoneNumberType, number_type

    if _DECIMAL.fullmatch(digits) or _BINARY.fullmatch(digits):
        return False
    if not digits.strip("()（）").isdigit():
        return True
    return number_type(number) == PhoneNumberType.MOBILE or bool(_CUE.search(before))
