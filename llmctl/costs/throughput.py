"""How fast a chip trains: a measured rate, or a prior of three published facts and two knobs.

The prior is a product that can be said in a breath. A single node with a model of a billion
parameters or more reaches the best share of the peak that is published for its chip (for chips
without one: two thirds of their matmul rate, less where memory is slow for the FLOPs). Smaller
models lose `small` per factor of ten; spreading over 128 GPUs or more loses `cluster`, in equal
steps per doubling from 8 on, and less the wider a model is: what a layer sends grows with its
width, what it computes with the square, so that the loss falls as the cube root of the size. What
is lost to failures, restarts and evaluation is goodput, and published. The two knobs and the spread
are fitted by `tests/benchmarks/cost_score.py`.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

from llmctl.costs.accelerators import Accelerator, Precision
from llmctl.costs.flops import Stage

RateSource = Literal["measured", "profile", "prior", "given"]

# MPT on A100-80, A100-40 and H100 (llm-foundry): 0.58, 0.52 and 0.42 of the peak. All three are
# within 3 % of 0.67 x matmul ceiling x (bytes per FLOP / 6.5)^0.37.
BEST_OF_CEILING = 0.67
EASY_BYTES_PER_FLOP = 6.5e-3
BANDWIDTH_POWER = 0.37
NODE, CLUSTER = 8, 128
BILLION = 1e9
# Llama 3 405B: above 0.9 (arXiv 2407.21783); with evaluation and repeated steps 0.86. OPT-175B and
# the clusters of its time: 0.7 (arXiv 2205.01068).
NODE_GOODPUT, CLUSTER_GOODPUT, EARLY_GOODPUT, EARLY_YEAR = 0.97, 0.86, 0.7, 2021
# FP8 against bf16: 1.28 (torchtitan, Llama 3.1 8B), 1.08 to 1.35 (llm-foundry); fp4: MLPerf v5.1.
SPEED = {"bf16": 1.0, "fp16": 1.0, "fp8": 1.3, "fp4": 1.6, "tf32": 1.0, "fp32": 1.0}
# Attention against matrix products in 16 bits: FlashAttention-2 reaches 335 of 989 TFLOP/s on an
# H100 (arXiv 2307.08691), training 420. It gains nothing from fp8.
ATTENTION_SPEED = 0.8
PCIE_SHARE = 0.6  # L40S in MLPerf v4.0, against its formula
# Against pre-training on the same chips: LoRA has no gradients of the weights to share (47 MLPerf
# runs); QLoRA unpacks its weights and computes activations twice (70B on five kinds of machines).
STAGE_SPEED: Mapping[Stage, float] = {"lora": 1.2, "api": 1.2, "qlora": 0.65}
STAGE_DOUBT: Mapping[Stage, float] = {
    "lora": 1.2, "api": 1.2, "qlora": 1.3, "full": 1.6, "prefer": 1.6,
}  # fmt: skip


class Knobs(NamedTuple):
    """What was fitted: natural logarithms."""

    small: float = 0.30
    cluster: float = 0.57
    spread: float = 0.32


class Rate(NamedTuple):
    """What share of `peak` (dense FLOP/s) training keeps.

    `mfu` is steady, without interruptions; `goodput` what share of the time is steady training.
    The 80 % interval of their product is e^±`spread`; `why` are the factors, in words.
    """

    mfu: float
    goodput: float
    peak: float
    precision: Precision
    spread: float
    source: RateSource
    why: tuple[str, ...]

    @property
    def flops_per_second(self) -> float:
        """Model FLOPs a GPU and second over the whole run."""
        return self.mfu * self.goodput * self.peak


def best_share(chip: Accelerator) -> tuple[float, str]:
    """The share of the 16-bit peak that a well-tuned single node reaches, and its origin."""
    if chip.steady:
        return chip.steady, chip.steady_source
    bytes_per_flop = chip.bandwidth * 1e9 / chip.half_peak
    fed = min(1.0, bytes_per_flop / EASY_BYTES_PER_FLOP) ** BANDWIDTH_POWER
    return BEST_OF_CEILING * chip.ceiling * fed, "from its matmul rate and memory bandwidth"


def spread_out(gpus: float) -> float:
    """How much of a cluster that many GPUs are: 0 for a node, 1 from 128 on, even per doubling."""
    share = math.log2(max(gpus, 1) / NODE) / math.log2(CLUSTER / NODE)
    return min(max(share, 0.0), 1.0)


def lost_by_spreading(active: float, gpus: float) -> float:
    """What a model of that size on so many GPUs loses, as a share of what one of a billion does.

    All of it from 128 GPUs on; a model is about as wide as the cube root of its size.
    """
    return spread_out(gpus) * min(1.0, (BILLION / active) ** (1 / 3))


def goodput_of(gpus: float, year: int | None) -> float:
    """The share of the time that is steady training."""
    is_early = year is not None and year <= EARLY_YEAR
    share = spread_out(gpus)
    return NODE_GOODPUT ** (1 - share) * (EARLY_GOODPUT if is_early else CLUSTER_GOODPUT) ** share


def prior(
    chip: Accelerator,
    *,
    active: float,
    gpus: float,
    precision: Precision = "bf16",
    year: int | None = None,
    knobs: Knobs | None = None,
) -> Rate:
    """The rate to expect of a chip where nothing was measured."""
    knobs = knobs or Knobs()
    used = chip.precision(precision)
    share, origin = best_share(chip)
    small = math.exp(-knobs.small * max(0.0, math.log10(BILLION / active)))
    apart = math.exp(-knobs.cluster * lost_by_spreading(active, gpus))
    is_half = used in ("bf16", "fp16")
    peak = chip.peak(used)
    share_of_peak = share * SPEED[used]
    if used in ("fp8", "fp4"):
        share_of_peak *= chip.half_peak / peak
    links = PCIE_SHARE if gpus > 1 and not chip.has_fast_links else 1.0
    why = [f"{share:.0%} of the 16-bit peak on one node ({origin})"]
    if not is_half:
        why.append(f"x {SPEED[used]:g} in {used}")
    if small < 0.995:
        why.append(f"x {small:.2f} for a small model")
    if apart < 0.995:
        why.append(f"x {apart:.2f} spread over {gpus:,.0f} GPUs")
    if links < 1:
        why.append(f"x {links:g} for PCIe between the GPUs")
    return Rate(
        mfu=share_of_peak * small * apart * links,
        goodput=goodput_of(gpus, year),
        peak=peak,
        precision=used,
        spread=knobs.spread * _doubt(chip, year),
        source="prior",
        why=tuple(why),
    )


def with_attention(rate: Rate, share: float) -> Rate:
    """The rate where attention over the context has that share of the FLOPs.

    If products alone took 1, both take 1 - share and share over attention's own speed.
    """
    slowed = 1 / (1 + share * (SPEED[rate.precision] / ATTENTION_SPEED - 1))
    told = (f"x {slowed:.2f} for attention over the context",) if slowed < 0.995 else ()
    return rate._replace(mfu=rate.mfu * slowed, why=(*rate.why, *told))


def for_stage(rate: Rate, stage: Stage) -> Rate:
    """The prior of pre-training turned to another kind of training."""
    speed = STAGE_SPEED.get(stage, 1.0)
    name = "QLoRA" if stage == "qlora" else "LoRA"
    return rate._replace(
        mfu=rate.mfu * speed,
        spread=rate.spread * STAGE_DOUBT.get(stage, 1.0),
        why=(*rate.why, f"x {speed:g} for {name}") if speed != 1 else rate.why,
    )


def _doubt(chip: Accelerator, year: int | None) -> float:
    """How much wider the interval is than that of a known chip of our days."""
    doubt = 1.0
    if not chip.steady:
        doubt *= 1.15
    if chip.is_generic:
        doubt *= 1.1
    if year is not None and year <= EARLY_YEAR:
        doubt *= 1.15
    return doubt


def failures(gpu_hours: float, gpus: float) -> Iterator[tuple[str, float]]:
    """What a run of that size meets: interruptions, checkpoints between them, hours lost.

    One stop in 51,000 GPU-hours (Llama 3 405B: 419 in 54 days on 16,384 GPUs); the interval by
    Young and Daly, sqrt(2 x save time x time between failures), with a save of one minute.
    """
    stops = gpu_hours / 51_000
    hours_between = 51_000 / gpus
    interval = math.sqrt(2 * (1 / 60) * hours_between)
    restart = 0.25
    yield "interruptions expected", stops
    yield "hours between interruptions", hours_between
    yield "best minutes between checkpoints", 60 * interval
    yield "hours lost to interruptions", stops * (interval / 2 + restart)


def measured(
    chip: Accelerator, *, flops_per_token: float, tokens_per_second: float, gpus: float,
    precision: Precision = "bf16", year: int | None = None,
) -> Rate:  # fmt: skip
    """The rate of a run whose speed was measured, in tokens a second over all GPUs."""
    used = chip.precision(precision)
    mfu = tokens_per_second * flops_per_token / gpus / chip.peak(used)
    why = (f"{tokens_per_second:,.0f} tokens/s measured on {gpus:,.0f} x {chip.name}",)
    return Rate(
        mfu=mfu, goodput=goodput_of(gpus, year), peak=chip.peak(used), precision=used,
        spread=0.07, source="measured", why=why,
    )  # fmt: skip


def given(
    chip: Accelerator, mfu: float, *, gpus: float, precision: Precision = "bf16",
    year: int | None = None,
) -> Rate:  # fmt: skip
    """The rate of an MFU that somebody vouches for."""
    used = chip.precision(precision)
    return Rate(
        mfu=mfu, goodput=goodput_of(gpus, year), peak=chip.peak(used), precision=used,
        spread=0.10, source="given", why=(f"MFU {mfu:.0%} as given",),
    )  # fmt: skip


def typical_gpus(chip: Accelerator, flops: float, stage: Stage) -> int:
    """How many GPUs such a run takes where nobody says: done in a month, a node at least.

    Fine-tuning takes a node where it is done there in a week.
    """
    days = 30 if stage == "pretrain" else 7
    share = best_share(chip)[0] * 0.7
    wanted = flops / (share * chip.half_peak * days * 86_400)
    return max(NODE, 2 ** math.ceil(math.log2(max(wanted, 1))))
