"""A software stack that was measured -> the rate to expect of it elsewhere.

Each measured run says by how much it beats or misses the prior of a single node. The rows that
are like the plan in size, context, chip, count, precision and year are averaged, the nearer the
weightier, and the mean corrects the prior.
"""

import functools
import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from llmctl.costs.accelerators import Accelerator, Precision, accelerator
from llmctl.costs.flops import Flops, Recompute, Stage, training_flops
from llmctl.costs.network import from_counts
from llmctl.costs.step_time import RECOMPUTE_TIME
from llmctl.costs.tables import Row, number, rows
from llmctl.costs.throughput import Rate, prior, with_attention
from llmctl.errors import ConfigError
from llmctl.registry import suggest

# How far apart two runs may be and still speak for each other, in natural logarithms and years;
# and how much weight another chip, kind of training, precision or recompute costs.
REACH = {"active": 1.2, "context": 0.7, "gpus": 1.0, "year": 0.7}
OTHER_CHIP, OTHER_STAGE, OTHER_PRECISION, OTHER_RECOMPUTE = 4.0, 4.0, 2.0, 1.0
LEAST_WEIGHT = 1e-9
SPREAD = 0.13
# Rows that do not say their precision (MLPerf) ran in the lowest that their chip had.
UNSAID: Precision = "fp8"


class Setting(NamedTuple):
    """What makes two runs alike; nothing is held against a year or a recompute that is not said."""

    stage: Stage
    active: float
    total: float
    context: int
    chip: Accelerator
    gpus: float
    precision: Precision
    recompute: Recompute | None
    year: int | None

    def distance(self, other: "Setting") -> float:
        """0 for runs that should be equally fast; weights fall as e^-distance."""
        apart = 0.0
        for name, reach in REACH.items():
            mine, its = getattr(self, name), getattr(other, name)
            if mine is None or its is None:
                continue
            gap = mine - its if name == "year" else math.log(mine / its)
            apart += (gap / reach) ** 2
        apart += OTHER_CHIP * (self.chip.name != other.chip.name)
        apart += OTHER_STAGE * (self.stage != other.stage)
        apart += OTHER_PRECISION * (self.precision != other.precision)
        is_other = None not in (self.recompute, other.recompute)
        return apart + OTHER_RECOMPUTE * (is_other and self.recompute != other.recompute)

    @property
    def simple_rate(self) -> Rate:
        """The prior of a single node: what a measurement is held against."""
        rate = prior(
            self.chip._replace(is_generic=False),
            active=self.active,
            gpus=1,
            precision=self.precision,
        )
        rate = with_attention(rate, self.work.attention_share)
        slowed = RECOMPUTE_TIME[self.recompute or "none"]
        return rate._replace(mfu=rate.mfu / slowed, goodput=1.0)

    @property
    def work(self) -> Flops:
        """The FLOPs of a token, for a network of which only the size is known."""
        network = from_counts(self.total, active=self.active, context=self.context)
        return training_flops(network, stage=self.stage, tokens=1)


class Sample(NamedTuple):
    """A measured run: its setting and how it compares with the prior, as a logarithm."""

    stack: str
    model: str
    setting: Setting
    gain: float


@functools.cache
def samples(stack: str) -> tuple[Sample, ...]:
    """The measured runs of a stack; ConfigError for one that is not in the table."""
    known = dict.fromkeys(row["stack"] for row in rows("throughput"))
    if stack not in known:
        raise ConfigError(f"no profile of `{stack}` is known", hint=suggest(stack, known))
    return tuple(_sample(row) for row in rows("throughput") if row["stack"] == stack)


def profile(stack: str, setting: Setting, *, known: Iterable[Sample] | None = None) -> Rate:
    """The rate that a stack is to reach in a setting, goodput 1.

    `known` replaces the rows of the table, as where a family is held out.
    """
    found = samples(stack) if known is None else tuple(known)
    nearest = min(one.setting.distance(setting) for one in found)
    total = gain = 0.0
    for one in found:
        weight = math.exp(nearest - one.setting.distance(setting))
        if weight > LEAST_WEIGHT:
            total += weight
            gain += weight * one.gain
    closest = min(found, key=lambda one: one.setting.distance(setting))
    rate = setting.simple_rate
    return rate._replace(mfu=rate.mfu * math.exp(gain / total),
        spread=SPREAD * math.sqrt(1 + nearest),
        source="profile",
        why=(f"{stack} as measured, nearest {closest.model} on {closest.setting.gpus:g} x"
             f" {closest.setting.chip.name}",),
    )  # fmt: skip


def stacks() -> Iterator[str]:
    """The stacks that have a profile."""
    yield from dict.fromkeys(row["stack"] for row in rows("throughput"))


def _sample(row: Row) -> Sample:
    chip = accelerator(row["gpu"])
    stage: Stage = "lora" if row["stage"] == "lora" else "pretrain"
    precision: Precision = UNSAID
    if row["precision"]:
        precision = "fp8" if row["precision"] == "fp8" else "bf16"
    recompute: Recompute | None = None
    for one in RECOMPUTE_TIME:
        if row["recompute"] == one:
            recompute = one
    setting = Setting(
        stage=stage,
        active=float(row["active"]),
        total=float(row["total"]),
        context=int(row["context"]),
        chip=chip,
        gpus=float(row["gpus"]),
        precision=chip.precision(precision),
        recompute=recompute,
        year=int(row["year"]),
    )
    per_second = number(row, "tokens_per_second_per_gpu") or 0.0
    achieved = per_second * setting.work.model
    return Sample(
        row["stack"],
        row["model"],
        setting,
        math.log(achieved / setting.simple_rate.flops_per_second),
    )
