"""How a model lies over the processes that train it: whole on each, or in rows over all.

Chosen by what fits, with the reason, and made: the model, how gradients are summed, and how an
optimizer comes by whole matrices.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from llmctl.model.transformer import Transformer, allocate
from llmctl.registry import load
from llmctl.shapes import Shape
from llmctl.train.distributed.world import World
from llmctl.train.machine import Machine
from llmctl.train.masters import Masters
from llmctl.train.reduction import AllReduce, Alone, Pairwise, Parted, Reduction, Sharded
from llmctl.train.spread import Spread

Parallel = Literal["auto", "ddp", "fsdp", "hsdp"]
Kind = Literal["alone", "ddp", "fsdp", "hsdp"]
# The float32 weights to begin with, of a model of one shape: whole, by name, one after the other.
Weights = Callable[[Transformer], Iterable[tuple[str, Tensor]]]
# What of a device a run may be thought to need: allocators and contexts take some, too.
LARGEST_SHARE = 0.85


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """`kind` is `alone`, `ddp` (whole on each rank), `fsdp` (rows over all) or `hsdp`.

    The last lays rows over the ranks of a machine, and the same rows on every machine. With
    `offload` rows live in the host's memory; `deterministic` sums are the same for all counts of
    ranks.
    """

    kind: Kind
    why: str = ""
    deterministic: bool = False
    offload: bool = False

    @property
    def is_sharded(self) -> bool:
        """Whether a rank holds some rows alone."""
        return self.kind in ("fsdp", "hsdp")

    def each(self, world: World) -> int:
        """Over how many ranks rows lie, where they do: all that hold the same part of matrices."""
        return (world.local_size if self.kind == "hsdp" else world.size) // world.parts


class Laid(NamedTuple):
    """A float32 model where it is to be trained, and what its optimizer and loop need to know."""

    model: Transformer
    masters: Masters
    reduce: Reduction
    spread: Spread


def choose(
    wish: Parallel,
    world: World,
    need: Callable[[Kind], float],
    *,
    device_bytes: float,
    deterministic: bool = False,
    offload: bool = False,
) -> Layout:
    """The layout that was asked for, or the one that fits with the least communication.

    `need` says how many bytes a rank would take at least.
    """
    if wish != "auto":
        kind = "alone" if world.is_alone and wish == "ddp" else wish
        return Layout(kind=kind, why="as asked for", deterministic=deterministic, offload=offload)
    if world.is_alone:
        return Layout(kind="alone", deterministic=deterministic)
    room = LARGEST_SHARE * device_bytes
    what = "the whole model" if world.parts == 1 else f"the model in {world.parts} parts"
    whole = f"{what} takes {_gb(need('ddp'))} GB of {_gb(device_bytes)}"
    if deterministic or need("ddp") <= room:
        return Layout(kind="ddp", why=f"{whole} on each", deterministic=deterministic)
    if world.size > world.local_size > 1 and need("hsdp") <= room:
        rows = f"its rows over the {world.local_size} of a machine {_gb(need('hsdp'))}"
        return Layout(kind="hsdp", why=f"{whole}, {rows}")
    return Layout(kind="fsdp", why=f"{whole}, its rows over all {_gb(need('fsdp'))}")


def _gb(size: float) -> str:
    return f"{size / 1e9:,.0f}" if size > 1e11 else f"{size / 1e9:.3g}"


def lay(
    layout: Layout,
    world: World,
    shape: Shape,
    machine: Machine,
    *,
    weights: Weights,
) -> Laid:
    """A model with the `weights` to begin with, laid out."""
    split = None
    if world.parts > 1:
        make_split: Any = load("llmctl.train.distributed.split:Split")
        split = make_split(world, machine.device, shape)
    if layout.is_sharded:
        return _in_rows(layout, world, shape, machine, weights, split)
    if split is not None:
        return _in_parts(world, shape, machine, weights, split)
    model, masters = _held(world, shape, machine, weights, None)
    if world.is_alone:
        return Laid(model, masters, Alone(), Spread())
    if layout.deterministic:
        return Laid(model, masters, Pairwise(world), Spread())
    return Laid(model, masters, AllReduce(world), Spread(world))


def _in_parts(world: World, shape: Shape, machine: Machine, weights: Weights, split: Any) -> Laid:
    """A part of each matrix on each rank of a team, whole teams side by side."""
    model, masters = _held(world, shape, machine, weights, split)
    reduce = AllReduce(world, _parted(masters, split))
    return Laid(model, masters, reduce, Spread(split.peers, split=split))


def _in_rows(
    layout: Layout,
    world: World,
    shape: Shape,
    machine: Machine,
    weights: Weights,
    split: Any,
) -> Laid:
    laid_in_rows: Any = load("llmctl.train.distributed.sharding:laid_in_rows")
    model, group = laid_in_rows(
        shape.part(world.parts), machine, world, each=layout.each(world), offload=layout.offload
    )
    masters = _filled(model, shape, weights, split)
    within = world.within(group)
    copies = world.size // world.parts // within.size
    reduce = Sharded(world, copies, None if split is None else _parted(masters, split))
    return Laid(model, masters, reduce, Spread(within, is_sharded=True, split=split))


def _held(
    world: World, shape: Shape, machine: Machine, weights: Weights, split: Any
) -> tuple[Transformer, Masters]:
    """This rank's model, whole or the part that it holds, in the machine's type; its masters."""
    with torch.device("meta"):
        model = Transformer(shape.part(world.parts))
    allocate(model, machine.device)
    masters = _filled(model, shape, weights, split)
    model.to(machine.dtype)
    return model, masters


def _filled(model: Transformer, shape: Shape, weights: Weights, split: Any) -> Masters:
    """The masters of a model without values, filled; `shape` is that of the whole model."""
    model.parts = split
    masters = Masters(model, split)
    with torch.device("meta"):
        whole = Transformer(shape)
    for name, value in weights(whole):
        masters.load(model, {name: value})
    return masters


def _parted(masters: Masters, split: Any) -> Parted:
    return Parted(ranks=split.ranks, peers=split.peers, shares=masters.shares)
