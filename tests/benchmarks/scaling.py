"""Loss against parameters and tokens: a law fitted on small runs, then tried on a larger one.

    python tests/benchmarks/scaling.py --text BENCH/novels/train --out RUNS [--minutes 5]

Trains the models of `SMALL` with the recipe of `pretrain`, fits L = E + A / N^a + B / D^b as in
Hoffmann et al. 2022 (arXiv 2203.15556, section 3.3: Huber loss between logarithms), says what it
expects of `LARGE`, and only then trains that and prints the miss. N are the parameters that each
token is multiplied with, D are tokens, L are nats a token of a held-out piece of the text.

With `--minutes` no run begins later than that; the next call goes on.
"""

import argparse
import itertools
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from runs import trained, workspace_of
from scipy.optimize import minimize
from scipy.special import huber, logsumexp

from llmctl.shapes import named_shape

VOCABULARY, CONTEXT = 1024, 128
DELTA = 1e-3
# Logarithms of A, B and E, then a and b.
STARTS = list(itertools.product((0, 5, 10), (0, 5, 10), (0,), (0.3, 0.6), (0.3, 0.6)))


class Size(NamedTuple):
    """Depth and width of a model, and the tokens that it reads."""

    layers: int
    width: int
    tokens: int

    @property
    def name(self) -> str:
        """What its run is called."""
        return f"scaling-{self.layers}x{self.width}-{self.tokens // 1000}k"

    @property
    def parameters(self) -> int:
        """What each token is multiplied with: the body and the head, not the embedding."""
        size: dict[str, Any] = {"num_layers": self.layers, "width": self.width, "context": CONTEXT}
        return named_shape("nano", vocab_size=VOCABULARY, **size).matmul_parameters

    @property
    def knobs(self) -> dict[str, int]:
        """What it is, as `pretrain` takes it."""
        names = {"layers": self.layers, "width": self.width}
        return names | {"context": CONTEXT, "tokens": self.tokens}


# So small that size matters at these tokens: half a million make the same of 172 k parameters as of
# two million.
SMALL = [
    Size(layers, width, tokens)
    for layers, width, counts in (
        (1, 32, (500_000, 1_000_000, 2_000_000, 4_000_000)),
        (1, 64, (500_000, 1_000_000, 2_000_000, 4_000_000)),
        (2, 64, (500_000, 1_000_000, 2_000_000, 4_000_000)),
        (3, 96, (500_000, 1_000_000, 2_000_000)),
    )
    for tokens in counts
]
LARGE = Size(4, 128, 2_000_000)


class Run(NamedTuple):
    """A run that was made: parameters, tokens, loss."""

    parameters: float
    tokens: float
    loss: float


class Law(NamedTuple):
    """L = E + A / N^a + B / D^b, of A, B and E the logarithms."""

    size: float
    data: float
    irreducible: float
    size_power: float
    data_power: float

    def loss(self, parameters: float, tokens: float) -> float:
        """What it expects."""
        of_size = math.exp(self.size) / parameters**self.size_power
        of_data = math.exp(self.data) / tokens**self.data_power
        return math.exp(self.irreducible) + of_size + of_data

    def best_parameters(self, flops: float) -> float:
        """The size that so many FLOPs (6 N D) are best spent on."""
        a, b = self.size_power, self.data_power
        ratio = (a / b * math.exp(self.size - self.data)) ** (1 / (a + b))
        return ratio * (flops / 6) ** (b / (a + b))


def fitted(runs: Sequence[Run], starts: Sequence[Any] = STARTS) -> Law:
    """The law nearest to the runs, the best of many starts."""
    sizes, tokens, losses = np.log(np.array(runs)).T
    ones, none = np.ones_like(sizes), np.zeros_like(sizes)
    # The logarithm of each term of the law is linear in the five numbers that are sought.
    terms = np.array(
        [
            [ones, none, none, -sizes, none],
            [none, ones, none, none, -tokens],
            [none, none, ones, none, none],
        ]
    )

    def distance(values: Any) -> tuple[float, Any]:
        logarithms = np.einsum("tvr,v->tr", terms, values)
        expected = logsumexp(logarithms, axis=0)
        misses = expected - losses
        slopes = np.einsum("tr,tvr->vr", np.exp(logarithms - expected), terms)
        return float(huber(DELTA, misses).sum()), slopes @ np.clip(misses, -DELTA, DELTA)

    def nearest(start: Any, tolerance: float) -> Any:
        return minimize(distance, start, jac=True, method="L-BFGS-B", tol=tolerance)

    best = min((nearest(start, 1e-9) for start in starts), key=lambda one: one.fun)
    return Law(*map(float, nearest(best.x, 1e-15).x))


def main() -> None:
    """Train what is missing, fit, predict, try."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    given = parser.parse_args()
    deadline = time.monotonic() + 60 * given.minutes
    workspace = workspace_of(given.text, given.out, str(VOCABULARY))

    def made(size: Size) -> Run:
        if time.monotonic() > deadline and not workspace.has("model", size.name):
            raise SystemExit(f"{size.name} is next: call again to go on")
        reading = {"from": f"text-{VOCABULARY}", "eval_tokens": 250_000}
        facts = trained(workspace, size.name, reading | size.knobs)
        run = Run(size.parameters, facts["tokens"], facts["val_loss"])
        print(
            f"{size.name:24} N {run.parameters:10,.0f}  D {run.tokens:10,.0f}  loss {run.loss:.4f}"
            f"  {facts['val_bits_per_byte']:.4f} bits per byte  {facts['seconds']:5.0f} s"
            f"  batch {facts['rows']}",
            flush=True,
        )
        return run

    runs = [made(size) for size in SMALL]
    law = fitted(runs)
    others = [fitted([*runs[:at], *runs[at + 1 :]], [law]) for at in range(len(runs))]
    told(law, others, runs)
    expected = law.loss(LARGE.parameters, LARGE.tokens)
    spread = [one.loss(LARGE.parameters, LARGE.tokens) for one in others]
    prediction = {"expected": expected, "least": min(spread), "most": max(spread)}
    (given.out / "prediction.json").write_text(json.dumps(prediction), encoding="utf-8")
    print(
        f"expected of {LARGE.name}: {expected:.4f}"
        f" ({min(spread):.4f} to {max(spread):.4f} when a run is left out)",
        flush=True,
    )
    large = made(LARGE)
    print(f"miss: {large.loss - expected:+.4f} nats, {large.loss / expected - 1:+.2%}")


def told(law: Law, others: Sequence[Law], runs: Sequence[Run]) -> None:
    """Print the law, how well it fits, and what it makes of a budget."""
    print(
        f"L = {math.exp(law.irreducible):.3f} + {math.exp(law.size):.3g} / N^{law.size_power:.3f}"
        f" + {math.exp(law.data):.3g} / D^{law.data_power:.3f}"
    )
    for name, values in (
        ("E", [math.exp(one.irreducible) for one in others]),
        ("a", [one.size_power for one in others]),
        ("b", [one.data_power for one in others]),
    ):
        print(f"  {name}: {min(values):.3f} to {max(values):.3f} when a run is left out")
    misses = [run.loss / law.loss(run.parameters, run.tokens) - 1 for run in runs]
    print(f"  misses of the runs that it was fitted on: up to {max(map(abs, misses)):.2%}")
    for flops in (1e12, 1e13, 1e14, 1e15):
        ratios = [flops / 6 / one.best_parameters(flops) ** 2 for one in (law, *others)]
        print(
            f"  {flops:.0e} FLOPs: best at {law.best_parameters(flops):,.0f} parameters,"
            f" {ratios[0]:.1f} tokens a parameter ({min(ratios):.1f} to {max(ratios):.1f})"
        )


if __name__ == "__main__":
    main()
