"""Bits per byte of any text, for models with any tokenizers.

Each model reads with its own tokenizer, and pays for every byte of the text: the first token of a
document is predicted from one piece of context. It is BOS where the tokenizer puts it before a
text; else EOS, which ends the document before in packed training text, as `special.find_bounds`
has it for recipes; and the vocabulary's BOS where there is no EOS. EOS after a document is paid
for only where that is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..errors import InputError, UsageError
from ..progress import Progress
from ..scoring import Watched, has_plain_head, score_docs
from .loading import Loaded
from .losing import Lost, find_lost
from .reading import Text, TextEncoder, find_piece_id

__all__ = ["MOST_CONTEXT", "BitsSettings", "Reader", "TextScore", "common_context", "score_text"]

MOST_CONTEXT = 4_096
"""Longest context that is used unasked: attention's memory and time grow with it."""


@dataclass(frozen=True)
class BitsSettings:
    """How texts are scored.

    Attributes:
        max_tokens: Longest context; None: the shortest of the models', at most 4,096.
        stride: Tokens that each window of a long document adds; None: half the context.
        bos: "auto", or the piece that stands before each document.
        eos: Whether EOS after each document is predicted and paid for.
    """

    max_tokens: int | None = None
    stride: int | None = None
    bos: str = "auto"
    eos: bool = False


class TextScore(NamedTuple):
    """One model on one text."""

    bpb: float
    total_tokens: int
    """Tokens predicted: those of the text, and EOS where it counts."""
    size_bytes: int
    num_chars: int
    num_windows_docs: int
    """Documents that were longer than the context."""
    doc_nats: tuple[float, ...]
    doc_bytes: tuple[int, ...]
    lost: Lost
    """What the tokenizer lost: where it is something, the figure is too low."""


def common_context(contexts: Sequence[int | None], settings: BitsSettings) -> tuple[int, int]:
    """Give the context and the stride that fit every model.

    Args:
        contexts: What each model was made for; None: it does not tell.
        settings: What was asked.

    Raises:
        UsageError: More was asked than a model can hold, or the two do not fit together.
    """
    known = [context for context in contexts if context is not None]
    most = min([*known, MOST_CONTEXT]) if settings.max_tokens is None else settings.max_tokens
    if known and most > min(known):
        raise UsageError(
            f"--max-tokens {most:,}: a model was made for {min(known):,} positions.",
            effect="What it says of text behind them means nothing.",
            way_out=f"Use --max-tokens {min(known)}, or leave it out.",
        )
    if most < 1:
        raise UsageError(f"--max-tokens {most}: expected 1 or more.")
    stride = max(most // 2, 1) if settings.stride is None else settings.stride
    if not 1 <= stride <= most:
        raise UsageError(
            f"--stride {stride}: expected 1 to {most:,}, the context.",
            effect="Tokens between two windows would not be scored.",
        )
    return most, stride


class Reader:
    """A model that texts are scored with.

    Attributes:
        loaded: The model.
        encoder: Its tokenizer.
        bos: The piece before each document, and whether the tokenizer puts it there itself.
    """

    def __init__(self, loaded: Loaded, settings: BitsSettings, sample: Sequence[str]) -> None:
        """Prepare.

        Args:
            loaded: The model.
            settings: How texts are scored.
            sample: Some documents, on which encoders are compared.

        Raises:
            UsageError: There is no piece to stand before, or after, a document; or several.
        """
        self.loaded = loaded
        self.encoder = TextEncoder(loaded, sample)
        tokenizer = loaded.tokenizer
        self._bos_id, self.bos_is_own = _bos_of(loaded, settings.bos, sample)
        self.bos = str(tokenizer.convert_ids_to_tokens(self._bos_id))
        self._eos: list[int] = [_eos_of(loaded)] if settings.eos else []
        self.has_plain_head = has_plain_head(loaded.model)

    def frame(self, docs_ids: Sequence[Sequence[int]]) -> list[list[int]]:
        """Give the ids of documents with BOS before them, and EOS after where it counts."""
        return [[self._bos_id, *ids, *self._eos] for ids in docs_ids]


def score_text(
    reader: Reader,
    text: Text,
    max_tokens: int,
    stride: int,
    progress: Progress | None = None,
    watch: Callable[[Watched], None] | None = None,
) -> TextScore:
    """Score the documents of a text.

    Args:
        reader: The model.
        text: The documents.
        max_tokens: Longest context.
        stride: Tokens that each window of a long document adds.
        progress: Advances by kilobytes of text, begun ones too.
        watch: Gets the tokens with their ranks.

    Raises:
        InputError: A logit is not finite; model and document are named. Or the tokenizer makes
            nothing of the text.
    """
    bare_ids = reader.encoder.encode(text.docs)
    if not any(bare_ids):
        raise InputError(
            f"{reader.loaded.name} on {text.name}: its tokenizer gives no id for any document.",
            effect="There is nothing to score.",
            way_out="Look at the tokenizer: it knows no character of this text.",
        )
    docs_ids = reader.frame(bare_ids)
    sizes = [len(doc.encode()) for doc in text.docs]
    total_tokens = sum(len(ids) - 1 for ids in docs_ids)
    score = score_docs(
        reader.loaded.model,
        docs_ids,
        sizes,
        max_tokens,
        None if progress is None else _InKilobytes(progress, text.size_bytes, total_tokens),
        stride=stride,
        plain_head=reader.has_plain_head,
        count="tokens",
        watch=watch,
        name_doc=lambda n: f"{reader.loaded.name} on {text.name}, document {n + 1}",
    )
    return TextScore(
        bpb=score.bpb,
        total_tokens=score.total_tokens,
        size_bytes=score.size_bytes,
        num_chars=sum(map(len, text.docs)),
        num_windows_docs=sum(len(ids) - 1 > max_tokens for ids in docs_ids),
        doc_nats=score.doc_nats,
        doc_bytes=tuple(sizes),
        lost=find_lost(reader.loaded.tokenizer, text.docs, bare_ids),
    )


class _InKilobytes:
    """Turns tokens done into kilobytes of text done, of which all models have as many."""

    def __init__(self, progress: Progress, size_bytes: int, total_tokens: int) -> None:
        self._progress, self._size_bytes, self._total = progress, size_bytes, total_tokens
        self._tokens = self._told = 0

    def advance(self, amount: int = 1, text: str = "") -> None:
        self._tokens += amount
        done = -(-self._size_bytes * self._tokens // (1_000 * self._total))
        self._progress.advance(done - self._told, text)
        self._told = done


def _bos_of(loaded: Loaded, asked: str, sample: Sequence[str]) -> tuple[int, bool]:
    """Give the id of the piece before a document, and whether the tokenizer puts it there.

    Raises:
        UsageError: There is none, or there are several.
    """
    tokenizer: Any = loaded.tokenizer
    own = _put_before(tokenizer, sample)
    if asked != "auto":
        id = find_piece_id(loaded, asked)
        return id, [id] == own
    if len(own) > 1:
        pieces = " ".join(tokenizer.convert_ids_to_tokens(own))
        raise UsageError(
            f"{loaded.name}: its tokenizer puts {pieces} before a text; expected one piece.",
            way_out="Name the one to stand before each document: --bos PIECE.",
        )
    if own:
        return own[0], True
    for id in (tokenizer.eos_token_id, tokenizer.bos_token_id):
        if id is not None:
            return int(id), False
    raise UsageError(
        f"{loaded.name}: its tokenizer names neither BOS nor EOS.",
        effect="The first token of each document would have nothing to be predicted from.",
        way_out="Name the piece that stands between documents: --bos PIECE.",
    )


def _put_before(tokenizer: Any, sample: Sequence[str]) -> list[int]:
    """Give the ids that a tokenizer puts before a text: those that are not the text's own."""
    for text in ("a", *sample):
        bare: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        if bare:
            whole: list[int] = tokenizer(text)["input_ids"]
            places = range(len(whole) - len(bare) + 1)
            return whole[: next((n for n in places if whole[n : n + len(bare)] == bare), 0)]
    return []


def _eos_of(loaded: Loaded) -> int:
    """Give the id of EOS.

    Raises:
        UsageError: There is none.
    """
    id = loaded.tokenizer.eos_token_id
    if id is None:
        raise UsageError(
            f"{loaded.name}: its tokenizer names no EOS.",
            effect="Ends of documents cannot be scored.",
            way_out="Leave --eos out.",
        )
    return int(id)
