"""How fast the run is: steps timed -> tokens a second, MFU, memory, time left.

MFU is the share of a *measured* matrix-product rate of this machine, in the type that the model
computes in; causal attention is counted in full, as in PaLM (arXiv 2204.02311, appendix B).
"""

import resource
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import torch

from llmctl.train.trainer import StepFacts

WINDOW = 20
# More than any cache holds.
COPIED_BYTES = 256 * 2**20
# A compiled or cold first step says nothing about the rest.
WARM_STEPS = 2
# How many steps fit is told from so many seconds of them, and not before such a part of what the
# schedule leaves open, for a pace may change.
LEAST_TIMED, SETTLED_AT = 1.5, 0.8


def matmul_rate(device: torch.device, dtype: torch.dtype, *, width: int, seconds: float) -> float:
    """FLOP/s of products of that width on this machine, the best of those that fit in `seconds`."""
    left = torch.randn(2048, width, device=device).to(dtype)
    right = torch.randn(width, 4 * width, device=device).to(dtype)
    product = left.new_empty(left.shape[0], right.shape[1])
    flops = 2.0 * left.shape[0] * right.numel()
    return flops / _best_time(lambda: torch.mm(left, right, out=product), device, seconds)


def copy_rate(device: torch.device, *, seconds: float) -> float:
    """Bytes a second between a device and its memory in a copy, which reads and writes each."""
    source = torch.zeros(COPIED_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * COPIED_BYTES / _best_time(lambda: target.copy_(source), device, seconds)


def link_rate(device: torch.device, other: torch.device, *, seconds: float) -> float:
    """Bytes a second from the memory of one GPU into that of another."""
    source = torch.zeros(COPIED_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source, device=other)
    return COPIED_BYTES / _best_time(lambda: target.copy_(source), device, seconds)


def _best_time(work: Callable[[], object], device: torch.device, seconds: float) -> float:
    """The shortest time that some work takes, of those that fit; the first does not count."""
    best, deadline = float("inf"), time.perf_counter() + seconds
    for turn in range(1000):
        began = time.perf_counter()
        work()
        _synchronize(device)
        now = time.perf_counter()
        if turn:
            best = min(best, now - began)
        if turn and now > deadline:
            break
    return best


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def memory_gigabytes(device: torch.device) -> float:
    """The most memory used so far: of the GPU, else resident in this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e9 if sys.platform == "darwin" else peak * 1024 / 1e9


@dataclass(frozen=True, slots=True)
class Pace:
    """The present speed of a run."""

    tokens_per_second: float
    mfu: float
    seconds_left: float | None


class Meter:
    """Watches the steps of one process; evaluation and saving do not count against its speed."""

    def __init__(self, *, flops_per_token: float, ceiling: float) -> None:
        self.flops_per_token = flops_per_token
        self.ceiling = ceiling
        self.seconds = 0.0
        self._tokens_before = 0
        self._recent: deque[tuple[int, float]] = deque(maxlen=WINDOW)
        self._all: list[float] = []
        self._seen = 0

    def resume(self, seconds: float, tokens: int) -> None:
        """Go on after so many seconds and tokens of earlier attempts."""
        self.seconds, self._tokens_before = seconds, tokens

    def add(self, facts: StepFacts, steps: int | None) -> Pace:
        """Take in one step; the pace over the last steps."""
        tokens = facts.tokens - self._tokens_before
        self._tokens_before = facts.tokens
        self.seconds += facts.seconds
        self._seen += 1
        if self._seen > 1:
            self._recent.append((tokens, facts.seconds))
            self._all.append(tokens / facts.seconds)
        rate = self._rate() or tokens / facts.seconds
        left = None
        if steps is not None:
            per_step = tokens / rate
            left = (steps - facts.step) * per_step
        return Pace(rate, self.mfu(rate), left)

    def mfu(self, tokens_per_second: float) -> float:
        """The share of the measured ceiling that so many tokens a second are."""
        return tokens_per_second * self.flops_per_token / self.ceiling

    @property
    def typical_rate(self) -> float:
        """The median tokens a second of all steps but the first."""
        return statistics.median(self._all) if self._all else 0.0

    def _rate(self) -> float | None:
        if not self._recent:
            return None
        return sum(tokens for tokens, _ in self._recent) / sum(took for _, took in self._recent)


class Minutes:
    """Turns a budget of time into a number of steps, once, by the pace of the steps so far.

    As late as the schedule leaves open: `plateau` is the share of a run that is the same however
    long it is. Scores and checkpoints between the steps count, as they will afterwards.
    """

    def __init__(self, *, seconds: float, began: float, plateau: float = 0.0) -> None:
        self.seconds = seconds
        self._began = began
        self._earliest = SETTLED_AT * plateau * seconds
        self._steps = 0
        self._warm = began

    @property
    def left(self) -> float:
        """Seconds of the budget that are not spent."""
        return max(0.0, self.seconds - (time.monotonic() - self._began))

    def resume(self, seconds: float) -> None:
        """Count what earlier attempts spent on training."""
        self._began -= seconds

    def settle(self, facts: StepFacts) -> int | None:
        """The steps that fit, from the start of the run; None while it is too early to say."""
        now = time.monotonic()
        self._steps += 1
        if self._steps <= WARM_STEPS:
            self._warm = now
        timed, seconds = self._steps - WARM_STEPS, now - self._warm
        is_early = timed < 3 or seconds < LEAST_TIMED or now - self._began < self._earliest
        if self.left and is_early:
            return None
        per_step = seconds / timed if timed > 0 else facts.seconds
        return facts.step + int(self.left / per_step)
