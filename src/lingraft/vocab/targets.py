"""What a search on plain files is about: the base, seen through the scripts of the corpus."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from ..bases import read_base
from ..errors import InputError
from ..text import check_scripts, find_scripts
from ..texts import read_texts
from .alphabet import Alphabet

__all__ = ["read_alphabet"]

_SCRIPT_DOCS = 200


def read_alphabet(
    name: str,
    scripts: Sequence[str] | None,
    word_start: bool | None,
    files: Sequence[Path],
    text_key: str,
    note: Callable[[str], None],
) -> Alphabet:
    """See a base through scripts, found from the first documents of every file if not given.

    Raises:
        InputError: The base or a file cannot be read, or no document has a letter.
        UsageError: The base or a script is not there.
    """
    if scripts:
        check_scripts(scripts)
    base = read_base(name)
    if base.missing_bytes:
        shown = base.missing_bytes.hex(" ").upper()
        note(
            f"the base has no piece for {len(base.missing_bytes)} of the 256 bytes ({shown}); the "
            "search counts each as a piece: tokenizer extend adds them before all others"
        )
    if not scripts:
        scripts = _find_scripts(files, text_key)
        note(f"target scripts, found from the corpus: {', '.join(scripts)}")
    return Alphabet(base, scripts, word_start)


def _find_scripts(files: Sequence[Path], text_key: str) -> list[str]:
    """Find the scripts of the first documents of every file."""
    num_read = 0

    def heads() -> Iterator[str]:
        nonlocal num_read
        for path in files:
            yield from (doc.text for doc in islice(read_texts(path, text_key), _SCRIPT_DOCS))
            num_read += 1

    try:
        return find_scripts(heads())
    except InputError:
        if num_read < len(files):
            raise  # a file cannot be read
        names = ", ".join(map(str, files[:3])) + (", ..." if len(files) > 3 else "")
        raise InputError(
            f"{names}: no letters in the first {_SCRIPT_DOCS} documents of any file.",
            effect="The scripts of the new language cannot be found.",
            way_out="Give files with text, or name the scripts: --scripts Han.",
        ) from None
