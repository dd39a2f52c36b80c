"""The learning rate over a run: a factor between 0 and 1 for each step.

`wsd` warms up, stays, and decays linearly (Hu et al. 2024, arXiv 2404.06395, section 4): where
the decay begins, a run can later be continued. `cosine` falls from the warm-up on.
"""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Warm-up steps, the share of the run that decays (wsd) and the factor it ends at."""

    kind: Literal["wsd", "cosine"] = "wsd"
    warmup: int = 20
    decay_share: float = 0.5
    floor: float = 0.0

    @property
    def plateau(self) -> float:
        """The share of a run that is the same however long it is."""
        return 0.0 if self.kind == "cosine" else 1 - self.decay_share

    def decay_start(self, steps: int) -> int:
        """The first step whose factor depends on the length of the run."""
        if self.kind == "cosine":
            return min(self.warmup, steps)
        return max(min(self.warmup, steps), steps - round(steps * self.decay_share))

    def resumable_step(self, steps: int) -> int:
        """The step from whose checkpoint a longer run can go on: before a decay, else the last."""
        return self.decay_start(steps) if self.kind == "wsd" else steps

    def factor(self, step: int, steps: int | None) -> float:
        """The factor of `step`, counted from zero, in a run of `steps`.

        While the length is not known yet (`None`, a budget in minutes) the run is in its warm-up
        or its plateau.
        """
        if step < self.warmup:
            return (step + 1) / self.warmup
        if steps is None or step < self.decay_start(steps):
            return 1.0
        start = self.decay_start(steps)
        done = (step - start) / max(1, steps - start)
        fall = 0.5 * (1 + math.cos(math.pi * done)) if self.kind == "cosine" else 1 - done
        return self.floor + (1 - self.floor) * fall
