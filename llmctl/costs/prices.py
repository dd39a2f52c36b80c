"""Prices: what is bought, where and when -> low, mid and high in US dollars, with a date.

A row is `kind,item,low,mid,high,unit,date,source`; a file of such rows replaces the table's.
"""

import datetime
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from llmctl.costs.accelerators import Accelerator
from llmctl.costs.energy import wall_power
from llmctl.costs.quantity import Quantity
from llmctl.costs.tables import Row, read_given, rows
from llmctl.errors import ConfigError

Tier = Literal["low", "mid", "high"]

COLUMNS = frozenset("kind item low mid high unit date source".split())
STALE_DAYS = 180
# How the name of a chip becomes that of a price.
DEEDS = {"rent": "renting ", "buy": "buying "}
# Where no rent is known: an H100's 2.95 USD for its 989 dense TFLOP/s.
USD_PER_TFLOP_HOUR = 2.95 / 989


class Price(NamedTuple):
    """What one unit costs, and when that was read."""

    quantity: Quantity
    date: str

    @property
    def read_on(self) -> datetime.date:
        """The last day that the date may mean."""
        if not re.fullmatch(r"\d{4}(-\d\d){0,2}", self.date):
            raise ValueError(f"`{self.date}` is no date")
        parts = [int(part) for part in self.date.split("-")]
        if len(parts) == 3:
            return datetime.date(*parts)
        year, month = parts[0], parts[1] if len(parts) > 1 else 12
        following = datetime.date(year + month // 12, month % 12 + 1, 1)
        return following - datetime.timedelta(days=1)

    def is_stale(self, on: datetime.date) -> bool:
        """Whether it is older than half a year on a day, whichever day its date means."""
        return (on - self.read_on).days > STALE_DAYS

    def at(self, tier: Tier | None) -> "Price":
        """The price of one tier, as if it were certain."""
        if tier is None:
            return self
        value = {"low": self.quantity.low, "mid": self.quantity.mid, "high": self.quantity.high}
        one = value[tier]
        kept = self.quantity
        fixed = Quantity(one, one, one, kept.unit, f"{kept.formula}, {tier}", kept.source)
        return Price(fixed, self.date)


class Prices:
    """The price list: the shipped one, with the rows of a file in front.

    It remembers what it was asked for, so that it can say which of that is old.
    """

    def __init__(self, file: Path | None = None) -> None:
        own = _checked(file) if file else []
        self._rows: Sequence[Row] = [*own, *rows("prices")]
        self._told: dict[str, Price] = {}

    def find(self, kind: str, item: str, *, year: int | None = None) -> Price | None:
        """The price of an item, the one nearest to a year where there are several."""
        found = [row for row in self._rows if (row["kind"], row["item"]) == (kind, item)]
        if not found:
            return None
        row = found[0]
        if year is not None:
            row = min(found, key=lambda row: abs(int(row["date"][:4]) - year))
        price = _price(row)
        self._told[f"{DEEDS.get(kind, '')}{item}"] = price
        return price

    def stale(self, on: datetime.date) -> str:
        """What to say of the prices asked for so far that are old on a day, if any are."""
        old = [f"{item} ({price.date})" for item, price in self._told.items() if price.is_stale(on)]
        if not old:
            return ""
        told = ", ".join(old)
        return f"prices older than {STALE_DAYS} days: {told}; `--prices FILE` replaces them"

    def get(self, kind: str, item: str) -> Price:
        """The price of an item that the list is sure to have."""
        price = self.find(kind, item)
        if price is None:
            raise ConfigError(f"no price of {kind} `{item}` is listed")
        return price

    def items(self, kind: str) -> Iterable[str]:
        """What of a kind is listed."""
        return dict.fromkeys(row["item"] for row in self._rows if row["kind"] == kind)

    def rent(self, chip: Accelerator, *, year: int | None = None) -> Price:
        """US dollars an hour of a GPU, in a year or now.

        Where it is not listed, by its peak, and no less than its electricity.
        """
        price = self.find("rent", chip.name, year=year)
        if price:
            return price
        mid = USD_PER_TFLOP_HOUR * chip.half_peak / 1e12
        source, formula = "not listed: priced by its peak like an H100", "rent by peak"
        current = self.get("electricity", "data centre").quantity.mid * wall_power(chip).mid / 1000
        if current > mid:
            mid, source, formula = current, "not listed: what its electricity costs", "power"
        quantity = Quantity(mid / 2, mid, mid * 2, "USD/GPU-hour", formula, source)
        return Price(quantity, "2026-05")

    def purchase(self, chip: Accelerator) -> Price | None:
        """US dollars for a GPU without its host, where listed."""
        return self.find("buy", chip.name)


def _price(row: Row) -> Price:
    low, mid, high = (float(row[one]) for one in ("low", "mid", "high"))
    source = f"{row['source']} ({row['date']})"
    return Price(Quantity(low, mid, high, row["unit"], row["item"], source), row["date"])


def _checked(file: Path) -> list[Row]:
    found = read_given(file)
    for line, row in enumerate(found, start=2):
        missing = COLUMNS - row.keys()
        try:
            if missing:
                raise ValueError(f"column {', '.join(sorted(missing))} is missing")
            price = _price(row)
            price.read_on  # noqa: B018
            quantity = price.quantity
            if not 0 <= quantity.low <= quantity.mid <= quantity.high < float("inf"):
                raise ValueError("a price needs 0 <= low <= mid <= high")
        except ValueError as error:
            hint = "columns: kind,item,low,mid,high,unit,date,source; dates as 2026-05-31"
            raise ConfigError(f"{file}, line {line}: {error}", hint=hint) from error
    return found
