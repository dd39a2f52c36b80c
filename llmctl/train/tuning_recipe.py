"""How wide a model is and how many examples there are -> how much to fine-tune it.

Each figure has its reason; everything derived can be overridden.
"""

import math
from typing import Literal

from llmctl.train.tuning import Dose

# AdamW's rate at a width of 256; it falls faster than with the square root, so that it comes to
# the 5e-5 to 1e-4 at which models of 768 and more are usually tuned.
RATE, WIDTH, POWER = 5e-4, 256, 1.5
# What begins at zero, or anew, needs larger steps than what was trained for long.
LORA_FACTOR, HEAD_FACTOR = 5.0, 2.0
# Few examples are read often, many seldom. The rate falls until the end, and a run that ends before
# it has fallen makes more mistakes: patience is half of the run.
EXAMPLES_READ, LEAST_EPOCHS, MOST_EPOCHS = 20_000, 3, 12
# The same where texts are learnt as such, before their labels.
TEXTS_READ, LEAST_ROUNDS, MOST_ROUNDS = 20_000, 1, 5
ADAPTING_FACTOR = 2.0
# A base that spends more bits on a byte of such texts has hardly seen any: books by a base of a few
# minutes of them take 1.8, news and tweets by published ones about 1, SMS by the former 3.6.
STRANGE = 2.0
# So many texts are then made of the words of each, whose classes a linear model tells; of a large
# set fewer, for whose words its own labels suffice. They are others in each epoch, so that more
# epochs pay: of 7,000 texts of BANKING77 three come to a macro-F1 of 0.88, six to 0.89. Where the
# linear model is nearly always right (macro-F1), the labels are easily learnt without it: spam.
MIXED_TEXTS, MOST_MIXED, LEAST_EPOCHS_MIXED = 2.0, 20_000, 5
EASY = 0.95
# Beside fewer than one for each text more epochs do not pay.
MANY_MIXED = 1.0


def dose(  # noqa: PLR0913
    width: int,
    examples: int,
    *,
    method: Literal["full", "lora", "qlora", "head"],
    epochs: float | None = None,
    rate: float | None = None,
    patience: int | None = None,
    optimizer: str = "adamw",
    save_every: int | None = None,
    mixed: float = 0.0,
    seed: int = 0,
) -> Dose:
    """The dose for a model of a width and so many examples, with `mixed` others beside each."""
    if rate is None:
        factor = LORA_FACTOR if method in ("lora", "qlora") else 1.0
        chosen = _rate(width) * factor
    else:
        chosen = rate
    if epochs is None:
        least = LEAST_EPOCHS_MIXED if mixed >= MANY_MIXED else LEAST_EPOCHS
        epochs = _epochs(EXAMPLES_READ, examples, least, MOST_EPOCHS)
    return Dose(
        epochs=epochs,
        rate=chosen,
        head_rate=HEAD_FACTOR * chosen,
        patience=patience or max(3, math.ceil(epochs / 2)),
        optimizer=optimizer,
        save_every=save_every,
        seed=seed,
    )


def adapting_dose(width: int, texts: int, *, epochs: float | None = None, seed: int = 0) -> Dose:
    """How much to learn of so many texts as such, before their labels are learnt."""
    return dose(
        width,
        texts,
        method="full",
        epochs=epochs or _epochs(TEXTS_READ, texts, LEAST_ROUNDS, MOST_ROUNDS),
        rate=ADAPTING_FACTOR * _rate(width),
        seed=seed,
    )


def mixed_texts(examples: int) -> float:
    """How many texts of mixed words pay beside each of so many that are strange to the base."""
    return min(MIXED_TEXTS, MOST_MIXED / max(1, examples))


def is_easy(macro_f1: float, texts: int) -> bool:
    """Whether a linear model that scores so well on so many texts is nearly always right.

    Two texts more count as mistakes, so that of few no score tells (after Agresti and Coull 1998).
    """
    return macro_f1 * texts / (texts + 2) >= EASY


def _rate(width: int) -> float:
    return RATE * (WIDTH / width) ** POWER


def _epochs(read: int, examples: int, least: int, most: int) -> float:
    """So many that examples are read as often as there are few of them."""
    return min(max(read / max(1, examples), least), most)
