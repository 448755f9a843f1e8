"""First rows by orthogonal matching pursuit: a new piece as a few base pieces, with coefficients.

In a space in which base and new pieces both have a vector, each new vector is approximated by k
base vectors: take the one that is most parallel to what is left, fit all that were taken anew,
go on. The same coefficients on the base's own rows are the new row. The space is the auxiliary
one (`auxiliary.py`), or the input embeddings of a *donor* model that knows the new pieces.
Auxiliary vectors are brought to length 1 before: theirs tells how rare a piece is, and would make
rows of rare pieces many times as long as any of the base's.

A new piece that has no vector there takes the mean of its spelling; how many did is in the notes
of the method, under "mean_instead". A donor that writes numbers with other digit groups than the
base is warned of: the paper lost 74 to 79% of GSM8K that way, and 6% where they were the same.

Shapes: V base rows, N new pieces, D model width, A width of the space, K atoms, B pieces at once.
Sources: Goddard & Fernandes Neto 2025, Training-Free Tokenizer Transplantation via Orthogonal
Matching Pursuit (arXiv 2506.06607), as in mergekit-tokensurgeon; the pursuit: Pati, Rezaiifar &
Krishnaprasad 1993.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from ..bases import read_base
from ..basetypes import BaseTokenizer
from ..errors import InputError, UsageError
from .added import Added
from .focus import has_vector, note_fallback
from .mean import mean_rows
from .methods import Role

__all__ = ["donor_vectors", "longest_number", "omp_rows", "pursue"]

_BLOCK = 256
_TOLERANCE = 1e-4
"""A residual of this share of its vector is nothing; so is what an atom adds to those before."""
_log = logging.getLogger("lingraft")


def omp_rows(
    base_VD: torch.Tensor,
    added: Added,
    role: Role,
    seed: int,
    *,
    auxiliary_VA: npt.NDArray[np.float32] | None = None,
    donor: Path | None = None,
    num_atoms: int = 16,
    notes: Counter[str] | None = None,
) -> torch.Tensor:
    """Combine base rows as their vectors combine to the new piece's vector.

    Args:
        base_VD: Base rows of one matrix.
        added: The new pieces.
        role: Handed to `mean` for pieces without a vector.
        seed: Handed on likewise.
        auxiliary_VA: A vector for each extended id; zeros where there is none.
        donor: Folder of a model that knows the new pieces; used instead of `auxiliary_VA`.
        num_atoms: k, base pieces of a combination. The paper takes 64 in spaces of thousands of
            dimensions; k must stay well below A, or coefficients grow large.
        notes: Gets how many pieces took the mean instead.

    Returns:
        Rows (N, D), float32.

    Raises:
        UsageError: Neither a space nor a donor is given.
        InputError: Vectors or donor do not fit the tokenizer.
    """
    if donor is not None:
        vectors_VA = torch.from_numpy(donor_vectors(donor, added))
    elif auxiliary_VA is not None:
        vectors_VA = torch.nn.functional.normalize(torch.from_numpy(auxiliary_VA), dim=1)
    else:
        raise UsageError(
            "method 'omp': neither auxiliary vectors nor a donor model.",
            effect="There would be no space to find neighbours in.",
            way_out="Give a token folder of the extended tokenizer, or a donor's folder.",
        )
    known = has_vector(vectors_VA.numpy(), added)
    atoms = np.flatnonzero(known[: added.num_base])
    wanted = np.flatnonzero(known[added.num_base :])
    atoms_KA, rows_KD = vectors_VA[atoms], base_VD[atoms].float()
    rows_ND = mean_rows(base_VD, added, role, seed).clone()
    for start in range(0, len(wanted), _BLOCK):
        block = wanted[start : start + _BLOCK]
        places, weights = pursue(vectors_VA[added.num_base + block], atoms_KA, num_atoms)
        rows_ND[block] = torch.einsum("bk,bkd->bd", weights, rows_KD[places])
    note_fallback(notes, len(added) - len(wanted))
    return rows_ND


def pursue(
    targets_BA: torch.Tensor, atoms_KA: torch.Tensor, num_atoms: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Approximate each target by at most `num_atoms` atoms.

    Returns:
        Places of the atoms (B, k) and their coefficients (B, k), 0 where fewer are needed.
    """
    count = min(num_atoms, *atoms_KA.shape)
    (size, width), rest_BA = targets_BA.shape, targets_BA.clone()
    unit_KA = atoms_KA / atoms_KA.norm(dim=1, keepdim=True).clamp_min(1e-12)
    basis_BkA = targets_BA.new_zeros((size, count, width))
    upper_Bkk = torch.eye(count).repeat(size, 1, 1)
    fitted_Bk = targets_BA.new_zeros((size, count))
    places_Bk = torch.zeros((size, count), dtype=torch.long)
    length_B = targets_BA.norm(dim=1)
    for step in range(count):
        along_BK = (rest_BA @ unit_KA.t()).abs()
        along_BK.scatter_(1, places_Bk[:, :step], -1.0)
        place_B = along_BK.argmax(dim=1)
        atom_BA = atoms_KA[place_B]
        fresh_BA = atom_BA
        shares_Bk = targets_BA.new_zeros((size, count))
        for _ in range(2):  # once more, for what rounding left
            part_Bk = torch.einsum("bka,ba->bk", basis_BkA, fresh_BA)
            fresh_BA = fresh_BA - torch.einsum("bk,bka->ba", part_Bk, basis_BkA)
            shares_Bk = shares_Bk + part_Bk
        norm_B = fresh_BA.norm(dim=1)
        goes_on_B = (rest_BA.norm(dim=1) > _TOLERANCE * length_B) & (
            norm_B > _TOLERANCE * atom_BA.norm(dim=1)
        )
        unit_BA = torch.where(goes_on_B[:, None], fresh_BA / norm_B[:, None].clamp_min(1e-12), 0)
        basis_BkA[:, step] = unit_BA
        upper_Bkk[:, :step, step] = torch.where(goes_on_B[:, None], shares_Bk[:, :step], 0)
        upper_Bkk[:, step, step] = torch.where(goes_on_B, norm_B, 1)
        fitted_Bk[:, step] = (unit_BA * targets_BA).sum(dim=1)
        places_Bk[:, step] = torch.where(goes_on_B, place_B, places_Bk[:, 0])
        rest_BA = rest_BA - (unit_BA * rest_BA).sum(dim=1, keepdim=True) * unit_BA
    weights = torch.linalg.solve_triangular(upper_Bkk, fitted_Bk[:, :, None], upper=True)
    return places_Bk, weights.squeeze(2)


def donor_vectors(donor: Path, added: Added) -> npt.NDArray[np.float32]:
    """Give the donor's input rows for every extended id: pieces are matched by their bytes.

    A new piece that the donor has not takes the mean of the donor's rows for its text. A base
    piece that it has not, and a new one that it cannot write, has none: zeros.

    Raises:
        InputError: The donor's folder cannot be read, or shares no piece with the base.
    """
    from ..matrices import find_matrices
    from ..models import ModelFolder

    tokenizer, folder = read_base(str(donor)), ModelFolder(donor)
    donor_rows = folder.tensor(find_matrices(folder).input_name).float()
    _warn_of_digits(tokenizer, added)
    id_of = {
        data: id
        for id in range(min(tokenizer.size, len(donor_rows)))
        if (data := tokenizer.piece_bytes(id)) and tokenizer.is_normal(id)
    }
    vectors_VA = np.zeros((added.num_extended, donor_rows.shape[1]), np.float32)
    absent: list[int] = []
    for id, data in enumerate([*added.base_pieces, *added.pieces]):
        if data in id_of:
            vectors_VA[id] = donor_rows[id_of[data]]
        elif id >= added.num_base and data:
            absent.append(id)
    if not vectors_VA[: added.num_base].any():
        raise InputError(
            f"{donor}: none of the donor's pieces is a piece of the base.",
            effect="New rows would have no base rows to be combined of.",
            way_out="Choose a donor whose vocabulary covers the base's languages too.",
        )
    for id in absent:
        ids = _write(tokenizer, added.pieces[id - added.num_base])
        if ids:
            vectors_VA[id] = donor_rows[ids].mean(dim=0)
    return vectors_VA


def longest_number(pieces: list[bytes]) -> int:
    """Give the most digits that one piece holds: 1 where numbers are split into digits."""
    return max((len(data) for data in pieces if re.fullmatch(rb"[0-9]+", data)), default=0)


def _warn_of_digits(tokenizer: BaseTokenizer, added: Added) -> None:
    donor_digits = longest_number([tokenizer.piece_bytes(id) for id in range(tokenizer.size)])
    base_digits = longest_number(added.base_pieces)
    if donor_digits != base_digits:
        _log.warning(
            "omp: the donor writes up to %d digits as one piece, the base up to %d. Arithmetic "
            "suffered in the paper where the two differ (GSM8K -74 to -79%%); choose another "
            "donor if numbers matter.",
            donor_digits,
            base_digits,
        )


def _write(tokenizer: BaseTokenizer, data: bytes) -> list[int]:
    """Ids of a piece's text without a prefix; none where it is no text."""
    try:
        ids = tokenizer.encode_batch([data.decode()])[0]
    except UnicodeDecodeError:
        return []
    if ids and tokenizer.piece_bytes(ids[0]) == b" " and not data.startswith(b" "):
        ids = ids[1:]
    return ids if b"".join(map(tokenizer.piece_bytes, ids)) == data else []
