"""Costs as PNGs: over parameters and tokens, with the published runs; over queries answered."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullLocator

from llmctl.costs import throughput
from llmctl.costs.estimate import Estimate, Plan
from llmctl.costs.flops import training_flops
from llmctl.costs.network import from_counts
from llmctl.costs.published_runs import Published
from llmctl.costs.scaling import TOKENS_PER_PARAMETER
from llmctl.figures import count
from llmctl.plots import LIGHT, Palette, blank, dress, to_png

GRID = 60
LABELLED = 20
NAME_POINTS, STAR_POINTS = 6.5, 6


def cost_plane(result: Estimate, runs: Sequence[Published], *, palette: Palette = LIGHT) -> bytes:
    """Lines of equal cost on the plan's chip, the plan, and runs that others published."""
    plan = result.plan
    figure = blank(palette)
    axes = figure.subplots()
    dress(axes, palette)
    sizes = [plan.network.active, *(run.parameters for run in runs)]
    lengths = [plan.tokens, *(run.tokens for run in runs)]
    x = np.geomspace(min(sizes) / 2, max(sizes) * 2, GRID)
    y = np.geomspace(min(lengths) / 3, max(lengths) * 3, GRID)
    # Before the lines are drawn: their labels are placed by the scales.
    axes.set_xscale("log")
    axes.set_yscale("log")
    cost = np.array([[_cost(result, parameters, tokens) for parameters in x] for tokens in y])
    low, high = math.ceil(math.log10(cost.min())), math.floor(math.log10(cost.max()))
    levels = [10.0**power for power in range(low, high + 1)]
    lines = axes.contour(x, y, cost, levels=levels, colors=palette.train, linewidths=0.9, alpha=0.7)
    axes.clabel(lines, fmt=lambda value: f"${count(value)}", fontsize=8)
    axes.plot(x, TOKENS_PER_PARAMETER * x, color=palette.rate, linewidth=1, linestyle="--",
              label="compute-optimal, 20 tokens a parameter")  # fmt: skip
    axes.scatter(sizes[1:], lengths[1:], s=14, color=palette.held_out, label="published runs")
    axes.scatter(sizes[:1], lengths[:1], s=120, marker="*", color=palette.ink, zorder=5,
                 label=f"this plan, ${count(result.figures['cost_usd'].mid)}")  # fmt: skip
    axes.set_xlim(x[0], x[-1])
    axes.set_ylim(y[0], y[-1])
    _name_runs(axes, runs, palette, apart=(plan.network.active, plan.tokens))
    told = FuncFormatter(lambda value, _: count(value))
    axes.xaxis.set_major_formatter(told)
    axes.yaxis.set_major_formatter(told)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("active parameters", color=palette.ink)
    axes.set_ylabel("tokens", color=palette.ink)
    axes.set_title(
        f"cost of the final run, rented {plan.chip.name}", color=palette.ink, fontsize=10
    )
    axes.legend(facecolor=palette.paper, edgecolor="none", labelcolor=palette.ink, fontsize=8,
                loc="lower right")  # fmt: skip
    return to_png(figure)


def _name_runs(
    axes: Axes, runs: Sequence[Published], palette: Palette, *, apart: tuple[float, float]
) -> None:
    """Write the names of the largest runs, but where one would lie on another or on a star."""
    places = {(run.parameters, run.tokens): run for run in runs}
    pixels = axes.figure.dpi / 72  # pyright: ignore[reportUnknownMemberType]
    right = axes.transAxes.transform((1, 1))[0]
    x, y = axes.transData.transform(apart)
    star = STAR_POINTS * pixels
    taken = [(x - star, x + star, y - star), (x - star, x + star, y + star / 2)]
    for run in sorted(places.values(), key=lambda run: -run.hours)[:LABELLED]:
        x, y = axes.transData.transform((run.parameters, run.tokens))
        width = (len(run.name) * 0.52 * NAME_POINTS + 4) * pixels
        is_left = x + width > right
        start = x - width if is_left else x
        height = 1.05 * NAME_POINTS * pixels
        if any(abs(y - other) < height and start < end and begin < start + width
               for begin, end, other in taken):  # fmt: skip
            continue
        taken.append((start, start + width, y))
        axes.annotate(run.name, (run.parameters, run.tokens), fontsize=NAME_POINTS,
                      color=palette.ink, xytext=(-4 if is_left else 4, 3),
                      ha="right" if is_left else "left", textcoords="offset points")  # fmt: skip


def break_even(
    costs: Mapping[str, tuple[float, float]], *, queries: float, palette: Palette = LIGHT
) -> bytes:
    """Total cost over queries for options of (fixed, per query), all in US dollars."""
    figure = blank(palette)
    axes = figure.subplots()
    dress(axes, palette)
    x = np.geomspace(max(queries / 1000, 10), queries * 100, 200)
    colors = (palette.train, palette.held_out, palette.rate, palette.ink, "#cc79a7", "#56b4e9",
              "#e69f00", "#999999")  # fmt: skip
    by_cost = sorted(costs, key=lambda name: costs[name])
    for index, (name, (fixed, each)) in enumerate(costs.items()):
        # Dashes lie on top, so that of two lines which run together both are seen.
        is_dashed = by_cost.index(name) % 2 == 1
        axes.plot(
            x,
            fixed + each * x,
            label=name,
            color=colors[index % len(colors)],
            linewidth=1.5,
            linestyle="--" if is_dashed else "-",
            zorder=3 + is_dashed,
        )
    axes.axvline(queries, color=palette.faint, linewidth=1.5)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))
    axes.yaxis.set_major_formatter(
        FuncFormatter(lambda value, _: count(value) if value >= 1 else f"{value:g}")
    )
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("queries answered (the line: one year of yours)", color=palette.ink)
    axes.set_ylabel("US dollars in all", color=palette.ink)
    axes.legend(facecolor=palette.paper, edgecolor="none", labelcolor=palette.ink, fontsize=8)
    return to_png(figure)


def _cost(result: Estimate, parameters: float, tokens: float) -> float:
    plan: Plan = result.plan
    network = from_counts(parameters, context=plan.network.context)
    work = training_flops(network, stage=plan.stage, tokens=tokens)
    gpus = throughput.typical_gpus(plan.chip, work.model, plan.stage)
    rate = throughput.prior(
        plan.chip, active=parameters, gpus=gpus, precision=plan.precision, year=plan.year
    )
    rate = throughput.for_stage(rate, plan.stage)
    hours = work.model / rate.flops_per_second / 3600
    return hours * result.rent.mid
