"""Plain text and Markdown -> passages, as they stand."""

from collections.abc import Iterator
from pathlib import Path

from llmctl.data.document import Rejected
from llmctl.data.formats.encoding import Decoded
from llmctl.data.formats.opening import contained, open_items
from llmctl.data.formats.passage import Item, Options, Passage, Stream, Unreadable
from llmctl.data.formats.splitting import splitter
from llmctl.errors import DataError

# Formats that look like text and are none, and what to do with them.
OTHERS = {
    b"%PDF-": "PDF: name it .pdf",
    b"{\\rtf": "RTF: make it plain text first",
    b"%!PS": "PostScript: make it plain text first",
    b"WARC/": "a web archive: for `collect commoncrawl --input`",
}


def read(item: Item, options: Options) -> Iterator[Passage | Rejected]:
    """The text of a file, split as asked; raises Unreadable where it is none."""
    for beginning, what in OTHERS.items():
        if item.stream.head.startswith(beginning):
            raise Unreadable("not plain text", what)
    text = Decoded(item.stream, encoding=options.encoding)
    for key, piece in options.split(text):
        yield Passage(key, piece, text.facts)
    yield from text.remarks(item)


def file_lines(path: Path) -> Iterator[Passage | Rejected]:
    """Each line of a file of text that is not blank, whatever its encoding and packing."""
    options = Options(split=splitter("lines"))
    size = path.stat().st_size
    for item in contained(open_items(path, path.name), path.name, size):
        if isinstance(item, Rejected):
            yield item
        else:
            yield from contained(read(item, options), item.name, item.bytes)


def readable_lines(path: Path) -> Iterator[Passage | Rejected]:
    """The same, and what was assumed of the file; DataError where a part of it cannot be read."""
    for one in file_lines(path):
        if isinstance(one, Rejected) and not one.kept:
            raise DataError(
                f"`{path}` cannot be read: {one.reason} ({one.detail})", hint="give a text a line"
            )
        yield one


def piped_text(content: bytes) -> str:
    """What came through a pipe, whatever its encoding and line ends; DataError where it is none."""
    try:
        return "".join(Decoded(Stream(iter((content,)))))
    except Unreadable as error:
        raise DataError(
            f"stdin cannot be read: {error.reason} ({error.detail})", hint="give a text a line"
        ) from error
