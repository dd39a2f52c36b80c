"""Knobs: a dataclass field that is at once the flag, the TOML key and the manifest entry.

`knob` declares one. A config goes out as plain values (`to_dict`), as those of them that make
an artifact what it is (`identity`) or as TOML (`to_toml`), and comes back by `from_dict`:

    from_dict(type(config), to_dict(config)) == config

Knows nothing of the command line but for the shape that a flag is to have.
"""

import dataclasses
import functools
import re
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, TypeVar

from llmctl import toml
from llmctl.errors import ConfigError
from llmctl.registry import load, look_up, plug_ins, suggest
from llmctl.values import NONE, choices, expected, fit, is_choice, is_optional, read

Panel = Literal[
    "Input",
    "Output",
    "Model",
    "Training",
    "Text",
    "Sampling",
    "Machine",
    "Many devices",
    "Money",
    "Report",
]
Config = TypeVar("Config")

COUNT = re.compile(
    r"([0-9][0-9_]*\.?[0-9]*|\.[0-9]+)(?:e\+?([0-9]{1,2}))?\s*([kmbgt]?)", re.IGNORECASE
)
POWERS = {"": 0, "k": 3, "m": 6, "b": 9, "g": 9, "t": 12}


class Knob(NamedTuple):
    """What a field says about itself beyond its name, type and default."""

    help: str = ""
    panel: str | None = None
    flag: str | None = None
    positional: bool = False
    rare: bool = False
    identity: bool = True
    metavar: str | None = None
    parse: Callable[[str], Any] | None = None
    choices_from: str | None = None
    json_config: bool = False


class Derived(NamedTuple):
    """A value that follows from the knobs, and why it is what it is."""

    value: Any
    why: str = ""


def knob(
    default: Any = dataclasses.MISSING,
    *,
    help: str,  # noqa: A002
    factory: Callable[[], Any] | None = None,
    panel: Panel | None = None,
    flag: str | None = None,
    positional: bool = False,
    rare: bool = False,
    identity: bool = True,
    metavar: str | None = None,
    parse: Callable[[str], Any] | None = None,
    choices_from: str | None = None,
    json_config: bool = False,
) -> Any:
    """Declare a knob of a stage.

    `flag` overrides the name made from the field (`from_` -> `--from` needs none), as in
    `-o, --out`; `positional` makes it an argument; `rare` knobs are shown by `--help-all` only; a
    knob with `identity=False` never decides whether an artifact is the same. `parse` reads the
    value from text, as `parse_count` does. `choices_from` is the address of a table of
    dataclasses ("module:TABLE"): the knob holds one of them, and the command becomes a group.
    The one with `json_config` takes the path that `--config` names where that is a JSON file.
    """
    about = Knob(
        help=help,
        panel=panel,
        flag=flag,
        positional=positional,
        rare=rare,
        identity=identity,
        metavar=metavar,
        parse=parse,
        choices_from=choices_from,
        json_config=json_config,
    )
    if factory is not None:
        return dataclasses.field(default_factory=factory, metadata={"knob": about})
    return dataclasses.field(default=default, metadata={"knob": about})


def name_knob(help: str) -> Any:  # noqa: A002
    """`--name`: what to call the artifact; the default is the stage's to choose."""
    return knob(None, help=help, panel="Output", metavar="NAME", identity=False)


def force_knob() -> Any:
    """`--force`: make the artifact anew where one of that name stands."""
    text = "Make it anew where another of that name stands"
    return knob(False, help=text, panel="Output", identity=False)


def dry_run_knob() -> Any:
    """`--dry-run`: resolve, check the inputs, print the plan and its cost, stop."""
    text = "Check the inputs, print the plan and its cost, and stop"
    return knob(False, help=text, panel="Output", identity=False)


class Leaf(NamedTuple):
    """A field of a config class: its name as people write it, its type and its knob."""

    field: str
    key: str
    kind: Any
    default: Any
    knob: Knob

    @property
    def is_required(self) -> bool:
        """Whether somebody must say its value."""
        return self.default is dataclasses.MISSING


def knobs(config: Any) -> Iterator[Leaf]:
    """The knobs of a config or of its class, in the order of their declaration."""
    yield from _leaves(config if isinstance(config, type) else type(config))


@functools.cache
def _leaves(cls: type) -> tuple[Leaf, ...]:
    kinds = typing.get_type_hints(cls)
    found: list[Leaf] = []
    for field in dataclasses.fields(cls):
        default: Any = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        about = field.metadata.get("knob", Knob())
        found.append(Leaf(field.name, field.name.rstrip("_"), kinds[field.name], default, about))
    return tuple(found)


def to_dict(config: Any) -> dict[str, Any]:
    """All knobs as JSON and TOML hold them; `from_dict` is the way back."""
    return _tree(config, lambda _: True)


def identity(config: Any) -> dict[str, Any]:
    """The knobs that make an artifact what it is, nested dataclasses as nested dicts.

    Where a knob chooses from a table, its dict holds the name of the row as `type`.
    """
    return _tree(config, lambda knob: knob.identity)


def _tree(config: Any, keep: Callable[[Knob], bool]) -> dict[str, Any]:
    return {
        leaf.key: _branch(leaf, getattr(config, leaf.field), keep)
        for leaf in knobs(config)
        if keep(leaf.knob)
    }


def _branch(leaf: Leaf, value: Any, keep: Callable[[Knob], bool]) -> Any:
    if leaf.knob.choices_from:
        return {"type": _row_name(leaf.knob.choices_from, type(value)), **_tree(value, keep)}
    if dataclasses.is_dataclass(value):
        return _tree(value, keep)
    if value is None and leaf.default is not None:
        return NONE
    return plain(value)


def _row_name(table: str, chosen: type) -> str:
    address = f"{chosen.__module__}:{chosen.__qualname__}"
    for name, row in load(table).items():
        if row == address:
            return name
    points = plug_ins(_group(table))
    return next((point.name for point in points if point.value == address), address)


def _group(table: str) -> str:
    return table.partition(":")[2].lower()


def plain(value: Any) -> Any:
    """A knob's value as JSON holds it: tuples as lists, paths as strings."""
    if isinstance(value, tuple | list):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def from_dict(cls: type[Config], data: Mapping[str, Any], *, where: str = "") -> Config:
    """Build a config from plain values.

    ConfigError, which names the key, the value and `where` they stand, for an unknown key, a
    wrong type or a required knob that is missing.
    """
    return _build(cls, data, at="", where=f" in {where}" if where else "")


def _build(cls: type[Config], data: Mapping[str, Any], *, at: str, where: str) -> Config:
    leaves = {leaf.key: leaf for leaf in knobs(cls)}
    given: dict[str, Any] = {}
    for key, value in data.items():
        leaf = leaves.get(key)
        if leaf is None:
            raise ConfigError(f"unknown key `{at}{key}`{where}", hint=suggest(key, leaves))
        given[leaf.field] = _value(leaf, value, at=f"{at}{leaf.key}", where=where)
    for leaf in leaves.values():
        if leaf.is_required and leaf.field not in given:
            raise ConfigError(f"`{at}{leaf.key}` is missing{where}", hint=leaf.knob.help)
    return cls(**given)


def _value(leaf: Leaf, value: Any, *, at: str, where: str) -> Any:
    cls: Any = leaf.kind
    if leaf.knob.choices_from:
        value = {"type": value} if isinstance(value, str) else dict(value)
        cls = choose(leaf, value.pop("type", ""))
    if dataclasses.is_dataclass(cls) and isinstance(value, Mapping):
        return _build(typing.cast("type", cls), value, at=f"{at}.", where=where)
    return accept(leaf, value, label=f"`{at}`{where}")


def choose(leaf: Leaf, row: str) -> Any:
    """The dataclass that a row's name stands for, in the table that the knob chooses from."""
    table = str(leaf.knob.choices_from)
    return look_up(load(table), row, kind=leaf.key, group=_group(table))


def accept(leaf: Leaf, value: Any, *, label: str, words: bool = False) -> Any:
    """A value (or, with `words`, text of the command line) as the knob wants it.

    ConfigError, which says what `label` takes, where it does not fit.
    """
    try:
        if leaf.knob.parse:
            return _parse(leaf, leaf.knob.parse, value)
        return read(value, leaf.kind) if words else fit(value, leaf.kind)
    except ConfigError as error:
        raise ConfigError(f"{label}: {error.message}", hint=error.hint) from error
    except ValueError as error:
        raise _misfit(leaf, value, label) from error


def _misfit(leaf: Leaf, value: Any, label: str) -> ConfigError:
    if is_choice(leaf.kind):
        known = [str(choice) for choice in choices(leaf.kind)]
        return ConfigError(f"{label} cannot be `{value}`", hint=suggest(str(value), known))
    return ConfigError(f"{label} takes {expected(leaf.kind)}, not `{value}`", hint=leaf.knob.help)


def _parse(leaf: Leaf, parse: Callable[[str], Any], value: Any) -> Any:
    if value == NONE and is_optional(leaf.kind):
        return None
    if isinstance(value, str):
        return parse(value)
    if isinstance(value, list | tuple):
        return tuple(_parse(leaf, parse, one) for one in value)
    if isinstance(value, float):
        return parse(repr(value))  # TOML reads 124e6 as a float, though it is meant as a count
    return fit(value, leaf.kind)


def refuse_idle(config: Any, *fields: str, because: str, hint: str) -> None:
    """Raise ConfigError where one of these knobs was given, though it would do nothing."""
    given = [
        f"`--{leaf.key.replace('_', '-')}`"
        for leaf in knobs(config)
        if leaf.field in fields and getattr(config, leaf.field) != leaf.default
    ]
    if given:
        raise ConfigError(f"{', '.join(given)} would do nothing: {because}", hint=hint)


def to_toml(config: Any) -> str:
    """A config, or a dict of plain values such as a manifest holds, as TOML to paste."""
    return toml.dumps(to_dict(config) if dataclasses.is_dataclass(config) else config)


def parse_count(text: str) -> int:
    """A whole number as people write it; ConfigError for anything else.

    >>> parse_count("124e6"), parse_count("1.5B"), parse_count("300k"), parse_count("2_000")
    (124000000, 1500000000, 300000, 2000)
    """
    if match := COUNT.fullmatch(text.strip()):
        whole, _, part = match[1].replace("_", "").partition(".")
        part = part.rstrip("0")
        power = int(match[2] or 0) + POWERS[match[3].lower()] - len(part)
        if power >= 0:
            return int(f"0{whole}{part}") * 10**power
    raise ConfigError(
        f"`{text}` is not a count", hint="write a whole number: 2000, 300k, 124e6 or 1.5B"
    )
