"""The published runs that a plan resembles, with what they took and what we would have said."""

import math
from typing import NamedTuple

from llmctl.costs.accelerators import Accelerator
from llmctl.costs.batch import plan_of
from llmctl.costs.estimate import Plan, estimate
from llmctl.costs.tables import Row, number, rows

# Circular figures, energy alone, no tokens at all, or no decoder.
UNSCORED = "CDENX"
OTHER_CHIP = 0.7


class Published(NamedTuple):
    """A run that somebody published, beside our estimate of it. Hours in GPU-hours."""

    name: str
    parameters: float
    tokens: float
    chip: str
    gpus: int | None
    year: str
    hours: float
    estimated: float
    low: float
    high: float
    mfu: float
    tier: str
    source: str


def nearest(plan: Plan, *, most: int = 5) -> list[Published]:
    """The runs of the same kind that are nearest in size, tokens and chip, the nearest first."""
    is_pretraining = plan.stage == "pretrain"
    found: list[tuple[float, Row]] = []
    for row in rows("runs"):
        tokens, hours = number(row, "tokens"), number(row, "gpu_hours")
        is_alike = (row["stage"] == "pretrain") == is_pretraining
        if tokens and hours and is_alike and row["tier"] not in UNSCORED:
            found.append((_distance(plan, row, tokens), row))
    found.sort(key=lambda pair: pair[0])
    return [_told(row) for _, row in found[:most]]


def scored() -> list[Published]:
    """Every pre-training run whose hours and inputs are published, for a picture."""
    return [
        _told(row)
        for row in rows("runs")
        if row["stage"] == "pretrain" and row["tier"] not in UNSCORED
    ]


def _distance(plan: Plan, row: Row, tokens: float) -> float:
    active = number(row, "params_active") or 1.0
    size = math.log(active / plan.network.active)
    length = math.log(tokens / plan.tokens)
    return math.hypot(size, length) + OTHER_CHIP * (not _is_same(row["gpu"], plan.chip))


def _is_same(name: str, chip: Accelerator) -> bool:
    return chip.name.startswith(name.partition("-")[0])


def _told(row: Row) -> Published:
    plan, _ = plan_of(row)
    result = estimate(plan)
    hours = result.figures["gpu_hours"]
    actual = number(row, "gpu_hours") or 0.0
    gpus = number(row, "n_gpus")
    return Published(
        name=row["name"],
        parameters=plan.network.active,
        tokens=plan.tokens,
        chip=plan.chip.name,
        gpus=int(gpus) if gpus else None,
        year=row["year"],
        hours=actual,
        estimated=hours.mid,
        low=hours.low,
        high=hours.high,
        mfu=result.flops.model / (actual * 3600 * result.rate.peak),
        tier=row["tier"],
        source=row["source"],
    )
