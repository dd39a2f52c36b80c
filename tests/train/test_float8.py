"""`--precision fp8`: what a run in eight bits learns, keeps and leaves, and where it is refused.

On a CPU, which must be named, the same numbers are computed slowly.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from llmctl.errors import ConfigError, Interruption
from llmctl.model.device import has_tensor_cores
from llmctl.stages.pretrain import Pretrain, run
from llmctl.workspace import Artifact, Workspace
from tests.ranks import Job, train
from tests.signalled import signalled

RUN: dict[str, Any] = {
    "layers": 2,
    "width": 48,
    "heads": 3,
    "context": 32,
    "batch": 8,
    "micro_batch": 4,
    "steps": 40,
    "save_every": 10,
    "device": "cpu",
    "precision": "fp8",
}


def trained(workspace: Workspace, name: str, **changes: Any) -> Artifact:
    made = run(Pretrain(**(RUN | {"name": name} | changes)), workspace)
    assert isinstance(made, Artifact)
    return made


def losses(artifact: Artifact) -> list[float]:
    rows = map(json.loads, (artifact.path / "metrics.jsonl").read_text().splitlines())
    return [row["loss"] for row in rows if "loss" in row]


@pytest.fixture(scope="module")
def whole(tiny_workspace: Workspace) -> Artifact:
    return trained(tiny_workspace, "float8")


def test_a_run_in_eight_bits_learns_what_one_in_sixteen_does(
    tiny_workspace: Workspace, whole: Artifact
) -> None:
    wide = trained(tiny_workspace, "float8-not", precision="bf16")

    assert whole.facts["precision"] == "float8"
    assert losses(whole)[0] == pytest.approx(losses(wide)[0], rel=1e-3)
    assert losses(whole) != losses(wide)
    learnt = losses(wide)[0] - wide.facts["val_loss"]
    assert whole.facts["val_loss"] - wide.facts["val_loss"] < 0.05 * learnt


def test_the_model_that_it_leaves_is_like_any_other(
    tiny_workspace: Workspace, whole: Artifact
) -> None:
    wide = trained(tiny_workspace, "float8-not", precision="bf16")

    def form(folder: Path) -> dict[str, Any]:
        weights = load_file(folder / "model.safetensors").items()
        return {name: (one.shape, one.dtype) for name, one in weights}

    assert form(whole.path) == form(wide.path)
    configs = [(one.path / "config.json").read_text() for one in (whole, wide)]
    assert configs[0] == configs[1]


def test_a_run_that_was_stopped_goes_on_to_the_same_bits(
    tiny_workspace: Workspace, whole: Artifact
) -> None:
    with signalled(17), pytest.raises(Interruption):
        trained(tiny_workspace, "float8-stopped")
    resumed = trained(tiny_workspace, "float8-stopped")

    assert resumed.facts["resumed_from"] == 17
    assert losses(resumed) == losses(whole)
    mine, theirs = (load_file(one.path / "model.safetensors") for one in (resumed, whole))
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_rows_over_two_processes_learn_the_same(tiny_workspace: Workspace, whole: Artifact) -> None:
    knobs = RUN | {"name": "float8-fsdp", "devices": {"parallel": "fsdp"}}

    train(tiny_workspace, [Job(2, knobs)])

    # The same rows at once and so the same scales; weights come in bfloat16 either way, and sums
    # in another order round a few numbers to the next of eight bits, which grows from step to step.
    rows = losses(tiny_workspace.find("model", "float8-fsdp"))
    assert rows[:25] == pytest.approx(losses(whole)[:25], rel=5e-3)


@pytest.mark.skipif(
    torch.cuda.is_available() and has_tensor_cores(torch.device("cuda"), "fp8"),
    reason="it is here",
)
def test_where_nothing_multiplies_in_eight_bits_it_is_refused_before_anything_is_made(
    tiny_workspace: Workspace,
) -> None:
    with pytest.raises(ConfigError, match="Hopper") as refusal:
        trained(tiny_workspace, "float8-refused", device="auto")

    assert refusal.value.exit_code == 2
    assert "auto" in str(refusal.value.hint)
    assert tiny_workspace.unfinished("model", "float8-refused") is None


def test_tf32_is_for_gpus_and_no_cpu_pretends(tiny_workspace: Workspace) -> None:
    with pytest.raises(ConfigError, match="since Ampere") as refusal:
        trained(tiny_workspace, "tf32", precision="tf32")

    assert "--device cpu" not in str(refusal.value.hint)


def test_bits_that_are_always_the_same_are_not_eight(tiny_workspace: Workspace) -> None:
    with pytest.raises(ConfigError, match="float32"):
        trained(tiny_workspace, "float8-exact", deterministic=True)
