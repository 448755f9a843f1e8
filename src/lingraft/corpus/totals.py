"""`lingraft corpus stats`: how much each set holds, and how many tokens that is.

What `prepare` counted is taken from its `stats.json`; tokens come from token files where there
are any, and are counted now for each tokenizer that is asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, UsageError
from ..progress import Reporter, SilentReporter
from ..store import disk_errors
from ..streaming import list_names, make_folder, num_jobs
from .counting import DocumentCount, count_documents, length_histogram
from .locating import find_documents, find_registry
from .registry import REGISTRY_NAME, RegisteredSet, read_registry
from .tallies import STATS_NAME, CorpusTally, read_stats, read_tally
from .tokenfiles import EncodedTotal, count_encoded

if TYPE_CHECKING:
    from ..exact import Encoder

__all__ = ["StatsResult", "TokenizerUsed", "stats"]


@dataclass(frozen=True)
class TokenizerUsed:
    """A tokenizer that tokens were counted with now."""

    name: str
    source: str
    """The file, folder or hub name that it was read from."""
    vocab_size: int
    digest: str
    encoder: str
    """What encoded: "compiled", "sentencepiece" or "tokenizers"."""
    reason: str
    """Why it is not the compiled one, or ""."""


@dataclass(frozen=True)
class StatsResult:
    """What a corpus holds."""

    place: Path
    """The registry or folder."""
    stats: Mapping[str, Any]
    """As in `stats.json`, with the tokens of each split."""
    tokenizers: tuple[TokenizerUsed, ...]
    notes: tuple[str, ...]
    """What is missing."""

    @property
    def tally(self) -> CorpusTally:
        """The statistics, checked."""
        return read_tally(self.stats, str(self.place))

    @property
    def record(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return {
            "place": str(self.place),
            "tokenizers": [asdict(one) for one in self.tokenizers],
            **self.stats,
            "notes": list(self.notes),
        }


def stats(
    place: str | Path,
    *,
    tokenizers: str | Path | Sequence[str | Path] = (),
    count: bool = False,
    data_dir: str | Path | None = None,
    text_key: str = "text",
    html: str | Path | None = None,
    jobs: int | None = None,
    reporter: Reporter | None = None,
) -> StatsResult:
    """Tell what the sets of a corpus hold, with token totals.

    Args:
        place: A registry, or a folder with one: what `corpus prepare` wrote, say.
        tokenizers: Files, folders or hub names to count tokens with, each maybe as "NAME=SOURCE".
        count: Whether documents are read and counted without a tokenizer, too.
        data_dir: What `{DATA_DIR}` stands for; None: the registry's own folder.
        text_key: Column of the text.
        html: Where to write the page; None: nowhere.
        jobs: Threads; None: one a core. They do not change the result.
        reporter: Where progress goes.

    Raises:
        DiskFullError: The page cannot be written.
        InputError: The registry, statistics, documents or token files are bad, documents are not
            those that `stats.json` tells of, or there are none to count.
        UsageError: There is no registry or tokenizer, or `html` can be no file.
    """
    teller, threads = reporter or SilentReporter(), num_jobs(jobs)
    folder = Path(place) if Path(place).is_dir() else Path(place).parent
    found = _read_stats(folder)
    sets = _read_sets(Path(place), data_dir, has_stats=bool(found))
    page = None if html is None else _check_page(Path(html))
    tree = _join(found, sets, folder)
    encoders = _read_encoders(tokenizers)
    _add_encoded(tree, sets)
    notes = []
    if encoders or count:
        notes = _add_counted(tree, sets, encoders, text_key, threads, teller)
    used = tuple(_describe(*one) for one in encoders)
    notes += [f"{t.name}: encoded by {t.encoder}: {t.reason}" for t in used if t.reason]
    result = StatsResult(Path(place), {**found, "sets": tree}, used, tuple(notes))
    if page is not None:
        from .page import write_page

        with disk_errors(page.parent, place="--html OUT"):
            make_folder(page.parent, "--html OUT")
            write_page(dict(result.stats), page)
    return result


def _read_stats(folder: Path) -> dict[str, Any]:
    path = folder / STATS_NAME
    return read_stats(path) if path.is_file() else {}


def _read_sets(
    place: Path, data_dir: str | Path | None, *, has_stats: bool
) -> dict[str, RegisteredSet]:
    """Read the registry; a folder with statistics alone needs none."""
    if has_stats and place.is_dir() and not (place / REGISTRY_NAME).is_file():
        return {}
    path = find_registry(place, REGISTRY_NAME)
    return read_registry(path, None if data_dir is None else Path(data_dir))


def _check_page(html: Path) -> Path:
    if html.is_dir():
        raise UsageError(
            f"--html {html}: is a folder; a file is to be written there.",
            way_out="Name a file, as --html stats.html.",
        )
    return html


def _join(
    found: Mapping[str, Any], sets: Mapping[str, RegisteredSet], folder: Path
) -> dict[str, dict[str, Any]]:
    """Put statistics and registry together.

    Statistics of a name are those of the set only where its documents lie beside them.
    """
    known = found.get("sets", {})
    names = list(sets) or list(known)
    tree: dict[str, dict[str, Any]] = {}
    for name in names:
        registered = sets.get(name)
        is_told = name in known and (
            registered is None
            or all(doc.parent.resolve() == folder.resolve() for doc in registered.docs.values())
        )
        told = known[name] if is_told else {"splits": {}}
        splits = registered.docs if registered else told["splits"]
        tree[name] = {**told, "splits": {s: dict(told["splits"].get(s, {})) for s in splits}}
    return tree


def _read_encoders(
    tokenizers: str | Path | Sequence[str | Path],
) -> list[tuple[str, str, Encoder]]:
    if not tokenizers:
        return []
    from ..exact import Encoder

    named = [_split_name(word) for word in list_names("--tokenizer", tokenizers)]
    twice = [name for name, n in Counter(name for name, _ in named).items() if n > 1]
    if twice:
        raise UsageError(
            f"two tokenizers are called '{twice[0]}'.",
            effect="The table could not tell them apart.",
            way_out="Name each once, or give other names: --tokenizer NAME=TOKENIZER.",
        )
    return [(name, source, Encoder(source, warn=False)) for name, source in named]


def _split_name(word: str) -> tuple[str, str]:
    """Give name and source of `NAME=SOURCE`; a path is named after its file, or its folder."""
    name, sign, source = word.partition("=")
    if sign and name and source and "/" not in name and not Path(word).exists():
        return name, source
    path = Path(word)
    if path.name in ("tokenizer.model", "tokenizer.json") and path.parent.name:
        return path.parent.name, word
    return path.name.removesuffix(path.suffix if path.is_file() else "") or word, word


def _describe(name: str, source: str, encoder: Encoder) -> TokenizerUsed:
    base = encoder.base
    return TokenizerUsed(name, source, base.size, base.digest, encoder.backend, encoder.reason)


def _add_encoded(
    tree: Mapping[str, dict[str, Any]], sets: Mapping[str, RegisteredSet]
) -> None:  # fmt: skip
    """Add the totals of token files."""
    for name, split, found in _splits(tree):
        total = count_encoded(sets[name].encoded[split]) if name in sets else None
        if total is None:
            continue
        if found.get("num_docs") is None and total.num_docs is not None:
            found["num_docs"], found["size_bytes"] = total.num_docs, total.size_bytes
        _refuse_stale(f"{name}, {split}", sets[name].encoded[split], total, found)
        found["tokens"] = [
            _tokens(total.tokenizer, total.digest, total.total_tokens, "encoded", found)
        ]


def _refuse_stale(which: str, path: Path, total: EncodedTotal, found: Mapping[str, Any]) -> None:
    """Refuse token files of another text than the statistics tell of.

    Raises:
        InputError: Documents or bytes differ, as after the corpus was made again.
    """
    for unit, there in (("num_docs", total.num_docs), ("size_bytes", total.size_bytes)):
        wanted = found.get(unit)
        if there is not None and wanted is not None and there != wanted:
            raise InputError(
                f"{which}: {path} holds {there:,} {_UNITS[unit]}, the documents have {wanted:,}.",
                effect="Tokens of another text would be told as this one's.",
                way_out="Encode the documents again, or take the token files away.",
            )


_UNITS = {"num_docs": "documents", "size_bytes": "bytes of text"}


def _splits(tree: Mapping[str, dict[str, Any]]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for name, found in tree.items():
        for split, values in found["splits"].items():
            yield name, split, values


def _tokens(
    name: str, digest: str, total: int, how: str, split: Mapping[str, Any]
) -> dict[str, Any]:  # fmt: skip
    chars, size_bytes = split.get("num_chars"), split.get("size_bytes")
    return {
        "tokenizer": name,
        "digest": digest,
        "how": how,
        "total_tokens": total,
        "tokens_per_char": total / chars if chars else None,
        "tokens_per_byte": total / size_bytes if size_bytes else None,
    }


def _add_counted(
    tree: Mapping[str, dict[str, Any]],
    sets: Mapping[str, RegisteredSet],
    encoders: Sequence[tuple[str, str, Encoder]],
    text_key: str,
    threads: int,
    teller: Reporter,
) -> list[str]:
    """Read all documents that are there; give notes on those that are not."""
    places = {
        (name, split): find_documents(sets[name].docs[split])
        for name, split, _ in _splits(tree)
        if name in sets
    }
    missing = [
        f"{name}, {split}: no documents at {sets[name].docs[split]}; nothing was counted."
        for (name, split), files in places.items()
        if not files
    ]
    if not any(places.values()):
        raise InputError(
            "\n  ".join(["there are no documents to count.", *missing]),
            way_out="Name the folder of all data (--data-dir DIR), or change the registry.",
        )
    lengths: dict[str, Counter[int]] = {}
    total_bytes = sum(file.stat().st_size for files in places.values() for file in files)
    with teller.task("count", total_bytes, "bytes") as progress:
        for (name, split), files in places.items():
            if files:
                used = [encoder for _, _, encoder in encoders]
                counted = count_documents(files, used, text_key, threads, progress)
                _add_count(tree[name]["splits"][split], counted, encoders, f"{name}, {split}")
                if counted.num_surrogates:
                    told = tree[name].get("num_surrogates", 0)
                    tree[name]["num_surrogates"] = told + counted.num_surrogates
                lengths.setdefault(name, Counter()).update(counted.lengths)
    for name, found in lengths.items():
        if all(places[name, split] for split in tree[name]["splits"]):
            tree[name].setdefault("chars_histogram", length_histogram(found))
    return missing


def _add_count(
    split: dict[str, Any],
    counted: DocumentCount,
    encoders: Sequence[tuple[str, str, Encoder]],
    where: str,
) -> None:
    sizes = {key: getattr(counted, key) for key in ("num_docs", "num_chars", "size_bytes")}
    for key, value in sizes.items():
        told = split.get(key)
        if told is not None and told != value:
            raise InputError(
                f"{where}: the documents have {key} = {value:,}; its {STATS_NAME} or token file "
                f"says {told:,}.",
                effect="Figures and tokens would be those of another text.",
                way_out="Prepare or encode the text again.",
            )
    split.update(sizes)
    tokens = split.setdefault("tokens", [])
    for found in tokens:
        found.update(_tokens(found["tokenizer"], found["digest"], found["total_tokens"],
                             found["how"], split))  # fmt: skip
    for (name, _, encoder), total in zip(encoders, counted.tokens, strict=True):
        tokens.append(_tokens(name, encoder.base.digest, total, "counted", split))
