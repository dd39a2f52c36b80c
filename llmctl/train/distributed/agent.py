"""One attempt at a run of several processes: torch's elastic launch, without restarts in place.

    python -m llmctl.train.distributed.agent SPEC.json

A process of its own, because launching leaves torch's threads and sockets behind, and because
restarts in place hung in 2 of 8 trials on torch 2.13: whoever supervises starts another agent.
What became of the workers goes into the file that the spec names.
"""

import json
import logging
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.distributed import DistError
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous import (
    RendezvousClosedError,
    RendezvousConnectionError,
    RendezvousError,
)
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from llmctl.train.distributed.world import SECONDS_TO_STOP, end_with_parent

SECONDS_TO_ASK_AGAIN = 0.5


def main(spec_file: str) -> None:
    """Start the workers that a spec describes; write down how each failed, or that none began."""
    spec = json.loads(Path(spec_file).read_bytes())
    # Whoever supervises says what happened; torch would say it at length.
    logging.disable(logging.CRITICAL)
    end_with_parent()
    outcome: dict[str, Any] = {"failures": [], "meeting": "held"}
    try:
        _launch(spec)
    except ChildFailedError as error:
        outcome["failures"] = [
            {"rank": rank, "exit_code": one.exitcode, "at": one.timestamp}
            for rank, one in error.failures.items()
        ]
    except (RendezvousError, DistError):
        outcome["meeting"] = "lost" if _has_begun(spec) else "missed"
    except SignalException:
        pass
    Path(spec["outcome"]).write_text(json.dumps(outcome), encoding="utf-8")


def _launch(spec: Mapping[str, Any]) -> None:
    """Meet the other machines, and see the workers to their end."""
    deadline = time.monotonic() + spec["patience"]
    while True:
        try:
            elastic_launch(_config(spec, deadline), sys.executable)(*spec["arguments"])
            return
        except (RendezvousClosedError, RendezvousConnectionError):
            # Where they meet there may still be the attempt before this one, about to end.
            if _has_begun(spec) or time.monotonic() > deadline:
                raise
            time.sleep(SECONDS_TO_ASK_AGAIN)


def _config(spec: Mapping[str, Any], deadline: float) -> LaunchConfig:
    seconds = max(1, math.ceil(deadline - time.monotonic()))
    return LaunchConfig(
        min_nodes=spec["nodes"],
        max_nodes=spec["nodes"],
        nproc_per_node=spec["processes"],
        run_id="llmctl",
        rdzv_backend="c10d",
        rdzv_endpoint=spec["rendezvous"],
        rdzv_configs={"join_timeout": seconds, "read_timeout": seconds},
        max_restarts=0,
        local_addr="localhost" if spec["nodes"] == 1 else None,
        # What a worker answers is a line of JSON; what it tells people goes where ours goes.
        logs_specs=DefaultLogsSpecs(log_dir=spec["logs"], redirects=Std.OUT),
        shutdown_timeout=SECONDS_TO_STOP,
    )


def _has_begun(spec: Mapping[str, Any]) -> bool:
    """Whether a worker was started: each has its logs."""
    return any(Path(spec["logs"]).glob("*"))


if __name__ == "__main__":
    main(sys.argv[1])
