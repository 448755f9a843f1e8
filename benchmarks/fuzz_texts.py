"""Nasty texts for `fuzz_tokenizers.py`, and the making of small tokenizers.

Everything is drawn from one `random.Random`, so a case is its seed and number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

SPACE = "\u2581"
_RANGES = (
    (0x00, 0x20),  # controls
    (0x20, 0x7F),
    (0x80, 0x250),  # Latin beyond ASCII, C1 controls
    (0x300, 0x370),  # combining marks
    (0x370, 0x600),  # Greek, Cyrillic, Armenian, Hebrew
    (0x600, 0xE80),  # Arabic, the scripts of India, Thai
    (0x1100, 0x1200),  # Jamo, which NFC joins
    (0x2000, 0x2070),  # spaces, joiners, directions
    (0x2581, 0x2582),  # the sign for a space
    (0x3000, 0x3100),  # CJK punctuation, kana
    (0x4E00, 0x9FFF),
    (0xAC00, 0xD7A4),
    (0xE000, 0xE100),  # private use
    (0xF900, 0xFB00),  # compatibility ideographs, which NFC replaces
    (0xFDD0, 0xFDF0),  # noncharacters
    (0xFE00, 0xFE10),  # variation selectors
    (0xFF00, 0x10000),  # full width, specials, noncharacters
    (0x1D400, 0x1D500),
    (0x1F1E6, 0x1F200),
    (0x1F300, 0x1FA00),
    (0x20000, 0x20100),
    (0xE0000, 0xE0200),  # tags, more variation selectors
    (0x10FFF0, 0x110000),
)
_SPACES = "    \n\n\t\r\u00a0\u2003\u3000\u200b\u2028\x85\x0b\x0c" + SPACE
_LITERALS = (
    "<s>",
    "</s>",
    "<unk>",
    "<0x0A>",
    "<0xE5>",
    "<|endoftext|>",
    "<|im_start|>",
    "[CLS]",
    "##a",
)
_SENTENCES = (
    "The quick brown fox doesn't jump 1234567 times, does it?  No!\n\n\tIt's over.",
    "人工智能技术在中国快速发展，越来越多的人开始使用。中华人民共和国",
    "東京都は「日本」の首都です。ラーメンを食べます。",
    "def f(x):\n    return x[0] + 1  # 注释\n",
    "👩‍👩‍👧‍👦 e\u0301 ﬁ Å \u1112\u1161\u11ab 한국어 ภาษาไทย العربية हिन्दी",
)


def make_text(rng: Random, pieces: Sequence[str]) -> str:
    """Make a text without lone surrogates out of one or more kinds of nastiness."""
    makers: tuple[Callable[[Random, Sequence[str]], str], ...] = (
        _bytes,
        _characters,
        _run,
        _glue,
        _glue,
        _mutated,
        _spaces,
    )
    if rng.random() < 0.5:
        return rng.choice(makers)(rng, pieces)
    return "".join(rng.choice(makers)(rng, pieces) for _ in range(rng.randint(2, 5)))


def log_size(rng: Random, most: int) -> int:
    """Draw a size: 1 to 10 as often as 10 to 100."""
    return int(math.exp(rng.uniform(0, math.log(most))))


def _bytes(rng: Random, pieces: Sequence[str]) -> str:
    return rng.randbytes(log_size(rng, 500)).decode(errors=rng.choice(("replace", "ignore")))


def _characters(rng: Random, pieces: Sequence[str]) -> str:
    ranges = rng.sample(_RANGES, rng.randint(1, 4))
    return "".join(chr(rng.randrange(*rng.choice(ranges))) for _ in range(log_size(rng, 300)))


def _run(rng: Random, pieces: Sequence[str]) -> str:
    unit = rng.choice((_SPACES, "aA0一的𠀀", *_LITERALS, "".join(rng.choices(pieces, k=2))))
    unit = rng.choice(unit) if rng.random() < 0.6 else unit[: rng.randint(1, 8)]
    return unit * (log_size(rng, 4000) // len(unit) + 1)


def _glue(rng: Random, pieces: Sequence[str]) -> str:
    """Pieces of the vocabulary, whole or cut, as they are spelled or as they are read."""
    parts = []
    for piece in rng.choices(pieces, k=log_size(rng, 60)):
        part = piece[rng.randrange(len(piece)) :] if rng.random() < 0.3 else piece
        parts.append(part.replace(SPACE, " ") if rng.random() < 0.8 else part)
    return "".join(parts)


def _mutated(rng: Random, pieces: Sequence[str]) -> str:
    text = list(rng.choice(_SENTENCES) * rng.randint(1, 4))
    for _ in range(log_size(rng, 20)):
        at = rng.randrange(len(text) + 1)
        text[at : at + rng.randint(0, 3)] = rng.choice(
            (rng.choice(_SPACES), rng.choice(_LITERALS), _characters(rng, pieces)[:2], "")
        )
    return "".join(text)


def _spaces(rng: Random, pieces: Sequence[str]) -> str:
    return "".join(
        rng.choice(_SPACES) * rng.choice((1, 1, 2, 3, 8, 17)) + rng.choice((*"a.一", "", "word"))
        for _ in range(rng.randint(1, 8))
    )


def shrink(text: str, is_bad: Callable[[str], bool], budget: int = 2000) -> str:
    """Take out of a text what it stays bad without, by ever smaller parts."""
    step = len(text) // 2
    while step:
        at = 0
        while at < len(text) and budget:
            shorter = text[:at] + text[at + step :]
            budget -= 1
            if is_bad(shorter):
                text = shorter
            else:
                at += step
        step = step // 2
    return text


def make_small(folder: Path) -> list[Path]:
    """Train small tokenizers of all kinds: a damage hits what matters in them more often."""
    import sentencepiece
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    from lingraft.fast import write_tokenizer

    rng = Random(0)
    lines = ["".join(rng.choices("".join(_SENTENCES), k=60)) for _ in range(200)] + list(
        _SENTENCES
    ) * 30
    lines = [line.replace("\n", " ") for line in lines]
    made = []
    for kind, normalizer in (("bpe", "identity"), ("bpe", "nmt_nfkc"), ("unigram", "identity")):
        stem = folder / f"{kind}-{normalizer}"
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_prefix=str(stem),
            model_type=kind,
            vocab_size=620,
            hard_vocab_limit=False,
            byte_fallback=True,
            normalization_rule_name=normalizer,
            remove_extra_whitespaces=normalizer != "identity",
            num_threads=1,
            minloglevel=2,
        )
        made.append(stem.with_suffix(".model"))
    fast = folder / "fast"
    fast.mkdir()
    write_tokenizer(made[0].read_bytes(), fast)
    made.append(fast / "tokenizer.json")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(
        lines, trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False)
    )
    tokenizer.save(str(folder / "byte-level.json"))
    return [*made, folder / "byte-level.json"]
