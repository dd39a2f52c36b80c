"""GPU-hours -> kilowatt-hours at the wall of the data centre, and tonnes of CO2 by country."""

import functools

from llmctl.costs.accelerators import Accelerator
from llmctl.costs.quantity import Quantity, around
from llmctl.costs.tables import Row, rows
from llmctl.errors import ConfigError
from llmctl.registry import suggest

# All-in AC power over TDP in two MLPerf power logs: H100 1.28 on 8 nodes, B200 1.20 on one.
HOST_FACTOR = 1.25
# Watts per dense 16-bit TFLOP/s where not even the TDP is known: A100 1.3, TPU v4 1.3, H100 0.9.
WATTS_PER_TFLOP = 1.1
DEFAULT_PUE = 1.1
DEFAULT_COUNTRY = "United States"


def wall_power(chip: Accelerator) -> Quantity:
    """Watts a GPU takes while it trains, with its share of the host, cooling left out."""
    if chip.wall:
        return around(chip.wall, 0.10, "W", formula="all-in AC power", source=chip.wall_source)
    if chip.tdp:
        formula = f"{HOST_FACTOR} x TDP {chip.tdp:g} W"
        source = "MLPerf power logs: H100 1.28, B200 1.20"
        return around(HOST_FACTOR * chip.tdp, 0.17, "W", formula=formula, source=source)
    watts = WATTS_PER_TFLOP * chip.half_peak / 1e12
    formula = f"{WATTS_PER_TFLOP} W per dense 16-bit TFLOP/s"
    return around(watts, 0.5, "W", formula=formula, source="other chips; its TDP is not published")


def energy(gpu_hours: Quantity, chip: Accelerator, pue: float) -> Quantity:
    """Kilowatt-hours: GPU-hours x watts x PUE."""
    power = wall_power(chip)
    formula = f"GPU-hours x {power.mid:,.0f} W ({power.formula}) x PUE {pue:g}"
    kilowatts = power.scaled(pue / 1000)
    return gpu_hours.times(kilowatts, unit="kWh", formula=formula, source=power.source)


def carbon(kilowatt_hours: Quantity, country: Row) -> Quantity:
    """Tonnes of CO2 equivalent, location-based."""
    grams = float(country["gco2e_per_kwh"])
    formula = f"kWh x {grams:,.0f} g/kWh ({country['country']}, {country['year']})"
    return kilowatt_hours.scaled(
        grams / 1e6, unit="t CO2e", formula=formula, source=country["source"]
    )


@functools.cache
def country(name: str) -> Row:
    """The row of a country by name or by its three letters; ConfigError for an unknown one.

    >>> country("FRA")["country"], country("united states")["iso3"]
    ('France', 'USA')
    """
    wanted = name.casefold()
    short = {"us": "usa", "uk": "gbr", "eu": "deu"}.get(wanted, wanted)
    for row in rows("grids"):
        if short in (row["iso3"].casefold(), row["country"].casefold()):
            return row
    raise ConfigError(
        f"the grid of `{name}` is not known",
        hint=suggest(name.title(), (row["country"] for row in rows("grids"))),
    )
