"""Where a run computes, in what, and how fast products are there."""

from dataclasses import dataclass

import psutil
import torch

from llmctl.errors import ConfigError
from llmctl.model.device import Precision, has_float8, pick_device, pick_dtype
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
    """Where and in what the model computes, and how fast products are there (FLOP/s).

    With `float8` linear layers multiply in eight bits; the rate is that of `dtype` all the same.
    """

    device: torch.device
    dtype: torch.dtype
    ceiling: float
    float8: bool = False

    @property
    def type_name(self) -> str:
        """`float32`, `bfloat16` or `float8`."""
        return "float8" if self.float8 else _name(self.dtype)


def check_precision(device: str, precision: Precision) -> None:
    """Raise ConfigError where a device that was not named cannot multiply so.

    A CPU that was named does it all the same: slowly, but with the numbers that a GPU would have.
    """
    place = pick_device(device)
    if precision != "fp8" or has_float8(place) or (place.type == "cpu" and device == "cpu"):
        return
    trial = "" if place.type == "cuda" else ", or give `--device cpu` to try it out, slowly"
    raise ConfigError(
        f"`--precision fp8` is for GPUs since Ada and Hopper; {place.type} does not multiply in it",
        hint=f"leave it out: `auto` finds what is fastest{trial}",
    )


def find_machine(
    device: str,
    precision: Precision,
    *,
    deterministic: bool = False,
    width: int,
    world: World = ALONE,
) -> Machine:
    """Pick device and type, and measure the rate that MFU is a share of.

    All ranks of a world take the type that the first one picks.
    """
    if deterministic:
        if precision not in ("auto", "float32"):
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
    ceiling = matmul_rate(place, dtype, width=width, seconds=CEILING_SECONDS)
    return Machine(place, dtype, ceiling, float8=precision == "fp8")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


FLOATS = {_name(dtype): dtype for dtype in (torch.float32, torch.bfloat16)}
