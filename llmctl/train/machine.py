"""Where a run computes, in what, and how fast products are there."""

from dataclasses import dataclass
from typing import Literal

import torch

from llmctl.errors import ConfigError
from llmctl.model.device import pick_device, pick_dtype
from llmctl.train.meter import matmul_rate

CEILING_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Machine:
    """Where and in what the model computes, and how fast products are there (FLOP/s)."""

    device: torch.device
    dtype: torch.dtype
    ceiling: float

    @property
    def type_name(self) -> str:
        """`float32` or `bfloat16`."""
        return str(self.dtype).removeprefix("torch.")


def find_machine(
    device: str,
    precision: Literal["auto", "bf16", "float32"],
    *,
    deterministic: bool = False,
    width: int,
) -> Machine:
    """Pick device and type, and measure the rate that MFU is a share of."""
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
        dtype = pick_dtype(place, precision)
    return Machine(place, dtype, matmul_rate(place, dtype, width=width, seconds=CEILING_SECONDS))
