"""A use for a language model -> ways to serve it, what each costs, and which of them fits.

Tuning teaches manner: a format, a tone, a decision. Facts that change (a fare, a price, a stock)
need retrieval or a tool, however many examples there are.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from llmctl.costs.accelerators import accelerator
from llmctl.costs.estimate import Estimate, Plan, api_price, estimate
from llmctl.costs.network import published
from llmctl.costs.prices import Prices
from llmctl.costs.quantity import Quantity, exact
from llmctl.costs.scaling import compute_optimal_tokens
from llmctl.figures import count

FEW_EXAMPLES, MANY_EXAMPLES = 100, 10_000
# What a prompt of instructions and examples has beside the question, and what retrieval adds.
PROMPT_TOKENS, RETRIEVED_TOKENS = 1_500, 2_000
EPOCHS = 3
# A tuned model is sold at about twice the price of the model that it was tuned from.
TUNED_PREMIUM = 2.0
# Generating of one's own: tokens a second of a GPU that answers many at once, 8 B in 16 bits.
SERVED_TOKENS_PER_SECOND = 1_500
DAYS_A_YEAR = 365


class Use(NamedTuple):
    """What the model is for: the story's five criteria, and how much is asked of it.

    `changing_facts`: answers depend on what is different next week. `owned` machines cost power
    and wear only. `base` is the open model that would be tuned.
    """

    examples: int = 1_000
    queries_per_day: float = 1_000
    tokens_per_query: int = 500
    tokens_per_answer: int = 200
    own_data: bool = True
    specialised: bool = False
    consistency: bool = False
    private: bool = False
    production: bool = True
    changing_facts: bool = False
    owned: bool = False
    label_price: float = 1.0
    base: str = "llama-3-8b"
    gpu: str = "A100-SXM-80GB"


class Option(NamedTuple):
    """A way: US dollars once and a query, days until it answers, what speaks for and against it.

    `break_even` is the number of queries from which on it is cheaper than prompting an API; None
    where it never is. `score` orders the options; those that are ruled out have `why_not`.
    """

    name: str
    once: Quantity
    per_query: Quantity
    days: float
    break_even: float | None
    score: float
    assumptions: str
    why_not: str = ""

    def first_year(self, use: Use) -> Quantity:
        """US dollars until the end of a year of queries."""
        queries = use.queries_per_day * DAYS_A_YEAR
        return self.once.plus(
            self.per_query.scaled(queries, unit="USD"),
            formula=f"once + {queries:,.0f} queries",
            source="both lines",
        )

    def to_dict(self, use: Use) -> dict[str, Any]:
        """The option as JSON holds it."""
        return {
            "name": self.name,
            "once_usd": self.once.to_dict(),
            "per_query_usd": self.per_query.to_dict(),
            "first_year_usd": self.first_year(use).to_dict(),
            "days": self.days,
            "break_even_queries": self.break_even,
            "score": self.score,
            "assumptions": self.assumptions,
            "why_not": self.why_not,
        }


def options(use: Use, prices: Prices) -> list[Option]:
    """Every way, the best first; those that are ruled out last.

    >>> options(Use(changing_facts=True), Prices())[0].name
    'retrieval with an API'
    """
    found = list(_options(use, prices))
    prompting = found[0]
    cheapest = min(one.first_year(use).mid for one in found if not one.why_not)
    told = [
        one._replace(
            break_even=break_even(one, prompting),
            # To cost ten times as much outweighs one criterion.
            score=one.score - math.log10(one.first_year(use).mid / cheapest),
        )
        for one in found
    ]
    return sorted(told, key=lambda one: (bool(one.why_not), -one.score, one.first_year(use).mid))


def break_even(option: Option, against: Option) -> float | None:
    """Queries from which on an option is cheaper in all; 0 where it is from the first."""
    dearer_once = option.once.mid - against.once.mid
    saved = against.per_query.mid - option.per_query.mid
    if dearer_once <= 0 and saved >= 0:
        return 0.0
    return dearer_once / saved if saved > 0 else None


def reasons(use: Use) -> Iterator[str]:
    """What follows from the criteria, in sentences."""
    if use.changing_facts:
        yield (
            "facts that change (a fare, a price, a stock) need retrieval or a tool: a tuned model"
            " repeats what was true when it was trained"
        )
    if not use.own_data:
        yield "without data of one's own there is nothing to tune on: begin with a prompt"
    if use.examples < FEW_EXAMPLES:
        yield f"{use.examples} examples are too few to tune on: put some of them into the prompt"
    if use.consistency or use.specialised:
        yield "a fixed format or a special language is what tuning teaches best"
    if use.private:
        yield "private data rules out what sends it to a provider, unless a contract covers it"
    if not use.production:
        yield "for a trial nothing is cheaper than a prompt"


def _options(use: Use, prices: Prices) -> Iterator[Option]:
    tokens = use.examples * (use.tokens_per_query + use.tokens_per_answer) * EPOCHS
    plan = Plan(
        network=published(use.base).with_context(use.tokens_per_query + use.tokens_per_answer),
        tokens=max(tokens, 1),
        chip=accelerator(use.gpu),
        stage="lora",
    )
    lora = estimate(plan, prices)
    full = estimate(plan._replace(stage="full"), prices)
    formula = f"{use.examples:,} x {use.label_price:g} USD"
    labels = exact(use.examples * use.label_price, "USD", formula, "given")
    tuning = _tuning_score(use)
    closed = "private data would leave the house" if use.private else ""
    untunable = _untunable(use)
    nothing = exact(0.0, "USD", "no training", "")
    index = exact(500.0, "USD", "an index built", "assumption")
    own = _own_query(use, prices)
    at_home = 1.5 * use.private - 0.5 * (use.queries_per_day < 1000)
    prompting = 2.0 + (not use.production) - use.changing_facts - use.specialised
    retrieving = 1.0 + 4.0 * use.changing_facts + 0.5 * use.own_data
    yield Option(
        name="prompting an API", once=nothing, per_query=_api_query(use, prices, PROMPT_TOKENS),
        days=1, break_even=None, why_not=closed, score=prompting,
        assumptions=f"{PROMPT_TOKENS:,} tokens of instructions and examples a query",
    )  # fmt: skip
    yield Option(
        name="retrieval with an API", once=index,
        per_query=_api_query(use, prices, RETRIEVED_TOKENS), days=7, break_even=None,
        why_not=closed, score=retrieving,
        assumptions=f"{RETRIEVED_TOKENS:,} tokens of found text a query; a week to build",
    )  # fmt: skip
    yield Option(
        name="fine-tuning through an API",
        once=labels.plus(api_price(plan._replace(stage="api"), prices),
                         formula="labels + training tokens", source="price list"),
        per_query=_api_query(use, prices, 0).scaled(TUNED_PREMIUM), days=7 + _labelling_days(use),
        break_even=None, why_not=closed or untunable, score=tuning,
        assumptions=f"no long prompt; answers at {TUNED_PREMIUM:g} times the price",
    )  # fmt: skip
    where = "one's own GPUs" if use.owned else "rented GPUs"
    answering = f"one GPU for each {count(_answers_a_day(use))} queries a day"
    for deed, once, days, score in (("prompting", nothing, 3, prompting),
                                    ("retrieval with", index, 10, retrieving)):  # fmt: skip
        yield Option(
            name=f"{deed} an open model", once=once, per_query=own, days=days, break_even=None,
            score=score + at_home, assumptions=f"{use.base} as it is, on {where}; {answering}",
        )  # fmt: skip
    for name, result, bonus in (("LoRA", lora, 0.0), ("full tuning", full, -0.5)):
        yield Option(
            name=f"{name} on {where}", once=labels.plus(_trained(result, use),
                                        formula="labels + 4 runs", source="estimate-cost"),
            per_query=own, days=10 + _labelling_days(use) + result.figures["days"].mid,
            break_even=None, why_not=untunable,
            score=tuning + bonus + at_home
            - 1.0 * (result is full and use.examples < MANY_EXAMPLES),
            assumptions=f"{use.base}, {EPOCHS} epochs on {result.gpus} x {use.gpu}, four runs;"
            f" {answering}",
        )  # fmt: skip
    yield _pretraining(use, prices, own)


def _pretraining(use: Use, prices: Prices, own: Quantity) -> Option:
    network = published(use.base)
    plan = Plan(
        network=network,
        tokens=compute_optimal_tokens(network.active),
        chip=accelerator(use.gpu),
    )
    run = estimate(plan, prices)
    return Option(
        name="pre-training one's own",
        once=_trained(run, use),
        per_query=own,
        days=90 + run.figures["days"].mid,
        break_even=None,
        score=-2.0,
        why_not="" if use.specialised and use.private else "an open model knows the language",
        assumptions=f"{run.gpus} x {use.gpu}, compute-optimal tokens, four runs in all",
    )


def _tuning_score(use: Use) -> float:
    score = 1.0 + use.specialised + 1.5 * use.consistency + 0.5 * use.production
    score += 0.5 * (use.examples >= 1000) + 0.5 * (use.queries_per_day >= 1000)
    return score - 2.0 * use.changing_facts


def _untunable(use: Use) -> str:
    if not use.own_data:
        return "no data to tune on"
    if use.examples < FEW_EXAMPLES:
        return f"fewer than {FEW_EXAMPLES} examples"
    return ""


def _labelling_days(use: Use) -> float:
    # Three people at 200 examples a day each.
    return use.examples / 600 if use.label_price > 0 else 0.0


def _trained(result: Estimate, use: Use) -> Quantity:
    cost = result.figures["cost_usd"]
    # Machines of one's own: power and wear, about a third of the rent (see the bill of a run).
    return cost.scaled(4 * (1 / 3 if use.owned else 1.0))


def _api_query(use: Use, prices: Prices, extra: int) -> Quantity:
    asked = prices.get("api-use", "small hosted model, input").quantity
    answered = prices.get("api-use", "small hosted model, output").quantity
    tokens = use.tokens_per_query + extra
    return asked.scaled(tokens / 1e6, unit="USD/query").plus(
        answered.scaled(use.tokens_per_answer / 1e6, unit="USD/query"),
        formula=f"{tokens:,} tokens in, {use.tokens_per_answer:,} out",
        source=asked.source,
    )


def _answers_a_day(use: Use) -> float:
    """Queries that a GPU answers in a day; reading them is little beside writing."""
    return 86_400 * SERVED_TOKENS_PER_SECOND / use.tokens_per_answer


def _own_query(use: Use, prices: Prices) -> Quantity:
    """The share of a GPU that stands by day and night; more GPUs where one is too slow."""
    rent = prices.rent(accelerator(use.gpu)).quantity
    gpus = math.ceil(use.queries_per_day / _answers_a_day(use))
    share = 1 / 3 if use.owned else 1.0
    formula = f"{gpus} GPU by day and night / {use.queries_per_day:,.0f} queries"
    return rent.scaled(24 * gpus * share / use.queries_per_day, unit="USD/query", formula=formula)
