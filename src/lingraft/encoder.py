"""The fast tokenizer over a `tokenizer.json`: text to ids, on all cores.

Special pieces are never read out of text: a document that holds the characters "<s>" must
not become a document boundary. (`AutoTokenizer` does read them; that is for prompts.)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .errors import InputError

__all__ = ["FastEncoder"]


class FastEncoder:
    """Encodes texts with the `tokenizers` library."""

    def __init__(self, tokenizer: Any) -> None:
        """Wrap a `tokenizers.Tokenizer`; `read` is the way from a file."""
        tokenizer.encode_special_tokens = True
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer

    @classmethod
    def read(cls, path: Path) -> FastEncoder:
        """Read a `tokenizer.json`.

        Raises:
            InputError: There is no such file, or it is not a fast tokenizer.
        """
        from tokenizers import Tokenizer

        if not path.is_file():
            raise InputError(f"{path}: no such file; expected a tokenizer.json.")
        try:
            return cls(Tokenizer.from_file(str(path)))
        except Exception as error:  # the library raises nothing narrower
            raise InputError(
                f"{path}: not a fast tokenizer: {error}.",
                way_out="Make it again: --redo base or --redo tokenizer.",
            ) from None

    @property
    def size(self) -> int:
        """Number of pieces."""
        return int(self._tokenizer.get_vocab_size())

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Give the ids of each text: no special tokens, literal "<s>" stays text."""
        batch = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in batch]

    def decode(self, ids: Sequence[int]) -> str:
        """Give the text of ids; special pieces are left out."""
        text: str = self._tokenizer.decode(list(ids))
        return text

    def pieces_of(self, ids: Sequence[int]) -> list[str]:
        """Give the pieces of ids, as spelled in the vocabulary."""
        return [str(self._tokenizer.id_to_token(id)) for id in ids]
