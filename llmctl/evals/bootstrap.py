"""Values of examples -> how sure one can be of their mean (Efron, Tibshirani 1993, ch. 13)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

RESAMPLES = 2000
LEVEL = 0.95
# Of fewer examples the resamples are so few that their spread says nothing.
LEAST_EXAMPLES = 10
LEAST_TOLD = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Where a figure lies with a confidence of 95 %."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How much better one model is than another on the same examples.

    `p_value` is the two-sided share of resamples that contradict the sign, and never less than so
    many can tell (Davison, Hinkley 1997, section 4.2.5); None where the examples are too few.
    """

    gain: float
    interval: Interval
    p_value: float | None

    def told(self, digits: int) -> str:
        """As read by people: `+0.02 [+0.00, +0.04] p = 0.012`; of few examples the gain alone."""
        if self.p_value is None:
            return f"{self.gain:+.{digits}f}"
        low, high = self.interval.low, self.interval.high
        p_value = f"< {LEAST_TOLD}" if self.p_value < LEAST_TOLD else f"= {self.p_value:.3f}"
        return f"{self.gain:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}] p {p_value}"


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


def are_few(examples: int) -> bool:
    """Whether so many examples are too few to say how sure one can be."""
    return examples < LEAST_EXAMPLES


def doubt(examples: int) -> str | None:
    """What is to be said of scores on so many examples, where these are too few."""
    if not are_few(examples):
        return None
    return (
        f"scores on so few examples ({examples}) say next to nothing: below {LEAST_EXAMPLES}"
        " no p-value is given"
    )


def difference(gain: float, resamples: Floats, examples: int) -> Difference:
    """A gain, and what resampling the examples of both models at once makes of it."""
    against = min(int((resamples <= 0).sum()), int((resamples >= 0).sum()))
    p_value = min(1.0, 2 * (against + 1) / (len(resamples) + 1))
    return Difference(
        gain=gain,
        interval=interval_of(resamples),
        p_value=None if are_few(examples) else p_value,
    )


def mean_difference(gains: Floats, *, seed: int = 0) -> Difference:
    """The mean of gains, one an example."""
    resamples = np.array([gains[some].mean() for some in resampled(len(gains), seed)])
    return difference(float(gains.mean()), resamples, len(gains))


def gain_facts(gains: Mapping[str, Difference]) -> dict[str, Any]:
    """Gains by score as a manifest holds them: `gain_macro_f1`, `p_value_macro_f1`."""
    found = {f"gain_{score}": one.gain for score, one in gains.items()}
    return found | {f"p_value_{score}": one.p_value for score, one in gains.items()}
