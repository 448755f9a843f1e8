"""Reading a corpus in many tasks: the same search, whoever read what."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from samples import CHINESE, VIETNAMESE
from small_tokenizers import trained

from lingraft import cli_cluster
from lingraft.bases import read_base
from lingraft.cluster import Step
from lingraft.errors import InputError, MissingPackageError, UsageError
from lingraft.vocab import CountResult, SlurmOptions, cluster, count, cut, search
from lingraft.vocab import spool as spool_module
from lingraft.vocab.alphabet import Alphabet
from lingraft.vocab.spool import Batch, Spool, make_scan, part_key

FILES = ("curves.parquet", "rules.parquet", "choice.json")
SIZES = (3, 11, 5, 24, 8)
SLURM = SlurmOptions("cpu", "00:10:00")

SBATCH = """#!{python}
import os, re, subprocess, sys
from pathlib import Path
folder = Path(__file__).parent
script = Path(sys.argv[-1]).read_text()
number = len(list(folder.glob("script-*"))) + 1
(folder / f"script-{{number}}").write_text(script)
(folder / f"arguments-{{number}}").write_text(" ".join(sys.argv[1:-1]))
if (folder / "refuse").exists():
    sys.exit("sbatch: error: invalid partition specified")
env = dict(os.environ, SLURM_NODELIST="node-1", SLURM_JOB_ID=str(number), RUN_OFFSET="0")
last = int(re.search(r"--array=0-([0-9]+)", script)[1])
for rank in range(last + 1):
    env["SLURM_ARRAY_TASK_ID"] = str(rank)
    with (folder / f"job-{{number}}-{{rank}}.log").open("w") as log:
        subprocess.run(["bash", sys.argv[-1]], env=env, stdout=log, stderr=log)
print(f"Submitted batch job {{number}}")
"""
SRUN = '#!/bin/bash\nwhile [[ $1 == -* ]]; do [[ $1 == -n ]] && shift; shift; done\nexec "$@"\n'
SCONTROL = '#!/bin/bash\necho "$3"\n'


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Five files of different sizes, one of another script alone, and the base."""
    folder = tmp_path_factory.mktemp("corpus")
    for number, size in enumerate(SIZES):
        texts = VIETNAMESE if number == 2 else CHINESE
        rows = [json.dumps({"body": text * 2}) for text in texts[:size]]
        (folder / f"{number}.jsonl").write_text("\n".join(rows), encoding="utf-8")
    (folder / "eval.txt").write_text("\n".join(CHINESE[10:]), encoding="utf-8")
    (folder / "m.model").write_bytes(trained())
    base = str(folder / "m.model")
    return {"base": base, "corpus": str(folder / "*.jsonl"), "text_key": "body"}


def do_search(corpus: dict[str, Any], out: Path) -> dict[str, bytes]:
    text = Path(corpus["base"]).parent / "eval.txt"
    search(**corpus, eval={"e": text}, out=out, max_size=120, chars=[20, 40], jobs=1)
    return {name: (out / name).read_bytes() for name in FILES}


@pytest.fixture(scope="module")
def plain(corpus: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a search without a count before it finds."""
    return do_search(corpus, tmp_path_factory.mktemp("plain"))


@pytest.fixture
def search_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search may look for scripts; it may not turn a file into codes."""

    def refuse(*_: object) -> None:
        raise AssertionError("the search read a file by itself")

    monkeypatch.setattr("lingraft.vocab.grid.make_scan", lambda alphabet: refuse)


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins for SLURM's commands: jobs run at once, on this machine."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    commands = {"sbatch": SBATCH.format(python=sys.executable), "srun": SRUN, "scontrol": SCONTROL}
    for name, text in commands.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    source = str(Path(cluster.__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", source)
    return folder


def a_task(corpus: dict[str, Any], work: Path) -> cluster.CountTask:
    files = sorted(Path(corpus["base"]).parent.glob("*.jsonl"))
    alphabet = Alphabet(read_base(corpus["base"]), ["Han"])
    rows = tuple((str(path), part_key(path, "body", alphabet)[1]) for path in files)
    work.mkdir(parents=True, exist_ok=True)
    return cluster.CountTask(
        corpus["base"], alphabet.scripts, alphabet.word_start, "body", str(work), rows, 1
    )


@pytest.mark.parametrize("tasks", [1, 2, 5])
@pytest.mark.usefixtures("search_reads_nothing")
def test_the_result_is_the_same_however_many_tasks_read(
    tasks: int, corpus: dict[str, Any], plain: dict[str, bytes], tmp_path: Path
) -> None:
    result = count(**corpus, out=tmp_path, tasks=tasks, workers=min(tasks, 2))
    assert (result.num_files, result.num_missing, result.num_tasks) == (5, 5, tasks)
    assert do_search(corpus, tmp_path) == plain


def test_what_was_counted_is_not_counted_again(corpus: dict[str, Any], tmp_path: Path) -> None:
    count(**corpus, out=tmp_path, tasks=1)
    before = sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / ".work").iterdir())
    assert count(**corpus, out=tmp_path, tasks=3) == CountResult(tmp_path, 5, 0, 0)
    after = sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / ".work").iterdir())
    assert before == after


@pytest.mark.usefixtures("search_reads_nothing")
def test_a_task_killed_while_it_writes_is_made_good_by_the_next_count(
    corpus: dict[str, Any], plain: dict[str, bytes], tmp_path: Path
) -> None:
    code = (
        "import os, signal, sys\nfrom lingraft.vocab import count, spool\n"
        "calls, real = [], spool.count_codes\n"
        "def dies(*arguments):\n"
        "    calls.append(1)\n"
        "    if len(calls) == 3: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    real(*arguments)\n"
        "spool.count_codes = dies\n"
        "base, corpus, out = sys.argv[1:]\n"
        "count(base=base, corpus=corpus, text_key='body', out=out, tasks=1)\n"
    )
    words = [sys.executable, "-c", code, corpus["base"], corpus["corpus"], str(tmp_path)]
    source = str(Path(cluster.__file__).parents[2])
    env = dict(os.environ, PYTHONPATH=source)
    # datatrove's helper process outlives a killed parent: a group of its own, to end it, too.
    with subprocess.Popen(words, env=env, start_new_session=True) as process:
        assert process.wait(60) == -signal.SIGKILL
        os.killpg(process.pid, signal.SIGKILL)
    work = tmp_path / ".work"
    assert len(list(work.glob("*.draft"))) == 1
    assert len(list(work.glob("*.json"))) == 2
    assert count(**corpus, out=tmp_path, tasks=2).num_missing == 3
    assert do_search(corpus, tmp_path) == plain


def test_a_search_reads_what_no_task_has_read(
    corpus: dict[str, Any], plain: dict[str, bytes], tmp_path: Path
) -> None:
    Step(a_task(corpus, tmp_path / ".work"))(None, 1, 3)
    assert len(list((tmp_path / ".work").glob("*.json"))) == 2  # files 1 and 4
    assert do_search(corpus, tmp_path) == plain


def test_two_tasks_that_read_the_same_file_leave_it_whole(
    corpus: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = a_task(corpus, tmp_path / "a")
    Step(task)(None, 0, 1)
    other = replace(task, folder=str(tmp_path / "b"))
    (tmp_path / "b").mkdir()
    real, calls = cut.count_codes, []

    def meanwhile(codes: Any, counts_C: Any) -> None:
        real(codes, counts_C)
        calls.append(1)
        if len(calls) == 1:  # the first file: another machine reads all of them meanwhile
            monkeypatch.setattr("socket.gethostname", lambda: "elsewhere")
            Step(other)(None, 0, 1)
            monkeypatch.setattr("socket.gethostname", lambda: "here")

    monkeypatch.setattr(spool_module, "count_codes", meanwhile)
    Step(other)(None, 0, 1)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "b").iterdir())
    assert all(
        (tmp_path / "a" / n).read_bytes() == (tmp_path / "b" / n).read_bytes() for n in names
    )


def test_a_part_cut_short_is_no_part(corpus: dict[str, Any], tmp_path: Path) -> None:
    task = a_task(corpus, tmp_path)
    Step(task)(None, 0, 1)
    alphabet = Alphabet(read_base(corpus["base"]), ["Han"])
    name, identity = part_key(Path(task.files[0][0]), "body", alphabet)
    spool = Spool(tmp_path, len(alphabet.flags_C))
    assert spool.find(name, identity) is not None
    os.truncate(tmp_path / f"{name}.codes", 4)
    assert spool.find(name, identity) is None
    (tmp_path / f"{name}.codes").unlink()
    assert spool.find(name, identity) is None


def test_a_part_half_replaced_is_no_part(
    corpus: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = a_task(corpus, tmp_path)
    Step(task)(None, 0, 1)
    alphabet = Alphabet(read_base(corpus["base"]), ["Han"])
    name, identity = part_key(Path(task.files[0][0]), "body", alphabet)
    spool = Spool(tmp_path, len(alphabet.flags_C))
    codes = make_scan(alphabet)(["。" * 9])
    real = Path.replace

    def fails(self: Path, target: Path) -> Path:
        if target.name.endswith(".counts.npy"):
            raise OSError("killed")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", fails)
    with pytest.raises(OSError, match="killed"):
        spool.write(name, "another", [(Batch(["。" * 9]), codes)])
    assert spool.find(name, identity) is None
    assert list(tmp_path.glob("*.draft")) == []


def test_a_task_that_sees_another_file_stops(corpus: dict[str, Any], tmp_path: Path) -> None:
    task = a_task(corpus, tmp_path)
    changed = replace(task, files=((task.files[0][0], "0" * 64),))
    with pytest.raises(InputError, match="not the same here"):
        Step(changed)(None, 0, 1)
    absent = replace(task, files=((str(tmp_path / "absent.jsonl"), "0" * 64),))
    with pytest.raises(InputError, match=r"absent\.jsonl: not the same here"):
        Step(absent)(None, 0, 1)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_row_that_cannot_be_read_ends_in_its_message(
    workers: int, corpus: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "a.jsonl").write_text('{"body": "中文"}\n', encoding="utf-8")
    (tmp_path / "b.jsonl").write_text('{"body": "中文"}\n{"body"}', encoding="utf-8")
    given = {**corpus, "corpus": [tmp_path / "a.jsonl", tmp_path / "b.jsonl"], "scripts": ["Han"]}
    with pytest.raises(InputError, match=r"b\.jsonl:2: not JSON"):
        count(**given, out=tmp_path / "out", tasks=2, workers=workers)


def test_files_left_unread_are_told(
    corpus: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Step, "__call__", lambda *_, **__: None)
    with pytest.raises(InputError, match="read: 5 of 5 units were not done"):
        count(**corpus, out=tmp_path, tasks=1)


@pytest.mark.usefixtures("search_reads_nothing")
def test_slurm_jobs_read_the_same(
    corpus: dict[str, Any], plain: dict[str, bytes], tmp_path: Path, slurm: Path
) -> None:
    options = replace(SLURM, sbatch={"account": "nlp", "exclusive": "", "qos": "low"})
    result = count(
        **corpus,
        out=tmp_path / "out",
        tasks=3,
        executor="slurm",
        workers=2,
        cpus_per_task=2,
        mem_per_cpu_gb=3,
        slurm=options,
    )
    assert (result.job_id, result.num_tasks) == ("1", 3)
    script = (slurm / "script-1").read_text().splitlines()
    for line in ("cpus-per-task=2", "mem-per-cpu=3G", "partition=cpu", "time=00:10:00"):
        assert f"#SBATCH --{line}" in script
    for line in ("account=nlp", "exclusive", "qos=low", "array=0-2%2", "job-name=lingraft-count"):
        assert f"#SBATCH --{line}" in script
    assert f"export PATH={Path(sys.executable).parent}:$PATH" in script
    assert "afterok:1" in (slurm / "script-2").read_text()  # datatrove adds up its statistics
    assert do_search(corpus, tmp_path / "out") == plain


def test_a_slurm_task_that_fails_is_handed_out_again(
    corpus: dict[str, Any], tmp_path: Path, slurm: Path
) -> None:
    here = f"export PATH={Path(sys.executable).parent}:$PATH"
    broken = replace(SLURM, env_command=f'{here}; [ "$SLURM_ARRAY_TASK_ID" = 1 ] && exit 1')
    count(**corpus, out=tmp_path / "out", tasks=2, executor="slurm", slurm=broken)
    again = count(**corpus, out=tmp_path / "out", tasks=1, executor="slurm", slurm=SLURM)
    assert (again.num_missing, again.num_tasks) == (2, 1)
    assert count(**corpus, out=tmp_path / "out", tasks=5).num_missing == 0


def test_what_sbatch_refuses_is_told(corpus: dict[str, Any], tmp_path: Path, slurm: Path) -> None:
    (slurm / "refuse").touch()
    with pytest.raises(UsageError, match="sbatch refused the job"):
        count(**corpus, out=tmp_path / "out", tasks=1, executor="slurm", slurm=SLURM)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"tasks": 0}, "--tasks 0: expected 1 or more"),
        ({"workers": 0}, "--workers 0"),
        ({"cpus_per_task": 0}, "--cpus-per-task 0"),
        ({"executor": "cloud"}, "expected one of local, slurm, ray"),
        ({"slurm": SLURM}, "mean nothing to 'local'"),
        ({"executor": "slurm"}, "needs a partition and a time limit"),
        ({"executor": "slurm", "slurm": SlurmOptions("cpu")}, "a partition and a time limit"),
    ],
)
def test_options_that_cannot_be_are_refused(
    options: dict[str, Any], text: str, corpus: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=text):
        count(**{**corpus, "out": tmp_path / "out", "tasks": 1, **options})
    assert not (tmp_path / "out").exists()


def test_slurm_is_not_started_where_it_cannot_be(
    corpus: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {**corpus, "out": tmp_path, "tasks": 1, "executor": "slurm", "slurm": SLURM}
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="no 'sbatch'"):
        count(**given)
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    with pytest.raises(UsageError, match="inside a task of a SLURM array job"):
        count(**given)


@pytest.mark.parametrize(
    ("executor", "module"), [("local", "datatrove.executor.local"), ("ray", "ray")]
)
def test_a_missing_package_is_told_with_the_way_out(
    executor: str,
    module: str,
    corpus: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    package = module.split(".", maxsplit=1)[0]
    with pytest.raises(MissingPackageError, match=rf"'{package}', which is not(.|\n)*\[cluster\]"):
        count(**corpus, out=tmp_path, tasks=1, executor=executor)


def test_options_of_sbatch_need_a_key() -> None:
    assert cli_cluster.parse_sbatch(["a=b=c", "--mail", ""][:2]) == {"a": "b=c", "mail": ""}
    with pytest.raises(UsageError, match="expected KEY=VALUE"):
        cli_cluster.parse_sbatch(["=x"])


def run_cli(monkeypatch: pytest.MonkeyPatch, corpus: dict[str, Any], *words: str) -> None:
    from lingraft import cli

    files = sorted(map(str, Path(corpus["base"]).parent.glob("*.jsonl")))
    given = ["--base", corpus["base"], "--corpus", *files, "--text-key", "body", *words]
    monkeypatch.setattr("sys.argv", ["lingraft", "vocab", "count", *given])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert not caught.value.code


def test_the_command_line_counts(
    corpus: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_cli(monkeypatch, corpus, "--out", str(tmp_path), "--tasks", "1")
    assert "all 5 files are read, 5 of them now" in capsys.readouterr().out
    run_cli(monkeypatch, corpus, "--out", str(tmp_path), "--tasks", "1", "--json")
    assert json.loads(capsys.readouterr().out)["num_missing"] == 0


def test_halves_of_surrogate_pairs_are_counted_and_told(
    corpus: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    base = tmp_path / Path(corpus["base"]).name
    base.write_bytes(Path(corpus["base"]).read_bytes())
    row = r'{"body": "\ud800\udc00 天 \ud800"}' + "\n"
    (tmp_path / "halves.jsonl").write_text(row, encoding="utf-8")
    given, words = {"base": str(base)}, ["--out", str(tmp_path / "out"), "--tasks", "1"]
    for num_read in (1, 0):
        run_cli(monkeypatch, given, *words)
        out = capsys.readouterr().out
        assert f"all 1 files are read, {num_read} of them now" in out
        assert r"1 half of a surrogate pair (\ud800 to \udfff in JSON) became U+FFFD" in out
    run_cli(monkeypatch, given, *words, "--json")
    assert json.loads(capsys.readouterr().out)["num_surrogates"] == 1


def test_the_command_line_hands_jobs_to_slurm(
    corpus: dict[str, Any],
    tmp_path: Path,
    slurm: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["--out", str(tmp_path / "out"), "--tasks", "1", "--executor", "slurm"]
    words += ["--partition", "cpu", "--time", "01:00:00", "--sbatch-arg", "account=nlp"]
    run_cli(monkeypatch, corpus, *words)
    assert "5 files in 1 tasks: job 1" in capsys.readouterr().out
    assert "#SBATCH --account=nlp" in (slurm / "script-1").read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("search_reads_nothing")
def test_ray_reads_the_same(
    corpus: dict[str, Any], plain: dict[str, bytes], tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="needs ray (extra cluster)")
    code = (
        "import sys\nfrom lingraft.vocab import count\n"
        "base, corpus, out = sys.argv[1:]\n"
        "count(base=base, corpus=corpus, text_key='body', out=out, tasks=3, executor='ray',\n"
        "      workers=2, mem_per_cpu_gb=1)\n"
    )
    words = [sys.executable, "-c", code, corpus["base"], corpus["corpus"], str(tmp_path)]
    quiet = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    source = str(Path(cluster.__file__).parents[2])
    env = dict(os.environ, PYTHONPATH=source, **quiet)
    subprocess.run(words, env=env, check=True, timeout=120)
    assert do_search(corpus, tmp_path) == plain
