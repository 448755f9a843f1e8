"""Prose out of Python files: long docstrings and string literals, code and markup taken out.

Files are parsed, never imported, so no foreign code runs. Out of each literal go doctests,
literal blocks, tables and lists of names; what stays are its paragraphs, each on one line, as
prose is elsewhere. A paragraph is prose when most of what stands between its spaces are plain
words; that judges words by their letters only, whatever the language.
"""

from __future__ import annotations

import ast
import inspect
import re
import warnings
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["MIN_LITERAL_CHARS", "Literal", "find_literals", "prose_of"]

MIN_LITERAL_CHARS = 200
"""Shorter literals are labels, messages and one-line docstrings."""

_MIN_PROSE_CHARS = 80
_MIN_WORDS = 4
_MIN_WORD_FRAC = 0.7

_WORD = re.compile(r"""["'(\[`*]*[^\W\d_]+(?:['’/-][^\W\d_]+)*[\])"'`*.,:;!?]*""")
_UNDERLINE = re.compile(r"\s*([=\-~^\"*+#_])\1{2,}\s*")
_DIRECTIVE = re.compile(r"\s*\.\. [\w:+-]*::")
_COMMENT = re.compile(r"\s*\.\. (?!\[)")
_ROLE = re.compile(r"(?<!\w):[\w:+.-]+:`~?([^`<]*?)(?: <[^`>]*>)?`")
_BACKTICKS = re.compile(r"`{1,2}~?([^`']*)`{1,2}_?")
_ITEM = re.compile(
    r"""(?:[*+•-]|\(?(?:\d{1,2}|[a-z])[.)]|\[\d+\]_?)\s+\S  # bullet, number, footnote
    |[\w.*]+(?:,\ [\w.*]+)*\ (?:--|:)\ \S""",  # a name and what it means
    re.VERBOSE,
)
_COLUMNS = re.compile(r"\S {3,}\S")
_FOOTNOTE_MARK = re.compile(r" ?\[\w+\]_")


class Literal(NamedTuple):
    """One string literal and the line where it begins."""

    line: int
    text: str


def find_literals(source: bytes, min_chars: int) -> list[Literal]:
    """Find the string literals of a Python file, f-strings left out, in order of their lines.

    Raises:
        ValueError: The file is not Python that this interpreter can parse.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in foreign files are not our news
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"not Python: {error}") from None
    found = [
        Literal(node.lineno, node.value)
        for node in _without_f_strings(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and len(node.value) >= min_chars
    ]
    return sorted(found)


def _without_f_strings(tree: ast.AST) -> Iterator[ast.AST]:
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if not isinstance(node, ast.JoinedStr):
            yield node
            waiting.extend(ast.iter_child_nodes(node))


def prose_of(text: str) -> str:
    """Give the paragraphs of a literal that are prose, one a line.

    Returns:
        At least 80 characters, or "" where less than that is prose.
    """
    lines = inspect.cleandoc(text).replace("\t", "    ").splitlines()
    blocks = list(_without_literal_blocks(_blocks(_without_doctests(lines))))
    paragraphs = [paragraph for block in blocks for paragraph in _unwrap(block)]
    prose = "\n".join(paragraph for paragraph in paragraphs if _is_prose(paragraph))
    return prose if len(prose) >= _MIN_PROSE_CHARS else ""


def _without_doctests(lines: list[str]) -> Iterator[str]:
    """Leave out examples: from a prompt to the next blank line (Python's own rule)."""
    in_example = False
    for line in lines:
        in_example = line.lstrip().startswith(">>>") or (in_example and bool(line.strip()))
        if not in_example:
            yield line


def _blocks(lines: Iterator[str]) -> Iterator[list[str]]:
    block: list[str] = []
    for line in lines:
        if line.strip() and not _UNDERLINE.fullmatch(line):
            block.append(line)
        elif block:
            yield block
            block = []
    if block:
        yield block


def _without_literal_blocks(blocks: Iterator[list[str]]) -> Iterator[list[str]]:
    """Leave out what is indented under a line ending in `::` or under a directive."""
    indent = -1
    for block in blocks:
        if indent >= 0 and _indent(block[0]) > indent:
            continue
        last = block[-1].rstrip()
        opens = bool(_DIRECTIVE.match(block[0])) or last.endswith("::")
        indent = min(map(_indent, block)) if opens else -1
        if not _COMMENT.match(block[0]):
            yield block


def _unwrap(block: list[str]) -> Iterator[str]:
    """Join the lines of each paragraph or list item of a block."""
    parts: list[str] = []
    indent = _indent(block[0])
    for line in block:
        begins = _ITEM.match(line.lstrip()) or _COLUMNS.search(line) or _indent(line) < indent
        if parts and begins:
            yield _plain(" ".join(parts))
            parts = []
        elif parts and _indent(line) > indent:
            parts[-1] = _end_of_term(parts[-1])
        parts.append(line.strip())
        indent = _indent(line)
    yield _plain(" ".join(parts))


def _end_of_term(line: str) -> str:
    """End the line above an indented one, where it is a term and not a list item's first line."""
    if (_ITEM.match(line) and " : " not in line) or line.endswith((".", ",", ":", ";")):
        return line
    return f"{line}." if " : " in line else f"{line}:"


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _plain(paragraph: str) -> str:
    """Take reStructuredText's marks off: roles, quotes around names, footnotes, `::`."""
    for mark in (_ROLE, _BACKTICKS):
        paragraph = mark.sub(r"\1", paragraph)
    paragraph = _FOOTNOTE_MARK.sub("", paragraph)
    return re.sub(r" {2,}", " ", paragraph).replace("::", ":").strip()


def _is_prose(paragraph: str) -> bool:
    tokens = paragraph.split()
    words = sum(bool(_WORD.fullmatch(token)) for token in tokens)
    return words >= _MIN_WORDS and words >= _MIN_WORD_FRAC * len(tokens)
