"""One attempt at a run of several processes: torch's elastic launch, without restarts in place.

    python -m llmctl.train.distributed.agent SPEC.json

A process of its own, because launching leaves torch's threads and sockets behind, and because
restarts in place hung in 2 of 8 trials on torch 2.13: whoever supervises starts another agent.
What became of the workers goes into the file that the spec names.
"""

import json
import logging
import sys
from pathlib import Path
from typing import Any

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from llmctl.train.distributed.world import SECONDS_TO_STOP, end_with_parent


def main(spec_file: str) -> None:
    """Start the workers that a spec describes, and write down how each of them failed."""
    spec = json.loads(Path(spec_file).read_bytes())
    # Whoever supervises says what happened; torch would say it at length.
    logging.disable(logging.CRITICAL)
    end_with_parent()
    config = LaunchConfig(
        min_nodes=spec["nodes"],
        max_nodes=spec["nodes"],
        nproc_per_node=spec["processes"],
        run_id=spec["id"],
        rdzv_backend="c10d",
        rdzv_endpoint=spec["rendezvous"],
        rdzv_timeout=spec["patience"],
        max_restarts=0,
        local_addr="localhost" if spec["nodes"] == 1 else None,
        # What a worker answers is a line of JSON; what it tells people goes where ours goes.
        logs_specs=DefaultLogsSpecs(log_dir=spec["logs"], redirects=Std.OUT),
        shutdown_timeout=SECONDS_TO_STOP,
    )
    failures: list[dict[str, Any]] = []
    try:
        elastic_launch(config, sys.executable)(*spec["arguments"])
    except ChildFailedError as error:
        failures = [
            {"rank": rank, "exit_code": one.exitcode, "at": one.timestamp}
            for rank, one in error.failures.items()
        ]
    except SignalException:
        failures = []
    Path(spec["outcome"]).write_text(json.dumps(failures), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
