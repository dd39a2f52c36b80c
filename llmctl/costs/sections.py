"""An estimate -> titled tables of short text: the summary first, then what stands behind it.

Knows no terminal: `stages/estimate_cost.py` prints what this returns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from llmctl.costs import throughput
from llmctl.costs.accelerators import accelerators
from llmctl.costs.energy import country
from llmctl.costs.estimate import TUNING, Estimate, Plan, api_price, estimate
from llmctl.costs.flops import ADAPTED, adapter_parameters
from llmctl.costs.memory import fits, memory, smallest_layouts
from llmctl.costs.prices import Prices
from llmctl.costs.project import PRETRAIN_RUNS, Line, project
from llmctl.costs.scaling import SOURCE as LOSS_SOURCE
from llmctl.figures import count
from llmctl.registry import load

if TYPE_CHECKING:
    from llmctl.costs.budget import Affordable
    from llmctl.costs.published_runs import Published
    from llmctl.costs.quantity import Quantity
    from llmctl.costs.story import Story

SPANS = (("years", 365.25, 2), ("days", 1, 1.95), ("hours", 1 / 24, 1.95), ("minutes", 1 / 1440, 1))
ALTERNATIVES = ("A100-SXM-80GB", "H100-SXM-80GB", "B200-SXM")
CHANGES = "what would change it"
VERBS = {
    "pretrain": "Pre-training",
    "full": "Fine-tuning all of",
    "lora": "LoRA on",
    "qlora": "QLoRA on",
    "prefer": "Preference tuning of",
    "api": "Fine-tuning by API, like LoRA on",
}


class Section(NamedTuple):
    """A table: its title, the names of its columns, its rows of text."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def headline(plan: Plan, gpus: int) -> str:
    """What is estimated, in a line."""
    network = plan.network
    size = f"{count(network.total)} parameters"
    if network.is_mixture:
        size += f" ({count(network.active)} active)"
    name = "" if network.name.endswith("parameters") else f"{network.name}, "
    what = f"{VERBS[plan.stage]} {name}{size} with {count(plan.tokens)} tokens"
    machines = f"{gpus:,} x {plan.chip.name}"
    if plan.stage == "api":
        return f"{what}; all but the money as on {machines}"
    return f"{what} on {machines}"


def summary(result: Estimate, lines: Sequence[Line]) -> Section:
    """What a manager reads."""
    figures, plan = result.figures, result.plan
    whole = project(list(lines))
    fit = str(result.layout) if result.layout else "does not fit in any layout that was tried"
    rate = result.rate
    source = "the API's price" if plan.stage == "api" else "rent of the run"
    rows = [
        ("money", usd(figures["cost_usd"].mid), between(figures["cost_usd"], usd),
         f"{source}; whole project {usd(whole.mid)}"),
        ("time", days(figures["days"].mid), between(figures["days"], days),
         f"{hours(figures['gpu_hours'].mid)} GPU-hours"),
        ("energy", kwh(figures["energy_kwh"].mid), between(figures["energy_kwh"], kwh),
         f"{tonnes(figures['tco2e'].mid)} CO2e, {country(plan.country)['country']}"),
        ("memory", f"{gigabytes(result.memory.total)} a GPU", f"of {plan.chip.memory:g} GB", fit),
        ("speed", f"{rate.mfu:.0%} MFU", f"{rate.source}, ±{rate.spread:.0%}",
         f"and {rate.goodput:.0%} of the time"),
    ]  # fmt: skip
    return Section("", ("", "estimate", "80 % interval", ""), rows)


def compute(result: Estimate) -> Section:
    """FLOPs in both conventions."""
    work, plan = result.flops, result.plan
    rows = [
        (f"{work.per_parameter:g} x parameters x tokens", f"{work.simple:.3g}"),
        (f"with causal attention (context {plan.network.context:,})", f"{work.model:.3g}"),
        ("with all of attention, as in PaLM", f"{work.model_full_attention:.3g}"),
        ("computed by the hardware, recompute included", f"{work.hardware:.3g}"),
        ("attention's share", f"{work.attention_share:.1%}"),
    ]
    return Section("compute", ("", "FLOP"), rows)


def time(result: Estimate) -> Section:
    """How the hours come about, and what interrupts them."""
    rate, took = result.rate, result.figures["gpu_hours"]
    per_gpu = rate.flops_per_second / rate.goodput / (result.flops.model / result.plan.tokens)
    rows = [
        (f"dense {rate.precision} peak", f"{rate.peak / 1e12:,.3g} TFLOP/s"),
        (f"MFU ({rate.source})", f"{rate.mfu:.1%}"),
        ("tokens a second and GPU, while it trains", f"{per_gpu:,.0f}"),
        ("goodput: share of the time that it trains", f"{rate.goodput:.0%}"),
        ("GPU-hours", f"{hours(took.mid)}, {between(took, hours)}"),
    ]
    if result.gpus >= 64:
        told = dict(throughput.failures(took.mid, result.gpus))
        rows += [(name, f"{value:,.3g}" if value < 1000 else f"{value:,.0f}")
                 for name, value in told.items()]  # fmt: skip
    return Section("time", ("", ""), rows)


def memories(result: Estimate) -> Section:
    """Memory by component, then the smallest layouts that hold it."""
    plan, chip = result.plan, result.plan.chip
    rows = [(name, gigabytes(size)) for name, size in result.memory.components.items() if size]
    rows.append(("needed, with context and fragmentation", f"{result.memory.needed:,.1f} GB"))
    adapter = adapter_parameters(plan.network, plan.rank)
    adapter = adapter if plan.stage in ADAPTED else 0.0
    one = memory(
        plan.network, stage=plan.stage, layout=plan.layout._replace(gpus=1, zero=0, tp=1, pp=1),
        adapter_parameters=adapter,
    )  # fmt: skip
    if not fits(one, chip):
        rows.append((f"one {chip.name} does not hold it", f"{one.needed:,.0f} GB"))
    found = smallest_layouts(
        plan.network, chip, stage=plan.stage, adapter_parameters=adapter, wish=plan.layout
    )
    rows += [(f"fits: {layout}", f"{need.needed:,.0f} GB") for layout, need in found[:4]]
    return Section(f"memory per GPU ({result.layout or 'no layout fits'})", ("", ""), rows)


def money(lines: Sequence[Line]) -> Section:
    """The final run, then the project."""
    rows = [
        (line.name, usd(line.cost.mid), between(line.cost, usd), "yes" if line.in_sum else "")
        for line in lines
    ]
    whole = project(list(lines))
    rows.append(("whole project", usd(whole.mid), between(whole, usd), ""))
    return Section("money", ("", "USD", "80 % interval", "in the project"), rows)


def changes(result: Estimate, prices: Prices) -> Section:
    """The same work done otherwise: what would change the figures most."""
    plan = result.plan
    if plan.stage == "api":
        apis = ((name, api_price(plan._replace(api=name), prices)) for name in prices.items(TUNING))
        return Section(CHANGES, ("", "money"), [(name, usd(cost.mid)) for name, cost in apis])
    others: list[tuple[str, Plan]] = [
        (f"on {name}", plan._replace(chip=accelerators()[name], price=None))
        for name in ALTERNATIVES
        if name != plan.chip.name and not plan.mfu and not plan.tokens_per_second
    ]
    if "fp8" in plan.chip.peaks and result.rate.precision == "bf16" and not plan.mfu:
        others.append(("in fp8", plan._replace(precision="fp8")))
    if plan.gpus and plan.gpus >= 2 and not plan.tokens_per_second:
        others.append(("on half the GPUs", plan._replace(gpus=plan.gpus // 2)))
    others.append(("in France", plan._replace(country="FRA")))
    rows = [
        (name, usd(other["cost_usd"].mid), days(other["days"].mid),
         f"{other['gpus'].mid:,.0f}", tonnes(other["tco2e"].mid))
        for name, other in ((name, estimate(one, prices).figures) for name, one in _sane(others))
    ]  # fmt: skip
    return Section(CHANGES, ("", "money", "time", "GPUs", "CO2e"), rows)


def _sane(others: Iterable[tuple[str, Plan]]) -> Iterator[tuple[str, Plan]]:
    """A layout that the user fixed may be none for other GPUs."""
    for name, plan in others:
        unit = plan.layout.tp * plan.layout.pp
        if plan.gpus is None or plan.gpus % unit == 0:
            yield name, plan


def provenance(result: Estimate) -> Section:
    """Each figure with its formula and where its numbers are from."""
    rows = [
        (name, f"{one.formula}. {one.source}" if one.source else one.formula)
        for name, one in result.figures.items()
    ]
    return Section("where it comes from", ("", ""), rows)


def comparison(runs: Sequence[Published]) -> Section:
    """Published runs beside what we would have said of them."""
    rows = [
        (one.name, f"{count(one.parameters)} x {count(one.tokens)}", one.chip.split("-")[0],
         hours(one.hours), hours(one.estimated), f"{one.estimated / one.hours:.2f}x",
         f"{one.mfu:.0%}")
        for one in runs
    ]  # fmt: skip
    columns = ("", "size x tokens", "chip", "GPU-hours", "ours", "off", "MFU")
    return Section("the nearest published runs (MFU over the whole run)", columns, rows)


def story(told: Story) -> Iterator[Section]:
    """The classic table of GPT-3, what contradicts what, the ratio."""
    rows = [
        (one.what, one.said, (usd if one.ours.unit == "USD" else days)(one.ours.mid),
         between(one.ours, usd if one.ours.unit == "USD" else days), one.verdict)
        for one in told.claims
    ]  # fmt: skip
    columns = ("the story says", "", "ours", "80 % interval", "")
    yield Section("GPT-3, 175 B parameters, 300 B tokens", columns, rows)
    yield Section("cannot both be true", ("", ""), told.contradictions)
    ratio = told.ratio
    value = f"{ratio.mid:,.0f}x, {ratio.low:,.0f}x to {ratio.high:,.0f}x"
    yield Section("", ("", ""), [("pre-training : fine-tuning, computed", value)])


def affordable(found: Affordable) -> Section:
    """What a budget buys."""
    result = found.estimate
    figures, plan = result.figures, result.plan
    rows = [
        ("parameters", count(plan.network.active), "compute-optimal with its tokens"),
        ("tokens", count(plan.tokens), f"{plan.tokens / plan.network.active:.0f} a parameter"),
        ("loss to expect", f"{found.loss:.2f}", f"nats a token; {LOSS_SOURCE}"),
        ("machines", f"{result.gpus:,}", f"{plan.chip.name} for {days(figures['days'].mid)}"),
        ("final run", usd(figures["cost_usd"].mid), between(figures["cost_usd"], usd)),
        ("all runs", usd(figures["cost_usd"].mid * PRETRAIN_RUNS.mid),
         f"{PRETRAIN_RUNS.mid:g} times that, as in {PRETRAIN_RUNS.source}"),
        ("who spends that", "", found.who),
    ]  # fmt: skip
    return Section(f"{usd(found.budget)} train", ("", "", ""), rows)


def against(result: Estimate, facts: Mapping[str, Any]) -> Section:
    """An estimate beside a finished run of the workspace."""
    took, plan = result.figures["gpu_hours"], result.plan
    seconds = took.scaled(3600 / result.gpus)
    rate = plan.tokens / seconds.mid
    rows = [
        ("seconds", f"{seconds.mid:,.3g}", f"{facts['seconds']:,.3g}",
         f"{seconds.mid / facts['seconds']:.2f}x"),
        ("  80 % interval", f"{seconds.low:,.3g} - {seconds.high:,.3g}", "",
         "inside" if seconds.low <= facts["seconds"] <= seconds.high else "outside"),
        ("tokens a second", f"{rate:,.0f}", f"{facts['tokens_per_second']:,.0f}",
         f"{rate / facts['tokens_per_second']:.2f}x"),
        ("parameters", f"{plan.network.total:,.0f}", f"{facts['parameters']:,}",
         f"{plan.network.total / facts['parameters']:.4f}x"),
        ("MFU of its measured products", f"{result.rate.mfu:.1%}", f"{facts['mfu']:.1%}", ""),
    ]  # fmt: skip
    title = f"{plan.network.name}: estimated as if before the run, and measured"
    return Section(title, ("", "estimated", "measured", "off"), rows)


def stale(prices: Prices, year: int | None = None) -> str:
    """What to say of old prices, today or at the end of a year that has passed."""
    date = load("datetime:date")
    today = date.today()
    return prices.stale(min(today, date(year, 12, 31)) if year else today)


def usd(value: float) -> str:
    """Money, short.

    >>> usd(4_600_000), usd(12.4), usd(0.031)
    ('$4.6 M', '$12', '$0.03')
    """
    if value < 10:
        return f"${value:.2f}" if value >= 0.005 or not value else "<$0.01"
    return f"${count(value)}"


def days(value: float) -> str:
    """A span of time in the unit that suits it.

    >>> days(12), days(7), days(1), days(0.012), days(2e-6)
    ('12 days', '7 days', '24 hours', '17 minutes', '0.17 seconds')
    """
    for unit, size, least in SPANS:
        if value / size >= least:
            number = value / size
            digits = f"{number:,.0f}" if number >= 9.95 else f"{number:.1f}".removesuffix(".0")
            return f"{digits} {unit}"
    return f"{value * 86_400:.2g} seconds"


def hours(value: float) -> str:
    """GPU-hours: whole ones where there are many.

    >>> hours(0.334), hours(3.58), hours(3_552_000)
    ('0.33', '3.6', '3.6 M')
    """
    if value < 10:
        return f"{value:.2g}"
    return count(value)


def gigabytes(value: float) -> str:
    """Memory, in MB where it is little.

    >>> gigabytes(12.34), gigabytes(0.0351)
    ('12.3 GB', '35 MB')
    """
    return f"{value:,.1f} GB" if value >= 0.1 else f"{value * 1000:.2g} MB"


def kwh(value: float) -> str:
    """Energy in the unit that suits it."""
    for unit, size in (("TWh", 1e9), ("GWh", 1e6), ("MWh", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g} kWh"


def tonnes(value: float) -> str:
    """Carbon in tonnes, kilograms or grams."""
    if value >= 1:
        return f"{value:,.0f} t" if value >= 10 else f"{value:.1f} t"
    return f"{value * 1e3:.3g} kg" if value >= 1e-3 else f"{value * 1e6:.3g} g"


def between(quantity: Quantity, tell: Callable[[float], str]) -> str:
    """The interval, the unit said once where both ends have the same."""
    low, high = tell(quantity.low), tell(quantity.high)
    number, _, unit = low.rpartition(" ")
    if number and high.endswith(f" {unit}"):
        return f"{number} - {high.removeprefix('$')}"
    return f"{low} - {high}"
