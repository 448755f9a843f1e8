"""The command on plain files: what it reads, writes, refuses and says."""

import json
from pathlib import Path
from typing import Any

import pytest
from byte_tokenizers import byte_level
from small_tokenizers import BY_HAND, build
from typer import Typer
from typer.testing import CliRunner

from lingraft import cli_extend
from lingraft.bases import read_base
from lingraft.encoder import FastEncoder
from lingraft.errors import InputError, UsageError, VerifyError
from lingraft.pieces import Kind, SentencePieces
from lingraft.sources import locate_source
from lingraft.tokenizer import assembling
from lingraft.tokenizer.extending import ExtendResult, extend
from lingraft.tokenizer.hard import HARD_TEXTS

SIZE = len(SentencePieces(build()).pieces)
PIECES = ["嬗", "变", "嬗变", "▁中"]
MIXTRAL = "package:mistral_common/data/tokenizer.model.v1"
END = {
    "id": 258, "content": "<|end|>", "special": True, "single_word": False, "lstrip": False,
    "rstrip": False, "normalized": False,
}  # fmt: skip


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "base" / "tokenizer.model"
    path.parent.mkdir()
    path.write_bytes(build())
    return path


@pytest.fixture
def bytes_file(tmp_path: Path) -> Path:
    path = tmp_path / "bytes" / "tokenizer.json"
    path.parent.mkdir()
    spec = {**byte_level([(b"\xe4", b"\xb8"), (b"a", b"b")]), "added_tokens": [END]}
    path.write_text(json.dumps(spec))
    return path


def write_list(folder: Path, *lines: str, name: str = "pieces.txt") -> Path:
    path = folder / name
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def run(tmp_path: Path, base: Path | str, *pieces: str, **asked: Any) -> ExtendResult:
    listed = write_list(tmp_path, *(pieces or PIECES))
    return extend(base=base, pieces=listed, out=tmp_path / "out", **asked)


def vocabulary(folder: Path) -> dict[int, str]:
    spec = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    return {id: piece for piece, id in spec["model"]["vocab"].items()}


def reloaded_ids(folder: Path, tmp_path: Path, texts: list[str]) -> list[list[list[int]]]:
    """What transformers gives: from the folder, and from what it saves of it."""
    from transformers import AutoTokenizer

    made = []
    for place in (folder, tmp_path / "saved"):
        loaded = AutoTokenizer.from_pretrained(place)
        loaded.save_pretrained(tmp_path / "saved")
        made.append(loaded(texts, add_special_tokens=False, split_special_tokens=True).input_ids)
    return made


def test_a_model_is_extended_in_both_forms(tmp_path: Path, model: Path) -> None:
    result = run(tmp_path, model)
    assert (result.base_size, result.num_pieces, result.size) == (SIZE, 4, SIZE + 4)
    assert result.scripts == ("Han",)
    assert sorted(p.name for p in result.folder.iterdir()) == [
        "extension.json",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
    ]
    extended = SentencePieces.read(result.folder / "tokenizer.model")
    assert extended.pieces[SIZE:] == ("嬗", "变", "嬗变", "▁中")
    fast = FastEncoder.read(result.folder / "tokenizer.json")
    assert fast.encode_batch(HARD_TEXTS) == extended.encode_batch(HARD_TEXTS)


def test_transformers_gives_the_same_ids_before_and_after_saving(
    tmp_path: Path, model: Path
) -> None:
    result = run(tmp_path, model, special=["<|im_start|>", "<|im_end|>"], pad_to_multiple=8)
    texts = ["嬗变 中文 abc", "<s> <|im_start|> x", "  嬗"]
    wanted = SentencePieces.read(result.folder / "tokenizer.model").encode_batch(texts)
    assert reloaded_ids(result.folder, tmp_path, texts) == [wanted, wanted]


def test_the_model_s_rank_is_told_in_the_record(tmp_path: Path, model: Path) -> None:
    result = run(tmp_path, model, special=["<|a|>"], pad_to_multiple=4)
    record = json.loads((result.folder / "extension.json").read_text(encoding="utf-8"))
    assert record == result.record
    assert record["base"]["name"] == "base/tokenizer.model"
    assert record["base"]["size"] == SIZE
    assert (record["num_pieces"], record["specials"]) == (4, ["<|a|>"])
    assert (record["first_score"], record["last_score"]) == (-1_000_000_064.0, -1_000_000_256.0)
    assert record["size"] % 4 == 0
    assert len(record["padding"]) == -(SIZE + 5) % 4


def test_special_tokens_and_padding_are_never_read_and_decode_to_nothing(
    tmp_path: Path, model: Path
) -> None:
    result = run(tmp_path, model, special=["<|im_start|>"], pad_to_multiple=16)
    assert (result.specials, result.size % 16) == (("<|im_start|>",), 0)
    extended = SentencePieces.read(result.folder / "tokenizer.model")
    ends = list(range(SIZE + 4, result.size))
    assert {extended.kinds[id] for id in ends} == {Kind.CONTROL}
    assert extended.decode(ends) == ""
    fast = FastEncoder.read(result.folder / "tokenizer.json")
    assert fast.decode(ends) == ""
    texts = ["".join(extended.pieces[id] for id in ends)]
    assert not set(ends) & set(fast.encode_batch(texts)[0])


@pytest.mark.parametrize(
    ("token", "problem"),
    [
        (" ", "is empty"),
        ("</s>", "in the base already"),
        ("中文", "in the base already"),
        ("嬗变", "one of the pieces"),
    ],
)
def test_a_special_token_that_cannot_be_one_is_refused(
    tmp_path: Path, model: Path, token: str, problem: str
) -> None:
    with pytest.raises(InputError, match=problem):
        run(tmp_path, model, special=[token])


def test_a_special_token_named_twice_is_refused(tmp_path: Path, model: Path) -> None:
    with pytest.raises(InputError, match="named twice"):
        run(tmp_path, model, special=["<a>", "<a>"])


def test_a_piece_that_no_rule_makes_is_refused_with_file_and_line(
    tmp_path: Path, model: Path
) -> None:
    with pytest.raises(InputError, match=r"pieces\.txt:2: piece '嬗变嬗'.*expected 2 pieces"):
        run(tmp_path, model, "嬗", "嬗变嬗")
    assert not (tmp_path / "out").exists()


def test_digits_side_by_side_are_refused_where_the_base_keeps_each_apart(
    tmp_path: Path, model: Path
) -> None:
    digits = [(digit, -50.0 - n) for n, digit in enumerate("0128")]
    model.write_bytes(build([*BY_HAND, *digits]))
    with pytest.raises(InputError, match=r"pieces\.txt:1: piece '20' has digits side by side"):
        run(tmp_path, model, "20")
    model.write_bytes(build([*BY_HAND, *digits, ("18", -40.0)]))
    assert run(tmp_path, model, "20").num_pieces == 1


def test_pieces_outside_the_scripts_are_warned_of(tmp_path: Path, model: Path) -> None:
    result = run(tmp_path, model, "嬗", "变", "嬗变", "ca")
    assert result.warnings == (
        "pieces without a character of Han: 1 ('ca'); texts of other languages change by them.",
    )


def test_scripts_of_the_base_s_own_languages_are_warned_of_unless_named(tmp_path: Path) -> None:
    listed = write_list(tmp_path, "hello world".replace(" ", "▁"))
    results = [
        extend(base=MIXTRAL, pieces=listed, out=tmp_path / name, scripts=scripts)
        for name, scripts in (("a", None), ("b", ["Latin"]))
    ]
    assert [result.record["scripts_from"] for result in results] == ["found", "named"]
    (warning,), none = (result.warnings for result in results)
    assert none == ()
    assert warning.startswith("Latin is what the base's own languages are written in: their texts")


def test_bytes_of_a_part_of_a_character_are_no_digits_side_by_side(
    tmp_path: Path, bytes_file: Path
) -> None:
    # 部 is E9 83 A8; the base keeps every digit to itself, and <0x83> is how we write a byte.
    assert run(tmp_path, bytes_file, '"<0xE9><0x83>"', "部").num_pieces == 2
    with pytest.raises(InputError, match="digits side by side"):
        run(tmp_path, bytes_file, "83")


def test_a_byte_level_base_keeps_its_special_ids(tmp_path: Path, bytes_file: Path) -> None:
    listed = ["中", "中ab", '"<0xE5><0xAC>"', "嬗"]
    result = run(tmp_path, bytes_file.parent, *listed, special=["<|a|>"], pad_to_multiple=10)
    assert (result.base_size, result.num_pieces, result.size) == (259, 4, 270)
    ids = vocabulary(result.folder)
    assert (ids[258], ids[263], ids[264]) == ("<|end|>", "<|a|>", "<|padding_0|>")
    texts = ["中ab嬗 <|end|>", "ab"]
    wanted = FastEncoder.read(result.folder / "tokenizer.json").encode_batch(texts)
    assert wanted[0][:2] == [260, 262]
    assert reloaded_ids(result.folder, tmp_path, texts) == [wanted, wanted]


def test_the_base_s_config_and_chat_template_are_carried_over(
    tmp_path: Path, bytes_file: Path
) -> None:
    config = {
        "tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|end|>", "model_max_length": 77,
        "auto_map": {"AutoTokenizer": "x.X"},
    }  # fmt: skip
    (bytes_file.parent / "tokenizer_config.json").write_text(json.dumps(config))
    (bytes_file.parent / "chat_template.jinja").write_text("{{ messages }}")
    result = run(tmp_path, bytes_file.parent, "中")
    written = json.loads((result.folder / "tokenizer_config.json").read_text())
    assert written["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert (written["eos_token"], written["model_max_length"]) == ("<|end|>", 77)
    assert list(written["added_tokens_decoder"]) == ["258"]
    assert (result.folder / "chat_template.jinja").read_text() == "{{ messages }}"
    assert result.warnings == (
        "auto_map was left out: the extended tokenizer needs no code of its own.",
    )


def test_a_role_without_an_id_is_refused_and_special_gives_it_one(
    tmp_path: Path, model: Path
) -> None:
    config = {"bos_token": "<s>", "pad_token": "<pad>"}
    (model.parent / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"names '<pad>', which has no id"):
        run(tmp_path, model.parent)
    result = run(tmp_path, model.parent, special=["<pad>"])
    assert vocabulary(result.folder)[SIZE + 4] == "<pad>"


def test_a_pad_token_of_the_config_becomes_a_control_piece_at_its_id(
    tmp_path: Path, model: Path
) -> None:
    pad = {"content": "<pad>", "special": True}
    config = {
        "pad_token": "<pad>",
        "added_tokens_decoder": {str(SIZE): pad},
        "add_bos_token": False,
    }
    (model.parent / "tokenizer_config.json").write_text(json.dumps(config))
    result = run(tmp_path, model.parent)
    extended = SentencePieces.read(result.folder / "tokenizer.model")
    assert (extended.pieces[SIZE], extended.kinds[SIZE]) == ("<pad>", Kind.CONTROL)
    assert (result.base_size, extended.pieces[SIZE + 1]) == (SIZE + 1, "嬗")
    assert result.warnings == (
        f"tokens of the base's configs were taken in at their ids: <pad> = {SIZE}.",
    )
    spec = json.loads((result.folder / "tokenizer.json").read_text())
    assert spec["post_processor"]["special_tokens"] == {}


def test_a_token_of_the_config_of_a_byte_level_base_is_taken_in(
    tmp_path: Path, bytes_file: Path
) -> None:
    pad = {"content": "<pad>", "special": True}
    config = {"pad_token": "<pad>", "added_tokens_decoder": {"259": pad}}
    (bytes_file.parent / "tokenizer_config.json").write_text(json.dumps(config))
    result = run(tmp_path, bytes_file.parent, "中")
    assert (result.base_size, vocabulary(result.folder)[259]) == (260, "<pad>")


def test_a_fast_file_of_sentencepiece_kind_gets_the_rules_its_model_would(
    tmp_path: Path, model: Path
) -> None:
    listed = ["嬗", "变", "嬗变", "变嬗", "嬗变嬗", "▁中"]
    first = run(tmp_path, model, *listed).folder
    result = extend(
        base=str(first / "tokenizer.json"),
        pieces=write_list(tmp_path, "嬗中", "嬗中文"),
        out=tmp_path / "b",
    )
    again = extend(
        base=str(first / "tokenizer.model"), pieces=tmp_path / "pieces.txt", out=tmp_path / "c"
    )
    made = [json.loads((r.folder / "tokenizer.json").read_text())["model"] for r in (result, again)]
    assert made[0] == made[1]


def test_a_published_union_is_repeated_with_a_loud_warning(tmp_path: Path, model: Path) -> None:
    donor = tmp_path / "donor.model"
    donor.write_bytes(
        build([("嬗变", -1.0), ("the", -2.0)], lambda p: setattr(p.trainer_spec, "model_type", 1))
    )
    result = extend(base=model, donor=donor, out=tmp_path / "out", as_published=True)
    extended = SentencePieces.read(result.folder / "tokenizer.model")
    assert extended.pieces[SIZE:] == ("嬗变", "the")
    assert set(extended.scores[SIZE:]) == {0.0}
    assert "have score 0" in result.warnings[0]
    assert result.record["as_published"] is True


def test_the_union_needs_a_model_and_a_donor(tmp_path: Path, bytes_file: Path) -> None:
    with pytest.raises(InputError, match="this base is a fast file"):
        extend(base=bytes_file, donor=bytes_file, out=tmp_path / "out", as_published=True)
    with pytest.raises(UsageError, match="needs a donor"):
        run(tmp_path, bytes_file, as_published=True)


@pytest.mark.parametrize(
    ("sources", "size", "published"),
    [
        (("llama-2-32000.tokenizer.model", "chinese-llama-1-chinese_sp-20000.model"), 49_953, ""),
        (
            ("llama-2-32000.tokenizer.model", "gogpt-zh-40k.sp.model"),
            68_419,
            "gogpt-merged-40k.model",
        ),
    ],
)
def test_known_unions_come_out_as_published(
    shared_data: Path, tmp_path: Path, sources: tuple[str, str], size: int, published: str
) -> None:
    base, donor = (shared_data / "tokenizers" / name for name in sources)
    result = extend(base=base, donor=donor, out=tmp_path / "out", as_published=True)
    assert result.size == size
    if published:
        ours = SentencePieces.read(result.folder / "tokenizer.model")
        theirs = SentencePieces.read(shared_data / "tokenizers" / published)
        assert (ours.pieces, ours.scores, ours.kinds) == (
            theirs.pieces, theirs.scores, theirs.kinds
        )  # fmt: skip


def test_a_donor_s_pieces_are_taken_and_the_rest_is_listed(tmp_path: Path, model: Path) -> None:
    donor = tmp_path / "donor.model"
    donor.write_bytes(build([("嬗变", -1.0), ("嬗", -2.0), ("变", -3.0), ("the", -4.0)]))
    result = extend(base=model, donor=donor, out=tmp_path / "out")
    assert (result.num_pieces, result.left_out) == (3, {"Latin letters or digits only": 1})
    (line,) = (result.folder / "left-out.jsonl").read_text().splitlines()
    assert json.loads(line)["piece"] == "the"
    assert result.scripts == ("Han",)


def test_a_donor_without_a_fitting_piece_is_refused(tmp_path: Path, model: Path) -> None:
    donor = tmp_path / "donor.model"
    donor.write_bytes(build([("嬗变", -1.0)]))
    with pytest.raises(InputError, match="none of its pieces with a character of Han fits"):
        extend(base=model, donor=donor, out=tmp_path / "out")


def test_the_example_gives_57_000_ids_all_of_which_can_be_produced(tmp_path: Path) -> None:
    listed = Path(__file__).resolve().parents[2] / "examples" / "mixtral-zh-25000"
    result = extend(base=MIXTRAL, pieces=listed, out=tmp_path / "out")
    assert (result.size, result.num_pieces, result.warnings) == (57_000, 25_000, ())
    extended = SentencePieces.read(result.folder / "tokenizer.model")
    assert all(extended.spell(p) == [id] for id, p in enumerate(extended.pieces[32_000:], 32_000))
    base = SentencePieces.read(locate_source(MIXTRAL))
    assert extended.pieces[:32_000] == base.pieces


def test_the_same_call_writes_the_same_bytes_again(tmp_path: Path, model: Path) -> None:
    folder = run(tmp_path, model).folder
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    run(tmp_path, model)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["base", "out", "pieces.txt"]


def test_another_tokenizer_in_the_folder_is_not_overwritten(tmp_path: Path, model: Path) -> None:
    run(tmp_path, model)
    with pytest.raises(UsageError, match="holds another extended tokenizer"):
        run(tmp_path, model, special=["<a>"])


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path, model: Path) -> None:
    run(tmp_path, model)
    (tmp_path / "out" / "README.md").write_text("mine")
    with pytest.raises(UsageError, match="holds something else"):
        run(tmp_path, model)
    with pytest.raises(UsageError, match="holds something else"):
        extend(base=model, pieces=tmp_path / "pieces.txt", out=model.parent)
    with pytest.raises(UsageError, match="holds something else"):
        extend(base=model, pieces=tmp_path / "pieces.txt", out=model)


def test_what_a_killed_run_left_is_cleared(tmp_path: Path, model: Path) -> None:
    draft = tmp_path / ".draft-out"
    draft.mkdir()
    (draft / "left-out.jsonl").write_text("half")
    assert not (run(tmp_path, model).folder / "left-out.jsonl").exists()


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        ({}, "either a list of pieces or a donor"),
        ({"pieces": "a", "donor": "b"}, "either a list of pieces or a donor"),
        ({"pieces": "a", "special": "<a>"}, "expected a list of tokens"),
        ({"pieces": "a", "pad_to_multiple": 0}, "expected 1 to"),
        ({"pieces": "a", "scripts": ["Hann"]}, "no Unicode script"),
    ],
)
def test_a_call_that_does_not_fit_together_is_refused(
    tmp_path: Path, asked: dict[str, Any], problem: str
) -> None:
    with pytest.raises(UsageError, match=problem):
        extend(base="nowhere", out=tmp_path / "out", **asked)


def test_a_piece_that_is_not_encoded_as_itself_is_our_failure(
    tmp_path: Path, bytes_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assembling, "_find_lost", lambda *_: ["中"])
    with pytest.raises(VerifyError, match="not encoded as themselves: '中'"):
        run(tmp_path, bytes_file, "中")


def test_the_command_tells_sizes_and_what_is_next(tmp_path: Path, model: Path) -> None:
    app = Typer()
    cli_extend.register(app)
    app.callback()(lambda: None)
    listed = write_list(tmp_path, *PIECES)
    words = ["extend", "--base", str(model), "--pieces", str(listed), "--out", str(tmp_path / "o")]
    words += ["--special", "<|a|>", "<|b|>", "--pad-to-multiple", "8"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert f"{SIZE:,} of the base + 4 pieces + 2 special (<|a|> <|b|>)" in done.output
    assert f"lingraft tokenizer verify {tmp_path / 'o'} --base {model}" in done.output
    told = CliRunner().invoke(app, [*words, "--json"])
    assert json.loads(told.stdout)["num_pieces"] == 4
    assert read_base(str(tmp_path / "o")).size % 8 == 0


def test_the_command_counts_what_a_donor_s_pieces_were_left_out_for(
    tmp_path: Path, model: Path
) -> None:
    donor = tmp_path / "donor.model"
    donor.write_bytes(build([("嬗", -2.0), ("the", -4.0)]))
    app = Typer()
    cli_extend.register(app)
    app.callback()(lambda: None)
    words = ["extend", "--base", str(model), "--donor", str(donor), "--out", str(tmp_path / "o")]
    output = CliRunner().invoke(app, words).output
    assert "1 donor pieces left out, listed in left-out.jsonl:\n  1 Latin letters" in output


def test_signs_alone_have_no_script(tmp_path: Path, model: Path) -> None:
    assert run(tmp_path, model, "、").scripts == ()


def test_a_base_whose_scores_tie_is_warned_of(tmp_path: Path, model: Path) -> None:
    model.write_bytes(build([("aaaa", -7.0), ("aa", -7.0), ("a", -9.0)]))
    (warning,) = run(tmp_path, model, "嬗").warnings
    assert warning.startswith("2 pieces of the base share a score")


def test_a_half_character_is_refused_by_a_sentencepiece_base(tmp_path: Path, model: Path) -> None:
    with pytest.raises(InputError, match=r"pieces\.txt:1.*SentencePiece cuts text into whole"):
        run(tmp_path, model, "<0xE5><0xAC>")


def test_a_list_of_another_base_s_search_is_told(tmp_path: Path, model: Path) -> None:
    choice = {"scripts": ["Han"], "base": {"family": "sentencepiece", "sha256": "ab"}}
    (tmp_path / "choice.json").write_text(json.dumps(choice))
    (warning,) = run(tmp_path, model).warnings
    assert warning.startswith("the search was made for another tokenizer file")


def test_the_base_s_own_template_is_kept(tmp_path: Path, model: Path) -> None:
    first = run(tmp_path, model).folder
    spec = json.loads((first / "tokenizer.json").read_text())
    spec["post_processor"] = None
    (first / "tokenizer.json").write_text(json.dumps(spec))
    more = write_list(tmp_path, "嬗中", name="more.txt")
    result = extend(base=first, pieces=more, out=tmp_path / "more")
    assert json.loads((result.folder / "tokenizer.json").read_text())["post_processor"] is None
    assert result.base_size == SIZE + 4
