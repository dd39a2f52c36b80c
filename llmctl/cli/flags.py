"""A dataclass of knobs -> the flags of a command, and the words given to them -> values.

Typer finds the words of a command line and completes them; what a word means is decided in
`config`, for flags as for TOML. So every parameter is text here, and None where it was not given.
"""

import dataclasses
import inspect
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import typer

from llmctl.cli.page import Row
from llmctl.config import Leaf, accept, knobs
from llmctl.errors import ConfigError
from llmctl.values import arms, choices

LONGEST_METAVAR = 24
METAVARS: dict[Any, str] = {int: "NUMBER", float: "NUMBER", str: "TEXT", Path: "PATH"}


class Flag(NamedTuple):
    """A knob as the command line shows it; `path` leads to it from the config by its keys."""

    path: tuple[str, ...]
    leaf: Leaf
    panel: str

    @property
    def spellings(self) -> Sequence[str]:
        """The ways to write it, the long one last."""
        own = self.leaf.knob.flag
        return own.split(", ") if own else [f"--{self.leaf.key.replace('_', '-')}"]

    @property
    def opposite(self) -> str:
        """The spelling that says no to a switch."""
        return f"--no-{self.spellings[-1].removeprefix('--')}"

    @property
    def is_switch(self) -> bool:
        """Whether it takes no value."""
        return self.leaf.kind in (bool, bool | None)

    @property
    def is_many(self) -> bool:
        """Whether it may be given more than once."""
        return typing.get_origin(arms(self.leaf.kind)[0]) is tuple

    @property
    def item(self) -> Any:
        """The type of what is given each time."""
        kind = self.leaf.kind
        return typing.get_args(arms(kind)[0])[0] if self.is_many else kind

    @property
    def metavar(self) -> str:
        """What stands for its value."""
        about = self.leaf.knob
        if about.metavar:
            return about.metavar
        if about.parse:
            return about.parse.__name__.removeprefix("parse_").upper()
        words = "|".join(word for arm in arms(self.item) for word in _metavars(arm))
        return words if len(words) <= LONGEST_METAVAR else self.leaf.key.upper()

    @property
    def place(self) -> str:
        """A positional argument as the usage line shows it."""
        word = f"{self.metavar}..." if self.is_many else self.metavar
        return word if self.leaf.is_required else f"[{word}]"

    @property
    def label(self) -> str:
        """How the help page writes it."""
        if self.leaf.knob.positional:
            return self.place.strip("[]")
        words = ", ".join(self.spellings)
        if not self.is_switch:
            return f"{words} {self.metavar}"
        return words if self.leaf.default is False else f"{words}, {self.opposite}"

    @property
    def row(self) -> Row:
        """Its row of the help page: with the choices, the default, whether it repeats."""
        notes: list[str] = []
        allowed = ", ".join(map(str, choices(self.leaf.kind)))
        if allowed and allowed.replace(", ", "|") not in self.label:
            notes.append(f"one of {allowed}")
        if self.leaf.is_required and not self.leaf.knob.positional:
            notes.append("required")
        if self.is_many and not self.leaf.knob.positional:
            notes.append("may be repeated")
        if default := spell(self.leaf.default):
            notes.append(f"default: {default}")
        tail = f" ({'; '.join(notes)})" if notes else ""
        return Row(self.label, self.leaf.knob.help + tail, self.leaf.knob.rare)

    def parameter(self) -> inspect.Parameter:
        """What Typer is to look for."""
        # Shells are shown the help of a flag as Rich markup.
        traits: dict[str, Any] = {"help": self.leaf.knob.help.replace("[", r"\[")}
        if choices(self.leaf.kind):
            traits["autocompletion"] = self.complete
        kind: Any = str | None
        if self.is_switch or self.is_many:
            kind = bool | None if self.is_switch else list[str] | None
        if self.leaf.knob.positional:
            return parameter(self.name, kind, typer.Argument(None, **traits))
        words = [*self.spellings]
        if self.is_switch:
            words[-1] += f"/{self.opposite}"
        about = typer.Option(None, *words, hidden=self.leaf.knob.rare, **traits)
        return parameter(self.name, kind, about)

    def complete(self, incomplete: str) -> list[str]:
        """The choices that begin so, for the shell."""
        allowed = map(str, choices(self.leaf.kind))
        return [choice for choice in allowed if choice.startswith(incomplete)]

    @property
    def name(self) -> str:
        """Its name as a parameter: never a keyword of Python."""
        return f"_{self.spellings[-1].strip('-').replace('-', '_')}"

    def accept(self, words: Any) -> Any:
        """The knob's value, from what was given; ConfigError where it makes no sense."""
        label = f"`{self.metavar if self.leaf.knob.positional else self.spellings[-1]}`"
        if not self.is_many:
            return accept(self.leaf, words, label=label, words=True)
        item = self.leaf._replace(kind=self.item)
        return tuple(accept(item, word, label=label, words=True) for word in words)


def parameter(name: str, kind: Any, about: Any) -> inspect.Parameter:
    """A keyword of a function that Typer turns into a command; `about` holds its default.

    `Annotated[kind, about]` would say the same, and take a tenth longer to build a command.
    """
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=about, annotation=kind)


def spread(cls: type, *, path: tuple[str, ...] = (), panel: str = "") -> Iterator[Flag]:
    """The flags of a class of knobs; those of a nested class have a panel named after it.

    A knob that chooses from a table is no flag: the words of the command say what it holds.
    """
    for leaf in knobs(cls):
        here = (*path, leaf.key)
        if dataclasses.is_dataclass(leaf.kind) and not leaf.knob.parse:
            subject = leaf.knob.panel or leaf.key.replace("_", " ").capitalize()
            yield from spread(typing.cast("type", leaf.kind), path=here, panel=subject)
        elif not leaf.knob.choices_from:
            yield Flag(here, leaf, panel or leaf.knob.panel or "Options")


def overlay(
    data: Mapping[str, Any], flags: Iterable[Flag], given: Mapping[str, Any]
) -> dict[str, Any]:
    """The plain values of a config with those that flags were given, which win."""
    merged = dict(data)
    for flag in flags:
        if given[flag.name] is not None:
            merged = _put(merged, flag.path, flag.accept(given[flag.name]))
    return merged


def _put(data: Mapping[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    key, *rest = path
    if not rest:
        return {**data, key: value}
    below = data.get(key, {})
    if not isinstance(below, Mapping):
        raise ConfigError(f"`{key}` takes a table, not `{below}`")
    return {**data, key: _put(typing.cast("Mapping[str, Any]", below), rest, value)}


def demand(flags: Iterable[Flag], data: Mapping[str, Any], *, usage: str) -> None:
    """ConfigError for a required knob that nobody gave."""
    for flag in flags:
        below: Any = data
        for key in flag.path:
            below = below.get(key) if isinstance(below, Mapping) else None
        if flag.leaf.is_required and below is None:
            raise ConfigError(f"`{flag.label}` is missing", hint=f"usage: {usage}")


def _metavars(kind: Any) -> Sequence[str]:
    return [str(one) for one in choices(kind)] or [METAVARS.get(kind, "VALUE")]


def spell(default: Any) -> str:
    """A default for the help page; nothing where there is none to speak of."""
    if default is dataclasses.MISSING or default is None or default is False or default == ():
        return ""
    if default is True:
        return "on"
    if isinstance(default, tuple):
        return ", ".join(map(spell, typing.cast("tuple[Any, ...]", default)))
    return f"{default:_}" if isinstance(default, int) else str(default)
