"""What a rule says of a text, and the contract of every rule.

A rule drops the text with a reason that can be counted, gives it back with something changed,
or has nothing to say. It sees one text and nothing else, so that any process can apply it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from llmctl.data.reading import Reading


@dataclass(frozen=True, slots=True)
class Drop:
    """The text is to go: `reason` is a short key that can be counted, `detail` the figures."""

    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Edit:
    """The text is to stay with changes, counted by kind."""

    text: str
    counts: Mapping[str, int] = field(default_factory=dict[str, int])


Verdict = Drop | Edit | None


class Filter(Protocol):
    """A rule: a frozen dataclass of thresholds that judges one text after another.

    >>> @dataclass(frozen=True, slots=True, kw_only=True)
    ... class Short:
    ...     fewest_words: int = 3
    ...     def judge(self, reading):
    ...         words = len(reading.words)
    ...         return Drop("short", f"{words} words") if words < self.fewest_words else None
    >>> Short().judge(Reading("too short"))
    Drop(reason='short', detail='2 words')
    """

    def judge(self, reading: Reading) -> Verdict:
        """Drop it, Edit it, or None where it may stay as it is."""
        ...
