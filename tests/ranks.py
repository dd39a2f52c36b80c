"""Runs of several processes for tests: one Python that imports once and forks every rank."""

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from llmctl.workspace import Workspace

SCRIPT = """
    import contextlib, json, os, socket, sys
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
    for size, knobs in json.loads(sys.stdin.read()):
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
        codes = [os.waitstatus_to_exitcode(os.waitpid(rank, 0)[1]) for rank in ranks]
        assert not any(codes), (knobs, codes)
"""


class Job(NamedTuple):
    """One run: in so many processes, with these knobs of `pretrain`."""

    size: int
    knobs: Mapping[str, Any]


def train(workspace: Workspace, jobs: Sequence[Job]) -> None:
    """Do the jobs one after the other, each in its processes, which join as under torchrun."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), str(workspace.root)],
        input=json.dumps(jobs),
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
