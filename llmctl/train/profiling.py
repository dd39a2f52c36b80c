"""A few steps of a run, looked at closely -> a trace, and the operators that take the time.

The steps before them warm caches and compile, and the length of a run in minutes is settled by
then: what is looked at is slower than the rest. On a GPU the memory is written down as well, in
the form that pytorch.org/memory_viz draws. Whatever goes wrong here is told, and the run goes on.
"""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile

WARM_STEPS, STEPS = 3, 3
MOST_EXPENSIVE = 10
# Allocations to remember: a few steps have fewer, and the file stays below 100 MB.
MOST_ALLOCATIONS = 200_000
logger = logging.getLogger(__name__)


class Operator(NamedTuple):
    """What one kind of operator took in all steps that were looked at, itself alone."""

    name: str
    calls: int
    seconds: float
    share: float


class Profile:
    """Called after every step, looks at `STEPS` of them and writes `trace.json.gz`."""

    def __init__(self, directory: Path, device: torch.device) -> None:
        self.directory = directory
        self.device = device
        self.operators: list[Operator] = []
        self._seen = 0
        self._profiler: profile | None = None

    def step(self, *, is_settled: bool = True) -> None:
        """A step is done; steps count once the length of the run is settled."""
        if not is_settled:
            return
        self._seen += 1
        if self._seen == WARM_STEPS:
            self._safely(self._begin)
        elif self._seen == WARM_STEPS + STEPS:
            self.close()

    def close(self) -> None:
        """Write what was seen, also where the run ends before the last step to look at."""
        self._safely(self._write)
        self._profiler = None

    def _begin(self) -> None:
        # Else torch's profiler says on stderr that it starts, and that it stops.
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")
        activities = [ProfilerActivity.CPU]
        if self.device.type == "cuda":
            activities.append(ProfilerActivity.CUDA)
            torch.cuda.memory._record_memory_history(max_entries=MOST_ALLOCATIONS)
        profiler = profile(activities=activities, record_shapes=True)
        profiler.start()
        self._profiler = profiler

    def _write(self) -> None:
        profiler = self._profiler
        if profiler is None:
            return
        profiler.stop()
        self.operators = _most_expensive(profiler, self.device)
        self.directory.mkdir(exist_ok=True)
        if self.device.type == "cuda":
            torch.cuda.memory._dump_snapshot(str(self.directory / "memory.pickle"))
            torch.cuda.memory._record_memory_history(enabled=None)
        profiler.export_chrome_trace(str(self.directory / "trace.json.gz"))

    def _safely(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # no look at a run is worth the run
            logger.warning("the profile is not complete: %s", error)
            self._profiler = None


def _most_expensive(profiler: profile, device: torch.device) -> list[Operator]:
    own_time = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    found = [
        (float(getattr(one, own_time)) / 1e6, one.key, one.count) for one in profiler.key_averages()
    ]
    total = sum(seconds for seconds, _, _ in found) or 1.0
    return [
        Operator(name, calls, seconds, seconds / total)
        for seconds, name, calls in sorted(found, reverse=True)[:MOST_EXPENSIVE]
    ]
