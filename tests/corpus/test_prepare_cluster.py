"""A corpus prepared in many tasks: the same bytes as in one process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from corpora import bytes_of, write_corpus
from slurm import put_on_path

import lingraft
from lingraft.cluster import Cluster, SlurmOptions
from lingraft.corpus import plan, prepare
from lingraft.errors import UsageError

OPTIONS: dict[str, Any] = {"valid_frac": 0.2, "language": "en", "max_chars": 2000}


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    monkeypatch.setattr(plan, "_UNIT_BYTES", 9000)
    monkeypatch.setattr(plan, "_BUCKET_BYTES", 30_000)
    return write_corpus(tmp_path)


@pytest.fixture
def plain(corpus: dict[str, list[str]], tmp_path: Path) -> dict[str, bytes]:
    prepare(corpus, out=tmp_path / "plain", jobs=1, **OPTIONS)
    return bytes_of(tmp_path / "plain")


def made_in(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in bytes_of(folder).items() if not name.startswith(".logs")}


def test_tasks_of_this_machine_make_the_same(
    corpus: dict[str, list[str]], plain: dict[str, bytes], tmp_path: Path
) -> None:
    cluster = Cluster("local", tasks=2, workers=1)
    result = prepare(corpus, out=tmp_path / "out", cluster=cluster, **OPTIONS)
    assert result.stats["sets"].keys() == corpus.keys()
    assert made_in(tmp_path / "out") == plain
    assert lingraft.verify(tmp_path / "out") == []
    assert prepare(corpus, out=tmp_path / "out", cluster=cluster, **OPTIONS).was_done


@pytest.mark.slow
def test_jobs_of_slurm_make_the_same(
    corpus: dict[str, list[str]],
    plain: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put_on_path(tmp_path / "slurm", monkeypatch)
    cluster = Cluster("slurm", tasks=2, slurm=SlurmOptions("cpu", "00:10:00"))
    result = prepare(corpus, out=tmp_path / "out", cluster=cluster, **OPTIONS)
    assert (result.stats, result.was_done) == ({}, False)
    assert made_in(tmp_path / "out") == plain
    scripts = [path.read_text() for path in sorted((tmp_path / "slurm").glob("script-*"))]
    waits = [match[1] for text in scripts for match in re.finditer(r"afterok:(\d+)", text)]
    assert len(waits) >= 4
    assert result.job_id


def test_what_a_cluster_cannot_do_is_told_before_any_work(
    corpus: dict[str, list[str]], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="needs a partition"):
        prepare(corpus, out=tmp_path / "out", cluster=Cluster("slurm"), **OPTIONS)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_ray_makes_the_same(
    corpus: dict[str, list[str]], plain: dict[str, bytes], tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="needs ray (extra cluster)")
    code = (
        "import sys\nfrom lingraft.cluster import Cluster\n"
        "from lingraft.corpus import plan, prepare\n"
        "plan._UNIT_BYTES, plan._BUCKET_BYTES = 9000, 30_000\n"
        "one, two, out = sys.argv[1:]\n"
        "cluster = Cluster('ray', tasks=2, workers=2, mem_per_cpu_gb=1)\n"
        f"prepare({{'a': one, 'b': two}}, out=out, cluster=cluster, **{OPTIONS!r})\n"
    )
    words = [sys.executable, "-c", code, corpus["a"][0], corpus["b"][0], str(tmp_path / "out")]
    env = dict(os.environ, RAY_AUTH_MODE="disabled", RAY_USAGE_STATS_ENABLED="0")
    env["PYTHONPATH"] = str(Path(lingraft.__file__).parents[1])
    subprocess.run(words, env=env, check=True, timeout=240)
    assert made_in(tmp_path / "out") == plain
