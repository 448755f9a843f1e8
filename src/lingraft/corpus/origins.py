"""What a source to fetch from offers: files with their sizes, and how to open them.

    hub:OWNER/NAME           a data set of the hub, at one commit
    PATH                     a file, folder or pattern of this machine; also package: and stdlib:
    PROTOCOL://...           anything that fsspec reads: s3, gs, https, memory, ...

All are file systems of fsspec here; huggingface_hub brings one of its own. Keys and tokens come
from the environment, as each library wants them; what is told of a URL has no password and no
query, where signed links carry theirs.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from ..errors import InputError, MissingPackageError, UsageError
from ..hub import list_repository, open_hub
from ..sources import is_hub_source, locate_source

__all__ = [
    "OWN_NAMES",
    "PARTS_NAME",
    "RECORD_NAME",
    "Origin",
    "RemoteFile",
    "find_origin",
    "is_absent",
    "is_refused",
    "is_wanted",
    "redact",
]

_URL = re.compile(r"(\b[\w+.-]+://)(?:[^/\s'\"@]*@)?([^\s'\"?]*)(\?[^\s'\"]*)?")
_MAGIC = re.compile(r"[*?\[]")
_WEB = ("http", "https")
PARTS_NAME = ".fetching"
"""Folder of files that are being fetched, inside the one that is fetched into."""
RECORD_NAME = "fetched.json"
OWN_NAMES = (RECORD_NAME, ".lock")
_VERSIONS = (
    "ETag", "etag", "e_tag", "md5Hash", "Content-MD5", "Digest", "generation", "mtime",
    "LastModified", "Last-Modified", "last_modified", "updated", "created",
)  # fmt: skip
"""What file systems call the thing that changes when a file does, the surest first."""


class RemoteFile(NamedTuple):
    """One file of an origin."""

    name: str
    """Where it goes, under the folder that is fetched into; `/` between folders."""
    address: str
    """What its file system calls it."""
    size_bytes: int | None
    """None: its server does not tell."""
    version: str
    """Changes when its bytes do; "": its server does not tell."""
    sha256: str = ""
    """Of its bytes, where the origin knows."""


@dataclass(frozen=True)
class Origin:
    """A source, and the files that are taken from it."""

    source: str
    """As asked, without secrets."""
    files: tuple[RemoteFile, ...]
    system: Any
    """A file system of fsspec."""
    is_remote: bool = False
    """Whether files are opened with the size that was listed, without asking for it once more."""
    revision: str = ""
    commit: str = ""
    """Of a hub repository: what the revision was when it was looked up."""

    def open(self, file: RemoteFile, *, is_streamed: bool) -> Any:
        """Open a file for reading.

        Args:
            file: One of `files`.
            is_streamed: Whether it is read from its beginning to its end in one go; otherwise
                each `read` asks the server for as much.
        """
        if is_streamed:
            return self.system.open(file.address, "rb", block_size=0)
        known = {"size": file.size_bytes} if self.is_remote else {}
        return self.system.open(file.address, "rb", cache_type="none", **known)

    def info(self, file: RemoteFile) -> tuple[int | None, str]:
        """Give size and version of a file as they are now."""
        if self.commit:  # nothing changes in a commit
            return file.size_bytes, file.version
        self.system.invalidate_cache()
        return _size_and_version(self.system.info(file.address))


def redact(text: str) -> str:
    """Take passwords and queries out of the URLs in a text.

    >>> redact("404 of https://me:secret@host/a.jsonl?sig=abc'")
    "404 of https://host/a.jsonl?...'"
    """
    return _URL.sub(lambda url: f"{url[1]}{url[2]}{'?...' if url[3] else ''}", text)


def find_origin(source: str, patterns: Sequence[str], revision: str) -> Origin:
    """List the files of a source, in order of their names.

    Args:
        source: See above. A file, or a pattern of files, is taken as it is.
        patterns: Names to take from repositories and folders, at any depth; none: all that are
            not hidden.
        revision: Of a hub repository.

    Raises:
        InputError: It gives no file, cannot be listed, or has a name that no file may have.
        MissingPackageError: A package is needed to read such URLs.
        UsageError: There is nothing there, or no such kind of URL.
    """
    if is_hub_source(source):
        origin = _list_hub(source, patterns, revision)
    else:
        origin = _list_files(source, patterns)
    for file in origin.files:
        _check_name(origin.source, file.name)
    return origin


def _list_hub(source: str, patterns: Sequence[str], revision: str) -> Origin:
    found = list_repository(source, "dataset", revision)
    root = f"datasets/{source.removeprefix('hub:')}@{found.commit}"
    files = [
        RemoteFile(file.name, f"{root}/{file.name}", file.size_bytes, file.version, file.sha256)
        for file in found.files
    ]
    taken = _take(source, files, patterns)
    return Origin(source, taken, open_hub(), True, revision, found.commit)


def _list_files(source: str, patterns: Sequence[str]) -> Origin:
    shown = redact(source)
    system, address = _open_system(source, shown)
    system.invalidate_cache()
    is_web = urlsplit(source).scheme in _WEB
    try:
        found = _look(system, address, is_web=is_web)
    except Exception as error:  # each file system raises what it likes
        if not is_absent(error):
            raise _unlisted(shown, error.__cause__ or error) from None
        found = _Found([])
    if not found.files and not found.is_folder:
        raise UsageError(
            f"source '{shown}': nothing there.", way_out="Check the address and your rights to it."
        )
    files = _take(shown, found.files, patterns) if found.is_folder else _sorted(found.files)
    return Origin(shown, files, system, is_web)


def is_absent(error: BaseException) -> bool:
    """Whether an error of a file system says that there is nothing.

    That of the web calls everything "not found" that it cannot look at, and gives the cause.
    """
    if isinstance(error, FileNotFoundError) and error.__cause__ is None:
        return True
    return _status(error.__cause__ or error) == HTTPStatus.NOT_FOUND


def is_refused(error: BaseException) -> bool:
    """Whether an error of a file system says that one has no right to it."""
    refusals = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
    return isinstance(error, PermissionError) or _status(error) in refusals


def _status(error: BaseException) -> int:
    """Give the HTTP status that an error of aiohttp or huggingface_hub tells; 0: none."""
    response = getattr(error, "response", None)
    found = getattr(error, "status", None) or getattr(response, "status_code", None)
    return found if isinstance(found, int) else 0


class _Found(NamedTuple):
    files: list[RemoteFile]
    is_folder: bool = False


def _look(system: Any, address: str, *, is_web: bool) -> _Found:
    """Find the files at an address: one, those of a pattern, or those of a folder."""
    if _MAGIC.search(urlsplit(address).path if is_web else address) and not system.exists(address):
        root = _folder_before(address)
        matches = system.glob(address, detail=True)
        return _Found(_files(system, matches, root, is_web=is_web))
    # A page cannot tell whether it is a folder; those of folders end in a slash.
    is_folder = is_web and address.endswith("/")
    info = {} if is_folder else system.info(address)
    if is_folder or info["type"] == "directory":
        found = system.find(address, detail=True)
        return _Found(_files(system, found, address.rstrip("/"), is_web=is_web), is_folder=True)
    return _Found([_remote(address, info, _folder_of(address), is_web=is_web)])


def _files(
    system: Any, found: Mapping[str, Mapping[str, Any]], root: str, *, is_web: bool
) -> list[RemoteFile]:
    files = []
    for address, listed in found.items():
        # Another order of the same page; or what stands for a folder in a store of objects.
        if (is_web and "?" in address) or address.endswith("/"):
            continue
        info = system.info(address) if listed.get("size") is None else listed
        if info["type"] == "file":
            files.append(_remote(address, info, root, is_web=is_web))
    return files


def _remote(address: str, info: Mapping[str, Any], root: str, *, is_web: bool) -> RemoteFile:
    name = address.removeprefix(root).lstrip("/")
    if is_web:
        name = unquote(name.partition("?")[0])
    return RemoteFile(name, address, *_size_and_version(info))


def _size_and_version(info: Mapping[str, Any]) -> tuple[int | None, str]:
    size = info.get("size")
    key = next((key for key in _VERSIONS if info.get(key) is not None), "")
    value = info.get(key)
    # Lists and look-ups of one file system may give dates as text or not.
    told = value.isoformat() if isinstance(value, datetime) else value
    return None if size is None else int(size), f"{key}:{told}" if key else ""


def _folder_of(address: str) -> str:
    return address.partition("?")[0].rpartition("/")[0]


def _folder_before(pattern: str) -> str:
    """Give the folder that all matches of a pattern are in."""
    found = _MAGIC.search(pattern)
    return _folder_of(pattern[: found.start()] if found else pattern)


def is_wanted(name: str, patterns: Sequence[str]) -> bool:
    """Whether a name matches a pattern, at any depth; of no patterns, whether it is not hidden."""
    if not patterns:
        return not any(part.startswith(".") for part in name.split("/"))
    return any(fnmatchcase(name, one) or fnmatchcase(name, f"*/{one}") for one in patterns)


def _take(
    source: str, files: Sequence[RemoteFile], patterns: Sequence[str]
) -> tuple[RemoteFile, ...]:
    taken = [file for file in files if is_wanted(file.name, patterns)]
    if not taken:
        names = " or ".join(patterns) or "anything that is not hidden"
        raise InputError(
            f"source '{source}': none of its {len(files):,} files is named {names}.",
            effect="Nothing would be fetched.",
            way_out="Change --pattern; --list without one shows the names.",
        )
    return _sorted(taken)


def _sorted(files: Sequence[RemoteFile]) -> tuple[RemoteFile, ...]:
    return tuple(sorted(files))


def _open_system(source: str, shown: str) -> tuple[Any, str]:
    """Give the file system of a source, and its address there."""
    import fsspec
    from fsspec.core import url_to_fs

    is_url = "://" in source or "::" in source
    if not is_url or Path(source).exists():
        path = Path(source).expanduser()
        is_pattern = _MAGIC.search(source) and not path.exists()
        found = path if is_pattern else locate_source(source)
        return fsspec.filesystem("file"), str(found.absolute())
    try:
        system, address = url_to_fs(source)
    except ImportError as error:
        name = (getattr(error.__cause__, "name", None) or str(error)).partition(".")[0]
        raise MissingPackageError(
            f"source '{shown}': needs the package '{name}', which is not installed.",
            way_out=f"pip install {name}",
        ) from None
    except ValueError as error:
        raise _no_such_kind(source, shown, error) from None
    except Exception as error:  # each file system raises what it likes
        raise _unlisted(shown, error) from None
    return system, str(address)


def _no_such_kind(source: str, shown: str, error: ValueError) -> UsageError:
    from fsspec import available_protocols

    near = difflib.get_close_matches(source.partition("://")[0], available_protocols(), n=1)
    hint = f"Did you mean {near[0]}://?" if near else "As s3://, gs://, https://; or a path."
    return UsageError(f"source '{shown}': {redact(str(error))}.", way_out=hint)


def _unlisted(shown: str, error: BaseException) -> InputError:
    told = redact(str(error)) or type(error).__name__
    return InputError(
        f"source '{shown}': cannot be listed: {told}.",
        way_out="Check the address, the network and your rights, and run it again.",
    )


def _check_name(source: str, name: str) -> None:
    """Refuse names that lead out of the folder that is fetched into, or to what is kept there.

    Raises:
        InputError: A name does.
    """
    parts = name.split("/")
    if not {"", ".", "..", PARTS_NAME}.isdisjoint(parts) or "\0" in name or name in OWN_NAMES:
        raise InputError(
            f"source '{source}': has a file named {name!r}.",
            effect="It would be written outside the folder, or over what is kept about it.",
            way_out="Leave it out with --pattern.",
        )
