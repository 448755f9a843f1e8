"""A finished run with facts made by hand, for the report to read."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ConfigDict

from lingraft.manifest import Facts, Identity
from lingraft.progress import SilentReporter
from lingraft.report.settings import ReportFacts, ReportSettings
from lingraft.report.stage import run
from lingraft.stages import STAGES
from lingraft.store import Artefact, open_draft, write_text

ALP_SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 90 40"><rect width="90" height="40"'
    ' fill="#fff"/><path d="M5 35Q20 8 85 6" fill="none" stroke="#1d5fc4"/></svg>'
)

CURVE: list[dict[str, Any]] = [
    {"step": 0, "tokens": 0, "valid": {"zh-news": 4.5, "zh-reviews": 4.25, "en-docs": 2.0}},
    {"step": 1, "loss": 9.5, "lr": 1e-5, "tokens": 2048},
    {"step": 2, "loss": 8.25, "lr": 9e-6, "tokens": 4096},
    {"step": 3, "loss": 6.75, "lr": 5e-6, "tokens": 6144},
    {
        "step": 4,
        "loss": 6.125,
        "lr": 1e-6,
        "tokens": 8192,
        "valid": {"zh-news": 2.4, "zh-reviews": 2.2, "en-docs": 2.05},
    },
]


class _AnyFacts(Facts):
    """Facts of any shape."""

    model_config = ConfigDict(extra="allow")


def _split(docs: int, chars: int, size: int) -> dict[str, int]:
    return {"num_docs": docs, "num_chars": chars, "size_bytes": size}


def _set(language: str, read: int, dropped: dict[str, int]) -> dict[str, Any]:
    return {
        "language": language,
        "train": _split(980, 90_000, 250_000),
        "valid": _split(20, 2_000, 5_000),
        "test": None,
        "num_docs_read": read,
        "dropped": dropped,
        "commits": {},
    }


def _score(bpb: float, docs: int = 20) -> dict[str, Any]:
    return {
        "bpb": bpb,
        "num_docs": docs,
        "num_chars": 2_000,
        "size_bytes": 5_000,
        "total_tokens": 1_500,
        "tokens_per_char": 0.75,
    }


def _difference(bpb: float, spread: float | None = 0.125) -> dict[str, float | None]:
    if spread is None:
        return {"bpb": bpb, "low": None, "high": None}
    return {"bpb": bpb, "low": bpb - spread, "high": bpb + spread}


def _efficiency(base: int, extended: int) -> dict[str, int]:
    return {
        "base_tokens": base,
        "extended_tokens": extended,
        "num_chars": 2_000,
        "size_bytes": 6_000,
    }


_BPB = {
    "base": {"zh-news": 4.0, "zh-reviews": 3.6, "en-docs": 2.0},
    "expanded": {"zh-news": 4.5, "zh-reviews": 4.25, "en-docs": 2.0},
    "trained": {"zh-news": 2.4, "zh-reviews": 2.2, "en-docs": 2.05},
}
_LANGUAGE_BPB = {
    "base": {"zh": 3.8, "en": 2.0},
    "expanded": {"zh": 4.375, "en": 2.0},
    "trained": {"zh": 2.28125, "en": 2.05},
}
_CONTINUATIONS = {
    "base": "���� of the return，<script>alert(1)</script> and the functions",
    "expanded": "迷迷 the 嬗",
    "trained": "的经济发展取得了很大的成绩，人民生活水平有了提高。"
    "记者从有关部门了解到，今年以来，各地认真贯彻中央精神。",
}

FACTS: dict[str, dict[str, Any]] = {
    "corpus": {
        "sets": {
            "zh-news": _set("zh", 1_100, {"too_short": 60, "duplicate": 40}),
            "zh-reviews": _set("zh", 1_007, {"too_short": 7}),
            "en-docs": _set("en", 1_000, {}),
        }
    },
    "base": {
        "num_parameters": 8_400_000,
        "vocab_size": 32_000,
        "num_shards": 5,
        "size_bytes": 33_600_000,
        "train_tokens": 368_640,
        "final_loss": 3.75,
    },
    "vocab": {
        "num_candidates": 26_004,
        "num_pieces": 3_210,
        "num_chars": 1_500,
        "num_chars_in_base": 1_457,
        "rule": "gain",
        "reasons": ["3,210 pieces, by min_gain."],
        "knee": 2_950,
        "curves": [
            {"num_chars": 1_000, "num_rules": 7_000, "alp_at_choice": {"zh-news": -812.5}},
            {"num_chars": 1_500, "num_rules": 6_500, "alp_at_choice": {"zh-news": -801.25}},
        ],
        "rule_count_at_cut": 31,
    },
    "tokenizer": {
        "base_size": 32_000,
        "added_pieces": 3_210,
        "size": 35_210,
        "efficiency": {
            "zh-news": _efficiency(3_000, 1_400),
            "zh-reviews": _efficiency(3_000, 1_600),
            "en-docs": _efficiency(500, 500),
        },
        "missing_bytes": 0,
        "num_texts_compared": 6_060,
        "num_texts_unchanged": 2_020,
        "unreachable_pieces": 0,
    },
    "embed": {
        "method": "mean",
        "head_method": "mean",
        "tied": False,
        "base_rows": 32_000,
        "added_rows": 3_210,
        "padded": 0,
        "copied": 0,
        "special": 0,
        "unspellable": 0,
        "completed_bytes": 0,
        "averaged_over": {"2": 1_500, "3": 1_626},
        "mean_spelling_tokens": 2.875,
        "identical_before": 102,
        "identical_rows": 0,
        "head_identical_before": 102,
        "head_identical_rows": 0,
        "notes": {},
        "shards_linked": 1,
        "shards_written": 2,
        "probe_judge": None,
        "probe": [],
    },
    "encode": {
        "sets": {
            "zh-news": {
                "train": {"num_docs": 980, "total_tokens": 65_432, "size_bytes": 250_000},
                "valid": {"num_docs": 20, "total_tokens": 1_440, "size_bytes": 5_000},
            }
        },
        "total_tokens": 66_872,
        "token_bytes": 2,
    },
    "train": {
        "steps": 4,
        "mixture": [
            {"part": "1:zh-news", "total_tokens": 65_432, "epochs": 1.0, "share": 0.953},
            {"part": "0.05:en-docs", "total_tokens": 3_210, "epochs": 0.05, "share": 0.047},
        ],
        "total_tokens": 8_192,
        "trainable_parameters": 7_155_264,
        "lora_parameters": 394_944,
        "embed_parameters": 6_760_320,
        "phases": ["lora + added + base: 4 steps"],
        "split": {"processes": 1, "micro_batch_size": 8},
        "stopped_by_guard": False,
        "replay": [],
        "replayed_sequences": 0,
        "bytes_per_parameter": {},
        "frozen_parameters": 2_247_776,
        "lora_modules": 112,
        "lora_modules_expected": 112,
        "bits_per_frozen_parameter": 4.127,
        "first_loss": 9.5,
        "final_loss": 6.125,
        "valid_bpb_start": CURVE[0]["valid"],
        "valid_bpb_end": CURVE[-1]["valid"],
    },
    "merge": {
        "tensors_merged": 112,
        "tensors_replaced": 2,
        "tensors_kept": 13,
        "rows_replaced": 0,
        "size_bytes": 35_100_000,
        "shards_linked": 0,
        "shards_written": 3,
        "untied": False,
        "max_logit_difference": 3.1e-06,
        "max_logit_difference_other_body": 0.031,
        "largest_logit": 9.7,
    },
    "evals": {
        "scores": {m: {s: _score(b) for s, b in row.items()} for m, row in _BPB.items()},
        "languages": {
            m: {lang: _score(b, 40) for lang, b in row.items()} for m, row in _LANGUAGE_BPB.items()
        },
        "differences": {
            "expanded": {s: _difference(0.5) for s in _BPB["base"]},
            "trained": {s: _difference(-1.5) for s in _BPB["base"]},
        },
        "language_differences": {
            "expanded": {lang: _difference(0.5, spread=None) for lang in _LANGUAGE_BPB["base"]},
            "trained": {lang: _difference(-1.5) for lang in _LANGUAGE_BPB["base"]},
        },
        "samples": [
            {"prompt": prompt, "model": model, "text": text}
            for prompt in ("中国政府", "The <b>function</b> returns\x00")
            for model, text in _CONTINUATIONS.items()
        ],
    },
}

SETTINGS: dict[str, dict[str, Any]] = {
    "corpus": {"sets": [], "valid_frac": 0.02, "deduplicate": True},
    "base": {"model": "", "shape": {"hidden_size": 96, "num_local_experts": 8}},
    "vocab": {
        "sets": ["zh-news", "zh-reviews"],
        "scripts": ["Han"],
        "evaluation": ["zh-news"],
    },
    "tokenizer": {"check_docs": 2_000},
    "embed": {"method": "mean", "head_method": "mean"},
    "encode": {"append_eos": True, "prepend_bos": True},
    "train": {
        "mixture": ["1:zh-news", "0.05:en-docs"],
        "documents": "isolated",
        "seq_len": 256,
        "sequences_per_step": 8,
        "lr": 1e-5,
        "embed_lr": None,
        "schedule": "cosine",
        "warmup_frac": 0.05,
        "quantize": "nf4",
        "dtype": "float32",
        "eval_docs": 60,
        "lora": {"rank": 8, "alpha": 16.0, "dropout": 0.05, "targets": ["q_proj", "w1"]},
    },
    "merge": {"body": "original", "dtype": "keep"},
    "evals": {"max_docs": 120, "temperature": 0.8, "top_p": 0.9, "max_new_tokens": 60},
}

REPORT = ReportSettings(
    title="Chinese on a <pico> Mixtral",
    model_name="pico-zh",
    data_note="Text from a test & nowhere else.",
)


class FakeRun:
    """A run folder with every stage before the report, made from facts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.facts = copy.deepcopy(FACTS)
        self.settings = copy.deepcopy(SETTINGS)
        self.curve = "".join(json.dumps(row) + "\n" for row in CURVE)
        self.report = REPORT

    def artefacts(self, time_s: float = 1.0) -> dict[str, Artefact]:
        """Write the artefacts, each with its manifest."""
        files = {"vocab": {"alp.svg": ALP_SVG}, "train": {"curve.jsonl": self.curve}}
        made: dict[str, Artefact] = {}
        for stage in STAGES[:-1]:
            identity = Identity(
                stage=stage.name,
                stage_version=stage.version,
                settings=self.settings[stage.name],
                seed=17,
                inputs={name: made[name].manifest.digest for name in stage.takes},
            )
            draft = open_draft(
                self.folder / stage.folder, identity, SilentReporter(), resumable=False
            )
            for name, text in files.get(stage.name, {}).items():
                write_text(draft.path / name, text)
            facts = _AnyFacts.model_validate(self.facts[stage.name])
            made[stage.name] = draft.seal(facts, {"time_s": time_s, "machine": "abacus"})
        return made

    def render(self, time_s: float = 1.0) -> tuple[ReportFacts, Artefact]:
        """Run the report stage on it."""
        made = self.artefacts(time_s)
        identity = Identity(
            stage="report",
            stage_version=1,
            settings=self.report.model_dump(mode="json"),
            seed=17,
            inputs={name: artefact.manifest.digest for name, artefact in made.items()},
        )
        draft = open_draft(self.folder / "90-report", identity, SilentReporter(), resumable=False)
        facts = run(self.report, made, draft)
        return facts, draft.seal(facts, {"time_s": time_s})


@pytest.fixture
def fake_run(tmp_path: Path) -> FakeRun:
    """A run whose facts and settings a test may change before it is rendered."""
    return FakeRun(tmp_path / "run")


@pytest.fixture
def render_texts(fake_run: FakeRun) -> Callable[[], tuple[str, str]]:
    """Render the run and give report.html and README.md."""

    def texts() -> tuple[str, str]:
        _, artefact = fake_run.render()
        names = ("report.html", "README.md")
        page, card = (artefact.file(name).read_text(encoding="utf-8") for name in names)
        return page, card

    return texts
