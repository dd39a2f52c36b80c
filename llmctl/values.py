"""What TOML, JSON or the command line says -> what a type annotation wants, or ValueError.

Types: bool, int, float, str, Path, `Literal[...]`, `X | None`, other unions (the first arm that
fits), `tuple[X, ...]` and `dict[str, X]`. No number is NaN; no bool passes for a number.
"""

import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

# How text and TOML, which have no null, say that an optional value is not set.
NONE = "none"

WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
TRUTH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}

Scalar = Callable[[Any, Any], Any]


def fit(value: Any, kind: Any) -> Any:
    """A value of TOML, JSON or Python as `kind`.

    >>> fit(["a", "b"], tuple[Path, ...])
    (PosixPath('a'), PosixPath('b'))
    """
    return _fit(value, kind, _exactly)


def read(text: Any, kind: Any) -> Any:
    """A word of the command line as `kind`, or a list of them where it is a tuple.

    >>> read("none", int | None), read("1e-3", float)
    (None, 0.001)
    """
    return _fit(text, kind, _spelled)


def expected(kind: Any) -> str:
    """What `kind` takes, in words for a message.

    >>> expected(int | Literal["auto"])
    'a whole number or `auto`'
    """
    if is_union(kind):
        return " or ".join(map(expected, arms(kind)))
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        listed = ", ".join(map(str, parts))
        return f"one of {listed}" if len(parts) > 1 else f"`{listed}`"
    if origin is tuple:
        return f"a list, each {expected(parts[0])}"
    if origin is dict:
        return f"a table, each {expected(parts[1])}"
    return WORDS.get(kind, f"a {kind.__name__.lower()}")


def is_union(kind: Any) -> bool:
    """Whether a type is written `X | Y` (or `Optional[X]`)."""
    return typing.get_origin(kind) in (typing.Union, types.UnionType)


def arms(kind: Any) -> tuple[Any, ...]:
    """The types that a union joins, but for None; another type alone."""
    joined = typing.get_args(kind) if is_union(kind) else (kind,)
    return tuple(arm for arm in joined if arm is not types.NoneType)


def is_optional(kind: Any) -> bool:
    """Whether None is among the values of a type."""
    return is_union(kind) and types.NoneType in typing.get_args(kind)


def is_choice(kind: Any) -> bool:
    """Whether only the values of a `Literal` fit, and perhaps None."""
    return all(typing.get_origin(arm) is Literal for arm in arms(kind))


def choices(kind: Any) -> tuple[Any, ...]:
    """The values that a `Literal` allows, also inside a union or a tuple; none elsewhere."""
    if typing.get_origin(kind) is Literal:
        return typing.get_args(kind)
    return tuple(one for arm in typing.get_args(kind) for one in choices(arm))


def _fit(value: Any, kind: Any, scalar: Scalar) -> Any:
    if is_union(kind):
        if is_optional(kind) and (value is None or value == NONE):
            return None
        return _first((lambda arm=arm: _fit(value, arm, scalar)) for arm in arms(kind))
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return _first((lambda one=one: _same(value, one, scalar)) for one in parts)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_fit(one, parts[0], scalar) for one in typing.cast("list[Any]", value))
    if origin is dict and isinstance(value, Mapping):
        rows = typing.cast("Mapping[Any, Any]", value).items()
        return {str(key): _fit(one, parts[1], scalar) for key, one in rows}
    if origin is not None:
        raise ValueError(value)
    return scalar(value, kind)


def _first(attempts: Iterable[Callable[[], Any]]) -> Any:
    for attempt in attempts:
        try:
            return attempt()
        except ValueError:
            continue
    raise ValueError


def _same(value: Any, choice: Any, scalar: Scalar) -> Any:
    if scalar(value, type(choice)) != choice:
        raise ValueError(value)
    return choice


def _exactly(value: Any, kind: Any) -> Any:
    if kind is Any:
        return value
    if kind is float and type(value) is int:
        return _float(value)
    if kind is Path and isinstance(value, str):
        return Path(value)
    misfit = isinstance(value, bool) and kind is not bool
    if misfit or not isinstance(value, kind) or (isinstance(value, float) and math.isnan(value)):
        raise ValueError(value)
    return value


def _spelled(text: Any, kind: Any) -> Any:
    if kind is bool and isinstance(text, str):
        return _truth(text)
    if kind in (int, float) and isinstance(text, str):
        return _exactly(kind(text), kind)
    return _exactly(text, kind)


def _truth(text: str) -> bool:
    if text.lower() not in TRUTH:
        raise ValueError(text)
    return TRUTH[text.lower()]


def _float(value: int) -> float:
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError(value) from error
