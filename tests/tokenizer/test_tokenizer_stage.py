"""The stage: what it writes is what it proved, on a small base and on Mixtral's."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from artefacts import empty_draft, make_artefact
from small_tokenizers import build

from lingraft.encoder import FastEncoder
from lingraft.errors import InputError, VerifyError
from lingraft.fast import write_tokenizer
from lingraft.manifest import Facts
from lingraft.pieces import SentencePieces
from lingraft.settings import StageSettings
from lingraft.sources import locate_source
from lingraft.store import Artefact
from lingraft.tokenizer import stage
from lingraft.tokenizer.settings import TokenizerSettings

TRAIN = ["嬗变 abc", "中文嬗变", "  嬗变\n嬗"]
VALID = ["嬗变", "abc"]
ROWS = [
    {"piece": "嬗", "kind": "char", "left": "", "right": "", "count": 4},
    {"piece": "变", "kind": "char", "left": "", "right": "", "count": 3},
    {"piece": "嬗变", "kind": "rule", "left": "嬗", "right": "变", "count": 3},
]


class CorpusFacts(Facts):
    """What the tokenizer stage reads of the corpus facts."""

    sets: dict[str, dict[str, dict[str, int]]]


def inputs_of(
    folder: Path, proto: bytes, rows: Sequence[dict[str, object]] = ROWS
) -> dict[str, Artefact]:
    def corpus(path: Path) -> Facts:
        for split, texts in (("train", TRAIN), ("valid", VALID)):
            lines = [json.dumps({"id": str(n), "text": text}) for n, text in enumerate(texts)]
            (path / f"zh-{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        sizes = {"train": {"num_docs": len(TRAIN)}, "valid": {"num_docs": len(VALID)}}
        return CorpusFacts(sets={"zh": sizes})

    def base(path: Path) -> Facts:
        write_tokenizer(proto, path)
        return Facts()

    def vocab(path: Path) -> Facts:
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (path / "pieces.jsonl").write_text(text, encoding="utf-8")
        return Facts()

    return {
        "corpus": make_artefact(folder, "10-corpus", corpus),
        "base": make_artefact(folder, "15-base", base),
        "vocab": make_artefact(folder, "20-vocab", vocab),
    }


@pytest.fixture(autouse=True)
def few_code_points(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them take two seconds a run; the test on Mixtral's tokenizer takes them all."""
    if "mixtral" not in request.node.name:
        monkeypatch.setattr(stage, "every_code_point", lambda: iter(["\n".join("aé中嬗🌈")]))


def test_the_facts_count_tokens_before_and_after(tmp_path: Path) -> None:
    facts = stage.run(
        TokenizerSettings(), inputs_of(tmp_path, build()), empty_draft(tmp_path, "30-tokenizer")
    )
    assert facts.size == facts.base_size + 3 == len(SentencePieces(build()).pieces) + 3
    # 嬗变: ▁ and 6 bytes -> ▁ and one piece; abc: ▁ abc in both.
    assert facts.efficiency["zh"].model_dump() == {
        "base_tokens": 7 + 2,
        "extended_tokens": 2 + 2,
        "num_chars": 5,
        "size_bytes": 9,
    }
    assert facts.unreachable_pieces == 0


def test_the_written_forms_agree_with_each_other(tmp_path: Path) -> None:
    draft = empty_draft(tmp_path, "30-tokenizer")
    stage.run(TokenizerSettings(), inputs_of(tmp_path, build()), draft)
    pieces = SentencePieces.read(draft.path / "tokenizer.model")
    fast = FastEncoder.read(draft.path / "tokenizer.json")
    assert fast.encode_batch(TRAIN) == [pieces.encode(text) for text in TRAIN]
    assert fast.size == len(pieces.pieces)


def test_check_docs_limits_training_documents_only(tmp_path: Path) -> None:
    inputs = inputs_of(tmp_path, build())
    counted = [
        stage.run(
            TokenizerSettings(check_docs=docs), inputs, empty_draft(tmp_path, "30-tokenizer")
        ).num_texts_compared
        for docs in (1, 2, 3, 100)
    ]
    assert [n - counted[0] for n in counted] == [0, 1, 2, 2]


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    inputs = inputs_of(tmp_path, build())
    drafts = [empty_draft(tmp_path, name) for name in ("30-tokenizer", "31-tokenizer")]
    for draft in drafts:
        stage.run(TokenizerSettings(), inputs, draft)
    for path in drafts[0].path.glob("*tok*"):
        assert path.read_bytes() == (drafts[1].path / path.name).read_bytes()


def test_no_pieces_give_the_base_s_tokenizer(tmp_path: Path) -> None:
    draft = empty_draft(tmp_path, "30-tokenizer")
    inputs = inputs_of(tmp_path, build(), [])
    facts = stage.run(TokenizerSettings(), inputs, draft)
    assert (facts.added_pieces, facts.num_texts_unchanged) == (0, facts.num_texts_compared)
    for name in ("tokenizer.model", "tokenizer.json"):
        assert (draft.path / name).read_bytes() == inputs["base"].file(name).read_bytes()


def test_an_unfit_piece_ends_the_stage(tmp_path: Path) -> None:
    inputs = inputs_of(tmp_path, build(), ROWS[2:])
    with pytest.raises(InputError, match="added piece 0 \\('嬗变', rule\\)"):
        stage.run(TokenizerSettings(), inputs, empty_draft(tmp_path, "30-tokenizer"))


def test_unreachable_pieces_end_the_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "find_unreachable", lambda extended, num_base: ["嬗变"])
    with pytest.raises(VerifyError, match="1 added pieces can never be produced: '嬗变'"):
        stage.run(
            TokenizerSettings(), inputs_of(tmp_path, build()), empty_draft(tmp_path, "30-tokenizer")
        )


def test_another_stage_s_settings_are_our_mistake(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="another stage's settings"):
        stage.run(StageSettings(), {}, empty_draft(tmp_path, "30-tokenizer"))


def test_mixtral_s_own_tokenizer_is_extended_and_loads_in_transformers(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    proto = locate_source("package:mistral_common/data/tokenizer.model.v1").read_bytes()
    draft = empty_draft(tmp_path, "30-tokenizer")
    rows = [row for row in ROWS if row["piece"] not in SentencePieces(proto).ids]
    facts = stage.run(TokenizerSettings(), inputs_of(tmp_path, proto, rows), draft)
    assert (facts.base_size, facts.size) == (32_000, 32_000 + len(rows))
    (draft.path / "config.json").write_text(json.dumps({"model_type": "mixtral"}))
    loaded = AutoTokenizer.from_pretrained(draft.path)
    pieces = SentencePieces.read(draft.path / "tokenizer.model")
    for text in TRAIN:
        assert loaded(text).input_ids == [1, *pieces.encode(text)]
        assert loaded.decode(loaded(text).input_ids, skip_special_tokens=True) == text
