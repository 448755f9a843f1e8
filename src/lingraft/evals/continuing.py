"""`lingraft generate`: what each model writes after the same prompts, side by side.

Each continuation has a seed of its own, made of the seed, the model and the prompt: adding a
prompt or a model changes no other text. The model stands there by its fingerprint (of its
manifest; without one of its config and its tensors' names and shapes), so a folder that is moved,
copied or renamed writes the same, and models that differ in their weights alone share a seed.
Prompts that do not fit a model's context are refused before any model writes. For a model whose
vocabulary extends the first one's it is counted how many of the tokens that it wrote are new
pieces.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError, LingraftError, UsageError
from ..folders import model_fingerprint
from ..lines import read_lines
from ..models import ModelFolder
from ..progress import Reporter, SilentReporter
from ..store import write_text
from .kept import Kept
from .keys import model_key
from .loading import Loaded, load_model
from .newpieces import Added, find_added
from .placing import context_of, labels_of, locate_model, read_tokenizer_of
from .plans import LoadPlan, check_plan
from .sampling import Sampling, continue_prompt, refuse_surrogates, seed_of
from .sidebyside import Sample, SideBySide, WrittenBy, render_html, render_json, render_markdown

__all__ = ["check_sampling", "generate", "read_prompts"]

_FORMAT = "lingraft.generate/3"
_RENDER = {".json": render_json, ".md": render_markdown, ".html": render_html}


@dataclass(frozen=True)
class _Job:
    labels: list[str]
    folders: list[Path]
    prompts: list[str]
    how: Sampling
    seed: int
    plan: LoadPlan
    added: dict[str, Added]


def generate(
    models: Sequence[str | Path],
    *,
    prompts: str | Path | Sequence[str],
    how: Sampling | None = None,
    seed: int = 17,
    plan: LoadPlan | None = None,
    out: str | Path | None = None,
    reporter: Reporter | None = None,
) -> SideBySide:
    """Let models continue prompts.

    Args:
        models: Folders, or names of the hub; the base first.
        prompts: A file of prompts, see `read_prompts`, or the prompts themselves.
        how: How tokens are chosen.
        seed: Decides every sample.
        plan: How models are loaded.
        out: File to write: .md, .html or .json; a killed call goes on where it was.
        reporter: Where progress goes.

    Raises:
        UsageError: The call does not fit together, or a device is missing.
        MissingPackageError: A library is missing.
        InputError: A prompt or model cannot be used, or a prompt is too long for a model.
    """
    teller, how, plan = reporter or SilentReporter(), how or Sampling(), plan or LoadPlan()
    path = None if out is None else Path(out).expanduser()
    render = _renderer(path)
    check_sampling(how)
    check_plan(plan)
    texts = read_prompts(prompts) if isinstance(prompts, str | Path) else list(prompts)
    if not texts:
        raise UsageError("there is no prompt; expected one or more.")
    for number, text in enumerate(texts, 1):
        refuse_surrogates(text, f"prompt {number}")
    sources = [str(model) for model in models]
    labels, folders = labels_of(sources), [locate_model(name, plan) for name in sources]
    tokenizers = [read_tokenizer_of(folder, plan) for folder in folders]
    for label, folder, tokenizer in zip(labels, folders, tokenizers, strict=True):
        _refuse_long(label, context_of(folder, plan), tokenizer, texts, how)
    job = _Job(labels, folders, texts, how, seed, plan, _grafts(labels, tokenizers))
    with Kept(path, [_FORMAT, asdict(how), seed, plan.deciding()]) as kept:
        if kept.damage:
            teller.note(kept.damage)
        if kept.num_found:
            teller.note(f"going on: {kept.num_found} continuations were there already")
        written = _write_all(job, kept, teller, is_kept=path is not None)
        table = SideBySide(texts, asdict(how), seed, written)
        if path is not None and render is not None:
            write_text(path, render(table))
    return table


def read_prompts(path: str | Path) -> list[str]:
    """Read prompts: one a line, or rows {"prompt": ...} of a .jsonl; blank lines are none.

    Raises:
        UsageError: There is no such file.
        InputError: A row holds no prompt or what is no character, or there is none at all.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise UsageError(f"--prompts {path}: no such file; expected a prompt a line, or .jsonl.")
    is_rows = path.suffix.lower() in (".jsonl", ".ndjson")
    found = []
    for line in read_lines(path):
        if line.text.strip():
            found.append(_row_prompt(line.text, f"{path}:{line.number}") if is_rows else line.text)
    if not found:
        raise InputError(f"{path}: holds no prompt.", way_out="Write one a line.")
    return found


def _row_prompt(line: str, where: str) -> str:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InputError(f"{where}: not JSON: {error}.") from None
    prompt = row.get("prompt", row.get("text")) if isinstance(row, dict) else row
    if not isinstance(prompt, str) or not prompt:
        raise InputError(
            f'{where}: no prompt; expected {{"prompt": "..."}}.',
            way_out="Mend the row or take it out.",
        )
    refuse_surrogates(prompt, where)
    return prompt


def check_sampling(how: Sampling) -> None:
    """Refuse numbers that nothing can be sampled with.

    Raises:
        UsageError: One is out of its range.
    """
    if not how.greedy and not how.temperature > 0:
        raise UsageError(
            f"--temperature {how.temperature}: expected more than 0.",
            way_out="Use --greedy for the likeliest token.",
        )
    if not how.greedy and not 0 < how.top_p <= 1:
        raise UsageError(f"--top-p {how.top_p}: expected more than 0, at most 1.")
    if how.max_new_tokens < 1:
        raise UsageError(f"--max-new-tokens {how.max_new_tokens}: expected 1 or more.")


def _renderer(path: Path | None) -> Any:
    if path is None:
        return None
    render = _RENDER.get(path.suffix.lower())
    if render is None:
        raise UsageError(f"--out {path}: expected a name that ends in {', '.join(_RENDER)}.")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"--out {path}: there is no folder {path.parent}.")
    return render


def _grafts(labels: Sequence[str], tokenizers: Sequence[Any]) -> dict[str, Added]:
    """Find the models whose vocabulary extends the first one's."""
    pairs = zip(labels[1:], tokenizers[1:], strict=True)
    found = ((label, find_added(tokenizers[0], tokenizer)) for label, tokenizer in pairs)
    return {label: added for label, added in found if added is not None}


def _write_all(job: _Job, kept: Kept, reporter: Reporter, *, is_kept: bool) -> list[WrittenBy]:
    """Let all models write; where one cannot, tell what is lost."""
    try:
        return [_write(job, number, kept, reporter) for number in range(len(job.labels))]
    except (LingraftError, KeyboardInterrupt):
        if kept.num and not is_kept:
            reporter.note(
                f"what was written is lost ({kept.num} of {len(job.labels) * len(job.prompts)} "
                "texts); with --out FILE it would be kept, and the same call would go on"
            )
        raise


def _write(job: _Job, number: int, kept: Kept, reporter: Reporter) -> WrittenBy:
    """Let one model continue every prompt; it is loaded only if a text is missing."""
    label, folder = job.labels[number], job.folders[number]
    own_key = model_key("", folder, job.plan)  # labels depend on the other models
    if label in job.added:  # new pieces are counted beside the first model's
        own_key += f" beside {model_key('', job.folders[0], job.plan)}"
    keys = [f"{own_key} {prompt}" for prompt in job.prompts]
    missing = [place for place, key in enumerate(keys) if kept.get(key) is None]
    if missing:
        loaded = load_model(str(folder), job.plan, label)
        told = model_fingerprint(ModelFolder(folder))
        with reporter.task(f"generate {label}", len(missing), "prompts") as progress:
            for place in missing:
                sample = _sample(loaded, told, job.prompts[place], job)
                kept.put(keys[place], sample | {"loaded": loaded.describe()})
                progress.advance(1)
    rows = [dict(kept.get(key)) for key in keys]
    about = [row.pop("loaded") for row in rows]
    return WrittenBy(label, about[0], label in job.added, [Sample(**row) for row in rows])


def _sample(loaded: Loaded, told: str, prompt: str, job: _Job) -> dict[str, Any]:
    seed = seed_of(job.seed, told, prompt)
    written = continue_prompt(
        loaded.model, loaded.tokenizer, prompt, job.how, seed=seed, name=loaded.name
    )
    added = job.added.get(loaded.name)
    num_added = added.share(written.ids)[0] if added is not None else 0
    return {
        "text": written.text,
        "num_tokens": len(written.ids),
        "num_added": num_added,
        "ended": written.ended,
    }


def _refuse_long(
    label: str, context: int | None, tokenizer: Any, prompts: Sequence[str], how: Sampling
) -> None:
    """Refuse prompts that leave no room in the context.

    Raises:
        InputError: One does.
    """
    if context is None:
        return
    for number, prompt in enumerate(prompts, 1):
        size = len(tokenizer(prompt)["input_ids"])
        if size + how.max_new_tokens > context:
            raise InputError(
                f"{label}: prompt {number} has {size:,} tokens; with "
                f"{how.max_new_tokens:,} more its context of {context:,} is exceeded.",
                effect="What it writes behind its context means nothing.",
                way_out="Shorten the prompt, or use a smaller --max-new-tokens.",
            )
