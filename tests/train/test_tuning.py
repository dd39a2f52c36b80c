"""Which epoch of a fine-tuning run is kept, and when it ends before its time."""

from pathlib import Path

import pytest
import torch

from llmctl.data.class_batches import ClassBatches, LabelledText
from llmctl.model.classifier import classifier_from
from llmctl.model.transformer import fresh
from llmctl.shapes import named_shape
from llmctl.train.classifying import HeldOut, describe_score
from llmctl.train.machine import Machine
from llmctl.train.objectives import class_label
from llmctl.train.run import Run
from llmctl.train.tuning import Dose, Tuning

SHAPE = named_shape("nano", vocab_size=64, num_layers=1, width=32, num_heads=2, context=16)
STEPS_PER_EPOCH = 4


def run_with(directory: Path, scores: list[float], *, margin: float, patience: int = 99) -> Run:
    """A run of an epoch a score, of which each epoch gets the next."""
    texts = [
        LabelledText([1, 2 + number, 3], torch.eye(2)[number % 2])
        for number in range(2 * STEPS_PER_EPOCH)
    ]
    batches = ClassBatches(texts, rows=2, pad_id=0, seed=0)
    dose = Dose(epochs=len(scores), rate=1e-3, head_rate=1e-3, patience=patience)
    model = classifier_from(fresh(SHAPE, 0), 2, seed=0)
    machine = Machine(torch.device("cpu"), torch.float32, 1e12)
    given = iter(scores)

    def evaluate() -> HeldOut:
        return HeldOut(accuracy=0.5, macro_f1=next(given), loss=1.0, margin=margin)

    run = Tuning(model, class_label, batches, dose, machine).start(
        directory, evaluate, describe_score
    )
    run.train()
    return run


@pytest.mark.parametrize(
    ("margin", "epoch"),
    [(0.0, 2), (0.01, 4), (0.5, 5)],
    ids=["exact scores", "scores that are sure to 0.01", "scores that say nothing"],
)
def test_of_epochs_that_cannot_be_told_from_the_best_the_latest_is_kept(
    tmp_path: Path, margin: float, epoch: int
) -> None:
    run = run_with(tmp_path, [0.80, 0.95, 0.93, 0.945, 0.70], margin=margin)

    assert run.best_step == epoch * STEPS_PER_EPOCH


def test_a_slow_decline_in_small_steps_is_no_way_around_the_best(tmp_path: Path) -> None:
    run = run_with(tmp_path, [0.95, 0.945, 0.94, 0.935, 0.93], margin=0.007)

    assert run.best_step == 2 * STEPS_PER_EPOCH


def test_a_run_ends_once_patience_saw_nothing_as_good(tmp_path: Path) -> None:
    run = run_with(tmp_path, [0.9, 0.95, 0.5, 0.5, 0.5, 0.99], margin=0.01, patience=3)

    assert run.trainer.progress.step == 5 * STEPS_PER_EPOCH
    assert run.best_step == 2 * STEPS_PER_EPOCH
