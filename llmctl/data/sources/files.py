"""Files, folders and globs -> documents: text, Markdown, HTML, JSON, CSV, Parquet, Arrow.

Each may be compressed, and each may lie in a tar or a zip. What one file holds never stops the
others: what cannot be read is rejected with a reason.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from llmctl.config import knob
from llmctl.data.document import Document, Part, Rejected
from llmctl.data.formats import PLAIN, READERS
from llmctl.data.formats.opening import contained, format_of, open_items, told
from llmctl.data.formats.passage import Item, Options, Passage, remark
from llmctl.data.formats.splitting import splitter
from llmctl.data.sources.listing import find_files, name_of
from llmctl.errors import ConfigError
from llmctl.registry import load

MEND = "llmctl.data.formats.mending:mend"
FIND_LABEL = "llmctl.data.labeled.beside:label_beside"


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Read files, folders and globs: text, HTML, PDF, Word, EPUB, e-mail, JSON, CSV or Parquet.

    >>> Files(paths=("novels/*.txt.gz",), split="blank-lines").default_name()
    'novels'
    """

    paths: tuple[str, ...] = knob(
        help="Files, folders and globs; also .gz, .bz2, .xz, .zst, .tar and .zip",
        positional=True,
        metavar="PATH",
    )
    text_column: str | None = knob(
        None, help="The column with the text; found by default", panel="Input"
    )
    split: str = knob(
        "file",
        help="What is a document: file (or row), blank-lines, lines or chars:N",
        panel="Input",
    )
    licence: str = knob("", help="The licence of texts that do not name theirs", panel="Input")
    encoding: str | None = knob(
        None, help="The encoding of all files; found by default", panel="Input", rare=True
    )

    def __post_init__(self) -> None:
        """Refuse, with ConfigError, knobs with which no file could be read."""
        if not self.paths:
            raise ConfigError("no files to read", hint="name files, folders or globs")
        splitter(self.split)
        try:
            "".encode(self.encoding or "utf-8")
        except (LookupError, ValueError) as error:
            raise ConfigError(
                f"unknown encoding `{self.encoding}`", hint="for example utf-8, cp1252 or utf-16"
            ) from error

    def default_name(self) -> str:
        """The first folder's name, or the first file's without its endings."""
        return name_of(self.paths[0])

    def parts(self) -> Sequence[Part]:
        """One part a file, each once, ordered by id; raises DataError for a path without files."""
        return [
            Part(label=found.id, bytes=found.bytes, spec=(found.path, found.id))
            for found in find_files(self.paths, self.default_name())
        ]

    def read(self, part: Part) -> Iterator[Document | Rejected]:
        """The documents of one file; what is wrong with it comes as Rejected, never as an error."""
        path, name = part.spec
        options = Options(
            split=splitter(self.split),
            text_column=self.text_column,
            encoding=self.encoding,
            find_label=load(FIND_LABEL),
        )
        is_empty = True
        for item in contained(open_items(Path(path), name), name, part.bytes):
            is_empty = False
            if isinstance(item, Rejected):
                yield item
            else:
                yield from self._documents(item, options)
        if is_empty:  # an archive
            yield Rejected(where=name, reason="empty", bytes=part.bytes)

    def _documents(self, item: Item, options: Options) -> Iterator[Document | Rejected]:
        mend = load(MEND)
        flaws: Counter[str] = Counter()
        kept = lost = 0
        for passage in contained(_passages(item, options), item.name, item.bytes):
            if isinstance(passage, Rejected):
                lost += not passage.kept
                yield passage
                continue
            text, found = mend(passage.text)
            if found:
                flaws.update(found)
            if text and not text.isspace():
                kept += 1
                yield self._document(item, passage, text)
            else:
                lost += 1
                yield Rejected(where=f"{item.name}{passage.key}", reason="empty")
        yield from told(item, kept, lost)
        for flaw, times in flaws.items():
            yield remark(item, flaw, f"documents: {times}")

    def _document(self, item: Item, passage: Passage, text: str) -> Document:
        facts = dict(passage.facts)
        return Document(
            id=f"{item.name}{passage.key}",
            text=text,
            source="files",
            url=facts.pop("url", item.url),
            licence=facts.pop("licence", self.licence),
            time=facts.pop("time", item.time),
            meta=facts,
        )


def _passages(item: Item, options: Options) -> Iterator[Passage | Rejected]:
    if item.stream.head:
        yield from load(READERS.get(format_of(item), PLAIN))(item, options)
