"""A recipe over many ranks, most of which are not here -> what each would hold and send.

For `--dry-run`: the layout that training would choose, the estimate of memory beside the model
that is really laid out, without memory, over ranks that nobody is.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from llmctl.devices import unshared
from llmctl.model.transformer import Transformer
from llmctl.registry import load
from llmctl.shapes import Shape
from llmctl.train.distributed.world import World
from llmctl.train.layout import Kind
from llmctl.train.machine import Machine, memory_bytes
from llmctl.train.masters import Masters
from llmctl.train.pretraining import Job, Settings
from llmctl.train.recipe import Recipe

# Where there is no GPU to look at: an A100 or H100.
USUAL_BYTES = 80e9


def imagine(shape: Shape, recipe: Recipe, settings: Settings, world: World) -> dict[str, Any]:
    """Layout with its reason, bytes by component and collectives of a step, by name."""
    is_cpu = settings.device == "cpu"
    device = torch.device("cpu" if is_cpu else "cuda")
    is_here = is_cpu or torch.cuda.is_available()
    room = memory_bytes(device, world) if is_here else USUAL_BYTES
    is_wide = settings.precision in ("tf32", "float32") or is_cpu
    dtype = torch.float32 if is_wide else torch.bfloat16
    job = Job(
        shape=shape,
        recipe=recipe,
        settings=settings,
        machine=Machine(device, dtype, ceiling=1.0),
        world=world,
    )
    layout = job.layout(room)
    micro = job.micro_rows
    while micro > 1 and settings.micro_rows is None and job.memory(layout.kind, micro).total > room:
        micro = micro // 2
    need = job.memory(layout.kind, micro)
    plan: dict[str, Any] = {
        "processes": world.size,
        "layout": layout.kind,
        "why": layout.why,
        "rows_at_once": micro,
        "device_bytes": room,
        "memory_per_rank": need.to_dict(),
        "fits": need.total <= room,
    }
    if need.total > room:
        plan |= _hint(job, layout.kind, room)
    micro_batches = math.ceil(recipe.rows / world.teams / micro)
    if not layout.is_sharded:
        held = shape.part(world.parts).parameters
        sent = _sent(job, micro_batches)
        return plan | {"parameters_per_rank": held, "collectives_per_step": sent}
    rehearse: Any = load("llmctl.train.distributed.rehearsal:rehearse")
    seen = rehearse(
        replace(shape, context=recipe.context),
        world,
        each=layout.each(world),
        micro_batches=micro_batches,
        muon=recipe.optimizer == "muon",
        how=settings.recompute,
    )
    return plan | {
        "parameters_per_rank": seen.parameters,
        "collectives_per_step": dict(seen.collectives),
    }


def _sent(job: Job, micro_batches: int) -> dict[str, int]:
    """The collectives of a step where no rank holds rows, by kind."""
    world, shape = job.world, job.shape.part(job.world.parts)
    sent = {"all-reduce": 1}
    if job.recipe.optimizer == "muon":
        sent["all-gather"] = _shapes(shape)
    is_again = job.settings.recompute != "none"
    blocks = micro_batches * shape.num_layers
    if world.slices > 1:
        # There and back, and the way back of both.
        sent["all-to-all"] = blocks * (6 if is_again else 4)
    if world.parts > 1:
        if "all-gather" in sent:
            sent["all-to-all"] = sent.get("all-to-all", 0) + 2 * sent["all-gather"]
        # The stream twice each way, the gains of queries and keys; the gradient's length.
        sent["all-reduce"] += blocks * (4 + is_again + shape.qk_norm) + 1
    return sent


def _hint(job: Job, kind: Kind, room: float) -> dict[str, str]:
    """What would make a row fit that does not."""
    for flags, other in _remedies(job):
        need = other.memory(kind).total
        if need <= room:
            told = f"a row of {job.recipe.context:,} tokens fits with {flags}"
            return {"hint": f"{told}: {need / 1e9:.3g} GB"}
    return {}


def _remedies(job: Job) -> Iterator[tuple[str, Job]]:
    """A job that takes less memory, as flags and as it would be, what costs least first.

    To compute more again needs no other rank; of those that share a row, the fewer the better.
    """
    again = replace(job, settings=replace(job.settings, recompute="full"))
    yield "`--recompute full`", again
    world, context = job.world, job.recipe.context
    shape = job.shape.part(world.parts)
    for others, one in (("", job), ("`--recompute full` and ", again)):
        for slices in range(world.slices + 1, world.size + 1):
            if not unshared(slices, world.size // world.parts, shape, context):
                flags = f"{others}`--context-parallel {slices}`"
                yield flags, replace(one, world=replace(world, slices=slices))


def _shapes(shape: Shape) -> int:
    """Sizes of matrices: what became of those of one size is told in one message."""
    with torch.device("meta"):
        model = Transformer(replace(shape, num_layers=1))
    return len({one.shape for one in Masters(model).masters if one.kind == "matrix"})
