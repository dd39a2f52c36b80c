"""How wide a model is and how many examples there are -> how much to fine-tune it.

Each figure has its reason; everything derived can be overridden.
"""

from typing import Literal

from llmctl.train.tuning import Dose

# AdamW's rate at a width of 256; it falls faster than with the square root, so that it comes to
# the 5e-5 to 1e-4 at which models of 768 and more are usually tuned.
RATE, WIDTH, POWER = 5e-4, 256, 1.5
# What begins at zero, or anew, needs larger steps than what was trained for long.
LORA_FACTOR, HEAD_FACTOR = 5.0, 2.0
# Few examples are read often, many seldom; early stopping takes back what was too much.
EXAMPLES_READ, LEAST_EPOCHS, MOST_EPOCHS = 40_000, 3, 12


def dose(  # noqa: PLR0913
    width: int,
    examples: int,
    *,
    method: Literal["full", "lora", "qlora", "head"],
    epochs: float | None = None,
    rate: float | None = None,
    patience: int = 3,
    optimizer: str = "adamw",
    save_every: int | None = None,
    seed: int = 0,
) -> Dose:
    """The dose for a model of a width and so many examples to train on."""
    if rate is None:
        factor = LORA_FACTOR if method in ("lora", "qlora") else 1.0
        chosen = RATE * (WIDTH / width) ** POWER * factor
    else:
        chosen = rate
    if epochs is None:
        epochs = min(max(EXAMPLES_READ / max(1, examples), LEAST_EPOCHS), MOST_EPOCHS)
    return Dose(
        epochs=epochs,
        rate=chosen,
        head_rate=HEAD_FACTOR * chosen,
        patience=patience,
        optimizer=optimizer,
        save_every=save_every,
        seed=seed,
    )
