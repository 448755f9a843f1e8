"""Bits per byte where a tokenizer loses text, or puts what one does not expect before it."""

import json
from pathlib import Path
from typing import Any

import pytest
from grafts import base_folder, byte_folder, grafted_folder, write_docs
from pico import save_llama
from plain_bits import plain_bpb
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer
from typer.testing import CliRunner

from lingraft.cli import app
from lingraft.errors import InputError, UsageError
from lingraft.evals.bits import BitsSettings
from lingraft.evals.bitscommand import bits_per_byte

WORDS = ("<unk>", "</s>", "the", "cat", "sat")
LETTERS = ("<unk>", "</s>", "a", "b", " ", ",")


def folder_of(folder: Path, tokenizer: Tokenizer, **config: Any) -> Path:
    """A random Llama with a tokenizer of the library."""
    save_llama(folder, vocab_size=tokenizer.get_vocab_size(), eos_token_id=1, bos_token_id=None)
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>"} | config
    (folder / "tokenizer_config.json").write_text(json.dumps(names), encoding="utf-8")
    return folder


def of_words() -> Tokenizer:
    """Words of a list; other words are unknown."""
    vocab = {word: id for id, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["</s>"])
    return tokenizer


def of_letters(normalizer: Any) -> Tokenizer:
    """Letters of a list, after a normalizer."""
    vocab = {letter: id for id, letter in enumerate(LETTERS)}
    tokenizer = Tokenizer(models.BPE(vocab, [], unk_token="<unk>"))
    tokenizer.normalizer = normalizer
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(["</s>"])
    return tokenizer


def of_digits() -> Tokenizer:
    """The digits 0 and 1; all else gives no id."""
    tokenizer = Tokenizer(models.BPE({"<s>": 0, "</s>": 1, "0": 2, "1": 3}, []))
    tokenizer.add_special_tokens(["<s>", "</s>"])
    return tokenizer


@pytest.mark.parametrize("config", [{}, {"unk_token": "<unk>"}])
def test_unknown_pieces_are_text_that_is_lost(tmp_path: Path, config: dict[str, str]) -> None:
    """Of "the dog sat" there is left "the sat": "dog" and a space are not in it."""
    folder = folder_of(tmp_path / "words", of_words(), **config)
    text = write_docs(tmp_path / "en.jsonl", ["the cat sat", "the dog sat"])
    (row,) = bits_per_byte([folder], [text])
    assert row["lost"] == {"docs": 1, "bytes": 4, "bytes_frac": 4 / 22, "unknown_tokens": 1}


@pytest.mark.parametrize(
    ("normalizer", "doc", "size_bytes"),
    [
        (normalizers.Lowercase(), "AB ab", 2),
        (normalizers.NFKC(), "a\uff0cb", 3),  # the full-width comma
        (normalizers.Replace("  ", " "), "a  b", 1),
        (normalizers.Lowercase(), "ab, ba", 0),
    ],
)
def test_what_normalisation_takes_away_is_lost(
    tmp_path: Path, normalizer: Any, doc: str, size_bytes: int
) -> None:
    folder = folder_of(tmp_path / "letters", of_letters(normalizer))
    text = write_docs(tmp_path / "a.jsonl", [doc])
    (row,) = bits_per_byte([folder], [text])
    assert (row["lost"]["bytes"], row["lost"]["docs"]) == (size_bytes, int(size_bytes > 0))
    assert row["lost"]["unknown_tokens"] == 0


def test_tokenizers_of_bytes_lose_nothing(tmp_path: Path) -> None:
    """Spaces at both ends, rare characters, and special pieces in a text among it."""
    docs = [
        " a",
        "\ta b  c\n\n",
        "  a ",
        "\n中",
        "<s>a</s>",
        "，\x00é e\u0301 \U0001f600",
        "A . , don't",
    ]
    text = write_docs(tmp_path / "a.jsonl", docs)
    folders = [
        base_folder(tmp_path / "base"),
        grafted_folder(tmp_path / "grafted"),
        byte_folder(tmp_path / "bytes"),
    ]
    lost = {"docs": 0, "bytes": 0, "bytes_frac": 0.0, "unknown_tokens": 0}
    assert [row["lost"] for row in bits_per_byte(folders, [text])] == [lost] * 3


def test_a_figure_of_lost_text_is_marked(tmp_path: Path) -> None:
    """Also a difference to it; a figure without loss is not."""
    words, whole = folder_of(tmp_path / "words", of_words()), byte_folder(tmp_path / "bytes")
    text = write_docs(tmp_path / "en.jsonl", ["the cat sat", "the dog sat"])
    call = ["bpb", str(words), str(whole), "--text", str(text)]
    done = CliRunner().invoke(app, call, env={"COLUMNS": "200"})
    rows = [line for line in done.output.splitlines() if line.startswith("│")]
    assert [row.count("*") for row in rows] == [1, 1]
    assert rows[0].split("│")[2].strip().endswith("*")
    assert rows[1].split("│")[3].strip().endswith("*")
    assert (
        "* words on en.jsonl: its tokenizer loses 4 bytes of the text (18.18%) or more, in 1 of 2 "
        "documents (1 unknown pieces)"
    ) in done.output
    plain = CliRunner().invoke(app, ["bpb", str(whole), "--text", str(text)])
    assert "*" not in plain.output


def test_an_unknown_first_piece_is_no_bos(tmp_path: Path) -> None:
    """To this tokenizer "a" is <unk>, which its config calls special; it puts nothing before."""
    folder = folder_of(tmp_path / "words", of_words(), unk_token="<unk>")
    docs = ["the cat sat", "cat the"]
    (row,) = bits_per_byte([folder], [write_docs(tmp_path / "en.jsonl", docs)])
    assert (row["bos"], row["bos_put_by_tokenizer"]) == ("</s>", False)
    assert row["bpb"] == pytest.approx(plain_bpb(folder, docs, 64, 32), rel=2e-6)


def test_bos_is_found_where_an_a_gives_no_id(tmp_path: Path) -> None:
    tokenizer = of_digits()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    folder = folder_of(tmp_path / "digits", tokenizer)
    (row,) = bits_per_byte([folder], [write_docs(tmp_path / "a.jsonl", ["a", "01a"])])
    assert (row["bos"], row["bos_put_by_tokenizer"], row["tokens"]) == ("<s>", True, 2)
    assert row["lost"] == {"docs": 2, "bytes": 2, "bytes_frac": 0.5, "unknown_tokens": 0}


def test_several_pieces_before_a_text_need_one_named(tmp_path: Path) -> None:
    tokenizer = of_words()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="</s> cat $A", special_tokens=[("</s>", 1), ("cat", 3)]
    )
    folder = folder_of(tmp_path / "words", tokenizer)
    text = write_docs(tmp_path / "en.jsonl", ["the cat"])
    with pytest.raises(UsageError, match="puts </s> cat before a text"):
        bits_per_byte([folder], [text])
    (row,) = bits_per_byte([folder], [text], settings=BitsSettings(bos="cat"))
    assert (row["bos"], row["bos_put_by_tokenizer"]) == ("cat", False)


def test_a_text_that_gives_no_id_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "digits", of_digits())
    with pytest.raises(InputError, match=r"digits on zh\.jsonl: .* no id for any document"):
        bits_per_byte([folder], [write_docs(tmp_path / "zh.jsonl", ["中文"])])


def test_the_sentencepiece_model_of_these_tests_has_bos_and_a_dummy_prefix(tmp_path: Path) -> None:
    """So the computation in plain PyTorch is compared on such a tokenizer, too."""
    tokenizer = AutoTokenizer.from_pretrained(base_folder(tmp_path / "base"))
    ids = tokenizer("c")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == ["<s>", "▁", "c"]


def test_what_is_not_scored_as_it_stands_is_told(tmp_path: Path) -> None:
    base_folder(tmp_path / "base")
    text = tmp_path / "t.jsonl"
    text.write_text('{"text": "a\\ud800b"}\n{"text": " "}\n{"text": "c"}\n', encoding="utf-8")
    call = ["bpb", str(tmp_path / "base"), "--text", str(text)]
    told = CliRunner().invoke(app, call).output
    assert "blank documents, left out: 1" in told
    assert "t.jsonl: 1 half of a surrogate pair" in told
    (row,) = json.loads(CliRunner().invoke(app, [*call, "--json", "-"]).stdout)
    assert (row["blank_docs"], row["num_surrogates"], row["bytes"]) == (1, 1, 6)
