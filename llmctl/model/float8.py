"""Linear layers that multiply in eight bits while they train: about twice as fast on new GPUs.

Of each product both sides are scaled so that the largest number of a tensor is the largest of its
type, anew every time: nothing to remember, nothing to save. Values have three bits of fraction
(e4m3), gradients two and a wider range (e5m2): Micikevicius et al. 2022, arXiv 2209.05433. What
comes out is in the type of what went in. Weights stay what they are, and a model that does not
learn computes as one without any of this.

    N tokens, D inputs, O outputs of a layer
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# Tensor cores take sides that divide by this.
SIDE = 16
VALUES, GRADIENTS = torch.float8_e4m3fn, torch.float8_e5m2
# What is smaller than this is scaled as if it were zero.
LEAST = 1e-12


def compute_in_float8(module: nn.Module) -> None:
    """Let all linear layers of a module that tensor cores can take compute so."""
    for layer in module.modules():
        is_plain = type(layer) is nn.Linear
        if is_plain and layer.in_features % SIDE == 0 and layer.out_features % SIDE == 0:
            # The same object with the same parameters: whoever knows them need not know of this.
            layer.__class__ = Float8Linear


class Float8Linear(nn.Linear):
    """A linear layer whose three products, one forward and two backward, are in eight bits."""

    def forward(self, x: Tensor) -> Tensor:
        """The outputs, in the type of the inputs."""
        tokens = x.numel() // self.in_features
        if not torch.is_grad_enabled() or tokens % SIDE:
            return F.linear(x, self.weight, self.bias)
        y_NO: Tensor = _Product.apply(x.flatten(0, -2), self.weight)
        y = y_NO.unflatten(0, x.shape[:-1])
        bias = cast("Tensor | None", self.bias)
        return y if bias is None else y + bias


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, weight_OD: Tensor) -> Tensor:
        x8_ND, x_unit = narrowed(x_ND, VALUES)
        weight8_OD, weight_unit = narrowed(weight_OD, VALUES)
        # Of the weight no copy is kept: it may be gathered, and let go, between here and there.
        ctx.save_for_backward(x8_ND, x_unit, weight_OD)
        return _multiplied((x8_ND, x_unit), (weight8_OD.mT, weight_unit), x_ND.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, Tensor]:
        x8_ND, x_unit, weight_OD = ctx.saved_tensors
        (slope_NO,) = outer
        dtype = slope_NO.dtype
        slope8_NO, slope_unit = narrowed(slope_NO, GRADIENTS)
        weight8_OD, weight_unit = narrowed(weight_OD, VALUES)
        slope8_ON = slope8_NO.mT.contiguous()
        x_slope = _multiplied(
            (slope8_NO, slope_unit), (_by_columns(weight8_OD), weight_unit), dtype
        )
        weight_slope = _multiplied((slope8_ON, slope_unit), (_by_columns(x8_ND), x_unit), dtype)
        return x_slope, weight_slope


def narrowed(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """A tensor in eight bits, and what a one in it stands for."""
    most = torch.finfo(dtype).max
    scale = most / x.abs().amax().float().clamp(min=LEAST)
    return (x.float() * scale).clamp(-most, most).to(dtype), scale.reciprocal()


def _multiplied(
    left: tuple[Tensor, Tensor], right: tuple[Tensor, Tensor], dtype: torch.dtype
) -> Tensor:
    """The product of two narrowed matrices: one by rows in memory, the other by columns."""
    (left_NK, left_unit), (right_KM, right_unit) = left, right
    return torch._scaled_mm(
        left_NK, right_KM, scale_a=left_unit, scale_b=right_unit, out_dtype=dtype
    )


def _by_columns(matrix: Tensor) -> Tensor:
    return matrix.mT.contiguous().mT
