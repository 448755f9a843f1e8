"""Read what prompts begin with once, not once for every item and choice.

A 5-shot prompt is mostly examples. All items of a C-Eval subject begin with the same five, and the
choices of a HellaSwag item with the same thousand tokens. The harness reads them anew each time.
Here token sequences are sorted, so that those with a common beginning stand together; it is read
once, its keys and values are kept, and every item goes on from there.

The arithmetic is the same and its order is not, so likelihoods differ in their last digits from the
harness's. Log-softmax is taken in float32, where the harness takes the model's dtype: in bfloat16
that alone moves a likelihood by up to 1 part in 256.

Shapes: B sequences, S tokens after the common beginning, V pieces.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch

from ..errors import UsageError

__all__ = ["Group", "make_sharing_lm", "plan_groups", "refuse_windows"]

_MIN_SHARED = 16
"""Tokens in common from which it pays to read them apart."""
_KEPT_FRAC = 0.8
"""A sequence joins a group if it leaves at least this much of the common beginning."""


class Group(NamedTuple):
    """Sequences with a common beginning."""

    num_shared: int
    members: list[int]


def plan_groups(sequences: Sequence[tuple[int, ...]], num_scored: Sequence[int]) -> list[Group]:
    """Group sequences by what they begin with.

    Args:
        sequences: Different token sequences.
        num_scored: Positions at the end of each whose logits are wanted; they are not shared.

    Returns:
        Groups that hold each sequence once.
    """
    order = sorted(range(len(sequences)), key=sequences.__getitem__)
    free = [len(s) - scored for s, scored in zip(sequences, num_scored, strict=True)]
    groups: list[Group] = []
    start = 0
    while start < len(order):
        stop, shared, first = start + 1, free[order[start]], 0
        while stop < len(order):
            # In sorted order, what the first and the last have in common all between have, too.
            common = _common(sequences[order[stop - 1]], sequences[order[stop]], shared)
            common = min(common, free[order[stop]])
            if common < max(_MIN_SHARED, _KEPT_FRAC * first):
                break
            first = first or common
            shared, stop = common, stop + 1
        groups.append(Group(shared if stop - start > 1 else 0, order[start:stop]))
        start = stop
    return groups


def _common(a: Sequence[int], b: Sequence[int], most: int) -> int:
    """Count tokens that two sequences begin with alike, up to `most`."""
    most = min(most, len(a), len(b))
    return next((n for n in range(most) if a[n] != b[n]), most)


def refuse_windows(model: Any, name: str) -> None:
    """Refuse a model that forgets: its keys and values cannot be cut back to the beginning.

    Raises:
        UsageError: It has sliding windows, or states that are not keys and values.
    """
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if getattr(config, "sliding_window", None) or kinds != {"full_attention"}:
        raise UsageError(
            f"--share-prefixes: model '{name}' has layers with other than full attention.",
            way_out="Leave --share-prefixes out for it.",
        )


def make_sharing_lm(model: Any, tokenizer: Any, batch_size: int) -> Any:
    """Make a model of the harness that reads common beginnings once."""
    from lm_eval.models.huggingface import HFLM

    class SharingLM(HFLM):  # type: ignore[misc]  # the harness has no types
        def _loglikelihood_tokens(
            self, requests: list[Any], disable_tqdm: bool = False, override_bs: int | None = None
        ) -> list[tuple[float, bool]]:
            answers: dict[int, tuple[float, bool]] = {}
            for number, answer in _answers(self.model, requests, self.max_length, batch_size):
                answers[number] = answer
                if requests[number][0] is not None:  # windows of one text have no name
                    self.cache_hook.add_partial("loglikelihood", requests[number][0], answer)
            return [answers[number] for number in range(len(requests))]

    return SharingLM(pretrained=model, tokenizer=tokenizer, backend="causal", batch_size=batch_size)


def _answers(
    model: Any, requests: Sequence[Any], max_length: int, batch_size: int
) -> Iterator[tuple[int, tuple[float, bool]]]:
    """Answer requests (name, context ids, continuation ids) in an order of our own."""
    asked: dict[tuple[int, ...], list[int]] = {}
    for number, (_, context, continuation) in enumerate(requests):
        ids = tuple([*context, *continuation][-(max_length + 1) : -1])
        asked.setdefault(ids, []).append(number)
    sequences = list(asked)
    scored = [max(len(requests[n][2]) for n in asked[ids]) for ids in sequences]
    for group in plan_groups(sequences, scored):
        for members, logits in _read_group(model, group, sequences, scored, batch_size):
            for member, logits_SV in zip(members, logits, strict=True):
                for number in asked[sequences[member]]:
                    yield number, _judge(logits_SV, requests[number][2])


def _judge(logits_SV: torch.Tensor, continuation: Sequence[int]) -> tuple[float, bool]:
    """Log-likelihood of a continuation, and whether greedy decoding would give it."""
    labels_S = torch.tensor(continuation, device=logits_SV.device)
    logits_SV = logits_SV[-len(continuation) :]
    chosen_S = torch.log_softmax(logits_SV.float(), -1).gather(1, labels_S[:, None])
    return float(chosen_S.sum()), bool((logits_SV.argmax(-1) == labels_S).all())


def _read_group(
    model: Any,
    group: Group,
    sequences: Sequence[Sequence[int]],
    scored: Sequence[int],
    batch_size: int,
) -> Iterator[tuple[list[int], list[torch.Tensor]]]:
    """Read a group; gives members and, of each, the logits of its last positions."""
    shared, cache = group.num_shared, None
    with torch.no_grad():
        if shared:
            ids = torch.tensor([sequences[group.members[0]][:shared]], device=model.device)
            cache = model(ids, use_cache=True, logits_to_keep=1).past_key_values
        for start in range(0, len(group.members), batch_size):
            members = group.members[start : start + batch_size]
            rests = [sequences[member][shared:] for member in members]
            longest = max(map(len, rests))
            ids = torch.tensor([[*r, *[0] * (longest - len(r))] for r in rests])
            keep = longest - min(len(r) - scored[m] for r, m in zip(rests, members, strict=True))
            before = cache
            if cache is not None:
                before = copy.deepcopy(cache)
                before.batch_repeat_interleave(len(members))
            logits_BSV = model(
                ids.to(model.device),
                past_key_values=before,
                use_cache=cache is not None,
                logits_to_keep=keep,
            ).logits
            ends = [len(r) - (longest - keep) for r in rests]
            yield (
                members,
                [
                    logits_BSV[row, end - scored[m] : end]
                    for row, (m, end) in enumerate(zip(members, ends, strict=True))
                ],
            )
