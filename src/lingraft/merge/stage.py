"""Merge the trained adapter into the expanded model, shard by shard, and prove it."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import UsageError
from ..models import ModelFolder
from ..settings import StageSettings
from ..store import Artefact, Draft
from .adapter import Adapter
from .merging import Asked, merge_into, plan_merge
from .settings import MergeFacts, MergeSettings

__all__ = ["run"]


def run(settings: StageSettings, inputs: Mapping[str, Artefact], draft: Draft) -> MergeFacts:
    """Write the merged model folder.

    Raises:
        InputError: The adapter does not fit the model.
        UsageError: The NF4 body is asked for, but training did not see one.
        VerifyError: The merged model does not say what base and adapter say.
    """
    assert isinstance(settings, MergeSettings), "merge.run got another stage's settings"
    trained = inputs["train"]
    quantize = trained.manifest.identity.settings.get("quantize")
    if settings.body == "nf4" and quantize != "nf4":
        raise UsageError(
            f'merge.body = "nf4", but training ran with train.quantize = "{quantize}".',
            effect="The adapter would be added to weights that it was not trained beside.",
            way_out='Use merge.body = "original".',
        )
    asked = Asked(
        settings.body,
        settings.dtype,
        settings.max_shard_size,
        both_bodies=quantize == "nf4",
    )
    model = ModelFolder(inputs["embed"].path)
    adapter = Adapter(trained.file("adapter/adapter_config.json").parent)
    adapter.check()
    return merge_into(model, adapter, asked, draft, plan_merge(model, adapter, asked))
