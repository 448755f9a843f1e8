"""Score three models on held-out text, and let them continue prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ..bases import read_base
from ..documents import read_documents
from ..encoder import FastEncoder
from ..models import load_causal_lm
from ..progress import Progress
from ..scoring import Score, score_docs
from ..settings import StageSettings
from ..special import find_bounds
from ..store import Artefact, Draft, write_json
from .intervals import bits_difference
from .sampling import Sampling, continue_prompt, seed_of
from .settings import BpbDifference, EvalsFacts, EvalsSettings, ModelScore, Sample
from .tally import Tally, pool

__all__ = ["run"]

_MODELS = {"base": "base", "expanded": "embed", "trained": "merge"}
"""Name in the scores -> stage that made it."""

_RESAMPLES = 2_000
_Texts = Mapping[str, Sequence[str]]


def run(settings: StageSettings, inputs: Mapping[str, Artefact], draft: Draft) -> EvalsFacts:
    """Write `scores.json` and `samples.json`.

    Raises:
        InputError: A validation split holds no text, or a model folder cannot be loaded.
    """
    assert isinstance(settings, EvalsSettings), "evals.run got another stage's settings"
    sets = inputs["corpus"].facts["sets"]
    names = settings.sets or list(sets)
    texts = {name: _read(inputs["corpus"], name, settings.max_docs) for name in names}
    languages = {name: str(sets[name]["language"]) for name in names}
    tallies: dict[str, dict[str, Tally]] = {}
    nats: dict[str, dict[str, list[float]]] = {}
    samples: list[Sample] = []
    total_docs = sum(map(len, texts.values()))
    for model, stage in _MODELS.items():
        folder = inputs[stage].path
        loaded = load_causal_lm(folder)
        with draft.progress(f"score {model}", total_docs, "docs") as progress:
            scores = _score(loaded, folder, texts, settings.max_tokens, progress)
        tallies[model] = {name: _tally(score, texts[name]) for name, score in scores.items()}
        nats[model] = {name: list(score.doc_nats) for name, score in scores.items()}
        samples += _continue(loaded, model, folder, settings, draft)
    by_set = _differences(nats, {name: [name] for name in names}, texts, draft.seed)
    by_language = _differences(nats, _sets_by_language(languages), texts, draft.seed)
    facts = EvalsFacts(
        scores={m: {s: t.score() for s, t in by_set.items()} for m, by_set in tallies.items()},
        languages={m: _by_language(by_set, languages) for m, by_set in tallies.items()},
        differences=by_set,
        language_differences=by_language,
        samples=samples,
    )
    content = facts.model_dump(mode="json")
    write_json(draft.path / "samples.json", content.pop("samples"))
    write_json(draft.path / "scores.json", content)
    for language in dict.fromkeys(languages.values()):
        draft.note(_headline(language, {m: s[language] for m, s in facts.languages.items()}))
    return facts


def _read(corpus: Artefact, name: str, max_docs: int) -> list[str]:
    """Documents stand in the order of a hash, so the first ones are a fair sample."""
    documents = read_documents(corpus.file(f"{name}-valid.jsonl"))
    return [document.text for document in islice(documents, max_docs)]


def _score(
    model: Any, folder: Path, texts: _Texts, max_tokens: int, progress: Progress
) -> dict[str, Score]:
    """Score every set with a model and the tokenizer of its folder."""
    bounds = find_bounds(str(folder), read_base(str(folder)))
    encoder = FastEncoder.read(folder / "tokenizer.json")
    scores: dict[str, Score] = {}
    for name, docs in texts.items():
        ids = [[bounds.begin_id, *doc, bounds.end_id] for doc in encoder.encode_batch(docs)]
        sizes = [len(doc.encode()) for doc in docs]
        name_doc = f"{folder}: set '{name}', document {{}}".format
        scores[name] = score_docs(model, ids, sizes, max_tokens, progress, name_doc=name_doc)
    return scores


def _tally(score: Score, docs: Sequence[str]) -> Tally:
    num_chars = sum(map(len, docs))
    return Tally(score.nats, len(docs), num_chars, score.size_bytes, score.total_tokens)


def _differences(
    nats: Mapping[str, Mapping[str, list[float]]],
    groups: Mapping[str, Sequence[str]],
    texts: _Texts,
    seed: int,
) -> dict[str, dict[str, BpbDifference]]:
    """Compare each model with the base on the documents of each group of sets."""
    found: dict[str, dict[str, BpbDifference]] = {}
    for model in list(nats)[1:]:
        found[model] = {}
        for group, sets in groups.items():
            base_D, own_D = (
                np.array([number for name in sets for number in nats[which][name]])
                for which in ("base", model)
            )
            sizes_D = np.array([len(doc.encode()) for name in sets for doc in texts[name]])
            difference = bits_difference(base_D, own_D, sizes_D, resamples=_RESAMPLES, seed=seed)
            found[model][group] = BpbDifference(**difference._asdict())
    return found


def _sets_by_language(languages: Mapping[str, str]) -> dict[str, list[str]]:
    return {
        language: [name for name, other in languages.items() if other == language]
        for language in dict.fromkeys(languages.values())
    }


def _continue(
    model: Any, name: str, folder: Path, settings: EvalsSettings, draft: Draft
) -> list[Sample]:
    """Continue every prompt with a model and the tokenizer of its folder."""
    from transformers import AutoTokenizer

    if not settings.prompts:
        return []
    tokenizer = AutoTokenizer.from_pretrained(folder)
    how = Sampling(settings.temperature, settings.top_p, settings.max_new_tokens)
    samples: list[Sample] = []
    with draft.progress(f"continue {name}", len(settings.prompts), "prompts") as progress:
        for prompt in settings.prompts:
            seed = seed_of(draft.seed, name, prompt)
            written = continue_prompt(model, tokenizer, prompt, how, seed=seed, name=name)
            samples.append(Sample(prompt=prompt, model=name, text=written.text))
            progress.advance(1)
    return samples


def _by_language(
    tallies: Mapping[str, Tally], languages: Mapping[str, str]
) -> dict[str, ModelScore]:
    return {
        language: pool(t for name, t in tallies.items() if languages[name] == language).score()
        for language in dict.fromkeys(languages.values())
    }


def _headline(language: str, scores: Mapping[str, ModelScore]) -> str:
    bpb = ", ".join(f"{model} {score.bpb:.3f}" for model, score in scores.items())
    base, trained = scores["base"].tokens_per_char, scores["trained"].tokens_per_char
    return f"{language}: bits per byte {bpb}; tokens per character {base:.2f} -> {trained:.2f}"
