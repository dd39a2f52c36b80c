"""Which rows of a tensor lie on this rank, where it lies over several.

torch.distributed.tensor takes half a second to import, so that a tensor that lies over ranks is
known by its mesh. Rows are cut as torch.chunk cuts them: each rank has so many, the last fewer.
"""

from typing import Any, NamedTuple

from torch import Tensor


class Part(NamedTuple):
    """This rank's rows of a tensor: their values, the first of them, and how many a rank has.

    Of a tensor that lies here whole, `stride` is None.
    """

    value: Tensor
    first: int
    stride: int | None


class Piece(NamedTuple):
    """A rectangle of a tensor: its values, the shape of the whole, and where in it they begin."""

    value: Tensor
    whole: tuple[int, ...]
    offsets: tuple[int, ...]


def is_sharded(tensor: Tensor) -> bool:
    """Whether only some rows of a tensor lie on this rank."""
    return hasattr(tensor, "device_mesh")


def local_part(tensor: Tensor) -> Part:
    """This rank's rows of a tensor; all, where it is not sharded."""
    if not is_sharded(tensor):
        return Part(tensor, 0, None)
    spread: Any = tensor
    mesh = spread.device_mesh
    stride = -(-tensor.shape[0] // mesh.size(-1))
    first = min(mesh.get_local_rank(mesh.ndim - 1) * stride, tensor.shape[0])
    return Part(spread.to_local(), first, stride)


def whole_of(tensor: Tensor) -> Tensor:
    """A tensor put together on every rank, all of which must ask for it."""
    spread: Any = tensor
    return spread.full_tensor() if is_sharded(tensor) else tensor.detach()
