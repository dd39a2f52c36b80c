"""Names -> what they stand for: tables of "module:attribute" strings, loaded when used.

A plug-in from outside is an entry point in the group `llmctl.<table>`, consulted only for
a name that the table does not hold.
"""

import difflib
import importlib
from collections.abc import Iterable, Mapping
from typing import Any

from llmctl.errors import ConfigError


def load(address: str) -> Any:
    """Import `module:attribute` and return the attribute.

    >>> load("llmctl.errors:ConfigError").exit_code
    2
    """
    module, _, attribute = address.partition(":")
    return getattr(importlib.import_module(module), attribute)


def look_up(table: Mapping[str, str], name: str, *, kind: str, group: str | None = None) -> Any:
    """Load the row `name` of a table, else the entry point of that name in `llmctl.<group>`.

    Raises ConfigError, with the nearest names, for a name that neither knows.
    """
    if name in table:
        return load(table[name])
    if group:
        for point in plug_ins(group):
            if point.name == name:
                return point.load()
    raise ConfigError(f"unknown {kind} `{name}`", hint=suggest(name, table))


def plug_ins(group: str) -> Iterable[Any]:
    """The entry points of other packages in `llmctl.<group>`."""
    # The import of importlib.metadata takes longer than that of all llmctl's command line.
    return load("importlib.metadata:entry_points")(group=f"llmctl.{group}")


def suggest(name: str, known: Iterable[str]) -> str:
    """A hint that names the closest known names, or all of them where none is close.

    >>> suggest("wikipdia", ["wikipedia", "books"])
    'did you mean `wikipedia`?'
    """
    names = sorted(set(known))
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    if near:
        return f"did you mean {' or '.join(f'`{one}`' for one in near)}?"
    return f"choose one of: {', '.join(names)}" if names else "there are none yet"
