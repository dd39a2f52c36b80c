"""Where a run computes, in what, and how fast products are there."""

from dataclasses import dataclass
from typing import Literal

import psutil
import torch

from llmctl.errors import ConfigError
from llmctl.model.device import pick_device, pick_dtype
from llmctl.train.distributed.world import ALONE, World
from llmctl.train.meter import matmul_rate

CEILING_SECONDS = 0.1


def memory_bytes(device: torch.device, world: World) -> float:
    """The memory of a rank's device; on a CPU, this rank's part of what is free."""
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    return float(psutil.virtual_memory().available) / world.local_size


@dataclass(frozen=True, slots=True)
class Machine:
    """Where and in what the model computes, and how fast products are there (FLOP/s)."""

    device: torch.device
    dtype: torch.dtype
    ceiling: float

    @property
    def type_name(self) -> str:
        """`float32` or `bfloat16`."""
        return _name(self.dtype)


def find_machine(
    device: str,
    precision: Literal["auto", "bf16", "float32"],
    *,
    deterministic: bool = False,
    width: int,
    world: World = ALONE,
) -> Machine:
    """Pick device and type, and measure the rate that MFU is a share of.

    All ranks of a world take the type that the first one picks.
    """
    if deterministic:
        if precision == "bf16":
            raise ConfigError(
                "`--deterministic` computes in float32", hint="leave `--precision` out"
            )
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True)
        place, dtype = torch.device("cpu"), torch.float32
    else:
        place = pick_device(device)
        if place.type == "cuda":
            place = torch.device("cuda", world.local_rank)
        dtype = FLOATS[world.told_by_first(_name(pick_dtype(place, precision)))]
    return Machine(place, dtype, matmul_rate(place, dtype, width=width, seconds=CEILING_SECONDS))


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


FLOATS = {_name(dtype): dtype for dtype in (torch.float32, torch.bfloat16)}
