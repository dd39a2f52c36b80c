"""A step -> the line that people watch."""

from llmctl.figures import count, duration
from llmctl.train.meter import Pace
from llmctl.train.trainer import StepFacts


def told_step(facts: StepFacts, pace: Pace, steps: int | None) -> str:
    """Where a fine-tuning run is, how it does and how long it may still take."""
    of = f"/{steps:,}" if steps else ""
    left = f"  at most {duration(pace.seconds_left)} left" if pace.seconds_left else ""
    return (
        f"step {facts.step:,}{of}  loss {facts.loss:.3f}"
        f"  {count(pace.tokens_per_second)} tokens/s{left}"
    )
