"""`lingraft encode`: equal bytes whoever encodes what, and nothing wrong left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import CHINESE
from slurm import put_on_path
from small_tokenizers import build, trained

from lingraft.cluster import Cluster, SlurmOptions
from lingraft.encode import encode
from lingraft.encode import spans as spans_module
from lingraft.encode.command import name_files
from lingraft.encode.documents import bracket
from lingraft.encode.spans import EncodeWork
from lingraft.errors import DiskFullError, InputError, StaleError, UsageError, VerifyError
from lingraft.exact import Encoder
from lingraft.progress import SilentReporter
from lingraft.shards import RowWriter, open_folder, token_paths
from lingraft.units import cut_units
from lingraft.work import carry_out

TEXTS = [*CHINESE[:12], "the cat sat", "", "我们 books", " "]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tokenizer.model"
    path.write_bytes(trained())
    return path


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A folder with a plain file, a packed one, a table, and lines of text."""
    import gzip

    folder = tmp_path / "texts with space"
    folder.mkdir()
    rows = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in TEXTS)
    (folder / "plain.jsonl").write_text(rows * 3, encoding="utf-8")
    (folder / "packed.jsonl.gz").write_bytes(gzip.compress(rows.encode()))
    table = pa.table({"text": TEXTS * 2})
    pq.write_table(table, folder / "table.parquet", row_group_size=5)
    (folder / "lines.txt").write_text("\n".join(CHINESE[:5]), encoding="utf-8")
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if not p.name.startswith(".")}


def test_ids_are_those_of_the_library_between_bos_and_eos(
    model: Path, texts: Path, tmp_path: Path
) -> None:
    result = encode(texts, tokenizer=model, out=tmp_path / "out")
    folder = open_folder(tmp_path / "out", verify=True)
    assert list(folder.files) == ["lines", "packed", "plain", "table"]
    base = Encoder(model).base
    wanted = [[1, *ids, 2] for ids in base.encode_batch([text for text in TEXTS if text])]
    packed = folder.file("packed")
    assert [packed.doc(n).tolist() for n in range(packed.num_docs)] == wanted
    assert packed.sizes_bytes is not None
    assert packed.sizes_bytes.tolist() == [len(text.encode()) for text in TEXTS if text]
    assert folder.index.files[1].num_empty == 1
    assert folder.file("plain").ids.tolist() == packed.ids.tolist() * 3
    assert folder.file("table").ids.tolist() == packed.ids.tolist() * 2
    assert result.total_tokens == sum(len(file.ids) for file in folder.files.values())
    assert not (tmp_path / "out" / ".work").exists()


@pytest.mark.parametrize("unit_bytes", [40, 777, 1 << 28])
@pytest.mark.parametrize("jobs", [1, 3])
def test_bytes_do_not_depend_on_units_or_jobs(
    unit_bytes: int, jobs: int, model: Path, texts: Path, tmp_path: Path
) -> None:
    encode(texts, tokenizer=model, out=tmp_path / "a", jobs=1)
    encode(texts, tokenizer=model, out=tmp_path / "b", jobs=jobs, unit_bytes=unit_bytes)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


@pytest.mark.slow
def test_processes_write_the_same_bytes(
    model: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode(texts, tokenizer=model, out=tmp_path / "a", jobs=1)
    monkeypatch.setattr("lingraft.encode.command._PROCESS_BYTES", 1)
    encode(texts, tokenizer=model, out=tmp_path / "b", jobs=2, unit_bytes=500)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


def test_what_is_done_is_left_alone_and_what_is_other_is_refused(
    model: Path, texts: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert not encode(texts, tokenizer=model, out=out).was_done
    assert encode(texts, tokenizer=model, out=out).was_done
    before = files_of(out)
    with pytest.raises(StaleError, match="made from other texts"):
        encode(texts, tokenizer=model, out=out, eos=False)
    assert files_of(out) == before
    assert not encode(texts, tokenizer=model, out=out, eos=False, redo=True).was_done
    assert open_folder(out).index.tokenizer.eos_id is None


def test_a_folder_that_is_redone_holds_what_its_index_lists(
    model: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    encode(texts, tokenizer=model, out=out)
    (out / "mine.npy").write_bytes(b"of the user")
    (out / "notes.txt").write_text("of the user", encoding="utf-8")
    plain = [texts / "plain.jsonl"]
    with monkeypatch.context() as patch:  # killed when the first files are gone
        patch.setattr("lingraft.encode.joining.token_paths", _killed_after(2))
        with pytest.raises(KeyboardInterrupt):
            encode(plain, tokenizer=model, out=out, redo=True)
    assert (out / "index.json").is_file()
    encode(plain, tokenizer=model, out=out, redo=True)
    files = files_of(out)
    assert files.pop("mine.npy") == files.pop("notes.txt") == b"of the user"
    assert sorted(files) == ["index.json", "plain.bytes.npy", "plain.ends.npy", "plain.npy"]
    encode(plain, tokenizer=model, out=tmp_path / "calm")
    assert files == files_of(tmp_path / "calm")


def _killed_after(calls: int) -> Callable[[Path], tuple[Path, Path, Path]]:
    left = iter(range(calls))

    def give(path: Path) -> tuple[Path, Path, Path]:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return token_paths(path)

    return give


def test_a_name_in_an_index_does_not_lead_out_of_its_folder(
    model: Path, texts: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    encode(texts / "plain.jsonl", tokenizer=model, out=out)
    (tmp_path / "a.npy").write_bytes(b"of the user")
    index = (out / "index.json").read_text(encoding="utf-8")
    (out / "index.json").write_text(index.replace('"plain"', '"../a"'), encoding="utf-8")
    encode(texts / "table.parquet", tokenizer=model, out=out, redo=True)
    assert (tmp_path / "a.npy").is_file()


@pytest.mark.parametrize("unit_bytes", [20, 1 << 28])
def test_halves_of_surrogate_pairs_are_counted_and_told(
    unit_bytes: int,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [r"the \ud83d\ude00 cat", r"the \ud83d cat \ude00", "", r"\udc00", "\ufffd"]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f'{{"text": "{row}"}}\n' for row in rows), encoding="utf-8")
    result = encode(path, tokenizer=model, out=tmp_path / "out", unit_bytes=unit_bytes)
    assert result.num_surrogates == 3
    index = json.loads((tmp_path / "out" / "index.json").read_text(encoding="utf-8"))
    assert [file["num_surrogates"] for file in index["files"]] == [3]
    base = Encoder(model).base
    texts = ["the 😀 cat", "the \ufffd cat \ufffd", "\ufffd", "\ufffd"]
    (file,) = open_folder(tmp_path / "out").files.values()
    ids = [file.doc(n).tolist() for n in range(file.num_docs)]
    assert ids == [[1, *each, 2] for each in base.encode_batch(texts)]
    words = ["--tokenizer", str(model), "--input", str(path), "--out", str(tmp_path / "told")]
    assert run_cli(monkeypatch, *words) == 0
    told = r"3 halves of surrogate pairs (\ud800 to \udfff in JSON) became U+FFFD"
    assert told in capsys.readouterr().out
    assert run_cli(monkeypatch, *words, "--json") == 0
    assert json.loads(capsys.readouterr().out)["num_surrogates"] == 3


def test_a_text_without_halves_says_nothing_of_them(
    model: Path,
    texts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["--tokenizer", str(model), "--input", str(texts), "--out", str(tmp_path / "out")]
    assert run_cli(monkeypatch, *words) == 0
    assert "surrogate" not in capsys.readouterr().out


def test_a_killed_process_is_gone_on_from_to_the_same_bytes(
    model: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import os, signal, sys\nfrom lingraft.encode import encode, spans\n"
        "calls, real = [], spans.bracket\n"
        "def dies(*arguments):\n"
        "    calls.append(1)\n"
        "    if len(calls) == 4: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return real(*arguments)\n"
        "spans.bracket = dies\n"
        "encode(sys.argv[1], tokenizer=sys.argv[2], out=sys.argv[3], unit_bytes=900)\n"
    )
    words = [sys.executable, "-c", code, str(texts), str(model), str(tmp_path / "out")]
    env = dict(os.environ, PYTHONPATH=str(Path(spans_module.__file__).parents[2]))
    assert subprocess.run(words, env=env, check=False).returncode == -signal.SIGKILL
    parts = list((tmp_path / "out" / ".work").glob("*.json"))
    assert len(parts) == 3
    times = {part: part.stat().st_mtime_ns for part in parts}
    done: list[int] = []
    real = EncodeWork.do

    def counted(self: EncodeWork, n: int) -> None:
        done.append(n)
        real(self, n)

    monkeypatch.setattr(EncodeWork, "do", counted)
    encode(texts, tokenizer=model, out=tmp_path / "out", unit_bytes=900)
    assert not {int(part.stem) for part in times} & set(done)
    encode(texts, tokenizer=model, out=tmp_path / "calm")
    assert files_of(tmp_path / "out") == files_of(tmp_path / "calm")


def test_a_part_of_a_changed_file_is_made_again(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("abc\n", encoding="utf-8")
    encode(path, tokenizer=model, out=tmp_path / "out")
    path.write_text("abd\n", encoding="utf-8")
    os.utime(path, ns=(1, 1))
    with pytest.raises(StaleError):
        encode(path, tokenizer=model, out=tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"text": "ok"}\n{"text"', r"a\.jsonl:2: not JSON"),
        ("a.jsonl", b'{"text": "ok"}\n{"body": "x"}', r"a\.jsonl:2: no column 'text'"),
        ("a.txt", b"ok\n\xff\n", r"a\.txt:2: byte 1 of the line is 0xff"),
        ("a.jsonl.zst", b"\x28\xb5\x2f\xfd\x04", r"a\.jsonl\.zst:1: not a whole"),
        ("a.parquet", b"PAR1 cut short", r"a\.parquet: .*not a readable Parquet"),
    ],
)
def test_bad_input_ends_in_its_place_and_leaves_no_index(
    name: str, content: bytes, message: str, model: Path, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        encode(tmp_path / name, tokenizer=model, out=tmp_path / "out", jobs=1)
    assert not (tmp_path / "out" / "index.json").exists()
    with pytest.raises(InputError, match="not the index"):
        open_folder(tmp_path / "out")


def test_a_bad_line_far_into_a_file_is_told_by_its_number_in_the_file(
    model: Path, tmp_path: Path
) -> None:
    rows = [json.dumps({"text": f"line {n}"}) for n in range(1, 100)]
    rows[70] = "{"
    (tmp_path / "a.jsonl").write_text("\n".join(rows), encoding="utf-8")
    with pytest.raises(InputError, match=r"a\.jsonl:71: not JSON"):
        encode(tmp_path / "a.jsonl", tokenizer=model, out=tmp_path / "out", unit_bytes=200)


def test_the_first_failure_of_several_processes_is_told(model: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_text("{\n", encoding="utf-8")
    encoder = Encoder(model)
    work = EncodeWork(
        tuple(cut_units([tmp_path / "a.jsonl", tmp_path / "b.jsonl"])),
        str(model), encoder.base.digest, None, None, "text", str(tmp_path), 1,
    )  # fmt: skip
    with pytest.raises(InputError, match=r"a\.jsonl:1: not JSON") as caught:
        carry_out(work, 2, SilentReporter())
    assert "text_key" in caught.value.way_out


def test_a_process_killed_from_outside_is_told(model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a worker process ended"):
        carry_out(_Dies(), 2, SilentReporter())


class _Dies:
    label = "die"

    def __len__(self) -> int:
        return 2

    def size_bytes(self, n: int) -> int:
        return 1

    def is_done(self, n: int) -> bool:
        return False

    def do(self, n: int) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_full_disk_is_told_and_the_next_call_goes_on(
    model: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Callable[..., Any] = RowWriter.append

    def full(self: Any, numbers: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RowWriter, "append", full)
    with pytest.raises(DiskFullError, match="--out DIR"):
        encode(texts, tokenizer=model, out=tmp_path / "out", jobs=1)
    assert not list((tmp_path / "out").rglob("*.draft*"))
    monkeypatch.setattr(RowWriter, "append", real)
    assert encode(texts, tokenizer=model, out=tmp_path / "out", jobs=1).num_docs


def test_files_of_one_name_get_their_folders_names(tmp_path: Path) -> None:
    paths = [tmp_path / "a" / "x.jsonl", tmp_path / "b" / "x.txt", tmp_path / "y.jsonl.gz"]
    assert list(name_files(paths).values()) == ["a-x", "b-x", "y"]
    deeper = [*paths, tmp_path / "c" / "a" / "x.txt"]
    first = f"{tmp_path.name}-a-x"
    assert list(name_files(deeper).values()) == [first, "b-x", "y", "c-a-x"]
    shards = [tmp_path / crawl / "zh" / "0.jsonl" for crawl in ("2023", "2024")]
    assert list(name_files(shards).values()) == ["2023-zh-0", "2024-zh-0"]


def test_names_do_not_depend_on_how_files_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "b").mkdir()
    monkeypatch.chdir(tmp_path / "b")
    assert list(name_files([Path("../a/x.txt"), Path("x.txt")]).values()) == ["a-x", "b-x"]


def test_files_that_only_their_endings_tell_apart_are_refused(tmp_path: Path) -> None:
    paths = [tmp_path / "x.jsonl", tmp_path / "y.txt", tmp_path / "x.txt"]
    with pytest.raises(UsageError, match=r"x\.jsonl and .*x\.txt: both would become x\.npy"):
        name_files(paths)


def test_a_token_file_cut_short_is_refused(model: Path, texts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    encode(texts, tokenizer=model, out=out)
    ids = np.load(out / "plain.npy")
    np.save(out / "plain.npy", ids[:-4])
    with pytest.raises(InputError, match="ends at"):
        open_folder(out)
    ends = np.load(out / "plain.ends.npy")
    np.save(out / "plain.ends.npy", ends[:-1])
    np.save(out / "plain.npy", ids[: int(ends[-2])])
    with pytest.raises(InputError, match=r"sizes of"):
        open_folder(out)
    np.save(out / "plain.bytes.npy", np.load(out / "plain.bytes.npy")[:-1])
    with pytest.raises(InputError, match="its index says"):
        open_folder(out)


def test_a_changed_id_is_found_by_its_hash(model: Path, texts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    encode(texts, tokenizer=model, out=out)
    ids = np.load(out / "plain.npy")
    ids[3] += 1
    np.save(out / "plain.npy", ids)
    open_folder(out)
    with pytest.raises(VerifyError, match=r"plain\.npy: sha256"):
        open_folder(out, verify=True)


def test_ids_of_another_tokenizer_are_refused(model: Path, texts: Path, tmp_path: Path) -> None:
    encode(texts, tokenizer=model, out=tmp_path / "out")
    folder = open_folder(tmp_path / "out")
    (tmp_path / "other.model").write_bytes(build())
    other = Encoder(tmp_path / "other.model").base
    folder.refuse_other(Encoder(model).base.digest, "the same")
    with pytest.raises(InputError, match=r"holds ids of the tokenizer tokenizer\.model"):
        folder.refuse_other(other.digest, "other.model")
    with pytest.raises(UsageError, match="no token file 'x'"):
        folder.file("x")


@pytest.mark.slow
def test_a_document_of_any_length_is_encoded_alike(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lingraft.exact._LONG_CHARS", 50)
    text = ("the cat  sat on the mat 我 们 在 这 里 " * 60 + "ab" * 200).strip()
    encoder = Encoder(model)
    assert len(list(encoder.slices(text))) > 10
    assert ids_by_slices(encoder, text) == encoder.base.encode_batch([text])[0]
    monkeypatch.setattr("lingraft.encode.spans._BATCH_CHARS", 80)
    texts = [text, "ab", "", text[:30], text[:300], "中"]
    rows = "".join(json.dumps({"text": one}) + "\n" for one in texts)
    (tmp_path / "a.jsonl").write_text(rows, encoding="utf-8")
    encode(tmp_path / "a.jsonl", tokenizer=model, out=tmp_path / "out")
    (file,) = open_folder(tmp_path / "out").files.values()
    full = [one for one in texts if one]
    wanted = [[1, *ids, 2] for ids in encoder.base.encode_batch(full)]
    assert [file.doc(n).tolist() for n in range(file.num_docs)] == wanted
    assert file.sizes_bytes is not None
    assert file.sizes_bytes.tolist() == [len(one.encode()) for one in full]


def ids_by_slices(encoder: Encoder, text: str) -> list[int]:
    return [id for part in encoder.slices(text) for id in encoder.encode_slice(part).tolist()]


@settings(max_examples=100, deadline=None)
@given(st.text("abc ▁中文\n", max_size=300), st.integers(1, 40))
def test_long_texts_are_cut_where_nothing_joins(text: str, longest: int) -> None:
    encoder = _SMALL
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lingraft.exact._LONG_CHARS", longest)
        found = ids_by_slices(encoder, text)
    assert found == encoder.base.encode_batch([text])[0]


def _small() -> Encoder:
    from lingraft.bases import SentencePieceBase
    from lingraft.pieces import SentencePieces

    return Encoder(SentencePieceBase(SentencePieces(build())))


_SMALL = _small()


@given(
    docs=st.lists(st.lists(st.integers(5, 9), max_size=4), max_size=6),
    bos=st.sampled_from([None, 1]),
    eos=st.sampled_from([None, 2]),
)
def test_brackets_stand_around_each_document(
    docs: list[list[int]], bos: int | None, eos: int | None
) -> None:
    flat = np.array([id for doc in docs for id in doc], np.int32)
    ends = np.cumsum([len(doc) for doc in docs], dtype=np.int64)
    ids, moved = bracket(flat, ends, bos, eos)
    head, tail = [] if bos is None else [bos], [] if eos is None else [eos]
    wanted = [[*head, *doc, *tail] for doc in docs]
    assert ids.tolist() == [id for doc in wanted for id in doc]
    assert moved.tolist() == np.cumsum([len(doc) for doc in wanted]).tolist()


@pytest.mark.slow
def test_tasks_of_datatrove_write_the_same_bytes(model: Path, texts: Path, tmp_path: Path) -> None:
    pytest.importorskip("datatrove", reason="needs datatrove (extra cluster)")
    encode(texts, tokenizer=model, out=tmp_path / "a")
    cluster = Cluster("local", tasks=3, workers=2)
    encode(texts, tokenizer=model, out=tmp_path / "b", unit_bytes=700, cluster=cluster)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


def test_options_of_a_cluster_are_checked_first(model: Path, texts: Path, tmp_path: Path) -> None:
    cluster = Cluster("slurm", slurm=SlurmOptions("cpu"))
    with pytest.raises(UsageError, match="a partition and a time limit"):
        encode(texts, tokenizer=model, out=tmp_path / "out", cluster=cluster)
    assert not (tmp_path / "out").exists()


def run_cli(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    from lingraft import cli

    monkeypatch.setattr("sys.argv", ["lingraft", "encode", *words])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0)


def test_the_command_line_encodes(
    model: Path,
    texts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = sorted(map(str, texts.iterdir()))
    words = ["--tokenizer", str(model), "--input", *files, "--out", str(tmp_path / "out")]
    assert run_cli(monkeypatch, *words) == 0
    assert "(uint16)" in capsys.readouterr().out
    assert run_cli(monkeypatch, *words, "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert record["was_done"]
    assert record["num_docs"] == sum(file["num_docs"] for file in record["index"]["files"])
    assert run_cli(monkeypatch, *words, "--tasks", "4") == 2
    assert "no --executor" in capsys.readouterr().err


@pytest.mark.slow
def test_jobs_of_slurm_write_the_same_bytes(
    model: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("datatrove", reason="needs datatrove (extra cluster)")
    put_on_path(tmp_path / "slurm", monkeypatch)
    cluster = Cluster("slurm", tasks=2, slurm=SlurmOptions("cpu", "00:10:00"))
    result = encode(texts, tokenizer=model, out=tmp_path / "b", unit_bytes=700, cluster=cluster)
    assert result.index is None
    assert result.job_id == "3"  # after each array job datatrove adds up its statistics
    scripts = [path.read_text() for path in sorted((tmp_path / "slurm").glob("script-*"))]
    assert "#SBATCH --job-name=lingraft-encode" in scripts[0]
    assert "--dependency=afterok:1" in (tmp_path / "slurm" / "arguments-3").read_text()
    encode(texts, tokenizer=model, out=tmp_path / "a")
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")
    assert encode(texts, tokenizer=model, out=tmp_path / "b", unit_bytes=700).was_done


def test_what_a_corpus_dropped_is_left_out(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("zh-train.jsonl", "dropped.jsonl"):
        (tmp_path / name).write_text('{"text": "the cat"}\n', encoding="utf-8")
    (tmp_path / "datasets.toml").write_text("", encoding="utf-8")
    with caplog.at_level("INFO", "lingraft"):
        result = encode(tmp_path / "*.jsonl", tokenizer=model, out=tmp_path / "out")
    assert result.index is not None
    assert [file.name for file in result.index.files] == ["zh-train"]
    assert "what the corpus dropped" in caplog.text
    with pytest.raises(UsageError, match="holds only what the corpus dropped"):
        encode(tmp_path / "dropped.jsonl", tokenizer=model, out=tmp_path / "other")


def test_a_damaged_folder_is_made_again(model: Path, texts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    encode(texts, tokenizer=model, out=out)
    whole = files_of(out)
    os.truncate(out / "plain.npy", 200)
    assert not encode(texts, tokenizer=model, out=out).was_done
    assert files_of(out) == whole
    ids = np.load(out / "plain.npy")
    ids[0] += 1
    np.save(out / "plain.npy", ids)
    assert not encode(texts, tokenizer=model, out=out, redo=True).was_done
    assert files_of(out) == whole


def test_a_tokenizer_that_changed_meanwhile_is_refused(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("abc", encoding="utf-8")
    work = EncodeWork(
        tuple(cut_units([path])), str(model), "0" * 64, None, None, "text", str(tmp_path), 1
    )
    with pytest.raises(InputError, match="not the same here and now"):
        work.do(0)
