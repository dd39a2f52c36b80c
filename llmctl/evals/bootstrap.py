"""Values of examples -> how sure one can be of their mean (Efron, Tibshirani 1993, ch. 13)."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

RESAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Where a figure lies with a confidence of 95 %."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How much better one model is than another on the same examples.

    `p_value` is the two-sided share of resamples that contradict the sign.
    """

    gain: float
    interval: Interval
    p_value: float


def resampled(examples: int, seed: int = 0) -> Iterator[Integers]:
    """Examples drawn with replacement, again and again."""
    random = np.random.default_rng(seed)
    return (random.integers(0, examples, examples) for _ in range(RESAMPLES))


def interval_of(values: Floats) -> Interval:
    """The middle 95 % of what the resamples gave."""
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(low=float(low), high=float(high))


def mean_interval(values: Floats, *, seed: int = 0) -> Interval:
    """Where the mean of values lies."""
    return interval_of(np.array([values[some].mean() for some in resampled(len(values), seed)]))


def difference(gain: float, resamples: Floats) -> Difference:
    """A gain, and what resampling the examples of both models at once makes of it."""
    against = min(float((resamples <= 0).mean()), float((resamples >= 0).mean()))
    return Difference(gain=gain, interval=interval_of(resamples), p_value=min(1.0, 2 * against))


def mean_difference(gains: Floats, *, seed: int = 0) -> Difference:
    """The mean of gains, one an example."""
    resamples = np.array([gains[some].mean() for some in resampled(len(gains), seed)])
    return difference(float(gains.mean()), resamples)
