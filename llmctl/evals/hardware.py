"""The machine -> findings: devices and their measured rates, memory, disk, clock, limits."""

import contextlib
import functools
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import torch

from llmctl.evals.finding import Finding
from llmctl.figures import rate, size
from llmctl.model.device import CAPABILITIES
from llmctl.train.meter import copy_rate, link_rate, matmul_rate

WIDTH, SECONDS = 1024, 0.5
SCRATCH_BYTES, CHUNK_BYTES = 64 * 2**20, 4 * 2**20
# Below these a `tiny` model and its corpus are tight.
LEAST_FREE, LEAST_MEMORY, LEAST_FILES = 10 * 10**9, 4 * 10**9, 1024
SLOW_DISK = 20e6
# Beyond these a clock was set, or a file system has one of its own.
MOST_DRIFT, MOST_SKEW = 0.05, 2.0
YEAR_OF_THIS = 2025
# What a processor multiplies bfloat16 by, as torch names it; without one it is emulated.
BF16_FLAGS = {"avx512_bf16": "AVX512-BF16", "amx_bf16": "AMX", "bf16": "bf16"}
Look = Callable[[], Iterable[Finding]]


def hardware_looks(root: Path) -> dict[str, Look]:
    """What to look at; `root` is where artifacts are to lie."""
    looks: dict[str, Look] = {"processor": processor, "memory": memory, "GPUs": gpus}
    for device in devices():
        looks[f"rates of {device}"] = functools.partial(rates, device)
    return looks | {
        "GPUs to each other": links,
        "free space": lambda: free_space(root),
        "disk": lambda: disk(root),
        "clock": lambda: clock(root),
        "open files": open_files,
    }


def devices() -> list[torch.device]:
    """The processor, and every GPU."""
    found = [torch.device("cuda", number) for number in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        found.append(torch.device("mps"))
    return [torch.device("cpu"), *found]


def processor() -> Iterator[Finding]:
    """Cores, and by what they multiply bfloat16."""
    cores, used = _cores(), torch.get_num_threads()
    facts: dict[str, Any] = {"cores": cores, "threads": used}
    yield Finding("processor", f"{cores} cores, torch uses {used} threads", facts=facts)
    flags = processor_flags()
    known = [name for flag, name in BF16_FLAGS.items() if flag in flags]
    capability = torch.backends.cpu.get_cpu_capability()
    told = f"{capability}; bfloat16 by {', '.join(known)}" if known else (
        f"{capability}; bfloat16 is emulated, so float32 is used"
    )  # fmt: skip
    yield Finding("instructions", told, facts={"capability": capability, "bfloat16": known})


def _cores() -> int:
    """Those that this process may use, where the system tells."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor_flags() -> set[str]:
    """What Linux says that the processor can do; nothing elsewhere."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith(("flags", "Features")):
                return set(line.partition(":")[2].split())
    return set()


def memory() -> Iterator[Finding]:
    """Main memory."""
    found = psutil.virtual_memory()
    advice = ""
    if found.available < LEAST_MEMORY:
        advice = "end other programs, or take a smaller `--size`"
    facts = {"bytes": found.total, "available": found.available}
    yield Finding("memory", f"{size(found.available)} of {size(found.total)} free", advice, facts)


def gpus() -> Iterator[Finding]:
    """Each GPU: name, memory, capability, what it computes in."""
    count = torch.cuda.device_count()
    if not count:
        has_cuda = torch.version.cuda is not None
        advice = ""
        if has_cuda and Path("/proc/driver/nvidia").exists():
            advice = "there is a driver, but torch sees no GPU: look at CUDA_VISIBLE_DEVICES"
        yield Finding("GPUs", "none: models train on the processor", advice, {"count": 0})
        return
    driver = _driver()
    yield Finding("GPUs", f"{count}, CUDA {torch.version.cuda}, driver {driver}",
                  facts={"count": count, "cuda": torch.version.cuda, "driver": driver})  # fmt: skip
    for number in range(count):
        about = torch.cuda.get_device_properties(number)
        capability = (about.major, about.minor)
        types = {name: capability >= CAPABILITIES[name] for name in ("bf16", "fp8")}
        told = ", ".join(f"{name} {'yes' if has else 'no'}" for name, has in types.items())
        value = f"{about.name}, {size(about.total_memory)}, {about.major}.{about.minor}, {told}"
        facts = {"name": about.name, "bytes": about.total_memory, "capability": capability} | types
        yield Finding(f"GPU {number}", value, facts=facts)


def _driver() -> str:
    with contextlib.suppress(OSError, IndexError):
        words = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8").split("Module")
        return words[1].split()[0]
    return "unknown"


def rates(device: torch.device) -> Iterator[Finding]:
    """How fast a device multiplies, and moves its own memory."""
    found: dict[str, float] = {}
    for dtype in (torch.float32, torch.bfloat16):
        kind = str(dtype).removeprefix("torch.")
        found[kind] = matmul_rate(device, dtype, width=WIDTH, seconds=SECONDS)
        teras = f"{found[kind] / 1e12:.3g} TFLOP/s"
        yield Finding(f"{device} {kind}", teras, facts={"flops_per_second": found[kind]})
    bandwidth = copy_rate(device, seconds=SECONDS)
    facts = {"bytes_per_second": bandwidth}
    yield Finding(f"{device} memory", rate(bandwidth, 1, "B"), facts=facts)


def links() -> Iterator[Finding]:
    """How fast the first GPU sends to each of the others; sharded training waits for that."""
    found = [device for device in devices() if device.type == "cuda"]
    for other in found[1:]:
        first = found[0]
        is_direct = torch.cuda.can_device_access_peer(first, other)
        bandwidth = link_rate(first, other, seconds=SECONDS)
        way = "directly" if is_direct else "by way of the host"
        facts = {"bytes_per_second": bandwidth, "direct": is_direct}
        yield Finding(f"{first} to {other}", f"{rate(bandwidth, 1, 'B')}, {way}", facts=facts)


def free_space(root: Path) -> Iterator[Finding]:
    """What is left where artifacts are to lie."""
    left = shutil.disk_usage(_existing(root)).free
    advice = ""
    if left < LEAST_FREE:
        advice = "free some, or choose another `--workspace`: models and corpora take gigabytes"
    yield Finding("free space", size(left), advice, {"free": left})


def disk(root: Path) -> Iterator[Finding]:
    """How fast a scratch file is written through and read again."""
    place = _existing(root)
    room = shutil.disk_usage(place)
    if room.total and room.free < 4 * SCRATCH_BYTES:
        yield Finding("disk", "too full to be timed", "free some space")
        return
    try:
        with tempfile.NamedTemporaryFile(dir=place, prefix=".llmctl-doctor-") as scratch:
            wrote = _written(scratch.file)
            read = _read_again(scratch.file)
    except OSError as error:
        advice = f"choose a `--workspace` that can be written, not {place}"
        yield Finding("disk", f"not writable: {error.strerror}", advice, {"writable": False})
        return
    advice = "a slow disk stretches checkpoints: choose another `--workspace`"
    value = f"writes {rate(wrote, 1, 'B')}, reads {rate(read, 1, 'B')}"
    facts = {"writable": True, "written_per_second": wrote, "read_per_second": read}
    yield Finding("disk", value, advice if wrote < SLOW_DISK else "", facts)


def _written(file: Any) -> float:
    # Random, because file systems compress.
    chunk = os.urandom(CHUNK_BYTES)
    began = time.perf_counter()
    for _ in range(SCRATCH_BYTES // CHUNK_BYTES):
        file.write(chunk)
    file.flush()
    os.fsync(file.fileno())
    return SCRATCH_BYTES / (time.perf_counter() - began)


def _read_again(file: Any) -> float:
    if hasattr(os, "posix_fadvise"):  # else what memory still holds is read
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    file.seek(0)
    began = time.perf_counter()
    while file.read(CHUNK_BYTES):
        pass
    return SCRATCH_BYTES / (time.perf_counter() - began)


def _existing(root: Path) -> Path:
    """The folder itself, or the nearest above it that is there."""
    return next(one for one in (root.absolute(), *root.absolute().parents) if one.is_dir())


def clock(root: Path) -> Iterator[Finding]:
    """Whether the clock of the wall goes as fast as the other, and as that of the files."""
    now = datetime.now().astimezone()
    drift = clock_drift()
    skew = _skew(_existing(root))
    facts = {"utc_offset": f"{now:%z}", "drift": drift, "file_system_ahead": skew}
    advice = ""
    if now.year < YEAR_OF_THIS:
        advice = "the clock stands in the past: set it, or certificates and dates are wrong"
    elif abs(drift) > MOST_DRIFT:
        advice = "the clock is being set while it runs: times of runs are wrong; look at its NTP"
    elif skew is not None and abs(skew) > MOST_SKEW:
        advice = f"files are dated {skew:+.0f} s from the clock: set one by the other"
    yield Finding("clock", f"{now:%Y-%m-%d %H:%M} UTC{now:%z}", advice, facts)


def clock_drift(
    *, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic,
    seconds: float = 0.2,
) -> float:  # fmt: skip
    """By what share the clock of the wall goes faster than the one that nobody sets."""
    began, steadily = wall(), steady()
    time.sleep(seconds)
    passed = steady() - steadily
    return (wall() - began) / passed - 1


def _skew(place: Path) -> float | None:
    """How far the time of a new file is ahead of the clock; None where none can be made."""
    try:
        with tempfile.NamedTemporaryFile(dir=place, prefix=".llmctl-doctor-") as scratch:
            return round(os.fstat(scratch.fileno()).st_mtime - time.time(), 3)
    except OSError:
        return None


def open_files() -> Iterator[Finding]:
    """How many files a process may hold open: a memory map takes one a shard."""
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    advice = (
        f"`ulimit -n {LEAST_FILES * 4}` lets more shards be open" if limit < LEAST_FILES else ""
    )
    yield Finding("open files", f"up to {limit:,}", advice, {"limit": limit, "most": most})
