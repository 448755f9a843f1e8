"""The command: right tokenizers pass, broken ones fail by name, published ones are explained."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from extended_tokenizers import (
    ADDED,
    ADDED_RULES,
    BASE_RULES,
    extended,
    write_bytes_file,
    write_folder,
    write_model,
)
from small_tokenizers import build
from typer import Typer
from typer.testing import CliRunner

from lingraft import cli_verify
from lingraft.errors import InputError, UsageError
from lingraft.pieces import Kind
from lingraft.texts import read_texts
from lingraft.tokenizer import scope, verifying
from lingraft.tokenizer.verifying import VerifyResult, verify

TEXTS = ["abc", "嬗变 变嬗变 变嬗", "中文嬗变\n  嬗", "a  b"]


@pytest.fixture(autouse=True)
def few_code_points(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them take seconds a run; one test takes them all."""
    if "code_point" not in request.node.name:
        monkeypatch.setattr(verifying, "every_code_point", lambda: iter(["\n".join("aé中嬗🌈")]))
        monkeypatch.setattr(verifying, "code_points", lambda: iter("aé中嬗🌈\u0301"))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_model(tmp_path / "base", build())


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return path


def states(result: VerifyResult) -> dict[str, str]:
    return {check.name: check.state for check in result.checks}


def failed(result: VerifyResult) -> set[str]:
    assert result.ok == (not result.failed) == result.record["ok"]
    return {check.name for check in result.failed}


def test_a_right_tokenizer_passes_every_check(tmp_path: Path, base: Path, corpus: Path) -> None:
    folder = write_folder(tmp_path / "out", extended())
    result = verify(folder, base=base, corpus=corpus)
    assert set(states(result).values()) == {"ok"}
    assert result.certificate is not None
    assert len(result.certificate["proved"]) == 2
    assert result.certificate["scripts"] == ["Han"]
    assert len(result.checks) == 13
    assert result.certificate["proved_only_of"] is None


def test_the_same_tokenizer_gives_the_same_record(tmp_path: Path, base: Path, corpus: Path) -> None:
    folder = write_folder(tmp_path / "out", extended([(p, 0.0) for p, _ in ADDED]))
    records = [verify(folder, base=base, corpus=[corpus], jobs=n).record for n in (1, 2)]
    assert json.dumps(records[0]) == json.dumps(records[1])


@pytest.mark.parametrize(
    ("pieces", "names"),
    [
        ([(p, 0.0) for p, _ in ADDED], {"priority", "forms agree"}),
        ([*ADDED, ("ca", -3e9)], {"scope"}),
        ([*ADDED, ("bc中文嬗", -3e9)], {"priority", "reach"}),
        ([*ADDED, ("文中", -0.5)], {"priority", "replay on built-in texts"}),
    ],
)
def test_a_broken_piece_list_fails_by_name(
    tmp_path: Path, base: Path, pieces: Any, names: set[str]
) -> None:
    model = write_model(tmp_path / "out", extended(pieces))
    assert failed(verify(model, base=base)) >= names


def test_a_changed_base_score_fails(tmp_path: Path, base: Path) -> None:
    proto = extended(change=lambda p: setattr(p.pieces[260], "score", -7.5))
    result = verify(write_model(tmp_path / "out", proto), base=base)
    assert "base kept" in failed(result)
    assert result.certificate is not None
    assert result.certificate["proved"] == []


def test_a_changed_dummy_prefix_fails(tmp_path: Path, base: Path, corpus: Path) -> None:
    proto = extended(change=lambda p: setattr(p.normalizer_spec, "add_dummy_prefix", False))
    result = verify(write_model(tmp_path / "out", proto), base=base, corpus=corpus)
    assert failed(result) >= {"base kept", "every code point", "replay on the corpora"}


def test_forms_that_differ_bind_what_is_proved_to_the_model(tmp_path: Path, base: Path) -> None:
    result = verify(
        write_model(tmp_path / "out", extended([(p, 0.0) for p, _ in ADDED])), base=base
    )
    assert "forms agree" in failed(result)
    assert result.certificate is not None
    assert result.certificate["proved_only_of"] == "tokenizer.model"
    assert "as tokenizer.model reads it" in result.certificate["proved"][0]


def test_pieces_that_no_text_of_the_scripts_has_fail(tmp_path: Path, base: Path) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("中文\n", encoding="utf-8")
    folder = write_folder(tmp_path / "out", extended())
    assert failed(verify(folder, base=base, corpus=corpus)) == {"use"}
    corpus.write_text("abc\n", encoding="utf-8")
    assert states(verify(folder, base=base, corpus=corpus))["use"] == "told"


def test_a_script_of_the_base_that_nobody_named_is_told(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scope, "_OWN", 1)  # the small base has one word of Han
    folder = write_folder(tmp_path / "out", extended())
    assert states(verify(folder, base=base))["scope"] == "told"
    assert states(verify(folder, base=base, scripts=["Han"]))["scope"] == "ok"
    (folder / "extension.json").write_text('{"scripts": ["Han"], "scripts_from": "named"}')
    assert states(verify(folder, base=base))["scope"] == "ok"


def test_damaged_merges_fail(tmp_path: Path, base: Path, corpus: Path) -> None:
    folder = write_folder(tmp_path / "out", extended())
    spec = json.loads((folder / "tokenizer.json").read_text())
    spec["model"]["merges"].pop(0)
    (folder / "tokenizer.json").write_text(json.dumps(spec))
    result = verify(folder, base=base, corpus=corpus)
    assert "forms agree" in failed(result)
    differing = next(c for c in result.checks if c.name == "forms agree")
    assert any("AutoTokenizer" in example for example in differing.examples)


def test_vocabulary_as_user_defined_pieces_fails(tmp_path: Path, base: Path) -> None:
    pieces = [(f"嬗{n}变", -2e9) for n in range(70)]
    model = write_model(tmp_path / "out", extended(pieces, kind=Kind.USER_DEFINED))
    assert failed(verify(model, base=base)) >= {"priority", "added tokens"}


def test_a_byte_level_pair_passes(tmp_path: Path, corpus: Path) -> None:
    base = write_bytes_file(tmp_path / "a", BASE_RULES)
    mine = write_bytes_file(tmp_path / "b", BASE_RULES + ADDED_RULES)
    result = verify(mine, base=base, corpus=corpus, scripts=["Han"])
    assert failed(result) == set()
    assert result.certificate is not None
    assert len(result.certificate["proved"]) == 2


def test_byte_level_pieces_out_of_scope_and_out_of_reach_fail(tmp_path: Path) -> None:
    base = write_bytes_file(tmp_path / "a", BASE_RULES)
    rules = [*BASE_RULES, *ADDED_RULES, (b"\xe2", b"\x80"), ("中".encode(), b"!")]
    result = verify(write_bytes_file(tmp_path / "b", rules), base=base)
    assert failed(result) == {"scope", "reach", "replay on built-in texts"}


def test_a_moved_special_id_fails(tmp_path: Path) -> None:
    token = {
        "id": 258, "content": "<|end|>", "special": True, "single_word": False, "lstrip": False,
        "rstrip": False, "normalized": False,
    }  # fmt: skip

    def with_token(spec: Any) -> None:
        spec["added_tokens"] = [dict(token)]
        vocab = spec["model"]["vocab"]
        vocab.update({piece: id + 1 for piece, id in vocab.items() if id >= 258})

    paths = [
        write_bytes_file(tmp_path / name, rules, with_token)
        for name, rules in (("a", BASE_RULES), ("b", BASE_RULES + ADDED_RULES))
    ]
    assert failed(verify(paths[1], base=paths[0])) >= {"base kept", "special ids"}


def test_without_a_base_what_needs_one_is_skipped_and_told(tmp_path: Path, corpus: Path) -> None:
    result = verify(write_folder(tmp_path / "out", extended()), corpus=corpus)
    assert result.certificate is None
    skipped = {name for name, state in states(result).items() if state == "skipped"}
    assert skipped == {
        "base kept", "scope", "priority", "every code point", "reach", "use",
        "decoding gives the text back", "replay on built-in texts", "replay on the corpora",
    }  # fmt: skip
    assert all("--base" in c.text for c in result.checks if c.state == "skipped")


def test_a_folder_that_transformers_cannot_load_fails(tmp_path: Path, base: Path) -> None:
    folder = write_folder(tmp_path / "out", extended())
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": 7}')
    assert failed(verify(folder, base=base)) == {"special ids"}


def test_an_unlike_base_fails_and_is_shown(tmp_path: Path, base: Path, corpus: Path) -> None:
    mine = write_bytes_file(tmp_path / "b", BASE_RULES)
    result = verify(mine, base=base, corpus=corpus)
    assert failed(result) >= {"base kept", "replay on the corpora"}
    larger = verify(base, base=write_model(tmp_path / "c", extended()), corpus=corpus)
    assert "base kept" in failed(larger)


def test_the_base_itself_changes_nothing(base: Path, corpus: Path) -> None:
    result = verify(base, base=base, corpus=corpus)
    assert result.ok
    assert result.certificate is not None
    assert result.certificate["corpora"]["texts without the new scripts, changed"] == 0


def test_another_kind_of_tokenizer_is_refused(shared_data: Path) -> None:
    with pytest.raises(InputError, match="of type UNIGRAM; expected BPE"):
        verify(shared_data / "tokenizers" / "chinese-llama-1-chinese_sp-20000.model")


def test_no_threads_are_refused(base: Path) -> None:
    with pytest.raises(UsageError, match="jobs 0"):
        verify(base, jobs=0)


def test_every_code_point_is_tried_alone(tmp_path: Path, base: Path) -> None:
    result = verify(write_model(tmp_path / "out", extended()), base=base)
    assert result.certificate is not None
    figures = result.certificate["code_points"]
    assert figures["texts without the new scripts"] + figures["texts with them"] == 1_112_064
    assert figures["texts with them, changed"] == 2  # 嬗 and 变
    assert result.ok


def run(*words: str | Path) -> tuple[int, str]:
    app = Typer()
    app.callback()(lambda: None)
    cli_verify.register(app)
    done = CliRunner().invoke(app, ["verify", *map(str, words)])
    return done.exit_code, done.output


def test_the_command_prints_a_table_and_the_certificate(
    tmp_path: Path, base: Path, corpus: Path
) -> None:
    folder = write_folder(tmp_path / "out", extended())
    code, output = run(folder, "--base", base, "--corpus", corpus, corpus, "--scripts", "Han")
    assert code == 0, output
    assert "base kept" in output
    assert "proved: Any text without a character of the scripts Han" in output


def test_halves_of_surrogate_pairs_are_counted_and_told(
    tmp_path: Path, base: Path, corpus: Path
) -> None:
    folder, half = write_folder(tmp_path / "out", extended()), tmp_path / "half.jsonl"
    half.write_text('{"text": "abc \\ud83d"}\n{"text": "\\udc00"}\n', encoding="utf-8")
    code, output = run(folder, "--base", base, "--corpus", half)
    assert code == 0, output
    assert "2 halves of surrogate pairs" in output
    assert verify(folder, base=base, corpus=half).record["num_surrogates"] == 2
    assert "num_surrogates" not in verify(folder, base=base, corpus=corpus).record


def test_the_command_ends_with_3_and_explains_every_failure(tmp_path: Path, base: Path) -> None:
    model = write_model(tmp_path / "out", extended([(p, 0.0) for p, _ in ADDED]))
    code, output = run(model, "--base", base)
    assert code == 3
    assert "priority: DIFFERS" in output
    assert "forms agree: DIFFERS" in output
    assert "both cannot be" in output


def test_the_command_prints_json(tmp_path: Path, base: Path) -> None:
    app = Typer()
    app.callback()(lambda: None)
    cli_verify.register(app)
    model = write_model(tmp_path / "out", extended([*ADDED, ("ca", -3e9)]))
    done = CliRunner().invoke(app, ["verify", str(model), "--base", str(base), "--json"])
    assert done.exit_code == 3
    record = json.loads(done.stdout)
    check = next(check for check in record["checks"] if check["name"] == "scope")
    assert (check["ok"], check["figures"]["out of scope"]) == (False, 1)
    assert record["certificate"]["out_of_scope"] == ["ca"]


def some_of(shared_data: Path, tmp_path: Path, num: int) -> Path:
    path = tmp_path / "some.txt"
    rows = read_texts(shared_data / "corpora" / "zh-eval" / "book.jsonl.zst")
    lines: Sequence[str] = [line for _, row in zip(range(num), rows, strict=False)
                            for line in row.text.split("\n") if line.strip()]  # fmt: skip
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_the_published_score_0_is_found_and_explained(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "tokenizers"
    result = verify(
        folder / "chinese-llama-2-55296.tokenizer.model",
        base=folder / "llama-2-32000.tokenizer.model",
        corpus=some_of(shared_data, tmp_path, 20),
    )
    checks = {check.name: check for check in result.checks}
    assert states(result)["base kept"] == "ok"
    assert checks["reach"].figures["unreachable"] == 657
    assert "'越来越' is encoded 越 | 来 | 越" in checks["reach"].examples
    notes = "\n".join(checks["forms agree"].notes)
    assert "which is above every rule of the base (of all added pieces, 23,296" in notes
    assert "some.txt: fast differs on" in notes
    assert "both cannot be" in notes


def test_the_published_lost_prefix_is_found(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "tokenizers"
    result = verify(
        folder / "canvachen-chinese-llama-compatible.tokenizer.model",
        base=folder / "llama-2-32000.tokenizer.model",
        corpus=some_of(shared_data, tmp_path, 5),
    )
    kept = result.checks[0]
    assert "add_dummy_prefix is False; in the base it is True" in kept.text
    replay = next(c for c in result.checks if c.name == "replay on the corpora")
    assert replay.figures["texts with them, broken up"] == replay.figures["texts with them"]
