"""A network, a kind of training and a layout -> gigabytes per GPU by component, and what fits.

States as in ZeRO (arXiv 1910.02054, section 3) and activations tensor by tensor as in Korthikanti
et al. (arXiv 2205.05198, section 4), with the real width of gated MLPs and with flash attention.
All in GB of 1e9 bytes, as an allocator counts them; `fits` leaves room for what it does not count.
"""

import itertools
from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

from llmctl.costs.accelerators import Accelerator
from llmctl.costs.flops import ADAPTED, Recompute, Stage
from llmctl.costs.network import Network
from llmctl.errors import ConfigError

Optimizer = Literal["adamw", "adamw-8bit", "adamw-bf16", "adamw-bf16-8bit", "adamw-paged", "muon"]

# Bytes a trained parameter: weight, gradient, master and moments. With `bf16` there is no float32
# master; what is paged waits in the host's memory.
STATES: Mapping[Optimizer, tuple[float, float, float]] = {
    "adamw": (2, 2, 12),
    "adamw-8bit": (2, 2, 6),
    "adamw-bf16": (2, 2, 4),
    "adamw-bf16-8bit": (2, 2, 2),
    "adamw-paged": (2, 2, 0),
    "muon": (2, 2, 8),
}
# NF4 with its absolute maxima per block of 64; 0.52 where these are quantised again.
NF4_BYTES = 0.56
# Logits in 16 bits, in float32 for the loss, and their gradient.
LOGIT_BYTES = 8
# Hugging Face's loss, not fused: shifted copies and log-probabilities in float32 as well. And what
# PEFT widens to float32 beside four-bit weights: the embedding and the head.
UNFUSED_LOGIT_BYTES, WIDENED = 18, 2
# litgpt's QLoRA against its LoRA at equal length: weights unpacked for each product stay a while.
QLORA_ACTIVATIONS = 1.3
# The CUDA context, collectives and kernels; and what the allocator loses between its blocks.
CONTEXT_GB = 1.5
FRAGMENTATION = 1.07
NODE = 8


class Layout(NamedTuple):
    """How a run is laid over its GPUs. `micro_batch` counts sequences on a GPU at a time.

    `loads_whole`: every GPU holds all weights before they are cut, as older frameworks load.
    `in_backward`: each gradient is used and dropped as soon as it is there.
    """

    gpus: int = 1
    zero: int = 0
    tp: int = 1
    pp: int = 1
    micro_batch: int = 1
    recompute: Recompute = "none"
    optimizer: Optimizer = "adamw"
    chunked_loss: bool = False
    loads_whole: bool = False
    in_backward: bool = False

    @property
    def replicas(self) -> int:
        """The data-parallel degree: by this, and not by all GPUs, ZeRO divides."""
        return self.gpus // (self.tp * self.pp)

    def __str__(self) -> str:
        parts = [f"{self.gpus:,} GPU{'s' * (self.gpus > 1)}"]
        parts += [f"ZeRO-{self.zero}"] * bool(self.zero)
        parts += [f"TP {self.tp}"] * (self.tp > 1) + [f"PP {self.pp}"] * (self.pp > 1)
        parts += {"none": [], "selective": ["selective recompute"], "full": ["full recompute"]}[
            self.recompute
        ]
        return ", ".join(parts)


class Memory(NamedTuple):
    """GB per GPU by component, and while weights are loaded; `total` is the allocator's peak.

    `reserve` is what a stack holds besides that is not tuned for memory.
    """

    components: Mapping[str, float]
    loading: float = 0.0
    reserve: float = 0.0

    @property
    def total(self) -> float:
        """The peak of the allocations."""
        return max(sum(self.components.values()), self.loading)

    @property
    def needed(self) -> float:
        """What the card must have, to be on the safe side."""
        peak = max(sum(self.components.values()) + self.reserve, self.loading)
        return peak * FRAGMENTATION + CONTEXT_GB


def check_layout(network: Network, layout: Layout) -> None:
    """ConfigError for a layout that nothing can have, or not this network."""
    _check_counts(layout)
    if layout.pp > network.layers:
        raise ConfigError(
            f"{network.layers} layers cannot be cut into {layout.pp} pipeline stages",
            hint=f"take at most {network.layers}",
        )
    if network.is_exact and network.heads % layout.tp:
        raise ConfigError(
            f"{network.heads} heads cannot be cut over {layout.tp} GPUs (tp)",
            hint=f"`--tp` must divide {network.heads}",
        )


def _check_counts(layout: Layout) -> None:
    counts = {
        "--tp": layout.tp,
        "--pp": layout.pp,
        "--micro-batch": layout.micro_batch,
        "--gpus": layout.gpus,
    }
    for name, value in counts.items():
        if value < 1:
            raise ConfigError(f"`{name}` cannot be {value}", hint="it must be at least 1")
    if not 0 <= layout.zero <= 3:
        raise ConfigError(f"there is no ZeRO stage {layout.zero}", hint="it is 0, 1, 2 or 3")
    if layout.gpus % (layout.tp * layout.pp):
        raise ConfigError(
            f"{layout.gpus} GPUs cannot be cut into {layout.tp} x {layout.pp} (tp x pp)",
            hint=f"take a multiple of {layout.tp * layout.pp} GPUs",
        )
    if layout.zero >= 2 and layout.pp > 1:
        raise ConfigError(
            f"ZeRO {layout.zero} with {layout.pp} pipeline stages would gather gradients at every"
            " micro-batch",
            hint="take ZeRO 1 with pipeline stages, or no pipeline",
        )


def memory(
    network: Network, *, stage: Stage, layout: Layout, adapter_parameters: float = 0.0
) -> Memory:
    """The memory of one GPU, the fullest one of a pipeline."""
    shared = layout.tp * layout.pp
    held = network.total / shared
    tables = min(network.vocabulary * network.width * (1 if network.tied else 2), network.total / 2)
    components: dict[str, float] = {}
    weight, gradient, moments = STATES[layout.optimizer]
    trained = held
    if stage in ADAPTED:
        trained = adapter_parameters / shared
        frozen = 2.0 * held
        if stage == "qlora":
            frozen = (NF4_BYTES * (network.total - tables) + 2 * tables) / shared
        components["frozen weights"] = frozen / (layout.replicas if layout.zero == 3 else 1)
    name = "adapters" if stage in ADAPTED else "weights"
    components[name] = weight * trained / (layout.replicas if layout.zero == 3 else 1)
    kept = trained / network.layers if layout.in_backward else trained
    components["gradients"] = gradient * kept / (layout.replicas if layout.zero >= 2 else 1)
    components["optimizer"] = moments * trained / (layout.replicas if layout.zero >= 1 else 1)
    if stage == "prefer":
        reference = 2.0 * held
        components["reference model"] = reference / (layout.replicas if layout.zero == 3 else 1)
    if layout.zero == 3 and layout.replicas > 1:
        # Two layers are gathered at a time, the one at work and the next, and the tables always.
        each = NF4_BYTES if stage == "qlora" else 2.0
        layer = (network.total - tables) / network.layers
        # And what is trained has the gradients of the one at work.
        gradients = 0.0 if stage in ADAPTED else gradient * layer
        components["gathered layers"] = (2 * each * layer + gradients + 2.0 * tables) / shared
    components["activations"] = _activations(network, layout) * (
        QLORA_ACTIVATIONS if stage == "qlora" and layout.recompute == "none" else 1
    )
    components["logits"] = _logits(network, layout)
    loading = 0.0
    if layout.loads_whole and layout.zero == 3:
        loading = 2 * network.total * (1 + 1 / layout.replicas) / 1e9
    reserve = 0.0
    if not layout.chunked_loss:
        reserve = _logits(network, layout) * (UNFUSED_LOGIT_BYTES / LOGIT_BYTES - 1)
    if stage == "qlora":
        reserve += WIDENED * tables / shared
    return Memory({key: value / 1e9 for key, value in components.items()}, loading, reserve / 1e9)


def layer_bytes_per_token(network: Network) -> float:
    """Activations that a layer keeps of a token for the way back, in bytes, with 16-bit numbers.

    Two norms with input and output, queries, keys, values, the heads' output; in the MLP its
    inner width twice, or four times where it is gated.
    """
    kv = network.kv_heads * network.head_width
    attention = 2 * (2 * network.attention_width + 2 * kv)
    inner = 8 if network.matrices == 3 else 4
    return 8 * network.width + attention + inner * network.mlp_width


def _activations(network: Network, layout: Layout) -> float:
    tokens = layout.micro_batch * network.context
    layers = network.layers / layout.pp
    # A pipeline of p stages keeps p micro-batches on its first stage (one forward, one backward).
    alive = min(layout.pp, network.layers)
    per_layer = layer_bytes_per_token(network)
    border = 2.0 * network.width
    if layout.recompute == "full":
        kept = layers * border * alive / layout.tp + per_layer / layout.tp
    elif layout.recompute == "selective":
        kept = (layers * (per_layer - 4 * network.mlp_width)) * alive / layout.tp
    else:
        kept = layers * per_layer * alive / layout.tp
    return tokens * kept


def _logits(network: Network, layout: Layout) -> float:
    tokens = layout.micro_batch * network.context
    chunk = 8 if layout.chunked_loss else 1
    return tokens * network.vocabulary * LOGIT_BYTES / layout.tp / chunk


def fits(need: Memory, chip: Accelerator) -> bool:
    """Whether a card holds it, with what the allocator does not see."""
    return need.needed <= chip.memory


def choose_layout(
    network: Network,
    chip: Accelerator,
    *,
    stage: Stage,
    gpus: int | None = None,
    adapter_parameters: float = 0.0,
    wish: Layout | None = None,
) -> Layout | None:
    """The simplest layout that fits, the fewest GPUs first; None where none of the tried ones does.

    `wish` holds what the user has said of it already.
    """
    wish = wish or Layout()
    least = _least_gpus(network, chip, stage=stage, wish=wish)
    for layout in _layouts(gpus, wish, network, least=least):
        need = memory(network, stage=stage, layout=layout, adapter_parameters=adapter_parameters)
        if fits(need, chip):
            return layout
    return None


def tightest_layout(
    network: Network, *, stage: Stage, wish: Layout, adapter_parameters: float = 0.0
) -> Layout:
    """The layout over the GPUs of `wish` that needs the least memory, whether it fits or not."""
    return min(
        _layouts(wish.gpus, wish, network),
        default=wish,
        key=lambda layout: (
            memory(network, stage=stage, layout=layout, adapter_parameters=adapter_parameters).total
        ),
    )


def smallest_layouts(
    network: Network, chip: Accelerator, *, stage: Stage, adapter_parameters: float = 0.0,
    wish: Layout | None = None,
) -> list[tuple[Layout, Memory]]:  # fmt: skip
    """For each way to cut a model (none, ZeRO, tensor and pipeline) the fewest GPUs for it."""
    found: dict[tuple[str, str], tuple[Layout, Memory]] = {}
    wish = wish or Layout()
    least = _least_gpus(network, chip, stage=stage, wish=wish)
    for layout in _layouts(None, wish, network, least=least):
        way = "ZeRO" if layout.zero else "cut" if layout.tp * layout.pp > 1 else "whole"
        key = (way, layout.recompute)
        if key in found:
            continue
        need = memory(network, stage=stage, layout=layout, adapter_parameters=adapter_parameters)
        if fits(need, chip):
            found[key] = (layout, need)
    return sorted(found.values(), key=lambda pair: pair[0].gpus)


def _least_gpus(network: Network, chip: Accelerator, *, stage: Stage, wish: Layout) -> float:
    """Fewer cannot even hold the states: most counts need no closer look."""
    each = sum(STATES[wish.optimizer])
    if stage in ADAPTED:
        each = NF4_BYTES if stage == "qlora" else 2.0
    return each * network.total / (chip.memory * 1e9)


def _layouts(
    gpus: int | None, wish: Layout, network: Network, *, least: float = 0
) -> Iterator[Layout]:
    counts = [gpus] if gpus else [2**power for power in range(15)]
    counts = [count for count in counts if count >= least]
    recomputes: list[Recompute] = ["none", "full"]
    if wish.recompute != "none":
        recomputes = [wish.recompute]
    for count, recompute in itertools.product(counts, recomputes):
        for zero, tp, pp in _cuts(count, wish, network):
            yield wish._replace(gpus=count, zero=zero, tp=tp, pp=pp, recompute=recompute)


def _cuts(gpus: int, wish: Layout, network: Network) -> Iterator[tuple[int, int, int]]:
    tensor = [wish.tp] if wish.tp > 1 else [1, 2, 4, 8]
    pipeline = [wish.pp] if wish.pp > 1 else [1, 2, 4, 8, 16]
    zeros = [wish.zero] if wish.zero else [0, 1, 2, 3]
    for pp, tp, zero in itertools.product(pipeline, tensor, zeros):
        cut = tp * pp
        is_whole = gpus % cut == 0 and tp <= max(NODE, wish.tp) and pp <= network.layers
        is_divided = not network.is_exact or network.heads % tp == 0
        # ZeRO over one replica divides nothing; stages 2 and 3 do not go with a pipeline.
        is_useful = zero == 0 or (gpus // cut > 1 and not (zero >= 2 and pp > 1))
        if is_whole and is_divided and (is_useful or zero == wish.zero):
            yield zero, tp, pp
