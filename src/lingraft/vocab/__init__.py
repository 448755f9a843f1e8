"""Which pieces to add: every vocabulary for the price of one.

Byte pair encoding is greedy, so the first k rules of one long run *are* the vocabulary of k
rules: one run replaces a training for every size, and as far as they agree also for every number
of single characters. ALP, the average log probability of an evaluation text (Zheng et al. 2021,
arXiv 2109.07306), rides along: a rule that joins n pairs changes three token counts and the
total, so ALP at every size costs a few additions a rule, and is exact.

Training starts from the base tokenizer's own tokens, and every new rule ranks after all of the
base's: the vocabulary that is scored is the one that ships.

    alphabet, chars, points     which tokens and characters may take part, and what they need
    scan, spool                 files -> codes on disk
    cut, table                  codes -> distinct segments, cut where nothing can join
    symbols, evaluation         codes in the order of adding; evaluation texts
    bpe, kernel, state          segments -> merge rules, and their joins in every text
    engine, grid                all of these in order: threshold, memory, threads
    alp                         joins -> ALP and tokens at every size
    choose                      curves -> size, number of single characters, reasons
    tables, plot, interactive   curves as Parquet, pictures, a page
    pricing, pricing_text       what a size costs and saves
    results, targets, command   the files of a search; search and price on plain files
    cluster                     files -> codes on many machines

`lingraft.vocab.search`, `.count` and `.price` are the command line's `lingraft vocab search`,
`count` and `price`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .cluster import CountResult, SlurmOptions, count
    from .command import PriceResult, SearchResult, price, search

__all__ = [
    "CountResult",
    "PriceResult",
    "SearchResult",
    "SlurmOptions",
    "count",
    "price",
    "search",
]

_IN_CLUSTER = ("CountResult", "SlurmOptions", "count")


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for: recipes only need the settings."""
    if name not in __all__:
        raise AttributeError(f"module 'lingraft.vocab' has no attribute {name!r}")
    if name in _IN_CLUSTER:
        from . import cluster

        return getattr(cluster, name)
    from . import command

    return getattr(command, name)
