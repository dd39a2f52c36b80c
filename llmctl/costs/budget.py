"""So many dollars -> the largest sensible model that they train, and who spends that."""

import math
from collections.abc import Callable
from typing import NamedTuple

from llmctl.costs.estimate import Estimate, Plan, estimate
from llmctl.costs.network import LEAST, MOST, from_counts
from llmctl.costs.prices import Prices
from llmctl.costs.scaling import compute_optimal_tokens, expected_loss
from llmctl.errors import ConfigError

# What an organisation of a kind spends on one run, in US dollars: up to which sum, and who.
SPENDERS = (
    (100, "anybody with an afternoon"),
    (5_000, "a hobbyist, a student, a class"),
    (50_000, "a research group, a small company"),
    (500_000, "a funded start-up, a large laboratory"),
    (5_000_000, "a company that lives by its models, a national programme"),
    (50_000_000, "a large technology company, a well-funded laboratory"),
    (500_000_000, "a handful of frontier laboratories"),
    (float("inf"), "nobody has published a run as dear as this"),
)
HALVINGS = 20  # of nine powers of ten: to a part in 50,000


class Affordable(NamedTuple):
    """The model that a budget trains to the compute-optimal point, and the loss to expect of it."""

    budget: float
    estimate: Estimate
    loss: float
    who: str


def largest(budget: float, plan: Plan, prices: Prices) -> Affordable:
    """The largest compute-optimal model whose final run costs no more than the budget.

    Of the plan all but its network and tokens is kept. ConfigError for a budget that trains
    nothing.
    """
    if not 0 < budget < float("inf"):
        raise ConfigError(f"a budget of {budget:g} USD buys nothing", hint="say a sum above zero")

    def priced(parameters: float) -> Estimate:
        network = from_counts(parameters, context=plan.network.context)
        tokens = compute_optimal_tokens(parameters)
        return estimate(plan._replace(network=network, tokens=tokens), prices)

    low, high = LEAST, MOST / 10
    if priced(low).figures["cost_usd"].mid > budget:
        raise ConfigError(f"{budget:g} USD train no model at all", hint="take a larger budget")
    for _ in range(HALVINGS):
        middle = (low * high) ** 0.5
        if _costs(priced, middle) <= budget:
            low = middle
        else:
            high = middle
    size = _rounded(low)
    best = priced(size)
    return Affordable(budget, best, expected_loss(size, best.plan.tokens), spender(budget))


def _rounded(parameters: float) -> int:
    """No more than that, with three digits: nobody plans a model to the parameter."""
    scale = 10 ** (math.floor(math.log10(parameters)) - 2)
    return math.floor(parameters / scale) * scale


def spender(usd: float) -> str:
    """What kind of organisation spends so much on a run."""
    return next(who for most, who in SPENDERS if usd <= most)


def _costs(priced: Callable[[float], Estimate], parameters: float) -> float:
    try:
        return priced(parameters).figures["cost_usd"].mid
    except ConfigError:
        # Too large to finish in the days that are given, with any number of GPUs.
        return float("inf")
