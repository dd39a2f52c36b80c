"""Tasks -> their results, in order: in this process, in several, or under Ray.

A task is a function of a module and arguments that can be sent; it reads and writes files and
returns something small. So who does it leaves no trace in the result.
"""

import contextlib
import importlib
import importlib.util
import logging
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Literal

from llmctl.errors import DependencyError

Engine = Literal["local", "ray"]
Task = tuple[Any, ...]
# Calls a function with the arguments of each task, and yields the results in order.
Perform = Callable[[Callable[..., Any], Sequence[Task]], Iterator[Any]]


@contextlib.contextmanager
def start(engine: Engine, workers: int) -> Iterator[Perform]:
    """So many workers, for as long as the block lasts.

    >>> with start("local", 1) as perform:
    ...     list(perform(max, [(1, 2), (4, 3)]))
    [2, 4]
    """
    match engine:
        case "ray":
            with _ray(workers) as perform:
                yield perform
        case "local" if workers > 1:
            with _pool(workers) as perform:
                yield perform
        case _:
            yield _here


def _here(function: Callable[..., Any], tasks: Sequence[Task]) -> Iterator[Any]:
    yield from (function(*task) for task in tasks)


@contextlib.contextmanager
def _pool(workers: int) -> Iterator[Perform]:
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))

    def perform(function: Callable[..., Any], tasks: Sequence[Task]) -> Iterator[Any]:
        if len(tasks) < 2:
            yield from _here(function, tasks)
            return
        waiting = [pool.submit(function, *task) for task in tasks]
        yield from (one.result() for one in waiting)

    try:
        yield perform
    finally:
        # What has not begun need not: the next run of the same command will do it.
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _ray(workers: int) -> Iterator[Perform]:
    """The cluster that RAY_ADDRESS names, or one on this machine for the while.

    All machines of a cluster must see the workspace under the same path.
    """
    if importlib.util.find_spec("ray") is None:
        raise DependencyError("`--engine ray` needs ray", hint="pip install 'llmctl[ray]'")
    # Ray reads this when it is imported, and asks its makers' server otherwise.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray: Any = importlib.import_module("ray")
    # On this machine alone, it has no need to be reached from another.
    alone = {"num_cpus": workers, "_node_ip_address": "127.0.0.1"}
    local = {} if os.environ.get("RAY_ADDRESS") else alone
    ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, **local)

    def perform(function: Callable[..., Any], tasks: Sequence[Task]) -> Iterator[Any]:
        remote = ray.remote(function)
        waiting = [remote.remote(*task) for task in tasks]
        yield from (ray.get(one) for one in waiting)

    try:
        yield perform
    finally:
        ray.shutdown()
