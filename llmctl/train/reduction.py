"""Each rank's sums of gradients and loss -> those of the whole step, and how long the gradient is.

What differs between one process, several that hold the whole model, and several that hold a part
of it each; the loop knows none of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from llmctl.errors import ConfigError
from llmctl.train.distributed.world import ALONE, World, flattened, unflattened

WHAT = "the sum of gradients"
# Numbers in a tensor; what is smaller costs more to send by itself than to copy.
LARGE = 2**12


class Summed(NamedTuple):
    """The mean loss of the step and the norm of its gradient, the same on all ranks."""

    loss: Tensor
    norm: Tensor


class Reduction(Protocol):
    """What turns the gradients of one rank, in place, into those of all."""

    @property
    def world(self) -> World:
        """The ranks that are summed over."""
        ...

    def __call__(self, gradients: list[Tensor], loss: Tensor) -> Summed:
        """Sum over the ranks."""
        ...


@dataclass(frozen=True, slots=True)
class Alone:
    """One process: its sums are the sums."""

    world: World = ALONE

    def __call__(self, gradients: list[Tensor], loss: Tensor) -> Summed:
        return Summed(loss, torch.nn.utils.get_total_norm(gradients))


@dataclass(frozen=True, slots=True, kw_only=True)
class Parted:
    """Who holds the other parts of this rank's matrices, and who the same.

    Of each gradient a share counts here, the rest on the other `ranks`.
    """

    ranks: World
    peers: World
    shares: Sequence[float]


@dataclass(frozen=True, slots=True)
class AllReduce:
    """By the backend's own all-reduce, in whatever order is fastest.

    What is large is summed where it lies: to put it end to end takes as long as the sum itself.
    Where ranks hold parts of matrices, sums are over those with the same part.
    """

    world: World
    parted: Parted | None = None

    def __call__(self, gradients: list[Tensor], loss: Tensor) -> Summed:
        small = [one for one in gradients if not _is_large(one)]
        flat = flattened([*small, loss])
        peers = self.world if self.parted is None else self.parted.peers
        peers.add_up([flat, *filter(_is_large, gradients)], WHAT)
        *parts, loss = unflattened(flat, [*small, loss])
        for one, part in zip(small, parts, strict=True):
            one.copy_(part)
        if self.parted is None:
            return Summed(loss, torch.nn.utils.get_total_norm(gradients))
        squares = _squares(gradients, self.parted.shares)
        self.parted.ranks.add_up([squares], WHAT)
        return Summed(loss, squares.sqrt())


@dataclass(frozen=True, slots=True)
class Pairwise:
    """Neighbours first, then pairs of pairs: the tree that PairwiseSum began within each rank.

    a + b has the bits of b + a, so that all ranks, and any count of them, have the same.
    """

    world: World

    def __post_init__(self) -> None:
        if self.world.size & (self.world.size - 1):
            raise ConfigError(
                f"`--deterministic` adds up in pairs, and {self.world.size} processes do not",
                hint="train with 1, 2, 4 or 8",
            )

    def __call__(self, gradients: list[Tensor], loss: Tensor) -> Summed:
        flat = flattened([*gradients, loss])
        for level in range(self.world.size.bit_length() - 1):
            flat = flat + self.world.exchange(flat, self.world.rank ^ (1 << level), WHAT)
        *gradients[:], loss = unflattened(flat, [*gradients, loss])
        return Summed(loss, torch.nn.utils.get_total_norm(gradients))


@dataclass(frozen=True, slots=True)
class Sharded:
    """Gradients that FSDP has summed already, of which each rank holds some rows.

    Of each row there are so many `copies`: the replicas of a hybrid mesh.
    """

    world: World
    copies: int
    parted: Parted | None = None

    def __call__(self, gradients: list[Tensor], loss: Tensor) -> Summed:
        shares = [1.0] * len(gradients) if self.parted is None else self.parted.shares
        squares = _squares(gradients, shares) / self.copies
        # Who holds parts of one model has the same loss.
        both = torch.stack([loss / self.world.parts, squares.to(loss.device)])
        self.world.add_up([both], WHAT)
        return Summed(both[0], both[1].sqrt())


def _squares(gradients: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    pairs = zip(gradients, shares, strict=True)
    return torch.stack([share * one.square().sum() for one, share in pairs]).sum()


def _is_large(gradient: Tensor) -> bool:
    return gradient.numel() >= LARGE and gradient.is_contiguous()
