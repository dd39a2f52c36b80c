"""Fine-tuning when things go wrong: what is kept, what is said, and how it goes on."""

import csv
import errno
import json
import os
import random
import resource
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from safetensors.torch import load_file

from llmctl.errors import Interruption, TrainingError
from llmctl.stages.finetune_classify import FinetuneClassify
from llmctl.stages.finetune_classify import run as run_classify
from llmctl.stages.finetune_instruct import FinetuneInstruct
from llmctl.stages.finetune_instruct import run as run_instruct
from llmctl.train import checkpoint
from llmctl.train.journal import Journal
from llmctl.workspace import Workspace
from tests.signalled import signalled

COLOURS = "amber black coral denim ebony flame green hazel ivory jade".split()
SUMS = "one two three four five six seven eight nine ten".split()
KNOBS: dict[str, Any] = {"precision": "float32", "epochs": 2, "learning_rate": 1e-3}


@pytest.fixture
def tune(random_base: Callable[[str], Path], tmp_path: Path) -> Callable[..., Any]:
    """Make a classifier, or a model that answers, of a few rows of one's own."""
    draw = random.Random(0)
    pairs = [(*draw.sample(COLOURS, 3), draw.choice(SUMS)) for _ in range(90)]
    with (tmp_path / "words.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows([(" ".join(words), words[0] < words[1]) for *words, _ in pairs])
    asked = [{"prompt": " ".join(words), "completion": answer} for *words, answer in pairs]
    (tmp_path / "words.json").write_text(json.dumps(asked), encoding="utf-8")
    workspace = Workspace(tmp_path / "workspace")
    base = str(random_base("gpt2"))

    def tuned(kind: str, **knobs: Any) -> Any:
        given: dict[str, Any] = KNOBS | {"base": base, "name": kind} | knobs
        if kind == "classify":
            config = FinetuneClassify(file=tmp_path / "words.csv", **{"adapt": 0} | given)
            return run_classify(config, workspace)
        config = FinetuneInstruct(file=tmp_path / "words.json", samples=2, packing=False, **given)
        return run_instruct(config, workspace)

    return tuned


@pytest.mark.parametrize("kind", ["classify", "instruct"])
def test_a_signal_finishes_the_step_saves_and_says_how_to_go_on(
    tune: Callable[..., Any], kind: str
) -> None:
    with signalled(3), pytest.raises(Interruption, match="step 3, which is saved") as stop:
        tune(kind)

    resumed = tune(kind)

    assert stop.value.exit_code == 130
    assert "same command" in str(stop.value.hint)
    assert resumed.facts["resumed_from"] == 3


@pytest.mark.parametrize("learning", ["adapting", "classify"])
def test_a_signal_leaves_no_trace_in_the_weights(tune: Callable[..., Any], learning: str) -> None:
    given = {"adapt": 2, "distill": 1}
    with (
        signalled(3, folder=learning),
        pytest.raises(Interruption, match="step 3, which is saved"),
    ):
        tune("classify", **given)

    resumed, whole = tune("classify", **given), tune("classify", **given, name="whole")

    weights = [load_file(one.path / "model.safetensors") for one in (resumed, whole)]
    assert all(weights[0][name].equal(weights[1][name]) for name in weights[1])
    assert resumed.facts["bits_per_byte_adapted"] < resumed.facts["bits_per_byte_before"]


def test_a_full_disk_keeps_the_last_good_checkpoint_and_says_so(
    tune: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    save = checkpoint.save_file

    def full(tensors: Any, path: Path) -> None:
        if "step-00000004" in str(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(tensors, path)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", full)
        with pytest.raises(TrainingError, match="No space left") as refusal:
            tune("instruct", save_every=2)

    resumed = tune("instruct", save_every=2)

    assert refusal.value.exit_code == 6
    assert "step-00000002" in str(refusal.value.hint)
    assert resumed.facts["resumed_from"] == 2


@pytest.mark.parametrize("kind", ["classify", "instruct"])
def test_a_loss_that_is_no_number_for_long_ends_the_run(
    tune: Callable[..., Any], kind: str
) -> None:
    with pytest.raises(TrainingError, match="not finite for 10 steps") as refusal:
        tune(kind, learning_rate=1e30, epochs=4)

    assert "--learning-rate" in str(refusal.value.hint)


@pytest.mark.parametrize("kind", ["classify", "instruct"])
def test_a_short_run_of_which_no_score_is_a_number_makes_no_model(
    tune: Callable[..., Any], kind: str
) -> None:
    with pytest.raises(TrainingError, match="no score on held-out data was finite") as refusal:
        tune(kind, learning_rate=1e30, batch=90, epochs=3)

    assert "--learning-rate" in str(refusal.value.hint)


def test_a_checkpoint_of_adapters_holds_those_asked_for_alone(
    tune: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    add = Journal.add

    def interrupt(self: Journal, row: dict[str, Any]) -> None:
        add(self, row)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Journal, "add", interrupt)
    with pytest.raises(Interruption):
        tune("instruct", method="lora", targets="out, down")

    (file,) = (tmp_path / "workspace" / ".drafts").rglob("trained.safetensors")
    with safe_open(file, "pt") as tensors:
        names = [*tensors.keys()]
    assert {tuple(name.split(".")[-2:]) for name in names} == {
        (target, half) for target in ("out", "down") for half in "ab"
    }


# A few texts are long, and the room is too small for as many of them as stand in a batch.
NARROW = """
    import json, resource, sys
    import psutil, torch
    from llmctl.data.class_batches import ClassBatches, LabelledText
    from llmctl.model.classifier import classifier_from
    from llmctl.model.transformer import fresh
    from llmctl.shapes import named_shape
    from llmctl.train.machine import Machine
    from llmctl.train.objectives import class_label
    from llmctl.train.tuning import Dose, Tuning

    torch.set_num_threads(1)
    shape = named_shape(
        "nano", vocab_size=64, num_layers=4, width=64, num_heads=2, context=512
    )
    model = classifier_from(fresh(shape, 0), 2, seed=0)
    texts = [LabelledText([1 + index % 60] * (500 if index < 32 else 8), torch.eye(2)[index % 2])
             for index in range(96)]
    batches = ClassBatches(texts, rows=32, pad_id=0, seed=0)
    dose = Dose(epochs=1, rate=1e-3, head_rate=1e-3)
    machine = Machine(torch.device("cpu"), torch.float32, 1e9)
    model(torch.ones(1, 8, dtype=torch.long), torch.tensor([8])).sum().backward()
    model.zero_grad()
    room = int(sys.argv[1])
    if room:
        used = psutil.Process().memory_info().vms
        resource.setrlimit(resource.RLIMIT_AS, (used + room, used + room))
    tuning = Tuning(model, class_label, batches, dose, machine)
    losses = [tuning.trainer.step().loss for _ in range(tuning.steps)]
    print(json.dumps([tuning.trainer.micro_rows, losses]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(resource, "RLIMIT_AS"), reason="needs a limit on memory")
def test_what_fits_is_found_with_the_longest_texts_before_the_first_step() -> None:
    def tuned(room: int) -> Any:
        command = [sys.executable, "-c", textwrap.dedent(NARROW), str(room)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    (wide, losses), (narrow, same) = tuned(0), tuned(300 * 2**20)

    assert narrow < wide == 32
    assert same == pytest.approx(losses, rel=1e-3)
