"""What the report reads is what the stages give: their classes and the made-up run agree."""

from __future__ import annotations

from typing import Any

import pytest

from lingraft.base.settings import BaseFacts
from lingraft.corpus.settings import CorpusFacts
from lingraft.embed.settings import EmbedFacts
from lingraft.encode.settings import EncodeFacts
from lingraft.evals.settings import EvalsFacts
from lingraft.manifest import Facts
from lingraft.merge.settings import MergeFacts
from lingraft.recipe import Recipe
from lingraft.tokenizer.settings import TokenizerFacts
from lingraft.train.settings import TrainFacts, TrainSettings
from lingraft.vocab.settings import VocabFacts

FACTS: dict[str, type[Facts]] = {
    "corpus": CorpusFacts,
    "base": BaseFacts,
    "vocab": VocabFacts,
    "tokenizer": TokenizerFacts,
    "embed": EmbedFacts,
    "encode": EncodeFacts,
    "train": TrainFacts,
    "merge": MergeFacts,
    "evals": EvalsFacts,
}


@pytest.mark.parametrize("stage", sorted(FACTS))
def test_the_made_up_facts_are_of_the_stage_s_own_shape(fake_run: Any, stage: str) -> None:
    facts = FACTS[stage].model_validate(fake_run.facts[stage])
    assert facts.model_dump(mode="json") == fake_run.facts[stage]


@pytest.mark.parametrize("stage", sorted(FACTS))
def test_the_settings_that_are_read_exist(fake_run: Any, stage: str) -> None:
    section = Recipe.model_fields[stage].annotation
    assert section is not None
    known = set(section.model_fields)
    if stage == "train":  # its identity holds the sequences of a step, not their split
        known |= set(TrainSettings(mixture=["1:zh-news"]).deciding())
    assert fake_run.settings[stage].keys() <= known
