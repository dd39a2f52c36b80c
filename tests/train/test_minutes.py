"""A budget of minutes becomes steps that fill it."""

import pytest

from llmctl.train import meter
from llmctl.train.meter import Minutes
from llmctl.train.schedule import Schedule
from llmctl.train.trainer import StepFacts


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(meter, "time", made)
    return made


def settled(minutes: Minutes, clock: Clock, paces: list[float]) -> tuple[int, int]:
    """After which step of steps of such lengths, the last one's from there on, how many fit."""
    for step in range(1, 10_000):
        took = paces[min(step, len(paces)) - 1]
        clock.now += took
        facts = StepFacts(
            step=step, loss=1.0, tokens=step, trained=step, learning_rate=0.0,
            gradient_norm=0.0, skipped=False, seconds=took,
        )  # fmt: skip
        steps = minutes.settle(facts)
        if steps is not None:
            return step, steps
    raise AssertionError("never settled")


def test_steps_that_slow_down_early_are_not_planned_at_their_first_pace(clock: Clock) -> None:
    schedule = Schedule(kind="wsd", decay_share=0.5)
    minutes = Minutes(seconds=100.0, began=0.0, plateau=schedule.plateau)
    paces = [5.0, 0.1] + [0.1] * 20 + [0.2]

    at, steps = settled(minutes, clock, paces)

    took = sum(paces) + 0.2 * (steps - len(paces))
    assert took == pytest.approx(100.0, rel=0.05)
    assert at < schedule.decay_start(steps)


def test_a_schedule_that_must_know_its_length_is_settled_at_once(clock: Clock) -> None:
    minutes = Minutes(seconds=100.0, began=0.0, plateau=Schedule(kind="cosine").plateau)

    at, steps = settled(minutes, clock, [0.1])

    assert at < 20
    assert steps == pytest.approx(1000, abs=1)


def test_what_earlier_attempts_spent_is_spent(clock: Clock) -> None:
    minutes = Minutes(seconds=100.0, began=0.0, plateau=0.5)
    minutes.resume(60.0)

    _, steps = settled(minutes, clock, [1.0])

    assert steps == 40


def test_a_budget_that_start_up_has_eaten_ends_after_the_first_step(clock: Clock) -> None:
    clock.now = 30.0

    assert settled(Minutes(seconds=20.0, began=0.0, plateau=0.5), clock, [2.0]) == (1, 1)
