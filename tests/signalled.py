"""A signal at a step of choice, as a user or a scheduler sends it."""

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from llmctl.train.journal import Journal


@contextlib.contextmanager
def signalled(
    step: int, *, number: int = signal.SIGINT, folder: str | None = None
) -> Iterator[None]:
    """A block in which this process gets a signal once a step is in the journal, of a folder."""
    add = Journal.add

    def adding(self: Journal, row: dict[str, Any]) -> None:
        add(self, row)
        if row["step"] == step and folder in (None, self.path.parent.name):
            os.kill(os.getpid(), number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "add", adding)
        yield
