"""The fast tokenizer over a `tokenizer.json`: text to ids, on all cores.

Special pieces are never read out of text: a document that holds the characters "<s>" must
not become a document boundary. (`AutoTokenizer` does read them; that is for prompts.)
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import InputError

__all__ = ["FastEncoder"]

_AGAIN = "Make it again: --redo base or --redo tokenizer."


class FastEncoder:
    """Encodes texts with the `tokenizers` library."""

    def __init__(self, tokenizer: Any, name: str = "tokenizer.json") -> None:
        """Wrap a `tokenizers.Tokenizer`; `read` is the way from a file.

        Raises:
            InputError: It draws its merges.
        """
        _refuse_dropout(getattr(tokenizer.model, "dropout", None), name)
        tokenizer.encode_special_tokens = True
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer, self.name = tokenizer, name

    @classmethod
    def read(cls, path: Path) -> FastEncoder:
        """Read a `tokenizer.json`.

        Raises:
            InputError: There is no such file, or it is not a fast tokenizer.
        """
        try:
            content = path.read_text(encoding="utf-8")
        except (FileNotFoundError, IsADirectoryError):
            raise InputError(f"{path}: no such file; expected a tokenizer.json.") from None
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: not a fast tokenizer: {error}.", way_out=_AGAIN) from None
        return cls.parse(content, str(path))

    @classmethod
    def parse(cls, content: str, name: str = "tokenizer.json") -> FastEncoder:
        """Load the content of a `tokenizer.json`; messages call it `name`.

        Raises:
            InputError: It is not a fast tokenizer.
        """
        from tokenizers import Tokenizer

        _refuse_cut_prefix(content, name)
        try:
            tokenizer = Tokenizer.from_str(content)
        except BaseException as error:  # the library raises nothing narrower than Exception
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            raise InputError(f"{name}: not a fast tokenizer: {error}.", way_out=_AGAIN) from None
        return cls(tokenizer, name)

    @property
    def size(self) -> int:
        """Number of pieces."""
        return int(self._tokenizer.get_vocab_size())

    def vocabulary(self) -> dict[str, int]:
        """Give every piece, added tokens included, with its id."""
        vocabulary: dict[str, int] = self._tokenizer.get_vocab()
        return vocabulary

    @property
    def model(self) -> Any:
        """The bare `tokenizers` model: merge rules without normaliser and pre-tokenizer."""
        return self._tokenizer.model

    def normalize(self, text: str) -> str:
        """Give the text that the normaliser makes of a text."""
        normalizer = self._tokenizer.normalizer
        return text if normalizer is None else str(normalizer.normalize_str(text))

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Give the ids of each text: no special tokens, literal "<s>" stays text."""
        with _library_errors(self.name):
            batch = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in batch]

    def encode_words(self, texts: Sequence[str]) -> list[tuple[list[int], list[int]]]:
        """Give the ids of each text, and for each id the number of its pre-token."""
        # encode_batch_fast, for all its name hardly faster, leaves the pre-tokens out.
        with _library_errors(self.name):
            batch = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [(encoding.ids, encoding.word_ids) for encoding in batch]

    def decode(self, ids: Sequence[int]) -> str:
        """Give the text of ids; special pieces are left out."""
        text: str = self._tokenizer.decode(list(ids))
        return text

    def decode_batch(self, batch: Sequence[Sequence[int]]) -> list[str]:
        """Give the texts of many id lists; as `decode` for each."""
        texts: list[str] = self._tokenizer.decode_batch([list(ids) for ids in batch])
        return texts


def _refuse_cut_prefix(content: str, name: str) -> None:
    """Refuse merge rules whose right side is shorter than the prefix that the library cuts off.

    The library does not look, and ends the process.

    Raises:
        InputError: There is such a rule.
    """
    if "continuing_subword_prefix" not in content:
        return
    try:
        model = json.loads(content)["model"]
        prefix = (model.get("continuing_subword_prefix") or "").encode()
        rules = [rule.split(" ", 1) if isinstance(rule, str) else rule for rule in model["merges"]]
        rights = [rule[1].encode() for rule in rules] if prefix else []
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return  # the library tells what is wrong with it
    for n, right in enumerate(rights):
        cut = right[len(prefix) : len(prefix) + 1]
        if len(right) < len(prefix) or (cut and cut[0] & 0xC0 == 0x80):  # inside a character
            raise InputError(
                f"{name}: not a fast tokenizer: model.merges[{n}] joins {right.decode()!r}, which "
                f"is shorter than the prefix {prefix.decode()!r} of pieces inside words.",
                way_out="Fetch the file again.",
            )


@contextmanager
def _library_errors(name: str) -> Iterator[None]:
    """Tell a panic of the library's, as its pattern engine has where a search takes too long.

    Raises:
        InputError: The library gave up.
    """
    try:
        yield
    except BaseException as error:  # a panic is no Exception
        if type(error).__name__ != "PanicException":
            raise
        raise InputError(
            f"{name}: its library gave up on a text: {error}.",
            way_out="The file may be damaged: fetch it again. Or leave the text out.",
        ) from None


def _refuse_dropout(dropout: float | None, name: str) -> None:
    """Refuse BPE-dropout (Provilkov et al. 2020, arXiv 1910.13267).

    Raises:
        InputError: Merges are left out by chance.
    """
    if dropout:
        raise InputError(
            f"{name}: model.dropout = {dropout:g}; expected none.",
            effect="Each call would give other ids, and a token file would keep one draw for all "
            "epochs, valid and test text included.",
            way_out="Set model.dropout to null. Draw where training reads its text, in every epoch "
            "anew, not where token files are written.",
        )
