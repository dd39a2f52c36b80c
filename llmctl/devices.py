"""Knobs: on how many devices a run trains, and how its model lies over them."""

import re
from dataclasses import dataclass
from typing import Literal

from llmctl.config import knob
from llmctl.errors import ConfigError


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
        for key in ("gpus", "processes", "nodes", "context_parallel"):
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
        if deterministic and self.parallel in ("fsdp", "hsdp"):
            raise ConfigError(
                f"`--deterministic` adds up in pairs, `--parallel {self.parallel}` as it likes",
                hint="leave one of them out",
            )
        if self.context_parallel > 1 and deterministic:
            raise ConfigError(
                "`--deterministic` adds up whole rows, `--context-parallel` slices of them",
                hint="leave one of them out",
            )
        if self.cpu_offload and self.parallel not in ("fsdp", "hsdp"):
            raise ConfigError(
                "`--cpu-offload` is for models that lie in rows", hint="add `--parallel fsdp`"
            )

    def check_slices(self, ranks: int, *, heads: int, kv_heads: int, context: int) -> None:
        """Raise ConfigError where rows of a model cannot be shared as asked for."""
        wish = self.context_parallel
        sizes = {"heads": heads, "kv_heads": kv_heads, "context": context}
        why = unshared(wish, ranks, **sizes)
        if not why:
            return
        if ranks < wish:
            hint = f"add `--gpus {wish}`, or without a GPU `--device cpu --processes {wish}`"
        else:
            others = [str(n) for n in range(2, ranks + 1) if not unshared(n, ranks, **sizes)]
            hint = f"here it can be: {', '.join(others)}" if others else "leave it out"
        raise ConfigError(f"`--context-parallel {wish}` {why}", hint=hint)

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


def unshared(slices: int, ranks: int, *, heads: int, kv_heads: int, context: int) -> str:
    """Why so many neighbours among the ranks cannot share rows of a model; empty where they can.

    >>> unshared(8, 64, heads=12, kv_heads=12, context=4096)
    'does not divide the 12 heads'
    """
    if ranks < slices:
        return f"needs at least {slices} processes"
    whole = {"processes": ranks, "heads": heads, "tokens of the context": context}
    for name, size in whole.items():
        if size % slices:
            return f"does not divide the {size:,} {name}"
    if kv_heads % slices and slices % kv_heads:
        return f"and {kv_heads:,} key and value heads do not divide one another"
    return ""
