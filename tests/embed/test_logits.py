"""On text of the base's pieces, an expanded model computes what its base computes.

Hidden states, head rows, and the product of the two over the base's rows are equal bit by bit.
Logits out of the model itself come from one product over all rows: the library may cut a taller
matrix into other blocks, and the last bits of float32 sums may then differ. Measured on a
SmolLM2-135M with 6,123 new rows: equal in bfloat16 for all lengths tried, and in float32 for 16
tokens and more; up to 9.5e-6 apart for a single token.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from expandable import SIZE, extended_folder, tied_llama, untied_llama, untied_mixtral

from lingraft.embed import expand
from lingraft.models import ModelFolder, load_causal_lm


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("make", [untied_mixtral, tied_llama, untied_llama])
def test_logits_over_base_ids_are_those_of_the_base(
    tmp_path: Path, make: Callable[[Path], ModelFolder], dtype: str
) -> None:
    make(tmp_path / "base")
    tokenizer = extended_folder(tmp_path / "extended")
    expand(model=tmp_path / "base", tokenizer=tokenizer, out=tmp_path / "out", method="normal")
    base, grown = (load_causal_lm(tmp_path / name, dtype) for name in ("base", "out"))
    ids = torch.randint(0, SIZE, (2, 24), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        states = [model.model(ids).last_hidden_state for model in (base, grown)]
        assert torch.equal(*states)
        assert torch.equal(base.lm_head.weight, grown.lm_head.weight[:SIZE])
        head = grown.lm_head.weight[:SIZE].clone()
        assert torch.equal(base(ids).logits, torch.nn.functional.linear(states[1], head))
        whole = grown(ids).logits
        assert whole.shape[-1] == SIZE + 4
        assert torch.allclose(base(ids).logits, whole[..., :SIZE], rtol=0, atol=1e-5)
