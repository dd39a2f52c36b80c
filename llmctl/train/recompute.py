"""Blocks that keep less for the backward pass and compute it again there.

`full` keeps a block's input alone: about a third more work. `selective` keeps what products and
attention gave and computes the rest again, which is cheap (Korthikanti et al. 2022, arXiv
2205.05198, section 5).
"""

import functools
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

from llmctl.model.transformer import Transformer, View

Recompute = Literal["none", "selective", "full"]
_ATEN = torch.ops.aten
KEPT = frozenset(
    {
        _ATEN.mm.default,
        _ATEN.addmm.default,
        _ATEN._scaled_mm.default,
        _ATEN._scaled_dot_product_flash_attention.default,
        _ATEN._scaled_dot_product_flash_attention_for_cpu.default,
        _ATEN._scaled_dot_product_efficient_attention.default,
        _ATEN._scaled_dot_product_cudnn_attention.default,
        torch.ops.higher_order.flex_attention,
    }
)


def recompute(model: Transformer, how: Recompute) -> None:
    """Let every block of a model keep less."""
    if how == "none":
        return
    for block in model.blocks:
        _wrap(block, how)


def _wrap(block: nn.Module, how: Recompute) -> None:
    options: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": False}
    if how == "selective":
        options["context_fn"] = functools.partial(create_selective_checkpoint_contexts, _policy)
    inner = block.forward

    # In place of a wrapper around the module: the names of parameters stay what they are. A plain
    # function, because torch's compiler looks into those: of a partial `checkpoint` would be the
    # first frame that it sees, which it skips with all that is in it.
    def forward(x_BTD: Tensor, view: View) -> Tensor:
        found: Tensor = checkpoint(inner, x_BTD, view, **options)
        return found

    block.forward = forward


def _policy(_context: Any, operator: Any, *_: Any, **__: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if operator in KEPT else CheckpointPolicy.PREFER_RECOMPUTE
