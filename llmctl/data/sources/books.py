"""Books of Project Gutenberg -> one document a book, its paragraphs unwrapped."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from llmctl.config import knob
from llmctl.data.document import Document, Part, Rejected
from llmctl.data.fetching.network import Network
from llmctl.data.formats.passage import Stream, Unreadable
from llmctl.data.formats.times import utc
from llmctl.data.sources.given import find_given, is_local, on_disk
from llmctl.errors import ConfigError
from llmctl.registry import load

CATALOGUE = "https://www.gutenberg.org/cache/epub/feeds/pg_catalog.csv.gz"
MIRRORS = (
    "https://gutenberg.pglaf.org",
    "https://aleph.pglaf.org",
    "https://mirror.csclub.uwaterloo.ca/gutenberg",
)
LICENCE = "Public domain in the USA (Project Gutenberg)"
TYPICAL_BYTES = 400_000
NUMBER = re.compile(r"(?:pg)?(\d+)(?:-\d)?\.(?:raw\.)?txt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """Fetch books of Project Gutenberg: without licences, one line a paragraph.

    >>> Books(lang="de", subjects="fiction").default_name()
    'books'
    """

    lang: str = knob("en", help="The language, as de; any for all", panel="Input")
    subjects: str = knob(
        "", help="Only books whose subjects, shelves or title match this pattern", panel="Input"
    )
    input_: str | None = knob(
        None, help="Books that you have: FILE, DIR or URL", panel="Input", metavar="PLACE"
    )
    pause: float = knob(2.0, help="Seconds between two books from a mirror", panel="Input")
    mirror: tuple[str, ...] = knob(
        MIRRORS, help="Where books are fetched from; the next one where one fails", panel="Input",
        rare=True,
    )  # fmt: skip
    catalogue: str = knob(
        CATALOGUE, help="Where the catalogue is fetched from", panel="Input", rare=True
    )
    network: Network = knob(factory=Network, help="How to reach out")

    def __post_init__(self) -> None:
        """Refuse a pattern that is none."""
        try:
            re.compile(self.subjects)
        except re.error as error:
            raise ConfigError(
                f"`{self.subjects}` is no pattern: {error}", hint="for example fiction|poetry"
            ) from error

    def default_name(self) -> str:
        """The corpus is called `books`."""
        return "books"

    def fetching_into(self, folder: Path) -> Self:
        """Put downloads there, unless the user said where or there are none."""
        if is_local(self.input_):
            return self
        return replace(self, network=self.network.within(folder))

    def parts(self) -> Sequence[Part]:
        """One part a book."""
        if self.input_:
            found = find_given(self.input_, "books", self.network, (".txt",))
            return [Part(label=one.id, bytes=one.bytes, spec=("file", one.path)) for one in found]
        entries = load("llmctl.data.books.catalogue:fetch_catalogue")(
            self.network.client(named=(self.catalogue,)), self.catalogue
        )
        books = load("llmctl.data.books.catalogue:chosen")(entries, self.lang, self.subjects)
        if not books:
            raise ConfigError(
                f"no book in `{self.lang}` matches `{self.subjects}`",
                hint=f"the catalogue has {len(entries):,} texts; look at `--lang` and `--subjects`",
            )
        return [
            Part(
                label=f"books/{one.id}",
                bytes=TYPICAL_BYTES,
                spec=("book", *asdict(one).values()),
                seconds=self.pause,
            )
            for one in books
        ]

    def read(self, part: Part) -> Iterator[Document | Rejected]:
        """The book, or why there is none."""
        if part.spec[0] == "file":
            yield self._from_disk(part)
            return
        _, number, title, authors, language, subjects, issued = part.spec
        client = self.network.client(named=self.mirror, pause=self.pause, connections=1)
        answer = load("llmctl.data.books.catalogue:fetch_book")(client, self.mirror, number)
        if answer is None:
            yield Rejected(where=part.label, reason="no text", detail=f"{title}: on no mirror")
            return
        facts = {"authors": authors, "language": language, "subjects": subjects, "title": title}
        url = f"https://www.gutenberg.org/ebooks/{number}"
        yield _document(answer.content, part.label, facts, url=url, time=issued)

    def _from_disk(self, part: Part) -> Document | Rejected:
        place = part.spec[1]
        path = on_disk(place, self.network, named=(place,))
        number = NUMBER.fullmatch(path.name)
        facts = {"book": number[1]} if number else {}
        content = path.read_bytes()
        return _document(content, part.label, facts, url=place, time=utc(path.stat().st_mtime))


def _document(
    content: bytes, label: str, facts: dict[str, Any], *, url: str, time: str
) -> Document | Rejected:
    try:
        decoded = load("llmctl.data.formats.encoding:Decoded")(Stream(iter([content])))
        text, flaws = load("llmctl.data.formats.mending:mend")("".join(decoded))
    except Unreadable as error:
        return Rejected(where=label, reason=error.reason, detail=error.detail, bytes=len(content))
    book = load("llmctl.data.books.etext:strip")(text)
    told = book.text
    for step in ("without_notes", "unwrap", "plain"):
        told = load(f"llmctl.data.books.etext:{step}")(told)
    if not told.strip():
        return Rejected(where=label, reason="empty", bytes=len(content))
    marks = {} if book.is_marked else {"boundaries": "not found"}
    mended = {"mended": ", ".join(flaws)} if flaws else {}
    known = {key: value for key, value in (facts | marks | mended).items() if value}
    return Document(
        id=label, text=told, source="books", url=url, licence=LICENCE, time=time, meta=known
    )
