"""TOML in and out: a file as a dict, plain values as text that reads back.

Knows nothing of knobs. TOML has no null: `dumps` writes such a key as a comment.
"""

import importlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from llmctl.errors import ConfigError

BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
WIDTH = 100


def load(path: Path) -> dict[str, Any]:
    """Read a TOML file; ConfigError where it is missing or no TOML."""
    # Most commands read none, and it takes 5 ms to load.
    tomllib: Any = importlib.import_module("tomllib")
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError as error:
        raise ConfigError(
            f"there is no file {path}", hint="`--config` takes a TOML file"
        ) from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read as TOML: {error}") from error


def dumps(tree: Mapping[str, Any]) -> str:
    """Plain values (scalars, lists, nested dicts) as TOML; `tomllib.loads` is the way back.

    >>> print(dumps({"steps": 10, "name": None, "optimizer": {"betas": [0.9, 0.95]}}), end="")
    steps = 10
    # name is not set
    <BLANKLINE>
    [optimizer]
    betas = [0.9, 0.95]
    """
    return "\n".join(_lines(tree, path="")).lstrip("\n") + "\n"


def _lines(tree: Mapping[str, Any], *, path: str) -> Iterator[str]:
    tables = {key: value for key, value in tree.items() if isinstance(value, Mapping)}
    for key, value in tree.items():
        if value is None:
            yield f"# {key} is not set"
        elif key not in tables:
            yield _assignment(_key(key), value)
    for key, table in tables.items():
        yield f"\n[{path}{_key(key)}]"
        yield from _lines(table, path=f"{path}{_key(key)}.")


def _assignment(key: str, value: Any) -> str:
    line = f"{key} = {literal(value)}"
    if isinstance(value, list) and len(line) > WIDTH:
        return f"{key} = [\n" + "".join(f"    {literal(one)},\n" for one in value) + "]"
    return line


def literal(value: Any) -> str:
    """One value as TOML spells it.

    >>> literal("a\\nb"), literal(True), literal([1, 2.5])
    ('"a\\\\nb"', 'true', '[1, 2.5]')
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return f"[{', '.join(literal(one) for one in value)}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_key(key)} = {literal(one)}' for key, one in value.items())}}}"
    return repr(value)


def _key(key: str) -> str:
    return key if BARE_KEY.fullmatch(key) else literal(key)
