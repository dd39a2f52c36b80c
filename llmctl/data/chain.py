"""Names of rules and thresholds -> a chain of rules that a document goes through.

The thresholds of a rule stand in the TOML file beside its Python file, each with its source; a
rule from outside the house may have them as defaults of its dataclass alone.
"""

import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmctl import toml
from llmctl.config import accept, from_dict, knobs, to_dict
from llmctl.data.filters import FILTERS
from llmctl.data.reading import Reading
from llmctl.data.verdict import Drop, Edit, Filter
from llmctl.errors import ConfigError
from llmctl.registry import look_up, suggest

GROUP = "filters"


@dataclass(frozen=True, slots=True)
class Rule:
    """A filter under the name by which it is counted."""

    name: str
    filter: Filter


@dataclass(frozen=True, slots=True)
class Passage:
    """What became of a text: `dropped` names rule, reason and detail, or is None.

    `edits` tells for each rule that changed the text what it changed, and by how many bytes the
    text became shorter.
    """

    reading: Reading
    dropped: tuple[str, str, str] | None
    edits: tuple[tuple[str, Mapping[str, int], int], ...] = ()


def build_rules(thresholds: Mapping[str, Mapping[str, Any]]) -> list[Rule]:
    """The rules of resolved thresholds, in their order."""
    return [
        Rule(name, from_dict(_filter_class(name), values, where=f"rule `{name}`"))
        for name, values in thresholds.items()
    ]


def resolve(
    names: Sequence[str], without: Iterable[str], settings: Iterable[str]
) -> dict[str, dict[str, Any]]:
    """The thresholds of the rules to apply, by name: the house's own in its order, then others.

    `settings` are lines such as `gopher.fewest_words=30`, which win over the files. Raises
    ConfigError for a rule or threshold that nobody knows.
    """
    chosen = [name for name in FILTERS if not names or name in names]
    chosen += [name for name in names if name not in FILTERS]
    left_out = set(without)
    for name in left_out:
        _filter_class(name)
    given = _parse(settings)
    for name in given.keys() - (set(chosen) - left_out):
        _filter_class(name)
        raise ConfigError(
            f"`--set {name}.…` speaks of a rule that is not applied",
            hint=f"rules: {', '.join(one for one in chosen if one not in left_out)}",
        )
    return {name: _thresholds(name, given.get(name, {})) for name in chosen if name not in left_out}


def judge(rules: Sequence[Rule], text: str) -> Passage:
    """Take one text through all rules, up to the first that drops it."""
    reading = Reading(text)
    edits: list[tuple[str, Mapping[str, int], int]] = []
    for rule in rules:
        verdict = rule.filter.judge(reading)
        if isinstance(verdict, Drop):
            return Passage(reading, (rule.name, verdict.reason, verdict.detail), tuple(edits))
        if isinstance(verdict, Edit):
            changed = Reading(verdict.text)
            edits.append((rule.name, verdict.counts, reading.bytes - changed.bytes))
            reading = changed
    return Passage(reading, None, tuple(edits))


def _filter_class(name: str) -> Any:
    return look_up(FILTERS, name, kind="rule", group=GROUP)


def _thresholds(name: str, given: Mapping[str, str]) -> dict[str, Any]:
    """What the file of the rule says, with what the user says instead."""
    cls = _filter_class(name)
    module = importlib.import_module(cls.__module__)
    beside = Path(str(module.__file__)).with_suffix(".toml")
    values = toml.load(beside) if beside.exists() else {}
    leaves = {leaf.key: leaf for leaf in knobs(cls)}
    for key, text in given.items():
        if key not in leaves:
            raise ConfigError(f"rule `{name}` has no threshold `{key}`", hint=suggest(key, leaves))
        words = text.split(",") if leaves[key].kind == tuple[str, ...] else text
        values[key] = accept(leaves[key], words, label=f"`--set {name}.{key}`", words=True)
    return to_dict(from_dict(cls, values, where=f"rule `{name}`"))


def _parse(settings: Iterable[str]) -> dict[str, dict[str, str]]:
    """`rule.threshold=value` lines as nested dicts."""
    given: dict[str, dict[str, str]] = {}
    for line in settings:
        path, equals, value = line.partition("=")
        rule, dot, key = path.strip().partition(".")
        if not (equals and dot and key):
            raise ConfigError(
                f"`--set {line}` is no RULE.THRESHOLD=VALUE",
                hint="such as `--set gopher.fewest_words=30`",
            )
        given.setdefault(rule, {})[key] = value.strip()
    return given
