"""Texts that tokenizers are known to differ on, every code point, and the added pieces."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

__all__ = ["HARD_TEXTS", "code_points", "every_code_point", "texts_around"]

_RUNS = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 23, 31, 32, 33, 63, 64, 65, 100, 257, 1000)

HARD_TEXTS: tuple[str, ...] = (
    "",
    *(" " * n for n in _RUNS),
    *(" " * n + "a" for n in _RUNS),
    *("a" + " " * n + "中" for n in _RUNS),
    *("\u2581" * n + "x" for n in (1, 2, 3, 16, 17)),  # ▁ itself, which stands for a space
    *("a" * n for n in (2, 17, 1000, 20_000)),
    *("中" * n for n in (2, 17, 1000, 20_000)),
    *("哈" * n + " " for n in (2, 3, 4, 5, 6, 7, 8, 9)),
    "  中文",
    " 中文 ",
    "中文  ",
    "中 文 English混合text，带 空格 and 标点。",
    "a \u2581 b\u2581c \u2581\u2581 中\u2581文",
    "\t", "\n", "\r\n", "\n\n\n", "\t\t中\t文\n", " \n ", "def f(x):\n    return x\n\n\n",
    "\0", "a\0b", "\0\0中\0", "\x01\x02\x1f\x7f\x80\x9f",
    "ＡＢＣ１２３，。！？（）", "ｱｲｳｴｵ", "\u3000全角\u3000空格\u3000",
    "👨\u200d👩\u200d👧\u200d👦", "🏳\ufe0f\u200d🌈", "👍🏽", "🇨🇳🇺🇸",
    "❤\ufe0f", "\ufe0f", "\ufe0e中\ufe0f",
    "\u200b", "\u200d", "\ufeff", "a\u00adb", "\u202eabc\u202c", "\ufffd", "\ufffe\uffff",
    "𠀀𠮷𪚥𫝀𬺰𮯠𰻞𱍊", "㐀㒨䶵", "〇々〆", "⺀⼀㇀", "\U000e0100葛\U000e0100", "嬗变龘靐齉",
    "Ελληνικά русский العربية עברית हिन्दी ไทย 日本語ひらがなカタカナ 한국어 ᚠᛇᚻ",
    "e\u0301 é \u1100\u1161\u11a8 각 ﬁ ㎏ ½ Ⅷ ①",
    "\u00a0nbsp\u00a0", "\u2028line\u2029para", "\x85next",
    "<s>", "</s>", "<unk>", "<s>中文</s>", "a<s>b", "<0x0A>",
    "<0xE4><0xB8><0xAD>", "[INST] 中 [/INST]",
    "<|im_start|>user\n你好<|im_end|>", "<pad>", " \u2047 ",
    "1234567890 3.14159 1,000,000 2024年1月1日 ５０％",
    "https://example.org/路径?q=中文&x=1#片段", "it's don't 'quoted' “引用” ‘单引号’",
    "\U0010ffff", "\ue000\uf8ff",
    *("\t" * n + "中" for n in (2, 3, 8, 17)), *("\n" * n for n in (2, 3, 4, 5, 8, 17)),
    *("a" + "\u3000" * n + "中" for n in (1, 2, 5)), *("\u00a0" * n for n in (2, 5)),
    " \t \n\r\n \t中", "中\r文\r\n中\n\r文", "\n 中", "\n\n  中", "中 \n", "\v\f\x1c\x85",
    *("0" * n for n in (2, 3, 4, 9, 1000)), *("。" * n for n in (2, 3, 9, 1000)),
    *("-" * n for n in (3, 17, 257)), *("\U00020000" * n for n in (2, 1000)), "é" * 1000,
    "中文" * 5_000, "ab " * 5_000, "中a" * 5_000,
    "\U00030000\U00031350\U0002ebf0\U000323af", "\uf900豈\ufa0e\U0002f800", "⿰亻中",
    "㐂\ufe00", "葛\U000e0101飾", "\U000e0100", "a\ufe0f中\ufe00", "1\ufe0f\u20e3", "\u20e3",
    "\u0301", "\u0301中", "a\u0301\u0302\u0303b", "\u3099か\u3099", "Å Å A\u030a", "Ω Ω",
    "👩🏽\u200d🚀👨🏿\u200d❤\ufe0f\u200d💋\u200d👨🏻", "\u200d中\u200d",
    "🏴\U000e0067\U000e0062\U000e007f",
    "\u2066中\u2069\u061c\u200e\u200f", "نص عربي with English 和中文", "ก็ ที่นี่", "क्षि",
    "\ud7b0\ud7cb", "\ufdd0\ufdef\U0001fffe", "\ufff9中\ufffa\ufffb", "\ufffc",
    "<s", "s>", "< s >", "<S>", "<0x0a>", "<0x0A", "a<0xFF>中", "</s></s>", "<unk><unk>中",
    "<pad_0>",
    "<|endoftext|>", "<|begin_of_text|>中<|eot_id|>", "<|im_end|", "<think>中</think>",
    "I'll we'RE they'Ve can'T", "'s 's's", "don’t", "HTTPServer camelCase snake_case",
    "\u2581\u2581中\u2581", "中\u2581", "\u2581", " \u2581 ", "Ġ中Ċ", "ĠĠ", "ä¸Ńæĸĩ",
)  # fmt: skip


def every_code_point(width: int = 256) -> Iterator[str]:
    """Give every character there is, one a line, `width` lines a text (surrogates are none)."""
    for start in range(0, sys.maxunicode + 1, width):
        codes = (code for code in range(start, start + width) if not 0xD800 <= code < 0xE000)
        if text := "\n".join(map(chr, codes)):
            yield text


def code_points() -> Iterator[str]:
    """Give every character there is, each alone (surrogates are none)."""
    return (chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000)


def texts_around(pieces: Sequence[str]) -> Iterator[str]:
    """Give, for every piece, texts in which its neighbours could join across its edges."""
    for n, piece in enumerate(pieces):
        following = pieces[(n + 1) % len(pieces)]
        yield f"  {piece}{following} {piece}\u2581{piece}"
        yield f"a{piece}{piece}{piece[:1]}\n{piece[1:]}{piece}0"
