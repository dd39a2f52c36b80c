"""Turns at a host: so many connections at a time, so many seconds apart, over all processes.

Kept in files whose locks die with their process, so that nothing is left of a kill.
"""

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

SECONDS_BETWEEN_LOOKS = 0.05
MOST_AHEAD = 24 * 3600  # seconds; what is booked further ahead was booked by another clock


class Pace:
    """Hands out turns at hosts; `folder` is shared by all that should take turns."""

    def __init__(
        self,
        folder: Path,
        *,
        connections: int,
        pause: float,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.folder = folder
        self.connections = connections
        self.pause = pause
        self._sleep = sleep

    @contextlib.contextmanager
    def turn(self, host: str) -> Iterator[None]:
        """Wait for a turn at a host, and hold it."""
        place = self._place(host)
        lock = self._free(place)
        try:
            self._sleep(self._seconds_left(place))
            yield
        finally:
            lock.release()

    def postpone(self, host: str, seconds: float) -> None:
        """Let nobody ask a host before so many seconds have passed: it said so itself."""
        place = self._place(host)
        self._book(place, least=seconds)

    def _place(self, host: str) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / re.sub(r"[^\w.-]", "_", host.lower())[:200]

    def _free(self, place: Path) -> FileLock:
        while True:
            for number in range(self.connections):
                # Not a singleton of the path: each turn is one, also in one process.
                lock = FileLock(place.with_name(f"{place.name}.{number}"), is_singleton=False)
                with contextlib.suppress(Timeout):
                    lock.acquire(timeout=0)
                    return lock
            time.sleep(SECONDS_BETWEEN_LOOKS)

    def _seconds_left(self, place: Path) -> float:
        """How long until our turn; books it, and with it the pause behind it."""
        return self._book(place, then=self.pause)

    def _book(self, place: Path, *, least: float = 0.0, then: float = 0.0) -> float:
        """Seconds until the host is free; it is taken for `then` more, or `least` from now."""
        if not least and not then and not place.exists():
            return 0.0
        now = time.time()
        with FileLock(place.with_name(f"{place.name}.lock"), is_singleton=False):
            free = place.stat().st_mtime if place.exists() else 0.0
            start = now if free > now + MOST_AHEAD else max(now, free)
            place.touch()
            os.utime(place, (now, max(start + then, now + least)))
        return start - now
