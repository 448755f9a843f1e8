"""Bits per byte of any text, for models with any tokenizers."""

import gzip
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from grafts import CHINESE_DOCS, base_folder, byte_folder, grafted_folder, spoil, write_docs
from plain_bits import plain_bpb
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from lingraft.cli import app
from lingraft.errors import InputError, UsageError
from lingraft.evals import bitscommand
from lingraft.evals.bits import BitsSettings, score_text
from lingraft.evals.bitscommand import bits_per_byte
from lingraft.evals.intervals import bits_difference


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {
        "base": base_folder(root / "base"),
        "grafted": grafted_folder(root / "grafted"),
        "bytes": byte_folder(root / "bytes"),
    }


@pytest.mark.parametrize("name", ["base", "grafted", "bytes"])
@pytest.mark.parametrize("stride", [1, 5, 16])
def test_it_equals_an_independent_computation(
    tmp_path: Path, folders: dict[str, Path], name: str, stride: int
) -> None:
    docs = [CHINESE_DOCS[n % 5] * (1 + n % 3) for n in range(20)]
    text = write_docs(tmp_path / "zh.jsonl", docs)
    settings = BitsSettings(max_tokens=16, stride=stride)
    (row,) = bits_per_byte([folders[name]], [text], settings=settings)
    assert row["bpb"] == pytest.approx(plain_bpb(folders[name], docs, 16, stride), rel=2e-6)
    assert row["bytes"] == sum(len(doc.encode()) for doc in docs)
    assert row["docs_over_context"] > 3
    assert (row["model"], row["text"], row["difference"]) == (name, "zh.jsonl", None)


def test_token_loss_misleads_where_tokenizers_differ_and_bits_per_byte_do_not(
    tmp_path: Path, folders: dict[str, Path]
) -> None:
    """Both models give every token 1/V: the one with shorter tokens looks better by the token.

    "嬗变" * 8 is 1 + 48 tokens of 271 pieces, or 1 + 8 of 275: by the token 5.60 or 5.62 nats, by
    the byte 8.25 or 1.52 bits.
    """
    flat = {}
    for name in ("base", "grafted"):
        folder = tmp_path / name
        (base_folder if name == "base" else grafted_folder)(folder, tie_word_embeddings=False)
        tensors = load_file(folder / "model.safetensors")
        tensors["lm_head.weight"] = torch.zeros_like(tensors["lm_head.weight"])
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        flat[name] = folder
    text = write_docs(tmp_path / "zh.jsonl", ["嬗变" * 8])
    base, grafted = bits_per_byte([flat["base"], flat["grafted"]], [text])
    assert (base["tokens"], grafted["tokens"]) == (49, 9)
    assert base["nats_per_token"] < grafted["nats_per_token"]
    assert base["bpb"] == pytest.approx(49 * math.log2(271) / 48)
    assert grafted["bpb"] == pytest.approx(9 * math.log2(275) / 48)
    assert grafted["bpb"] < base["bpb"] / 5


def test_policies_are_stated(tmp_path: Path, folders: dict[str, Path]) -> None:
    text = write_docs(tmp_path / "zh.jsonl", ["中文 abc", " ", "ab"])
    base, by_bytes = bits_per_byte([folders["base"], folders["bytes"]], [text])
    assert (base["bos"], base["bos_put_by_tokenizer"]) == ("<s>", True)
    assert (by_bytes["bos"], by_bytes["bos_put_by_tokenizer"]) == ("<|end|>", False)
    assert base["encoder"] == "compiled"
    assert (base["max_tokens"], base["stride"], base["eos_counted"]) == (64, 32, False)
    assert (base["docs"], base["blank_docs"]) == (2, 1)
    with_eos, _ = bits_per_byte(
        [folders["base"], folders["bytes"]], [text], settings=BitsSettings(eos=True)
    )
    assert with_eos["tokens"] == base["tokens"] + 2
    assert with_eos["tokens_per_char"] == base["tokens_per_char"]
    (other,) = bits_per_byte([folders["base"]], [text], settings=BitsSettings(bos="</s>"))
    assert (other["bos"], other["bos_put_by_tokenizer"]) == ("</s>", False)
    assert other["bpb"] != base["bpb"]


def test_differences_are_to_the_first_model_with_an_interval(
    tmp_path: Path, folders: dict[str, Path]
) -> None:
    text = write_docs(tmp_path / "zh.jsonl", CHINESE_DOCS)
    rows = bits_per_byte([folders["base"], folders["grafted"]], [text, text.parent])
    assert len(rows) == 2  # the file comes once, however often it is named
    found = rows[1]["difference"]
    assert found["to"] == "base"
    assert found["bpb"] == pytest.approx(rows[1]["bpb"] - rows[0]["bpb"])
    assert found["low"] < found["bpb"] < found["high"]
    again = bits_per_byte([folders["base"], folders["grafted"]], [text])
    assert again == rows


def test_an_interval_holds_the_middle_of_what_resampling_gives() -> None:
    """Two documents of one byte, 0 and 2 bits more: means of draws are 0, 1, 1, 2."""
    more = np.array([0.0, 2.0]) * math.log(2)
    sizes = np.array([1, 1])
    found = bits_difference(np.zeros(2), more, sizes, resamples=2_000, seed=1)
    assert found == (1.0, 0.0, 2.0)
    same = bits_difference(np.zeros(2), more[[1, 1]], sizes, resamples=100, seed=1)
    assert same == pytest.approx((2.0, 2.0, 2.0))
    assert bits_difference(np.zeros(1), more[1:], sizes[1:], resamples=9, seed=1)[1:] == (
        None,
        None,
    )


@pytest.mark.parametrize("packed", [False, True])
def test_a_txt_file_is_one_document(tmp_path: Path, folders: dict[str, Path], packed: bool) -> None:
    text = "中文\nabc\r\n\n嬗变\n"
    path = tmp_path / ("a.txt.gz" if packed else "a.txt")
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    (row,) = bits_per_byte([folders["base"]], [path])
    assert (row["docs"], row["bytes"]) == (1, len(text.encode()))


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "holds no text"), (b" \n ", "holds no text"), (b"\xff\xfe", "not UTF-8")],
)
def test_a_text_that_is_none_is_refused(
    tmp_path: Path, folders: dict[str, Path], content: bytes, message: str
) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        bits_per_byte([folders["base"]], [path])


def test_a_damaged_packed_text_is_refused(tmp_path: Path, folders: dict[str, Path]) -> None:
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(b"text")[:-6])
    with pytest.raises(InputError, match=r"a\.txt\.gz: cannot be read"):
        bits_per_byte([folders["base"]], [path])


def test_not_a_number_names_model_and_document(tmp_path: Path) -> None:
    spoiled = spoil(base_folder(tmp_path / "spoiled"))
    text = write_docs(tmp_path / "zh.jsonl", CHINESE_DOCS)
    with pytest.raises(InputError, match=r"spoiled on zh\.jsonl, document \d+: the logits of"):
        bits_per_byte([spoiled], [text])


def test_an_id_without_a_row_names_the_document(tmp_path: Path, folders: dict[str, Path]) -> None:
    short = grafted_folder(tmp_path / "short", vocab_size=272)
    text = write_docs(tmp_path / "zh.jsonl", ["abc", "嬗变"])
    with pytest.raises(InputError, match=r"document 2 holds id 27\d; the model has 272 rows"):
        bits_per_byte([short], [text])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": BitsSettings(max_tokens=65)}, "was made for 64 positions"),
        ({"settings": BitsSettings(max_tokens=0)}, "--max-tokens 0"),
        ({"settings": BitsSettings(max_tokens=8, stride=9)}, "--stride 9"),
        ({"settings": BitsSettings(bos="<none>")}, "no such piece"),
        ({"limit": 0}, "--limit 0"),
        ({"new_pieces": True}, "--new-pieces: no model has base's pieces"),
        ({"out": "there/is/no.json"}, "expected a file in a folder"),
        ({"resamples": -1}, "--resamples -1"),
        ({"seed": -1}, "--seed -1"),
    ],
)
def test_a_call_that_does_not_fit_is_refused(
    tmp_path: Path, folders: dict[str, Path], change: dict[str, Any], message: str
) -> None:
    text = write_docs(tmp_path / "zh.jsonl", ["abc"])
    with pytest.raises(UsageError, match=message):
        bits_per_byte([folders["base"]], [text], **change)


def test_a_vocabulary_without_bos_and_eos_needs_one_named(tmp_path: Path) -> None:
    folder = byte_folder(tmp_path / "bare")
    (folder / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "PreTrainedTokenizerFast"}', encoding="utf-8"
    )
    text = write_docs(tmp_path / "zh.jsonl", ["abc"])
    with pytest.raises(UsageError, match="neither BOS nor EOS"):
        bits_per_byte([folder], [text])
    with pytest.raises(UsageError, match="names no EOS"):
        bits_per_byte([folder], [text], settings=BitsSettings(bos="<|end|>", eos=True))
    assert bits_per_byte([folder], [text], settings=BitsSettings(bos="<|end|>"))[0]["tokens"]


def test_a_tokenizer_that_is_not_ours_is_used_and_told(
    tmp_path: Path, folders: dict[str, Path]
) -> None:
    """A tokenizer.model of other ids than the tokenizer.json beside it: transformers' counts."""
    folder = grafted_folder(tmp_path / "both")
    model = (folders["base"] / "tokenizer.model").read_bytes()
    (folder / "tokenizer.model").write_bytes(model)
    text = write_docs(tmp_path / "zh.jsonl", CHINESE_DOCS)
    row, plain = bits_per_byte([folder, grafted_folder(tmp_path / "plain")], [text])
    assert row["encoder"] == "transformers: the folder's tokenizer file gives other ids"
    assert row["tokens"] == plain["tokens"]
    assert row["bpb"] == pytest.approx(plain["bpb"])


def test_encoders_are_compared_on_documents_of_each_text(
    tmp_path: Path, folders: dict[str, Path]
) -> None:
    """On 20 English documents the two give the same ids; on the Chinese text behind they do not."""
    folder = grafted_folder(tmp_path / "both")
    model = (folders["base"] / "tokenizer.model").read_bytes()
    (folder / "tokenizer.model").write_bytes(model)
    texts = [write_docs(tmp_path / "a-en.jsonl", ["ab abc"] * 20)]
    assert bits_per_byte([folder], texts)[0]["encoder"] == "compiled"
    texts.append(write_docs(tmp_path / "b-zh.jsonl", CHINESE_DOCS))
    told = {row["encoder"] for row in bits_per_byte([folder], texts)}
    assert told == {"transformers: the folder's tokenizer file gives other ids"}


def test_a_tokenizer_without_a_file_of_ours_is_transformers(
    tmp_path: Path, folders: dict[str, Path]
) -> None:
    """GPT-2's two files hold the same vocabulary and merge rules as the one that we read."""
    folder = byte_folder(tmp_path / "two-files")
    spec = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    (folder / "tokenizer.json").unlink()
    vocab = spec["vocab"] | {"<|end|>": len(spec["vocab"])}
    (folder / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    merges = [m if isinstance(m, str) else " ".join(m) for m in spec["merges"]]
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges), encoding="utf-8")
    config = {"tokenizer_class": "GPT2Tokenizer", "unk_token": "<|end|>", "bos_token": "<|end|>"}
    config["eos_token"] = "<|end|>"
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    text = write_docs(tmp_path / "zh.jsonl", [*CHINESE_DOCS, "<|end|> in a text"])
    row, plain = bits_per_byte([folder, folders["bytes"]], [text])
    assert row["encoder"].startswith("transformers: ")
    assert plain["encoder"] == "compiled"
    assert row["tokens"] == plain["tokens"]


def test_a_killed_call_goes_on(
    tmp_path: Path, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [write_docs(tmp_path / f"{name}.jsonl", CHINESE_DOCS) for name in "ab"]
    models, out = [folders["base"], folders["grafted"]], tmp_path / "bpb.json"
    whole = bits_per_byte(models, texts)
    scored: list[str] = []

    def score(reader: Any, text: Any, *rest: Any) -> Any:
        if len(scored) == 3:
            raise KeyboardInterrupt
        scored.append(f"{reader.loaded.name} {text.name}")
        return score_text(reader, text, *rest)

    monkeypatch.setattr(bitscommand, "score_text", score)
    with pytest.raises(KeyboardInterrupt):
        bits_per_byte(models, texts, out=out)
    kept = tmp_path / ".bpb.json.partial"
    with kept.open("a", encoding="utf-8") as file:
        file.write('["half a row')
    scored.clear()
    assert bits_per_byte(models, texts, out=out) == whole
    assert scored == ["grafted b.jsonl"]
    assert json.loads(out.read_text(encoding="utf-8")) == whole
    assert not kept.exists()


def test_what_was_kept_of_another_call_is_not_used(
    tmp_path: Path, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    text, out = write_docs(tmp_path / "a.jsonl", CHINESE_DOCS), tmp_path / "bpb.json"
    monkeypatch.setattr(bitscommand, "write_json", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        bits_per_byte([folders["base"]], [text], out=out)
    monkeypatch.undo()
    settings = BitsSettings(max_tokens=8)
    (row,) = bits_per_byte([folders["base"]], [text], out=out, settings=settings)
    assert row["max_tokens"] == 8


def test_the_command_prints_tables_and_writes_json(
    tmp_path: Path, folders: dict[str, Path]
) -> None:
    text, out = write_docs(tmp_path / "zh.jsonl", CHINESE_DOCS), tmp_path / "bpb.json"
    models = [str(folders["base"]), str(folders["grafted"])]
    words = ["bpb", *models, "--text", str(text), "--json", str(out), "--new-pieces"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "4 of 4 new pieces used" in done.output
    assert "<s> before each document (its tokenizer's own)" in done.output
    rows = json.loads(out.read_text(encoding="utf-8"))
    assert {"model", "text", "bpb", "bytes", "tokens"} <= set(rows[0])
    printed = CliRunner().invoke(app, [*words[:5], "--json", "-"])
    assert json.loads(printed.stdout)[0]["bpb"] == rows[0]["bpb"]
