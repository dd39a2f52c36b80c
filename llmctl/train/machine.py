"""Where a run computes, in what, and how fast products are there."""

from dataclasses import dataclass
from typing import Literal

import psutil
import torch

from llmctl.errors import ConfigError
from llmctl.model.device import (
    Precision,
    count_gpus,
    has_tensor_cores,
    hold_memory,
    pick_device,
    pick_dtype,
)
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

    Products may be narrower than `dtype`: of linear layers in `float8`, where the rate is that of
    `dtype` all the same, or all of them in `tf32`.
    """

    device: torch.device
    dtype: torch.dtype
    ceiling: float
    products: Literal["float8", "tf32"] | None = None

    @property
    def type_name(self) -> str:
        """`float32`, `bfloat16`, `float8` or `tf32`."""
        return self.products or _name(self.dtype)


def check_precision(device: str, precision: Precision) -> None:
    """Raise ConfigError where a device cannot multiply so.

    A CPU that was named takes fp8 all the same: slowly, but with the numbers that a GPU would have.
    """
    place = pick_device(device)
    since = {"fp8": "Ada and Hopper", "tf32": "Ampere"}.get(precision)
    if since is None or has_tensor_cores(place, precision):
        return
    if precision == "fp8" and device == "cpu":
        return
    is_trial = precision == "fp8" and place.type != "cuda"
    trial = ", or give `--device cpu` to try it out, slowly" if is_trial else ""
    raise ConfigError(
        f"`--precision {precision}` is for GPUs since {since}; {place.type} has no such products",
        hint=f"leave it out: `auto` finds what is fastest{trial}",
    )


def take_place(name: str, world: World, *, deterministic: bool = False) -> torch.device:
    """The device that this rank computes on; of GPUs its own, which becomes torch's current one."""
    if deterministic:
        return torch.device("cpu")
    place = pick_device(name)
    if place.type == "cuda":
        place = torch.device("cuda", own_gpu(world, place.index, found=count_gpus()))
        torch.cuda.set_device(place)
    return place


def own_gpu(world: World, wish: int | None, *, found: int) -> int:
    """The number of a rank's own GPU, of so many that it sees; ConfigError where it has none.

    >>> own_gpu(World(rank=5, size=8, local_rank=1, local_size=4), None, found=4)
    1
    """
    if world.is_alone:
        return wish or 0
    if wish is not None:
        raise ConfigError(
            f"`--device cuda:{wish}` is one GPU, for {world.size} processes",
            hint="with `--device cuda` each takes its own",
        )
    # A scheduler may show each process its own GPU alone.
    if found == 1:
        return 0
    if world.local_rank >= found:
        raise ConfigError(
            f"{world.local_size} processes of this machine need a GPU each, and there are {found}",
            hint=f"start {found} a machine, or give `--device cpu`",
        )
    return world.local_rank


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
    place = take_place(device, world, deterministic=deterministic)
    if place.type == "cpu":
        hold_memory()
    dtype = pick_dtype(place, "float32" if deterministic else precision)
    dtype = FLOATS[world.told_by_first(_name(dtype))]
    products = PRODUCTS.get(precision)
    if place.type == "cuda":
        torch.set_float32_matmul_precision("high" if products == "tf32" else "highest")
    ceiling = matmul_rate(place, dtype, width=width, seconds=CEILING_SECONDS)
    return Machine(place, dtype, ceiling, products)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


PRODUCTS: dict[str, Literal["float8", "tf32"]] = {"fp8": "float8", "tf32": "tf32"}
FLOATS = {_name(dtype): dtype for dtype in (torch.float32, torch.bfloat16)}
