"""`examples/slurm/pretrain.sbatch`, run as it stands; srun and scontrol are stand-ins."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from llmctl.workspace import Workspace

ROOT = Path(__file__).parents[1]
BATCH = ROOT / "examples/slurm/pretrain.sbatch"
# Two tasks on one machine, as Slurm describes them; the exit code is the largest of theirs.
SRUN = """#!{python}
import os, signal, subprocess, sys
from pathlib import Path

assert os.environ["SRUN_CPUS_PER_TASK"] == "8"
assert sys.argv[1:3] == ["--kill-on-bad-exit=0", "--wait=600"]
step = {{"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_TASKS_PER_NODE": "2"}}
step |= {{"SLURM_STEP_NODELIST": "localhost"}}
tasks = [
    subprocess.Popen(
        sys.argv[3:],
        env=os.environ | step | {{"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)}},
    )
    for rank in range(2)
]
signal.signal(signal.SIGTERM, lambda *_: [one.send_signal(signal.SIGTERM) for one in tasks])
Path("{folder}/tasks").write_text(" ".join(str(one.pid) for one in tasks))
Path("{folder}/srun").write_text(str(os.getpid()))
codes = [one.wait() for one in tasks]
sys.exit(max(code if code >= 0 else 128 - code for code in codes))
"""
SCONTROL = '#!/bin/sh\necho "$@" >> {folder}/scontrol\n'
LLMCTL = '#!/bin/sh\nexec {python} -m llmctl "$@"\n'
SMALL = "--size nano --layers 2 --width 32 --heads 2 --context 32 --batch 8 --device cpu --seed 3"
SMALL += " --save-every 100000 --eval-every 100000 --precision float32"


class Cluster:
    """Starts the batch file, and knows the processes and what was asked of Slurm."""

    def __init__(self, folder: Path, workspace: Workspace) -> None:
        self.folder = folder
        self.workspace = workspace
        tools = folder / "bin"
        tools.mkdir()
        for name, text in {"srun": SRUN, "scontrol": SCONTROL, "llmctl": LLMCTL}.items():
            tool = tools / name
            tool.write_text(text.format(python=sys.executable, folder=folder), encoding="utf-8")
            tool.chmod(0o755)
        # The job's number becomes a port, which two tests at a time must not share.
        job = str(os.getpid() % 20_000)
        self.environment = os.environ | {
            "PATH": f"{tools}:{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "SLURM_JOB_ID": job,
            "SLURM_CPUS_PER_TASK": "8",
            "OMP_NUM_THREADS": "1",
        }
        self.requeue = f"requeue {job}"

    def start(self, *flags: str) -> "subprocess.Popen[str]":
        (self.folder / "srun").unlink(missing_ok=True)
        return subprocess.Popen(
            ["bash", str(BATCH), "--workspace", str(self.workspace.root), *flags],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def pids(self, name: str) -> list[int]:
        return [int(one) for one in (self.folder / name).read_text().split()]

    @property
    def asked(self) -> list[str]:
        log = self.folder / "scontrol"
        return log.read_text().splitlines() if log.exists() else []


@pytest.fixture
def cluster(tmp_path: Path, tiny_workspace: Workspace) -> Cluster:
    return Cluster(tmp_path, tiny_workspace)


def when_training(
    cluster: Cluster, job: "subprocess.Popen[str]", name: str, act: Callable[[], None]
) -> None:
    metrics = cluster.workspace.draft_path("model", name) / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text().count("\n") > 5):
        assert job.poll() is None, job.communicate()
        time.sleep(0.02)
    act()


@pytest.mark.slow
def test_the_batch_file_plans_once_for_all_ranks(cluster: Cluster) -> None:
    out, err = (job := cluster.start("--dry-run")).communicate()

    assert job.returncode == 0, err
    assert (out + err).count("would make models/slurm") == 1
    assert cluster.asked == []


@pytest.mark.slow
def test_a_job_that_is_asked_to_stop_saves_is_requeued_and_goes_on(cluster: Cluster) -> None:
    flags = [*SMALL.split(), "--name", "of-slurm", "--tokens", "50e3"]
    job = cluster.start(*flags)
    when_training(
        cluster, job, "of-slurm", lambda: os.kill(cluster.pids("srun")[0], signal.SIGTERM)
    )
    _, err = job.communicate()

    assert job.returncode == 130, err
    assert cluster.asked == [cluster.requeue]
    again = cluster.start(*flags)
    _, err = again.communicate()
    assert again.returncode == 0, err
    facts = cluster.workspace.find("model", "of-slurm").facts
    assert facts["world_size"] == 2
    assert facts["resumed_from"] > 0
    assert facts["goodput"]["attempts"] == 2
    assert facts["goodput"]["seconds"]["trained twice"] == 0


@pytest.mark.slow
def test_a_job_of_which_a_process_is_killed_is_requeued(cluster: Cluster) -> None:
    job = cluster.start(*SMALL.split(), "--name", "of-killed", "--tokens", "1e9")
    when_training(
        cluster, job, "of-killed", lambda: os.kill(cluster.pids("tasks")[1], signal.SIGKILL)
    )
    job.communicate()

    assert job.returncode == 137
    assert cluster.asked == [cluster.requeue]


@pytest.mark.slow
def test_a_job_that_was_refused_is_not_tried_again(cluster: Cluster) -> None:
    job = cluster.start("--size", "no-such-size")
    _, err = job.communicate()

    assert job.returncode == 2, err
    assert cluster.asked == []
