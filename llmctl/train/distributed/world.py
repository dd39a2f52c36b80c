"""The processes that train together: who they are, and what they tell one another.

The only file that reads `RANK` or touches process groups. A run of one process is a `World` of
size one, in which every question is answered at once. PyTorch carries the rest: its rendezvous,
NCCL between GPUs, gloo between CPUs and for the few numbers that steer a run.

    R ranks, each one process; a rank's share of a batch is a block of its rows, which the
    neighbours of a team have in common
"""

import contextlib
import datetime
import functools
import json
import os
import re
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from llmctl.errors import ConfigError, Interruption, TrainingError
from llmctl.registry import load

# Where a worker writes what it is doing, for whoever watches over it; when the command began.
PULSES, BEGAN = "LLMCTL_PULSES", "LLMCTL_BEGAN"
# Time for a step and a save, between the signal to stop and the one that nothing survives.
SECONDS_TO_STOP = 60
# Slurm's jobs draw their port from these, by their number.
FIRST_PORT, PORTS = 20_000, 20_000


class Pulse:
    """What a rank does, in a file that whoever watches over it reads."""

    def __init__(self, path: Path | None, rank: int) -> None:
        self.path = path
        self.rank = rank
        self.doing = "starts"

    def tell(self, doing: str) -> None:
        """From here on it does something else."""
        self.doing = doing
        if self.path is not None:
            told = {"rank": self.rank, "pid": os.getpid(), "doing": doing, "at": time.monotonic()}
            # Whole or not at all: a rank may be stopped while it writes.
            beside = self.path.with_suffix(".tmp")
            beside.write_text(json.dumps(told), encoding="utf-8")
            beside.replace(self.path)


NOBODY_WATCHES = Pulse(None, 0)


@dataclass(frozen=True, slots=True)
class World:
    """This process among those that train together: `rank` of `size`, `local_rank` of its machine.

    Neighbours are a team who compute the same rows together: so many as there are `slices` of
    time, and of each so many as there are `parts` of matrices.
    Every rank must ask the same questions in the same order. TrainingError where another rank
    does not answer within the time that `joined` was given.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    _pulse: Pulse = NOBODY_WATCHES
    _group: Any = None
    _timeout: datetime.timedelta | None = None
    slices: int = 1
    parts: int = 1

    @property
    def is_alone(self) -> bool:
        """Whether there is nobody else."""
        return self.size == 1

    @property
    def leads(self) -> bool:
        """Whether this rank speaks, writes and decides for all."""
        return self.rank == 0

    @property
    def teams(self) -> int:
        """How many teams there are."""
        return self.size // self.team_size

    @property
    def team_size(self) -> int:
        """How many ranks compute the same rows."""
        return self.slices * self.parts

    @property
    def team(self) -> int:
        """Which of them this rank is of."""
        return self.rank // self.team_size

    def share(self, rows: int) -> range:
        """This rank's block of so many rows; the blocks of all teams are of one size."""
        assert rows % self.teams == 0, "rows must divide over the teams"
        each = rows // self.teams
        return range(self.team * each, (self.team + 1) * each)

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """For each flag, whether it is true on any rank."""
        if self.is_alone:
            return flags
        votes = torch.tensor(flags, dtype=torch.int32)
        with self.waiting_for("what to do next"):
            dist.all_reduce(votes, dist.ReduceOp.MAX)
        return tuple(bool(vote) for vote in votes)

    def least(self, value: int) -> int:
        """The least of a number over all ranks."""
        if self.is_alone:
            return value
        found = torch.tensor(value)
        with self.waiting_for("the least of a number"):
            dist.all_reduce(found, dist.ReduceOp.MIN)
        return int(found)

    def told_by_first(self, value: Any) -> Any:
        """What rank 0 says, as JSON knows it; what the others say is not heard."""
        return self.told_by(0, value)

    def told_by(self, rank: int, value: Any) -> Any:
        """What a rank says, as JSON knows it; what the others say is not heard."""
        if self.is_alone:
            return value
        message = torch.tensor(list(json.dumps(value).encode()), dtype=torch.uint8)
        length = torch.tensor(len(message))
        with self.waiting_for(f"word from rank {rank}"):
            dist.broadcast(length, rank)
            if self.rank != rank:
                message = torch.empty(int(length), dtype=torch.uint8)
            dist.broadcast(message, rank)
        return json.loads(bytes(message.tolist()))

    def wait_for_all(self, what: str) -> None:
        """Go on when all ranks are here."""
        if not self.is_alone:
            with self.waiting_for(what):
                dist.all_reduce(torch.zeros(()))

    def add_up(self, tensors: Sequence[Tensor], what: str) -> None:
        """Sum each tensor over all ranks, in place."""
        if not self.is_alone:
            with self.waiting_for(what):
                for one in tensors:
                    dist.all_reduce(one, group=self._group)

    def exchange(self, mine: Tensor, partner: int, what: str) -> Tensor:
        """A tensor for the one of another rank, of the same size and type."""
        theirs = torch.empty_like(mine)
        with self.waiting_for(what):
            sending = dist.P2POp(dist.isend, mine, partner)
            receiving = dist.P2POp(dist.irecv, theirs, partner)
            for work in dist.batch_isend_irecv([sending, receiving]):
                work.wait()
        return theirs

    def gathered(self, mine: Tensor, what: str) -> Tensor:
        """The tensors of all ranks, which are of one size and type, as one: a row a rank."""
        if self.is_alone:
            return mine[None]
        found = mine.new_empty((self.size, *mine.shape))
        with self.waiting_for(what):
            dist.all_gather_single(found.flatten(0, 1), mine, group=self._group)
        return found

    def dealt(self, mine: Tensor, away: Sequence[int], coming: Sequence[int], what: str) -> Tensor:
        """So many numbers of `mine` for each rank, and so many from each, in the ranks' order."""
        found = mine.new_empty(sum(coming))
        with self.waiting_for(what):
            dist.all_to_all_single(found, mine, list(coming), list(away), group=self._group)
        return found

    def within(self, group: Any) -> "World":
        """The same among the ranks of a process group of torch's alone."""
        rank, size = dist.get_rank(group), dist.get_world_size(group)
        return replace(self, rank=rank, size=size, _group=group, slices=1, parts=1)

    def mesh(self, device: str, sizes: Sequence[int], names: Sequence[str]) -> Any:
        """All ranks as torch's mesh, whose groups wait for one another as long as all do."""
        make: Any = load("torch.distributed.device_mesh:init_device_mesh")
        made = make(device, tuple(sizes), mesh_dim_names=tuple(names))
        if self._timeout is not None:
            set_timeout: Any = load("torch.distributed.distributed_c10d:_set_pg_timeout")
            for group in made.get_all_groups():
                set_timeout(self._timeout, group)
        return made

    def for_writing(self) -> Any:
        """The same ranks once more, for the thread that writes, apart from all other questions.

        A disk may take longer than a step; hence they wait half an hour for one another, or as
        long as all do if that is more.
        """
        return _for_writing(dist.group.WORLD, self._timeout)

    def doing(self, what: str) -> None:
        """Note for whoever watches what this rank does from here on."""
        self._pulse.tell(what)

    @contextlib.contextmanager
    def waiting_for(self, what: str) -> Iterator[None]:
        """A block in which other ranks are waited for, by name."""
        before = self._pulse.doing
        self.doing(f"waits for {what}")
        try:
            yield
        except torch.OutOfMemoryError:
            raise  # a RuntimeError, too, but this rank's own
        except RuntimeError as error:
            raise _left_alone(self.rank, what, error) from error
        self.doing(before)


ALONE = World()


def backends() -> list[str]:
    """By what processes can talk to one another here: gloo between CPUs, NCCL between GPUs."""
    if not dist.is_available():
        return []
    found = {"gloo": dist.is_gloo_available(), "nccl": dist.is_nccl_available()}
    return [name for name, is_here in found.items() if is_here]


def here(environment: dict[str, str] | None = None) -> World:
    """Which process of how many this is, as torchrun, llmctl's own launch or Slurm's srun say it.

    >>> here({"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "3", "LOCAL_WORLD_SIZE": "8"}).rank
    3
    """
    told = dict(os.environ) if environment is None else environment
    if "RANK" in told and "WORLD_SIZE" in told:
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        numbers = [int(told.get(name, "0" if "RANK" in name else "1")) for name in names]
    elif int(told.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        # Only srun sets the step's variables: a batch script's own shell has SLURM_PROCID as well.
        each = re.match(r"\d+", told.get("SLURM_STEP_TASKS_PER_NODE", "1"))
        numbers = [
            int(told["SLURM_PROCID"]),
            int(told["SLURM_STEP_NUM_TASKS"]),
            int(told.get("SLURM_LOCALID", "0")),
            int(each[0]) if each else 1,
        ]
    else:
        return ALONE
    rank, size, local_rank, local_size = numbers
    if not 0 <= rank < size:
        raise ConfigError(f"rank {rank} of {size} processes makes no sense", hint="check `RANK`")
    pulses = told.get(PULSES)
    pulse = Pulse(Path(pulses) / f"rank-{rank}.json" if pulses else None, rank)
    return World(rank, size, local_rank, local_size, pulse)


def meeting_place(environment: dict[str, str]) -> tuple[str, int]:
    """The host and port where a Slurm step's ranks meet: its first node, a port of its job's own.

    >>> meeting_place({"SLURM_STEP_NODELIST": "gpu[07-09,12]", "SLURM_JOB_ID": "41"})
    ('gpu07', 20041)
    """
    nodes = environment.get("SLURM_STEP_NODELIST", "localhost")
    found = re.match(r"([^\[,]+)(?:\[(\d+))?", nodes)
    first = f"{found[1]}{found[2] or ''}" if found else "localhost"
    return first, FIRST_PORT + int(environment.get("SLURM_JOB_ID", "0")) % PORTS


def began() -> float:
    """When the command of a worker began, by the clock that all processes of a machine share."""
    return float(os.environ.get(BEGAN) or time.monotonic())


@contextlib.contextmanager
def joined(
    world: World, *, device: torch.device, patience: float, in_rows: bool = False
) -> Iterator[World]:
    """Meet the other ranks, and part at the end of the block.

    `patience` is how many seconds a rank waits for the others before it gives up. Where there is
    nobody else nothing is done, but for a model that lies `in_rows`: FSDP wants a group, if of one.
    """
    if world.is_alone:
        with _group_of_one(device) if in_rows else contextlib.nullcontext():
            yield world
        return
    if "MASTER_ADDR" not in os.environ:
        host, port = meeting_place(dict(os.environ))
        os.environ |= {"MASTER_ADDR": host, "MASTER_PORT": str(port)}
    if PULSES in os.environ:
        end_with_parent()
    world.doing("waits for the other ranks to come")
    # Who watches can tell which rank stands still; those that wait for it cannot, and come second.
    longer = 2 if PULSES in os.environ else 1
    timeout = datetime.timedelta(seconds=longer * patience)
    try:
        dist.init_process_group(
            _backend(device), rank=world.rank, world_size=world.size, timeout=timeout
        )
        yield replace(world, _timeout=timeout)
    except Interruption:
        # All stop after the same step. Whoever ended without parting might be aborted at its end.
        dist.destroy_process_group()
        raise
    except RuntimeError as error:
        if not _is_of_others(error):
            raise
        raise _left_alone(world.rank, f"others, while it {world._pulse.doing}", error) from error
    # Left out after a fault: there it would wait for ranks that are gone.
    dist.destroy_process_group()


@functools.lru_cache(maxsize=1)
def _for_writing(_ranks: Any, timeout: datetime.timedelta | None) -> Any:
    """One for each time that ranks meet."""
    longest = max(dist.default_pg_timeout, timeout or dist.default_pg_timeout)
    return dist.new_group(backend="gloo", timeout=longest)


@contextlib.contextmanager
def _group_of_one(device: torch.device) -> Iterator[None]:
    dist.init_process_group(_backend(device), store=dist.HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


def _is_of_others(error: RuntimeError) -> bool:
    """Whether another rank is why; what gloo raises is told by its words alone."""
    return isinstance(error, dist.DistError) or "/gloo/" in str(error)


def _left_alone(rank: int, what: str, error: RuntimeError) -> TrainingError:
    why = next(iter(str(error).strip().splitlines()), "no reason given")
    return TrainingError(
        f"rank {rank} waited in vain for {what}: {why}",
        hint="another rank has ended or stands still; the last checkpoint is kept: run the same"
        " command again to go on",
    )


def _backend(device: torch.device) -> str:
    return "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"


def end_with_parent() -> None:
    """Stop in an orderly way when the process that started this one is gone, else by force."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(SECONDS_TO_STOP)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def flattened(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors end to end, as one."""
    return torch.cat([one.flatten() for one in tensors])


def unflattened(flat: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """The parts of one tensor, in the shapes of others."""
    parts = flat.split([one.numel() for one in like])
    return [part.view_as(one) for part, one in zip(parts, like, strict=True)]
