"""Results of a long call, kept beside its output until it is done: a killed call goes on."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["Kept"]


class Kept:
    """Values by key, one JSON row a line, written as they come.

    The first row names what the results are of. Another identity begins anew; half a row, which a
    kill leaves at the end, is none. Reading ends at a row that is none (a power cut can leave zeros
    in the middle): those before it are kept, and `damage` tells of the rest. A clean end of the
    `with` removes the file.
    """

    def __init__(self, out: Path | None, identity: Any) -> None:
        """Read what a killed call left beside `out`; None: nothing is kept."""
        self._path = None if out is None else out.with_name(f".{out.name}.partial")
        self._head = json.dumps(["identity", identity], ensure_ascii=False, sort_keys=True)
        self._values: dict[str, Any] = {}
        self.damage = ""
        """What a caller is to tell of a file that is damaged, or of another call; "": nothing."""
        self._read()
        self.num_found = len(self._values)

    def __enter__(self) -> Kept:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None and self._path is not None:
            self._path.unlink(missing_ok=True)

    @property
    def num(self) -> int:
        """Values that are there."""
        return len(self._values)

    def get(self, key: str) -> Any:
        """Give a value; None: it is not there yet."""
        return self._values.get(key)

    def put(self, key: str, value: Any) -> None:
        """Keep a value."""
        self._values[key] = value
        if self._path is None:
            return
        is_first = len(self._values) == 1
        with self._path.open("w" if is_first else "a", encoding="utf-8") as file:
            if is_first:
                file.write(f"{self._head}\n")
            file.write(f"{json.dumps([key, value], ensure_ascii=False)}\n")

    def _read(self) -> None:
        if self._path is None or not self._path.is_file():
            return
        head, *rows = self._path.read_bytes().split(b"\n")
        if head != self._head.encode("utf-8"):
            why = "its first row is damaged" if _is_damaged(head) else "begun with other settings"
            self.damage = f"{self._path}: {why}; all results are made anew"
            return
        whole: list[bytes] = []
        for row in rows[:-1]:  # what follows the last line end was cut off, or is nothing
            found = _read_row(row)
            if found is None:
                self.damage = (
                    f"{self._path}: row {len(whole) + 2} is damaged; the {len(whole):,} results "
                    f"before it are kept, up to {len(rows) - 1 - len(whole):,} are made anew"
                )
                break
            whole.append(row)
            self._values[found[0]] = found[1]
        if self.damage or rows[-1:] != [b""]:
            self._path.write_bytes(b"\n".join([head, *whole, b""]))


def _is_damaged(head: bytes) -> bool:
    try:
        json.loads(head.decode("utf-8"))
    except ValueError:
        return True
    return False


def _read_row(row: bytes) -> tuple[str, Any] | None:
    """Read a key and its value; None: the row is none."""
    try:
        found = json.loads(row.decode("utf-8"))
    except ValueError:
        return None
    if isinstance(found, list) and len(found) == 2 and isinstance(found[0], str):
        return found[0], found[1]
    return None
