"""The tokenizer as transformers loads it: same ids, before and after it is saved.

transformers may rebuild parts of a tokenizer by the class that its config names, and number added
tokens anew when a saved folder is read again. Both are tried here. Code of the folder is not run.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..basetypes import Int32
from ..errors import VerifyError
from .added import Added, added_specials
from .forms import Forms
from .outcome import Check, Figure, State, cut_examples
from .parity import Form

__all__ = [
    "auto_form",
    "check_added_tokens",
    "check_special_ids",
    "load_auto",
    "renumbered",
    "special_ids",
]

_MANY = 64
"""Non-special added tokens that are taken for ordinary vocabulary: markers are fewer."""
_MOVED = (
    "A model's rows are found by id: a token that moves reads another row. Write added tokens into "
    "the model's vocabulary at their ids, too, and name tokenizer_class PreTrainedTokenizerFast."
)


def load_auto(folder: Path) -> Any:
    """Load a folder as transformers does; literal special tokens stay text.

    Raises:
        VerifyError: transformers cannot load it.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False, split_special_tokens=True
        )
    except Exception as error:  # each class raises what it likes
        raise VerifyError(
            f"{folder}: transformers cannot load it: {type(error).__name__}: "
            f"{str(error).strip()[:300]}.",
            way_out="Take tokenizer_class PreTrainedTokenizerFast, which takes tokenizer.json.",
        ) from None


def auto_form(loaded: Any, most: int) -> Form:
    """Give what was loaded as a form, for the first `most` texts of each source."""

    def encode(texts: Sequence[str]) -> Sequence[Sequence[int] | Int32]:
        if not texts:
            return []
        found = loaded(list(texts), add_special_tokens=False, split_special_tokens=True)
        return list(found["input_ids"])

    return Form("AutoTokenizer", encode, most=most)


def special_ids(forms: Forms) -> dict[str, int]:
    """Give special and added tokens of the tokenizer's files, and their ids."""
    found = dict(_added_tokens(forms))
    if forms.model is not None:
        found |= {
            piece: id
            for id, piece in enumerate(forms.model.pieces)
            if not forms.model.piece_bytes(id)
        }
    return found


def renumbered(forms: Forms) -> list[str]:
    """List the tokens of `tokenizer.json` that `tokenizers` gives other ids than the file does.

    It numbers added tokens from the size of the model's vocabulary on, whatever the file says:
    pieces that were appended behind the special block push the block away.
    """
    if forms.fast_file is None:
        return []
    from tokenizers import Tokenizer

    loaded = Tokenizer.from_str(forms.fast_file.read_text(encoding="utf-8"))
    return _moved(dict(_added_tokens(forms)), loaded.get_vocab())


def _added_tokens(forms: Forms, special: bool | None = None) -> list[tuple[str, int]]:
    if forms.fast_file is None:
        return []
    spec = json.loads(forms.fast_file.read_text(encoding="utf-8"))
    return [
        (token["content"], token["id"])
        for token in spec.get("added_tokens") or []
        if special is None or bool(token.get("special")) is special
    ]


def check_special_ids(forms: Forms, loaded: Any) -> Check:
    """Compare ids in the files with those of the loaded tokenizer, and of it saved and reloaded.

    Args:
        forms: The tokenizer's files.
        loaded: What `load_auto` gave for them; the error if it gave none; None: not tried.
    """
    if loaded is None:
        return _check_without_config(forms)
    if isinstance(loaded, VerifyError):
        return Check("special ids", "differs", loaded.what, notes=[loaded.way_out])
    expected = special_ids(forms)
    with tempfile.TemporaryDirectory() as folder:
        loaded.save_pretrained(folder)
        try:
            again = load_auto(Path(folder))
        except VerifyError as error:
            name = str(folder)
            return Check("special ids", "differs", str(error).replace(name, "saved again"))
    vocabularies = {"loaded": loaded.get_vocab(), "saved and loaded again": again.get_vocab()}
    moved = {name: _moved(expected, vocab) for name, vocab in vocabularies.items()}
    whole = {forms.base.piece(id): id for id in range(forms.base.size) if forms.base.piece(id)}
    others = {name: _moved(whole, vocab) for name, vocab in vocabularies.items()}
    figures: dict[str, Figure] = {"special and added tokens": len(expected)}
    figures |= {f"moved when {name}": len(lines) for name, lines in moved.items()}
    figures |= {f"all pieces moved when {name}": len(lines) for name, lines in others.items()}
    figures["class"] = type(loaded).__name__
    if not any(moved.values()) and not any(others.values()):
        text = f"{len(expected):,} special and added tokens keep their ids, saved and loaded again"
        return Check("special ids", "ok", text, figures)
    examples = [
        f"{name}: {line}"
        for name in vocabularies
        for line in [*moved[name], *[x for x in others[name] if x not in moved[name]]][:8]
    ]
    text = ", ".join(
        f"{len(moved[n]):,} special and {len(others[n]):,} of all pieces moved when {n}"
        for n in vocabularies
    )
    return Check("special ids", "differs", text, figures, examples, [_MOVED])


def _check_without_config(forms: Forms) -> Check:
    """Without a config only `tokenizers` can be asked."""
    why = "no tokenizer_config.json beside it: transformers would have to guess a class"
    if forms.fast_file is None:
        return Check("special ids", "skipped", why)
    lines, expected = renumbered(forms), special_ids(forms)
    figures: dict[str, Figure] = {
        "special and added tokens": len(expected),
        "moved when loaded by tokenizers": len(lines),
    }
    if not lines:
        text = f"tokenizers gives {len(expected):,} special and added tokens the file's ids; {why}"
        return Check("special ids", "ok", text, figures)
    text = f"{len(lines):,} special and added tokens moved when loaded by tokenizers"
    return Check("special ids", "differs", text, figures, lines[:8], [_MOVED])


def _moved(expected: Mapping[str, int], vocab: Mapping[str, int]) -> list[str]:
    return [
        f"{piece!r} has id {vocab.get(piece)}; in the file {id}"
        for piece, id in sorted(expected.items(), key=lambda item: item[1])
        if vocab.get(piece) != id
    ]


def check_added_tokens(forms: Forms, base: Forms | None, added: Sequence[Added]) -> Check:
    """Judge: vocabulary that is added as tokens beside the model is no vocabulary.

    Added tokens are searched for in the text before anything else: they swallow parts of words
    and their spaces, slow down loading by the thousand, and no rule leads to them. And a special
    token that plain text becomes is no special token.

    Args:
        forms: The tokenizer.
        base: Its base, whose own added tokens do not count; None: it is not known.
        added: Added pieces that text can become; those read as they stand are such, too.
    """
    if any(a.special for a in added):
        return _read_from_text(added)
    own = dict(_added_tokens(base, special=False)) if base else {}
    found = [piece for piece, _ in _added_tokens(forms, special=False) if piece not in own]
    found += [a.piece for a in added if a.stands and a.piece not in found]
    size = base.base.size if base else forms.base.size
    specials = [piece for _, piece in added_specials(forms.base, size)]
    specials = [piece for piece in specials if piece]
    figures = {"ordinary added tokens": len(found), "special and padding pieces": len(specials)}
    notes = [f"Special and padding pieces added: {cut_examples(specials)}."] if specials else []
    if not found:
        text = f"no vocabulary among them; {len(specials):,} special or padding pieces added"
        return Check("added tokens", "ok", text, figures, notes=notes)
    notes.append(
        "Such tokens are cut out of the text before the model's rules: they take parts of words, "
        "swallow or insert spaces, and thousands of them make loading slow. Add pieces with merge "
        "rules instead: lingraft tokenizer extend."
    )
    text = f"{len(found):,} pieces are added tokens, read as they stand, and not special"
    state: State = "differs" if len(found) > _MANY else "told"
    return Check("added tokens", state, text, figures, [cut_examples(found, 20)], notes)


def _read_from_text(added: Sequence[Added]) -> Check:
    found = [a.piece for a in added if a.special]
    what = "special token is" if len(found) == 1 else "special tokens are"
    return Check(
        "added tokens",
        "differs",
        f"{len(found):,} {what} made of plain text",
        {"special tokens made of plain text": len(found)},
        [cut_examples(found, 20)],
        [
            "A merge rule makes the token, or its text is looked up whole in the vocabulary: what "
            "anybody writes could end a turn or a document. Give it a text that the tokenizer "
            "cuts, and no rule."
        ],
    )
