"""`lingraft embed expand` on plain folders: what comes out, for every kind of model."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from expandable import (
    BYTES_SIZE,
    SIZE,
    as_bin,
    change_tensors,
    extended_bytes_folder,
    extended_folder,
    set_config,
    tied_llama,
    untied_bytes_llama,
    untied_llama,
    untied_mixtral,
)
from token_files import write_folder as write_tokens

from lingraft import verify
from lingraft.bases import read_base
from lingraft.embed import expand
from lingraft.errors import StaleError, UsageError
from lingraft.models import ModelFolder, load_causal_lm

INPUT, OUTPUT = "model.embed_tokens.weight", "lm_head.weight"


def expanded(tmp_path: Path, **options: Any) -> ModelFolder:
    folder = tmp_path / "extended"
    if not folder.exists():
        extended_folder(folder)
    result = expand(model=tmp_path / "base", tokenizer=folder, out=tmp_path / "out", **options)
    assert not result.was_done
    return ModelFolder(result.folder)


def test_a_sharded_mixtral_grows_and_its_other_shards_are_linked(tmp_path: Path) -> None:
    base = untied_mixtral(tmp_path / "base")
    model = expanded(tmp_path)
    assert model.config["vocab_size"] == SIZE + 4
    assert model.weight_map == base.weight_map
    for name in (INPUT, OUTPUT):
        assert model.entry(name).shape == (SIZE + 4, 32)
        assert torch.equal(model.tensor(name)[:SIZE], base.tensor(name))
        ids = [3 + byte for byte in "嬗".encode()]
        assert torch.allclose(model.tensor(name)[SIZE], base.tensor(name)[ids].mean(0))
    grown = {base.weight_map[name] for name in (INPUT, OUTPUT)}
    for shard in base.shards:
        same = (model.path / shard).samefile(base.path / shard)
        assert same != (shard in grown)
    index = json.loads((model.path / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(e.size_bytes for e in model.all_entries())
    assert index["metadata"]["total_parameters"] == sum(e.num_items for e in model.all_entries())
    assert verify(model.path) == []
    assert not list(tmp_path.glob(".*"))


def test_a_tied_model_keeps_one_matrix(tmp_path: Path) -> None:
    tied_llama(tmp_path / "base")
    model = expanded(tmp_path)
    assert OUTPUT not in model.weight_map
    loaded = load_causal_lm(model.path)
    assert loaded.lm_head.weight.data_ptr() == loaded.model.embed_tokens.weight.data_ptr()
    assert loaded.lm_head.weight.shape == (SIZE + 4, 32)


def test_a_tied_model_that_stores_its_head_gets_equal_rows_twice(tmp_path: Path) -> None:
    base = tied_llama(tmp_path / "base")
    change_tensors(base.path, lm_head__weight=base.tensor(INPUT))
    model = expanded(tmp_path, method="normal", options={"std": 0.5})
    assert torch.equal(model.tensor(INPUT), model.tensor(OUTPUT))
    assert model.tensor(OUTPUT).shape == (SIZE + 4, 32)


def test_head_and_input_rows_have_methods_of_their_own(tmp_path: Path) -> None:
    base = untied_llama(tmp_path / "base")
    model = expanded(
        tmp_path, method="normal", options={"std": 1e-9}, head_method="position", tie_break=False
    )
    assert 0 < model.tensor(INPUT)[SIZE:].abs().max() < 1e-8
    first = base.tensor(OUTPUT)[3 + "嬗".encode()[0]]
    assert torch.nn.functional.cosine_similarity(model.tensor(OUTPUT)[SIZE], first, dim=0) > 0.7


def test_a_byte_level_model_grows_too(tmp_path: Path) -> None:
    base = untied_bytes_llama(tmp_path / "base")
    extended_bytes_folder(tmp_path / "extended")
    model = expanded(tmp_path, method="hierarchical", tie_break=False)
    rows, grown = base.tensor(INPUT), model.tensor(INPUT)
    zhong, wen = "中".encode(), "文".encode()
    assert torch.allclose(grown[BYTES_SIZE], (rows[256] + rows[zhong[2]]) / 2)
    half = (rows[wen[0]] + rows[wen[1]]) / 2
    assert torch.allclose(grown[BYTES_SIZE + 2], (half + rows[wen[2]]) / 2)
    assert torch.allclose(grown[BYTES_SIZE + 3], (grown[BYTES_SIZE] + grown[BYTES_SIZE + 2]) / 2)


def test_rows_are_padded_to_a_multiple_with_the_mean(tmp_path: Path) -> None:
    base = untied_llama(tmp_path / "base")
    result = expand(
        model=base.path,
        tokenizer=extended_folder(tmp_path / "extended"),
        out=tmp_path / "out",
        pad_to_multiple_of=64,
    )
    rows = ModelFolder(result.folder).tensor(OUTPUT)
    assert len(rows) % 64 == 0
    assert result.facts.padded == len(rows) - SIZE - 4 > 0
    assert torch.allclose(rows[-1], base.tensor(OUTPUT).mean(0), atol=1e-6)


def test_padding_of_the_base_is_filled_first_and_the_rest_of_it_kept(tmp_path: Path) -> None:
    base = untied_llama(tmp_path / "base", vocab_size=SIZE + 9)
    result = expand(
        model=base.path, tokenizer=extended_folder(tmp_path / "extended"), out=tmp_path / "out"
    )
    grown, rows = ModelFolder(result.folder).tensor(INPUT), base.tensor(INPUT)
    assert (len(grown), result.facts.base_rows, result.facts.padded) == (SIZE + 9, SIZE, 5)
    assert torch.equal(grown[:SIZE], rows[:SIZE])
    assert not torch.equal(grown[SIZE : SIZE + 4], rows[SIZE : SIZE + 4])
    assert torch.equal(grown[SIZE + 4 :], rows[SIZE + 4 :])


def test_special_tokens_of_the_bases_configs_keep_their_rows(tmp_path: Path) -> None:
    base = untied_llama(tmp_path / "base", vocab_size=SIZE + 1)
    (base.path / "added_tokens.json").write_text(json.dumps({"<pad>": SIZE}), encoding="utf-8")
    from extended_tokenizers import ADDED, extended, write_folder

    proto = extended([("<pad>", -1e9), *ADDED])
    write_folder(tmp_path / "extended", proto)
    model = expanded(tmp_path)
    assert torch.equal(model.tensor(INPUT)[: SIZE + 1], base.tensor(INPUT))
    assert len(model.tensor(INPUT)) == SIZE + 5
    (base.path / "added_tokens.json").unlink()  # <pad> would be a new piece
    with pytest.raises(StaleError, match=r"inputs\.base_tokens"):
        expanded(tmp_path)


def test_bin_files_become_safetensors(tmp_path: Path) -> None:
    base = untied_llama(tmp_path / "base")
    rows = base.tensor(INPUT)
    as_bin(base.path)
    model = expanded(tmp_path)
    assert model.shards == ["model.safetensors"]
    assert torch.equal(model.tensor(INPUT)[:SIZE], rows)
    assert not list(model.path.glob("*.bin"))
    load_causal_lm(model.path)


def test_nested_configs_tell_the_new_size_twice(tmp_path: Path) -> None:
    base = untied_llama(tmp_path / "base")
    set_config(
        base.path,
        text_config={"vocab_size": SIZE, "tie_word_embeddings": False, "model_type": "llama"},
    )
    model = expanded(tmp_path)
    assert model.config["text_config"]["vocab_size"] == model.config["vocab_size"] == SIZE + 4


def test_the_extended_tokenizer_comes_along_and_small_files_stay(tmp_path: Path) -> None:
    base = untied_llama(tmp_path / "base")
    (base.path / "generation_config.json").write_text('{"eos_token_id": 2}', encoding="utf-8")
    (base.path / "merges.txt").write_text("of the base's tokenizer", encoding="utf-8")
    (base.path / "chat_template.jinja").write_text("{{ messages }}", encoding="utf-8")
    (base.path / "README.md").write_text("a card of the base", encoding="utf-8")
    model = expanded(tmp_path)
    assert read_base(str(model.path)).size == SIZE + 4
    names = {path.name for path in model.path.iterdir()}
    assert {"generation_config.json", "chat_template.jinja", "tokenizer.json"} <= names
    assert not {"merges.txt", "README.md"} & names


@pytest.mark.parametrize("make", [untied_mixtral, tied_llama], ids=["mixtral", "tied-llama"])
def test_the_same_call_gives_the_same_bytes(
    tmp_path: Path, make: Callable[[Path], ModelFolder]
) -> None:
    make(tmp_path / "base")
    extended_folder(tmp_path / "extended")
    call = {"model": tmp_path / "base", "tokenizer": tmp_path / "extended", "method": "normal"}
    folders = [
        expand(out=tmp_path / name, seed=seed, **call).folder  # type: ignore[arg-type]
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    first, second, other = (ModelFolder(folder).tensor(INPUT) for folder in folders)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_what_is_done_is_not_done_again_unless_asked(tmp_path: Path) -> None:
    base = untied_llama(tmp_path / "base")
    call: dict[str, Any] = {
        "model": base.path,
        "tokenizer": extended_folder(tmp_path / "extended"),
        "out": tmp_path / "out",
    }
    first = expand(**call)
    again = expand(**call)
    assert (first.was_done, again.was_done) == (False, True)
    assert again.facts == first.facts
    with pytest.raises(StaleError, match=r'settings\.method: "mean" -> "position"'):
        expand(**call, method="position")
    assert expand(**call, method="position", redo=True).facts.method == "position"
    change_tensors(base.path, lm_head__weight=base.tensor(OUTPUT) * 2)
    with pytest.raises(StaleError, match=r"written since: model/model\.safetensors"):
        expand(**call, method="position")


def test_small_files_that_changed_since_are_noticed(tmp_path: Path) -> None:
    base = untied_llama(tmp_path / "base")
    longer = extended_folder(tmp_path / "extended")
    card = base.path / "generation_config.json"
    card.write_text('{"eos_token_id": 2}', encoding="utf-8")
    call: dict[str, Any] = {"model": base.path, "tokenizer": longer, "out": tmp_path / "out"}
    expand(**call)
    card.touch()
    assert expand(**call).was_done  # the same bytes
    for path in (card, base.path / "config.json", longer / "tokenizer_config.json"):
        path.write_text('{"eos_token_id": 3}' if path == card else _more(path), encoding="utf-8")
        named = rf"(written since: \w+/{path.name}|inputs\.model)"
        with pytest.raises(StaleError, match=named):
            expand(**call)
        expand(**call, redo=True)
        assert expand(**call).was_done
    assert json.loads((tmp_path / "out" / card.name).read_text())["eos_token_id"] == 3


def _more(path: Path) -> str:
    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return json.dumps({**config, "a_key": 1})


def test_another_base_tokenizer_of_the_same_model_is_noticed(tmp_path: Path) -> None:
    from extended_tokenizers import write_folder
    from small_tokenizers import build

    base = untied_llama(tmp_path / "base")
    longer = extended_folder(tmp_path / "extended")
    call: dict[str, Any] = {"model": base.path, "tokenizer": longer, "out": tmp_path / "out"}
    expand(**call)
    other = write_folder(tmp_path / "other", build())
    assert expand(**call, base_tokenizer=other).was_done  # the same file in another place
    path = other / "tokenizer.model"
    path.write_bytes(path.read_bytes() + b"\x3a\x00")  # an empty field behind it
    with pytest.raises(StaleError, match=r"inputs\.base_tokenizer"):
        expand(**call, base_tokenizer=other)


@pytest.mark.parametrize("text", ['{"name": "a web app", "icons": []}', "{", "[]"])
def test_a_manifest_of_another_program_is_no_manifest(tmp_path: Path, text: str) -> None:
    base = untied_llama(tmp_path / "base")
    (base.path / "manifest.json").write_text(text, encoding="utf-8")
    model = expanded(tmp_path)
    assert len(model.tensor(INPUT)) == SIZE + 4
    assert json.loads((model.path / "manifest.json").read_text())["identity"]["stage"] == "embed"


def test_methods_that_need_text_get_it_from_token_files(tmp_path: Path) -> None:
    base = untied_llama(tmp_path / "base")
    longer = extended_folder(tmp_path / "extended")
    docs = [[1, *range(3, 259), SIZE, SIZE + 1, 2] for _ in range(30)]
    tokens = token_folder(tmp_path / "tokens", docs, read_base(str(longer)).digest)
    call: dict[str, Any] = {"model": base.path, "tokenizer": longer, "out": tmp_path / "out"}
    with pytest.raises(UsageError, match=r"(?s)'frequency' needs counts.*--counts TOKENS_DIR"):
        expand(**call, method="frequency")
    result = expand(**call, method="frequency", head_method="mean", counts=tokens)
    assert result.facts.method == "frequency"


def token_folder(folder: Path, docs: list[list[int]], digest: str) -> Path:
    return write_tokens(folder, {"zh-train": docs}, vocab_size=SIZE + 4, digest=digest)


@pytest.mark.parametrize(
    ("method", "options"),
    [("focus", {}), ("omp", {"num_atoms": 2}), ("distil", {"per_piece": 1, "batch": 2})],
)
def test_methods_get_what_they_need(tmp_path: Path, method: str, options: dict[str, Any]) -> None:
    base = untied_llama(tmp_path / "base")
    longer = extended_folder(tmp_path / "extended")
    docs = [[1, *range(3 + n % 7, 63, 1 + n % 3), SIZE + n % 4, 9, 2] for n in range(60)]
    tokens = token_folder(tmp_path / "tokens", docs, read_base(str(longer)).digest)
    model = expanded(tmp_path, method=method, options=options, counts=tokens)
    rows = model.tensor(INPUT)
    assert torch.equal(rows[:SIZE], base.tensor(INPUT))
    mean = base.tensor(INPUT)[[3 + byte for byte in "嬗".encode()]].mean(0)
    assert not torch.allclose(rows[SIZE], mean)


def test_methods_have_all_threads_while_files_are_written_with_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lingraft.embed import mean

    untied_llama(tmp_path / "base")
    real, seen = mean.mean_rows, []

    def watched(*args: Any, **options: Any) -> torch.Tensor:
        seen.append(torch.get_num_threads())
        return real(*args, **options)

    monkeypatch.setattr(mean, "mean_rows", watched)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        expanded(tmp_path)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert seen == [3, 3]


def test_omp_takes_a_donor_instead_of_text(tmp_path: Path) -> None:
    untied_llama(tmp_path / "base")
    longer = extended_folder(tmp_path / "extended")
    donor = untied_llama(tmp_path / "donor", vocab_size=SIZE + 4)
    extended_folder(donor.path)
    call: dict[str, Any] = {"model": tmp_path / "base", "tokenizer": longer, "method": "omp"}
    result = expand(**call, out=tmp_path / "out", donor=donor.path, options={"num_atoms": 2})
    assert result.facts.method == "omp"
    call |= {"out": tmp_path / "out", "donor": donor.path, "options": {"num_atoms": 2}}
    assert expand(**call).was_done
    change_tensors(donor.path, model__embed_tokens__weight=donor.tensor(INPUT) * 2)
    with pytest.raises(StaleError, match=r"written since: donor/model\.safetensors"):
        expand(**call)


def test_an_expanded_model_can_be_the_base_of_the_next(tmp_path: Path) -> None:
    untied_llama(tmp_path / "base")
    model = expanded(tmp_path)
    from extended_tokenizers import ADDED, extended, write_folder

    more = write_folder(tmp_path / "more", extended([*ADDED, ("嬗嬗", -3e9)]))
    result = expand(model=model.path, tokenizer=more, out=tmp_path / "next")
    assert (result.facts.base_rows, result.facts.added_rows) == (SIZE + 4, 1)
    assert result.facts.averaged_over == {"2": 1}
    rows = ModelFolder(result.folder).tensor(INPUT)
    assert torch.equal(rows[SIZE + 4], rows[SIZE])  # the mean of 嬗 and 嬗


def test_configs_that_changed_beside_a_manifest_are_noticed(tmp_path: Path) -> None:
    untied_mixtral(tmp_path / "base")
    model = expanded(tmp_path)  # its digest is its manifest's, whatever its files are
    from extended_tokenizers import ADDED, extended, write_folder

    more = write_folder(tmp_path / "more", extended([*ADDED, ("嬗嬗", -3e9)]))
    call: dict[str, Any] = {"model": model.path, "tokenizer": more, "out": tmp_path / "next"}
    expand(**call)
    for name in ("config.json", "model.safetensors.index.json"):
        path = model.path / name
        path.write_text(_more(path), encoding="utf-8")
        with pytest.raises(StaleError, match=f"written since: model/{name}"):
            expand(**call)
        expand(**call, redo=True)
