"""What stands beside a tokenizer: roles of special tokens, chat template, added tokens.

Carried over from the base's folder, but for the class: transformers' own classes rebuild parts of
the tokenizer as they think it should be (its Qwen2Tokenizer makes another pre-tokenizer), and
PreTrainedTokenizerFast takes `tokenizer.json` as it is.

Tokens that a folder adds to its model by configuration alone (a `<pad>` at 32000) are read here,
too: they own ids, so new pieces must come after them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from .forms import Forms

__all__ = [
    "extra_specials",
    "load_json",
    "make_config",
    "named_tokens",
    "read_template",
    "special_roles",
    "template",
]

_ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
_DROPPED = (
    "added_tokens_decoder",
    "auto_map",  # would load code of the repository
    "backend",
    "merges_file",
    "name_or_path",
    "sp_model_kwargs",
    "special_tokens_map_file",
    "tokenizer_file",
    "tokenizer_class",
    "vocab_file",
)
"""Keys that belong to another class, or name files of another place."""
_TEMPLATE = "chat_template.jinja"
_WAY_OUT = "Name the tokenizer file itself instead of its folder, to leave its configs aside."


def make_config(
    base: Mapping[str, Any], ours: Mapping[str, Any], added: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Give the content of `tokenizer_config.json`.

    Args:
        base: The base's own; empty where it has none.
        ours: What a tokenizer of its kind has; the base's own values go before.
        added: `added_tokens` of the extended `tokenizer.json`.
    """
    decoder = {
        str(token["id"]): {key: value for key, value in token.items() if key != "id"}
        for token in added
    }
    kept = {key: value for key, value in base.items() if key not in _DROPPED}
    return {
        **ours,
        **kept,
        "tokenizer_class": "PreTrainedTokenizerFast",
        "added_tokens_decoder": decoder,
    }


def special_roles(config: Mapping[str, Any]) -> dict[str, str]:
    """Give the content of `special_tokens_map.json`: role to token."""
    named = {f"{role}_token": _text(config.get(f"{role}_token")) for role in _ROLES}
    return {role: token for role, token in named.items() if token}


def named_tokens(config: Mapping[str, Any]) -> list[str]:
    """Give every special token that a config names, in whatever role."""
    named = list(special_roles(config).values())
    for key in ("additional_special_tokens", "extra_special_tokens"):
        tokens = config.get(key) or []
        named.extend(map(_text, tokens.values() if isinstance(tokens, Mapping) else tokens))
    return list(dict.fromkeys(token for token in named if token))


def template(pieces: Sequence[str], bos_id: int | None, eos_id: int | None) -> dict[str, Any]:
    """Give the `post_processor` that puts BOS before and EOS behind a text, where there are any."""
    named = {pieces[id]: id for id in (bos_id, eos_id) if id is not None}

    def around(sequence: str, type_id: int) -> list[dict[str, Any]]:
        parts: list[dict[str, Any]] = [{"Sequence": {"id": sequence, "type_id": type_id}}]
        if bos_id is not None:
            parts.insert(0, {"SpecialToken": {"id": pieces[bos_id], "type_id": type_id}})
        if eos_id is not None:
            parts.append({"SpecialToken": {"id": pieces[eos_id], "type_id": type_id}})
        return parts

    return {
        "type": "TemplateProcessing",
        "single": around("A", 0),
        "pair": around("A", 0) + around("B", 1),
        "special_tokens": {
            token: {"id": token, "ids": [id], "tokens": [token]} for token, id in named.items()
        },
    }


def read_template(forms: Forms) -> bytes | None:
    """Give the file of the chat template, where there is one."""
    path = forms.folder / _TEMPLATE if forms.folder else None
    return path.read_bytes() if path is not None and path.is_file() else None


def extra_specials(forms: Forms) -> list[str]:
    """Give the special tokens that a folder adds behind its model, in the order of their ids.

    Raises:
        InputError: An added token is ordinary vocabulary, calls an id of the model something else,
            or leaves ids free between the model and itself.
    """
    found: dict[int, str] = {}
    try:
        added = sorted(_added_tokens(forms).items())
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{forms.folder}: its configs list added tokens in a way that cannot be read: "
            f"{type(error).__name__} {error}.",
            way_out=_WAY_OUT,
        ) from None
    for id, (content, is_special) in added:
        if id < forms.base.size:
            if forms.base.piece(id) != content:
                raise InputError(
                    f"{forms.name}: its configs call id {id} {content!r}, its tokenizer calls it "
                    f"{forms.base.piece(id)!r}.",
                    effect="Libraries would read different tokens out of one id.",
                    way_out=_WAY_OUT,
                )
            continue
        if not is_special:
            raise InputError(
                f"{forms.name}: its configs add {content!r} (id {id}) as ordinary vocabulary.",
                effect="Added tokens are cut out of text before anything merges, whatever their "
                "neighbours; no merge rule can grow out of them, and spaces around them move.",
                way_out=_WAY_OUT,
            )
        found[id] = content
    for wanted, id in enumerate(sorted(found), forms.base.size):
        if id != wanted:
            raise InputError(
                f"{forms.name}: its configs add {found[id]!r} at id {id}; id {wanted} is free.",
                effect="SentencePiece numbers pieces without gaps; the token would move.",
                way_out=_WAY_OUT,
            )
    return [found[id] for id in sorted(found)]


def _added_tokens(forms: Forms) -> dict[int, tuple[str, bool]]:
    """Give id -> (token, is it special?) of everything that configs add."""
    if forms.folder is None:
        return {}
    special = set(named_tokens(forms.config))
    found: dict[int, tuple[str, bool]] = {}
    legacy = forms.folder / "added_tokens.json"
    if legacy.is_file():
        for content, id in load_json(legacy).items():
            found[int(id)] = (content, content in special)
    fast = load_json(forms.fast_file) if forms.fast_file else {}
    for token in fast.get("added_tokens") or []:
        found[int(token["id"])] = (token["content"], bool(token["special"]))
    for id, token in (forms.config.get("added_tokens_decoder") or {}).items():
        found[int(id)] = (token["content"], bool(token.get("special")))
    return found


def load_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        InputError: It is none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: not JSON: {error}.", way_out="Fetch it again.") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a JSON object.", way_out="Fetch it again.")
    return content


def _text(token: Any) -> str:
    """Give the text of a token that a config names: text itself, or an object with it."""
    return str(token["content"]) if isinstance(token, Mapping) else str(token or "")
