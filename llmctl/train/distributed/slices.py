"""Rows that neighbouring ranks compute together, each a slice of their time.

Ulysses (Jacobs et al. 2023, arXiv 2309.14509): all but attention works token by token; around it
every rank gives its slice of the other ranks' heads away for the whole time of its own, so that
any mask works as it is. For weights these ranks are like others: each has its sum of gradients.

    R ranks, B batch, T time or a slice of it, N heads, K key and value heads, M = N + 2K, H width
"""

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed._functional_collectives import all_to_all_single, wait_tensor

from llmctl.train.distributed.world import World


class Team:
    """The ranks that share rows with this one, and their way to trade heads for time."""

    def __init__(self, world: World, device: torch.device) -> None:
        sizes, names = (world.teams, world.slices, world.parts), ("team", "slice", "part")
        mesh = world.mesh(device.type, sizes, names)
        self.group: dist.ProcessGroup = mesh.get_group("slice")
        self.size = world.slices
        self.place = mesh.get_local_rank("slice")

    def mine(self, time: int) -> slice:
        """This rank's slice of so much time."""
        each = time // self.size
        return slice(self.place * each, (self.place + 1) * each)

    def to_heads(
        self, q_BTNH: Tensor, k_BTKH: Tensor, v_BTKH: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Some of the heads for the whole time, in place of all for a slice of it."""
        # Where there are fewer keys and values than ranks, several ranks need the same.
        copies = max(1, self.size // k_BTKH.shape[2])
        kv = [one.repeat_interleave(copies, dim=2) for one in (k_BTKH, v_BTKH)]
        split = [one.unflatten(2, (self.size, -1)) for one in (q_BTNH, *kv)]
        found_RBTMH = self._trade(torch.cat(split, dim=3).movedim(2, 0))
        each = [one.shape[3] for one in split]
        q_BTNH, k_BTKH, v_BTKH = found_RBTMH.movedim(0, 1).flatten(1, 2).split(each, dim=2)
        return q_BTNH, k_BTKH, v_BTKH

    def to_time(self, y_BTNH: Tensor) -> Tensor:
        """All heads for this rank's slice of time, in place of some for all of it."""
        found_RBTNH = self._trade(y_BTNH.unflatten(1, (self.size, -1)).movedim(1, 0))
        return found_RBTNH.movedim(0, 2).flatten(2, 3)

    def _trade(self, away_RXXX: Tensor) -> Tensor:
        """One entry for each rank, for one from each."""
        return wait_tensor(all_to_all_single(away_RXXX.contiguous(), None, None, self.group))
