"""A step -> the line that people watch."""

from collections.abc import Callable
from typing import Protocol

from llmctl.figures import count, duration
from llmctl.train.meter import Pace
from llmctl.train.trainer import StepFacts


class Line(Protocol):
    """A line that is written anew, as often as a person can read."""

    @property
    def is_due(self) -> bool: ...

    def update(self, text: str) -> None: ...


def telling(line: Line) -> Callable[[StepFacts, Pace, int | None], None]:
    """What keeps a line at where a fine-tuning run is."""

    def tell(facts: StepFacts, pace: Pace, steps: int | None) -> None:
        if line.is_due:
            line.update(told_step(facts, pace, steps))

    return tell


def told_step(facts: StepFacts, pace: Pace, steps: int | None) -> str:
    """Where a fine-tuning run is, how it does and how long it may still take."""
    of = f"/{steps:,}" if steps else ""
    left = f"  at most {duration(pace.seconds_left)} left" if pace.seconds_left else ""
    return (
        f"step {facts.step:,}{of}  loss {facts.loss:.3f}"
        f"  {count(pace.tokens_per_second)} tokens/s{left}"
    )
