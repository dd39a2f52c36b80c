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
from llmctl.train.distributed.world import ALONE, World
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

    @property
    def margin(self) -> float:
        """None: a loss over very many tokens tells any two apart."""
        return 0.0

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
    def margin(self) -> float:
        """None, as of each."""
        return 0.0

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
    model: Transformer,
    objective: Objective,
    batches: Iterable[Batch],
    *,
    most: int | None = None,
    world: World = ALONE,
) -> Score:
    """Score batches, all or the first `most`; the teams of a world take turns.

    The same bits however many they are: a batch's nats are a number by themselves. But for rows
    in slices: there they are as many as there are slices.
    """
    device = next(model.parameters()).device
    rows = islice(batches, most)
    nats, targets = [], 0
    while turn := list(islice(rows, world.teams)):
        # A team without a batch of its own computes the first: where the model lies over the
        # ranks, all must take part.
        mine = turn[world.team] if world.team < len(turn) else turn[0]
        nats.append(torch.tensor([float(objective(model, mine.to(device)))], dtype=torch.float64))
        targets += sum(batch.trained for batch in turn)
        # Those who hold parts of one model find the same, which counts once.
        if world.team >= len(turn) or world.rank % world.parts:
            nats[-1].zero_()
        world.doing(f"scores held-out text, {targets:,} tokens so far")
    # By turns and within a turn by ranks is the order of the batches.
    found = world.gathered(torch.cat(nats), "the scores") if nats else torch.zeros(1, 1)
    total = sum(found.T.flatten().tolist())
    return Score(total / max(1, targets), targets)
