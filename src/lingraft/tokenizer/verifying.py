"""`lingraft tokenizer verify` on plain files: every check there is, on anyone's tokenizer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..basetypes import BaseTokenizer, Int32
from ..errors import UsageError, VerifyError
from ..exact import Encoder
from ..progress import Progress, Reporter, SilentReporter
from ..texts import find_texts, read_texts, tell_surrogates
from .added import Added, added_pieces, show_piece
from .beside import check_files
from .certificate import Proofs, Replay, certify, check_order, check_scope
from .completing import WholeEncoder, complete_as
from .finding import find_base, recorded_scripts, scripts_were_named
from .forms import Forms, read_forms
from .hard import HARD_TEXTS, code_points, every_code_point, texts_around
from .kept import check_kept
from .loading import auto_form, check_added_tokens, check_special_ids, load_auto
from .outcome import Check
from .own_forms import FAST, own_forms
from .parity import Decoding, Form, FormsAgree
from .priority import Priority, check_priority
from .reach import Firing, check_firing, check_reach
from .scope import Scope, find_scope, own_scripts
from .ties import explain_ties

__all__ = ["VerifyResult", "verify"]

_BATCH_CHARS = 1 << 20
_BATCH_TEXTS = 1 << 14
_AUTO_TEXTS = 500
"""Texts of each source, the first ones, on which AutoTokenizer is compared: it is slow."""
_NUM_POINTS = 0x110000 - 0x800


@dataclass(frozen=True)
class VerifyResult:
    """What was found.

    Attributes:
        tokenizer: What was verified, as it was named.
        base: Its base, as it was named or found; "" if there is none.
        checks: Every check, in a fixed order.
        certificate: What is proved and what is measured; None without a base.
        record: All of it, ready for JSON.
    """

    tokenizer: str
    base: str
    checks: tuple[Check, ...]
    certificate: Mapping[str, Any] | None
    record: Mapping[str, Any]

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.state == "differs")

    @property
    def ok(self) -> bool:
        """Whether no check failed."""
        return not self.failed


@dataclass
class _Work:
    """One verification: the tokenizers, and what counts while texts go by."""

    extended: Forms
    base: Forms | None
    whole: BaseTokenizer | None
    """The base, completed by the bytes that it lacks if the extended tokenizer is."""
    encoder: Encoder
    base_encoder: WholeEncoder | None
    added: Sequence[Added]
    scope: Scope
    forms: list[Form]
    notes: list[str]
    agree: FormsAgree
    decoding: Decoding | None
    replay: Replay | None
    """What the corpora show; `built_in`: what the hard list and its like do."""
    built_in: Replay | None
    firing: Firing
    jobs: int | None
    is_named: bool
    """Whether somebody named the scripts; else they were found from the pieces."""
    checks: list[Check] = field(default_factory=list)
    num_surrogates: int = 0
    """Halves of surrogate pairs in the corpora, each tried as U+FFFD."""

    def encode(self, encoder: Encoder | WholeEncoder, texts: Sequence[str]) -> list[Int32]:
        return encoder.encode_batch(texts, num_threads=self.jobs)


def verify(
    folder: str | Path,
    *,
    base: str | Path | None = None,
    corpus: str | Path | Sequence[str | Path] = (),
    scripts: Sequence[str] | None = None,
    text_key: str = "text",
    jobs: int | None = None,
    reporter: Reporter | None = None,
) -> VerifyResult:
    """Verify a tokenizer, and that it is its base with some neighbours joined.

    Args:
        folder: A folder, a `tokenizer.model`, a `tokenizer.json` or a hub name.
        base: What it was extended from; None: what its `extension.json` names, if that is there.
        corpus: Files, folders or patterns of texts to try it on.
        scripts: Scripts of the new language; None: those of the added pieces.
        text_key: Column of the text.
        jobs: Threads; None: one a core.
        reporter: Where progress goes.

    Raises:
        InputError: The tokenizer is of a kind that is not built of merge rules, or a file cannot
            be read.
        UsageError: There is no such place, script or file.
    """
    if jobs is not None and jobs < 1:
        raise UsageError(f"jobs {jobs}: expected 1 or more.")
    names = [corpus] if isinstance(corpus, str | Path) else list(corpus)
    files = find_texts([str(name) for name in names]) if names else []
    reporter = reporter or SilentReporter()
    extended = read_forms(str(folder))
    base_forms, why_not = find_base(extended, None if base is None else str(base))
    named = recorded_scripts(extended) if scripts is None else scripts
    is_named = scripts is not None or scripts_were_named(extended)
    work = _prepare(extended, base_forms, named, jobs, is_named)
    loaded = _load(work)
    _read_texts(work, files, text_key, reporter)
    points = _audit(work, reporter)
    certificate = _judge(work, why_not, points, files, loaded)
    record = {
        "tokenizer": str(folder),
        "base": base_forms.name if base_forms else None,
        "digest": extended.base.digest,
        "base_digest": base_forms.base.digest if base_forms else None,
        "family": extended.base.family,
        "size": extended.base.size,
        "ok": all(check.state != "differs" for check in work.checks),
        "checks": [check.record for check in work.checks],
        "certificate": certificate,
        **({"num_surrogates": work.num_surrogates} if work.num_surrogates else {}),
    }
    named_base = base_forms.name if base_forms else ""
    return VerifyResult(str(folder), named_base, tuple(work.checks), certificate, record)


def _prepare(
    extended: Forms,
    base: Forms | None,
    scripts: Sequence[str] | None,
    jobs: int | None,
    is_named: bool,
) -> _Work:
    encoder = Encoder(extended.base)
    whole = complete_as(base.base, extended.base) if base else None
    added = added_pieces(extended.base, whole.size) if whole else []
    scope = find_scope((a.text for a in added if not a.special), scripts)
    forms, notes = own_forms(extended, encoder, jobs)
    base_encoder = WholeEncoder(base.base, whole) if base and whole else None
    base_forms = own_forms(base, None, jobs)[0] if base else []
    decoding = replay = built_in = None
    if whole and base_encoder:
        decoders = [form for form in forms if form.decode]
        decoding = Decoding(decoders, base_forms[0])
        replay = Replay(whole, extended.base, scope, base_encoder.completed)
        built_in = replay.again()
    agree = FormsAgree(forms, base_forms)
    firing = Firing(extended.base.size)
    return _Work(
        extended, base, whole, encoder, base_encoder, added, scope, forms, notes, agree, decoding,
        replay, built_in, firing, jobs, is_named,
    )  # fmt: skip


def _load(work: _Work) -> Any:
    """Load the folder with transformers, and compare that form too; the reason if it does not."""
    if work.extended.folder is None or not work.extended.config:
        return None
    try:
        loaded = load_auto(work.extended.folder)
    except VerifyError as error:
        return error
    work.forms.append(auto_form(loaded, _AUTO_TEXTS))
    work.agree = FormsAgree(work.forms, work.agree.base_forms)
    return loaded


def _read_texts(work: _Work, files: Sequence[Path], text_key: str, reporter: Reporter) -> None:
    """Compare forms on the built-in texts and the corpora; replay the corpora on the base."""
    built_in: dict[str, list[str]] = {
        "hard list": list(HARD_TEXTS),
        "texts around added pieces": list(texts_around([a.text for a in work.added if a.text])),
        "every code point": list(every_code_point()),
    }
    with reporter.task("built-in texts", sum(map(len, built_in.values())), "texts") as progress:
        for where, texts in built_in.items():
            for batch in _batches(iter(texts)):
                base, extended = _compare(work, batch, where)
                if work.built_in and base is not None:
                    work.built_in.add(batch, where, base, extended)
                progress.advance(len(batch), where)
    if not files:
        return
    with reporter.task("corpora", sum(f.stat().st_size for f in files), "bytes") as progress:
        for file in files:
            for batch in _batches(_texts_of(work, file, text_key, progress)):
                base, extended = _compare(work, batch, file.name)
                work.firing.add(extended)
                if work.replay and base is not None:
                    work.replay.add(batch, file.name, base, extended)
    if work.num_surrogates:
        reporter.note(tell_surrogates(work.num_surrogates))


def _texts_of(work: _Work, file: Path, text_key: str, progress: Progress) -> Iterator[str]:
    done = 0
    for document in read_texts(file, text_key):
        if document.position > done:
            progress.advance(document.position - done, file.name)
            done = document.position
        work.num_surrogates += document.num_surrogates
        yield document.text
    progress.advance(file.stat().st_size - done, file.name)


def _compare(
    work: _Work, texts: Sequence[str], where: str
) -> tuple[list[Int32] | None, list[Int32]]:
    """Compare the forms on texts; give ids by the base and by the extended tokenizer."""
    # An encoder that is not ours gives the ids of the first form: its own library.
    known = work.encode(work.encoder, texts) if work.encoder.reason else None
    extended = work.agree.add(texts, where, known)
    if work.decoding:
        work.decoding.add(texts, where, extended)
    base = work.encode(work.base_encoder, texts) if work.base_encoder else None
    return base, extended


def _batches(texts: Iterator[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= _BATCH_CHARS or len(batch) >= _BATCH_TEXTS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _audit(work: _Work, reporter: Reporter) -> Replay | None:
    """Encode every code point alone, by base and extended tokenizer."""
    if work.replay is None or work.base_encoder is None:
        return None
    replay = work.replay.again()
    with reporter.task("every code point, alone", _NUM_POINTS, "code points") as progress:
        for batch in _batches(code_points()):
            base, extended = (
                work.encode(encoder, batch) for encoder in (work.base_encoder, work.encoder)
            )
            replay.add(batch, "every code point", base, extended)
            progress.advance(len(batch))
    return replay


def _judge(
    work: _Work, why_not: str, points: Replay | None, files: Sequence[Path], loaded: Any
) -> Mapping[str, Any] | None:
    """Put the checks in their order; give the certificate."""
    order = None
    if work.base is None or work.whole is None:
        names = ("base kept", "scope", "priority", "every code point", "reach")
        work.checks += [Check(name, "skipped", why_not) for name in names]
    else:
        assert points is not None, "a base was there, and was not tried"
        size = work.whole.size
        stands = [a.piece for a in work.added if a.stands]
        order = check_priority(work.extended, size, stands)
        own = [] if work.is_named else own_scripts(work.whole, size, work.scope.scripts)
        work.checks += [
            check_kept(work.base, work.extended, len(points.completed)),
            check_scope(work.added, work.scope, own),
            check_order(order, len(work.added)),
            points.outcome("every code point"),
            check_reach(work.extended.base, work.added),
        ]
    work.checks.append(check_files(work.extended, work.base))
    _judge_texts(work, why_not, files)
    work.checks.append(check_added_tokens(work.extended, work.base, work.added))
    work.checks.append(check_special_ids(work.extended, loaded))
    if order is None or points is None:
        return None
    normalizes = work.extended.base.has_normalizer
    replay = work.replay if files else None
    return certify(_prove(work, order), work.scope, normalizes, points, replay)


def _prove(work: _Work, order: Priority) -> Proofs:
    """Say what the files prove, and of which form where the forms are not one."""
    states = {check.name: check.state for check in work.checks}
    is_kept = states["base kept"] == "ok"
    # A special token stands for no text: made of text, it is no join of the base's tokens.
    joins = order.coarsens and not any(a.special for a in work.added)
    # A byte that the base loses, had it a piece elsewhere, would part what the base joins.
    lost = work.extended.base.missing_bytes
    joins = joins and work.whole is not None and work.whole.missing_bytes == lost
    free = [a.shown for a in work.added if not work.scope.binds(a.data)]
    model = work.extended.model
    is_one = all(states[name] in ("ok", "skipped") for name in ("forms", "forms agree"))
    is_one = is_one and (model is None or order.is_one_tokenizer)
    only = "" if is_one else "tokenizer.model" if model else "tokenizer.json"
    return Proofs(is_kept, is_kept and joins, free, only)


def _judge_texts(work: _Work, why_not: str, files: Sequence[Path]) -> None:
    agree, model = work.agree, work.extended.model
    notes = list(work.notes)
    fast = [d for d in agree.differences if d.right.name == FAST and not d.base_too]
    if model is not None and fast:
        notes += explain_ties(model, work.base.base.size if work.base else None, fast)
    work.checks.append(agree.outcome(lambda id: show_piece(work.extended.base, id), notes))
    name = "decoding gives the text back"
    work.checks.append(
        work.decoding.outcome() if work.decoding else Check(name, "skipped", why_not)
    )
    tried = "replay on built-in texts"
    work.checks.append(
        work.built_in.outcome(tried) if work.built_in else Check(tried, "skipped", why_not)
    )
    none = "no corpus was given: --corpus FILE"
    for check in ("replay on the corpora", "use"):
        if not files or work.base is None:
            work.checks.append(Check(check, "skipped", why_not if files else none))
        elif check == "use":
            assert work.replay is not None, "corpora were read without a replay"
            work.checks.append(check_firing(work.firing, work.added, work.replay.inside_tokens))
        else:
            assert work.replay is not None, "corpora were read without a replay"
            work.checks.append(work.replay.outcome(check))
