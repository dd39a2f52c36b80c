"""The pieces of a run's state that lie on each rank <-> files, by torch's distributed checkpoint.

Each rank writes its pieces as safetensors with their place in the whole, so that any number of
ranks, or one process that holds the whole, can read them. No pickle: torch's own format has one.
"""

import errno
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint import (
    CheckpointException,
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    MetadataIndex,
    TensorProperties,
)
from torch.distributed.checkpoint.planner import TensorWriteData, WriteItem, WriteItemType

from llmctl.durable import seal_some
from llmctl.train.distributed.rows import Piece
from llmctl.train.distributed.world import World


def save_parts(pieces: Mapping[str, Piece], directory: Path, world: World) -> Callable[[], None]:
    """Copy this rank's pieces to the host; what is left to do, on all ranks, is to write them.

    Each rank also sums the files that it wrote: one that read those of all would take hours.
    """
    state = {
        name: _placed(one._replace(value=one.value.detach().to("cpu", copy=True)))
        for name, one in pieces.items()
        if one.value.numel()
    }
    group = world.for_writing()

    def finish() -> None:
        writer = _Sealing(str(directory), save_distributed=True)
        try:
            dcp.save(state, storage_writer=writer, process_group=group)
        except CheckpointException as error:
            rank, (cause, _) = min(error.failures.items())
            why = getattr(cause, "strerror", None) or str(cause)
            raise OSError(errno.EIO, f"{why} (rank {rank})") from error

    return finish


def names_of_parts(directory: Path) -> list[str]:
    """The names of all that was written into a folder by any rank."""
    return list(HuggingFaceStorageReader(str(directory)).read_metadata().state_dict_metadata)


def load_parts(pieces: Mapping[str, Piece], directory: Path, *, alone: bool) -> None:
    """Fill pieces on the host, which need not be those that were written; all ranks must ask."""
    state: dict[str, Any] = {
        name: _placed(one) for name, one in pieces.items() if one.value.numel()
    }
    dcp.load(state, storage_reader=HuggingFaceStorageReader(str(directory)), no_dist=alone)


class _Sealing(HuggingFaceStorageWriter):
    """Each rank sums what it has written, before all say that they have."""

    def write_data(self, plan: Any, planner: Any) -> Any:
        done = super().write_data(plan, planner)
        done.wait()
        number = plan.storage_data["shard_index"]
        seal_some(Path(self.path), f"shard-{number:05}-*", number)
        return done


class _Placed(Tensor):
    """A piece, as torch's distributed checkpoint asks what it is and where."""

    piece: Piece

    @property
    def chunk(self) -> ChunkStorageMetadata:
        value, _, offsets = self.piece
        return ChunkStorageMetadata(offsets=torch.Size(offsets), sizes=value.shape)

    def size(self, *_: Any) -> torch.Size:  # pyright: ignore[reportIncompatibleMethodOverride]
        return torch.Size(self.piece.whole)

    def __create_write_items__(self, name: str, _: Any) -> list[WriteItem]:
        told = TensorWriteData(
            chunk=self.chunk,
            properties=TensorProperties.create_from_tensor(self.piece.value),
            size=self.size(),
        )
        index = MetadataIndex(name, self.chunk.offsets)
        return [WriteItem(index=index, type=WriteItemType.SHARD, tensor_data=told)]

    def __create_chunk_list__(self) -> list[ChunkStorageMetadata]:
        return [self.chunk]

    def __get_tensor_shard__(self, _: Any) -> Tensor:
        return self.piece.value


def _placed(piece: Piece) -> _Placed:
    placed = piece.value.as_subclass(_Placed)
    placed.piece = piece
    return placed
