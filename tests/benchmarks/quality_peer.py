"""Other recipes for a stretch of wall time, for `time_to_quality.py`: nanoGPT's, and a speedrun's.

Runs in the peers' environment and imports nothing of llmctl.
"""

import time

BEGAN = time.perf_counter()

import json  # noqa: E402
import math  # noqa: E402
import sys  # noqa: E402
from collections.abc import Callable, Sequence  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any, NamedTuple  # noqa: E402

import numpy as np  # noqa: E402
import torch  # noqa: E402

EVAL_ROWS = 64


class Recipe(NamedTuple):
    """A model, its optimizers, and what is done before a step, told the share of time gone."""

    model: Any
    optimizers: Sequence[torch.optim.Optimizer]
    before_step: Callable[[int, float], None]
    clip: float | None


def main() -> None:
    """Train until the time is up, score the held-out text, print one line of JSON."""
    job = json.loads(sys.argv[1])
    torch.manual_seed(1337)
    data = Path(job["data"])
    meta = json.loads((data / "meta.json").read_text())
    if job["recipe"] == "modded":
        from modded_peer import modded  # noqa: PLC0415

        recipe = modded(job, meta["vocab_size"])
    else:
        recipe = nanogpt(job, meta["vocab_size"])
    model, context, rows = recipe.model, job["context"], job["batch"]
    ids = np.memmap(data / "train.bin", dtype=np.uint16, mode="r")
    steps, elapsed = 0, time.perf_counter() - BEGAN
    while elapsed < job["seconds"]:
        recipe.before_step(steps, elapsed / job["seconds"])
        starts = torch.randint(len(ids) - context - 1, (rows,)).tolist()
        window = np.stack([ids[start : start + context + 1] for start in starts]).astype(np.int64)
        inputs, targets = torch.from_numpy(window[:, :-1]), torch.from_numpy(window[:, 1:])
        with torch.autocast("cpu", torch.bfloat16, enabled=job["precision"] == "bf16"):
            loss = model(inputs.contiguous(), targets.contiguous())[1]
        loss.backward()
        if recipe.clip is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        for optimizer in recipe.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        steps, elapsed = steps + 1, time.perf_counter() - BEGAN
    loss = score(model, data / "val.bin", context, job["eval_tokens"])
    tell(job, wall=elapsed, steps=steps, loss=loss)


def tell(job: dict[str, Any], *, wall: float, steps: int, loss: float) -> None:
    """Print what `time_to_quality.py` reads; the loss is in nats a token of the held-out text."""
    data = Path(job["data"])
    meta = json.loads((data / "meta.json").read_text())
    tokens = len(np.memmap(data / "val.bin", dtype=np.uint16, mode="r"))
    print(
        json.dumps(
            {
                "wall": wall,
                "steps": steps,
                "tokens": steps * job["batch"] * job["context"],
                "val_loss": loss,
                "val_bits_per_byte": loss / math.log(2) * tokens / meta["val_bytes"],
            }
        )
    )


def nanogpt(job: dict[str, Any], vocab_size: int) -> Recipe:
    """Its model, and the recipe of its README for a CPU."""
    sys.path.insert(0, job["nanogpt"])
    from model import GPT, GPTConfig  # noqa: PLC0415

    shape = {"n_layer": job["layers"], "n_head": job["heads"], "n_embd": job["width"]}
    model = GPT(
        GPTConfig(
            block_size=job["context"], vocab_size=vocab_size, dropout=0.0, bias=False, **shape
        )
    )
    top, floor, warmup = 1e-3, 1e-4, 100
    optimizer = model.configure_optimizers(0.1, top, (0.9, 0.99), "cpu")

    def before_step(step: int, gone: float) -> None:
        fall = 0.5 * (1 + math.cos(math.pi * gone))
        for group in optimizer.param_groups:
            group["lr"] = min(1.0, (step + 1) / warmup) * (floor + (top - floor) * fall)

    return Recipe(model, [optimizer], before_step, clip=1.0)


@torch.no_grad()
def score(model: Any, path: Path, context: int, most: int) -> float:
    """The mean loss over all whole windows of a file, or of its first tokens."""
    ids = np.fromfile(path, dtype=np.uint16).astype(np.int64)
    windows = min(len(ids) - 1, most) // context
    total = 0.0
    for first in range(0, windows, EVAL_ROWS):
        starts = np.arange(first, min(first + EVAL_ROWS, windows)) * context
        rows = torch.from_numpy(ids[starts[:, None] + np.arange(context + 1)])
        loss = model(rows[:, :-1].contiguous(), rows[:, 1:].contiguous())[1]
        total += loss.item() * len(starts)
    return total / windows


if __name__ == "__main__":
    main()
