"""Text to token files: `lingraft encode`, and what the recipe's stage does."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..basetypes import BaseTokenizer
from ..cluster import Cluster
from ..errors import StaleError, UsageError
from ..exact import Encoder
from ..progress import Reporter, SilentReporter
from ..shards import INDEX_NAME, IndexedTokenizer, TokenIndex, open_folder
from ..special import SpecialPiece, adds_bos, find_bos, find_eos
from ..store import disk_errors, lock_folder
from ..streaming import list_names, num_jobs
from ..texts import find_texts, stem_of
from ..units import UNIT_BYTES, Unit, cut_units
from ..work import carry_out
from .joining import INPUTS_NAME, JoinWork, describe_inputs
from .spans import EncodeWork, keep_encoder

__all__ = ["EncodedFolder", "Texts", "encode", "encode_units", "name_files"]

_WORK = ".work"
_PROCESS_BYTES = 1 << 29
"""Text for which a process of its own is worth its start; below that, threads share one."""


@dataclass(frozen=True)
class EncodedFolder:
    """A folder of token files that is done, or handed to SLURM."""

    folder: Path
    index: TokenIndex | None
    """None where a job of SLURM's goes on."""
    encoder: str
    """"compiled", "sentencepiece" or "tokenizers"."""
    reason: str
    """Why it is not the compiled one, or ""."""
    was_done: bool = False
    """Whether it was all there already."""
    job_id: str = ""
    """SLURM's number of the last job."""

    @property
    def num_docs(self) -> int:
        """Documents of all files."""
        return sum(file.num_docs for file in self.index.files) if self.index else 0

    @property
    def total_tokens(self) -> int:
        """Tokens of all files."""
        return sum(file.total_tokens for file in self.index.files) if self.index else 0

    @property
    def size_bytes(self) -> int:
        """UTF-8 bytes of all documents."""
        return sum(file.size_bytes for file in self.index.files) if self.index else 0

    @property
    def num_surrogates(self) -> int:
        """Halves of surrogate pairs in the documents, each encoded as U+FFFD."""
        return sum(file.num_surrogates for file in self.index.files) if self.index else 0


class Texts(NamedTuple):
    """What to encode, in order."""

    units: Sequence[Unit]
    names: Sequence[str]
    """Token file of each unit; equal ones stand together."""
    sources: Sequence[str]
    """What the index calls the text of each unit."""


def encode(
    input: str | Path | Sequence[str | Path],
    *,
    tokenizer: str | Path,
    out: str | Path,
    jobs: int | None = None,
    bos: bool | None = None,
    eos: bool = True,
    text_key: str = "text",
    unit_bytes: int = UNIT_BYTES,
    cluster: Cluster | None = None,
    redo: bool = False,
    reporter: Reporter | None = None,
) -> EncodedFolder:
    """Encode text files into a folder of token files; equal bytes whoever encodes what.

    What a stopped or killed call has finished is kept, and the next one goes on from there.

    Args:
        input: Files, folders or patterns, see `texts.find_texts`; each becomes a token file.
        tokenizer: A `tokenizer.model`, a `tokenizer.json`, a folder of one, or a hub name.
        out: The folder to write; see `shards`.
        jobs: Cores to use here; None: all.
        bos: Whether BOS begins each document; None: if the tokenizer adds it by itself.
        eos: Whether EOS ends each document. Without it a model never learns to stop.
        text_key: Column of the text.
        unit_bytes: About how much of a large file is encoded at a time.
        cluster: Where else the work is done; None: here.
        redo: Whether a folder that was made from other things is replaced.
        reporter: Where progress goes.

    Raises:
        InputError: A file or the tokenizer cannot be read; no index is written then.
        LockedError: Another process is writing `out`.
        StaleError: `out` holds token files of other texts or another tokenizer.
        UsageError: There is no such file, or no EOS or BOS is known.
    """
    teller, threads = reporter or SilentReporter(), num_jobs(jobs)
    texts, folder = _find(input, unit_bytes, teller), Path(out)
    # Not held on a cluster: datatrove's processes would inherit the lock, and outlive this one.
    lock: AbstractContextManager[None] = lock_folder(folder, place="--out DIR", other="--out OTHER")
    if cluster is not None:
        cluster.check()
        with lock:
            lock = nullcontext()  # nobody else is writing it on this machine
    with disk_errors(folder, place="--out DIR"), lock:
        return encode_units(
            texts,
            tokenizer=str(tokenizer),
            out=folder,
            work=folder / _WORK,
            threads=threads,
            bos=bos,
            eos=eos,
            text_key=text_key,
            cluster=cluster,
            redo=redo,
            teller=teller,
        )


def _find(input: str | Path | Sequence[str | Path], unit_bytes: int, teller: Reporter) -> Texts:
    found = find_texts(list_names("--input", input))
    paths = [path for path in found if not _is_list_of_dropped(path)]
    for path in found:
        if _is_list_of_dropped(path):
            teller.note(f"left out: {path}, what the corpus dropped")
    if not paths:
        raise UsageError(
            f"{found[0]}: holds only what the corpus dropped.",
            way_out="Name its documents: --input DIR/*-train.jsonl DIR/*-valid.jsonl.",
        )
    names, units = name_files(paths), cut_units(paths, unit_bytes)
    owners, sources = zip(*((names[u.path], Path(u.path).name) for u in units), strict=True)
    return Texts(units, owners, sources)


def encode_units(
    texts: Texts,
    *,
    tokenizer: str,
    out: Path,
    work: Path,
    threads: int,
    bos: bool | None,
    eos: bool,
    text_key: str,
    teller: Reporter,
    cluster: Cluster | None = None,
    redo: bool = False,
) -> EncodedFolder:
    """Encode units into token files; see `encode`. `work` is a folder for parts."""
    encoder = Encoder(tokenizer, warn=False)
    if encoder.reason:
        teller.note(f"encoded by {encoder.backend}: {encoder.reason}")
    begins = adds_bos(tokenizer, encoder.base) if bos is None else bos
    head = find_bos(tokenizer, encoder.base) if begins else None
    tail = find_eos(tokenizer, encoder.base) if eos else None
    _tell_specials(head, tail, teller)
    place = Path(tokenizer).expanduser()
    processes = _num_processes(texts.units, threads)
    first = EncodeWork(
        units=tuple(unit._replace(path=str(Path(unit.path).absolute())) for unit in texts.units),
        tokenizer=str(place.absolute()) if place.exists() else tokenizer,
        digest=encoder.base.digest,
        bos_id=None if head is None else head.id,
        eos_id=None if tail is None else tail.id,
        text_key=text_key,
        folder=str(work.absolute()),
        threads=cluster.cpus_per_task if cluster else max(1, threads // processes),
    )
    keep_encoder(first.tokenizer, encoder)
    second = _plan_join(first, texts, encoder.base, out)
    if not redo and second.is_done(0):
        shutil.rmtree(work, ignore_errors=True)
        index = open_folder(out).index
        return EncodedFolder(out, index, encoder.backend, encoder.reason, was_done=True)
    if redo:
        (out / INPUTS_NAME).unlink(missing_ok=True)  # then nothing is taken for done
    elif not second.has_same_inputs():
        _refuse_stale(out)
    work.mkdir(parents=True, exist_ok=True)
    if cluster is None:
        carry_out(first, processes, teller)
        carry_out(second, 1, teller)
        return EncodedFolder(out, open_folder(out).index, encoder.backend, encoder.reason)
    logs = out / f".logs-{len(list(out.glob('.logs-*'))) + 1}"
    job_id = cluster.run([first, second], logs, "lingraft-encode")
    found = None if job_id else open_folder(out).index
    return EncodedFolder(out, found, encoder.backend, encoder.reason, job_id=job_id)


def _plan_join(first: EncodeWork, texts: Texts, base: BaseTokenizer, out: Path) -> JoinWork:
    indexed = IndexedTokenizer(
        name=Path(base.name).name,
        digest=base.digest,
        vocab_size=base.size,
        bos_id=first.bos_id,
        eos_id=first.eos_id,
    )
    place, inputs = str(out.absolute()), describe_inputs(first)
    return JoinWork(first, tuple(texts.names), tuple(texts.sources), indexed, place, inputs)


def name_files(paths: Sequence[Path]) -> dict[str, str]:
    """Give each text file the name of its token file: its own without ending.

    Files of one name get the names of their folders before it, as many as tell them apart.

    Raises:
        UsageError: Two files of one folder differ in nothing but their endings.
    """
    words = {str(path): [*Path(os.path.abspath(path)).parts[1:-1], stem_of(path)] for path in paths}  # noqa: PTH100
    sizes = dict.fromkeys(words, 1)
    while True:
        names = {path: "-".join(words[path][-size:]) for path, size in sizes.items()}
        alike: dict[str, list[str]] = {}
        for path, name in names.items():
            alike.setdefault(name, []).append(path)
        twice = [found for found in alike.values() if len(found) > 1]
        if not twice:
            return names
        for found in twice:
            if all(sizes[path] >= len(words[path]) for path in found):
                _refuse_names(found)
            sizes |= {path: sizes[path] + 1 for path in found}


def _refuse_names(paths: Sequence[str]) -> None:
    """Refuse files that nothing tells apart.

    Raises:
        UsageError: Always.
    """
    raise UsageError(
        f"{paths[0]} and {paths[1]}: both would become {stem_of(Path(paths[0]))}.npy.",
        way_out="Encode them into folders of their own, or rename one.",
    )


def _is_list_of_dropped(path: Path) -> bool:
    """Whether a file is the list of dropped documents that `corpus prepare` leaves beside others.

    A pattern such as corpus/*.jsonl takes it in; what was dropped is not to be trained on.
    """
    return path.name == "dropped.jsonl" and (path.parent / "datasets.toml").is_file()


def _tell_specials(head: SpecialPiece | None, tail: SpecialPiece | None, teller: Reporter) -> None:
    for where, found in (("before", head), ("after", tail)):
        if found is None:
            teller.note(f"{where} each document: nothing")
        else:
            teller.note(f"{where} each document: {found.piece!r}, id {found.id}, as {found.source}")


def _num_processes(units: Sequence[Unit], threads: int) -> int:
    total_bytes = sum(unit.size_bytes for unit in units)
    return max(1, min(threads, len(units), total_bytes // _PROCESS_BYTES))


def _refuse_stale(out: Path) -> None:
    if not (out / INDEX_NAME).is_file():
        return
    raise StaleError(
        f"{out}: holds token files that were made from other texts, another tokenizer or other "
        f"settings (see {INPUTS_NAME}).",
        effect="They would be lost.",
        way_out="Choose another folder (--out DIR), or replace them: --redo.",
    )
