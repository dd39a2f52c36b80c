"""Token shards, a shape and a recipe -> a training run, ready to resume or begin.

The one place where the parts of pretraining meet. Receives paths, never artifact names.
"""

import functools
import math
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from llmctl.costs.ranks import RankMemory, Ranks, rank_memory
from llmctl.data.batches import TokenStream, TrainingBatches, validation_batches
from llmctl.data.mixture import MixedBatches
from llmctl.data.pairs import count_pairs
from llmctl.data.tokenizer import Tokenizer
from llmctl.errors import ConfigError
from llmctl.model.checkpoint import SpecialIds, load_model, outward, save_model
from llmctl.model.device import Precision
from llmctl.model.float8 import compute_in_float8
from llmctl.model.transformer import Transformer
from llmctl.registry import load, look_up
from llmctl.shapes import Shape
from llmctl.train.checkpoint import ModelForm
from llmctl.train.distributed.world import ALONE, World
from llmctl.train.evaluation import DomainScore, DomainScores, score
from llmctl.train.foresight import foreseeing
from llmctl.train.layout import Kind, Laid, Layout, Parallel, choose, lay
from llmctl.train.machine import Machine, memory_bytes
from llmctl.train.meter import Meter, Minutes
from llmctl.train.objectives import Objective, next_token
from llmctl.train.optimizers import OPTIMIZERS
from llmctl.train.probe import first_guess, fitting_rows
from llmctl.train.recipe import Recipe
from llmctl.train.recompute import Recompute, recompute
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
# The weights to begin with are counted over so many tokens, between the most frequent ones: a few
# seconds, and 1.3 GB.
PAIRS, PAIRED = 8_000_000, 8192
# The training loss that is reported is the mean over so many last steps.
LAST_STEPS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to run what the recipe says, on the machine at hand."""

    device: str = "auto"
    precision: Precision = "auto"
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
    parallel: Parallel = "auto"
    recompute: Recompute = "none"
    cpu_offload: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A folder of tokens, its share of what is read, and the bytes a token of it stands for.

    A text without a share is not trained on, but scored.
    """

    name: str
    directory: Path
    weight: float = 1.0
    bytes_per_token: float
    held_out_bytes_per_token: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to train, how, on which machine, and until when if the budget is one of time.

    `base` is the folder of a model to go on from; without one the weights are drawn.
    """

    shape: Shape
    recipe: Recipe
    settings: Settings
    machine: Machine
    minutes: Minutes | None = None
    base: Path | None = None
    world: World = ALONE

    def memory(self, kind: Kind, micro_rows: int = 1) -> RankMemory:
        """What a rank would have to hold at least, were the model laid out so."""
        world, settings = self.world, self.settings
        parallel, each = "ddp" if kind == "alone" else kind, world.local_size
        return rank_memory(
            replace(self.shape, context=self.recipe.context),
            Ranks(
                world_size=world.size,
                parallel=parallel,
                each=each if world.size % each == 0 else world.size,
                offload=settings.cpu_offload and parallel != "ddp",
                slices=world.slices,
                parts=world.parts,
                on_cpu=self.machine.device.type == "cpu",
            ),
            precision="bf16" if self.machine.dtype == torch.bfloat16 else "float32",
            optimizer=self.recipe.optimizer,
            micro_rows=micro_rows,
            recompute=settings.recompute,
        )

    @property
    def micro_rows(self) -> int:
        """So many rows at once to begin with; ConfigError where ranks cannot share a step's."""
        rows, settings, world = self.recipe.rows, self.settings, self.world
        teams = world.teams
        if rows % teams:
            each = f"teams of {world.team_size} processes" if world.team_size > 1 else "processes"
            raise ConfigError(
                f"{rows} rows do not divide over {teams} {each}",
                hint=f"give `--batch {teams * math.ceil(rows / teams)}`, or let several processes"
                " share rows: `--context-parallel` or `--tp`",
            )
        if settings.micro_rows is not None:
            return min(settings.micro_rows, rows // teams)
        if settings.deterministic:
            parts = math.gcd(rows, FIXED_MICRO_BATCHES)
            if parts % teams:
                raise ConfigError(
                    f"`--deterministic` cuts {rows} rows into {parts}, which do not divide over"
                    f" {teams} processes",
                    hint=f"give `--batch {FIXED_MICRO_BATCHES * math.ceil(rows / teams)}`",
                )
            return rows // parts
        return first_guess(rows // teams, self.recipe.context // world.slices, self.machine.device)

    def layout(self, device_bytes: float) -> Layout:
        """How the model is to lie over ranks of so much memory each."""
        return choose(
            self.settings.parallel,
            self.world,
            lambda kind: self.memory(kind).total,
            device_bytes=device_bytes,
            deterministic=self.settings.deterministic,
            offload=self.settings.cpu_offload,
        )


class Pretraining:
    """A pretraining run in a folder: `run.resume()`, `run.train()`, `write_model()`.

    Of several ranks each makes its own, and all must do the same with it.
    """

    def __init__(self, texts: Sequence[Text], directory: Path, job: Job) -> None:
        self.texts, self.job = texts, job
        self.tokenizer = Tokenizer.load(texts[0].directory)
        self.held_out = [TokenStream(one.directory / "validation") for one in texts]
        trained = [one for one in texts if one.weight]
        self.parts = [self._batches(one) for one in trained]
        self.batches = self.parts[0]
        if len(self.parts) > 1:
            weights = [one.weight for one in trained]
            rows, seed = job.recipe.rows, job.settings.seed
            self.batches = MixedBatches(self.parts, weights, rows=rows, seed=seed)
        self.last_score: DomainScores | None = None
        self.layout = job.layout(memory_bytes(job.machine.device, job.world))
        laid = self._laid()
        self.model = laid.model
        self.trainer = self._trainer(laid)
        self.remark = self._compile()
        flops = job.shape.flops_per_token(job.recipe.context)
        self._bytes_per_token = sum(one.weight * one.bytes_per_token for one in texts)
        self.run = Run(
            directory,
            self.trainer,
            Owner(
                form=ModelForm(
                    state=lambda: self.trainer.masters.full_state(self.trainer.model),
                    write=self._write_model,
                    read=lambda path: dict(load_model(path).state_dict()),
                ),
                evaluate=self._evaluate,
                describe=self.describe,
                describe_score=self.describe_score,
            ),
            Meter(flops_per_token=flops, ceiling=job.world.size * job.machine.ceiling),
            minutes=job.minutes,
            keep=job.settings.keep,
        )

    def write_model(self, directory: Path) -> None:
        """The model as it stands, as a folder that transformers opens; the first rank writes it."""
        state = self.trainer.masters.full_state(self.trainer.model)
        if self.job.world.leads:
            self._write_model(state, directory)
            return
        for _ in outward(state, self.job.shape):
            pass  # what lies in rows is gathered by all ranks together

    def _write_model(self, state: Mapping[str, Tensor], directory: Path) -> None:
        tokenizer = self.tokenizer
        special = SpecialIds(eos=tokenizer.eos_id, pad=tokenizer.pad_id, bos=tokenizer.bos_id)
        save_model(state, self.job.shape, directory, special=special)
        tokenizer.save(directory)

    def epochs(self, steps: int) -> list[float]:
        """How often so many steps go through each text that is trained on."""
        rows = [steps * self.job.recipe.rows]
        if isinstance(self.batches, MixedBatches):
            rows = self.batches.rows_of(rows[0])
        return [part.epochs(some) for part, some in zip(self.parts, rows, strict=True)]

    def score_first(self) -> None:
        """Score the model as it comes, before the first step, where it comes from a base."""
        if self.job.base is not None and self.trainer.progress.step == 0:
            found = self._evaluate(True)
            if self.job.world.leads:
                self.run.journal.add({"step": 0, "tokens": 0} | self.describe_score(found))

    def _batches(self, text: Text) -> TrainingBatches:
        return TrainingBatches(
            TokenStream(text.directory / "train"),
            context=self.job.recipe.context,
            rows=self.job.recipe.rows,
            end_of_text=self.tokenizer.eos_id,
            seed=self.job.settings.seed,
        )

    def _laid(self) -> Laid:
        job = self.job
        laid = lay(self.layout, job.world, job.shape, job.machine, weights=self._weights)
        if job.machine.products == "float8":
            compute_in_float8(laid.model.blocks)
        recompute(laid.model, job.settings.recompute)
        return laid

    def _weights(self, model: Transformer) -> Iterable[tuple[str, Tensor]]:
        """The weights to begin with: a base's, or drawn, where counts do not say better."""
        job = self.job
        if job.base is not None:
            return load_model(job.base, dtype=torch.float32).state_dict().items()
        drawn = model.drawn_weights(job.settings.seed)
        if job.recipe.init == "random":
            return drawn
        counted = self._counted_weights()
        return ((name, counted.get(name, value)) for name, value in drawn)

    def _counted_weights(self) -> dict[str, Tensor]:
        """Embedding and head as the first rank counts them: sums of floats differ by processor."""
        job = self.job
        size = (job.shape.vocab_size, job.shape.width)
        found = [torch.zeros(size), torch.zeros(size)]
        if job.world.leads:
            tokens = min(PAIRS, sum(part.windows for part in self.parts) * job.recipe.context)
            steps = max(1, tokens // job.recipe.tokens_per_step)
            batches = (self.batches.batch(step) for step in range(steps))
            pairs = count_pairs(batches, job.shape.vocab_size, kept=PAIRED)
            found = list(foreseeing(pairs, job.shape.width, job.settings.seed))
        job.world.add_up(found, "the weights to begin with")
        return dict(zip(("embedding.weight", "head.weight"), found, strict=True))

    def _trainer(self, laid: Laid) -> Trainer:
        job = self.job
        recipe, settings, dtype = job.recipe, job.settings, job.machine.dtype
        model, masters, reduce, spread = laid
        build = look_up(OPTIMIZERS, recipe.optimizer, kind="optimizer", group="optimizers")
        trainer = Trainer(
            model,
            self._objective(),
            self.batches,
            masters=masters,
            optimizers=build(masters.masters, recipe.rates, dtype, spread),
            plan=Plan(
                steps=recipe.steps,
                micro_rows=job.micro_rows,
                schedule=recipe.schedule,
                clip=settings.clip,
                pairwise=settings.deterministic,
                save_every=settings.save_every,
                save_seconds=settings.save_seconds,
                eval_every=settings.eval_every or self._fixed_eval(),
                eval_seconds=settings.eval_seconds,
                reduce=reduce,
            ),
        )
        if settings.micro_rows is None:
            need = functools.partial(job.memory, self.layout.kind)
            fitting_rows(trainer, self.batches.batch(0), need, hint=self._smaller())
        return trainer

    def _smaller(self) -> str:
        """What would take less memory."""
        again = "" if self.job.settings.recompute == "full" else "`--recompute full`, "
        return (
            f"choose {again}a smaller `--context` or a smaller model, or let several devices share"
            " a row: `--context-parallel`"
        )

    def _objective(self) -> Objective:
        world = self.job.world
        if world.slices == 1:
            return next_token
        team: Any = load("llmctl.train.distributed.slices:Team")
        return functools.partial(next_token, slices=team(world, self.job.machine.device))

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

    def _evaluate(self, whole: bool) -> DomainScores:
        most = self._last_eval_tokens() if whole else EVAL_TOKENS
        with self.trainer.eager():
            found = tuple(
                self._domain_score(text, stream, most // len(self.texts))
                for text, stream in zip(self.texts, self.held_out, strict=True)
            )
        self.last_score = DomainScores(found)
        return self.last_score

    def _domain_score(self, text: Text, stream: TokenStream, most: int) -> DomainScore:
        context = self.job.recipe.context
        rows = max(1, min(EVAL_TOKENS // context, 64))
        batches = validation_batches(
            stream, context=context, rows=rows, end_of_text=self.tokenizer.eos_id
        )
        most = max(1, most // (rows * context))
        found = score(self.model, self.trainer.objective, batches, most=most, world=self.job.world)
        text_bytes = found.targets * text.held_out_bytes_per_token
        return DomainScore(text.name, text.weight, found, text_bytes)

    def _last_eval_tokens(self) -> int:
        given = self.job.settings.eval_tokens
        return given or max(LAST_EVAL_TOKENS, self.trainer.progress.tokens)

    def describe(self, facts: StepFacts) -> dict[str, Any]:
        """A step as the journal holds it."""
        nats_per_byte = facts.loss / self._bytes_per_token
        return {
            "step": facts.step,
            "tokens": facts.tokens,
            "loss": facts.loss,
            "bits_per_byte": round(nats_per_byte / math.log(2), 5),
            "learning_rate": facts.learning_rate,
            "gradient_norm": facts.gradient_norm,
        } | ({"skipped": True} if facts.skipped else {})

    def describe_score(self, found: DomainScores) -> dict[str, Any]:
        """A score as the journal holds it; of several texts each apart, too."""
        told: dict[str, Any] = {"val_loss": found.loss, "val_bits_per_byte": found.bits_per_byte}
        if len(found.domains) > 1:
            told["domains"] = {one.name: one.bits_per_byte for one in found.domains}
        return told

    def facts(self) -> dict[str, Any]:
        """What a finished run did, as its manifest says it."""
        progress, run, recipe = self.trainer.progress, self.run, self.job.recipe
        assert self.last_score is not None
        trained = [row["loss"] for row in run.journal.rows() if "loss" in row]
        rate = run.meter.typical_rate
        epochs = self.epochs(progress.step)
        first = run.journal.rows()[0]
        return {
            "parameters": self.job.shape.parameters,
            "steps": progress.step,
            "rows": recipe.rows,
            "context": recipe.context,
            "tokens": progress.tokens,
            "tokens_trained": progress.trained,
            "tokens_padded": 0,
            "tokens_dropped": progress.tokens - progress.trained,
            "tokens_left_out_per_epoch": sum(part.dropped_per_epoch for part in self.parts),
            "epochs": round(max(epochs), 3),
            **self._sources(epochs),
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
            **({"before": _scores_of(first)} if self.job.base else {}),
            "best_step": run.best_step or progress.step,
            "steps_skipped": progress.skipped,
            "resumed_from": run.resumed_from,
            "world_size": self.job.world.size,
            "parallel": self.layout.kind,
            "context_parallel": self.job.world.slices,
            "tensor_parallel": self.job.world.parts,
            "goodput": run.goodput.facts(),
        }

    def _sources(self, epochs: Sequence[float]) -> dict[str, Any]:
        """The share and the epochs of each text, where there are several."""
        if len(self.parts) == 1:
            return {}
        trained = [one for one in self.texts if one.weight]
        return {
            "mix": {
                text.name: {"share": round(text.weight, 4), "epochs": round(times, 3)}
                for text, times in zip(trained, epochs, strict=True)
            }
        }


def _scores_of(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: row[key] for key in ("val_loss", "val_bits_per_byte", "domains") if key in row}
