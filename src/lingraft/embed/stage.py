"""Expand embed_tokens and lm_head of the base model, shard by shard."""

from __future__ import annotations

from collections.abc import Mapping

from ..settings import StageSettings
from ..store import Artefact, Draft
from .expanding import Choice, expand_into
from .settings import EmbedFacts, EmbedSettings
from .sources import read_source

__all__ = ["run"]


def run(settings: StageSettings, inputs: Mapping[str, Artefact], draft: Draft) -> EmbedFacts:
    """Write the expanded model folder.

    Raises:
        InputError: The base model and its tokenizer do not belong together.
    """
    assert isinstance(settings, EmbedSettings), "embed.run got another stage's settings"
    encoded = inputs.get("encode")
    tokens = encoded.path if encoded is not None else None
    source = read_source(inputs["base"].path, inputs["tokenizer"].path, tokens=tokens)
    choice = Choice(
        settings.method,
        settings.head_method,
        settings.options,
        settings.head_options,
        settings.tie_break,
        settings.pad_to_multiple_of,
    )
    facts, _ = expand_into(source, choice, draft)
    draft.note(
        f"{facts.added_rows:,} rows added to {facts.base_rows:,}; {facts.shards_linked} of "
        f"{len(source.model.shards)} shards linked unread"
    )
    return facts
