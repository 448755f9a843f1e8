"""Where a run's packed body comes from: read from a cache, or packed and kept for the next start.

A run that is killed, or that SLURM takes from its machine, starts again with the packing of the
whole body. So a large body is kept with the run's checkpoints, and goes with them when the stage is
done; in a folder that the recipe names, it stays, and runs of the same expanded model share it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from ..models import ModelFolder
from ..nf4 import Packed
from ..packedcache import Pack, body_entries, open_cache, pack_anew
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
    read it. Where they cannot, as on a machine that does not see the folder, they pack anew.

    Args:
        settings: `quantize` and `packed_cache` are used.
        files: The expanded model.
        device: Where it is built.
        draft: Of the stage.
        ranks: The processes that train together.
        make: Builds the model from what gives packed matrices.
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
    if ranks.is_first:
        built = cache.build(wanted)
        ranks.wait()
        return built
    ranks.wait()
    return cache.build(wanted, writes=False)


def _place(settings: TrainSettings, draft: Draft, is_large: bool) -> Path | None:
    if settings.packed_cache == "none":
        return None
    if settings.packed_cache == "auto":
        return draft.scratch if is_large else None
    return Path(settings.packed_cache).expanduser()
