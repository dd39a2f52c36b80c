"""Where a model computes, and in what: found out, not asked.

bfloat16 is chosen where products in it are measured to be faster. Many processors take the type
but emulate its arithmetic: one with AVX2 alone multiplies matrices a hundred times slower in it.
Eight bits and TF32 are never chosen: only some tensor cores multiply in them.
"""

import contextlib
import ctypes
import functools
import sys
import time
from collections.abc import Iterator
from typing import Literal

import torch

from llmctl.errors import ConfigError

Precision = Literal["auto", "bf16", "fp8", "tf32", "float32"]

# The first compute capabilities whose tensor cores multiply in a type: Ampere's, Ada's.
CAPABILITIES = {"bf16": (8, 0), "tf32": (8, 0), "fp8": (8, 9)}
# Enough work to measure on a fast machine, little enough for one that emulates: 34 MFLOP.
TRIAL_WIDTH = 256
TRIALS = 3
# Below this gain the rounding is not worth it.
LEAST_GAIN = 1.5
# What glibc's `mallopt` calls its parameters, and the most bytes that its heap may be told to hold.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST_HELD = 2**31 - 1


def pick_device(name: str = "auto") -> torch.device:
    """The device of a name; `auto` is CUDA, else MPS, else the CPU. ConfigError if it is absent."""
    gpus = count_gpus() if torch.cuda.is_available() else 0
    found = {"cpu": 1, "cuda": gpus, "mps": int(torch.mps.is_available())}
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if found[kind]))
    kind = name.partition(":")[0]
    places = range(found.get(kind, 0))
    if not places or name not in (kind, *(f"{kind}:{place}" for place in places)):
        here = ", ".join(kind for kind, devices in found.items() if devices)
        raise ConfigError(
            f"there is no device `{name}` here", hint=f"choose auto or one of: {here}"
        )
    return torch.device(name)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Sums on a CPU in one order: the same bits for any number of processes that share it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def tiniest_dropped() -> Iterator[None]:
    """A block in which numbers too small for a normal float count as nothing on a CPU.

    Shares of unlikely tokens may be such, and a product of many is up to two hundred times as slow.
    """
    were_dropped = sys.float_info.min / 2 == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(were_dropped)


def hold_memory() -> None:
    """From now on, what this process frees is kept for what is asked for next.

    By itself glibc gives every block of 32 MB or more back at once, and the system clears each of
    its pages anew: a third of a step of 16k tokens. Does nothing where the C library is another.
    """
    library = _c_library()
    if library is not None:
        library.mallopt(M_MMAP_THRESHOLD, LARGEST_HELD)
        library.mallopt(M_TRIM_THRESHOLD, -1)


def release_memory(device: torch.device) -> None:
    """What was freed on a device, and kept all the same, goes back to the system."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        return
    library = _c_library()
    if library is not None:
        library.malloc_trim(0)


def _c_library() -> ctypes.CDLL | None:
    """The C library, where it is one that can be told what to keep: glibc."""
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None


def count_gpus() -> int:
    """GPUs of this machine that CUDA sees."""
    return torch.cuda.device_count()


def has_tensor_cores(device: torch.device, precision: str) -> bool:
    """Whether a device has tensor cores that multiply in `bf16`, `tf32` or `fp8`."""
    if device.type != "cuda":
        return False
    return torch.cuda.get_device_capability(device) >= CAPABILITIES[precision]


def pick_dtype(device: torch.device, precision: Precision = "auto") -> torch.dtype:
    """The type to compute in; `auto` takes bfloat16 where the device is faster in it.

    What multiplies in eight bits does all else in bfloat16, and in TF32 all else in float32.
    """
    if precision == "auto":
        return torch.bfloat16 if _is_faster_in_bfloat16(device) else torch.float32
    return torch.float32 if precision in ("tf32", "float32") else torch.bfloat16


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
