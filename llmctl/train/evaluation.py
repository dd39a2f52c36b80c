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


@dataclass(frozen=True, slots=True)
class DomainScore:
    """The score of one text among several, its share in training, and the bytes it stands for."""

    name: str
    weight: float
    score: Score
    text_bytes: float

    @property
    def bits_per_byte(self) -> float:
        """Bits that the model spends on each byte of this text."""
        return self.score.bits_per_byte(self.text_bytes)


@dataclass(frozen=True, slots=True)
class DomainScores:
    """The scores of all texts; together they count by their shares in training."""

    domains: tuple[DomainScore, ...]

    @property
    def loss(self) -> float:
        """The mean loss in nats a target."""
        return sum(one.weight * one.score.loss for one in self.domains)

    @property
    def rank(self) -> float:
        """What runs are compared by: less is better."""
        return self.loss

    @property
    def bits_per_byte(self) -> float:
        """Bits that the model spends on each byte."""
        return sum(one.weight * one.bits_per_byte for one in self.domains)

    @property
    def targets(self) -> int:
        """Over how many targets."""
        return sum(one.score.targets for one in self.domains)


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
