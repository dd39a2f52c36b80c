"""A figure that is not known exactly: low, mid and high of its 80 % interval, unit, provenance.

Products of uncertain figures add their spreads in quadrature on the scale of logarithms, as those
of independent factors do.

What the room answers with are named tuples: a frozen dataclass takes seven times as long to
define, and `estimate-cost` would wait for twenty of them.
"""

import math
from typing import Any, NamedTuple


class Quantity(NamedTuple):
    """`low` <= `mid` <= `high`, all in `unit`; how it was computed, and what it rests on."""

    low: float
    mid: float
    high: float
    unit: str
    formula: str
    source: str

    def times(
        self, other: "Quantity | float", *, unit: str, formula: str, source: str
    ) -> "Quantity":
        """The product with an independent figure, or with an exact number."""
        factor = other if isinstance(other, Quantity) else exact(other, unit)
        mid = self.mid * factor.mid
        down = math.hypot(_spread(self.low, self.mid), _spread(factor.low, factor.mid))
        up = math.hypot(_spread(self.mid, self.high), _spread(factor.mid, factor.high))
        return Quantity(mid * math.exp(-down), mid, mid * math.exp(up), unit, formula, source)

    def scaled(self, factor: float, **changes: str) -> "Quantity":
        """The figure times an exact number; `changes` are fields to say anew."""
        low, high = sorted((self.low * factor, self.high * factor))
        return self._replace(low=low, mid=self.mid * factor, high=high, **changes)

    def plus(self, other: "Quantity", *, formula: str, source: str) -> "Quantity":
        """The sum with a figure of the same unit that is wrong in the same direction."""
        return Quantity(
            self.low + other.low,
            self.mid + other.mid,
            self.high + other.high,
            self.unit,
            formula,
            source,
        )

    def to_dict(self) -> dict[str, Any]:
        """The figure as JSON holds it."""
        return self._asdict()


def exact(value: float, unit: str, formula: str = "", source: str = "") -> Quantity:
    """A figure without spread."""
    return Quantity(value, value, value, unit, formula, source)


def around(
    mid: float, spread: float, unit: str, *, formula: str, source: str, skew: float = 0.0
) -> Quantity:
    """A figure from mid / e^(spread - skew) to mid * e^(spread + skew)."""
    low, high = mid * math.exp(skew - spread), mid * math.exp(skew + spread)
    return Quantity(low, mid, high, unit, formula, source)


def _spread(smaller: float, larger: float) -> float:
    return math.log(larger / smaller) if smaller > 0 else 0.0
