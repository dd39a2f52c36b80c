"""Knobs: on how many devices a run trains, and how its model lies over them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from llmctl.config import knob
from llmctl.errors import ConfigError
from llmctl.shapes import Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Devices:
    """Many devices."""

    gpus: int | None = knob(None, help="Train on so many GPUs of this machine")
    processes: int | None = knob(None, help="On a CPU: in so many processes", rare=True)
    nodes: int = knob(1, help="On so many machines, each of which runs this command", rare=True)
    rendezvous: str | None = knob(
        None, help="Where machines meet: the first one's name, and a port",
        metavar="HOST:PORT", rare=True,
    )  # fmt: skip
    parallel: Literal["auto", "ddp", "fsdp", "hsdp"] = knob(
        "auto",
        help="The whole model on each GPU, or its rows over all; auto by what fits",
        rare=True,
    )
    context_parallel: int = knob(
        1, help="So many processes share each row, a slice of its context each", rare=True
    )
    tp: int = knob(1, help="So many processes of a machine hold a part of each matrix", rare=True)
    cpu_offload: bool = knob(
        False, help="With fsdp: weights and optimizer in the host's memory", rare=True
    )
    max_restarts: int = knob(3, help="Attempts after one in which a process died", rare=True)
    patience: float = knob(
        600.0, help="Seconds without a sign of life until an attempt is ended", rare=True
    )

    @property
    def here(self) -> int:
        """Processes that train on this machine."""
        return self.gpus or self.processes or 1

    @property
    def total(self) -> int:
        """Processes that train, on all machines."""
        return self.nodes * self.here

    def check(self, *, device: str, deterministic: bool) -> None:
        """Raise ConfigError for what makes no sense together."""
        for key in ("gpus", "processes", "nodes", "context_parallel", "tp"):
            if getattr(self, key) is not None and getattr(self, key) < 1:
                flag = key.replace("_", "-")
                raise ConfigError(f"`--{flag} {getattr(self, key)}` is not at least 1")
        if self.max_restarts < 0 or not self.patience > 0:
            raise ConfigError("`--max-restarts` and `--patience` are not below zero")
        if self.gpus and (self.processes or device == "cpu"):
            raise ConfigError("`--gpus` is not for a CPU", hint="there, give `--processes`")
        if self.nodes > 1 and not re.fullmatch(r"[^:]+:\d+", self.rendezvous or ""):
            raise ConfigError(
                f"{self.nodes} machines need a place to meet",
                hint="on each: `--rendezvous HOST:PORT`, the first one's name and a free port",
            )
        if deterministic:
            self._check_deterministic(device)
        if self.cpu_offload and self.tp > 1:
            raise ConfigError(
                "`--cpu-offload` is for rows of whole matrices, `--tp` cuts them",
                hint="leave one of them out",
            )
        if self.cpu_offload and self.parallel not in ("fsdp", "hsdp"):
            raise ConfigError(
                "`--cpu-offload` is for models that lie in rows", hint="add `--parallel fsdp`"
            )

    def _check_deterministic(self, device: str) -> None:
        place = f"gpus {self.gpus}" if self.gpus else f"device {device}"
        if place not in ("device auto", "device cpu"):
            raise ConfigError(
                f"`--deterministic` computes on the CPU, `--{place}` elsewhere",
                hint="leave one of them out",
            )
        if self.parallel in ("fsdp", "hsdp"):
            raise ConfigError(
                f"`--deterministic` adds up in pairs, `--parallel {self.parallel}` as it likes",
                hint="leave one of them out",
            )
        for flag, size, what in (
            ("context-parallel", self.context_parallel, "slices of them"),
            ("tp", self.tp, "parts of products"),
        ):
            if size > 1:
                raise ConfigError(
                    f"`--deterministic` adds up whole rows, `--{flag}` {what}",
                    hint="leave one of them out",
                )

    def check_teams(self, shape: Shape, context: int, *, ranks: int, here: int) -> None:
        """Raise ConfigError where so many ranks, of which some are on each machine, cannot share
        rows or matrices of a model as asked for.
        """
        others = [n for n in range(2, here + 1) if not uncut(n, here, shape)]
        self._refuse("tp", uncut(self.tp, here, shape), here, others)
        shape, ranks, wish = shape.part(self.tp), ranks // self.tp, self.context_parallel
        others = [n for n in range(2, ranks + 1) if not unshared(n, ranks, shape, context)]
        self._refuse("context_parallel", unshared(wish, ranks, shape, context), ranks, others)

    def _refuse(self, key: str, why: str, ranks: int, others: Sequence[int]) -> None:
        if not why:
            return
        wish, need = getattr(self, key), self.tp * self.context_parallel
        hint = f"add `--gpus {need}`, or without a GPU `--device cpu --processes {need}`"
        if ranks >= wish:
            hint = f"here it can be: {', '.join(map(str, others))}" if others else "leave it out"
        raise ConfigError(f"`--{key.replace('_', '-')} {wish}` {why}", hint=hint)

    def check_world(self, size: int, here: int) -> None:
        """Raise ConfigError where torchrun or srun started so many processes, of which some are on
        each machine, and others were asked for.
        """
        for key, found in (("gpus", here), ("processes", here), ("nodes", -(-size // here))):
            wish = getattr(self, key)
            is_asked = wish is not None and (key, wish) != ("nodes", 1)
            if is_asked and wish != found:
                raise ConfigError(
                    f"`--{key} {wish}` was asked for, but torchrun or srun started {found}",
                    hint="leave it out: where they start the processes, they say how many",
                )

    def check_gpus(self, found: int) -> None:
        """Raise ConfigError where this machine has fewer GPUs, of which it has so many."""
        if (self.gpus or 0) <= found:
            return
        few = f"`--gpus {found}` uses {'it' if found == 1 else 'all of them'}"
        raise ConfigError(
            f"`--gpus {self.gpus}` asks for more than the {found} that this machine has",
            hint=few
            if found
            else "without a GPU: leave it out, or try several processes with"
            " `--device cpu --processes 2`",
        )


def unshared(slices: int, ranks: int, shape: Shape, context: int) -> str:
    """Why so many neighbours among the ranks cannot share rows of a model; empty where they can."""
    whole = {
        "processes": ranks, "heads": shape.num_heads, "tokens of the context": context
    }  # fmt: skip
    why = _undivided(slices, whole)
    if not why and shape.num_kv_heads % slices and slices % shape.num_kv_heads:
        return f"and {shape.num_kv_heads:,} key and value heads do not divide one another"
    return why


def uncut(parts: int, here: int, shape: Shape) -> str:
    """Why so many ranks of a machine cannot have a part each of a model; empty where they can."""
    whole = {
        "processes of a machine": here, "heads": shape.num_heads,
        "key and value heads": shape.num_kv_heads, "inner widths": shape.mlp_width,
    }  # fmt: skip
    return _undivided(parts, whole)


def _undivided(size: int, whole: Mapping[str, int]) -> str:
    """Which of some numbers cannot be divided, the first of which is of processes."""
    name, count = next(iter(whole.items()))
    if count < size:
        return f"needs at least {size} {name}"
    return next((f"does not divide the {n:,} {name}" for name, n in whole.items() if n % size), "")
