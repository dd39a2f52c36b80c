"""Everything that llmctl refuses to do, as one tree of exceptions.

    LlmctlError          1   never raised bare; an unexpected exception also ends in 1
      ConfigError        2   a knob, file or combination makes no sense
      WorkspaceError     3   an artifact is missing, unfinished, stale, damaged or locked
      DataError          4   a source or shard cannot be read, or nothing is left
      DependencyError    5   an optional package is not installed
      TrainingError      6   loss not finite, out of memory, disk full, a worker died
      RemoteError        7   network, hub or quota
    Interruption       130   a signal: the work so far is kept, the hint says how to go on

Each carries a message (what happened, with the value) and a hint (what to do).
"""

from typing import ClassVar


class LlmctlError(Exception):
    """A refusal that the user can act on: a message, an optional hint and an exit code."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigError(LlmctlError):
    """A knob, a configuration file or a combination of them makes no sense."""

    exit_code = 2


class WorkspaceError(LlmctlError):
    """An artifact is missing, unfinished, stale, damaged, locked or of the wrong kind."""

    exit_code = 3


class DataError(LlmctlError):
    """A source or a shard cannot be read, or nothing is left after reading it."""

    exit_code = 4


class DependencyError(LlmctlError):
    """An optional package is not installed; the hint is the pip line."""

    exit_code = 5


class TrainingError(LlmctlError):
    """Training cannot go on: loss not finite, out of memory, disk full."""

    exit_code = 6


class RemoteError(LlmctlError):
    """The network, a hub or a quota said no."""

    exit_code = 7


class Interruption(LlmctlError):
    """A signal ended the work in an orderly way; what was done is kept."""

    exit_code = 130
