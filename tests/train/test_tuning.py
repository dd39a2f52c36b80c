"""Which epoch of a fine-tuning run is kept, and when it ends before its time."""

import subprocess
import sys
import textwrap
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
from llmctl.train.tuning_recipe import dose, is_easy, mixed_texts

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


@pytest.mark.parametrize(
    ("texts", "mixed", "epochs"), [(1_000, 2.0, 12), (8_000, 2.0, 5), (200_000, 0.1, 3)]
)
def test_few_texts_are_mixed_more_and_read_more_often(
    texts: int, mixed: float, epochs: float
) -> None:
    beside = mixed_texts(texts)

    assert beside == pytest.approx(mixed)
    assert dose(256, texts, method="full", mixed=beside).epochs == epochs


def test_a_linear_model_is_nearly_always_right_only_where_enough_texts_say_so() -> None:
    assert is_easy(0.98, 300)
    assert not is_easy(0.94, 300)
    assert not is_easy(1.0, 10)


LIGHT = """
    import sys
    from pathlib import Path
    import torch
    from llmctl.data.class_batches import ClassBatches, LabelledText
    from llmctl.model.checkpoint import load_model, save_model
    from llmctl.model.classifier import classifier_from
    from llmctl.model.transformer import fresh
    from llmctl.shapes import named_shape
    from llmctl.train.machine import Machine
    from llmctl.train.objectives import class_label
    from llmctl.train.tuning import Dose, Tuning

    shape = named_shape("nano", vocab_size=64, num_layers=1, width=32, num_heads=2, context=16)
    model = fresh(shape, 0)
    save_model(model.state_dict(), shape, Path(sys.argv[1]))
    texts = [LabelledText([1, 2, 3], one) for one in torch.eye(2)]
    for optimizer in ("muon", "adamw"):
        classifier = classifier_from(load_model(Path(sys.argv[1])), 2, seed=0)
        batches = ClassBatches(texts, rows=2, pad_id=0, seed=0)
        dose = Dose(epochs=1, rate=1e-3, head_rate=1e-3, optimizer=optimizer)
        machine = Machine(torch.device("cpu"), torch.float32, 1e12)
        Tuning(classifier, class_label, batches, dose, machine).trainer.step()
    print([name for name in ("torch._dynamo", "sympy") if name in sys.modules])
"""


def test_neither_a_step_nor_a_model_that_is_read_waits_for_the_compiler(tmp_path: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(LIGHT), str(tmp_path)]

    done = subprocess.run(command, capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"
