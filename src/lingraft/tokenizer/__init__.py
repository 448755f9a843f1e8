"""The extended tokenizer, and the proof that it is one.

Every added rule ranks below every rule of the base, so the base's own encoding runs to its end
first and added rules only join what it left: the extended encoding of any text is the base's
with some neighbours joined. Text without the added characters is untouched by that, bit for
bit. SentencePiece and the fast tokenizer agree because added scores are real, descend, and stay
distinct in float32 (the widely copied recipe gives every added piece score 0).

    forms                             one tokenizer: tokenizer.model, tokenizer.json, configs
    listing, donor                    which pieces: a list, or another tokenizer's
    piecerules, byterules             pieces -> merge rules, for either family of bases
    assembling, configs, extending    rules -> files; the verb `extend`
    added, kept, priority, scope      what was added; the base is kept; order and reach of rules
    rules, ties                       merge rules of either file alike; why equal scores disagree
    parity, own_forms, differences    all forms give the same ids; where two encodings part
    reach, replay, hard               pieces never produced; corpora; texts that are hard
    loading                           as transformers loads and saves it
    outcome, certificate, finding     results of checks, what they prove; the recorded base
    completing                        a base that lacks bytes beside a tokenizer that has them
    verifying, check                  the verb `verify`; the same inside a recipe
    packing                           the verb `encode`
    naming, efficiency, efficiency_text, chart, comparing    the verb `compare`
    showing                           the verb `show`

`lingraft.tokenizer.extend`, `.verify`, `.encode`, `.compare` and `.show` are the command line's
`lingraft tokenizer extend` and so on.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .comparing import CompareResult, compare
    from .extending import ExtendResult, extend
    from .packing import EncodeResult, encode
    from .showing import ShowResult, show
    from .verifying import VerifyResult, verify

__all__ = [
    "CompareResult",
    "EncodeResult",
    "ExtendResult",
    "ShowResult",
    "VerifyResult",
    "compare",
    "encode",
    "extend",
    "show",
    "verify",
]

_PLACES = {
    "CompareResult": "comparing",
    "EncodeResult": "packing",
    "ExtendResult": "extending",
    "ShowResult": "showing",
    "VerifyResult": "verifying",
    "compare": "comparing",
    "encode": "packing",
    "extend": "extending",
    "show": "showing",
    "verify": "verifying",
}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for: recipes only need the settings."""
    if name not in _PLACES:
        raise AttributeError(f"module 'lingraft.tokenizer' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f".{_PLACES[name]}", __name__), name)
