"""Starts the processes of a run on this machine, watches over them, and starts them anew.

Each attempt is one agent in a fresh process; when a worker dies or all stand still, the attempt is
ended whole and the next takes up the last checkpoint. What cannot get better by itself (a wrong
setting, a full disk, a loss that is not finite, the same fault twice running) is not tried again.
Machines count their attempts each for itself: they meet at the same place for any of them.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from llmctl.errors import (
    ConfigError,
    DataError,
    DependencyError,
    Interruption,
    LlmctlError,
    RemoteError,
    TrainingError,
    WorkspaceError,
)
from llmctl.train.distributed.world import BEGAN, PULSES
from llmctl.train.signals import stop_requests

POLL_SECONDS = 0.1
SECONDS_TO_DIE = 30
REFUSALS = {
    one.exit_code: one
    for one in (
        *(ConfigError, WorkspaceError, DataError, DependencyError),
        *(TrainingError, RemoteError, Interruption),
    )
}
# What a rank says that was left alone by another: true, and not the cause.
LEFT_ALONE = "waited in vain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """So many `processes` on each of so many machines (`nodes`), which meet at a `rendezvous`.

    `arguments` are what Python runs in each, for an attempt counted from zero. After `patience`
    seconds in which no rank did anything the attempt is ended.
    """

    arguments: Callable[[int], Sequence[str]]
    processes: int
    nodes: int = 1
    rendezvous: str | None = None
    patience: float = 600.0
    max_restarts: int = 3


@dataclass(frozen=True, slots=True)
class Fault:
    """Why an attempt ended: what the rank that began it said, or what was seen of it."""

    error: LlmctlError
    can_be_tried_again: bool


def supervise(launch: Launch, *, on_restart: Callable[[str], None]) -> None:
    """Run to the end, over as many attempts as are allowed; raises what ended the last one.

    `on_restart` is told why before each new attempt.
    """
    began = time.monotonic()
    before = ""
    for attempt in range(launch.max_restarts + 1):
        fault = _attempt(launch, attempt, began)
        if fault is None:
            return
        is_again = fault.error.message == before
        if is_again or not fault.can_be_tried_again or attempt == launch.max_restarts:
            raise fault.error
        before = fault.error.message
        left = launch.max_restarts - attempt
        on_restart(f"{fault.error.message}; starting anew from the last checkpoint ({left} left)")


def _attempt(launch: Launch, attempt: int, began: float) -> Fault | None:
    """Why it failed, None where it did not."""
    with tempfile.TemporaryDirectory(prefix="llmctl-launch-") as name:
        folder = Path(name)
        (folder / "pulses").mkdir()
        spec = {
            "nodes": launch.nodes,
            "processes": launch.processes,
            "rendezvous": launch.rendezvous if launch.nodes > 1 else "localhost:0",
            "patience": launch.patience,
            "arguments": list(launch.arguments(attempt)),
            "logs": str(folder / "logs"),
            "outcome": str(folder / "outcome.json"),
        }
        (folder / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
        # Else each would take all of them.
        cores = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // launch.processes))}
        environment = cores | os.environ | {PULSES: str(folder / "pulses"), BEGAN: str(began)}
        with stop_requests() as should_stop, _agent(folder, environment) as agent:
            stalled = _watch(agent, folder, launch, should_stop)
            if should_stop():
                return Fault(_interruption(folder), False)
        return stalled or _fault(launch, folder, agent.returncode)


@contextlib.contextmanager
def _agent(folder: Path, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """An agent at work, which does not survive the block.

    In a session of its own: Ctrl-C reaches this process alone, which passes it on once.
    """
    command = [sys.executable, "-m", "llmctl.train.distributed.agent", str(folder / "spec.json")]
    agent = subprocess.Popen(
        command, env=dict(environment), start_new_session=True, stdout=subprocess.DEVNULL
    )
    try:
        yield agent
    finally:
        if agent.poll() is None:
            workers = psutil.Process(agent.pid).children(recursive=True)
            agent.kill()
            agent.wait()
            for worker in workers:
                with contextlib.suppress(psutil.NoSuchProcess):
                    worker.kill()
            # Until a worker is gone, so is not its lock on the draft.
            psutil.wait_procs(workers, timeout=SECONDS_TO_DIE)
        elif agent.returncode:
            # It died itself, and left its workers behind.
            for pulse in _pulses(folder):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pulse["pid"], signal.SIGKILL)


def _watch(
    agent: subprocess.Popen[bytes], folder: Path, launch: Launch, should_stop: Callable[[], bool]
) -> Fault | None:
    """Wait for the agent to end; a Fault where nothing moved for too long.

    Until all ranks of this machine are there, those that wait for them have a limit of their own.
    """
    is_told = False
    seen: dict[str, int] = {}
    since = time.monotonic()
    while agent.poll() is None:
        if should_stop() and not is_told:
            agent.terminate()
            is_told = True
        found = _told_at(folder)
        if found != seen:
            seen, since = found, time.monotonic()
        if len(seen) == launch.processes and time.monotonic() - since > launch.patience:
            return Fault(_died(standstill(_pulses(folder), launch.patience)), True)
        time.sleep(POLL_SECONDS)
    return None


def _told_at(folder: Path) -> dict[str, int]:
    """When each rank told anything last, by a clock that may be set: only a change means much."""
    pulses = (folder / "pulses").glob("rank-*.json")
    return {path.name: path.stat().st_mtime_ns for path in pulses}


def standstill(pulses: Sequence[Mapping[str, Any]], patience: float) -> str:
    """What is told where nothing moved for so many seconds: the likeliest cause comes first.

    Who is stopped, then who does not wait for others, then who told something longest ago.
    """

    def likelihood(pulse: Mapping[str, Any]) -> tuple[bool, bool, float]:
        doing = str(pulse["doing"])
        return not doing.startswith("is stopped"), doing.startswith("waits"), pulse["at"]

    seen = sorted([{**one, "doing": _seen(one)} for one in pulses], key=likelihood)
    told = "; ".join(f"rank {one['rank']} {one['doing']}" for one in seen[:4])
    return f"nothing moved for {patience:.0f} seconds: {told}"


def _seen(pulse: Mapping[str, Any]) -> str:
    """What a rank does, by its own word and by how the system sees it."""
    with contextlib.suppress(psutil.Error):
        if psutil.Process(pulse["pid"]).status() == psutil.STATUS_STOPPED:
            return f"is stopped, and {pulse['doing']}"
    return str(pulse["doing"])


def _fault(launch: Launch, folder: Path, exit_code: int) -> Fault | None:
    path = folder / "outcome.json"
    if not path.exists():
        return Fault(_died(f"the launch ended with exit code {exit_code}"), True)
    outcome = json.loads(path.read_bytes())
    if outcome["meeting"] == "missed":
        return Fault(_missed(launch), False)
    if outcome["meeting"] == "lost":
        return Fault(_died(f"the machine of {launch.rendezvous} is gone"), True)
    failures = sorted(outcome["failures"], key=lambda one: one["at"])
    if not failures:
        return None
    faults = [_fault_of(folder, one) for one in failures]
    # The rank that was killed or refused is the cause; that others were left alone, the effect.
    causes = [one for one in faults if LEFT_ALONE not in one.error.message]
    return (causes or faults)[0]


def _fault_of(folder: Path, failure: Mapping[str, Any]) -> Fault:
    rank, code = failure["rank"], failure["exit_code"]
    if code < 0:
        died = f"rank {rank} was killed by {signal.Signals(-code).name}{_last_word(folder, rank)}"
        return Fault(_died(died), True)
    said = _answer(folder, rank).get("error")
    if said is None:
        return Fault(_died(f"rank {rank} ended with exit code {code}"), True)
    is_ours = said["code"] in REFUSALS and LEFT_ALONE not in said["message"]
    message = said["message"] if said["code"] == Interruption.exit_code else _of(rank, said)
    error = REFUSALS.get(said["code"], TrainingError)(message, hint=said["hint"])
    return Fault(error, not is_ours)


def _of(rank: int, said: Mapping[str, Any]) -> str:
    """What a rank said, with its name."""
    message = str(said["message"])
    return message if message.startswith("rank ") else f"rank {rank}: {message}"


def _died(message: str) -> TrainingError:
    return TrainingError(
        message, hint="the last checkpoint is kept: run the same command again to go on"
    )


def _missed(launch: Launch) -> TrainingError:
    return TrainingError(
        f"{launch.nodes} machines did not meet at {launch.rendezvous} within"
        f" {launch.patience:.0f} seconds",
        hint="give the same command on each of them, and see that the first is reached by that name"
        " and port from all; `--patience` is how long they wait",
    )


def _interruption(folder: Path) -> LlmctlError:
    """What the workers said of the step after which they stopped."""
    for pulse in _pulses(folder):
        said = _answer(folder, pulse["rank"]).get("error", {})
        if said.get("code") == Interruption.exit_code:
            return Interruption(said["message"], hint=said["hint"])
    return Interruption("stopped", hint="run the same command again to go on from its checkpoint")


def _pulses(folder: Path) -> list[dict[str, Any]]:
    """What every rank did last."""
    found: list[dict[str, Any]] = []
    for path in sorted((folder / "pulses").glob("rank-*.json")):
        with contextlib.suppress(ValueError):
            found.append(json.loads(path.read_bytes()))
    return sorted(found, key=lambda one: one["rank"])


def _last_word(folder: Path, rank: int) -> str:
    doing = [one["doing"] for one in _pulses(folder) if one["rank"] == rank]
    return f" ({doing[0]})" if doing else ""


def _answer(folder: Path, rank: int) -> dict[str, Any]:
    """The line of JSON that a rank of this machine ended with, if it wrote one."""
    for path in (folder / "logs").glob(f"**/{rank}/stdout.log"):
        for line in reversed(path.read_text(encoding="utf-8").splitlines()):
            with contextlib.suppress(ValueError):
                return dict(json.loads(line))
    return {}
