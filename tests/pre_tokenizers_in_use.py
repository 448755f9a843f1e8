"""Pre-tokenizers of published byte-level tokenizers, and texts that they are known to differ on.

Patterns are facts of those tokenizers' `tokenizer.json` files; names tell which.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

from hypothesis import strategies as st
from samples import ARABIC, CHINESE, HINDI, THAI, VIETNAMESE
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CL100K_OWNING = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
)
QWEN2 = CL100K.replace("{1,3}", "")
O200K = "|".join(
    [
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
)
DEEPSEEK = (
    r"\p{N}{1,3}",
    "[一-龥\u3040-ゟ゠-ヿ]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
)
GPT2 = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
BYTES = {**GPT2, "use_regex": False}
DIGITS = {"type": "Digits", "individual_digits": True}


def split(pattern: str) -> dict[str, Any]:
    """A pre-tokenizer that cuts a text into matches of a pattern and what lies between."""
    return {
        "type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False,
    }  # fmt: skip


def sequence(*parts: dict[str, Any]) -> dict[str, Any]:
    """Pre-tokenizers one after the other."""
    return {"type": "Sequence", "pretokenizers": list(parts)}


IN_USE: dict[str, dict[str, Any]] = {
    "gpt2": GPT2,
    "gpt2 with a space before": {**GPT2, "add_prefix_space": True},
    "llama3": sequence(split(CL100K), BYTES),
    "cl100k, owning": sequence(split(CL100K_OWNING), BYTES),
    "qwen2": sequence(split(QWEN2), BYTES),
    "gpt4o": sequence(split(O200K), BYTES),
    "deepseek": sequence(*map(split, DEEPSEEK), BYTES),
    "smollm2": sequence(DIGITS, GPT2),
    "falcon, runs of digits": sequence({**DIGITS, "individual_digits": False}, GPT2),
    "no pattern": BYTES,
}

LETTERS = "aBzßſKİıéÆǅʰдЖΣςאبकि한가のー中𠀀ไ"
DIGITS_OF_ALL = "09٣५Ⅷ½²〇𝟘一"
SPACES = " \t\n\r\x0b\x0c\x1c\x85\xa0\u1680\u2003\u2028\u3000\u200b"
MARKS = "\u0301\u093f\u0e34\u3099\u20dd\ufe0f\u200d"
OTHERS = "'’!\"#/_<>$€«、。©😀👩\ue000\U000f0000\0\x7f\u0378"
CONTRACTIONS = ("'s", "'S", "'ſ", "'ll", "'LL", "'Ve", "'re", "'d", "'m", "'T", "I'll've", "  ")
alphabet = LETTERS + DIGITS_OF_ALL + SPACES + MARKS + OTHERS
any_char = st.characters(exclude_categories=["Cs"])
texts = st.lists(
    st.one_of(
        st.sampled_from(alphabet),
        st.sampled_from(CONTRACTIONS),
        st.text(st.sampled_from("aB 1'\n中"), max_size=6),
        st.sampled_from([" " * 3, "\n\n", "\r\n", "123456", "HTTPServer", "ﬁ", "한국", "12a"]),
        any_char,
    ),
    max_size=25,
).map("".join)
"""Mixed alphabets, spaces and digits of all kinds, apostrophes, marks and odd characters."""


def contexts(chars: Sequence[str]) -> list[str]:
    """Every character alone and beside a letter, a digit, a space, an apostrophe, a line end."""
    frames = ("{0}", "a{0}", "{0}a", " {0}b", "'{0}", "1{0}1", "{0}\n", "\n{0} ", "  {0}.")
    return [frame.replace("{0}", char) for char in chars for frame in frames]


@cache
def trained_with(name: str) -> str:
    """Train 500 pieces with one of the pre-tokenizers; content of a `tokenizer.json`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    spec = json.loads(tokenizer.to_str())
    spec["pre_tokenizer"] = IN_USE[name]
    tokenizer = Tokenizer.from_str(json.dumps(spec))
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    lines = [*CHINESE, *ARABIC, *VIETNAMESE, *HINDI, *THAI, "I'll say: it's 12,345  times\n\n"]
    tokenizer.train_from_iterator([*lines * 2, *["".join(CONTRACTIONS) + alphabet] * 3], trainer)
    content: str = tokenizer.to_str()
    return content
