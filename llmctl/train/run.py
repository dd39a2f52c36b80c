"""A training run from its first step or its last checkpoint to the end.

Ties the loop to what must outlast it: checkpoints, the journal, the pace and the best score.
Pretraining and fine-tuning differ in what they hand in.
"""

import json
import logging
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from llmctl.durable import write_durably
from llmctl.errors import Interruption, TrainingError
from llmctl.train.checkpoint import Checkpoints, ModelForm, Saved, damage_found, read_saved, restore
from llmctl.train.distributed.world import World
from llmctl.train.goodput import Goodput
from llmctl.train.journal import Journal
from llmctl.train.meter import Meter, Minutes, Pace
from llmctl.train.signals import stop_requests
from llmctl.train.trainer import Hooks, StepFacts, Trainer

HORIZON = "horizon.json"
logger = logging.getLogger(__name__)


class Score(Protocol):
    """How good the model is on held-out data."""

    @property
    def rank(self) -> float:
        """What scores are compared by: less is better."""
        ...

    @property
    def margin(self) -> float:
        """How far apart ranks may lie that nobody could tell from each other."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """What the run asks of whoever started it."""

    form: ModelForm
    evaluate: Callable[[bool], Score]
    describe: Callable[[StepFacts], dict[str, Any]]
    describe_score: Callable[[Any], dict[str, Any]]


@dataclass(slots=True)
class Run:
    """One run in one folder; `resume` finds where it stood, `train` takes it to its end.

    `patience` is after how many scores in a row without a better one it ends; it is for runs
    whose every score is of all held-out data, among which the last may be the best.
    """

    directory: Path
    trainer: Trainer
    owner: Owner
    meter: Meter
    minutes: Minutes | None = None
    keep: int = 2
    patience: int | None = None
    on_line: Callable[[StepFacts, Pace, int | None], None] | None = None
    best_step: int = 0
    best_rank: float = float("inf")
    last_rank: float = float("inf")
    eval_seconds: float = 0.0
    trained_at: str = ""
    _saved_at: str = ""
    resumed_from: int | None = None
    checkpoints: Checkpoints = field(init=False)
    journal: Journal = field(init=False)
    goodput: Goodput = field(init=False)

    def __post_init__(self) -> None:
        self.checkpoints = Checkpoints(self.directory / "state", keep=self.keep)
        self.journal = Journal(self.directory / "metrics.jsonl")
        self.goodput = Goodput(self.directory / "goodput.json")

    def resume(self, origin: Path | None = None) -> None:
        """Go on from the newest sound checkpoint, else from `origin`, else from the beginning."""
        saved = self._agreed(origin)
        if saved is not None:
            restore(self.trainer, saved, self.owner.form)
            self._remember(saved)
        if self.world.leads:
            self.goodput.resume(lost=self.journal.cut(self.trainer.progress.step))
        self._read_horizon()

    def train(self) -> None:
        """Run the loop; a signal saves and raises Interruption."""
        step, every = self.trainer.progress.step, self.trainer.plan.eval_every
        if step and (step == self.trainer.steps or (every is not None and step % every == 0)):
            # The checkpoint was written before the score, which is therefore still owed.
            self._on_eval(step)
        self.goodput.begin()
        try:
            with stop_requests() as should_stop:
                self.trainer.run(
                    Hooks(
                        on_step=self._on_step,
                        on_save=self._on_save,
                        on_eval=self._on_eval,
                        should_stop=should_stop,
                        settle=self._settle,
                    )
                )
        except Interruption:
            # Nobody leaves while another still saves: whoever watches would end the others.
            self.checkpoints.wait()
            self.world.wait_for_all("what is being saved")
            raise
        finally:
            # Whatever ended the loop, what was being saved is saved.
            self.checkpoints.wait()

    @property
    def world(self) -> World:
        """The processes that train together."""
        return self.trainer.world

    @property
    def resumable_step(self) -> int:
        """The step whose checkpoint a longer run can go on from."""
        assert self.trainer.steps is not None
        return self.trainer.plan.schedule.resumable_step(self.trainer.steps)

    def take_best(self) -> None:
        """Put the weights of the best score into the model; TrainingError where none was finite."""
        if not math.isfinite(self.best_rank):
            raise TrainingError(
                f"no score on held-out data was finite up to step {self.trainer.progress.step:,}",
                hint="try a lower `--learning-rate`",
            )
        if self.best_step != self.trainer.progress.step:
            weights = self.owner.form.read(self.checkpoints.path(self.best_step))
            self.trainer.masters.load(self.trainer.model, weights)

    def scaffold(self, *, goes_on: bool) -> list[Path]:
        """At the end: what is no part of the result.

        Where a longer run may go on, the checkpoint to go on from and the best one are a part.
        """
        checkpoints = self.checkpoints
        own = [self.directory / HORIZON, self.goodput.path]
        if not goes_on:
            return [checkpoints.directory, *own]
        resumable, best = checkpoints.path(self.resumable_step), checkpoints.directory / "best"
        newer = checkpoints.path(self.best_step)
        if self.best_rank < self.last_rank and newer != resumable and newer.exists():
            shutil.rmtree(best, ignore_errors=True)
            newer.rename(best)
        return [*(set(checkpoints.directory.iterdir()) - {resumable, best}), *own]

    def _on_step(self, facts: StepFacts) -> None:
        pace = self.meter.add(facts, self.trainer.steps)
        if self.trainer.steps is None and self.minutes is not None:
            pace = replace(pace, seconds_left=self.minutes.left)
        self.goodput.add("training", facts.seconds)
        row = self.owner.describe(facts) | {
            "seconds": round(self.meter.seconds, 4),
            "tokens_per_second": round(pace.tokens_per_second, 1),
            "mfu": round(pace.mfu, 4),
        }
        self._write(row)
        if self.on_line is not None:
            self.on_line(facts, pace, self.trainer.steps)

    def _on_save(self, step: int) -> None:
        notes = {
            "best_step": self.best_step,
            "best_rank": None if self.best_step == 0 else self.best_rank,
            "micro_rows": self.trainer.micro_rows,
            "seconds": self.meter.seconds,
        }
        with self.goodput.spent_on("saving"):
            self.checkpoints.save(self.trainer, self.owner.form, notes, pinned=self._pinned())
        if self.world.leads:
            self.goodput.write()
        self._saved_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        logger.info("saved step %d", step)

    def _on_eval(self, step: int) -> None:
        is_last = step == self.trainer.steps
        began = time.monotonic()
        with self.goodput.spent_on("scoring"):
            found = self.owner.evaluate(is_last)
        if is_last:
            self.trained_at = self._saved_at
        else:
            self.eval_seconds += time.monotonic() - began
        self.last_rank = found.rank
        self._write(
            {"step": step, "tokens": self.trainer.progress.tokens}
            | self.owner.describe_score(found)
        )
        # Of those that cannot be told from the best the latest, whose rate has fallen furthest.
        is_best = found.rank < self.best_rank + found.margin
        if is_best and (self.patience is not None or not is_last):
            self.best_step, self.best_rank = step, min(found.rank, self.best_rank)
        if self.patience is not None and step - self.best_step >= self.patience * self._stride:
            self.trainer.steps = step

    @property
    def _stride(self) -> int:
        """Steps from one score to the next."""
        return self.trainer.plan.eval_every or 1

    def _pinned(self) -> list[int]:
        pinned = [self.best_step]
        if self.trainer.steps is not None:
            pinned.append(self.resumable_step)
        return pinned

    def _settle(self, facts: StepFacts) -> int | None:
        assert self.minutes is not None
        steps = self.world.told_by_first(self.minutes.settle(facts))
        if steps is not None and self.world.leads:
            write_durably(self.directory / HORIZON, json.dumps({"steps": steps}).encode())
        return steps

    def _read_horizon(self) -> None:
        path = self.directory / HORIZON
        if self.trainer.steps is None and path.exists():
            self.trainer.steps = json.loads(path.read_bytes())["steps"]

    def _agreed(self, origin: Path | None) -> Saved | None:
        """The checkpoint to go on from, which all ranks have looked at."""
        saved = self.checkpoints.newest(self.world)
        first = self.world.told_by_first(None if origin is None else str(origin))
        if saved is not None or first is None:
            return saved
        why = damage_found(Path(first), self.world)
        if why is not None:
            raise TrainingError(
                f"{first} is damaged ({why}), so the run cannot go on from it",
                hint="train anew with `--force`",
            )
        return read_saved(Path(first))

    def _remember(self, saved: Saved) -> None:
        self.resumed_from = saved.progress.step
        self.best_step = saved.notes["best_step"]
        best = saved.notes["best_rank"]
        self.best_rank = float("inf") if best is None else best
        self.trainer.micro_rows = saved.notes["micro_rows"]
        self.meter.resume(saved.notes["seconds"], saved.progress.tokens)
        if self.minutes is not None:
            self.minutes.resume(saved.notes["seconds"])

    def _write(self, row: dict[str, Any]) -> None:
        if not self.world.leads:
            return
        try:
            self.journal.add(row)
        except OSError as error:
            raise TrainingError(
                f"{self.journal.path} cannot be written: {error.strerror}",
                hint="free some space and run the same command again",
            ) from error
