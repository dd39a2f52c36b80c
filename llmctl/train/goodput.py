"""Where the time of a run went, over all its attempts: useful, or by what it was lost to.

Useful is what was spent on steps that count. A step that a kill took, and that was trained again,
is lost; so is the time between an attempt that ended and the next, in which the run was down.
"""

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

from llmctl.durable import write_durably

CAUSES = ("training", "start-up", "saving", "scoring", "trained twice", "down")


class Goodput:
    """Seconds by cause, in a file that is written with each checkpoint."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seconds: dict[str, float] = dict.fromkeys(CAUSES, 0.0)
        self.attempts = 1
        self._began = time.time()

    @property
    def share(self) -> float:
        """Useful seconds over all seconds that are accounted for."""
        return self.seconds["training"] / max(sum(self.seconds.values()), 1e-9)

    def resume(self, *, lost: float) -> None:
        """Take up what earlier attempts wrote; `lost` are the seconds of steps to train again."""
        if not self.path.exists():
            return
        known = json.loads(self.path.read_bytes())
        self.seconds |= known["seconds"]
        self.attempts = known["attempts"] + 1
        gone = self._began - known["written"]
        # What was trained after the last save was never written down.
        self.seconds["trained twice"] += lost
        self.seconds["down"] += max(0.0, gone - lost)

    def begin(self) -> None:
        """The first step of this attempt comes now."""
        self.seconds["start-up"] += time.time() - self._began

    def add(self, cause: str, seconds: float) -> None:
        """Some seconds more."""
        self.seconds[cause] += seconds

    @contextlib.contextmanager
    def spent_on(self, cause: str) -> Iterator[None]:
        """A block whose time is spent on something else than steps."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[cause] += time.monotonic() - began

    def write(self) -> None:
        """Keep what is known so far."""
        known = {"seconds": self.seconds, "attempts": self.attempts, "written": time.time()}
        write_durably(self.path, json.dumps(known).encode())

    def facts(self) -> dict[str, object]:
        """As a manifest says it."""
        lost = {cause: round(took, 3) for cause, took in self.seconds.items()}
        return {"share": round(self.share, 4), "attempts": self.attempts, "seconds": lost}
