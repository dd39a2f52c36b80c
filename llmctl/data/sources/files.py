"""Files, folders and globs -> documents: text, Markdown, HTML, JSON, CSV, Parquet, Arrow.

Each may be compressed, and each may lie in a tar or a zip. What one file holds never stops the
others: what cannot be read is rejected with a reason.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

from llmctl.config import knob
from llmctl.data.document import Document, Part, Rejected
from llmctl.data.formats import ARCHIVES, BEGINNINGS, PLAIN, READERS
from llmctl.data.formats.compression import Budget, is_packed, unpack
from llmctl.data.formats.names import clean, ending
from llmctl.data.formats.passage import (
    BLOCK,
    Item,
    Options,
    Passage,
    Stream,
    Unreadable,
    remark,
)
from llmctl.data.formats.splitting import splitter
from llmctl.data.formats.times import utc
from llmctl.data.sources.listing import find_files, name_of
from llmctl.errors import ConfigError, LlmctlError
from llmctl.registry import load

MEND = "llmctl.data.formats.mending:mend"
MOST_SAID = 200  # characters of a foreign error
MAGIC = 8  # bytes that tell a compression
SNIFFED = 64  # bytes, of which a mark and blanks may be the first

Thing = TypeVar("Thing")


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Read files, folders and globs: text, HTML, JSON, CSV, Parquet or Arrow.

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
            split=splitter(self.split), text_column=self.text_column, encoding=self.encoding
        )
        is_empty = True
        for item in _contained(_items(Path(path), name), name, part.bytes):
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
        for passage in _contained(_passages(item, options), item.name, item.bytes):
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
        yield from _told(item, kept, lost)
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


def _items(path: Path, name: str) -> Iterator[Item | Rejected]:
    """The file itself, or the members of the archive that it is."""
    facts = path.stat()
    budget = Budget(facts.st_size)
    with path.open("rb") as file:
        packed = is_packed(file.peek(MAGIC))
        item = Item(
            name=name,
            stream=Stream(unpack(_blocks(file), budget)),
            url=clean(str(path)),
            bytes=facts.st_size,
            time=utc(facts.st_mtime),
            file=None if packed else path,
        )
        archive = ARCHIVES.get(ending(path.name))
        if archive is None:
            yield item
            return
        try:
            yield from load(archive)(item, budget)
        except Exception:
            if item.stream.damage is None:
                raise
        # What broke the archive says more than what its reader made of it.
        if item.stream.damage is not None:
            raise item.stream.damage


def _passages(item: Item, options: Options) -> Iterator[Passage | Rejected]:
    if item.stream.head:
        yield from load(_reader(item))(item, options)


def _reader(item: Item) -> str:
    """The reader for the ending of a name, else for what the bytes begin with."""
    known = READERS.get(ending(item.name))
    if known:
        return known
    beginning = item.stream.head[:SNIFFED].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    kinds = (kind for start, kind in BEGINNINGS.items() if beginning.startswith(start))
    return READERS.get(next(kinds, ""), PLAIN)


def _told(item: Item, kept: int, lost: int) -> Iterator[Rejected]:
    """What remains to be said of an item: that it was cut short, or that nothing was in it."""
    damage = item.stream.damage
    size = 0 if kept else item.bytes
    if damage is not None:
        yield Rejected(
            where=item.name, reason=damage.reason, detail=damage.detail, bytes=size, kept=kept > 0
        )
    elif not kept and not lost:
        yield Rejected(where=item.name, reason="empty", bytes=size)


def _contained(results: Iterable[Thing], where: str, size: int) -> Iterator[Thing | Rejected]:
    """The results; what is raised instead of one ends them as Rejected.

    `size` counts as lost only if nothing came before.
    """
    some = False
    try:
        for result in results:
            yield result
            some = True
    except LlmctlError:
        raise
    # The parsers of ten formats meet bytes that nobody foresaw, and raise what they like.
    except Exception as error:
        known = error if isinstance(error, Unreadable) else Unreadable("unreadable", _said(error))
        lost = 0 if some else size
        yield Rejected(where=where, reason=known.reason, detail=known.detail, bytes=lost)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:MOST_SAID]


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(BLOCK):
        yield block
