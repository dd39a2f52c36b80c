"""How an optimizer that needs whole matrices comes by them, and shares the work on them.

Ranks that hold whole matrices work on some each and tell one another what came out; ranks that
hold rows first put them together. N matrices of one shape stand in a stack:
    N matrices, R rows, C columns
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from llmctl.train.distributed.world import ALONE, World, flattened
from llmctl.train.masters import Master

WHAT = "the other ranks' matrices"


class Spread:
    """Matrices over the ranks of a world; alone, or where bits must not change, all stays here."""

    def __init__(self, world: World = ALONE, *, is_sharded: bool = False) -> None:
        self.world = world
        self.is_sharded = is_sharded

    def whole(self, masters: Sequence[Master], pieces: Sequence[Tensor]) -> Tensor:
        """The stack (N, R, C) of which the pieces are this rank's rows."""
        if not self.is_sharded:
            return torch.stack(list(pieces))
        ranks = range(self.world.size)
        rows, columns = masters[0].shape
        counts = [[one.rows_on(rank) * columns for one in masters] for rank in ranks]
        padded = pieces[0].new_zeros(max(map(sum, counts)))
        flat = flattened(pieces)
        padded[: len(flat)] = flat
        found = self.world.gathered(padded, WHAT)
        parts = [found[rank][: sum(counts[rank])].split(counts[rank]) for rank in ranks]
        matrices = [
            torch.cat([parts[rank][place] for rank in ranks]) for place in range(len(masters))
        ]
        return torch.stack([one.view(rows, columns) for one in matrices])

    def shared(self, stack_NRC: Tensor, work: Callable[[Tensor], Tensor]) -> Tensor:
        """What `work` makes of the stack, matrix by matrix; each rank does its share."""
        world = self.world
        if world.is_alone:
            return work(stack_NRC)
        each = -(-len(stack_NRC) // world.size)
        mine = stack_NRC[world.rank * each : (world.rank + 1) * each]
        done = stack_NRC.new_zeros((each, *stack_NRC.shape[1:]))
        if len(mine):
            done[: len(mine)] = work(mine)
        return torch.cat(world.gathered(done, WHAT))[: len(stack_NRC)]

    def mine(self, masters: Sequence[Master], stack_NRC: Tensor) -> list[Tensor]:
        """This rank's rows of each matrix of the stack."""
        if not self.is_sharded:
            return list(stack_NRC.unbind())
        starts = [sum(one.rows_on(rank) for rank in range(self.world.rank)) for one in masters]
        return [
            matrix[start : start + len(one.value)]
            for one, start, matrix in zip(masters, starts, stack_NRC.unbind(), strict=True)
        ]
