"""What steps are fed with, and what happens between them: ahead of time, and without waiting."""

import gc
from typing import Any, NamedTuple

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from llmctl.data.batches import Batch
from llmctl.train.distributed.world import World
from llmctl.train.feed import Feed, Portion
from llmctl.train.garbage import EVERY, collected_by_steps
from tests.train.test_trainer import Drawn, run, trainer

CPU = torch.device("cpu")


class Asked(Drawn):
    """Batches that remember which were asked for."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def batch(self, step: int) -> Batch:
        self.steps.append(step)
        return super().batch(step)


def test_a_run_whose_batches_come_ahead_makes_the_same_weights() -> None:
    plain, ahead = trainer(micro_rows=3), trainer(micro_rows=3)
    asked = Asked()
    ahead.feed = Feed(asked, ahead.world, CPU, is_ahead=True)

    losses = [[facts.loss for facts in run(one)] for one in (plain, ahead)]

    assert losses[0] == losses[1]
    assert torch.equal(plain.model.embedding.weight, ahead.model.embedding.weight)
    # And none that no step will take.
    assert asked.steps == list(range(6))


def test_the_next_batch_is_there_before_it_is_taken_and_a_jump_takes_another() -> None:
    asked = Asked()
    feed = Feed(asked, World(), CPU, is_ahead=True)

    feed.fetch(1, 8)
    taken = feed.take(1, 8)
    feed.fetch(2, 8)
    jumped = feed.take(5, 8)

    assert asked.steps == [1, 2, 5]
    for found, step in ((taken, 1), (jumped, 5)):
        assert torch.equal(found.micros[0].inputs_BT, Drawn().batch(step).inputs_BT)


def test_a_cpu_makes_batches_when_they_are_due_and_each_rank_takes_its_rows() -> None:
    asked = Asked()
    feeds = [Feed(asked, World(rank=rank, size=2, local_size=2), CPU) for rank in range(2)]

    feeds[0].fetch(0, 3)
    assert asked.steps == []
    portions = [feed.take(0, 3) for feed in feeds]

    batch = Drawn().batch(0)
    assert [[micro.rows for micro in one.micros] for one in portions] == [[3, 1], [3, 1]]
    rows = [micro.inputs_BT for one in portions for micro in one.micros]
    assert torch.equal(torch.cat(rows), batch.inputs_BT)
    assert {(one.tokens, one.trained) for one in portions} == {(batch.tokens, batch.trained)}


class Ready(NamedTuple):
    """A feed whose portions lie where they are computed."""

    portion: Portion

    def take(self, *_: int) -> Portion:
        return self.portion

    def fetch(self, *_: int) -> None: ...


class Questions(TorchDispatchMode):
    """Counts how often a number of a tensor is asked for: on a GPU the host would wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func in (
            torch.ops.aten._local_scalar_dense.default,
            torch.ops.aten.nonzero.default,
        )
        return func(*args, **(kwargs or {}))


def test_a_step_asks_its_device_for_nothing_but_its_loss_and_gradient_at_once() -> None:
    one = trainer(micro_rows=4)
    # Nothing is left out of the head, as in pretraining: what is has to be counted.
    ids = Drawn().batch(0).inputs_BT
    whole = Batch(ids[:, :-1], ids[:, 1:], ids[:, :-1] // 40, ids[:, 1:].numel())
    one.feed = Ready(one.feed.cut(whole, 4))

    one.step()
    with Questions() as questions:
        one.step()

    # Loss and length are asked for at once, as a list, which is not counted.
    assert questions.count == 0


def test_garbage_is_collected_between_steps_alone() -> None:
    collections: list[tuple[int, str]] = []
    now = (0, "step")

    def note(phase: str, _: Any) -> None:
        collections.extend([now] if phase == "start" else [])

    with collected_by_steps() as tidy:
        gc.callbacks.append(note)
        for step in range(2 * EVERY + 2):
            now = (step, "step")
            circle: list[Any] = [[] for _ in range(1000)]
            circle.append(circle)
            now = (step, "between")
            tidy()
        gc.callbacks.remove(note)
        assert gc.get_freeze_count() > 0

    assert collections == [(step, "between") for step in (0, EVERY, 2 * EVERY)]
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_a_fault_leaves_the_collector_as_it_was() -> None:
    gc.disable()
    try:
        with pytest.raises(MemoryError), collected_by_steps():
            raise MemoryError
        assert not gc.isenabled()
    finally:
        gc.enable()
