"""How an optimizer that needs whole matrices comes by them, and shares the work on them.

Ranks that hold whole matrices work on some each and tell one another what came out. Of ranks that
hold rows each puts one matrix of a round together, works on it and gives the rows back: no rank
ever holds more than one. Where matrices are cut, too, each puts parts of as many together as will
make one. N matrices of one shape stand in a stack:
    N matrices, R rows, C columns
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from llmctl.train.distributed.world import ALONE, World, flattened
from llmctl.train.masters import Master, Split

WHAT = "the other ranks' matrices"
Work = Callable[[Tensor], Tensor]


class Spread:
    """Matrices over the ranks of a world; alone, or where bits must not change, all stays here."""

    def __init__(
        self, world: World = ALONE, *, is_sharded: bool = False, split: Split | None = None
    ) -> None:
        self.world = world
        self.is_sharded = is_sharded
        self.split = split

    def worked(
        self, masters: Sequence[Master], pieces: Sequence[Tensor], work: Work
    ) -> Sequence[Tensor]:
        """This rank's rows of what `work` makes of matrices (N, R, C), whose rows the pieces are.

        The masters are of one shape, as wholes too, and `work` must treat each whole matrix of a
        stack by itself.
        """
        cut = masters[0].cut
        if self.split is not None and cut is not None:
            work = self.split.of_whole(work, cut)
        if self.world.is_alone:
            return work(torch.stack(list(pieces))).unbind()
        if not self.is_sharded:
            return self._shared(pieces, work)
        # Parts of so many are as much as one whole matrix, and are dealt on as that.
        each = 1 if self.split is None or cut is None else self.split.size
        size = each * self.world.size
        rounds = [slice(first, first + size) for first in range(0, len(masters), size)]
        found = [self._round(masters[some], pieces[some], work, each) for some in rounds]
        return [piece for some in found for piece in some]

    def _shared(self, pieces: Sequence[Tensor], work: Work) -> Sequence[Tensor]:
        """Each rank works on its share of the matrices, and all tell what came out."""
        world = self.world
        each = -(-len(pieces) // world.size)
        mine = pieces[world.rank * each : (world.rank + 1) * each]
        done = pieces[0].new_empty((0, *pieces[0].shape))
        if mine:
            done = work(torch.stack(list(mine)))
        if len(done) < each:
            done = torch.cat([done, done.new_zeros((each - len(done), *done.shape[1:]))])
        return world.gathered(done.contiguous(), WHAT).flatten(0, 1)[: len(pieces)].unbind()

    def _round(
        self, masters: Sequence[Master], pieces: Sequence[Tensor], work: Work, each: int
    ) -> Sequence[Tensor]:
        """So many matrices a rank, at most: rows go to who works on them, and come back changed."""
        world = self.world
        rows, columns = masters[0].shape
        sizes = [piece.numel() for piece in pieces]
        of = [slice(rank * each, (rank + 1) * each) for rank in range(world.size)]
        away = [sum(sizes[some]) for some in of]
        mine = masters[of[world.rank]]
        # What comes lies by ranks, and from each by matrices.
        parts = [[one.rows_on(rank) * columns for one in mine] for rank in range(world.size)]
        coming = [sum(some) for some in parts]
        found = world.dealt(flattened(pieces), away, coming, WHAT)
        if mine:
            came, count = found.split([size for some in parts for size in some]), len(mine)
            wholes = [torch.cat(came[place::count]) for place in range(count)]
            done = work(torch.stack(wholes).view(count, rows, columns)).flatten(1)
            back = [one.split([some[place] for some in parts]) for place, one in enumerate(done)]
            found = torch.cat([one[rank] for rank in range(world.size) for one in back])
        changed = world.dealt(found, coming, away, WHAT).split(sizes)
        return [part.view_as(piece) for part, piece in zip(changed, pieces, strict=True)]
