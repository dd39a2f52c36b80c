"""An exception -> what the user is told: an exit code, what went wrong, what to do.

Knows nothing of how it is shown.
"""

import contextlib
import errno
import traceback
from typing import NamedTuple

import typer
from typer.core import TyperGroup

from llmctl.errors import (
    ConfigError,
    DataError,
    DependencyError,
    Interruption,
    LlmctlError,
    TrainingError,
    WorkspaceError,
)
from llmctl.registry import load

BUG = 1
LONGEST_MESSAGE = 300


class Failure(NamedTuple):
    """The end of a command that could not do its work."""

    code: int
    message: str
    hint: str | None = None


def explain(error: BaseException) -> Failure:
    """What to tell of an exception; what is no refusal of ours or of the machine is a bug."""
    refusal = _refusal(error)
    if refusal is None:
        return _bug(error)
    return Failure(refusal.exit_code, refusal.message, refusal.hint)


def _refusal(error: BaseException) -> LlmctlError | None:
    match error:
        case LlmctlError():
            return error
        case typer.TyperException():
            return _usage(error)
        case KeyboardInterrupt():
            return Interruption("interrupted", hint="the same command takes up what was kept")
        case MemoryError() | RuntimeError() if _is_out_of_memory(error):
            return TrainingError("out of memory", hint="take a smaller batch, or a larger machine")
        case OSError():
            return _system(error)
        case ModuleNotFoundError(name=str(name)) if not name.startswith("llmctl"):
            package = name.partition(".")[0]
            return DependencyError(f"{package} is not installed", hint=f"pip install {package}")
        case _:
            return None


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, of the machine or of a GPU; torch is not imported to know its own."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def _system(error: OSError) -> LlmctlError | None:
    place = f": {error.filename}" if error.filename else ""
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
            hint = "free some space and give the same command again"
            return TrainingError(f"the disk is full{place}", hint=hint)
        case errno.EACCES | errno.EPERM | errno.EROFS:
            hint = "look at its permissions, or choose another place with `--workspace`"
            return WorkspaceError(f"permission denied{place}", hint=hint)
        case errno.ENOENT | errno.ENOTDIR | errno.EISDIR if error.filename:
            return DataError(f"cannot read {error.filename}: {error.strerror}")
        case _:
            return None


def _usage(error: typer.TyperException) -> ConfigError:
    """Typer's complaint about a command line, in the manner of the house."""
    option = getattr(error, "option_name", None)
    near = getattr(error, "possibilities", None)
    context = getattr(error, "ctx", None)
    hint = f"see `{context.command_path} --help`" if context else "`--help` shows what it takes"
    if near:
        hint = f"did you mean `{near[0]}`?"
    elif option and context and isinstance(context.command, TyperGroup):
        hint = f"options come after the command; see `{context.command_path} --help`"
    message = error.message.rstrip(".").replace("'", "`")
    return ConfigError(f"{message[:1].lower()}{message[1:]}", hint=hint)


def _bug(error: BaseException) -> Failure:
    message = f"this is a bug in llmctl: {type(error).__name__}: {error}"[:LONGEST_MESSAGE]
    hint = "`--debug` shows the traceback"
    with contextlib.suppress(OSError):
        handle = load("tempfile:NamedTemporaryFile")(
            "w", prefix="llmctl-", suffix=".traceback", delete=False, encoding="utf-8"
        )
        with handle:
            handle.writelines(traceback.format_exception(error))
        hint = f"the traceback is in {handle.name}; `--debug` shows it at once"
    return Failure(BUG, message, hint)
