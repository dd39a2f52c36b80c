"""AdamW for everything: matrices and embeddings decay, vectors do not."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw as adamw_step

from llmctl.train.masters import Master
from llmctl.train.recipe import Rates
from llmctl.train.spread import Spread
from llmctl.train.trainer import Optimizer

# The usual 1e-8 is not small beside the gradients of rare tokens.
EPSILON = 1e-10


def adamw(
    masters: Sequence[Master], rates: Rates, dtype: torch.dtype, spread: Spread
) -> list[Optimizer]:
    """AdamW over all masters (Loshchilov and Hutter 2019, arXiv 1711.05101), in float32, fused.

    It changes number by number, so that it needs neither whole matrices nor another type.
    """
    del dtype, spread
    return [AdamW(masters, rates, matrices=rates.matrix)]


class AdamW:
    """One AdamW with a group for each kind that has masters.

    The arithmetic is torch's. Its class `torch.optim.Optimizer` brings the compiler along, and that
    takes longer to import than a small model to learn its first hundred steps.
    """

    def __init__(self, masters: Sequence[Master], rates: Rates, *, matrices: float) -> None:
        rate = {
            "matrix": matrices,
            "embedding": rates.embedding,
            "head": rates.head,
            "vector": rates.vector,
        }
        self.betas = rates.betas
        self.state: defaultdict[Tensor, dict[str, Tensor]] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = [
            {
                # A rank may hold no row of a small matrix.
                "params": [one.value for one in masters if one.kind == kind and one.value.numel()],
                "lr": rate[kind],
                "weight_decay": 0.0 if kind == "vector" else rates.weight_decay,
            }
            for kind in rate
            if any(one.kind == kind and one.value.numel() for one in masters)
        ]

    @torch.no_grad()
    def step(self) -> None:
        """Change every weight that has a gradient by it."""
        beta1, beta2 = self.betas
        for group in self.param_groups:
            params = [param for param in group["params"] if param.grad is not None]
            states = [self._state(param) for param in params]
            adamw_step(
                params,
                [param.grad for param in params],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                [state["step"] for state in states],
                fused=True,
                amsgrad=False,
                beta1=beta1,
                beta2=beta2,
                lr=group["lr"],
                weight_decay=group["weight_decay"],
                eps=EPSILON,
                maximize=False,
            )

    def _state(self, param: Tensor) -> dict[str, Tensor]:
        state = self.state[param]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=param.device)
            state["exp_avg"] = torch.zeros_like(param)
            state["exp_avg_sq"] = torch.zeros_like(param)
        return state
