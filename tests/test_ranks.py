"""Processes that train together: what one process sees of it. `test_together.py` starts two."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lingraft.errors import UsageError
from lingraft.ranks import ONE, join_ranks

CPU = torch.device("cpu")


@pytest.mark.parametrize("environment", [{}, {"WORLD_SIZE": "1", "RANK": "0"}])
def test_a_process_that_is_told_of_no_others_is_alone(environment: dict[str, str]) -> None:
    with join_ranks(CPU, environment) as ranks:
        assert ranks is ONE
        ranks.begin()
        ranks.cancel()
        ranks.wait()
        assert ranks.sum_number(0.1) == 0.1
        counts = torch.tensor([1, 2])
        assert ranks.sum_counts(counts) is counts


def test_half_of_an_environment_is_refused() -> None:
    environment = {"WORLD_SIZE": "2", "RANK": "1"}
    with (
        pytest.raises(UsageError, match=r"MASTER_ADDR, MASTER_PORT not set[\s\S]*torchrun"),
        join_ranks(CPU, environment),
    ):
        pass


def _work(rank: int, port: int, folder: str) -> None:
    os.environ |= {
        "WORLD_SIZE": "2",
        "RANK": str(rank),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    with join_ranks(CPU) as ranks, join_ranks(CPU) as inner:
        assert inner is ranks
        assert (ranks.rank, ranks.count, ranks.is_first) == (rank, 2, rank == 0)
        both = torch.nn.Parameter(torch.full((2,), float(rank)))
        one, none = (torch.nn.Parameter(torch.zeros(3)) for _ in range(2))
        ranks.copy_first([both])
        assert both.tolist() == [0, 0]
        both.grad = torch.tensor([1.0, 10.0]) * (rank + 1)
        if rank:
            one.grad = torch.ones(3)
        ranks.sum_gradients([both, one, none])
        assert both.grad.tolist() == [3, 30]
        assert one.grad is not None
        assert one.grad.tolist() == [1, 1, 1]
        assert none.grad is None
        assert ranks.sum_number(0.25) == 0.5
        assert ranks.sum_counts(torch.tensor([rank, 5])).tolist() == [1, 10]
        if rank:
            assert ranks.await_begin()
            assert not ranks.await_begin()
        else:
            ranks.begin()
            ranks.has_begun = False  # as in a run that finds everything done
            ranks.cancel()
        ranks.wait()
    (Path(folder) / str(rank)).write_text("done")


@pytest.mark.slow
def test_two_processes_add_up_what_each_has(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    workers = [
        subprocess.Popen([sys.executable, __file__, str(rank), str(port), str(tmp_path)])
        for rank in range(2)
    ]
    assert [worker.wait(timeout=120) for worker in workers] == [0, 0]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0", "1"]


if __name__ == "__main__":
    _work(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
