"""A few steps of a tiny model -> its weights: what any number of processes must agree on.

    python -m llmctl.train.twins SPEC.json

The program of one rank; the first writes the weights to where the spec says.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from llmctl.data.batches import IGNORED, Batch
from llmctl.model.transformer import Transformer, fresh
from llmctl.shapes import Size, shape_of
from llmctl.train.distributed.world import ALONE, World, here, joined
from llmctl.train.masters import Masters
from llmctl.train.objectives import Objective, next_token
from llmctl.train.optimizers.adamw import adamw
from llmctl.train.recipe import Rates
from llmctl.train.reduction import AllReduce, Alone, Pairwise, Reduction
from llmctl.train.schedule import Schedule
from llmctl.train.spread import Spread
from llmctl.train.trainer import Plan, Trainer

ROWS, CONTEXT, VOCABULARY = 8, 64, 512
SHAPE = shape_of(Size(2, 64, 32, CONTEXT), vocab_size=VOCABULARY)
RATES = Rates(matrix=0.01, embedding=0.01, head=0.01, vector=0.003, weight_decay=0.0)
STEPS = 4
PATIENCE = 60.0


class Drawn:
    """Random rows of several documents; more targets count in some rows than in others."""

    def batch(self, step: int) -> Batch:
        """The batch of a step: the same wherever it is asked for."""
        generator = torch.Generator().manual_seed(step)
        ids = torch.randint(1, VOCABULARY, (ROWS, CONTEXT + 1), generator=generator)
        targets = ids[:, 1:].clone()
        targets[: ROWS // 3, ::3] = IGNORED
        segments = (torch.rand(ROWS, CONTEXT, generator=generator) < 0.1).cumsum(dim=1)
        return Batch(ids[:, :-1].contiguous(), targets, segments, int((targets != IGNORED).sum()))


def tiny_model(device: torch.device | str = "cpu") -> Transformer:
    """A model of which every number counts: a new one's projections are zero, and hide faults."""
    model = fresh(SHAPE, 0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for one in model.parameters():
            one.add_(0.05 * torch.randn(one.shape, generator=generator))
    return model.to(device)


def tiny_trainer(
    model: Transformer,
    *,
    micro_rows: int = ROWS,
    objective: Objective = next_token,
    pairwise: bool = False,
    reduce: Reduction | None = None,
) -> Trainer:
    """The trainer of a run of `STEPS` steps, which nobody saves or scores."""
    masters = Masters(model)
    plan = Plan(
        steps=STEPS,
        micro_rows=micro_rows,
        schedule=Schedule(warmup=1),
        clip=1.0,
        pairwise=pairwise,
        save_every=None,
        save_seconds=float("inf"),
        eval_every=None,
        eval_seconds=float("inf"),
        reduce=reduce or Alone(),
    )
    optimizers = adamw(masters.masters, RATES, torch.float32, Spread())
    return Trainer(model, objective, Drawn(), masters=masters, optimizers=optimizers, plan=plan)


def trained(world: World = ALONE, *, pairwise: bool) -> dict[str, Tensor]:
    """The weights after all steps; `pairwise` adds up as `--deterministic` does."""
    several: Reduction = Pairwise(world) if pairwise else AllReduce(world)
    reduce = Alone() if world.is_alone else several
    trainer = tiny_trainer(tiny_model(), micro_rows=1, pairwise=pairwise, reduce=reduce)
    for _ in range(STEPS):
        trainer.step()
    return dict(trainer.model.state_dict())


def main(spec: Mapping[str, Any]) -> None:
    """One rank: train among the others, and write what came of it where this one leads."""
    torch.set_num_threads(1)
    with joined(here(), device=torch.device("cpu"), patience=PATIENCE) as world:
        for name, pairwise in (("pairwise", True), ("fast", False)):
            weights = trained(world, pairwise=pairwise)
            if world.leads:
                save_file(weights, Path(spec["folder"]) / f"{name}.safetensors")


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_bytes()))
