"""`llmctl doctor`: each line says what, how much and what to do, wherever it is run."""

import itertools
import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from llmctl.cli.main import main
from llmctl.errors import TrainingError
from llmctl.evals import hardware, software
from llmctl.evals.finding import Finding, looked
from llmctl.evals.numerics import Check
from llmctl.stages.doctor import _judged


def test_a_sound_machine_is_told_in_eighty_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["doctor", "--workspace", str(tmp_path / "not-there")])

    told = capsys.readouterr()
    assert code == 0
    for name in ("torch", "process groups", "cpu float32", "cpu memory", "disk", "clock"):
        assert f"\n{name} " in told.out
    assert max(map(len, told.out.splitlines())) <= 80
    assert not (tmp_path / "not-there").exists()


def test_facts_come_as_one_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json", "--workspace", str(tmp_path)]) == 0

    found = json.loads(capsys.readouterr().out)["facts"]["found"]
    assert found["cpu float32"]["flops_per_second"] > 1e8
    assert found["disk"]["written_per_second"] > 0
    assert abs(found["clock"]["drift"]) < 1
    assert list(tmp_path.iterdir()) == []


def test_a_workspace_that_cannot_be_written_is_a_warning() -> None:
    (found,) = hardware.disk(Path("/proc/self"))

    assert found.value.startswith("not writable")
    assert found.advice


def test_a_look_that_fails_is_a_line_and_the_others_go_on() -> None:
    def fails() -> Iterable[Finding]:
        raise RuntimeError("no driver\nat all")

    found = list(looked({"GPUs": fails, "disk": lambda: [Finding("disk", "fine")]}))

    assert [(one.name, one.verdict) for one in found] == [("GPUs", "warning"), ("disk", "ok")]
    assert found[0].advice == "RuntimeError: no driver"


@pytest.mark.parametrize("asked", ["numpy>=99", "no-such-library>=1"])
def test_a_library_that_is_not_as_asked_for_comes_with_its_pip_line(asked: str) -> None:
    found = {one.name: one for one in software.versions([Requirement(asked)])}

    name = Requirement(asked).name
    assert found[name].advice == f"pip install '{asked}'"


def test_an_extra_that_is_missing_is_no_warning() -> None:
    (found,) = software.optional({"ray": [Requirement("no-such-library")]})

    assert (found.verdict, found.value) == ("ok", "not installed: pip install 'llmctl[ray]'")


def test_a_torch_without_process_groups_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.distributed.is_available", lambda: False)

    (found,) = software.messengers()

    assert (found.value, found.verdict) == ("none", "warning")


def test_a_clock_that_is_set_while_it_runs_is_seen() -> None:
    ticks = itertools.count()

    drift = hardware.clock_drift(wall=lambda: 3.0 * next(ticks), steady=iter([0.0, 1.0]).__next__)

    assert drift == pytest.approx(2.0)


def test_a_check_that_does_not_hold_ends_with_its_name() -> None:
    right = Check(name="right", difference=0.0, tolerance=0.0, why="")
    wrong = Check(name="wrong", difference=0.5, tolerance=1e-5, why="rounding")

    with pytest.raises(TrainingError, match=r"1 of 2 checks do not hold: wrong \(apart by 5.0e-01"):
        _judged([("right", lambda: right), ("wrong", lambda: wrong)])
