"""Where a run's packed body comes from: read from a cache, or packed and kept for the next start.

A run that is killed, or that SLURM takes from its machine, starts again with the packing of the
whole body. So a large body is kept with the run's checkpoints, and goes with them when the stage is
done; in a folder that the recipe names, it stays, and runs of the same expanded model share it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from ..errors import InputError
from ..models import ModelFolder, TensorEntry
from ..nf4 import Packed, packed_bytes
from ..packedcache import Pack, PackedCache, body_entries, open_cache, pack_anew
from ..ranks import Ranks
from ..store import Draft
from .build import Built
from .settings import TrainSettings

__all__ = ["WORTH_ITEMS", "build_packed"]

WORTH_ITEMS = 10**9
"""A body of fewer numbers is packed in seconds: not kept unless a folder is named."""


def build_packed(
    settings: TrainSettings,
    files: ModelFolder,
    device: torch.device,
    draft: Draft,
    ranks: Ranks,
    make: Callable[[Pack], Built],
) -> Built:
    """Have the model built, with the packed body from where the settings say.

    Of several processes the first one packs and keeps the body while the others wait, and then
    read it; where they cannot, as on a machine that does not see the folder, they pack anew. What
    is there already all read at once; where that is damaged each packs, and the first one keeps.

    Args:
        settings: `quantize` and `packed_cache` are used.
        files: The expanded model.
        device: Where it is built.
        draft: Of the stage.
        ranks: The processes that train together.
        make: Builds the model from what gives packed matrices.

    Raises:
        InputError: The first process could not build it, and this one waited for it.
    """
    if settings.quantize == "none":
        return make(pack_anew)
    body = body_entries(files)
    is_large = sum(entry.num_items for entry in body) >= WORTH_ITEMS

    def shown(pack: Pack) -> Built:
        with draft.progress("packed body", len(body), "matrices") as progress:

            def told(name: str, read: Callable[[], torch.Tensor]) -> Packed:
                packed = pack(name, read)
                progress.advance()
                return packed

            return make(told)

    wanted = shown if is_large else make
    place = _place(settings, draft, is_large)
    if place is None:
        return wanted(pack_anew)
    cache = open_cache(place, files, device, draft.note)
    if not ranks.is_first:
        return _build_after(cache, ranks, wanted)
    is_there = settings.packed_cache != "auto" or cache.stamp() is not None
    return _build_first(cache, ranks, wanted, lambda: is_there or _has_room(draft, body))


def _build_first(
    cache: PackedCache,
    ranks: Ranks,
    wanted: Callable[[Pack], Built],
    has_room: Callable[[], bool],
) -> Built:
    """Build, and share whether what is packed is kept before it is, and at the end if it was."""
    shared: list[bool] = []

    def decided(keeps: bool) -> None:
        if not shared:  # a kept body that turns out to be damaged is made again: nobody waits
            shared.append(ranks.sum_number(keeps) > 0)

    try:
        built = cache.build(wanted, writes=has_room(), decided=decided)
    except BaseException:
        decided(True)
        if shared[0]:
            ranks.sum_number(1)  # or the others would wait for it without end
        raise
    if shared[0]:
        ranks.sum_number(0)
    return built


def _build_after(cache: PackedCache, ranks: Ranks, wanted: Callable[[Pack], Built]) -> Built:
    """Build at once, or when the first process has kept what it packs."""
    if ranks.sum_number(0) and ranks.sum_number(0):
        raise InputError(
            "The first process could not build the model.", way_out="Its own message says why."
        )
    return cache.build(wanted, writes=False)


def _place(settings: TrainSettings, draft: Draft, is_large: bool) -> Path | None:
    if settings.packed_cache == "none":
        return None
    if settings.packed_cache == "auto":
        return draft.scratch if is_large else None
    return Path(settings.packed_cache).expanduser()


def _has_room(draft: Draft, body: Sequence[TensorEntry]) -> bool:
    """Whether checkpoints, which matter more, have at least as much room as the body takes."""
    size_bytes = sum(packed_bytes(entry.num_items) for entry in body)
    free_bytes = shutil.disk_usage(draft.path).free
    if free_bytes >= 2 * size_bytes:
        return True
    draft.note(
        f"the packed body ({size_bytes / 1e9:.1f} GB) is not kept, and the next start packs anew: "
        f"{free_bytes / 1e9:.1f} GB are free, and checkpoints need room"
    )
    return False
