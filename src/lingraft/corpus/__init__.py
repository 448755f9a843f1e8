"""Corpus: raw files become clean, distinct documents, split once and for all.

Readers give raw texts, `clean` makes them comparable, exact duplicates go (the first set that
has a text keeps it), and a hash decides the split: a document that is held out stays held out
when data is added. What is dropped is counted by reason, with examples, never in silence.

Text of any size is mapped to buckets by its hash and put in order bucket by bucket: in bounded
memory, by any number of workers, to the same bytes.

    asking, command                         the verb `prepare`
    plan, engine                            units and buckets; the steps, in order
    read, clean, judging, sift, buckets     a unit is read, judged and sorted into buckets
    grams, quality, repetition              what documents are judged by
    items, collecting, overlap, indexing    benchmarks, and the documents that share text with them
    pii, chinese, wet                       masks; simplified characters; extracted web text
    minhash, matching, nearby               near duplicates
    gather, split                           a bucket put in order, and split
    adding, summing, finishing, sealing     figures; the files of sets; all in its place
    results, dropped                        what a unit leaves, and what it drops
    registry, registering, locating         datasets.toml; the verbs `list` and `add`; files on disk
    origins, transfer, fetched, remote      files of other machines; the verb `fetch`
    finding                                 the files of a recipe's set
    tallies, tokenfiles, counting, totals   stats.json; tokens and texts counted; the verb `stats`
    tables, page, histogram                 statistics for the terminal and as a page

`lingraft.corpus.prepare`, `.fetch`, `.list`, `.add` and `.stats` are the command line's `lingraft
corpus prepare` and so on.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .command import PrepareResult, prepare
    from .registering import AddResult
    from .registering import add_set as add
    from .registering import list_sets as list
    from .remote import FetchResult, fetch
    from .totals import StatsResult, stats

__all__ = [
    "AddResult",
    "FetchResult",
    "PrepareResult",
    "StatsResult",
    "add",
    "fetch",
    "list",
    "prepare",
    "stats",
]

_PLACES = {
    "AddResult": ("registering", "AddResult"),
    "FetchResult": ("remote", "FetchResult"),
    "PrepareResult": ("command", "PrepareResult"),
    "StatsResult": ("totals", "StatsResult"),
    "add": ("registering", "add_set"),
    "fetch": ("remote", "fetch"),
    "list": ("registering", "list_sets"),
    "prepare": ("command", "prepare"),
    "stats": ("totals", "stats"),
}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for: recipes only need the settings."""
    if name not in _PLACES:
        raise AttributeError(f"module 'lingraft.corpus' has no attribute {name!r}")
    import importlib

    module, attribute = _PLACES[name]
    return getattr(importlib.import_module(f".{module}", __name__), attribute)
