"""Texts to be scored: files of documents, and how a model's own tokenizer reads them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import InputError, UsageError
from ..exact import Encoder
from ..lines import unpack
from ..texts import find_texts, read_texts
from .loading import Loaded

__all__ = ["Text", "TextEncoder", "find_piece_id", "read_scored_texts", "tell_contradiction"]

_TXT = (".txt", ".txt.gz", ".txt.zst")
_TRIED_CHARS = 2_000


class Text(NamedTuple):
    """A file of documents."""

    name: str
    docs: list[str]
    num_blank: int
    """Documents without a letter, left out."""
    sha256: str
    """Of the documents, in their order."""
    num_surrogates: int
    """Halves of surrogate pairs, each of which stands as U+FFFD."""

    @property
    def size_bytes(self) -> int:
        """UTF-8 bytes of all documents."""
        return sum(len(doc.encode()) for doc in self.docs)


def read_scored_texts(
    names: Sequence[str], *, limit: int | None = None, text_key: str = "text"
) -> list[Text]:
    """Read files; a .txt is one document, whole, and rows of the others are one each.

    Args:
        names: Files, folders or patterns.
        limit: Documents of each file, at most: its first ones.
        text_key: Column of the text, where the file has columns.

    Raises:
        InputError: A file cannot be read, or holds no text.
        UsageError: A name gives no file, or two files have the same name and place.
    """
    texts = []
    files = find_texts(names)
    labels = _labels(files)
    for path, label in zip(files, labels, strict=True):
        docs, num_blank, num_surrogates = _documents(path, text_key, limit)
        if not docs:
            raise InputError(
                f"{path}: holds no text ({num_blank} blank documents).",
                effect="There is nothing to score.",
                way_out="Name a file of text.",
            )
        digest = hashlib.sha256()
        for doc in docs:
            digest.update(len(doc).to_bytes(8, "little") + doc.encode())
        texts.append(Text(label, docs, num_blank, digest.hexdigest(), num_surrogates))
    return texts


def _labels(files: Sequence[Path]) -> list[str]:
    names = [path.name for path in files]
    return [path.name if names.count(path.name) == 1 else str(path) for path in files]


def _documents(path: Path, text_key: str, limit: int | None) -> tuple[list[str], int, int]:
    """Give the documents with letters, and count the others and halves of surrogate pairs."""
    if path.name.lower().endswith(_TXT):
        text = _whole(path)
        return ([text], 0, 0) if text.strip() else ([], 1, 0)
    docs: list[str] = []
    num_blank = num_surrogates = 0
    for document in read_texts(path, text_key):
        if not document.text.strip():
            num_blank += 1
            continue
        docs.append(document.text)
        num_surrogates += document.num_surrogates
        if len(docs) == limit:
            break
    return docs, num_blank, num_surrogates


def _whole(path: Path) -> str:
    """Give a file's text, with its line ends as they stand.

    Raises:
        InputError: It is not UTF-8, or cannot be unpacked or read.
    """
    try:
        if path.suffix.lower() == ".txt":
            data = path.read_bytes()
        else:
            with path.open("rb") as file:
                data = b"".join(unpack(file, path.suffix.lower()))
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text: {error}.") from None
    except Exception as error:  # zlib, zstandard and the disk have no common root
        raise InputError(f"{path}: cannot be read: {error}.") from None


class TextEncoder:
    """Ids of text as a model's own tokenizer gives them.

    Attributes:
        told: How: "compiled", or which library and why.
    """

    def __init__(self, loaded: Loaded, sample: Sequence[str]) -> None:
        """Choose the exact encoder, or transformers' tokenizer where the two differ.

        Args:
            loaded: The model.
            sample: Texts on whose beginnings the two are compared.
        """
        self._tokenizer: Any = loaded.tokenizer
        self._encoder: Encoder | None = None
        try:
            encoder = Encoder(loaded.folder, warn=False)
        except (InputError, UsageError) as error:
            self.told = f"transformers: {str(error).partition(chr(10))[0]}"
            return
        tried = [text[:_TRIED_CHARS] for text in sample]
        ours = [ids.tolist() for ids in encoder.encode_batch(tried)]
        if ours != self._by_transformers(tried):
            self.told = "transformers: the folder's tokenizer file gives other ids"
            return
        self._encoder = encoder
        self.told = encoder.backend + (f": {encoder.reason}" if encoder.reason else "")

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Give the ids of texts, no special pieces; literal "<s>" stays text."""
        if self._encoder is not None:
            return [ids.tolist() for ids in self._encoder.encode_batch(texts)]
        return self._by_transformers(texts)

    def _by_transformers(self, texts: Sequence[str]) -> list[list[int]]:
        found: list[list[int]] = self._tokenizer(
            list(texts), add_special_tokens=False, split_special_tokens=True, verbose=False
        )["input_ids"]
        return found


def find_piece_id(loaded: Loaded, piece: str) -> int:
    """Give the id of a piece by its spelling.

    Raises:
        UsageError: The vocabulary has none of this spelling.
    """
    found = loaded.tokenizer.get_vocab().get(piece)
    if found is None:
        raise UsageError(
            f"--bos {piece}: {loaded.name} has no such piece.",
            way_out="Use --bos auto, or a piece of every model's vocabulary.",
        )
    return int(found)


def tell_contradiction(folder: Path, tokenizer: Any) -> str:
    """Tell where a tokenizer's configuration says one thing of BOS, and what is read is another.

    transformers 5 passes over `add_bos_token` where there is a `tokenizer.json`, and goes by its
    post-processor; `special.adds_bos`, which documents are encoded by, goes by `add_bos_token`.

    Args:
        folder: The model's folder.
        tokenizer: Its tokenizer, as transformers read it.

    Returns:
        A line for people; "": the two agree, or the configuration says nothing.
    """
    path = folder / "tokenizer_config.json"
    if not (path.is_file() and (folder / "tokenizer.json").is_file()):
        return ""
    config = json.loads(path.read_text(encoding="utf-8"))  # transformers has read it, too
    said = config.get("add_bos_token")
    # Of a text that is not empty: an EOS behind it may be the same piece as BOS.
    with_ids, plain_ids = (
        tokenizer("a", add_special_tokens=adds)["input_ids"][:1] for adds in (True, False)
    )
    is_added = with_ids == [tokenizer.bos_token_id] != plain_ids
    if not isinstance(said, bool) or said == is_added:
        return ""
    return (
        f"tokenizer_config.json says add_bos_token: {str(said).lower()}, but transformers goes by "
        f"the post-processor of tokenizer.json, and so does the harness: texts are read "
        f"{'with' if is_added else 'without'} BOS, and `lingraft encode` does otherwise"
    )
