"""Token shards, a shape and a recipe -> a training run, ready to resume or begin.

The one place where the parts of pretraining meet. Receives paths, never artifact names.
"""

import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from llmctl.data.batches import TokenStream, TrainingBatches, validation_batches
from llmctl.data.tokenizer import Tokenizer
from llmctl.model.checkpoint import SpecialIds, load_model, save_model
from llmctl.model.transformer import Transformer, fresh
from llmctl.registry import look_up
from llmctl.shapes import Shape
from llmctl.train.evaluation import Score, score
from llmctl.train.machine import Machine
from llmctl.train.masters import Masters
from llmctl.train.meter import Meter, Minutes
from llmctl.train.objectives import next_token
from llmctl.train.optimizers import OPTIMIZERS
from llmctl.train.probe import first_guess, fitting_rows
from llmctl.train.recipe import Recipe
from llmctl.train.run import Owner, Run
from llmctl.train.trainer import Plan, StepFacts, Trainer

# Scores during a run read this much held-out text, about a second of it. The last reads all, but
# no more than the run has trained on (or this): to score must not take longer than to train.
EVAL_TOKENS, LAST_EVAL_TOKENS = 16_384, 262_144
# Compiling block by block costs 3-10 s and brings about 14 %: shorter runs do not earn it back.
COMPILE_SECONDS = 90.0
# Deterministic runs cut every step into this many micro-batches, or the largest count that
# divides it, so that 1, 2, 4 or 8 processes add up the same sums.
FIXED_MICRO_BATCHES = 8
# The training loss that is reported is the mean over so many last steps.
LAST_STEPS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to run what the recipe says, on the machine at hand."""

    device: str = "auto"
    precision: Literal["auto", "bf16", "float32"] = "auto"
    compile: Literal["auto", "on", "off"] = "auto"
    deterministic: bool = False
    seed: int = 0
    clip: float = 1.0
    micro_rows: int | None = None
    save_every: int | None = None
    save_seconds: float = 120.0
    eval_every: int | None = None
    eval_seconds: float = 30.0
    eval_tokens: int | None = None
    keep: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """The folder of tokens, and the bytes of text a token stands for, of both splits."""

    directory: Path
    bytes_per_token: float
    held_out_bytes_per_token: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to train, how, on which machine, and until when if the budget is one of time."""

    shape: Shape
    recipe: Recipe
    settings: Settings
    machine: Machine
    minutes: Minutes | None = None


class Pretraining:
    """A pretraining run in a folder: `run.resume()`, `run.train()`, `write_model()`."""

    def __init__(self, text: Text, directory: Path, job: Job) -> None:
        self.text, self.job = text, job
        self.tokenizer = Tokenizer.load(text.directory)
        self.held_out = TokenStream(text.directory / "validation")
        self.batches = TrainingBatches(
            TokenStream(text.directory / "train"),
            context=job.recipe.context,
            rows=job.recipe.rows,
            end_of_text=self.tokenizer.eos_id,
            seed=job.settings.seed,
        )
        self.last_score: Score | None = None
        self.model = fresh(job.shape, job.settings.seed, device=job.machine.device)
        self.trainer = self._trainer(self.model)
        self.remark = self._compile()
        flops = job.shape.flops_per_token(job.recipe.context)
        self.run = Run(
            directory,
            self.trainer,
            Owner(
                write_model=self.write_model,
                read_model=lambda path: dict(load_model(path).state_dict()),
                evaluate=self._evaluate,
                describe=self.describe,
                describe_score=self.describe_score,
            ),
            Meter(flops_per_token=flops, ceiling=job.machine.ceiling),
            minutes=job.minutes,
            keep=job.settings.keep,
        )

    def write_model(self, directory: Path) -> None:
        """The model as it stands, as a folder that transformers opens."""
        state = self.trainer.masters.full_state(self.trainer.model)
        tokenizer = self.tokenizer
        special = SpecialIds(eos=tokenizer.eos_id, pad=tokenizer.pad_id, bos=tokenizer.bos_id)
        save_model(state, self.job.shape, directory, special=special)
        tokenizer.save(directory)

    def _trainer(self, model: Transformer) -> Trainer:
        shape, recipe, settings = self.job.shape, self.job.recipe, self.job.settings
        masters = Masters(model)
        model.to(self.job.machine.dtype)
        build = look_up(OPTIMIZERS, recipe.optimizer, kind="optimizer", group="optimizers")
        trainer = Trainer(
            model,
            next_token,
            self.batches,
            masters=masters,
            optimizers=build(masters.masters, recipe.rates, self.job.machine.dtype),
            plan=Plan(
                steps=recipe.steps,
                micro_rows=self._micro_rows(),
                schedule=recipe.schedule,
                clip=settings.clip,
                pairwise=settings.deterministic,
                save_every=settings.save_every,
                save_seconds=settings.save_seconds,
                eval_every=settings.eval_every or self._fixed_eval(),
                eval_seconds=settings.eval_seconds,
            ),
        )
        if settings.micro_rows is None:
            fitting_rows(trainer, shape, self.batches.batch(0))
        return trainer

    def _micro_rows(self) -> int:
        rows, settings = self.job.recipe.rows, self.job.settings
        if settings.micro_rows is not None:
            return min(settings.micro_rows, rows)
        if settings.deterministic:
            return rows // math.gcd(rows, FIXED_MICRO_BATCHES)
        return first_guess(rows, self.job.recipe.context, self.job.machine.device)

    def _fixed_eval(self) -> int | None:
        """Deterministic runs evaluate by the step, not by the clock."""
        if not self.job.settings.deterministic or self.job.recipe.steps is None:
            return None
        return max(1, self.job.recipe.steps // 10)

    def _compile(self) -> str:
        """Compile the forward pass where it pays; why not, where it would and cannot be."""
        wish, machine = self.job.settings.compile, self.job.machine
        if wish == "off" or self.job.settings.deterministic:
            return ""
        if wish == "auto" and self._expected_seconds() < COMPILE_SECONDS:
            return ""
        if machine.device.type == "cpu" and not any(map(shutil.which, ("c++", "g++", "clang++"))):
            return "not compiled, because there is no C++ compiler"
        self.trainer.compile()
        return ""

    def _expected_seconds(self) -> float:
        """Roughly how long the run takes, at 40 % of the machine's rate."""
        job = self.job
        if job.minutes is not None:
            return job.minutes.seconds
        tokens = (job.recipe.steps or 0) * job.recipe.tokens_per_step
        return tokens * job.shape.flops_per_token(job.recipe.context) / (0.4 * job.machine.ceiling)

    def _evaluate(self, whole: bool) -> Score:
        rows = max(1, min(EVAL_TOKENS // self.job.recipe.context, 64))
        batches = validation_batches(
            self.held_out,
            context=self.job.recipe.context,
            rows=rows,
            end_of_text=self.tokenizer.eos_id,
        )
        most = self._last_eval_tokens() if whole else EVAL_TOKENS
        most = max(1, most // (rows * self.job.recipe.context))
        with self.trainer.eager():
            self.last_score = score(self.model, next_token, batches, most=most)
        return self.last_score

    def _last_eval_tokens(self) -> int:
        given = self.job.settings.eval_tokens
        return given or max(LAST_EVAL_TOKENS, self.trainer.progress.tokens)

    def describe(self, facts: StepFacts) -> dict[str, Any]:
        """A step as the journal holds it."""
        nats_per_byte = facts.loss / self.text.bytes_per_token
        return {
            "step": facts.step,
            "tokens": facts.tokens,
            "loss": facts.loss,
            "bits_per_byte": round(nats_per_byte / math.log(2), 5),
            "learning_rate": facts.learning_rate,
            "gradient_norm": facts.gradient_norm,
        } | ({"skipped": True} if facts.skipped else {})

    def describe_score(self, found: Score) -> dict[str, Any]:
        """A score as the journal holds it."""
        text_bytes = found.targets * self.text.held_out_bytes_per_token
        return {"val_loss": found.loss, "val_bits_per_byte": found.bits_per_byte(text_bytes)}

    def facts(self) -> dict[str, Any]:
        """What a finished run did, as its manifest says it."""
        progress, run, recipe = self.trainer.progress, self.run, self.job.recipe
        assert self.last_score is not None
        trained = [row["loss"] for row in run.journal.rows() if "loss" in row]
        rate = run.meter.typical_rate
        epochs = self.batches.epochs(progress.step)
        return {
            "parameters": self.job.shape.parameters,
            "steps": progress.step,
            "rows": recipe.rows,
            "context": recipe.context,
            "tokens": progress.tokens,
            "tokens_trained": progress.trained,
            "tokens_padded": 0,
            "tokens_dropped": progress.tokens - progress.trained,
            "tokens_left_out_per_epoch": self.batches.dropped_per_epoch(),
            "epochs": round(epochs, 3),
            "seconds": round(run.meter.seconds, 3),
            "eval_seconds": round(run.eval_seconds, 3),
            "trained_at": run.trained_at,
            "tokens_per_second": round(rate, 1),
            "mfu": round(run.meter.mfu(rate), 4),
            "ceiling_flops": self.job.machine.ceiling,
            "precision": self.job.machine.type_name,
            "train_loss": sum(trained[-LAST_STEPS:]) / max(1, len(trained[-LAST_STEPS:])),
            **self.describe_score(self.last_score),
            "val_tokens": self.last_score.targets,
            "best_step": run.best_step or progress.step,
            "steps_skipped": progress.skipped,
            "resumed_from": run.resumed_from,
            "world_size": 1,
        }
