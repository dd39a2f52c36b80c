"""The parts of a run's state that lie on each rank <-> files, by PyTorch's distributed checkpoint.

Each rank writes its rows as safetensors with their place in the whole, so that any number of
ranks, or one process that holds the whole, can read them. No pickle: torch's own format has one.
"""

import errno
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint import (
    CheckpointException,
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)

from llmctl.model.transformer import Network
from llmctl.train.distributed.rows import is_sharded, laid_as

WEIGHTS, OPTIMIZER = "weights", "optimizer"


def save_parts(
    model: Network,
    weights: Mapping[str, Tensor],
    optimizer: Mapping[str, Tensor],
    directory: Path,
) -> Callable[[], None]:
    """Copy this rank's parts to the host and begin to write them; waits for all ranks when called.

    `weights` by parameter and `optimizer` by `<parameter>.<key>` are this rank's rows.
    """
    parameters = dict(model.named_parameters())
    state = {f"{WEIGHTS}.{name}": laid_as(one, parameters[name]) for name, one in weights.items()}
    for name, one in optimizer.items():
        like = parameters[name.rpartition(".")[0]]
        state[f"{OPTIMIZER}.{name}"] = laid_as(one, like)
    writing: Any = dcp.async_save(
        state,
        storage_writer=HuggingFaceStorageWriter(str(directory), save_distributed=True),
        process_group=_writers(dist.group.WORLD),
    )

    def finish() -> None:
        try:
            writing.result()
        except CheckpointException as error:
            rank, (cause, _) = min(error.failures.items())
            why = getattr(cause, "strerror", None) or str(cause)
            raise OSError(errno.EIO, f"{why} (rank {rank})") from error

    return finish


def load_parts(
    model: Network, directory: Path, *, whole: bool
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weights and the optimizer's tensors in a folder, as the model's parameters lie, or whole
    on every rank.
    """
    parameters = dict(model.named_parameters())
    reader = HuggingFaceStorageReader(str(directory))
    stored: dict[str, Any] = reader.read_metadata().state_dict_metadata
    state: dict[str, Any] = {}
    for name, told in stored.items():
        if whole:
            state[name] = torch.zeros(told.size)
            continue
        kind, _, place = name.partition(".")
        parameter = parameters[place if kind == WEIGHTS else place.rpartition(".")[0]]
        state[name] = torch.zeros_like(parameter, dtype=torch.float32, device="cpu").detach()
    dcp.load(state, storage_reader=reader, no_dist=not any(map(is_sharded, state.values())))
    found: dict[str, dict[str, Tensor]] = {WEIGHTS: {}, OPTIMIZER: {}}
    for name, tensor in state.items():
        kind, _, place = name.partition(".")
        found[kind][place] = tensor
    return found[WEIGHTS], found[OPTIMIZER]


@functools.lru_cache(maxsize=1)
def _writers(_ranks: Any) -> Any:
    """A group of the same ranks for the thread that writes, whose questions must not cross others.

    One for each time that they meet.
    """
    return dist.new_group(backend="gloo")
