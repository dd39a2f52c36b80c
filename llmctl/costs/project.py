"""A finished estimate -> the money around the run: rent or purchase, data, labels, people.

The final run is the smaller part of a project, and the most misread figure of the field: it was
37 % of BLOOM's energy (arXiv 2211.02001), development added half to OLMo-2's (arXiv 2501.00656).
"""

from collections.abc import Iterator
from typing import NamedTuple

from llmctl.costs.energy import energy
from llmctl.costs.estimate import Estimate
from llmctl.costs.prices import Prices
from llmctl.costs.quantity import Quantity, exact

# All runs of a project over its final one: OLMo-2 1.5, BLOOM 1 / 0.37, OLMo-3 1 / 0.18.
PRETRAIN_RUNS = Quantity(1.5, 2.7, 5.6, "x", "all runs / final run", "OLMo-2, BLOOM, OLMo-3")
TUNING_RUNS = Quantity(2, 4, 10, "x", "all runs / final run", "assumption: a small sweep")
# A server, its network and its share of the hall, over the price of its GPUs.
HOST_SHARE = Quantity(1.3, 1.5, 1.9, "x", "server / its GPUs", "assumption: DGX and cloud lists")
YEARS_OF_USE = 4
HOURS_A_YEAR = 8766
USE_OF_OWNED = 0.7
# Kept of raw text for each token that is trained on: 4 bytes of text, and most is thrown away.
BYTES_PER_TOKEN, RAW_PER_KEPT = 4.0, 5.0
# Cores that clean: about a million tokens a core and minute with model-based filters.
TOKENS_PER_CORE_HOUR = 6e7
USD_PER_CORE_HOUR = 0.04


class Extras(NamedTuple):
    """What a project has beside machines. `label` is a row of the price list, or a price itself."""

    examples: int = 0
    label: str | None = None
    label_price: float | None = None
    people: float = 0.0
    kwh_price: float | None = None


class Line(NamedTuple):
    """One line of a bill; `in_sum` where the whole project adds it up."""

    name: str
    cost: Quantity
    in_sum: bool


def bill(estimate: Estimate, prices: Prices, extras: Extras | None = None) -> Iterator[Line]:
    """The lines of the final run and of the whole project, in US dollars."""
    extras = extras or Extras()
    figures, plan = estimate.figures, estimate.plan
    cost = figures["cost_usd"]
    is_sold = plan.stage == "api"
    if is_sold:
        yield Line("final run, by the token", cost, in_sum=False)
    else:
        yield from _machines(estimate, prices, extras)
    runs = PRETRAIN_RUNS if plan.stage == "pretrain" else TUNING_RUNS
    yield Line(
        "all runs: trials, failures, evaluation",
        cost.times(
            runs,
            unit="USD",
            formula=f"final run x {runs.mid:g} ({runs.low:g}-{runs.high:g})",
            source=runs.source,
        ),
        in_sum=True,
    )
    if not is_sold:
        yield from _storage(estimate, prices)
    if plan.stage == "pretrain":
        yield _collected(plan.tokens)
    if extras.label or extras.label_price is not None:
        yield _labelled(extras, prices)
    if extras.people:
        yield _staffed(estimate, extras, prices)


def _machines(estimate: Estimate, prices: Prices, extras: Extras) -> Iterator[Line]:
    yield Line("final run, rented", estimate.figures["cost_usd"], in_sum=False)
    yield Line("  of it electricity, if the GPUs were one's own", _power(estimate, prices, extras),
               in_sum=False)  # fmt: skip
    if bought := _bought(estimate, prices):
        owned, share = bought
        many = f"{estimate.gpus:,} GPU{'s' * (estimate.gpus > 1)}"
        yield Line(f"  or {many} bought", owned, in_sum=False)
        yield Line("  the run's share of that, used up", share, in_sum=False)


def project(lines: list[Line]) -> Quantity:
    """The sum of the lines that a project pays."""
    parts = [line.cost for line in lines if line.in_sum]
    total = exact(0, "USD")
    for part in parts:
        total = total.plus(part, formula="the lines of the project, added", source="above")
    return total


def _power(estimate: Estimate, prices: Prices, extras: Extras) -> Quantity:
    plan = estimate.plan
    kwh = energy(estimate.figures["gpu_hours"], plan.chip, plan.pue)
    rate = prices.get("electricity", "data centre").quantity
    if extras.kwh_price is not None:
        rate = exact(extras.kwh_price, "USD/kWh", "given", "given")
    formula = f"{kwh.mid:,.0f} kWh x {rate.mid:g} USD"
    return kwh.times(rate, unit="USD", formula=formula, source=rate.source)


def _bought(estimate: Estimate, prices: Prices) -> tuple[Quantity, Quantity] | None:
    price = prices.purchase(estimate.plan.chip)
    if price is None:
        return None
    gpu = price.quantity
    source = f"{gpu.source}; {HOST_SHARE.source}"
    each = gpu.times(HOST_SHARE, unit="USD", formula="GPU and server", source=source)
    formula = f"{estimate.gpus:,} x {gpu.mid:,.0f} USD x {HOST_SHARE.mid:g} for servers and network"
    owned = each.scaled(estimate.gpus, unit="USD", formula=formula)
    hours = estimate.figures["gpu_hours"]
    life = YEARS_OF_USE * HOURS_A_YEAR * USE_OF_OWNED
    share = hours.times(
        each.scaled(1 / life),
        unit="USD",
        formula=f"GPU-hours / {life:,.0f} h of use in {YEARS_OF_USE} years at {USE_OF_OWNED:.0%}",
        source=source,
    )
    return owned, share


def _storage(estimate: Estimate, prices: Prices) -> Iterator[Line]:
    plan = estimate.plan
    months = max(estimate.figures["days"].mid / 30.4, 1.0)
    checkpoints = 10 * 14 * plan.network.total / 1e9 if plan.stage == "pretrain" else 0.0
    text = BYTES_PER_TOKEN * plan.tokens / 1e9
    gigabytes = checkpoints + text + 2 * plan.network.total / 1e9
    price = prices.get("storage", "object store").quantity
    formula = f"{gigabytes:,.0f} GB of text, checkpoints and weights x {months:.1f} months"
    yield Line("storage", price.scaled(gigabytes * months, unit="USD", formula=formula), True)
    out = prices.get("network", "transfer out").quantity
    weights = 2 * plan.network.total / 1e9
    formula = f"{weights + text:,.0f} GB moved once"
    yield Line("network", out.scaled(weights + text, unit="USD", formula=formula), True)


def _collected(tokens: float) -> Line:
    cores = tokens * RAW_PER_KEPT / TOKENS_PER_CORE_HOUR
    mid = cores * USD_PER_CORE_HOUR
    formula = f"{RAW_PER_KEPT:g} tokens read a token kept, {cores:,.0f} core-hours"
    source = "assumption: 60 M tokens a core-hour, 0.04 USD a core-hour; text itself free"
    return Line("collecting and cleaning", Quantity(mid / 5, mid, mid * 5, "USD", formula, source),
                True)  # fmt: skip


def _labelled(extras: Extras, prices: Prices) -> Line:
    if extras.label_price is not None:
        each = exact(extras.label_price, "USD/example", "given", "given")
    else:
        each = prices.get("label", str(extras.label)).quantity
    formula = f"{extras.examples:,} examples x {each.mid:g} USD"
    return Line("labelling", each.scaled(extras.examples, unit="USD", formula=formula), True)


def _staffed(estimate: Estimate, extras: Extras, prices: Prices) -> Line:
    # People work longer than the machines run: three months at least for a pre-training.
    months = max(estimate.figures["days"].mid / 30.4 * 2, 3 if _is_big(estimate) else 0.5)
    each = prices.get("people", "engineer, loaded").quantity
    formula = f"{extras.people:g} people x {months:.1f} months x {each.mid:,.0f} USD"
    cost = each.scaled(extras.people * months, unit="USD", formula=formula)
    return Line("people", cost, True)


def _is_big(estimate: Estimate) -> bool:
    return estimate.plan.stage == "pretrain"
