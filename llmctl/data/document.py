"""A document, what could not become one, and the contract of every source of documents.

Knows nothing of shards, tokenizers or the workspace.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One text and its provenance.

    `id` is stable: the same source gives the same id on every machine and in every run.
    `time` is when the text was written or last changed, ISO 8601, empty where unknown.
    `meta` holds small facts of the source as strings.
    """

    id: str
    text: str
    source: str
    url: str = ""
    licence: str = ""
    time: str = ""
    meta: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """Something that did not become a document: where it stood, how big it was and why.

    `reason` is a short key that can be counted (`empty`, `binary`), `detail` the rest.
    With `kept=True` it is a remark: the text was kept (`mended encoding`), yet it is counted.
    """

    where: str
    reason: str
    detail: str = ""
    bytes: int = 0
    kept: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A piece of a source that one process reads alone, in a stable order.

    `spec` is whatever the source needs to find it again (picklable, JSON-like); `bytes` its size;
    `seconds` how long one process will be busy with it, as far as the source can tell.
    """

    label: str
    bytes: int
    spec: tuple[Any, ...] = ()
    seconds: float = 0.0


class Source(Protocol):
    """Where documents come from: a frozen dataclass of knobs that lists parts and reads one.

    The documents of a part depend on the knobs and the part alone, so that a run can be
    interrupted, taken up again and spread over processes without a trace in the result.
    """

    def default_name(self) -> str:
        """The corpus name where the user gives none."""
        ...

    def parts(self) -> Sequence[Part]:
        """The pieces to read, in a stable order; raises DataError where there is nothing."""
        ...

    def read(self, part: Part) -> Iterator[Document | Rejected]:
        """The documents of one part, in a stable order, with what could not be read."""
        ...
