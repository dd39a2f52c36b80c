"""The one training loop: batches in, better weights out, with the marks of every step.

Pretraining, instruction tuning and classification differ by objective and batches alone. The
loop knows neither files nor terminals: what happens at a step, a save and an evaluation is
handed in. A save always comes before an evaluation, so that a fault there loses nothing.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.profiler import record_function

from llmctl.errors import Interruption, TrainingError
from llmctl.model.device import tiniest_dropped
from llmctl.train.feed import Batches, Feed, Portion
from llmctl.train.garbage import collected_by_steps
from llmctl.train.masters import Masters, PairwiseSum, RowSum
from llmctl.train.objectives import Model, Objective
from llmctl.train.reduction import Alone, Reduction
from llmctl.train.schedule import Schedule

MOST_SKIPPED_IN_A_ROW = 10
# So far apart, the draws of two seeds have no step in common.
SEED_STRIDE = 1_000_003
ALONE = Alone()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How the loop runs; `steps` None means that `settle` will say once steps have been timed.

    What a step draws at random (dropout) follows from `seed` and its number. Saves and evaluations
    come every so many steps, or where that is None every so many seconds.
    """

    steps: int | None
    micro_rows: int
    schedule: Schedule
    clip: float
    pairwise: bool
    save_every: int | None
    save_seconds: float
    eval_every: int | None
    eval_seconds: float
    seed: int = 0
    reduce: Reduction = ALONE


@dataclass(frozen=True, slots=True)
class StepFacts:
    """What one step did: `step` counts from one; loss in nats a target, time in seconds."""

    step: int
    loss: float
    tokens: int
    trained: int
    learning_rate: float
    gradient_norm: float
    skipped: bool
    seconds: float


@dataclass(slots=True)
class Progress:
    """Where the run is; what a checkpoint remembers of the loop."""

    step: int = 0
    tokens: int = 0
    trained: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """What the owner of the loop does when something happens in it."""

    on_step: Callable[[StepFacts], None]
    on_save: Callable[[int], None]
    on_eval: Callable[[int], None]
    should_stop: Callable[[], bool]
    settle: Callable[[StepFacts], int | None]


class Optimizer(Protocol):
    """What changes weights by their gradients, as `torch.optim.Optimizer` has it.

    `param_groups` hold `params` and `lr`; `state` what is remembered of each parameter, an empty
    dict, which is kept, for one of which nothing is yet.
    """

    @property
    def param_groups(self) -> list[dict[str, Any]]: ...

    @property
    def state(self) -> Mapping[torch.Tensor, dict[str, Any]]: ...

    def step(self) -> Any:
        """Change every weight that has a gradient."""
        ...


class Trainer:
    """Trains a model on batches for an objective; `run` is the loop.

    Of several ranks each computes its share of the rows of a step; the plan says how to add up.
    """

    def __init__(
        self,
        model: Model,
        objective: Objective,
        batches: Batches,
        *,
        masters: Masters,
        optimizers: Sequence[Optimizer],
        plan: Plan,
    ) -> None:
        self.model = model
        self.objective = objective
        self.feed = Feed(batches, plan.reduce.world, next(model.parameters()).device)
        self.masters = masters
        self.optimizers = optimizers
        self.plan = plan
        self.world = plan.reduce.world
        self.steps = plan.steps
        self.micro_rows = plan.micro_rows
        self.progress = Progress()
        self._buffers: dict[int, torch.Tensor] = {}
        self._rates = [group["lr"] for one in optimizers for group in one.param_groups]
        self.device = self.feed.device

    def run(self, hooks: Hooks) -> None:
        """Train from the present step to the last; raises Interruption after a requested stop."""
        with collected_by_steps() as tidy, tiniest_dropped():
            self._run(hooks, tidy)

    def _run(self, hooks: Hooks, tidy: Callable[[], None]) -> None:
        plan = self.plan
        last_save = last_eval = time.monotonic()
        while self.steps is None or self.progress.step < self.steps:
            facts = self.step()
            tidy()
            hooks.on_step(facts)
            if self.steps is None:
                self.steps = hooks.settle(facts)
            # Clocks and signals differ from rank to rank; what one must do, all do.
            stop, evaluate, save = self.world.any(
                hooks.should_stop(),
                self._is_due(plan.eval_every, plan.eval_seconds, last_eval),
                self._must_save(last_save),
            )
            if stop or evaluate or save:
                hooks.on_save(facts.step)
                last_save = time.monotonic()
            if stop and facts.step != self.steps:
                raise Interruption(
                    f"stopped after step {facts.step:,}, which is saved",
                    hint="run the same command again to go on",
                )
            if evaluate:
                hooks.on_eval(facts.step)
                last_eval = time.monotonic()

    def compile(self) -> None:
        """Compile each block from the next step on: as fast as the whole, and sooner ready."""
        for block in self.model.blocks:
            block.compile(dynamic=False)

    @contextlib.contextmanager
    def eager(self) -> Iterator[None]:
        """A block in which those of the model run as written: other shapes would compile anew.

        Kernels that are generated by themselves still are: as written, attention by a mask in
        blocks keeps a score of every pair.
        """
        compiled = [block._compiled_call_impl for block in self.model.blocks]
        for block in self.model.blocks:
            block._compiled_call_impl = None
        try:
            yield
        finally:
            for block, call in zip(self.model.blocks, compiled, strict=True):
                block._compiled_call_impl = call

    def step(self) -> StepFacts:
        """One optimizer step on the next global batch."""
        began = time.perf_counter()
        number = self.progress.step
        self.world.doing(f"computes step {number + 1:,}")
        factor = self.plan.schedule.factor(number, self.steps)
        portion = self.feed.take(number, self.micro_rows)
        torch.manual_seed(SEED_STRIDE * self.plan.seed + number)
        gradients, loss = self.accumulate(portion)
        loss, norm = self.plan.reduce(gradients, loss)
        if number + 1 != self.steps:
            self.feed.fetch(number + 1, self.micro_rows)
        # The one time in a step that the host waits for the device, which waits for the others'.
        self.world.doing(f"waits for the sums of step {number + 1:,}")
        nats, length = torch.stack((loss, norm)).tolist()
        self.world.doing(f"updates weights by step {number + 1:,}")
        skipped = not (math.isfinite(nats) and math.isfinite(length))
        if not skipped:
            if length + 1e-6 > self.plan.clip:
                shrink = self.plan.clip / (norm + 1e-6)
                torch._foreach_mul_(gradients, shrink.to(gradients[0].device))
            self._update(gradients, factor)
        self._count(portion, skipped)
        return StepFacts(
            step=self.progress.step,
            loss=nats,
            tokens=self.progress.tokens,
            trained=self.progress.trained,
            learning_rate=self._rates[0] * factor,
            gradient_norm=length,
            skipped=skipped,
            seconds=time.perf_counter() - began,
        )

    def accumulate(self, portion: Portion) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Forward and backward over this rank's micro-batches: its sums of gradients and loss.

        Both are divided by the targets of the whole batch.
        """
        total = PairwiseSum() if self.plan.pairwise else RowSum(self._buffers)
        for micro in portion.micros:
            loss = self.objective(self.model, micro) / portion.trained
            loss.backward()
            total.add(self.masters.parameters, loss.detach())
        return total.total()

    def _update(self, gradients: list[torch.Tensor], factor: float) -> None:
        self.masters.assign_gradients(gradients)
        rates = iter(self._rates)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = next(rates) * factor
            with record_function(f"{type(optimizer).__name__}.step"):
                optimizer.step()
        self.masters.drop_gradients()
        self.masters.publish()

    def _count(self, portion: Portion, skipped: bool) -> None:
        progress = self.progress
        progress.step += 1
        progress.tokens += portion.tokens
        progress.trained += 0 if skipped else portion.trained
        progress.skipped += skipped
        progress.skipped_in_a_row = progress.skipped_in_a_row + 1 if skipped else 0
        if progress.skipped_in_a_row >= MOST_SKIPPED_IN_A_ROW:
            raise TrainingError(
                f"the loss was not finite for {MOST_SKIPPED_IN_A_ROW} steps in a row,"
                f" up to step {progress.step:,}",
                hint="the last good checkpoint is kept; try a lower `--learning-rate`",
            )

    def _must_save(self, last: float) -> bool:
        plan, step = self.plan, self.progress.step
        if self.steps is not None and step == plan.schedule.resumable_step(self.steps):
            return True
        return self._is_due(plan.save_every, plan.save_seconds, last)

    def _is_due(self, every: int | None, seconds: float, last: float) -> bool:
        """Whether something that comes every so many steps or seconds, and at the end, is due."""
        if self.progress.step == self.steps:
            return True
        if every is not None:
            return self.progress.step % every == 0
        return time.monotonic() - last > seconds
