"""Runs of several processes for tests: one Python that imports once and forks every rank."""

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from llmctl.workspace import Workspace

PRELUDE = """
    import contextlib, json, os, random, signal, socket, sys, time
    from pathlib import Path
    import torch
    from llmctl.config import from_dict
    from llmctl.console import console
    from llmctl.stages.pretrain import Pretrain, run
    from llmctl.workspace import Workspace
    import llmctl.train.pretraining, llmctl.evals.model_report
    import llmctl.train.distributed.parts

    torch.set_num_threads(1)
    console.configure(is_quiet=True)
    workspace = Workspace(Path(sys.argv[1]))

    def start(size, knobs):
        with contextlib.closing(socket.socket()) as probe:
            probe.bind(("localhost", 0))
            port = probe.getsockname()[1]
        ranks = []
        for rank in range(size):
            ranks.append(os.fork())
            if ranks[-1] == 0:
                place = {"RANK": rank, "LOCAL_RANK": rank % 2, "WORLD_SIZE": size}
                place |= {"LOCAL_WORLD_SIZE": min(size, 2)}
                meeting = {"MASTER_ADDR": "localhost", "MASTER_PORT": port}
                if size > 1:
                    os.environ |= {key: str(one) for key, one in (place | meeting).items()}
                torch.set_num_threads(1)
                run(from_dict(Pretrain, knobs), workspace)
                sys.stdout.flush()
                os._exit(0)
        return ranks
"""
TRAIN = """
    for size, knobs in json.loads(sys.stdin.read()):
        ranks = start(size, knobs)
        codes = [os.waitstatus_to_exitcode(os.waitpid(rank, 0)[1]) for rank in ranks]
        assert not any(codes), (knobs, codes)
"""
# A rank is killed at a random moment, the others with it, as the supervisor ends an attempt whole.
KILL = """
    (size, knobs), kills, longest = json.loads(sys.stdin.read())
    delays = random.Random(1234)
    killed = runs = 0
    while killed < kills or runs == 0:
        ranks = start(size, knobs | {"name": f"{knobs['name']}-{runs}"})
        # Once there were enough kills, the last run is let through.
        deadline = time.monotonic() + (delays.uniform(0, longest) if killed < kills else 600)
        left = set(ranks)
        while left and time.monotonic() < deadline:
            time.sleep(0.001)
            for rank in list(left):
                ended, status = os.waitpid(rank, os.WNOHANG)
                if ended:
                    left.discard(rank)
                    assert os.waitstatus_to_exitcode(status) == 0
        if not left:
            runs += 1
            continue
        for rank in delays.sample(sorted(left), len(left)):
            os.kill(rank, signal.SIGKILL)
        for rank in left:
            os.waitpid(rank, 0)
        killed += 1
    print(killed, runs)
"""


class Job(NamedTuple):
    """One run: in so many processes, with these knobs of `pretrain`."""

    size: int
    knobs: Mapping[str, Any]


def train(workspace: Workspace, jobs: Sequence[Job]) -> None:
    """Do the jobs, those of one name in their order, each in its processes, as under torchrun.

    Two go on at a time: much of a run of several processes is that they wait for each other.
    """
    names = list(dict.fromkeys(job.knobs["name"] for job in jobs))
    hands = [[job for job in jobs if job.knobs["name"] in names[one::2]] for one in range(2)]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda hand: _run(TRAIN, workspace, hand), hands))


def train_under_kills(workspace: Workspace, job: Job, *, kills: int, longest: float) -> list[str]:
    """Kill a job so often, each time within so many seconds; the names of what was finished."""
    killed, runs = _run(KILL, workspace, [job, kills, longest]).split()
    assert int(killed) == kills
    return [f"{job.knobs['name']}-{number}" for number in range(int(runs))]


def _run(script: str, workspace: Workspace, told: Any) -> str:
    program = textwrap.dedent(PRELUDE) + textwrap.dedent(script)
    done = subprocess.run(
        [sys.executable, "-c", program, str(workspace.root)],
        input=json.dumps(told),
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
