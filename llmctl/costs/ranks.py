"""A shape over the ranks of a run, as `pretrain` lays it out -> bytes on each rank by component.

`memory` speaks of anybody's training; this speaks of ours, tensor by tensor: float32 masters,
gradients and moments, weights to compute with in the run's own type, a loss that never holds all
logits. Attention keeps no scores: a fused kernel computes them again. What a CPU keeps beside all
that is counted apart.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from llmctl.costs.flops import Recompute
from llmctl.errors import ConfigError
from llmctl.shapes import GATED, Shape

Parallel = Literal["ddp", "fsdp", "hsdp"]

FLOAT = 4
# AdamW keeps two averages, Muon one.
MOMENTS = {"adamw": 2, "muon": 1}
# Logits at a time, of at least so many rows, as `train.objectives` cuts them.
CPU_LOGITS, GPU_LOGITS, LEAST_ROWS = 2**22, 2**28, 128
# Rows up to this many tokens that a CPU computes in bfloat16 keep scores, as `model.attention` has
# it, of so many queries at a time with all keys up to theirs.
LONGEST_PLAIN, BLOCK = 512, 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """How many ranks there are and how a model lies over them.

    `ddp` holds the model whole on each rank (also on a single one), `fsdp` in rows over all,
    `hsdp` in rows over the `each` ranks of a machine. With `offload` rows live on the host. So
    many ranks as there are `slices` share a row of tokens, a slice of its time each; so many as
    there are `parts` hold some heads and some of the inner width each, and rows of that. Ranks are
    GPUs, or where `on_cpu` processes of a CPU.
    """

    world_size: int = 1
    parallel: Parallel = "ddp"
    each: int = 8
    offload: bool = False
    slices: int = 1
    parts: int = 1
    on_cpu: bool = False

    def __post_init__(self) -> None:
        least = min(self.world_size, self.each, self.slices, self.parts)
        if least < 1:
            raise ConfigError(f"a run of {least} ranks makes no sense", hint="say at least 1")
        if self.world_size % (self.slices * self.parts):
            teams = f"teams of {self.slices * self.parts}"
            raise ConfigError(f"{self.world_size} ranks do not make {teams}")
        if self.parallel == "hsdp" and self.world_size % self.each:
            raise ConfigError(
                f"{self.world_size} ranks are no whole number of machines with {self.each}",
                hint=f"take a multiple of {self.each}",
            )
        if self.offload and self.parallel == "ddp":
            raise ConfigError("only rows can be offloaded", hint="take fsdp or hsdp")

    @property
    def shards(self) -> int:
        """Over how many ranks the rows of a matrix lie."""
        rows = {"ddp": 1, "fsdp": self.world_size, "hsdp": self.each}[self.parallel]
        return max(1, rows // self.parts)


class RankMemory(NamedTuple):
    """Bytes on one rank's device by component, and on its host.

    `parameters` are masters and the weights to compute with, `gradients` their sums and those of
    a micro-batch, `optimizer` its averages. `activations` and `buffers` (layers gathered, the
    loss) live during forward and backward, `step` (copies of gradients, stacked matrices) after
    them.
    """

    parameters: float
    gradients: float
    optimizer: float
    activations: float
    buffers: float
    step: float
    host: float = 0.0

    @property
    def total(self) -> float:
        """The peak on the device: the allocator and the GPU's context come on top."""
        resident = self.parameters + self.gradients + self.optimizer
        return resident + max(self.activations + self.buffers, self.step)

    def to_dict(self) -> dict[str, float]:
        """Every component and the total, in bytes."""
        return {**self._asdict(), "total": self.total}


def rank_memory(
    shape: Shape,
    ranks: Ranks | None = None,
    *,
    precision: Literal["bf16", "float32"] = "bf16",
    optimizer: Literal["muon", "adamw"] = "muon",
    micro_rows: int = 1,
    recompute: Recompute = "none",
) -> RankMemory:
    """What a rank must hold to train a shape on `micro_rows` rows of its context at a time.

    >>> from llmctl.shapes import named_shape
    >>> shape = named_shape("175b", vocab_size=50257)
    >>> over = Ranks(world_size=1024, parallel="fsdp")
    >>> round(rank_memory(shape, over, optimizer="adamw", recompute="full").total / 1e9)
    35
    """
    ranks = ranks or Ranks()
    shape = shape.part(ranks.parts)
    each = 2 if precision == "bf16" else FLOAT
    held = shape.parameters / ranks.shards
    muon = shape.num_layers * _matrices(shape) if optimizer == "muon" else 0
    averages = MOMENTS["adamw"] * held - (MOMENTS["adamw"] - MOMENTS["muon"]) * muon / ranks.shards
    copies = ranks.parallel == "ddp" and precision == "bf16"
    states = {
        "parameters": (FLOAT + each * copies) * held,
        # The sum, and beside it what the latest micro-batch gave.
        "gradients": (FLOAT + (each if ranks.parallel == "ddp" else FLOAT)) * held,
        "optimizer": FLOAT * averages,
    }
    host = sum(states.values()) if ranks.offload else 0.0
    if ranks.offload:
        states = dict.fromkeys(states, 0.0)
    tokens = micro_rows * shape.context // ranks.slices
    return RankMemory(
        **states,
        activations=tokens * each * _kept(shape, ranks, recompute, each),
        buffers=_buffers(shape, ranks, each, tokens),
        step=0.0 if ranks.offload else _step(shape, ranks, each, held, is_muon=bool(muon)),
        host=host,
    )


def layer_values(shape: Shape, slices: int = 1) -> float:
    """Numbers that a block keeps of a token for the way back, when nothing is computed again."""
    wide, kv, _ = shape.qkv_widths
    if slices == 1:
        # The fused projection and the heads' output; queries and keys once more for each change:
        # normalised, turned.
        kept = (wide + 2 * kv) + wide
        kept += (wide + kv) * (shape.qk_norm + (shape.position == "rope"))
    else:
        # What was traded for time, keys and values perhaps for several ranks; the heads' output
        # as attention gave it and as it came back; what was normalised, before and after.
        copies = max(1, slices // shape.num_kv_heads)
        kept = (wide + 2 * copies * kv) + 2 * wide
        kept += ((wide + 2 * kv) + (wide + kv)) * shape.qk_norm
    # What the norms read and gave.
    kept += 4 * shape.width
    return kept + (4 if shape.activation in GATED else 2) * shape.mlp_width


def cpu_values(shape: Shape, each: int, slices: int = 1) -> float:
    """Numbers of `each` so many bytes that a block on a CPU keeps of a token beside those.

    No norm is fused there. Attention keeps the mask of a row, which is thought to hold several
    documents, or where it is plain products the shares of all keys.
    """
    wide, kv, _ = shape.qkv_widths
    normed = 2 * shape.width if shape.norm == "rms" else 0
    if each == FLOAT:
        return normed + slices * shape.context
    # What was normalised before the gain, and in float32 what came.
    kept = 3 * normed + 2 * (wide + kv) * shape.qk_norm
    if shape.context > LONGEST_PLAIN:
        return kept + slices * shape.context
    # Products copy what lies in the fused projection still: values, and what was not turned.
    copied = kv + (wide + kv) * (shape.position != "rope")
    return kept + copied + shape.num_heads * (shape.context + BLOCK) / 2


def _kept(shape: Shape, ranks: Ranks, recompute: Recompute, each: int) -> float:
    """Numbers kept a token: of all blocks, and of the widest point of the way back."""
    wide, kv, _ = shape.qkv_widths
    inner = 2 * shape.mlp_width if shape.activation in GATED else shape.mlp_width
    whole = layer_values(shape, ranks.slices)
    if ranks.on_cpu:
        whole += cpu_values(shape, each, ranks.slices)
    # Around the blocks: the stream, the last norm's result and its gradient.
    around = 3 * shape.width + 2 * inner + shape.width
    statistics = FLOAT * (shape.num_heads + 4) / each
    if recompute == "none":
        return shape.num_layers * (whole + statistics) + around
    block = float(shape.width)
    if recompute == "selective":
        # What products and attention gave: projection, heads' output, output, MLP and its output.
        block += (wide + 2 * kv) + wide + shape.width + inner + shape.width
    return shape.num_layers * block + whole + statistics + around


def _buffers(shape: Shape, ranks: Ranks, each: int, tokens: float) -> float:
    """The loss, and what is gathered of a model that lies in rows."""
    tables = shape.parameters - shape.num_layers * _layer(shape)
    # The head's gradient in float32; of a chunk its logits and their softmax, and then beside this
    # what it gives the head.
    logits = CPU_LOGITS if ranks.on_cpu else GPU_LOGITS
    rows = min(tokens, max(LEAST_ROWS, logits // shape.vocab_size))
    numbers = FLOAT * shape.width + each * (rows + max(rows, shape.width))
    loss = shape.vocab_size * numbers
    if ranks.parallel == "ddp":
        return loss
    # Two blocks whole, at work and to come, and the tables; of one of each its gradient, as it
    # was computed and in float32 as it is summed.
    whole = each * (2 * _layer(shape) + tables)
    return loss + whole + (each + FLOAT) * max(_layer(shape), tables)


def _step(shape: Shape, ranks: Ranks, each: int, held: float, *, is_muon: bool) -> float:
    """Copies that live between backward and the next forward pass."""
    # DDP sums one flat copy of all gradients.
    flat = FLOAT * held if ranks.parallel == "ddp" and ranks.world_size > 1 else 0.0
    if not is_muon:
        return flat
    # The largest group of equal matrices, stacked and orthogonalised, and its update in float32.
    wide, kv, _ = shape.qkv_widths
    inner = shape.mlp_width * (2 if shape.activation in GATED else 1)
    group = shape.num_layers * shape.width * max(inner, (4 if kv == wide else 2) * wide)
    if ranks.shards == 1:
        return max(flat, (2 * each + FLOAT) * group)
    # Of rows: this rank's, and one whole matrix with three products of Newton and Schulz.
    matrix = ranks.parts * shape.width * max(shape.mlp_width, wide)
    return (2 * each + FLOAT) * group / ranks.shards + 4 * each * matrix


def _matrices(shape: Shape) -> int:
    """What Muon changes in a layer."""
    up = 2 if shape.activation in GATED else 1
    attention = shape.width * (sum(shape.qkv_widths) + shape.attention_width)
    return attention + (up + 1) * shape.width * shape.mlp_width


def _layer(shape: Shape) -> float:
    """Parameters of a layer, biases and gains left out: they are nothing beside the matrices."""
    return float(_matrices(shape))
