"""`--method probe`: several methods are tried on held-out text, and the winner's rows written."""

from pathlib import Path
from typing import Any

import pytest
import torch
from expandable import SIZE, extended_folder, tied_llama, untied_llama
from token_files import write_folder as write_tokens

from lingraft.bases import read_base
from lingraft.embed import expand
from lingraft.embed.probe import Candidate
from lingraft.embed.probing import read_candidates
from lingraft.errors import UsageError
from lingraft.models import ModelFolder

DOC = [1, *range(10, 40), SIZE, SIZE + 1, SIZE + 2, SIZE + 3, 2]
ENGLISH = [1, *range(10, 40), 2]
INPUT = "model.embed_tokens.weight"


def tokens(folder: Path, tokenizer: Path, *names: str) -> Path:
    files = {name: [DOC if "zh" in name else ENGLISH] * 12 for name in names}
    digest = read_base(str(tokenizer)).digest
    return write_tokens(folder, files, vocab_size=SIZE + 4, digest=digest)


def call(tmp_path: Path, *names: str, **options: Any) -> dict[str, Any]:
    tokenizer = extended_folder(tmp_path / "extended")
    return {
        "model": tmp_path / "base",
        "tokenizer": tokenizer,
        "out": tmp_path / "out",
        "method": "probe",
        "counts": tokens(tmp_path / "tokens", tokenizer, *names),
        "options": {"steps": 3, "batch_size": 2, "seq_len": 16, **options},
    }


SETS = ("zh-train", "zh-valid", "en-train", "en-valid")


def test_the_winner_is_written_and_all_curves_are_kept(tmp_path: Path) -> None:
    base = untied_llama(tmp_path / "base")
    options = {"candidates": "normal/mean,mean/position"}
    result = expand(**call(tmp_path, *SETS, **options))
    facts = result.facts
    assert facts.probe_judge == "zh"  # the set with new pieces in it
    assert [(c.method, c.head_method) for c in facts.probe] == [
        ("normal", "mean"),
        ("mean", "position"),
    ]
    assert all(curve.steps == [0, 3] and set(curve.bpb) == {"zh", "en"} for curve in facts.probe)
    best = min(facts.probe, key=lambda curve: curve.bpb["zh"][-1])
    assert (facts.method, facts.head_method) == (best.method, best.head_method)
    named = expand(
        **{
            **call(tmp_path, *SETS),
            "out": tmp_path / "named",
            "options": {},
            "method": best.method,
            "head_method": best.head_method,
        }
    )
    rows = [ModelFolder(folder).tensor(INPUT) for folder in (result.folder, named.folder)]
    assert torch.equal(*rows)
    assert torch.equal(rows[0][:SIZE], base.tensor(INPUT))


def test_a_tied_model_tries_methods_without_heads(tmp_path: Path) -> None:
    tied_llama(tmp_path / "base")
    facts = expand(**call(tmp_path, *SETS, judge="en", candidates="mean,position")).facts
    assert facts.probe_judge == "en"
    assert [curve.head_method for curve in facts.probe] == [None, None]


def test_candidates_that_cannot_be_tried_are_refused() -> None:
    assert read_candidates("a/b, c/d", tied=False) == [Candidate("a", "b"), Candidate("c", "d")]
    assert len(read_candidates("", tied=True)) == len(read_candidates("", tied=False)) == 4
    with pytest.raises(UsageError, match=r"'mean': expected METHOD/HEAD_METHOD"):
        read_candidates("mean,position", tied=False)
    with pytest.raises(UsageError, match="expected METHOD, for the head is tied"):
        read_candidates("mean/mean,position", tied=True)
    with pytest.raises(UsageError, match="expected two or more"):
        read_candidates("mean,mean", tied=True)
    with pytest.raises(UsageError, match="'probe'"):
        read_candidates("mean,probe", tied=True)


def test_text_that_cannot_judge_is_refused(tmp_path: Path) -> None:
    untied_llama(tmp_path / "base")
    with pytest.raises(UsageError, match=r"no set with both NAME-train and NAME-valid"):
        expand(**call(tmp_path, "zh-train"))
    with pytest.raises(UsageError, match=r"(?s)no held-out set 'fr'.*there are: zh, en"):
        expand(**call(tmp_path, *SETS, judge="fr"))
    with pytest.raises(UsageError, match="unknown; there are"):
        expand(**call(tmp_path, *SETS, candidates="mean/mean,meen/mean"))
    with pytest.raises(UsageError, match="the probe chooses the head's method, too"):
        expand(**call(tmp_path, *SETS), head_method="mean")
    without = {**call(tmp_path, *SETS), "counts": None}
    with pytest.raises(UsageError, match="'probe' needs tokens"):
        expand(**without)
