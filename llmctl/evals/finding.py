"""What was found out about a machine: a name, a value, and what to do where something is amiss."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

LONGEST = 120


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a report: `advice` is what to do, and empty where all is well."""

    name: str
    value: str
    advice: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def verdict(self) -> str:
        """`ok`, or `warning` where there is advice."""
        return "warning" if self.advice else "ok"


def looked(looks: Mapping[str, Callable[[], Iterable[Finding]]]) -> Iterable[Finding]:
    """What each look finds; one that fails is a finding itself, and the others go on.

    >>> list(looked({"disk": lambda: [Finding("disk", "12 GB free")]}))
    [Finding(name='disk', value='12 GB free', advice='', facts={})]
    """
    for name, look in looks.items():
        try:
            yield from look()
        except Exception as error:
            why = f"{type(error).__name__}: {error}".splitlines()[0][:LONGEST]
            yield Finding(name, "could not be looked at", why)
