"""A use for a language model -> prompting, retrieval, tuning or pre-training: money, days."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmctl.config import knob, parse_count, to_dict
from llmctl.console import console
from llmctl.errors import ConfigError

if TYPE_CHECKING:
    from llmctl.costs.advice import Option, Use
    from llmctl.workspace import Workspace

# The criteria of the story, as they are asked; and what is taken where nobody is there to answer.
QUESTIONS = {
    "own_data": ("Do you have data of your own", True),
    "specialised": ("Is the domain specialised", False),
    "consistency": ("Must answers have one form or tone", False),
    "private": ("Must the data stay in the house", False),
    "production": ("Is it for production", True),
    "changing_facts": ("Do answers depend on facts that change", False),
}
ANSWERS = {"y": True, "yes": True, "n": False, "no": False}
# Queries a day, and tokens of one: nobody has more.
MOST = 1e12


@dataclass(frozen=True, slots=True, kw_only=True)
class Decide:
    """Should I fine-tune at all? Compare the ways by money, days and break-even.

        llmctl decide --examples 10000 --queries-per-day 5000 --consistency
        llmctl decide --examples 500 --changing-facts

    On a terminal it asks for the criteria that no flag answers.
    """

    examples: int = knob(1000, help="Examples to tune on", panel="Input", parse=parse_count)
    queries_per_day: float = knob(1000, help="How often it is asked", panel="Input")
    tokens_per_query: int = knob(500, help="Tokens of a question", panel="Input", rare=True)
    tokens_per_answer: int = knob(200, help="Tokens of an answer", panel="Input", rare=True)
    own_data: bool | None = knob(None, help="There is data of one's own", panel="Text")
    specialised: bool | None = knob(None, help="The domain is specialised", panel="Text")
    consistency: bool | None = knob(None, help="Answers must have one form or tone", panel="Text")
    private: bool | None = knob(None, help="The data must stay in the house", panel="Text")
    production: bool | None = knob(None, help="It is for production", panel="Text")
    changing_facts: bool | None = knob(
        None, help="Answers depend on facts that change: fares, prices, stocks", panel="Text"
    )
    owned: bool = knob(False, help="The GPUs are one's own", panel="Machine")
    gpu: str = knob("A100-SXM-80GB", help="On which accelerator", panel="Machine", rare=True)
    base: str = knob("llama-3-8b", help="Which open model is tuned", panel="Model")
    label_price: float = knob(1.0, help="USD an example; 0 where they are there", panel="Money")
    prices: Path | None = knob(
        None, help="Your price list, as for estimate-cost", panel="Money", metavar="FILE",
        rare=True,
    )  # fmt: skip
    plot: Path | None = knob(None, help="Draw the break-even as PNG", panel="Report",
                             metavar="FILE")  # fmt: skip


def run(config: Decide, workspace: Workspace) -> dict[str, Any]:  # noqa: ARG001
    """Print the ways, the best first; the same as data.

    >>> run(Decide(changing_facts=True), workspace)["options"][0]["name"]
    'retrieval with an API'
    """
    from llmctl.costs import advice
    from llmctl.costs.prices import Prices
    from llmctl.costs.sections import stale

    _check(config)
    use = _use(config)
    prices = Prices(config.prices)
    found = advice.options(use, prices)
    best = found[0]
    why = list(advice.reasons(use))
    if told := stale(prices):
        why.append(told)
    console.sentence(f"best: {best.name}, about {_told(best, use)}")
    console.data()
    _print(found, use)
    console.points(why)
    if config.plot:
        _draw(config.plot, found, use)
    return {
        "best": best.name,
        "reasons": why,
        "options": [one.to_dict(use) for one in found],
        "inputs": {**to_dict(config), **use._asdict()},
    }


def _check(config: Decide) -> None:
    counts = {
        "--queries-per-day": config.queries_per_day,
        "--tokens-per-query": config.tokens_per_query,
        "--tokens-per-answer": config.tokens_per_answer,
    }
    for name, value in counts.items():
        if not 0 < value <= MOST:
            raise ConfigError(
                f"`{name}` cannot be {value:g}", hint="say one above zero, not endless"
            )
    if not 0 <= config.label_price < float("inf"):
        raise ConfigError(f"`--label-price` cannot be {config.label_price:g}")


def _use(config: Decide) -> Use:
    from llmctl.costs.advice import Use

    criteria = {name: _answer(name, getattr(config, name)) for name in QUESTIONS}
    assumed = [name for name in QUESTIONS if getattr(config, name) is None and not _can_ask()]
    if assumed:
        told = (
            f"{name.replace('_', ' ')}: {'yes' if criteria[name] else 'no'}" for name in assumed
        )
        console.note(f"not said, so assumed: {', '.join(told)}")
    return Use(
        examples=config.examples,
        queries_per_day=config.queries_per_day,
        tokens_per_query=config.tokens_per_query,
        tokens_per_answer=config.tokens_per_answer,
        owned=config.owned,
        label_price=config.label_price,
        base=config.base,
        gpu=config.gpu,
        **criteria,
    )


def _answer(name: str, given: bool | None) -> bool:
    """As the flag says; else as a person answers who sits there; else as usual."""
    question, usual = QUESTIONS[name]
    if given is not None:
        return given
    if not _can_ask():
        return usual
    prompt = f"{question}? [{'Y/n' if usual else 'y/N'}] "
    said = _typed(prompt)
    while said and said not in ANSWERS:
        said = _typed(prompt)
    return ANSWERS.get(said, usual)


def _typed(prompt: str) -> str:
    """What was typed; nothing where the input has ended."""
    try:
        return input(prompt).strip().casefold()
    except EOFError:
        console.data()
        return ""


def _can_ask() -> bool:
    is_talk = not (console.is_json or console.is_quiet)
    return is_talk and sys.stdin.isatty() and sys.stdout.isatty()


def _print(found: list[Option], use: Use) -> None:
    from llmctl.costs.sections import days, usd

    rows = [
        (
            one.name,
            usd(one.once.mid),
            usd(1000 * one.per_query.mid),
            usd(one.first_year(use).mid),
            days(one.days),
            _break_even(one),
        )
        for one in found
    ]
    columns = ("", "once", "1k queries", "first year", "ready in", "break-even, queries")
    console.table("", columns, rows, is_data=True)
    console.data()
    told = [
        (one.name, f"ruled out: {one.why_not}" if one.why_not else one.assumptions) for one in found
    ]
    console.table("assumptions", ("", ""), told, is_data=True)


def _break_even(option: Option) -> str:
    from llmctl.figures import count

    if option.name == "prompting an API":
        return "-"
    return "never" if option.break_even is None else count(option.break_even)


def _told(option: Option, use: Use) -> str:
    from llmctl.costs.sections import days, usd

    year = option.first_year(use)
    return f"{usd(year.mid)} in the first year, ready in {days(option.days)}"


def _draw(path: Path, found: list[Option], use: Use) -> None:
    from llmctl.costs.advice import DAYS_A_YEAR
    from llmctl.costs.pictures import break_even
    from llmctl.durable import write_durably

    costs = {one.name: (one.once.mid, one.per_query.mid) for one in found}
    try:
        write_durably(path, break_even(costs, queries=use.queries_per_day * DAYS_A_YEAR))
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error
    console.say(f"made {path}")
