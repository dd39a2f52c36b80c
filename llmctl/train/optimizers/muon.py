"""Muon for the hidden matrices, AdamW for the rest.

Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) replaces the momentum of each matrix
by the nearest orthogonal one, found by a few polynomials, each the best for what the one before
leaves (Amsel et al. 2025, arXiv 2505.16932, section 3): three do what five equal ones did, and of a
small model with a small batch they are a third of all products. `torch.optim.Muon` fixes those
products to bfloat16 and takes one matrix at a time; on a CPU without bfloat16 arithmetic that is
a hundred times slower, so here equal shapes are stacked and the type is the model's own.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from llmctl.train.masters import Master
from llmctl.train.optimizers.adamw import AdamW
from llmctl.train.recipe import Rates
from llmctl.train.spread import Spread
from llmctl.train.trainer import Optimizer

# Factors of x, x^3 and x^5, each found by a linear program for what the one before leaves, from
# singular values of 0.001 to 1 of a matrix of norm 1. They end between 0.14 and 1.86: to lift what
# is small counts, to be exact does not (tests/benchmarks/README.md).
POLYNOMIALS = (
    (8.4703, -25.1081, 18.6293),
    (4.1828, -3.1087, 0.5806),
    (3.9619, -2.9541, 0.5630),
)
# Beyond 1 the first polynomial is steep, and a type of 16 bits rounds there.
MARGIN = 1.01


def muon(
    masters: Sequence[Master], rates: Rates, dtype: torch.dtype, spread: Spread
) -> list[Optimizer]:
    """Muon over the masters whose kind is `matrix`, AdamW over the others; products in `dtype`."""
    matrices = [master for master in masters if master.kind == "matrix"]
    others = [master for master in masters if master.kind != "matrix"]
    return [
        Muon(matrices, lr=rates.matrix, momentum=rates.momentum, dtype=dtype, spread=spread),
        AdamW(others, rates, matrices=rates.matrix),
    ]


def orthogonalize(stack_NRC: Tensor) -> Tensor:
    """Something like the nearest orthogonal matrix of each of N: singular values of 0.1 to 1.9.

    Those below a thousandth of the norm become less.
    """
    tall = stack_NRC.shape[-2] > stack_NRC.shape[-1]
    x = stack_NRC.mT if tall else stack_NRC
    x = x / (MARGIN * x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for a, b, c in POLYNOMIALS:
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon:
    """Momentum, Nesterov, orthogonalised, scaled by sqrt(rows / columns) where rows are more."""

    def __init__(
        self,
        masters: Sequence[Master],
        *,
        lr: float,
        momentum: float,
        dtype: torch.dtype,
        spread: Spread,
    ) -> None:
        self.momentum = momentum
        self.state: defaultdict[Tensor, dict[str, Tensor]] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = [
            {"params": [one.value for one in masters], "lr": lr}
        ]
        self.dtype = dtype
        self.spread = spread
        self._by_shape: dict[tuple[tuple[int, ...], ...], list[Master]] = {}
        for one in masters:
            self._by_shape.setdefault((one.whole, one.shape), []).append(one)

    @torch.no_grad()
    def step(self) -> None:
        """Change every matrix by its gradient."""
        (group,) = self.param_groups
        for (shape, _), masters in self._by_shape.items():
            ahead = self._ahead([one.value for one in masters])
            pieces = [one.to(self.dtype) for one in ahead]
            updates = self.spread.worked(masters, pieces, orthogonalize)
            scale = max(1.0, shape[0] / shape[1]) ** 0.5
            values = [one.value for one in masters]
            changes = [one.float() for one in updates]
            torch._foreach_add_(values, changes, alpha=-group["lr"] * scale)

    def _ahead(self, params: Sequence[Tensor]) -> Sequence[Tensor]:
        gradients = [param.grad for param in params if param.grad is not None]
        averages: list[Tensor] = []
        for param in params:
            state = self.state[param]
            if not state:
                state["momentum"] = torch.zeros_like(param)
            averages.append(state["momentum"])
        torch._foreach_lerp_(averages, gradients, 1 - self.momentum)
        return torch._foreach_lerp(gradients, averages, self.momentum)
