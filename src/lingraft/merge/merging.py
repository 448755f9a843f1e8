"""One merge from start to proof: what the recipe's stage and the verb share."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import VerifyError
from ..models import ModelFolder
from ..store import Draft
from ..threads import num_cores
from .adapter import Adapter
from .settings import MergeFacts
from .sizes import parse_size
from .sums import Sums
from .targets import Plan, plan_targets, require_linear
from .verify import Comparison, check_names, compare
from .writing import forget_shards, plan_files, write_configs, write_shards

__all__ = ["Asked", "merge_into", "other_body", "plan_merge"]


@dataclass(frozen=True)
class Asked:
    """How to merge; see MergeSettings for the values."""

    body: str = "original"
    dtype: str = "keep"
    max_shard_size: str = ""
    verify: bool = True
    both_bodies: bool = False
    """Whether to compare with the other body too."""
    jobs: int = 0
    """Threads that compute; 0: one for each core."""


def other_body(body: str) -> str:
    """Name the body that is not merged into."""
    return "original" if body == "nf4" else "nf4"


def plan_merge(model: ModelFolder, adapter: Adapter, asked: Asked) -> Plan:
    """Plan every tensor of the merged model, and the comparison; nothing is written.

    Raises:
        InputError: The adapter does not fit the model.
        UsageError: The merged model could not be compared, or has no NF4 body.
    """
    if asked.body == "nf4" or asked.both_bodies:
        require_linear(model)
    plan = plan_targets(model, adapter, asked.body, asked.dtype)
    if asked.verify:
        check_names(Sums(model, adapter), plan)
    return plan


def merge_into(
    model: ModelFolder, adapter: Adapter, asked: Asked, draft: Draft, plan: Plan
) -> MergeFacts:
    """Write the merged model into a draft, and compare its logits with base and adapter.

    Raises:
        InputError: The adapter does not fit the model.
        DiskFullError: There is no room for the merged model.
        VerifyError: The merged model does not say what base and adapter say.
    """
    max_bytes = parse_size(asked.max_shard_size) if asked.max_shard_size else None
    shards = plan_files(model, plan, max_bytes)
    sums = Sums(model, adapter)
    jobs = asked.jobs or num_cores()
    size_bytes = write_shards(shards, sums, draft, jobs)
    write_configs(model, plan, asked.dtype, draft.path)
    found = _verify(sums, plan, asked, jobs, draft) if asked.verify else {}
    own, other = found.get(asked.body), found.get(other_body(asked.body))
    linked = sum(shard.linked is not None for shard in shards)
    return MergeFacts(
        tensors_merged=sum(c.low_rank is not None or bool(c.shift) for c in plan.changes),
        tensors_replaced=sum(c.whole is not None for c in plan.changes),
        tensors_kept=sum(target.change is None for target in plan.targets.values()),
        rows_replaced=sum(len(c.token_ids) for c in plan.changes if c.tokens),
        size_bytes=size_bytes,
        shards_linked=linked,
        shards_written=len(shards) - linked,
        untied=bool(plan.untied),
        max_logit_difference=own.difference if own else None,
        max_logit_difference_other_body=other.difference if other else None,
        largest_logit=own.largest_logit if own else None,
    )


def _verify(sums: Sums, plan: Plan, asked: Asked, jobs: int, draft: Draft) -> dict[str, Comparison]:
    bodies = (asked.body, other_body(asked.body)) if asked.both_bodies else (asked.body,)
    found = compare(sums, plan, draft.path, bodies, jobs, draft.note)
    own = found[asked.body]
    if not own.is_explained:
        forget_shards(draft)  # or the next run would keep them
        raise VerifyError(
            f"{draft.path}: logits of the merged model differ by {own.difference:.3g} from those "
            f"of base and adapter; {own.dtype} rounding explains {own.allowed:.3g}.",
            effect="The merged model would not be the model that was trained.",
            way_out="Merge again: all files are then written anew. If it stays, dtype is too "
            "coarse.",
        )
    draft.note(
        f"largest difference of logits {own.difference:.2e} (allowed {own.allowed:.2e}; largest "
        f"logit {own.largest_logit:.3g})"
    )
    if asked.both_bodies:
        other = found[other_body(asked.body)]
        draft.note(f"against the {other_body(asked.body)} body {other.difference:.2e}")
    return found
