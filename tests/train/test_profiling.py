"""`--profile` looks at three steps of a run, and changes nothing of it."""

import gzip
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from llmctl.stages.pretrain import Pretrain, run
from llmctl.train.profiling import STEPS, WARM_STEPS, Profile
from llmctl.workspace import Artifact, Workspace

SMALL: dict[str, Any] = {
    "layers": 2,
    "width": 32,
    "heads": 2,
    "context": 32,
    "batch": 8,
    "steps": 10,
    "deterministic": True,
    "micro_batch": 8,
}


def trained(workspace: Workspace, name: str, **knobs: Any) -> Artifact:
    made = run(Pretrain(**SMALL | {"name": name} | knobs), workspace)
    assert isinstance(made, Artifact)
    return made


def test_a_profile_is_a_trace_of_three_steps_in_the_model_and_a_table(
    tiny_workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    model = trained(tiny_workspace, "profiled", profile=True)

    trace = json.loads(gzip.decompress((model.path / "profile" / "trace.json.gz").read_bytes()))
    names = [event.get("name") for event in trace["traceEvents"]]
    assert names.count("Muon.step") == 3
    assert "aten::mm" in names
    assert "profile/trace.json.gz" in model.manifest.files
    said = capsys.readouterr().err
    table = said.partition("most expensive operators")[2].splitlines()
    assert sum("%" in line for line in table[:12]) == 10


def test_a_run_that_is_profiled_makes_the_same_model(tiny_workspace: Workspace) -> None:
    profiled = load_file(
        trained(tiny_workspace, "profiled", profile=True).path / "model.safetensors"
    )
    plain = load_file(trained(tiny_workspace, "unprofiled").path / "model.safetensors")

    assert all(torch.equal(profiled[name], plain[name]) for name in plain)


def test_a_profile_that_cannot_be_written_is_told_and_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    profile = Profile(tmp_path / "file" / "profile", torch.device("cpu"))

    with caplog.at_level(logging.WARNING):
        for _ in range(WARM_STEPS + STEPS + 1):
            torch.ones(2).sum()
            profile.step()
        profile.close()

    assert "the profile is not complete" in caplog.text
