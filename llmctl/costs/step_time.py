"""A layout -> the seconds of a step by part, and so how much slower one layout is than another.

The prior speaks of runs that were laid out well. So a layout that somebody wishes for is held
against the one that `memory.choose_layout` would take: what both have in common, the prior has
seen already. Four parts, each with one reason:

* products: FLOPs at the best share of the peak; recomputing all costs a tenth, and not a third,
  because what it saves is spent on larger micro-batches (llm-foundry's tables: 0.88 to 0.97);
* bubble: of p stages and m micro-batches, (p - 1) / m of the products (arXiv 1806.03377);
* tensor parallel: four all-reduces of the stream a layer, six where all is recomputed, not hidden
  (arXiv 1909.08053);
* gradients: reduced and gathered once a step behind the last backward pass, with ZeRO-3 all
  weights gathered twice a micro-batch and hidden behind products (arXiv 1910.02054).
"""

import math
from typing import NamedTuple

from llmctl.costs.accelerators import Accelerator, Precision
from llmctl.costs.flops import Recompute
from llmctl.costs.memory import NODE, Layout
from llmctl.costs.network import Network
from llmctl.costs.throughput import best_share

# What of a ring's bandwidth large messages reach; those of tensor parallel that leave a machine
# are small and wait for one another.
LINK_SHARE, SMALL_SHARE = 0.8, 0.4
RECOMPUTE_TIME: dict[Recompute, float] = {"none": 1.0, "selective": 1.03, "full": 1.1}
# Tokens a step of GPT-3's eight sizes: 0.5 M at 125 M parameters, 3.2 M at 175 B.
BATCH_AT, BATCH_SIZE, BATCH_POWER = 0.5e6, 125e6, 0.26
# The parts are known to a factor of about 1.5, but for the products.
DOUBT = 0.4


class StepTime(NamedTuple):
    """Seconds of a step by part; `tokens` are those of the step over all GPUs."""

    products: float
    bubble: float
    tensor: float
    gradients: float
    tokens: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.products + self.bubble + self.tensor + self.gradients


def usual_batch(network: Network) -> float:
    """Tokens a step for a model of that size."""
    return BATCH_AT * (network.active / BATCH_SIZE) ** BATCH_POWER


def step_time(
    network: Network,
    chip: Accelerator,
    layout: Layout,
    *,
    flops_per_token: float,
    precision: Precision = "bf16",
    batch_tokens: float | None = None,
) -> StepTime:
    """The seconds of a step; every replica has a micro-batch at least, however small the batch."""
    micro = layout.micro_batch * network.context
    batch = max(batch_tokens or usual_batch(network), layout.replicas * micro)
    tokens = batch / layout.replicas
    micros = max(1.0, tokens / micro)
    cut = layout.tp * layout.pp
    speed = best_share(chip)[0] * chip.peak(precision)
    products = tokens * flops_per_token / cut / speed * RECOMPUTE_TIME[layout.recompute]
    reduces = 6 if layout.recompute == "full" else 4
    stream = 2.0 * network.width * tokens * network.layers / layout.pp
    share = LINK_SHARE if layout.tp <= NODE else SMALL_SHARE
    tensor = 2 * reduces * _ring(stream, layout.tp, share * _bandwidth(chip, layout.tp, 1))
    return StepTime(
        products=products,
        bubble=(products + tensor) * (layout.pp - 1) / micros,
        tensor=tensor,
        gradients=_gradients(network, chip, layout, products=products, micros=micros),
        tokens=batch,
    )


def slowdown(wished: StepTime, usual: StepTime) -> tuple[float, float]:
    """By what factor the wished layout is slower a token than the usual one; its spread."""
    factor = wished.total / wished.tokens / (usual.total / usual.tokens)
    return factor, DOUBT * abs(math.log(factor))


def _gradients(
    network: Network, chip: Accelerator, layout: Layout, *, products: float, micros: float
) -> float:
    """What products do not hide of the traffic between replicas."""
    weights = 2.0 * network.total / (layout.tp * layout.pp)
    bandwidth = LINK_SHARE * _bandwidth(chip, layout.gpus, layout.tp)
    once = _ring(weights, layout.replicas, bandwidth)
    if layout.zero == 3:
        return max(0.0, 3 * micros * once - products)
    # Behind the backward pass of the last micro-batch, which is two thirds of its work.
    hidden = products / micros * 2 / 3
    return max(0.0, 2 * once - hidden)


def _ring(size: float, ranks: int, bandwidth: float) -> float:
    """Seconds in which each rank of a ring sends its share of `size` bytes to all others."""
    return (ranks - 1) / ranks * size / bandwidth


def _bandwidth(chip: Accelerator, chips: int, apart: int) -> float:
    """Bytes a second of rings over so many chips, each ring made of every `apart`-th of them.

    A ring leaves a machine by the network of all its chips there.
    """
    within, between = chip.links
    if chips <= NODE:
        return within
    return min(within, between * max(1, NODE // apart))
