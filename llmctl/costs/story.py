"""The classic story of what GPT-3 cost, line by line beside our figure, and what contradicts what.

The story is told in articles, slides and courses with these numbers; each of them is true of
something. The ratio of pre-training to fine-tuning is computed here from two estimates.
"""

from typing import Any, NamedTuple

from llmctl.costs.accelerators import accelerator
from llmctl.costs.estimate import Estimate, Plan, estimate
from llmctl.costs.network import published
from llmctl.costs.prices import Prices
from llmctl.costs.project import HOST_SHARE, Extras, bill
from llmctl.costs.quantity import Quantity

YEAR = 2020
EXAMPLES, TOKENS_PER_EXAMPLE, EPOCHS = 10_000, 500, 3
# What is published of the run itself: arXiv 2104.10350, table 4.
REPORTED_MWH = 1287
REPORTED_YEARS = 355
REPORTED_USD_PER_HOUR = 1.5


class Claim(NamedTuple):
    """A line of the story: what it says, what we find, and what to make of it."""

    what: str
    said: str
    ours: Quantity
    verdict: str


class Story(NamedTuple):
    """All lines, the pairs that cannot both be true, and the computed ratio."""

    claims: tuple[Claim, ...]
    contradictions: tuple[tuple[str, str], ...]
    ratio: Quantity

    def to_dict(self) -> dict[str, Any]:
        """The story as JSON holds it."""
        return {
            "story": [
                {"what": one.what, "said": one.said, "verdict": one.verdict,
                 "ours": one.ours.to_dict()}
                for one in self.claims
            ],
            "contradictions": [{"pair": pair, "why": why} for pair, why in self.contradictions],
            "ratio": self.ratio.to_dict(),
        }  # fmt: skip


def gpt3(prices: Prices) -> Story:
    """GPT-3 175B: 300 billion tokens on 10,000 V100, as the story has it."""
    run = estimate(
        Plan(
            network=published("gpt-3"),
            tokens=300e9,
            chip=accelerator("V100-SXM2-32GB"),
            gpus=10_000,
            year=YEAR,
        ),
        prices,
    )
    tuned = _tuned(prices, "full")
    light = _tuned(prices, "lora")
    labels = prices.get("label", "instruction written by a person").quantity.scaled(
        EXAMPLES, unit="USD", formula=f"{EXAMPLES:,} examples x 1.6 USD"
    )
    whole = tuned.figures["cost_usd"].plus(
        labels, formula="full fine-tuning and written examples", source="our estimates"
    )
    api = prices.get("api-tuning", "OpenAI gpt-4o-mini").quantity
    dear = prices.get("api-tuning", "OpenAI gpt-4o").quantity
    millions = EXAMPLES * TOKENS_PER_EXAMPLE * EPOCHS / 1e6
    by_api = Quantity(
        api.low * millions, api.mid * millions, dear.high * millions, "USD",
        f"{millions:g} M training tokens x {api.mid:g} USD; high: {dear.high:g}", api.source,
    )  # fmt: skip
    cost = run.figures["cost_usd"]
    ratio = Quantity(
        cost.low / whole.high,
        cost.mid / whole.mid,
        cost.high / whole.low,
        "x",
        "final run rented / (fine-tuning of all weights + written examples)",
        "our two estimates",
    )
    claims = (*_machines(run, prices), *_tuning(whole, labels, tuned, light, by_api))
    return Story(claims, _contradictions(run, ratio), ratio)


def _tuned(prices: Prices, stage: str) -> Estimate:
    plan = Plan(
        network=published("gpt-3" if stage == "full" else "llama-3-8b"),
        tokens=EXAMPLES * TOKENS_PER_EXAMPLE * EPOCHS,
        chip=accelerator("A100-SXM-80GB"),
        stage="full" if stage == "full" else "lora",
    )
    return estimate(plan, prices)


def _machines(run: Estimate, prices: Prices) -> tuple[Claim, ...]:
    figures = run.figures
    lines = {line.name.strip(): line.cost for line in bill(run, prices, Extras(people=50))}
    card = prices.purchase(run.plan.chip)
    cards = card.quantity.scaled(run.gpus, unit="USD") if card else lines["final run, rented"]
    power = next(cost for name, cost in lines.items() if name.startswith("of it electricity"))
    used_up = lines["the run's share of that, used up"]
    people = prices.get("people", "engineer, loaded").quantity.scaled(
        600, unit="USD", formula="50 people x 12 months x 25,000 USD"
    )
    return (
        Claim("V100 GPUs", "about 10,000", figures["days"],
              "10,000 are an assumption of the sources: this is how long they would take"),
        Claim("GPUs", "$3 M", used_up,
              f"buys {3e6 / cards.mid * run.gpus:,.0f} cards; near our share of the wear"),
        Claim("electricity", "$500 k", power,
              f"the {REPORTED_MWH:,} MWh reported would have to cost"
              f" {500_000 / REPORTED_MWH / 1000:.2f} USD a kWh"),
        Claim("cloud", "$1 M", figures["cost_usd"], "renting the machines for the run"),
        Claim("data", "$100 k", lines["collecting and cleaning"],
              "machines only; licences and people are not in it"),
        Claim("total", "$4.6 M", figures["cost_usd"],
              f"one item, rent: {REPORTED_YEARS} GPU-years x {REPORTED_USD_PER_HOUR} USD an hour"),
        Claim("hardware", "$100 M", cards,
              f"the cards; with servers and network {HOST_SHARE.mid:g} times that"),
        Claim("salaries", "$15 M", people, "50 people for a year at 25,000 USD a month"),
    )  # fmt: skip


def _tuning(
    whole: Quantity, labels: Quantity, tuned: Estimate, light: Estimate, by_api: Quantity
) -> tuple[Claim, ...]:
    return (
        Claim("fine-tuning", "$6-60 k", whole, "mostly the examples, if people write them"),
        Claim("  its examples", "$5-50 k", labels, "10,000 written by people"),
        Claim("  its compute", "$1-10 k", tuned.figures["cost_usd"],
              f"all of 175 B, 15 M tokens, on {tuned.gpus:,} x A100; OPT-IML took 2 B"),
        Claim("  the same, cheaply", "$100-10 k", light.figures["cost_usd"],
              "LoRA on 8 B instead"),
        Claim("  through an API", "$100-1 k", by_api, "15 M training tokens"),
    )  # fmt: skip


def _contradictions(run: Estimate, ratio: Quantity) -> tuple[tuple[str, str], ...]:
    hours = 10_000 * 30 * 24
    rented = REPORTED_YEARS * 8766
    return (
        (
            "$4.6 M in all = $3 M + $0.5 M + $1 M + $0.1 M",
            "rent already contains the machine and its power: the sum is a coincidence",
        ),
        (
            "$3 M of GPUs and $100 M of hardware",
            "10,000 V100 were 85-115 M USD; 3 M is the wear of one run at most",
        ),
        (
            "10,000 GPUs for a month and $4.6 M",
            f"that is {hours / 1e6:.1f} M GPU-hours, and 4.6 M USD pays {rented / 1e6:.1f} M at"
            f" {REPORTED_USD_PER_HOUR} USD",
        ),
        (
            "$500 k of electricity and 1,287 MWh",
            "at 6 to 10 cents that is 77,000 to 129,000 USD",
        ),
        (
            "460x cheaper and $6-60 k",
            f"4.6 M over 6-60 k is 77x to 767x; computed from both estimates {ratio.mid:,.0f}x"
            f" ({ratio.low:,.0f}-{ratio.high:,.0f})",
        ),
        (
            "300 billion words",
            f"tokens: about 225 billion words (6 x 175 B x 300 B = {run.flops.simple:.3g} FLOP)",
        ),
    )
