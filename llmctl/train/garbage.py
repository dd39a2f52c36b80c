"""Python's garbage collector, kept out of the steps of a run.

By itself it begins when it likes: in the middle of a step, while a GPU runs out of work, and on
each of many ranks in a step of its own, in which all the others wait. What stands after the first
step stays till the end and is not looked at again; what comes later is collected between steps.
"""

import contextlib
import gc
from collections.abc import Callable, Iterator

# Tensors live and die by counting references; what goes in circles meanwhile is small.
EVERY = 100


@contextlib.contextmanager
def collected_by_steps() -> Iterator[Callable[[], None]]:
    """A block that calls what it is given after each step; garbage is collected there alone."""
    was_on, steps = gc.isenabled(), 0

    def tidy() -> None:
        nonlocal steps
        if steps % EVERY == 0:
            gc.collect()
        if steps == 0:
            gc.freeze()
        steps += 1

    gc.disable()
    try:
        yield tidy
    finally:
        gc.unfreeze()
        if was_on:
            gc.enable()
