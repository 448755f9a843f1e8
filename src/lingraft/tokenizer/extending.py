"""`lingraft tokenizer extend` on plain files: read, extend, write, tell."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import InputError, UsageError
from ..manifest import canonical_json
from ..progress import Reporter, SilentReporter
from ..store import disk_errors, lock_folder
from ..text import check_scripts, find_scripts, in_scripts
from .assembling import Extended, Wanted, assemble, rules_for
from .donor import LeftOut, find_candidates, read_donor, take, union_pieces
from .forms import Forms, read_forms
from .listing import has_digits, read_pieces, readable, splits_digits
from .scope import own_note, own_scripts

__all__ = ["RECORD", "ExtendResult", "extend"]

RECORD = "extension.json"
"""The file that tells what was done."""
_FORMAT = "lingraft.extension/1"
_LEFT_OUT = "left-out.jsonl"
_MOST_MULTIPLE = 1 << 16
_PUBLISHED = (
    "published recipe: all {num:,} added pieces have score 0, so SentencePiece and fast tokenizers "
    "give different ids for some texts, and some pieces can never be produced; "
    "lingraft tokenizer verify shows where. tokenizer.json holds the merge rules that converters "
    "would make of this model."
)


@dataclass(frozen=True)
class ExtendResult:
    """A tokenizer that was extended.

    Attributes:
        folder: Where it lies.
        base_size: Ids of the base, special tokens of its configs included.
        num_pieces: Pieces added.
        missing_bytes: Bytes that the base has no piece for; they were added before the pieces.
        specials: Special tokens added.
        num_padding: Inert pieces added so that the size is a multiple.
        size: Ids in all.
        left_out: Donor pieces that were not taken: reason -> how many; `left-out.jsonl` lists them.
        scripts: Those of the added pieces.
        warnings: What the user should know, a sentence each.
        record: What `extension.json` holds.
    """

    folder: Path
    base_size: int
    num_pieces: int
    missing_bytes: tuple[int, ...]
    specials: tuple[str, ...]
    num_padding: int
    size: int
    left_out: Mapping[str, int]
    scripts: tuple[str, ...]
    warnings: tuple[str, ...]
    record: Mapping[str, Any]


@dataclass
class _Source:
    """Where pieces came from, and what became of them."""

    kind: str
    name: str
    sha256: str
    scripts: Sequence[str] = ()
    left_out: Sequence[LeftOut] = ()
    warnings: list[str] = field(default_factory=list)


class _Asked(NamedTuple):
    pieces: Path | None
    donor: str | None
    specials: tuple[str, ...]
    multiple: int
    as_published: bool
    scripts: tuple[str, ...]


def extend(
    *,
    base: str | Path,
    pieces: str | Path | None = None,
    donor: str | Path | None = None,
    out: str | Path,
    special: Sequence[str] = (),
    pad_to_multiple: int | None = None,
    as_published: bool = False,
    scripts: Sequence[str] | None = None,
    reporter: Reporter | None = None,
) -> ExtendResult:
    """Extend a tokenizer by pieces, and write it in every form that libraries read.

    Args:
        base: A `tokenizer.model`, a `tokenizer.json`, a folder of one, or a hub name.
        pieces: List of pieces, or the folder that `lingraft vocab search` wrote.
        donor: Instead: a tokenizer whose pieces are taken.
        out: Folder to write; it must not hold anything else.
        special: Special tokens to add behind the pieces.
        pad_to_multiple: Add inert pieces until the size is a multiple of this; None: none.
        as_published: Repeat the published union with the donor: score 0, nothing left out.
        scripts: Unicode scripts of the new language; None: found from the pieces.
        reporter: Where progress goes.

    Raises:
        InputError: The base, the donor or a piece cannot be used; it is named.
        UsageError: The call does not fit together, or `out` holds something else.
    """
    asked = _check(pieces, donor, special, pad_to_multiple, as_published, scripts)
    teller, folder = reporter or SilentReporter(), Path(out).expanduser()
    forms = read_forms(str(base))
    wanted = Wanted(forms, asked.specials, asked.multiple, as_published=asked.as_published)
    with teller.task("derive merge rules", 1, "tokenizer") as progress:
        source = _fill(wanted, asked)
        extended = assemble(wanted)
        progress.advance(1, f"{len(wanted.pieces):,} pieces")
    record = _record(forms, wanted, extended, source)
    record["scripts_from"] = "named" if asked.scripts else "found"
    files = dict(extended.files)
    if source.left_out:
        files[_LEFT_OUT] = _lines([piece._asdict() for piece in source.left_out])
    files[RECORD] = (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode()
    _write(folder.absolute(), files, record["identity"])
    for warning in (*source.warnings, *extended.warnings):
        teller.note(warning)
    return ExtendResult(
        folder=folder,
        base_size=extended.base_size,
        num_pieces=len(wanted.pieces),
        missing_bytes=tuple(wanted.missing_bytes),
        specials=asked.specials,
        num_padding=len(extended.padding),
        size=extended.size,
        left_out=record["left_out"],
        scripts=tuple(source.scripts),
        warnings=(*source.warnings, *extended.warnings),
        record=record,
    )


def _check(
    pieces: str | Path | None,
    donor: str | Path | None,
    special: Sequence[str],
    multiple: int | None,
    as_published: bool,
    scripts: Sequence[str] | None,
) -> _Asked:
    if (pieces is None) == (donor is None):
        raise UsageError(
            "expected either a list of pieces or a donor.",
            way_out="Give --pieces FILE, or --donor TOKENIZER.",
        )
    if as_published and donor is None:
        raise UsageError(
            "the published union needs a donor.", way_out="Give --donor, or leave --as-published."
        )
    if isinstance(special, str) or not all(isinstance(token, str) for token in special):
        raise UsageError(f"special = {special!r}: expected a list of tokens.")
    if multiple is not None and not 1 <= multiple <= _MOST_MULTIPLE:
        raise UsageError(f"pad-to-multiple {multiple}: expected 1 to {_MOST_MULTIPLE:,}.")
    check_scripts(scripts or ())
    return _Asked(
        None if pieces is None else Path(pieces).expanduser(),
        None if donor is None else str(donor),
        tuple(special),
        multiple or 1,
        as_published,
        tuple(scripts or ()),
    )


def _fill(wanted: Wanted, asked: _Asked) -> _Source:
    if asked.pieces is not None:
        source = _from_list(wanted, asked.pieces, asked.scripts)
    else:
        assert asked.donor is not None, "neither pieces nor donor"
        if asked.as_published:
            return _from_union(wanted, asked.donor)
        source = _from_donor(wanted, asked.donor, asked.scripts)
    own = [] if asked.scripts else own_scripts(wanted.base, wanted.base.size, source.scripts)
    source.warnings += [own_note(own)] if own else []
    return source


def _from_list(wanted: Wanted, path: Path, scripts: Sequence[str]) -> _Source:
    """Take every piece of a list, or refuse the first that does not fit."""
    base = wanted.base
    listed = read_pieces(path, base)
    rules = rules_for(wanted)
    apart = splits_digits(base)
    for row, place in zip(listed.rows, listed.places, strict=True):
        where = f"{place}: piece {readable(base, row.piece)!r}"
        # Bytes of a part of a character are written as <0xE9>: digits of ours, not of a text.
        if apart and row.kind != "partial" and has_digits(readable(base, row.piece)):
            raise InputError(
                f"{where} has digits side by side; the base keeps each digit to itself.",
                effect="Numbers would be cut in two ways, and the model reckons in single digits.",
                way_out="Take it off the list.",
            )
        misfit = rules.add(row)
        if misfit:
            raise misfit.error(where)
    wanted.pieces = [row.piece for row in listed.rows]
    wanted.rules = rules
    texts = [readable(base, row.piece) for row in listed.rows if row.kind != "partial"]
    source = _Source(
        "pieces",
        _short(str(listed.path)),
        listed.sha256,
        scripts or listed.scripts or _scripts_of(texts),
    )
    outside = [text for text in texts if source.scripts and not in_scripts(text, source.scripts)]
    if outside:
        source.warnings.append(
            f"pieces without a character of {', '.join(source.scripts)}: {len(outside):,} "
            f"({', '.join(map(repr, outside[:3]))}); texts of other languages change by them."
        )
    if listed.base_sha256 and listed.base_sha256 != wanted.forms.base.digest:
        source.warnings.append(
            "the search was made for another tokenizer file than this base; every piece fits all "
            "the same."
        )
    return source


def _scripts_of(texts: Sequence[str]) -> list[str]:
    try:
        return find_scripts(texts)
    except InputError:  # signs alone have no script
        return []


def _from_donor(wanted: Wanted, name: str, scripts: Sequence[str]) -> _Source:
    """Take what is in scope and what one rule makes."""
    donor = read_donor(name)
    found = find_candidates(wanted.base, donor, scripts)
    rules = rules_for(wanted)
    rows, misfits = take(wanted.base, found, rules)
    if not rows:
        raise InputError(
            f"{name}: none of its pieces with a character of {', '.join(found.scripts)} fits; "
            f"{found.num_known:,} are in the base already.",
            way_out="Name another donor, or other scripts.",
        )
    wanted.pieces, wanted.rules = [row.piece for row in rows], rules
    left_out = sorted([*found.left_out, *misfits])
    return _Source("donor", _short(name), donor.digest, found.scripts, left_out)


def _from_union(wanted: Wanted, name: str) -> _Source:
    pieces = union_pieces(wanted.model_base(), name)
    wanted.pieces = pieces
    warnings = [_PUBLISHED.format(num=len(pieces))]
    sha256 = hashlib.sha256("\n".join(pieces).encode()).hexdigest()
    return _Source("union", _short(name), sha256, _scripts_of(pieces), warnings=warnings)


def _short(name: str) -> str:
    """Give what others may know of a name: no folders of this machine."""
    return "/".join(Path(name).parts[-2:])


def _record(forms: Forms, wanted: Wanted, extended: Extended, source: _Source) -> dict[str, Any]:
    """Tell what was done; nothing of the machine or the time."""
    from .. import __version__

    base = {
        "name": _short(forms.name),
        "family": forms.base.family,
        "sha256": forms.base.digest,
        "size": extended.base_size,
        "specials_of_its_configs": list(wanted.extra),
    }
    asked = {
        "base": forms.base.digest,
        "source": [source.kind, source.sha256],
        "specials": list(wanted.specials),
        "pad_to_multiple": wanted.multiple,
        "as_published": wanted.as_published,
        "scripts": list(source.scripts),
    }
    return {
        "format": _FORMAT,
        "lingraft": __version__,
        "identity": hashlib.sha256(canonical_json(asked).encode()).hexdigest(),
        "base": base,
        "source": {"kind": source.kind, "name": source.name, "sha256": source.sha256},
        "as_published": wanted.as_published,
        "scripts": list(source.scripts),
        "num_pieces": len(wanted.pieces),
        **({"missing_bytes": list(wanted.missing_bytes)} if wanted.missing_bytes else {}),
        "first_score": extended.first_score,
        "last_score": extended.last_score,
        "specials": list(wanted.specials),
        "padding": list(extended.padding),
        "size": extended.size,
        "left_out": dict(sorted(Counter(p.reason for p in source.left_out).items())),
    }


def _lines(rows: Sequence[Mapping[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _write(folder: Path, files: Mapping[str, bytes], identity: str) -> None:
    """Write a draft beside the folder, then rename it into place; former output is replaced."""
    draft = folder.with_name(f".draft-{folder.name}")
    with disk_errors(folder, place="--out DIR"):
        _refuse_foreign(folder, identity, files)
    with (
        disk_errors(folder, place="--out DIR"),
        lock_folder(draft, place="--out DIR", other="--out OTHER"),
    ):
        for left in draft.iterdir():
            if left.name != ".lock":
                left.unlink()
        for name, content in files.items():
            _write_file(draft / name, content)
        former = folder.with_name(f".former-{folder.name}")
        shutil.rmtree(former, ignore_errors=True)
        if folder.exists():
            folder.rename(former)
        (draft / ".lock").unlink()
        draft.rename(folder)
        shutil.rmtree(former, ignore_errors=True)


def _write_file(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _refuse_foreign(folder: Path, identity: str, files: Mapping[str, bytes]) -> None:
    """Refuse a folder that holds anything but the outcome of this very call.

    Raises:
        UsageError: It does.
    """
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if not there and not (folder.exists() and not folder.is_dir()):
        return
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        found = record["identity"] if record["format"] == _FORMAT else ""
    except (OSError, ValueError, KeyError, TypeError):
        found = ""
    if found != identity or not there <= set(files):
        what = (
            "holds another extended tokenizer"
            if found and found != identity
            else "holds something else"
        )
        raise UsageError(
            f"{folder}: {what}.",
            effect="It would be overwritten.",
            way_out="Name another folder with --out, or remove this one.",
        )
