"""AdamW for everything: matrices and embeddings decay, vectors do not."""

from collections.abc import Sequence

import torch

from llmctl.train.masters import Master
from llmctl.train.recipe import Rates
from llmctl.train.spread import Spread


def adamw(
    masters: Sequence[Master], rates: Rates, dtype: torch.dtype, spread: Spread
) -> list[torch.optim.Optimizer]:
    """AdamW over all masters (Loshchilov and Hutter 2019, arXiv 1711.05101), in float32, fused.

    It changes number by number, so that it needs neither whole matrices nor another type.
    """
    del dtype, spread
    return [adamw_over(masters, rates, matrices=rates.matrix)]


def adamw_over(
    masters: Sequence[Master], rates: Rates, *, matrices: float
) -> torch.optim.Optimizer:
    """One AdamW with a group for each kind that has masters."""
    rate = {
        "matrix": matrices,
        "embedding": rates.embedding,
        "head": rates.head,
        "vector": rates.vector,
    }
    groups = [
        {
            # A rank may hold no row of a small matrix.
            "params": [one.value for one in masters if one.kind == kind and one.value.numel()],
            "lr": rate[kind],
            "weight_decay": 0.0 if kind == "vector" else rates.weight_decay,
        }
        for kind in rate
        if any(one.kind == kind and one.value.numel() for one in masters)
    ]
    return torch.optim.AdamW(groups, betas=rates.betas, eps=1e-10, fused=True)
