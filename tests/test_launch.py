"""`pretrain --processes 2` as a user runs it: started, watched, and started anew when one dies."""

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import torch

from llmctl.cli.main import main
from llmctl.errors import TrainingError
from llmctl.stages.pretrain import Pretrain, run
from llmctl.train.distributed.launch import Launch, standstill, supervise
from llmctl.workspace import Artifact, Workspace
from tests.test_resume import assert_same_run

STEPS = 60
RUN = {"layers": 2, "width": 32, "heads": 2, "context": 32, "batch": 8, "steps": STEPS}
SAVES = {"save_every": 5, "eval_every": 30}


@pytest.fixture(scope="module")
def whole(tiny_workspace: Workspace) -> Artifact:
    made = run(Pretrain(name="by-one", deterministic=True, **RUN, **SAVES), tiny_workspace)
    assert isinstance(made, Artifact)
    return made


def command(workspace: Workspace, name: str, *more: str) -> list[str]:
    knobs = [
        word
        for key, value in (RUN | SAVES).items()
        for word in (f"--{key.replace('_', '-')}", str(value))
    ]
    place = ["--workspace", str(workspace.root), "--name", name, "--deterministic"]
    many = ["--device", "cpu", "--processes", "2"]
    return [sys.executable, "-m", "llmctl", "pretrain", *place, *knobs, *many, *more]


def start(workspace: Workspace, name: str, *more: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command(workspace, name, *more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"COLUMNS": "200"},
    )


def workers(parent: int) -> list[int]:
    """The processes that train, in the order of their ranks."""
    agents = psutil.Process(parent).children()
    return sorted(one.pid for agent in agents for one in agent.children())


def free_port() -> int:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])


def when_saved(workspace: Workspace, name: str, act: Callable[[], None]) -> None:
    saves = workspace.draft_path("model", name) / "state"
    deadline = time.monotonic() + 120
    while not list(saves.glob("step-*")):
        assert time.monotonic() < deadline, "nothing was ever saved"
        time.sleep(0.01)
    act()


@pytest.mark.slow
def test_a_worker_that_is_killed_is_named_and_leaves_no_trace_in_the_result(
    tiny_workspace: Workspace, whole: Artifact
) -> None:
    process = start(tiny_workspace, "killed", "--json")
    when_saved(tiny_workspace, "killed", lambda: os.kill(workers(process.pid)[1], signal.SIGKILL))
    out, err = process.communicate(timeout=120)

    assert process.returncode == 0, err
    assert "rank 1 was killed by SIGKILL" in err
    assert json.loads(out)["facts"]["world_size"] == 2
    made = tiny_workspace.find("model", "killed")
    assert made.facts["goodput"]["attempts"] == 2
    assert_same_run(whole.path, made.path)


@pytest.mark.slow
def test_a_worker_that_stands_still_is_found_out_and_the_run_goes_on(
    tiny_workspace: Workspace, whole: Artifact
) -> None:
    process = start(tiny_workspace, "hung", "--patience", "3")
    when_saved(tiny_workspace, "hung", lambda: os.kill(workers(process.pid)[0], signal.SIGSTOP))
    _, err = process.communicate(timeout=120)

    assert process.returncode == 0, err
    assert "nothing moved for 3 seconds: rank 0 is stopped" in err
    assert_same_run(whole.path, tiny_workspace.find("model", "hung").path)


@pytest.mark.slow
def test_a_signal_saves_and_the_same_command_goes_on(
    tiny_workspace: Workspace, whole: Artifact
) -> None:
    name = "signalled"
    process = start(tiny_workspace, name)
    when_saved(tiny_workspace, name, process.terminate)
    _, err = process.communicate(timeout=120)
    again = start(tiny_workspace, name)
    again.communicate(timeout=120)

    assert process.returncode == 130
    assert "which is saved" in err
    assert again.returncode == 0
    assert_same_run(whole.path, tiny_workspace.find("model", name).path)


@pytest.mark.slow
def test_a_full_disk_ends_the_run_with_the_rank_and_the_cause(tiny_workspace: Workspace) -> None:
    def few_bytes() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))

    done = subprocess.run(
        command(tiny_workspace, "full-of-two"),
        capture_output=True,
        text=True,
        preexec_fn=few_bytes,
        env=os.environ | {"COLUMNS": "200"},
        timeout=120,
        check=False,
    )

    assert done.returncode == 6
    assert "rank 0: step 5 could not be saved: File too large" in done.stderr
    assert "free some space" in done.stderr
    assert "Traceback" not in done.stderr


# Tells of a bystander as if it were itself, by a clock of long ago, and is at work for a while.
STRANGE = """
import json, os, pathlib, sys, time
rank = int(os.environ["RANK"])
pulse = pathlib.Path(os.environ["LLMCTL_PULSES"]) / f"rank-{rank}.json"
pulse.write_text(json.dumps({"rank": rank, "pid": int(sys.argv[1]), "doing": "works"}))
os.utime(pulse, (0, 0))
pathlib.Path(sys.argv[2]).write_text(os.environ["OMP_NUM_THREADS"])
time.sleep(1)
"""


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> tuple[bool, int]:
    """Whether the bystander outlived the run, and with how many threads two workers began."""
    threads = tmp_path_factory.mktemp("strange") / "threads"
    with subprocess.Popen(["sleep", "600"]) as bystander, pytest.MonkeyPatch.context() as patch:
        patch.delenv("OMP_NUM_THREADS", raising=False)
        told = [str(bystander.pid), str(threads)]
        launch = Launch(arguments=lambda _: ["-c", STRANGE, *told], processes=2)
        try:
            supervise(launch, on_restart=pytest.fail)
            return bystander.poll() is None, int(threads.read_text())
        finally:
            bystander.kill()


def test_a_clock_that_is_set_does_not_end_a_run_and_what_ended_by_itself_is_not_killed(
    strange: tuple[bool, int],
) -> None:
    assert strange[0]


def test_processes_share_the_cores_of_a_machine(strange: tuple[bool, int]) -> None:
    assert strange[1] == max(1, (os.cpu_count() or 1) // 2)


def test_of_ranks_that_stand_still_the_likeliest_cause_is_named_first() -> None:
    doing = ["waits for the sum of gradients", "computes step 16", "computes step 16"]
    pulses = [
        {"rank": rank, "pid": os.getpid(), "doing": one, "at": at}
        for rank, (one, at) in enumerate(zip(doing, (1.0, 3.0, 2.0), strict=True))
    ]

    told = standstill(pulses, 600.0)

    assert told == (
        "nothing moved for 600 seconds: rank 2 computes step 16; rank 1 computes step 16;"
        " rank 0 waits for the sum of gradients"
    )


# Of two ranks in rows the second dies in a step, and nobody ends the first.
DEATH = """
import os, signal, sys
import torch
from torch.distributed.fsdp import fully_shard
from llmctl.cli.failures import explain
from llmctl.train.distributed.world import here, joined

cpu = torch.device("cpu")
try:
    with joined(here(), device=cpu, patience=60.0) as world:
        group = world.mesh("cpu", (2, 1), ("rows", "others")).get_group("others")
        print(group._get_backend(cpu).options._timeout, flush=True)
        model = fully_shard(torch.nn.Linear(8, 8))
        for step in range(3):
            world.doing(f"computes step {step}")
            if step == 2 and not world.leads:
                os.kill(os.getpid(), signal.SIGKILL)
            model(torch.ones(2, 8)).sum().backward()
except Exception as error:
    failure = explain(error)
    print(failure.message, file=sys.stderr, flush=True)
    os._exit(failure.code)
"""


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, int]:
    """What the first of two ranks, which the second left, said and told, and its exit code."""
    told = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    told |= {"LOCAL_WORLD_SIZE": "2", "LLMCTL_PULSES": str(tmp_path_factory.mktemp("pulses"))}
    first, second = (
        subprocess.Popen(
            [sys.executable, "-c", DEATH],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | told | {"RANK": str(rank)},
        )
        for rank in range(2)
    )
    second.communicate(timeout=120)
    out, err = first.communicate(timeout=120)
    return err, out, first.returncode


def test_a_rank_that_is_left_in_the_middle_of_a_step_says_so(left: tuple[str, str, int]) -> None:
    err, _, code = left

    assert code == TrainingError.exit_code, err
    assert "rank 0 waited in vain for others, while it computes step 2: " in err


def test_groups_of_some_ranks_wait_longer_than_who_watches(left: tuple[str, str, int]) -> None:
    assert left[1] == "0:02:00\n"


def test_machines_that_do_not_come_are_told_with_how_many_and_how_long() -> None:
    meeting = f"localhost:{free_port()}"
    launch = Launch(
        arguments=lambda _: ["-c", "pass"], processes=1, nodes=2, rendezvous=meeting, patience=1.0
    )

    with pytest.raises(TrainingError, match=f"2 machines did not meet at {meeting} within 1"):
        supervise(launch, on_restart=print)


@pytest.mark.slow
def test_a_machine_whose_command_is_given_again_meets_the_others(tmp_path: Path) -> None:
    # A first attempt fails on both machines; one begins the second by itself, one by a new command.
    worker = "import pathlib, sys; there = pathlib.Path(sys.argv[1]) / sys.argv[2]"
    worker += "; fails = not there.exists(); there.touch(); sys.exit(fails)"
    port = free_port()

    def machine(name: str, max_restarts: int) -> None:
        launch = Launch(
            arguments=lambda _: ["-c", worker, str(tmp_path), name], processes=1, nodes=2,
            rendezvous=f"localhost:{port}", patience=60.0, max_restarts=max_restarts,
        )  # fmt: skip
        supervise(launch, on_restart=lambda _: None)

    with ThreadPoolExecutor() as pool:
        patient = pool.submit(machine, "patient", 3)
        with pytest.raises(TrainingError):
            machine("given-up", 0)
        machine("given-up", 0)
        patient.result()


@pytest.mark.parametrize("gpus", [1, 4096])
def test_more_gpus_than_there_are_is_refused_with_what_to_type(
    tiny_workspace: Workspace, capsys: pytest.CaptureFixture[str], gpus: int
) -> None:
    if gpus <= torch.cuda.device_count():
        pytest.skip("so many are here")
    here = ["--workspace", str(tiny_workspace.root), "--name", "of-gpus", "--steps", "2"]

    code = main(["pretrain", "--gpus", str(gpus), "--json", *here])

    error = json.loads(capsys.readouterr().out)["error"]
    assert code == 2
    assert f"`--gpus {gpus}` asks for more than the" in error["message"]
    assert "--processes 2" in error["hint"] or "--gpus" in error["hint"]


TORCHRUN = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}
SRUN = {
    "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_TASKS_PER_NODE": "2",
}  # fmt: skip


@pytest.mark.parametrize(
    ("started", "flags", "message"),
    [
        (TORCHRUN, "--gpus 8", "`--gpus 8` was asked for, but torchrun or srun started 2"),
        (TORCHRUN, "--device cpu --processes 4", "`--processes 4` was asked for"),
        (TORCHRUN, "--gpus 2", "asks for more than the 0"),
        (SRUN, "--gpus 8", "`--gpus 8` was asked for, but torchrun or srun started 2"),
        (
            SRUN, "--nodes 2 --rendezvous here:1",
            "`--nodes 2` was asked for, but torchrun or srun started 1",
        ),
    ],
)  # fmt: skip
def test_flags_that_contradict_who_started_the_processes_are_refused(
    tiny_workspace: Workspace,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    started: dict[str, str],
    flags: str,
    message: str,
) -> None:
    for key, value in (started | {"CUDA_VISIBLE_DEVICES": ""}).items():
        monkeypatch.setenv(key, value)
    here = ["--workspace", str(tiny_workspace.root), "--name", "contradicted", "--steps", "2"]

    code = main(["pretrain", "--json", *here, *flags.split()])

    assert code == 2
    assert message in json.loads(capsys.readouterr().out)["error"]["message"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--nodes", "2"), "need a place to meet"),
        (("--cpu-offload",), "for models that lie in rows"),
        (("--deterministic", "--parallel", "fsdp"), "adds up in pairs"),
        (("--deterministic", "--device", "cuda"), "on the CPU, `--device cuda` elsewhere"),
        (("--deterministic", "--gpus", "8"), "on the CPU, `--gpus 8` elsewhere"),
        (("--size", "tiny", "--params", "10e6"), "both say how large it is"),
        (("--tp", "2"), "needs at least 2 processes"),
        (("--tp", "3", "--processes", "3", "--device", "cpu"), "does not divide the"),
        (("--context-parallel", "4"), "needs at least 4 processes"),
        (("--context-parallel", "2", "--processes", "3", "--device", "cpu"), "the 3 processes"),
        (("--context-parallel", "2", "--processes", "2", "--deterministic"), "slices of them"),
    ],
)
def test_combinations_that_make_no_sense_are_refused(
    tiny_workspace: Workspace,
    capsys: pytest.CaptureFixture[str],
    flags: tuple[str, ...],
    message: str,
) -> None:
    here = ["--workspace", str(tiny_workspace.root), "--steps", "2", "--name", "senseless"]

    code = main(["pretrain", "--json", *here, *flags])

    assert code == 2
    assert message in json.loads(capsys.readouterr().out)["error"]["message"]
