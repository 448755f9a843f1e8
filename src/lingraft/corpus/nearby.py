"""Near duplicates as a step: signatures of all units in, numbers of documents to drop out.

    units/N.bands.npy, units/N.lows.npy   signatures of a unit's kept documents, see `matching`
    steps/00000.npy                       documents to drop, numbered through all units

Documents with the same text have the same signature, so exact duplicates are among them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ..store import disk_errors
from ..work import tell_bytes
from .plan import Plan, read_plan
from .results import STEPS, UNITS, is_whole, read_totals, result_path, writing

__all__ = ["BANDS", "LOWS", "MATCHES", "Matching", "SignatureWriter"]

BANDS, LOWS, MATCHES = "bands.npy", "lows.npy", 0
"""Ends of a unit's files, and the number of the step."""
_MEMORY_BYTES = 1 << 29
_BAND_BYTES = 8
_COPY_BYTES = 1 << 24


@dataclass(frozen=True)
class Matching:
    """The step as one unit of work."""

    folder: str
    key: str
    label: str = "match"

    @property
    def _plan(self) -> Plan:
        return read_plan(self.folder, self.key)

    def __len__(self) -> int:
        """One."""
        return 1

    def size_bytes(self, n: int) -> int:
        """Bytes of all bands; not known before all units are read."""
        settings = self._plan.settings.near_duplicates
        assert settings is not None, "near duplicates are not asked for"
        last = len(self._plan.units) - 1
        if not is_whole(self.folder, UNITS, last, self.key):
            return 1
        num_docs = int(read_totals(self.folder, self.key).num_kept_U.sum())
        return max(1, num_docs * settings.num_bands * _BAND_BYTES)

    def is_done(self, n: int) -> bool:
        """Whether the numbers are there."""
        return is_whole(self.folder, STEPS, MATCHES, self.key)

    def do(self, n: int) -> None:
        """Compare all signatures.

        Raises:
            DiskFullError: There is no room for the result.
        """
        from .matching import match

        plan = self._plan
        settings = plan.settings.near_duplicates
        assert settings is not None, "near duplicates are not asked for"
        with (
            disk_errors(Path(self.folder), place=plan.place),
            writing(self.folder, STEPS, MATCHES, self.key, ["npy"]) as (drafts, _),
        ):
            bands, lows = (
                [result_path(self.folder, UNITS, u, end) for u in range(len(plan.units))]
                for end in (BANDS, LOWS)
            )
            num_docs = read_totals(self.folder, self.key).num_kept_U.tolist()
            scratch = Path(self.folder)
            drop = match(bands, lows, num_docs, settings, _MEMORY_BYTES, scratch, _Teller())
            with drafts["npy"].open("wb") as file:
                np.save(file, drop)


class _Teller:
    """Progress of `match`: documents of a band."""

    def advance(self, amount: int = 1, text: str = "") -> None:
        """Count documents."""
        tell_bytes(amount * _BAND_BYTES)


class SignatureWriter:
    """Writes signatures as they come; how many there will be is not known before the end."""

    def __init__(self, drafts: Mapping[str, Path], stack: ExitStack) -> None:
        """Keep signatures in files without a name until `finish`."""
        self._drafts = drafts
        self._files: list[Any] = []
        for end in (BANDS, LOWS):
            file = tempfile.TemporaryFile(dir=drafts[end].parent)  # noqa: SIM115
            self._files.append(stack.enter_context(file))
        self._shapes = [(0, 0), (0, 0)]

    def add(self, bands_DB: npt.NDArray[np.uint64], lows_DK: npt.NDArray[np.uint8]) -> None:
        """Take the signatures of some documents."""
        arrays: tuple[npt.NDArray[Any], ...] = (bands_DB, lows_DK)
        for n, array in enumerate(arrays):
            if array.size:
                self._files[n].write(np.ascontiguousarray(array).data)
            self._shapes[n] = (self._shapes[n][0] + len(array), array.shape[1])

    def finish(self) -> None:
        """Write both files: bands band after band, low bits document after document."""
        bands_DB = _mapped(self._files[0], np.dtype(np.uint64), self._shapes[0])
        lows_DK = _mapped(self._files[1], np.dtype(np.uint8), self._shapes[1])
        with self._drafts[BANDS].open("wb") as file:
            _write_header(file, bands_DB.T)
            for band_D in bands_DB.T:
                file.write(np.ascontiguousarray(band_D).data)
        with self._drafts[LOWS].open("wb") as file:
            _write_header(file, lows_DK)
            for begin in range(0, len(lows_DK), _COPY_BYTES >> 8):
                file.write(np.ascontiguousarray(lows_DK[begin : begin + (_COPY_BYTES >> 8)]).data)


def _mapped(file: Any, dtype: np.dtype[Any], shape: tuple[int, int]) -> npt.NDArray[Any]:
    if not shape[0] * shape[1]:
        return np.empty(shape, dtype)
    file.flush()
    return np.memmap(file, dtype, "r", shape=shape).view(np.ndarray)


def _write_header(file: BinaryIO, array: npt.NDArray[Any]) -> None:
    header = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape}
    np.lib.format.write_array_header_1_0(file, header)  # type: ignore[no-untyped-call]
