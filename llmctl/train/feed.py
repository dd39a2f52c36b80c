"""Batches of a step -> this rank's micro-batches, where they are computed.

A GPU computes on while the host makes the next batch and sends it from pinned memory: when the
next step begins, what it needs is there. On a CPU nothing is gained by that, and it is not done.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from llmctl.train.distributed.world import World


class StepBatch(Protocol):
    """What a step learns from: so many rows, so many tokens, so many targets that are trained."""

    @property
    def rows(self) -> int: ...

    @property
    def tokens(self) -> int: ...

    @property
    def trained(self) -> int: ...

    def micro(self, start: int, stop: int) -> "StepBatch":
        """Some of the rows, as a batch of their own."""
        ...

    def to(self, device: torch.device) -> "StepBatch":
        """The same batch on a device."""
        ...


class Batches(Protocol):
    """Where batches come from: a pure function of the step."""

    def batch(self, step: int) -> StepBatch:
        """The global batch of a step."""
        ...


@dataclass(frozen=True, slots=True)
class Portion:
    """This rank's micro-batches of a batch; tokens and trained targets are those of all ranks."""

    micros: Sequence[StepBatch]
    tokens: int
    trained: int


class Feed:
    """Hands out the portion of each step; where it `is_ahead`, the next can be fetched before."""

    def __init__(
        self, batches: Batches, world: World, device: torch.device, *, is_ahead: bool | None = None
    ) -> None:
        self.batches = batches
        self.world = world
        self.device = device
        self.is_ahead = device.type == "cuda" if is_ahead is None else is_ahead
        self._fetched: dict[int, Portion] = {}

    def take(self, step: int, micro_rows: int) -> Portion:
        """What this rank learns from in a step, so many rows at once."""
        found = self._fetched.pop(step, None)
        self._fetched.clear()
        return found or self.cut(self.batches.batch(step), micro_rows)

    def fetch(self, step: int, micro_rows: int) -> None:
        """Get ready what a step will take, where the host has nothing better to do."""
        if self.is_ahead:
            self._fetched[step] = self.cut(self.batches.batch(step), micro_rows)

    def cut(self, batch: StepBatch, micro_rows: int) -> Portion:
        """This rank's share of the rows of a batch, so many at once."""
        mine = self.world.share(batch.rows)
        micros = [
            batch.micro(start, min(start + micro_rows, mine.stop)).to(self.device)
            for start in range(mine.start, mine.stop, micro_rows)
        ]
        return Portion(micros, batch.tokens, batch.trained)
