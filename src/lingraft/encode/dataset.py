"""Token files as data sets for torch and transformers: one row a sequence, memory-mapped.

    rows = TokenDataset("encoded", seq_len=2048)
    Trainer(model=model, args=arguments, train_dataset=rows).train()

Labels are those of transformers' models, which compare the label of a position with what the one
before it predicts: labels[i] is input_ids[i], or -100 where nothing is to be predicted. (The
labels of `Mixture.batch` follow their inputs, for loops that compare place by place.)

Isolated documents need no attention mask, and must not get one: transformers reads the positions
only without a mask and without a cache. `Trainer` turns the cache off; a loop of one's own passes
`use_cache=False`. With flash attention it reads them in batches of one row only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, Protocol, SupportsIndex

import numpy as np

from ..errors import InputError, UsageError
from ..mixture import MixtureRow, Plan, find_name, plan_mixture
from ..othertokenizers import read_tokenizer
from ..rows import (
    IGNORE,
    Documents,
    Int64,
    Stretch,
    Windows,
    check_rows,
    fill_row,
    whole_number,
)
from ..shards import TokenFile, TokenFolder, open_folder
from .bestfit import pack_best_fit

__all__ = ["MixtureDataset", "Pack", "TokenDataset"]

Pack = Literal["stream", "best-fit"]
_HELD_OUT = ("-valid", "-validation", "-val", "-dev", "-test", "-eval")


class _Rows(Protocol):
    """What stands in each row."""

    num_filled: int
    """Tokens of all rows together."""

    def __len__(self) -> int: ...
    def __getitem__(self, n: int, /) -> Sequence[Stretch]: ...


class _Dataset:
    """Rows as dictionaries; small when it is sent to workers, which map the files themselves."""

    def __init__(self, rows: _Rows, seq_len: int, documents: Documents, fill_id: int) -> None:
        self._rows, self._fill_id = rows, fill_id
        self.seq_len, self.documents = seq_len, documents

    @property
    def filled_frac(self) -> float:
        """Share of the rows' places that hold a token."""
        return self._rows.num_filled / (len(self) * self.seq_len)

    def __len__(self) -> int:
        """Give the number of rows."""
        return len(self._rows)

    def __iter__(self) -> Iterator[dict[str, Int64]]:
        """Give all rows in order."""
        return (self[n] for n in range(len(self)))

    def __getitem__(self, index: SupportsIndex) -> dict[str, Int64]:
        """Give one row: `input_ids`, `labels`, `position_ids`, each of shape (L,).

        Raises:
            IndexError: There is no such row; those below 0 count from the end.
            TypeError: It is no number of a row: one is asked for at a time.
        """
        number, length = whole_number("row", index), len(self)
        if not -length <= number < length:
            raise IndexError(f"row {number} of {length:,}")
        n = number % length
        inputs_L = np.full(self.seq_len, self._fill_id, np.int64)
        next_L = np.full(self.seq_len, IGNORE, np.int64)
        positions_L = np.empty(self.seq_len, np.int64)
        fill_row(self._rows[n], self.documents, inputs_L, next_L, positions_L)
        labels_L = np.full(self.seq_len, IGNORE, np.int64)
        labels_L[1:] = next_L[:-1]  # a model shifts them back
        return {"input_ids": inputs_L, "labels": labels_L, "position_ids": positions_L}


class TokenDataset(_Dataset):
    """Rows of token files, in their order.

    Attributes:
        names: Token files that take part.
        seq_len: L, tokens of a row.
        documents: "isolated" or "joined", see `rows`.
    """

    def __init__(
        self,
        folder: str | Path,
        seq_len: int,
        *,
        names: str | Sequence[str] | None = None,
        documents: Documents = "isolated",
        pack: Pack = "stream",
        tokenizer: str | Path | None = None,
        fill_id: int = 0,
    ) -> None:
        """Open token files; only their ends are read.

        Args:
            folder: What `lingraft encode` wrote, or the encode stage.
            seq_len: L, 2 or more.
            names: Files, by their names or those of their sets (NAME for NAME-train); None: all
                but those of validation and test splits (NAME-valid, NAME-test).
            documents: Whether they are "isolated" or "joined".
            pack: "stream" cuts rows out of documents laid end to end: rows are full, and a
                document goes on in the next one. "best-fit" cuts no document that fits into a
                row, as supervised fine-tuning wants.
            tokenizer: That of the model; ids of another are refused. None: not compared.
            fill_id: Stands after the last token of a row that is not full.

        Raises:
            InputError: The folder cannot be used, is of another tokenizer, or holds no row.
            TypeError: A number is no whole one.
            UsageError: An argument is out of range, or names what there is not.
        """
        seq_len, fill_id = whole_number("seq_len", seq_len), whole_number("fill_id", fill_id)
        opened = _open(folder, seq_len, documents, tokenizer, fill_id)
        if pack not in ("stream", "best-fit"):
            raise UsageError(f"pack = {pack!r}; expected 'stream' or 'best-fit'.")
        self.names = _choose(opened, names)
        files = [opened.files[name] for name in self.names]
        rows = _StreamRows(files, seq_len) if pack == "stream" else _BinRows(files, seq_len)
        if not len(rows):
            raise InputError(
                f"{folder}: {', '.join(self.names) or 'no files'}: not one row of text.",
                way_out="Name files that hold documents of two tokens or more.",
            )
        super().__init__(rows, seq_len, documents, fill_id)


class MixtureDataset(_Dataset):
    """Rows of one pass over a mixture, in its order: any number of sets, each mapped.

    Attributes:
        seq_len: L, tokens of a row.
        documents: "isolated" or "joined", see `rows`.
    """

    def __init__(
        self,
        folder: str | Path,
        parts: Sequence[str],
        seq_len: int,
        seed: int,
        *,
        total_tokens: int | None = None,
        documents: Documents = "isolated",
        tokenizer: str | Path | None = None,
        fill_id: int = 0,
    ) -> None:
        """Plan the mixture: `parts`, `seed` and `total_tokens` as for `Mixture`, the rest as above.

        Raises:
            InputError: The folder cannot be used or is of another tokenizer, or a part holds no
                text.
            TypeError: A number is no whole one.
            UsageError: An argument is out of range, or a part cannot be read or names no set.
        """
        seq_len, fill_id = whole_number("seq_len", seq_len), whole_number("fill_id", fill_id)
        opened = _open(folder, seq_len, documents, tokenizer, fill_id)
        self._plan = plan_mixture(opened.files, parts, seq_len - 1, seed, total_tokens)
        super().__init__(_PlanRows(self._plan), seq_len, documents, fill_id)

    def rows(self) -> list[MixtureRow]:
        """Tell what each part comes to."""
        return self._plan.rows()


class _PlanRows:
    """One pass over a mixture."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self.num_filled = plan, plan.num_filled

    def __len__(self) -> int:
        return self._plan.num_windows

    def __getitem__(self, n: int, /) -> Sequence[Stretch]:
        return [self._plan[n]]


class _StreamRows:
    """Files one after the other, each cut into windows that overlap by a token."""

    def __init__(self, files: Sequence[TokenFile], seq_len: int) -> None:
        self._windows = [Windows(file, len(file.ids), seq_len - 1) for file in files]
        self._ends = np.cumsum([len(windows) for windows in self._windows], dtype=np.int64)
        self.num_filled = sum(windows.num_filled for windows in self._windows)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, n: int, /) -> Sequence[Stretch]:
        which = int(self._ends.searchsorted(n, "right"))
        windows = self._windows[which]
        return [windows[n - int(self._ends[which]) + len(windows)]]


class _BinRows:
    """Whole documents, and parts of those that are longer than a row, packed by best fit."""

    def __init__(self, files: Sequence[TokenFile], seq_len: int) -> None:
        self._files = list(files)
        pieces = [_cut_pieces(file, seq_len) for file in files]
        which_N = np.repeat(np.arange(len(files)), [len(sizes) for _, sizes in pieces])
        starts_N = np.concatenate([np.empty(0, np.int64), *(starts for starts, _ in pieces)])
        sizes_N = np.concatenate([np.empty(0, np.int64), *(sizes for _, sizes in pieces)])
        bins = pack_best_fit(sizes_N, seq_len)
        self._which_N = which_N[bins.pieces_N].astype(np.int32)
        self._starts_N = starts_N[bins.pieces_N]
        self._sizes_N = sizes_N[bins.pieces_N].astype(np.int32)
        self._ends_B = bins.ends_B
        self.num_filled = int(sizes_N.sum())

    def __len__(self) -> int:
        return len(self._ends_B)

    def __getitem__(self, n: int, /) -> Sequence[Stretch]:
        pieces = slice(int(self._ends_B[n - 1]) if n else 0, int(self._ends_B[n]))
        rows = zip(
            self._which_N[pieces].tolist(),
            self._starts_N[pieces].tolist(),
            self._sizes_N[pieces].tolist(),
            strict=True,
        )
        return [Stretch(self._files[which], start, start + size) for which, start, size in rows]


def _cut_pieces(file: TokenFile, seq_len: int) -> tuple[Int64, Int64]:
    """Give starts and sizes of a file's documents, those longer than a row in parts of one."""
    ends_D = file.ends.astype(np.int64)
    sizes_D = np.diff(ends_D, prepend=0)
    parts_D = -(-sizes_D // seq_len)
    number_N = np.arange(parts_D.sum()) - np.repeat(np.cumsum(parts_D) - parts_D, parts_D)
    starts_N = np.repeat(ends_D - sizes_D, parts_D) + number_N * seq_len
    return starts_N, np.minimum(np.repeat(ends_D, parts_D) - starts_N, seq_len)


def _open(
    folder: str | Path,
    seq_len: int,
    documents: str,
    tokenizer: str | Path | None,
    fill_id: int,
) -> TokenFolder:
    """Open a folder, and see that the arguments fit it."""
    check_rows(seq_len, documents)
    opened = open_folder(Path(folder))
    if tokenizer is not None:
        base = read_tokenizer(str(tokenizer))
        opened.refuse_other(base.digest, base.name)
    known = opened.index.tokenizer
    if not 0 <= fill_id < known.vocab_size:
        raise UsageError(
            f"fill_id = {fill_id}; expected an id of {known.name}, below {known.vocab_size:,}."
        )
    return opened


def _choose(opened: TokenFolder, names: str | Sequence[str] | None) -> list[str]:
    """Give the names of files that are asked for."""
    if names is None:
        return [name for name in opened.files if not name.endswith(_HELD_OUT)]
    asked = [names] if isinstance(names, str) else names
    return [find_name(opened.files, name, str(opened.path)) for name in asked]
