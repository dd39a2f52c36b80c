"""A text data set of the Hugging Face hub, streamed -> one document a row.

The rows are those of one commit, whatever happens on the hub while a run goes on.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from llmctl.config import knob
from llmctl.data.document import Document, Part, Rejected
from llmctl.data.formats.names import corpus_name
from llmctl.errors import ConfigError
from llmctl.registry import load

READING = "llmctl.data.rowsets.streaming"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hub:
    """Stream any text data set of the Hugging Face hub.

    >>> Hub(repo="wikimedia/wikipedia", subset="20231101.en").default_name()
    'wikipedia'
    """

    repo: str = knob(
        help="The data set, as organisation/name, or a folder", positional=True, metavar="REPO"
    )
    subset: str | None = knob(
        None, help="Which of its configurations", panel="Input", metavar="NAME"
    )
    split: str = knob("train", help="Which of its splits", panel="Input")
    column: str | None = knob(
        None, help="The column with the text; found by default", panel="Input"
    )
    revision: str | None = knob(
        None, help="A commit, branch or tag; the newest commit by default", panel="Input",
        rare=True,
    )  # fmt: skip
    licence: str = knob("", help="The licence, where the data set states none", panel="Input")

    def __post_init__(self) -> None:
        """Refuse a name that is none."""
        if self.repo.count("/") > 1 and not Path(self.repo).is_dir():
            raise ConfigError(
                f"`{self.repo}` is no data set", hint="for example roneneldan/TinyStories"
            )

    def default_name(self) -> str:
        """The name of the data set without its organisation."""
        return corpus_name(self.repo.rstrip("/").rpartition("/")[2])

    def fetching_into(self, folder: Path) -> Self:  # noqa: ARG002
        """Streamed rows need no place; it is the list of parts that is kept."""
        return replace(self)

    def parts(self) -> Sequence[Part]:
        """One part a file of the split, as the library counts them."""
        shards, commit, licence = load(f"{READING}:look_at")(
            self.repo, self.subset, self.split, self.revision
        )
        return [
            Part(
                label=f"{self.default_name()}/{self.split}@{number}",
                bytes=size,
                spec=(number, len(shards), commit, self.licence or licence),
                seconds=size / 5e6,
            )
            for number, size in enumerate(shards)
        ]

    def read(self, part: Part) -> Iterator[Document | Rejected]:
        """The rows of one part."""
        number, total, commit, licence = part.spec
        rows: Any = load(f"{READING}:rows")(
            self.repo, self.subset, self.split, commit, total, number
        )
        return load(f"{READING}:documents")(rows, part.label, self.repo, self.column, licence)
