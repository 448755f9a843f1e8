from __future__ import annotations

import math
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lingraft.errors import InputError
from lingraft.scoring import Watched, has_plain_head, score_docs


class _Table(torch.nn.Module):
    """A bigram model: the logits of what follows depend on the last token alone."""

    def __init__(self, logits_VV: torch.Tensor) -> None:
        super().__init__()
        vocab = len(logits_VV)
        self.embed = torch.nn.Embedding(vocab, vocab, _weight=torch.eye(vocab))
        self.head = torch.nn.Linear(vocab, vocab, bias=False)
        self.head.weight.data = logits_VV.t().clone()
        self.seen: list[list[int]] = []
        self.modes: list[bool] = []

    def base_model(self, input_ids: torch.Tensor, use_cache: bool) -> SimpleNamespace:
        self.seen.extend(input_ids.tolist())
        self.modes.append(self.training)
        return SimpleNamespace(last_hidden_state=self.embed(input_ids))

    def get_output_embeddings(self) -> torch.nn.Module:
        return self.head


class _Count:
    done = 0

    def advance(self, amount: int = 1, text: str = "") -> None:
        self.done += amount


def _uniform(vocab: int = 4) -> _Table:
    return _Table(torch.zeros(vocab, vocab))


def test_a_model_that_knows_nothing_pays_the_log_of_the_vocabulary_for_each_token() -> None:
    """3 tokens after BOS at 2 bits each, over 12 bytes: half a bit per byte."""
    score = score_docs(_uniform(), [[1, 0, 3, 2]], [12], 8)
    assert score.total_tokens == 3
    assert score.nats == pytest.approx(3 * math.log(4))
    assert score.bpb == pytest.approx(0.5)


def test_each_token_is_scored_by_the_one_before_it() -> None:
    logits = torch.tensor([[0.0, math.log(3)], [0.0, 0.0]])  # 0 -> 1 with 3/4; 1 -> either
    score = score_docs(_Table(logits), [[0, 1, 0], [0, 0]], [1, 1], 8)
    assert score.nats == pytest.approx(math.log(4 / 3) + math.log(2) + math.log(4), rel=1e-6)


def test_windows_share_only_the_token_between_them() -> None:
    model = _uniform(8)
    score_docs(model, [[1, 2, 3, 4, 5, 6]], [1], 2)
    assert sorted(model.seen) == [[1, 2], [3, 4], [5, 0]]  # 0 is padding


def test_a_stride_leaves_each_window_as_much_context_as_it_holds() -> None:
    """Context 4, stride 2: the first window predicts 4 tokens, each other one 2 after 2 more."""
    model = _uniform(9)
    score = score_docs(model, [[1, 2, 3, 4, 5, 6, 7, 8]], [1], 4, stride=2)
    assert sorted(model.seen) == [[1, 2, 3, 4], [3, 4, 5, 6], [5, 6, 7, 0]]  # 0 is padding
    assert score.total_tokens == 7


@settings(deadline=None)
@given(
    docs=st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=30), min_size=1, max_size=8),
    max_tokens=st.integers(1, 40),
    stride=st.integers(1, 40),
)
def test_every_token_but_the_first_is_predicted_once(
    docs: list[list[int]], max_tokens: int, stride: int
) -> None:
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(7, 7, generator=generator)
    stride = min(stride, max_tokens)
    score = score_docs(_Table(logits), docs, [1] * len(docs), max_tokens, stride=stride)
    assert sum(score.doc_nats) == pytest.approx(score.nats)
    nats = -torch.log_softmax(logits.double(), 1)
    expected = sum(float(nats[a, b]) for ids in docs for a, b in pairwise(ids))
    assert score.total_tokens == sum(len(ids) - 1 for ids in docs)
    assert score.nats == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_many_documents_go_in_several_batches() -> None:
    model = _uniform()
    score_docs(model, [[1] * 2001] * 9, [1] * 9, 2000)
    assert len(model.modes) == 3  # 4 windows of 2,000 fill 8,192 tokens


def test_progress_counts_documents() -> None:
    count = _Count()
    score_docs(_uniform(), [[1, 2, 3, 1], [1, 2], [1]], [3, 3, 0], 2, count)
    assert count.done == 3


@pytest.mark.parametrize("mode", [True, False])
def test_scoring_runs_in_eval_mode_and_puts_the_mode_back(mode: bool) -> None:
    model = _uniform().train(mode)
    score_docs(model, [[1, 2]], [1], 8)
    assert model.modes == [False]
    assert model.training is mode


@pytest.mark.parametrize("docs", [[], [[1]]])
def test_no_text_is_refused(docs: list[list[int]]) -> None:
    with pytest.raises(InputError, match="0 bytes of text"):
        score_docs(_uniform(), docs, [0] * len(docs), 8)


def test_nats_of_each_document_are_its_own() -> None:
    logits = torch.tensor([[0.0, math.log(3)], [0.0, 0.0]])
    score = score_docs(_Table(logits), [[0, 1], [1], [0, 0, 1]], [1, 0, 1], 1)
    own = [math.log(4 / 3), 0, math.log(4) + math.log(4 / 3)]
    assert score.doc_nats == pytest.approx(own, rel=1e-6)


def test_progress_may_count_tokens() -> None:
    count = _Count()
    score_docs(_uniform(), [[1, 2, 3, 1], [1, 2], [1]], [3, 3, 0], 2, count, count="tokens")
    assert count.done == 4


def test_a_watch_sees_every_token_with_its_rank() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0]] * 3)  # 2 is the first choice, 0 the last
    seen: list[Watched] = []
    score_docs(_Table(logits), [[1, 2, 0, 1]], [1], 8, watch=seen.append)
    assert seen[0].labels_N.tolist() == [2, 0, 1]
    assert seen[0].ranks_N.tolist() == [0, 2, 1]
    nats = -torch.log_softmax(logits[0], 0)[[2, 0, 1]]
    assert seen[0].nats_N.tolist() == pytest.approx(nats.tolist())


def test_a_logit_that_is_no_number_names_the_document() -> None:
    model = _uniform()
    model.embed.weight.data[3] = math.nan
    with pytest.raises(InputError, match="the model: document 1: the logits of 1 of 4 tokens"):
        score_docs(model, [[0, 1, 2], [0, 3, 1]], [1, 1], 1)


def test_an_id_without_a_row_names_the_document() -> None:
    with pytest.raises(InputError, match="document 0 holds id 4; the model has 4 rows"):
        score_docs(_uniform(), [[1, 4]], [1], 8)


def _mixtral() -> Any:
    from transformers import MixtralConfig, MixtralForCausalLM

    torch.manual_seed(0)
    config = MixtralConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        num_local_experts=4,
        initializer_range=0.3,
    )
    return MixtralForCausalLM(config).eval()


def test_a_mixtral_scores_what_its_own_loss_says() -> None:
    model = _mixtral()
    docs = [[1, 7, 8, 9, 30, 2], [1, 5, 2], [1, 20, 21, 2]]
    nats = 0.0
    for ids in docs:
        loss = model(torch.tensor([ids]), labels=torch.tensor([ids])).loss
        nats += loss.item() * (len(ids) - 1)
    score = score_docs(model, docs, [5, 2, 3], 16)
    assert score[1:3] == (10, 10)
    assert score.nats == pytest.approx(nats, rel=1e-5)
    assert score.bpb == pytest.approx(nats / math.log(2) / 10, rel=1e-5)


@pytest.mark.parametrize("softcap", [None, 30.0])
def test_a_head_that_caps_its_logits_is_not_plain_and_is_scored_as_it_is(
    softcap: float | None,
) -> None:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(0)
    sizes: dict[str, Any] = {"num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 8}
    sizes |= {"num_key_value_heads": 1, "hidden_size": 16, "intermediate_size": 24}
    model = Gemma2ForCausalLM(
        Gemma2Config(vocab_size=50, final_logit_softcapping=softcap, initializer_range=0.3, **sizes)
    ).eval()
    assert has_plain_head(model) is (softcap is None)
    ids = torch.tensor([[1, 7, 8, 9, 30, 2]])
    with torch.no_grad():
        nats = model(ids, labels=ids).loss.item() * 5
    for plain_head in {softcap is None, False}:
        score = score_docs(model, ids.tolist(), [5], 16, plain_head=plain_head)
        assert score.nats == pytest.approx(nats, rel=1e-5)
