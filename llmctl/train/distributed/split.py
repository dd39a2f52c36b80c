"""Matrices of which neighbouring ranks hold a part each: some heads, some of the inner width.

Megatron-LM (Shoeybi et al. 2019, arXiv 1909.08053, section 3): what goes into a block's products
is cut by columns of its output, what comes out by rows of its input, so that one sum behind
attention and one behind the feed-forward layer make the stream whole again; on the way back one
before each. Fused matrices are cut part by part; embedding, head and gains are whole on each rank.

    N matrices, R rows, C columns
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.distributed._functional_collectives import all_reduce, wait_tensor

from llmctl.model.transformer import fused_parts
from llmctl.shapes import Shape
from llmctl.train.distributed.world import World

BY_ROWS, BY_COLUMNS = frozenset({"qkv", "gate_up", "up"}), frozenset({"out", "down"})
WHAT = "the other parts of matrices"


class Split:
    """The ranks that hold the parts of one model, and those that hold the same part as this one."""

    def __init__(self, world: World, device: torch.device, shape: Shape) -> None:
        sizes = (world.size // world.parts, world.parts)
        mesh = world.mesh(device.type, sizes, ("peers", "parts"))
        self._group: Any = mesh.get_group("parts")
        self.ranks = world.within(self._group)
        self.peers = world.within(mesh.get_group("peers"))
        self.shape = shape

    def enter(self, x: Tensor) -> Tensor:
        """Something whole, on its way into parts: its gradient is the sum of theirs."""
        entered: Tensor = _Enter.apply(x, self._group)
        return entered

    def leave(self, y: Tensor) -> Tensor:
        """The sum of what all parts gave."""
        left: Tensor = _Leave.apply(y, self._group)
        return left

    def cut(self, name: str) -> int | None:
        """The dimension by which a parameter is cut, None where it is whole on each rank."""
        module, kind = name.split(".")[-2:]
        if module in BY_ROWS:
            return 0
        return 1 if module in BY_COLUMNS and kind == "weight" else None

    def surroundings(
        self, name: str, shape: tuple[int, ...]
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The shape of what a matrix of a parameter is a part of, and where in it that begins."""
        dim, parts = self.cut(name), self.ranks.size
        whole = tuple(n * parts if place == dim else n for place, n in enumerate(shape))
        place = self.ranks.rank
        return whole, tuple(place * n if at == dim else 0 for at, n in enumerate(shape))

    def part(self, name: str, whole: Tensor) -> Tensor:
        """This rank's part of a parameter."""
        dim = self.cut(name)
        if dim is None:
            return whole
        fused = whole.split(self._fused(self.shape, name, whole), dim=dim)
        return torch.cat([one.chunk(self.ranks.size, dim)[self.ranks.rank] for one in fused], dim)

    def whole(self, name: str, part: Tensor) -> Tensor:
        """A parameter put together on every rank, all of which must ask for it."""
        dim = self.cut(name)
        if dim is None:
            return part
        rows = self._fused(self.shape.part(self.ranks.size), name, part)
        parts = [one.split(rows, dim=dim) for one in self.ranks.gathered(part.contiguous(), WHAT)]
        return torch.cat([torch.cat(one, dim) for one in zip(*parts, strict=True)], dim)

    @property
    def size(self) -> int:
        """How many ranks hold a part of the same matrix."""
        return self.ranks.size

    def of_whole(self, work: Callable[[Tensor], Tensor], dim: int) -> Callable[[Tensor], Tensor]:
        """What works on whole matrices (N, R, C), for parts: each rank works on some of them."""

        def of_parts(stack_NRC: Tensor) -> Tensor:
            count, each = len(stack_NRC), -(-len(stack_NRC) // self.size)
            padded_NRC = F.pad(stack_NRC, (0, 0, 0, 0, 0, each * self.size - count))
            mine = self._dealt(padded_NRC.unflatten(0, (self.size, each)))
            done_NRC = work(torch.cat(mine.unbind(), dim + 1))
            back = self._dealt(torch.stack(done_NRC.chunk(self.size, dim + 1)))
            return back.flatten(0, 1)[:count]

        return of_parts

    def _dealt(self, one_a_rank: Tensor) -> Tensor:
        """One entry for each rank, for one from each."""
        sizes = [one_a_rank[0].numel()] * self.size
        return self.ranks.dealt(one_a_rank.flatten(), sizes, sizes, WHAT).view_as(one_a_rank)

    def _fused(self, shape: Shape, name: str, tensor: Tensor) -> list[int]:
        """How many rows each matrix has that a parameter holds; of one cut by columns, all."""
        if self.cut(name) == 1:
            return [tensor.shape[1]]
        return list(fused_parts(shape, name).values()) or [tensor.shape[0]]


class _Enter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Any) -> Tensor:
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None]:
        return wait_tensor(all_reduce(outer[0].contiguous(), "sum", ctx.group)), None


class _Leave(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, group: Any) -> Tensor:  # noqa: ARG004
        return wait_tensor(all_reduce(y, "sum", group))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None]:  # noqa: ARG004
        return outer[0], None
