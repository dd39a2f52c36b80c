"""A model, an objective and batches in epochs -> a fine-tuning run, ready to resume or begin.

Classification and instruction tuning meet here and differ by what they hand in. A checkpoint
holds what is trained alone; the best of all scores, one an epoch, is what stays at the end.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_file, save_file

from llmctl.costs.ranks import RankMemory, Ranks, rank_memory
from llmctl.registry import look_up
from llmctl.train.checkpoint import ModelForm
from llmctl.train.feed import Batches, StepBatch
from llmctl.train.machine import Machine
from llmctl.train.masters import Masters
from llmctl.train.meter import Meter
from llmctl.train.objectives import Model, Objective
from llmctl.train.optimizers import OPTIMIZERS
from llmctl.train.probe import first_guess, fitting_rows
from llmctl.train.recipe import Rates
from llmctl.train.run import Owner, Run, Score
from llmctl.train.schedule import Schedule
from llmctl.train.spread import Spread
from llmctl.train.trainer import Plan, StepFacts, Trainer

TRAINED = "trained.safetensors"
SMALLER = "choose a smaller base model, `--method lora`, or shorter texts"


class EpochBatches(Batches, Protocol):
    """Batches that come in epochs."""

    rows: int

    @property
    def steps_per_epoch(self) -> int: ...

    def longest(self) -> StepBatch:
        """The largest batch that there could be."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Dose:
    """How much and how strongly to train; `rate` is of matrices, `head_rate` of a new head."""

    epochs: float
    rate: float
    head_rate: float
    weight_decay: float = 0.01
    warmup_share: float = 0.1
    clip: float = 1.0
    scores_per_epoch: int = 1
    patience: int = 3
    save_seconds: float = 120.0
    save_every: int | None = None
    optimizer: str = "adamw"
    deterministic: bool = False
    seed: int = 0


class Tuning:
    """A fine-tuning run in a folder: `run.resume()`, `run.train()`, `run.take_best()`.

    The model comes in float32, frozen where it is not to be trained, and leaves in the machine's
    type; `evaluate` scores it as it stands, less being better.
    """

    def __init__(
        self,
        model: Model,
        objective: Objective,
        batches: EpochBatches,
        dose: Dose,
        machine: Machine,
    ) -> None:
        self.model, self.batches, self.dose, self.machine = model, batches, dose, machine
        self.steps = max(1, math.ceil(dose.epochs * batches.steps_per_epoch))
        masters = Masters(model)
        model.to(machine.device, machine.dtype)
        rates = Rates(
            matrix=dose.rate,
            embedding=dose.rate,
            head=dose.head_rate,
            vector=dose.rate,
            weight_decay=dose.weight_decay,
            betas=(0.9, 0.98),
        )
        build = look_up(OPTIMIZERS, dose.optimizer, kind="optimizer", group="optimizers")
        self.trainer = Trainer(
            model,
            objective,
            batches,
            masters=masters,
            optimizers=build(masters.masters, rates, machine.dtype, Spread()),
            plan=self._plan(),
        )
        fitting_rows(self.trainer, batches.longest(), self._memory, hint=SMALLER)

    @property
    def trained_parameters(self) -> int:
        """Numbers that change."""
        return sum(one.numel() for one in self.trainer.masters.parameters)

    def start(
        self,
        directory: Path,
        evaluate: Callable[[], Score],
        describe_score: Callable[[Any], dict[str, Any]],
    ) -> Run:
        """The run in a folder, standing where an earlier attempt left it."""
        shape = self.model.shape
        flops = shape.flops_per_token(shape.context)
        run = Run(
            directory,
            self.trainer,
            Owner(
                form=ModelForm(
                    state=lambda: self.trainer.masters.trained_state(self.model),
                    write=lambda state, path: save_file(dict(state), path / TRAINED),
                    read=lambda path: load_file(path / TRAINED),
                ),
                evaluate=lambda _: evaluate(),
                describe=describe,
                describe_score=describe_score,
            ),
            Meter(flops_per_token=flops, ceiling=self.machine.ceiling),
            patience=self.dose.patience,
        )
        run.resume()
        return run

    def _memory(self, rows: int) -> RankMemory:
        """What so many of the longest rows take: of what is frozen there are no gradients."""
        longest = self.batches.longest()
        need = rank_memory(
            replace(self.model.shape, context=longest.tokens // longest.rows),
            Ranks(on_cpu=self.machine.device.type == "cpu"),
            precision="bf16" if self.machine.dtype == torch.bfloat16 else "float32",
            optimizer="muon" if self.dose.optimizer == "muon" else "adamw",
            micro_rows=rows,
        )
        share = self.trained_parameters / self.model.shape.parameters
        return need._replace(gradients=share * need.gradients, optimizer=share * need.optimizer)

    def _plan(self) -> Plan:
        dose, per_epoch = self.dose, self.batches.steps_per_epoch
        longest = self.batches.longest()
        width = longest.tokens // longest.rows
        warmup = max(1, min(100, round(dose.warmup_share * self.steps)))
        return Plan(
            steps=self.steps,
            micro_rows=first_guess(self.batches.rows, width, self.machine.device),
            schedule=Schedule(kind="wsd", warmup=warmup, decay_share=1.0, floor=0.05),
            clip=dose.clip,
            pairwise=dose.deterministic,
            save_every=dose.save_every,
            save_seconds=dose.save_seconds,
            eval_every=max(1, per_epoch // dose.scores_per_epoch),
            eval_seconds=math.inf,
            seed=dose.seed,
        )


def describe(facts: StepFacts) -> dict[str, Any]:
    """A step as the journal holds it."""
    return {
        "step": facts.step,
        "tokens": facts.tokens,
        "loss": facts.loss,
        "learning_rate": facts.learning_rate,
        "gradient_norm": facts.gradient_norm,
    } | ({"skipped": True} if facts.skipped else {})
