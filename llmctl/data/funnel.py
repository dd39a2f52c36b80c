"""What went into a chain of rules = what came out + what each rule took, in documents and bytes.

    documents in = kept + sum of dropped
    bytes in     = kept + sum of dropped + sum of what edits made shorter

A document counts where it was dropped, with the length that it had there.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

MOST_CASES = 5


class Step(NamedTuple):
    """One rule of a funnel: what reached it is left of it, what it took is here.

    `trimmed_bytes` is by how much its edits made texts shorter; below zero where longer.
    """

    rule: str
    documents: int
    bytes: int
    edited_documents: int
    trimmed_bytes: int


@dataclass(slots=True)
class Funnel:
    """Counts that add up, and the first documents of each reason by id."""

    documents_in: int = 0
    bytes_in: int = 0
    documents: int = 0
    bytes: int = 0
    dropped: Counter[str] = field(default_factory=Counter[str])
    dropped_bytes: Counter[str] = field(default_factory=Counter[str])
    edited: Counter[str] = field(default_factory=Counter[str])
    trimmed_bytes: Counter[str] = field(default_factory=Counter[str])
    reasons: Counter[str] = field(default_factory=Counter[str])
    changes: Counter[str] = field(default_factory=Counter[str])
    cases: dict[str, list[str]] = field(default_factory=dict[str, list[str]])

    def take(self, size: int) -> None:
        """A document of so many bytes goes in."""
        self.documents_in += 1
        self.bytes_in += size

    def keep(self, size: int) -> None:
        """A document comes out."""
        self.documents += 1
        self.bytes += size

    def release(self, rule: str, reason: str, size: int, *, case: str = "") -> None:
        """A document that was kept so far is dropped after all."""
        self.documents -= 1
        self.bytes -= size
        self.drop(rule, reason, size, case=case)

    def drop(self, rule: str, reason: str, size: int, *, case: str = "") -> None:
        """A document is taken out by a rule."""
        self.dropped[rule] += 1
        self.dropped_bytes[rule] += size
        key = f"{rule}: {reason}" if reason else rule
        self.reasons[key] += 1
        cases = self.cases.setdefault(key, [])
        if case and len(cases) < MOST_CASES:
            cases.append(case)

    def edit(self, rule: str, counts: Iterable[tuple[str, int]], trimmed: int) -> None:
        """A rule changed a document, which became shorter by so many bytes."""
        self.edited[rule] += 1
        self.trimmed_bytes[rule] += trimmed
        for kind, number in counts:
            self.changes[f"{rule}: {kind}"] += number

    def add(self, other: "Funnel") -> None:
        """Take the counts of other documents in, which come after these."""
        for name in ("documents_in", "bytes_in", "documents", "bytes"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("dropped", "dropped_bytes", "edited", "trimmed_bytes", "reasons", "changes"):
            getattr(self, name).update(getattr(other, name))
        for key, cases in other.cases.items():
            mine = self.cases.setdefault(key, [])
            mine += cases[: MOST_CASES - len(mine)]

    def steps(self, rules: Sequence[str]) -> list[Step]:
        """A row for each rule that did something, in the order of `rules`."""
        return [
            Step(
                rule,
                self.dropped[rule],
                self.dropped_bytes[rule],
                self.edited[rule],
                self.trimmed_bytes[rule],
            )
            for rule in rules
            if self.dropped[rule] or self.edited[rule]
        ]

    @property
    def is_balanced(self) -> bool:
        """Whether nothing was lost and nothing counted twice."""
        gone = self.dropped_bytes.total() + self.trimmed_bytes.total()
        return (
            self.documents_in == self.documents + self.dropped.total()
            and self.bytes_in == self.bytes + gone
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON holds them."""
        return {
            name: dict(value) if isinstance(value := getattr(self, name), dict) else value
            for name in Funnel.__slots__
        }

    @staticmethod
    def from_dict(row: dict[str, Any]) -> "Funnel":
        """The way back from `to_dict`."""
        fields: dict[str, Any] = {
            name: Counter[str](value) if isinstance(value, dict) and name != "cases" else value
            for name, value in row.items()
        }
        return Funnel(**fields)
