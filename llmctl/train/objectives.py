"""What a model is trained for: (model, batch) -> the sum of losses over the batch's targets.

The Trainer divides by the number of targets of the whole step, so that the loss does not depend
on how the step is cut into micro-batches.
    B batch, T time, D width, V vocabulary, N = B * T
"""

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from llmctl.data.batches import IGNORED, Batch
from llmctl.data.class_batches import ClassBatch
from llmctl.model.attention import Slices
from llmctl.model.classifier import Classifier
from llmctl.model.transformer import Transformer

# Logits at a time: what the cache of a CPU holds is several times as fast as what it does not; a
# GPU reads the head, and the sum of its gradient, again for every chunk.
CPU_LOGITS, GPU_LOGITS = 2**22, 2**28
LEAST_ROWS = 128
# Below this a share may be nothing: a loss of 87 nats a token.
LEAST_SHARE = torch.finfo(torch.float32).tiny
# Where more is trained than this share, picking out what is costs more than it saves.
MOST_TRAINED = 0.95


Model = Transformer | Classifier


class Objective(Protocol):
    """The contract of everything that can be trained for: one sort of model, one of batches."""

    def __call__(self, model: Any, batch: Any) -> Tensor:
        """The summed loss over the targets of the batch, a float32 scalar with a gradient."""
        ...


def next_token(model: Transformer, batch: Batch, slices: Slices | None = None) -> Tensor:
    """The cross-entropy of every next token, in nats, summed; with `slices`, of one of them."""
    hidden_BTD = model.hidden(batch.inputs_BT, segments_BT=batch.segments_BT, slices=slices)
    targets_BT = batch.targets_BT
    if slices is not None:
        targets_BT = targets_BT[:, slices.mine(targets_BT.shape[1])]
    hidden_ND, targets_N = hidden_BTD.flatten(0, 1), targets_BT.flatten()
    # The head is half of the work of a small model with a large vocabulary, and questions, like
    # padding, need none of it.
    if batch.trained < MOST_TRAINED * batch.targets_BT.numel():
        is_trained_N = targets_N != IGNORED
        hidden_ND, targets_N = hidden_ND[is_trained_N], targets_N[is_trained_N]
    return head_cross_entropy(hidden_ND, model.head_weight, targets_N)


def class_label(model: Classifier, batch: ClassBatch) -> Tensor:
    """The weighted cross-entropy of the classes of every text, in nats, summed."""
    return _class_loss(model(batch.inputs, batch.lengths_B), batch)


def class_label_above(layers: int) -> Objective:
    """The same for batches that hold the states behind the first `layers` blocks, kept frozen."""

    def objective(model: Classifier, batch: ClassBatch) -> Tensor:
        states_BTD = model.decoder.upper(batch.inputs, layers)
        return _class_loss(model.judge(states_BTD, batch.lengths_B), batch)

    return objective


def _class_loss(logits_BC: Tensor, batch: ClassBatch) -> Tensor:
    nats_B = F.cross_entropy(logits_BC.float(), batch.shares_BC, reduction="none")
    return (nats_B * batch.weights_B).sum()


def head_cross_entropy(hidden_ND: Tensor, head_VD: Tensor, targets_N: Tensor) -> Tensor:
    """Output product and cross-entropy, summed, over chunks: the logits never exist whole.

    The gradient is made in the forward pass, chunk by chunk, as in Liger Kernel's fused linear
    cross-entropy (arXiv 2410.10989, section 3.2).
    """
    loss: Tensor = _HeadCrossEntropy.apply(hidden_ND, head_VD, targets_N)
    return loss


def chunk_rows(vocab_size: int, device: torch.device) -> int:
    """Of how many rows logits are computed at a time.

    >>> [chunk_rows(50304, torch.device(name)) for name in ("cpu", "cuda")]
    [128, 5336]
    """
    logits = CPU_LOGITS if device.type == "cpu" else GPU_LOGITS
    return max(LEAST_ROWS, logits // vocab_size)


class _HeadCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden_ND: Tensor, head_VD: Tensor, targets_N: Tensor) -> Tensor:
        chunk = chunk_rows(head_VD.shape[0], head_VD.device)
        total = torch.zeros((), dtype=torch.float32, device=hidden_ND.device)
        learns_below, learns_head, _ = ctx.needs_input_grad
        hidden_gradient = torch.empty_like(hidden_ND) if learns_below else None
        head_gradient = torch.zeros_like(head_VD, dtype=torch.float32) if learns_head else None
        for start in range(0, len(hidden_ND), chunk):
            rows = slice(start, start + chunk)
            hidden_CD = hidden_ND[rows]
            counts_C1 = (targets_N[rows] != IGNORED).unsqueeze(1).to(hidden_CD.dtype)
            index_C1 = targets_N[rows].clamp(min=0).unsqueeze(1)
            # One pass, float32 inside whatever comes and goes: a twentieth of the time of widening
            # the logits, and no less exact than they are.
            shares_CV = torch.softmax(hidden_CD @ head_VD.mT, dim=-1)
            right_C1 = shares_CV.gather(1, index_C1).float().clamp(min=LEAST_SHARE)
            total -= (right_C1.log() * counts_C1).sum()
            if hidden_gradient is None and head_gradient is None:
                continue
            slope_CV = shares_CV.scatter_add_(1, index_C1, -torch.ones_like(shares_CV[:, :1]))
            # Rows that do not count are nothing on the narrow side: whether there are any would
            # have to be asked of the device.
            if hidden_gradient is not None:
                torch.mm(slope_CV, head_VD, out=hidden_gradient[rows]).mul_(counts_C1)
            if head_gradient is not None:
                head_gradient += slope_CV.mT @ (hidden_CD * counts_C1)
        ctx.save_for_backward(hidden_gradient, head_gradient)
        ctx.dtype = head_VD.dtype
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        hidden_gradient, head_gradient = ctx.saved_tensors
        scale = outer[0]
        if hidden_gradient is not None:
            hidden_gradient.mul_(scale.to(hidden_gradient.dtype))
        if head_gradient is not None:
            head_gradient = head_gradient.mul_(scale).to(ctx.dtype)
        return hidden_gradient, head_gradient, None
