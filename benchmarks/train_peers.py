"""The peer of bench_train: transformers, PEFT and bitsandbytes, wired as closely as runs today.

The reference trains with HF Trainer, PEFT LoRA (rank 64, dropout 0.05) on q, k, v, o, w1, w2, w3
and a 4-bit base. Since transformers 5 keeps a layer's experts in two fused parameters:

- bitsandbytes packs attention only; experts stay in 16 bits (bitsandbytes issue 1849);
- PEFT adapts experts through `target_parameters`, which refuses dropout: 0 here, on all roles;
- gate and up share one adapter, of rank 64.

That is the peer "fused". The peer "classic" undoes the fusion: each expert is three nn.Linear
again and a block loops over its experts, as transformers 4 did and the reference trained. Then
bitsandbytes packs all of them and PEFT adapts w1, w2 and w3 with dropout, as the reference says.

The rest is the reference's: gradient checkpointing of whole layers, bfloat16 autocast, fused
AdamW, embed_tokens and lm_head in modules_to_save, transformers' own loss; with `dtype` float32
(a CPU without bfloat16 products) all of it is float32 and there is no autocast. The loop is what
Trainer does in a step, without its logging. Weights are random, made on the device; packing
needs no folder then.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import torch
from random_model import RandomModel
from torch import nn
from torch.nn.functional import silu

__all__ = ["Peer"]

ROLES = ["q_proj", "k_proj", "v_proj", "o_proj"]
# Not w1, w2, w3: PEFT takes these names out of a Mixtral and asks for fused parameters instead.
CLASSIC_ROLES = [*ROLES, "own_w1", "own_w2", "own_w3"]
EXPERTS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]


class Peer:
    """A PEFT model and its step."""

    def __init__(self, source: RandomModel, spec: dict[str, Any], device: torch.device) -> None:
        """Build."""
        from peft import LoraConfig, get_peft_model

        start = time.perf_counter()
        self._device = device
        is_classic = spec.get("experts") == "classic"
        dtype: torch.dtype = getattr(torch, spec.get("dtype", "bfloat16"))
        self._autocasts = dtype != torch.float32
        roles = CLASSIC_ROLES if is_classic else ROLES
        model = random_model(source, device, roles if is_classic else [], dtype)
        packed = len(roles) if is_classic else pack(model, ROLES, device, dtype)
        if spec.get("liger"):
            use_liger(model)
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
        config = LoraConfig(
            r=spec.get("rank", 64),
            lora_alpha=2 * spec.get("rank", 64),
            lora_dropout=spec.get("dropout", 0.05) if is_classic else 0.0,
            target_modules=roles,
            target_parameters=None if is_classic else EXPERTS,
            modules_to_save=["embed_tokens", "lm_head"],
            task_type="CAUSAL_LM",
        )
        with device:
            self.model = get_peft_model(model, config)
        self.model.train()
        self._parameters = [p for p in self.model.parameters() if p.requires_grad]
        self._optimizer = torch.optim.AdamW(self._parameters, lr=1e-5, fused=True)
        frozen = [p for p in self.model.parameters() if not p.requires_grad]
        self.facts = {
            "build_s": round(time.perf_counter() - start, 2),
            "packed_roles": packed,
            "trained_parameters": sum(p.numel() for p in self._parameters),
            "trained_dtypes": sorted({str(p.dtype) for p in self._parameters}),
            "frozen_gb": round(sum(p.numel() * p.element_size() for p in frozen) / 1e9, 2),
            "deviations": "experts unfused as transformers 4 had them"
            if is_classic
            else "experts in 16 bits, dropout 0, gate and up share an adapter",
        }

    def parts(self, ids_BL: torch.Tensor) -> Iterator[str]:
        """Do one step."""
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._autocasts):
            loss = self.model(input_ids=ids_BL, labels=ids_BL, use_cache=False).loss
        yield "forward"
        loss.backward()
        yield "backward"
        torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.last_loss = float(loss.detach())
        yield "optimizer"


class ClassicExpert(nn.Module):
    """An expert of transformers 4's Mixtral."""

    def __init__(self, width: int, inner: int) -> None:
        """Give it three maps without weights."""
        super().__init__()
        self.own_w1, self.own_w3 = (nn.Linear(width, inner, bias=False) for _ in range(2))
        self.own_w2 = nn.Linear(inner, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Give w2(silu(w1 x) * w3 x)."""
        out: torch.Tensor = self.own_w2(silu(self.own_w1(x)) * self.own_w3(x))
        return out


class ClassicExperts(nn.ModuleList):
    """All experts of a block, one after the other, called as transformers 5 calls its own."""

    def forward(self, x: torch.Tensor, index: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
        """Sum each token's experts, times their shares."""
        out = torch.zeros_like(x)
        for number, expert in enumerate(self):
            places, tokens = torch.where((index == number).t())
            rows = expert(x[tokens]) * shares[tokens, places].unsqueeze(1)
            out.index_add_(0, tokens, rows.to(out.dtype))
        return out


def random_model(
    source: RandomModel, device: torch.device, packed_roles: list[str], dtype: torch.dtype
) -> Any:
    """Give transformers' own model with random weights of the source's config.

    With `packed_roles` its experts are classic, and these roles are packed one by one, so that
    the whole model is never there in 16 bits.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(source.path, local_files_only=True)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
        if packed_roles:
            for layer in model.model.layers:
                sizes = (config.hidden_size, config.intermediate_size)
                experts = (ClassicExpert(*sizes) for _ in range(config.num_local_experts))
                layer.mlp.experts = ClassicExperts(experts).to(dtype)
    if packed_roles:
        pack(model, packed_roles, device, dtype)
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.is_meta:
                weight = torch.empty(parameter.shape, dtype=dtype, device=device)
                weight = weight.fill_(1) if weight.dim() == 1 else weight.normal_(0, 0.02)
                setattr(module, name, nn.Parameter(weight))
    rotary = type(model.model.rotary_emb)
    model.model.rotary_emb = rotary(config).to(device)
    return model


def pack(model: Any, roles: list[str], device: torch.device, dtype: torch.dtype) -> int:
    """Put bitsandbytes' Linear4bit in the place of these maps, doubly quantised NF4."""
    import bitsandbytes as bnb

    maps = [(n, m) for n, m in model.named_modules() if n.rpartition(".")[2] in roles]
    for name, module in maps:
        assert isinstance(module, nn.Linear), name
        packed = bnb.nn.Linear4bit(
            module.in_features,
            module.out_features,
            bias=False,
            compute_dtype=dtype,
            compress_statistics=True,
            quant_type="nf4",
            device="meta",
        )
        weight = torch.empty(module.weight.shape, dtype=dtype, device=device)
        packed.weight = bnb.nn.Params4bit(
            weight.normal_(0, 0.02),
            requires_grad=False,
            compress_statistics=True,
            quant_type="nf4",
        ).to(device)
        model.set_submodule(name, packed)
    model.is_loaded_in_4bit = True
    return len(roles)


def use_liger(model: Any) -> None:
    """Let Liger's kernels take the norms, the rotation and the loss."""
    from liger_kernel.transformers import apply_liger_kernel_to_mixtral

    apply_liger_kernel_to_mixtral(model=model)
