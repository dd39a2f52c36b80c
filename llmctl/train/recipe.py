"""A shape and a budget -> how to train: batch, rates, schedule, steps; each with its reason.

One dial decides, everything derived can be overridden. Arithmetic only: no torch.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Literal

from llmctl.shapes import Shape
from llmctl.train.schedule import Schedule

# Hoffmann et al. 2022 (arXiv 2203.15556), table 3: about 20 tokens a parameter.
TOKENS_PER_PARAMETER = 20
# Muennighoff et al. 2023 (arXiv 2305.16264), section 6: four epochs are nearly as good as new text.
MOST_EPOCHS = 4
# Going on from trained weights: warmed up again, to less (Ibrahim et al. 2024, arXiv 2403.08763,
# section 6), and not read so often that the new text is learnt by heart.
CONTINUED_RATE, CONTINUED_EPOCHS = 0.3, 2
# The batch grows with the run: half a million tokens at 10 billion (GPT-2 124M, nanochat), about
# 2,000 at a million and 700 at 200 thousand (our trials); one power law goes through all three.
BATCH_ANCHOR, BATCH_TOKENS, BATCH_POWER = 1e10, 524_288, 0.6
# Below this Muon's products, the same for every batch, take the time that more text would need.
LEAST_ROWS = 8
# The pairs of few tokens, such as bytes, are learnt in the first steps anyway.
LEAST_COUNTED = 2048
# Wider models train for so long that what counting pairs saves is nothing beside it.
WIDEST_COUNTED = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Learning rates by what a weight does, and the constants of the optimizers."""

    matrix: float
    embedding: float
    head: float
    vector: float
    weight_decay: float
    momentum: float = 0.95
    betas: tuple[float, float] = (0.9, 0.95)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How long to train: at most one of the three; none means compute-optimal.

    `tokens_per_second` is a rough guess, used only to choose the batch of a run in seconds; a batch
    that is chosen can be dealt out to so many `teams` of processes.
    """

    tokens: int | None = None
    steps: int | None = None
    seconds: float | None = None
    tokens_per_second: float = 0.0
    teams: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All that the trainer needs to know. `steps` is None until a budget in minutes is settled.

    Embedding and head begin as a `bigram` model of the text, or `random`.
    """

    context: int
    rows: int
    steps: int | None
    rates: Rates
    schedule: Schedule
    optimizer: Literal["muon", "adamw"]
    init: Literal["bigram", "random"] = "random"
    reasons: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def tokens_per_step(self) -> int:
        """Tokens in the global batch."""
        return self.rows * self.context


def derive(
    shape: Shape,
    budget: Budget,
    *,
    text_tokens: int,
    optimizer: Literal["muon", "adamw"] = "muon",
    rows: int | None = None,
    is_continued: bool = False,
) -> Recipe:
    """The recipe for a shape, a budget and so many tokens of text.

    A run that `is_continued` goes on from trained weights.
    """
    reasons: dict[str, str] = {}
    if is_continued and (budget.tokens, budget.steps, budget.seconds) == (None, None, None):
        budget = replace(budget, tokens=CONTINUED_EPOCHS * text_tokens)
        reasons["tokens"] = f"{CONTINUED_EPOCHS} epochs of the new text"
    total = _total_tokens(shape, budget, text_tokens, reasons)
    if rows is None:
        rows = _rows(shape.context, total, budget.teams)
        reasons["batch"] = f"{rows} rows of {shape.context}: grows with the run's length"
    steps = budget.steps
    if steps is None and budget.seconds is None:
        steps = max(1, math.ceil(total / (rows * shape.context)))
    warmup = 20 if steps is None else min(2000, max(1, min(20, steps // 5), steps // 50))
    reasons["warmup"] = f"{warmup} steps: 2 % of the run, at least 20 where it has 100"
    rates = _rates(shape, optimizer, reasons)
    if is_continued:
        rates = _softened(rates)
        reasons["rates"] += f", times {CONTINUED_RATE} to go on from trained weights"
    return Recipe(
        context=shape.context,
        rows=rows,
        steps=steps,
        rates=rates,
        schedule=Schedule(warmup=warmup),
        optimizer=optimizer,
        init="random" if is_continued else _init(shape, reasons),
        reasons=reasons,
    )


def _init(shape: Shape, reasons: dict[str, str]) -> Literal["bigram", "random"]:
    if not can_foresee(shape):
        return "random"
    if shape.vocab_size < LEAST_COUNTED:
        reasons["init"] = "random: pairs of so few tokens are learnt in the first steps (ablation)"
        return "random"
    if shape.width > WIDEST_COUNTED:
        reasons["init"] = "random: so wide a model trains for long"
        return "random"
    reasons["init"] = "bigram: embedding and head begin with the counts of pairs (ablation)"
    return "bigram"


def can_foresee(shape: Shape) -> bool:
    """Whether embedding and head can be a bigram model: two matrices, and no mean removed."""
    return not shape.tied_head and shape.norm == "rms"


def _total_tokens(shape: Shape, budget: Budget, text_tokens: int, reasons: dict[str, str]) -> float:
    if budget.tokens is not None:
        return budget.tokens
    if budget.seconds is not None:
        return budget.tokens_per_second * budget.seconds
    if budget.steps is not None:
        # tokens = steps * batch(tokens), solved for tokens
        scale = budget.steps * BATCH_TOKENS / BATCH_ANCHOR**BATCH_POWER
        return scale ** (1 / (1 - BATCH_POWER))
    best = TOKENS_PER_PARAMETER * shape.matmul_parameters
    most = MOST_EPOCHS * text_tokens
    if best <= most:
        reasons["tokens"] = f"{TOKENS_PER_PARAMETER} a parameter is compute-optimal"
        return best
    reasons["tokens"] = (
        f"{MOST_EPOCHS} epochs of the text; {best:,} would be compute-optimal: collect more text"
    )
    return most


def _rows(context: int, total: float, teams: int) -> int:
    tokens = BATCH_TOKENS * (max(total, 1) / BATCH_ANCHOR) ** BATCH_POWER
    rows = 2 ** round(math.log2(max(tokens / context, 1)))
    return teams * math.ceil(max(LEAST_ROWS, rows) / teams)


def _softened(rates: Rates) -> Rates:
    names = ("matrix", "embedding", "head", "vector")
    return replace(rates, **{name: CONTINUED_RATE * getattr(rates, name) for name in names})


def _rates(shape: Shape, optimizer: str, reasons: dict[str, str]) -> Rates:
    # AdamW's rates fall with the square root of the width beyond the width they were tried at.
    fall = min(1.0, (256 / shape.width) ** 0.5)
    if optimizer == "muon":
        reasons["rates"] = "Muon 0.012 for matrices, AdamW 0.01 for embedding and head (ablation)"
        return Rates(
            matrix=0.012, embedding=0.01 * fall, head=0.01 * fall, vector=0.003, weight_decay=0.0
        )
    rate = 0.003 * fall
    reasons["rates"] = f"AdamW {rate:.2g} for all"
    return Rates(matrix=rate, embedding=rate, head=rate, vector=rate, weight_decay=0.1)
