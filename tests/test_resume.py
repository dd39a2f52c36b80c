"""Resume: a run that was killed, at any moment and any number of times, ends in the same bits."""

import errno
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from llmctl.errors import Interruption, TrainingError, WorkspaceError
from llmctl.stages.pretrain import Pretrain, run
from llmctl.train import checkpoint
from llmctl.workspace import Artifact, Workspace
from tests.ranks import Job, train_under_kills
from tests.signalled import signalled

STEPS = 30
RUN = {
    "layers": 2,
    "width": 32,
    "heads": 2,
    "context": 32,
    "batch": 8,
    "steps": STEPS,
    "save_every": 3,
    "eval_every": 10,
    "deterministic": True,
}


def trained(workspace: Workspace, name: str, **changes: Any) -> Artifact:
    made = run(Pretrain(**(RUN | {"name": name} | changes)), workspace)
    assert isinstance(made, Artifact)
    return made


def metrics(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    timed = {"seconds", "tokens_per_second", "mfu"}
    return [{key: row[key] for key in row if key not in timed} for row in rows]


def assert_same_run(one: Path, other: Path) -> None:
    assert metrics(one) == metrics(other)
    (state,) = (one / "state").glob("step-*")
    for file in ("model.safetensors", f"state/{state.name}/optimizer.safetensors"):
        mine, theirs = load_file(one / file), load_file(other / file)
        assert mine.keys() == theirs.keys()
        assert all(mine[key].tobytes() == theirs[key].tobytes() for key in mine)


@pytest.fixture(scope="module")
def whole(tiny_workspace: Workspace) -> Artifact:
    return trained(tiny_workspace, "whole")


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2])
def test_random_kills_leave_no_trace_in_the_result(
    tiny_workspace: Workspace, whole: Artifact, request: pytest.FixtureRequest, size: int
) -> None:
    kills = request.config.getoption("--kills") // (1 if size == 1 else 4)
    job = Job(size, RUN | {"name": f"killed-{size}"})

    names = train_under_kills(tiny_workspace, job, kills=kills, longest=0.35 * size * size)

    for name in names:
        assert_same_run(whole.path, tiny_workspace.find("model", name).path)


def test_a_fault_in_the_evaluation_loses_no_step(
    tiny_workspace: Workspace, whole: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(*_: object, **__: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("llmctl.train.pretraining.score", fault)
        with pytest.raises(MemoryError):
            trained(tiny_workspace, "faulty")

    resumed = trained(tiny_workspace, "faulty")

    assert resumed.facts["resumed_from"] == 10
    assert_same_run(whole.path, resumed.path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_saves_and_says_how_to_go_on(
    tiny_workspace: Workspace, whole: Artifact, number: int
) -> None:
    name = f"stopped-{number}"

    with signalled(7, number=number), pytest.raises(Interruption, match="step 7") as stop:
        trained(tiny_workspace, name)

    resumed = trained(tiny_workspace, name)

    assert stop.value.exit_code == 130
    assert "same command" in str(stop.value.hint)
    assert resumed.facts["resumed_from"] == 7
    assert_same_run(whole.path, resumed.path)


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "trainer.json"])
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_is_used(
    tiny_workspace: Workspace, whole: Artifact, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    name = f"damaged-{file.partition('.')[0]}"
    _break_off(tiny_workspace, monkeypatch, name)
    draft = tiny_workspace.draft_path("model", name)
    newest = sorted((draft / "state").glob("step-*"))[-1]
    content = bytearray((newest / file).read_bytes())
    content[len(content) // 2] ^= 1
    (newest / file).write_bytes(content)

    resumed = trained(tiny_workspace, name)

    assert resumed.facts["resumed_from"] < int(newest.name.removeprefix("step-"))
    assert_same_run(whole.path, resumed.path)


@pytest.mark.parametrize("end", ["evals.model_report.write_model_report", "workspace.fingerprint"])
def test_an_end_after_the_last_step_costs_no_training(
    tiny_workspace: Workspace, whole: Artifact, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    name = end.rpartition(".")[2]
    _break_off(tiny_workspace, monkeypatch, name, at=f"llmctl.{end}")

    resumed = trained(tiny_workspace, name)

    assert resumed.facts["resumed_from"] == STEPS
    assert {path.name for path in resumed.path.iterdir()} == {
        path.name for path in whole.path.iterdir()
    }
    assert_same_run(whole.path, resumed.path)


def _break_off(
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    at: str = "llmctl.train.pretraining.score",
    **changes: Any,
) -> None:
    def fault(*_: object, **__: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(at, fault)
        with pytest.raises(MemoryError):
            trained(workspace, name, **changes)


def test_a_full_disk_keeps_the_last_good_checkpoint_and_says_so(
    tiny_workspace: Workspace, whole: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = checkpoint.save_file

    def full(tensors: Any, path: Path) -> None:
        if "step-00000009" in str(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(tensors, path)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", full)
        with pytest.raises(TrainingError, match="No space left") as refusal:
            trained(tiny_workspace, "full")

    resumed = trained(tiny_workspace, "full")

    assert "step-00000006" in str(refusal.value.hint)
    assert resumed.facts["resumed_from"] == 6
    assert_same_run(whole.path, resumed.path)


def test_a_larger_budget_continues_from_before_the_decay(
    tiny_workspace: Workspace, whole: Artifact
) -> None:
    trained(tiny_workspace, "longer", steps=STEPS, warmup=5)

    longer = trained(tiny_workspace, "longer", steps=2 * STEPS, warmup=5)

    anew = trained(tiny_workspace, "anew", steps=2 * STEPS, warmup=5)
    assert longer.facts["resumed_from"] == STEPS // 2
    assert longer.facts["steps"] == 2 * STEPS
    assert_same_run(anew.path, longer.path)


def _force_over_another(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Begin a run by `--force` where another model of that name stands, and break it off."""
    trained(workspace, name, seed=1, width=16, steps=2 * STEPS)
    _break_off(workspace, monkeypatch, name, force=True)


def test_what_force_began_is_gone_on_with_without_it(
    tiny_workspace: Workspace, whole: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    _force_over_another(tiny_workspace, monkeypatch, "forced")

    resumed = trained(tiny_workspace, "forced")

    assert resumed.facts["resumed_from"]
    assert_same_run(whole.path, resumed.path)


def test_what_force_began_does_not_go_on_from_what_it_replaces(
    tiny_workspace: Workspace, whole: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    _force_over_another(tiny_workspace, monkeypatch, "begun")
    for step in tiny_workspace.draft_path("model", "begun").glob("state/step-*"):
        shutil.rmtree(step)

    resumed = trained(tiny_workspace, "begun")

    assert resumed.facts["resumed_from"] is None
    assert_same_run(whole.path, resumed.path)


@pytest.mark.parametrize("budget", [{"steps": STEPS // 2}, {"steps": None, "tokens": 256}])
def test_a_smaller_budget_leaves_the_finished_model_alone(
    tiny_workspace: Workspace, whole: Artifact, budget: dict[str, Any]
) -> None:
    with pytest.raises(WorkspaceError, match=rf"trained for {STEPS} steps, and \d+ are no more"):
        trained(tiny_workspace, "whole", **budget)

    assert tiny_workspace.find("model", "whole").digest == whole.digest
    assert tiny_workspace.unfinished("model", "whole") is None


@pytest.mark.parametrize("error", [TrainingError("one row does not fit"), MemoryError()])
def test_what_does_not_fit_is_not_in_the_way_of_what_does(
    tiny_workspace: Workspace, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("llmctl.train.pretraining.fitting_rows", full)

    with pytest.raises(type(error)):
        trained(tiny_workspace, "wide", context=64)

    assert tiny_workspace.unfinished("model", "wide") is None


def test_the_same_command_after_the_end_makes_nothing_anew(
    tiny_workspace: Workspace, whole: Artifact
) -> None:
    again = trained(tiny_workspace, "whole")

    assert again.manifest.provenance == whole.manifest.provenance
