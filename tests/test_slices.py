"""Slices of a long text: whatever their size, their ids end to end are those of the text."""

from __future__ import annotations

from pathlib import Path

import pytest
import test_exact_bytes
import test_exact_models
from hypothesis import given, settings
from hypothesis import strategies as st
from pre_tokenizers_in_use import IN_USE, texts
from test_exact_models import MODELS, some_texts

from lingraft import exact
from lingraft.errors import InputError
from lingraft.exact import Encoder
from lingraft.texts import read_texts


def check(encoder: Encoder, text: str, size: int) -> int:
    """Compare with the library; give the number of slices."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "_LONG_CHARS", size)
        parts = list(encoder.slices(text))
    ids = [id for part in reversed(parts) for id in reversed(encoder.encode_slice(part).tolist())]
    assert ids[::-1] == encoder.base.encode_batch([text])[0]
    assert [part.goes_on for part in parts] == [False] + [True] * (len(parts) - 1)
    return len(parts)


sizes = st.integers(1, 40)


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=40, deadline=None)
@given(text=some_texts, size=sizes)
def test_models_of_sentencepiece_and_their_pieces_read_as_they_stand(
    name: str, text: str, size: int
) -> None:
    check(test_exact_models.encoder(name, False), text, size)


@pytest.mark.parametrize("name", IN_USE)
@settings(max_examples=60, deadline=None)
@given(text=st.lists(texts, max_size=5).map("".join), size=sizes)
def test_patterns_in_use(name: str, text: str, size: int) -> None:
    check(test_exact_bytes.encoder(name)[0], text, size)


@pytest.mark.parametrize("change", test_exact_bytes.CHANGES)
@settings(max_examples=40, deadline=None)
@given(text=test_exact_bytes.with_literals, size=sizes)
def test_normalisers_and_added_tokens(change: str, text: str, size: int) -> None:
    check(test_exact_bytes.encoder("qwen2", change, has_added=True)[0], text, size)


@pytest.mark.parametrize("name", ["as Llama's", "user-defined pieces", "nmt_nfkc"])
def test_a_model_slices_long_texts(name: str) -> None:
    assert check(test_exact_models.encoder(name, True), "the cat 我们 在\n" * 50, 30) > 10


@pytest.mark.parametrize("name", ["qwen2", "deepseek", "smollm2", "gpt2 with a space before"])
def test_patterns_slice_long_texts(name: str) -> None:
    assert (
        check(test_exact_bytes.encoder(name)[0], " the cat's  \n\n 我们 在 1234!\t" * 50, 60) > 10
    )


def test_a_text_without_a_place_to_cut_is_one_slice() -> None:
    assert check(test_exact_models.encoder("user-defined pieces", False), "a" * 100, 10) == 1
    assert check(test_exact_bytes.encoder("qwen2")[0], "a" * 100, 10) == 1


def test_a_short_text_is_not_looked_at() -> None:
    (part,) = test_exact_models.encoder("as Llama's", False).slices("ab c")
    assert part.text == "ab c"
    assert not part.is_prepared


def test_half_of_a_surrogate_pair_is_refused_before_the_first_slice() -> None:
    encoder = test_exact_bytes.encoder("qwen2")[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "_LONG_CHARS", 10)
        with pytest.raises(InputError, match=r"U\+D800, half of a surrogate pair"):
            next(encoder.slices("a b c " * 20 + "\ud800"))


@pytest.mark.slow
def test_slices_of_real_text_are_exact(shared_data: Path) -> None:
    folder = shared_data / "tokenizers"
    path = shared_data / "corpora" / "zh" / "book_luxun.jsonl.zst"
    text = "\n".join(doc.text for doc in read_texts(path))[:100_000]
    for name in ("mistral-v3-32768.tokenizer.model", "qwen3.tokenizer.json"):
        encoder = Encoder(folder / name)
        assert check(encoder, text, 2_000) > 20
