"""A run over many ranks that is only imagined: what each would hold, and how they would talk.

The model is built without memory and laid over a process group in which nothing is sent; one step
of it is then traced. So `--dry-run` sees the layout that training makes, on any machine.
"""

import contextlib
import dataclasses
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.tensor.debug import CommDebugMode
from torch.testing._internal.distributed.fake_pg import FakeStore

from llmctl.model.transformer import Transformer
from llmctl.shapes import Shape
from llmctl.train.distributed.rows import local_part
from llmctl.train.distributed.sharding import mesh_over, shard
from llmctl.train.distributed.slices import Team
from llmctl.train.distributed.split import Split
from llmctl.train.distributed.world import World
from llmctl.train.masters import Masters
from llmctl.train.recompute import Recompute, recompute

NAMES = {
    "_allgather_base_": "all-gather",
    "_reduce_scatter_base_": "reduce-scatter",
    "allreduce_": "all-reduce",
    "all_reduce": "all-reduce",
    "all_to_all_single": "all-to-all",
}


class Rehearsal(NamedTuple):
    """Parameters on the first rank, and the collectives of a step by kind."""

    parameters: int
    collectives: Mapping[str, int]


def rehearse(
    shape: Shape, world: World, *, each: int, micro_batches: int, muon: bool, how: Recompute
) -> Rehearsal:
    """A shape in rows over `each` of a world's ranks: what one holds, what a step sends.

    Blocks are alike, so that one and two of them tell what all hold and send.
    """
    with _imagined(shape, world, each) as (mesh, team, split):
        part = shape.part(world.parts)
        first, second = (
            _seen(dataclasses.replace(part, num_layers=layers), mesh, (team, split), how)
            for layers in (1, 2)
        )
    more = shape.num_layers - 1

    def of_all(one: int, two: int) -> int:
        return one + more * (two - one)

    sent = {
        name: micro_batches * of_all(first.collectives[name], times)
        for name, times in second.collectives.items()
    }
    # The loss and the gradient's length in one.
    sent["all-reduce"] = sent.get("all-reduce", 0) + 1
    if muon:
        rounds = _rounds(shape.part(world.parts), each * world.parts)
        # There and back; the same among those who hold the parts of a matrix.
        times = 4 if world.parts > 1 else 2
        sent["all-to-all"] = sent.get("all-to-all", 0) + times * rounds
    return Rehearsal(of_all(first.parameters, second.parameters), sent)


@contextlib.contextmanager
def _imagined(
    shape: Shape, world: World, each: int
) -> Iterator[tuple[Any, Team | None, Split | None]]:
    """A mesh of a world's ranks, of which this is the first and the others are nobody; with whom
    it shares rows and matrices.
    """
    dist.init_process_group("fake", rank=0, world_size=world.size, store=FakeStore())
    try:
        mesh = mesh_over("cpu", world, each)
        team = Team(world, torch.device("cpu")) if world.slices > 1 else None
        split = Split(world, torch.device("cpu"), shape) if world.parts > 1 else None
        # torch warns of views and hooks, neither of which matters to a step that nobody takes.
        with FakeTensorMode(allow_non_fake_inputs=True), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield mesh, team, split
    finally:
        dist.destroy_process_group()


def _seen(
    shape: Shape, mesh: Any, shared: tuple[Team | None, Split | None], how: Recompute
) -> Rehearsal:
    """What the first rank holds, and the collectives of one forward and backward pass."""
    team, split = shared
    with torch.device("meta"):
        model = Transformer(shape)
    shard(model, mesh, dtype=torch.bfloat16)
    model.parts = split
    model.to_empty(device="cpu")
    recompute(model, how)
    ids_BT = torch.zeros(1, min(shape.context, 128), dtype=torch.long)
    with CommDebugMode() as seen:
        model.logits(model.hidden(ids_BT, slices=team)).sum().backward()
    counts = {str(op).rpartition(".")[2]: times for op, times in seen.get_comm_counts().items()}
    held = sum(local_part(one).value.numel() for one in model.parameters())
    sent: Counter[str] = Counter()
    for name, times in counts.items():
        sent[NAMES.get(name, name)] += times
    return Rehearsal(held, sent)


def _rounds(shape: Shape, each: int) -> int:
    """How often rows are dealt out so that each rank has one matrix whole."""
    with torch.device("meta"):
        model = Transformer(shape)
    shapes = [one.shape for one in Masters(model).masters if one.kind == "matrix"]
    return sum(-(-shapes.count(one) // each) for one in set(shapes))
