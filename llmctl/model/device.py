"""Where a model computes, and in what: found out, not asked.

bfloat16 is chosen where products in it are measured to be faster. Many processors take the type
but emulate its arithmetic: one with AVX2 alone multiplies matrices a hundred times slower in it.
Eight bits are never chosen, and only tensor cores since Ada multiply in them.
"""

import functools
import time
from typing import Literal

import torch

from llmctl.errors import ConfigError

Precision = Literal["auto", "bf16", "fp8", "float32"]

# The first compute capabilities whose tensor cores take a type: Ampere, Ada.
BFLOAT16_CAPABILITY, FLOAT8_CAPABILITY = (8, 0), (8, 9)
# Enough work to measure on a fast machine, little enough for one that emulates: 34 MFLOP.
TRIAL_WIDTH = 256
TRIALS = 3
# Below this gain the rounding is not worth it.
LEAST_GAIN = 1.5


def pick_device(name: str = "auto") -> torch.device:
    """The device of a name; `auto` is CUDA, else MPS, else the CPU. ConfigError if it is absent."""
    found = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.mps.is_available()}
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if found[kind]))
    kind = name.partition(":")[0]
    if not found.get(kind):
        here = ", ".join(kind for kind, is_here in found.items() if is_here)
        raise ConfigError(
            f"there is no device `{name}` here", hint=f"choose auto or one of: {here}"
        )
    return torch.device(name)


def count_gpus() -> int:
    """GPUs of this machine that CUDA sees."""
    return torch.cuda.device_count()


def has_float8(device: torch.device) -> bool:
    """Whether a device multiplies in eight bits, and so faster than in sixteen."""
    if device.type != "cuda":
        return False
    return torch.cuda.get_device_capability(device) >= FLOAT8_CAPABILITY


def pick_dtype(device: torch.device, precision: Precision = "auto") -> torch.dtype:
    """The type to compute in; `auto` takes bfloat16 where the device is faster in it.

    What multiplies in eight bits does all else in bfloat16.
    """
    if precision == "auto":
        return torch.bfloat16 if _is_faster_in_bfloat16(device) else torch.float32
    return torch.float32 if precision == "float32" else torch.bfloat16


@functools.cache
def _is_faster_in_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    return _seconds(torch.float32) > LEAST_GAIN * _seconds(torch.bfloat16)


def _seconds(dtype: torch.dtype) -> float:
    """How long a product takes, the best of a few."""
    left, right = (torch.ones(TRIAL_WIDTH, TRIAL_WIDTH, dtype=dtype) for _ in range(2))
    taken: list[float] = []
    for _ in range(TRIALS):
        began = time.perf_counter()
        torch.mm(left, right)
        taken.append(time.perf_counter() - began)
    return min(taken)
