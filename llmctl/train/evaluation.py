"""A model and held-out tokens -> loss and bits per byte.

Bits per byte compare models across tokenizers: all nats of the text, over the UTF-8 bytes of
its documents, never over the bytes of decoded tokens.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

import torch

from llmctl.data.batches import Batch
from llmctl.model.transformer import Transformer
from llmctl.train.objectives import Objective


@dataclass(frozen=True, slots=True)
class Score:
    """The mean loss in nats a target, and over how many targets."""

    loss: float
    targets: int

    @property
    def rank(self) -> float:
        """What runs are compared by: less is better."""
        return self.loss

    def bits_per_byte(self, text_bytes: float) -> float:
        """Bits that the model spends on each byte of the text that the targets stand for."""
        return self.loss * self.targets / math.log(2) / text_bytes


@torch.no_grad()
def score(
    model: Transformer, objective: Objective, batches: Iterable[Batch], *, most: int | None = None
) -> Score:
    """Score batches, all or the first `most`."""
    device = next(model.parameters()).device
    nats, targets = 0.0, 0
    for batch in islice(batches, most):
        nats += float(objective(model, batch.to(device)))
        targets += batch.trained
    return Score(nats / max(1, targets), targets)
