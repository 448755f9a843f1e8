"""What the graft did: base, expanded and trained model on the same text and the same questions.

Each model reads with its own tokenizer, so only figures that do not depend on tokens are
compared: bits per byte, and tokens per character beside it. Continuations of the same prompts
stand side by side, for the eye. Benchmarks are the lm-evaluation-harness's.

    bits, bitscommand, reading   bits per byte of any text; `lingraft bpb`
    intervals, newpieces         how sure a difference is; what became of the added pieces
    sampling, continuing, sidebyside   continuations; `lingraft generate`
    chatting                     `lingraft chat`
    plans, placing, loading, fourbit   models, loaded in one way for all of these
    kept                         results of a killed call
    suites, localdata, taskfolder      `lingraft eval`: which benchmarks, and their rows from files
    harness, backends, prefixes, answering, fitting    models asked by the harness, answers kept
    evaluating, items, compare, summing, tables        all of it in order; answers compared, shown
    stage, tally                 the recipe's stage

`bits_per_byte` and `generate` are the commands of these names, `evaluate_models` is `eval`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bitscommand import bits_per_byte
    from .continuing import generate
    from .evaluating import EvalPlan, EvalResult, evaluate_models

__all__ = ["EvalPlan", "EvalResult", "bits_per_byte", "evaluate_models", "generate"]

_HOMES = {
    "EvalPlan": "evaluating",
    "EvalResult": "evaluating",
    "bits_per_byte": "bitscommand",
    "evaluate_models": "evaluating",
    "generate": "continuing",
}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for: recipes only need the settings."""
    if name not in _HOMES:
        raise AttributeError(f"module 'lingraft.evals' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
