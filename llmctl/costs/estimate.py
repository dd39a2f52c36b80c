"""A plan of training -> what it takes: FLOPs, time, memory, energy, carbon, money, each a Quantity.

The one place where the parts of the room meet. Speaks of one run; what a project costs around it
is in `project`.
"""

import math
from typing import Any, NamedTuple

from llmctl.costs import flops as flops_of
from llmctl.costs import throughput
from llmctl.costs.accelerators import Accelerator, Precision
from llmctl.costs.energy import DEFAULT_COUNTRY, DEFAULT_PUE, carbon, country, energy
from llmctl.costs.flops import Flops, Stage
from llmctl.costs.memory import (
    Layout,
    Memory,
    check_layout,
    choose_layout,
    fits,
    memory,
    tightest_layout,
)
from llmctl.costs.network import Network
from llmctl.costs.prices import Prices, Tier
from llmctl.costs.profiles import Setting, profile
from llmctl.costs.quantity import Quantity, around, exact
from llmctl.costs.step_time import slowdown, step_time
from llmctl.costs.throughput import Knobs, Rate
from llmctl.errors import ConfigError
from llmctl.registry import suggest

FIRST_YEAR, LAST_YEAR = 2012, 2040
# More than any cluster has: a plan that needs them is none.
MOST_GPUS = 10_000_000
# The kind of price that providers ask for tuning.
TUNING = "api-tuning"
# Submissions are timed from start to stop, evaluation included, and do not fail.
BENCHMARK = "mlperf"
# Experts are fed unevenly and sent over the network, more so in some stacks than in others.
MIXTURE_DOUBT = 1.15


class Plan(NamedTuple):
    """What is to be trained, on what, and what is known of it already.

    `tokens` are those that pass the network, epochs included, `batch_tokens` those of a step. Of
    `gpus` and `days` one at most; with `days` the GPUs are found. `mfu` and `tokens_per_second`
    (over all GPUs) are measured rates, `profile` names a measured stack; a plan has one of them at
    most. `goodput` is the share of the time that it trains, `price` US dollars a GPU-hour. `doubt`
    widens the interval; `knobs` are those of the prior.
    """

    network: Network
    tokens: float
    chip: Accelerator
    stage: Stage = "pretrain"
    gpus: int | None = None
    days: float | None = None
    precision: Precision = "bf16"
    year: int | None = None
    mfu: float | None = None
    tokens_per_second: float | None = None
    profile: str | None = None
    batch_tokens: float | None = None
    goodput: float | None = None
    api: str | None = None
    price: float | None = None
    tier: Tier | None = None
    country: str = DEFAULT_COUNTRY
    pue: float = DEFAULT_PUE
    rank: int = 16
    layout: Layout = Layout()
    doubt: float = 1.0
    knobs: Knobs = Knobs()


class Estimate(NamedTuple):
    """The answer. `layout` is None where no layout that was tried fits the GPUs."""

    plan: Plan
    flops: Flops
    rate: Rate
    gpus: int
    layout: Layout | None
    memory: Memory
    figures: dict[str, Quantity]
    rent: Quantity
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The contract of `--json`."""
        rate = self.rate
        whole = around(
            rate.mfu,
            rate.spread,
            f"of the dense {rate.precision} peak",
            formula="model FLOPs / (GPU-seconds x peak), while it trains",
            source=rate.source,
        )
        return {
            **{name: one.to_dict() for name, one in self.figures.items()},
            "mfu": whole.to_dict() | {"goodput": rate.goodput, "why": list(rate.why)},
            "notes": list(self.notes),
        }


def estimate(plan: Plan, prices: Prices | None = None) -> Estimate:
    """What a plan takes; ConfigError for one that makes no sense."""
    _check(plan)
    prices = prices or Prices()
    adapter = 0.0
    if plan.stage in flops_of.ADAPTED:
        adapter = flops_of.adapter_parameters(plan.network, plan.rank)
    work = flops_of.training_flops(
        plan.network,
        stage=plan.stage,
        tokens=plan.tokens,
        recompute=plan.layout.recompute,
        adapter_parameters=adapter,
    )
    gpus = _gpus(plan, work, adapter)
    rate = _rate(plan, work, gpus)
    if plan.goodput is not None:
        rate = rate._replace(goodput=plan.goodput)
    hours = _gpu_hours(plan, work, rate)
    layout, shown = _layout(plan, gpus, adapter)
    need = memory(plan.network, stage=plan.stage, layout=shown, adapter_parameters=adapter)
    rent = _rent(plan, prices)
    notes = tuple(_notes(plan, rate, need))
    figures = _figures(plan, work, gpus, hours, need, rent)
    if plan.stage == "api":
        figures["cost_usd"] = api_price(plan, prices)
    return Estimate(
        plan=plan,
        flops=work,
        rate=rate,
        gpus=gpus,
        layout=layout,
        memory=need,
        figures=figures,
        rent=rent,
        notes=notes,
    )


def _layout(plan: Plan, gpus: int, adapter: float) -> tuple[Layout | None, Layout]:
    """The simplest layout that fits, with what is wished for in it; and it, or the tightest."""
    wish = plan.layout._replace(gpus=gpus)
    kind: dict[str, Any] = {"stage": plan.stage, "adapter_parameters": adapter, "wish": wish}
    layout = choose_layout(plan.network, plan.chip, gpus=gpus, **kind)
    return layout, layout or tightest_layout(plan.network, **kind)


def _figures(
    plan: Plan, work: Flops, gpus: int, hours: Quantity, need: Memory, rent: Quantity
) -> dict[str, Quantity]:
    per_parameter = work.per_parameter
    kilowatt_hours = energy(hours, plan.chip, plan.pue)
    return {
        "flops": Quantity(
            work.simple,
            work.simple,
            work.model_full_attention,
            "FLOP",
            f"{per_parameter:g} x active parameters x tokens; high: with all of attention",
            "arXiv 2001.08361; attention as in arXiv 2204.02311, appendix B",
        ),
        "gpu_hours": hours,
        "days": hours.scaled(1 / gpus / 24, unit="days", formula=f"GPU-hours / {gpus:,} / 24"),
        "gpus": exact(gpus, "GPUs", _why_so_many(plan), plan.chip.name),
        "cost_usd": hours.times(
            rent,
            unit="USD",
            formula=f"GPU-hours x {rent.mid:g} USD",
            source=f"rent: {rent.source}",
        ),
        "energy_kwh": kilowatt_hours,
        "tco2e": carbon(kilowatt_hours, country(plan.country)),
        "memory_per_gpu_gb": around(
            need.total,
            0.15,
            "GB",
            formula=" + ".join(need.components),
            source="arXiv 1910.02054, section 3; arXiv 2205.05198, section 4",
        ),
    }


def api_price(plan: Plan, prices: Prices) -> Quantity:
    """What a provider asks for the training tokens: the one named, or all between the ends."""
    millions = plan.tokens / 1e6
    listed = {item: prices.get(TUNING, item) for item in prices.items(TUNING)}
    if plan.api is not None:
        wanted = [item for item in listed if plan.api.casefold() in item.casefold()]
        if not wanted:
            raise ConfigError(f"no API `{plan.api}` is listed", hint=suggest(plan.api, listed))
        chosen = listed[wanted[0]]
        formula = f"{millions:,.3g} M training tokens x {chosen.quantity.mid:g} USD ({wanted[0]})"
        return chosen.quantity.scaled(millions, unit="USD", formula=formula)
    each = sorted(price.quantity.mid for price in listed.values())
    mid = each[len(each) // 2]
    formula = f"{millions:,.3g} M training tokens x {mid:g} USD, the middle of {len(each)} APIs"
    return Quantity(
        each[0] * millions, mid * millions, each[-1] * millions, "USD", formula,
        "price pages of 2026, see `tables/prices.csv`",
    )  # fmt: skip


def _check(plan: Plan) -> None:
    for name in ("tokens", "days", "gpus", "tokens_per_second", "batch_tokens", "price"):
        value = getattr(plan, name)
        if value is not None and not 0 < value < math.inf:
            raise ConfigError(f"`{_flag(name)}` cannot be {value:g}", hint="say one above zero")
    if plan.gpus is not None and plan.days is not None:
        raise ConfigError(
            "`--gpus` and `--days` are both given: each follows from the other",
            hint="leave one of them out",
        )
    rates = (plan.mfu, plan.tokens_per_second, plan.profile)
    if sum(rate is not None for rate in rates) > 1:
        raise ConfigError(
            "more than one rate is given", hint="give an MFU, tokens a second or a profile"
        )
    ranges = {
        "gpus": (plan.gpus, 1, MOST_GPUS, ""),
        "year": (plan.year, FIRST_YEAR, LAST_YEAR, ""),
        "mfu": (plan.mfu, 1e-6, 1, "; a share of the dense peak: is yours of a sparse one?"),
        "goodput": (plan.goodput, 0.01, 1, ""),
        "pue": (plan.pue, 1, 3, ""),
        "rank": (plan.rank, 1, 65_536, ""),
        "context": (plan.network.context, 1, 1e9, ""),
    }
    for name, (value, least, most, more) in ranges.items():
        if value is not None and not least <= value <= most:
            raise ConfigError(
                f"`{_flag(name)}` cannot be {value:g}",
                hint=f"it is between {least:g} and {most:g}{more}",
            )
    if plan.batch_tokens is not None and plan.batch_tokens < plan.network.context:
        raise ConfigError(
            f"a step of {plan.batch_tokens:,.0f} tokens holds no sequence of"
            f" {plan.network.context:,}",
            hint="say more `--batch-tokens`, or a shorter `--context`",
        )
    check_layout(plan.network, plan.layout)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _gpus(plan: Plan, work: Flops, adapter: float) -> int:
    """As given; else what makes the days; else what such runs take, and at least what fits."""
    if plan.gpus is not None:
        return plan.gpus
    unit = plan.layout.tp * plan.layout.pp
    if plan.days is not None:
        return _gpus_for(plan, work, unit)
    smallest = choose_layout(
        plan.network, plan.chip, stage=plan.stage, adapter_parameters=adapter, wish=plan.layout
    )
    least = smallest.gpus if smallest else 1
    if plan.stage == "pretrain":
        least = max(throughput.typical_gpus(plan.chip, work.model, plan.stage), least)
    return math.ceil(least / unit) * unit


def _gpus_for(plan: Plan, work: Flops, unit: int) -> int:
    """The fewest GPUs that finish in time: more GPUs are slower each, so counts are tried."""
    gpus = unit
    for _ in range(200):
        rate = _rate(plan, work, gpus)
        wanted = work.model / rate.flops_per_second / 86_400 / (plan.days or 1)
        if wanted <= gpus:
            return gpus
        if wanted > MOST_GPUS:
            break
        gpus = max(gpus + unit, math.ceil(wanted / unit) * unit)
    raise ConfigError(f"no number of GPUs makes it in {plan.days:g} days", hint="give it more days")


def _why_so_many(plan: Plan) -> str:
    if plan.gpus is not None:
        return "given"
    if plan.days is not None:
        return f"the fewest that make it in {plan.days:g} days"
    return "usual for such a run" if plan.stage == "pretrain" else "the fewest that hold it"


def _rate(plan: Plan, work: Flops, gpus: int) -> Rate:
    chip, precision = plan.chip, plan.precision
    if plan.tokens_per_second is not None:
        rate = throughput.measured(
            chip,
            flops_per_token=work.model / plan.tokens,
            tokens_per_second=plan.tokens_per_second,
            gpus=gpus,
            precision=precision,
            year=plan.year,
        )
        if rate.mfu > 1:
            raise ConfigError(
                f"{plan.tokens_per_second:,.0f} tokens/s on {gpus} x {chip.name} would be"
                f" {rate.mfu:.0%} of its dense peak",
                hint="is the rate of more GPUs, or the precision another?",
            )
        return rate
    if plan.mfu is not None:
        return throughput.given(chip, plan.mfu, gpus=gpus, precision=precision, year=plan.year)
    if plan.profile is not None:
        rate = profile(plan.profile, _setting(plan, gpus))
        if plan.profile == BENCHMARK:
            return rate
        return rate._replace(goodput=throughput.goodput_of(gpus, plan.year))
    rate = throughput.prior(
        chip,
        active=plan.network.active,
        gpus=gpus,
        precision=precision,
        year=plan.year,
        knobs=plan.knobs,
    )
    rate = throughput.with_attention(rate, work.attention_share)
    return _laid_out(throughput.for_stage(rate, plan.stage), plan, work, gpus)


def _laid_out(rate: Rate, plan: Plan, work: Flops, gpus: int) -> Rate:
    """The prior where the layout is not the one that would have been taken."""
    usual = plan.layout._replace(gpus=gpus, zero=0, tp=1, pp=1, recompute="none")
    if plan.layout._replace(gpus=gpus) == usual:
        return rate
    adapter = flops_of.adapter_parameters(plan.network, plan.rank)
    traits: dict[str, Any] = {
        "flops_per_token": work.model / plan.tokens,
        "precision": rate.precision,
        "batch_tokens": plan.batch_tokens,
    }
    wished, reference = (
        step_time(plan.network, plan.chip, _layout(one, gpus, adapter)[1], **traits)
        for one in (plan, plan._replace(layout=usual))
    )
    factor, spread = slowdown(wished, reference)
    return rate._replace(
        mfu=rate.mfu / factor,
        spread=math.hypot(rate.spread, spread),
        why=(*rate.why, f"x {1 / factor:.2f} for the layout"),
    )


def _setting(plan: Plan, gpus: int) -> Setting:
    return Setting(
        stage="lora" if plan.stage in flops_of.ADAPTED else "pretrain",
        active=plan.network.active,
        total=plan.network.total,
        context=plan.network.context,
        chip=plan.chip,
        gpus=gpus,
        precision=plan.chip.precision(plan.precision),
        recompute=plan.layout.recompute,
        year=plan.year,
    )


def _gpu_hours(plan: Plan, work: Flops, rate: Rate) -> Quantity:
    hours = work.model / rate.flops_per_second / 3600
    formula = (
        f"{work.model:.3g} FLOP / ({rate.peak / 1e12:,.3g} TFLOP/s dense {rate.precision}"
        f" x MFU {rate.mfu:.3f} x goodput {rate.goodput:.2f} x 3600)"
    )
    source = f"{rate.source}: {'; '.join(rate.why)}"
    doubt = plan.doubt
    if plan.network.is_mixture and rate.source == "prior":
        doubt *= MIXTURE_DOUBT
    return around(hours, rate.spread * doubt, "GPU-hours", formula=formula, source=source)


def _rent(plan: Plan, prices: Prices) -> Quantity:
    if plan.price is not None:
        return exact(plan.price, "USD/GPU-hour", "given", "given")
    return prices.rent(plan.chip, year=plan.year).at(plan.tier).quantity


def _notes(plan: Plan, rate: Rate, need: Memory):
    if rate.precision != plan.precision:
        yield f"{plan.chip.name} has no {plan.precision}: {rate.precision} is used"
    ceiling = plan.chip.ceiling
    if rate.precision in ("bf16", "fp16") and rate.mfu > ceiling:
        yield (
            f"MFU {rate.mfu:.0%} is above what a bare matrix product reaches on"
            f" {plan.chip.name} ({ceiling:.0%})"
        )
    if not fits(need, plan.chip):
        yield (
            f"does not fit: {need.needed:,.0f} GB a GPU are needed, {plan.chip.name} has"
            f" {plan.chip.memory:g}"
        )
    if plan.chip.is_generic:
        yield f"which variant is not said: {plan.chip.name} is taken, the interval is wider"
