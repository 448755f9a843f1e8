"""A recipe's training by one process, or by many that torchrun started.

The first process prepares everything before the training stage, as a run does, while the others
wait; then all of them train, and the first one writes. A process on its own does the same.
"""

from __future__ import annotations

from collections.abc import Sequence

from .manifest import Identity
from .progress import Reporter, SilentReporter
from .recipe import Recipe
from .runner import RunResult, run_recipe
from .stages import find_stage
from .store import Draft, open_artefact

__all__ = ["train_recipe"]


def train_recipe(
    recipe: Recipe,
    *,
    source: str = "recipe",
    redo: Sequence[str] = (),
    reporter: Reporter | None = None,
) -> RunResult | None:
    """Do a recipe through its training stage.

    Args:
        recipe: The run.
        source: Name of the recipe's file, for messages.
        redo: Stages to do again.
        reporter: Where the first process's progress goes.

    Returns:
        What was done, in the first process; None in the others.

    Raises:
        LingraftError: See `run_recipe`.
    """
    import torch

    from .ranks import join_ranks, local_rank

    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", local_rank() % torch.cuda.device_count())
    with join_ranks(device) as ranks:
        if ranks.is_first:
            try:
                return run_recipe(recipe, source=source, to="train", redo=redo, reporter=reporter)
            finally:
                ranks.cancel()  # where training never began: the others shall not wait for it
        if ranks.await_begin():
            _follow(recipe)
        return None


def _follow(recipe: Recipe) -> None:
    """Train as one of the others: with the first one's inputs and draft, writing nothing."""
    stage, folder = find_stage("train"), recipe.run_folder
    inputs = {name: open_artefact(folder / find_stage(name).folder) for name in stage.takes}
    identity = Identity(
        stage="train", stage_version=stage.version, settings={}, seed=recipe.run.seed, inputs={}
    )
    final = folder / stage.folder
    # The first process has opened this draft by now, as `store.open_draft` names it.
    draft = Draft(final.with_name(f".draft-{final.name}"), final, identity, SilentReporter())
    stage.load()(recipe.section("train"), inputs, draft)
