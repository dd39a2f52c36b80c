"""`llmctl`: understand a command line, run its stage, answer with an exit code.

The only place that catches what the rest of the house raises. With `--json` the answer is
exactly one JSON object on stdout, also for a failure.
"""

import contextlib
import io
import itertools
import logging
import math
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmctl import toml
from llmctl.cli.commands import Group, Table, build_app
from llmctl.cli.failures import explain
from llmctl.cli.forms import Call, Manner
from llmctl.config import Derived, plain, to_dict, to_toml
from llmctl.console import console
from llmctl.registry import load
from llmctl.stages import COMMANDS

# The hub's client must not say who is calling, and the console alone draws bars.
HUB_MANNERS = {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}


def main(argv: Sequence[str] | None = None, table: Table = COMMANDS) -> int:
    """Run one command line and return its exit code.

    >>> main(["collect", "demo", "--quiet"])
    0
    """
    for name, value in HUB_MANNERS.items():
        os.environ.setdefault(name, value)
    words = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    # How to speak is asked of the bare words: they may turn out to make no sense.
    flags = set(itertools.takewhile(lambda word: word != "--", words))
    console.configure(is_quiet=not flags.isdisjoint({"-q", "--quiet"}), is_json="--json" in flags)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        call = _understand(words, table)
        return call if isinstance(call, int) else _perform(call)
    except (Exception, KeyboardInterrupt) as error:
        if "--debug" in flags:
            traceback.print_exception(error)
        return _tell(error, is_forced="--force" in flags)


def _understand(words: list[str], table: Table) -> Call | int:
    """The call that the words make, or the exit code where Typer has answered them."""
    command: Any = build_app(table)
    path = ["llmctl"]
    # Typer would find the command as well, after half of pydantic is imported.
    while isinstance(command, Group) and words and not words[0].startswith("-"):
        path.append(words[0])
        command, words = command.find(words[0]), words[1:]
    outcome = command.main(args=words, prog_name=" ".join(path), standalone_mode=False)
    return outcome if isinstance(outcome, Call) else int(outcome or 0)


def _perform(call: Call) -> int:
    manner = call.manner
    console.configure(is_quiet=manner.quiet, is_json=manner.json)
    _listen(manner)
    root = manner.workspace or Path(os.environ.get("LLMCTL_WORKSPACE") or "workspace")
    workspace = load("llmctl.workspace:Workspace")(root)
    stage = sys.modules[type(call.config).__module__]
    if manner.show_config:
        derive = getattr(stage, "explain", None)
        _show_config(call, derive(call.config, workspace) if derive else {})
        return 0
    # What others print must not stand beside the one JSON object.
    with contextlib.redirect_stdout(sys.stderr) if manner.json else contextlib.nullcontext():
        result = stage.run(call.config, workspace)
    if manner.json and not console.is_hushed:
        console.answer(_jsonable(_result(result)))
    return 0


def _listen(manner: Manner) -> None:
    """Let the logs of llmctl be heard: warnings, with --verbose what happens, with --debug all."""
    level = logging.DEBUG if manner.debug else logging.INFO if manner.verbose else logging.WARNING
    logger = logging.getLogger("llmctl")
    logger.setLevel(level)
    logger.handlers = [_Voice()]


class _Voice(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        tell = console.warn if record.levelno >= logging.WARNING else console.note
        tell(self.format(record))


def _show_config(call: Call, derived: Mapping[str, Any]) -> None:
    reasons = {
        name: one if isinstance(one, Derived) else Derived(one) for name, one in derived.items()
    }
    if call.manner.json:
        told = {name: one._asdict() for name, one in reasons.items()}
        console.answer(_jsonable({"config": to_dict(call.config), "derived": told}))
        return
    console.data(f"# llmctl {' '.join(call.words)}\n{to_toml(call.config)}", end="")
    if reasons:
        console.data("\n# what follows from these:")
    lines = {
        f"# {name} = {toml.literal(plain(one.value))}": one.why for name, one in reasons.items()
    }
    column = max(map(len, lines), default=0)
    for line, why in lines.items():
        console.data(f"{line:{column}}  {why}".rstrip())


def _result(result: Any) -> Mapping[str, Any]:
    if isinstance(result, Mapping):
        return result
    facts = {"kind": result.kind, "name": result.name}
    place = {"path": str(result.path), "digest": result.digest}
    return {"artifact": facts | place, "facts": result.facts}


def _tell(error: BaseException, *, is_forced: bool) -> int:
    failure = explain(error)
    if is_forced and "same command" in (failure.hint or ""):
        # With it the command would begin anew once more.
        failure = failure._replace(hint=f"{failure.hint}, without `--force`")
    if console.is_json:
        console.answer({"error": _jsonable(failure._asdict())})
    else:
        console.fail(failure.message, failure.hint)
    return failure.code


def _jsonable(value: Any) -> Any:
    """A value as JSON knows it: a number that is none is null, an array is a list."""
    if isinstance(value, Mapping):
        return {str(key): _jsonable(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(one) for one in value]
    if hasattr(value, "tolist"):
        return _jsonable(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
