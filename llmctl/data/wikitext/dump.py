"""A dump of a wiki, or the part of it between two bytes -> its pages.

Dumps are bzip2 streams one after another, a hundred pages each, behind one with the header. So a
part of a file can be read alone: from the first stream that begins in it to the first that
begins behind it. A dump of one stream is read as a whole by its first part.
"""

import mmap
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]

from llmctl.data.formats.compression import Budget, unpack
from llmctl.data.formats.passage import BLOCK, Unreadable
from llmctl.data.wikitext.site import Site

STREAM = re.compile(rb"BZh[1-9]1AY&SY")
HEADER_END = b"</siteinfo>"
LONGEST_HEADER = 4 * 2**20
# XML with its markup packs to a tenth; what grows a hundredfold is no dump.
MOST_RATIO, FREE_BYTES = 100, 256 * 2**20


@dataclass(frozen=True, slots=True)
class Page:
    """A page as a dump holds it; `redirect` is where it leads, `model` what its text is."""

    id: str
    title: str
    namespace: str
    redirect: str
    revision: str
    time: str
    model: str
    text: str


def read_dump(path: Path, start: int, end: int) -> Iterator[Page | Site]:
    """What the dump says of its wiki, then the pages of the streams that begin in a span of it.

    `end` is 0 for the end of the file. Raises Unreadable where the dump is damaged; what came
    before is right.
    """
    with path.open("rb") as file:
        size = path.stat().st_size
        if not start and (not end or end >= size):
            yield from pages(_unpacked(_file_blocks(file), size))
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as packed:
            first, last = _boundary(packed, start), _boundary(packed, end or size)
            if first >= last:
                return
            header = _header(packed) if first else iter(())
            span = _unpacked(_span_blocks(packed, first, last), last - first)
            yield from pages(chain(header, span))


def pages(blocks: Iterator[bytes]) -> Iterator[Page | Site]:
    """The pages of XML as MediaWiki exports it (schema 0.10 and 0.11); no entity is resolved."""
    parser = etree.XMLPullParser(
        events=("end",),
        tag=("{*}page", "{*}siteinfo"),
        resolve_entities=False,
        no_network=True,
        remove_comments=True,
    )
    for block in blocks:
        try:
            parser.feed(block)
        except etree.XMLSyntaxError as error:
            yield from _found(parser)
            raise Unreadable("damaged XML", str(error)) from error
        yield from _found(parser)


def is_streams(path: Path) -> bool:
    """Whether a file is bzip2 in several streams, so that its parts can be read alone."""
    with path.open("rb") as file:
        return STREAM.search(file.read(LONGEST_HEADER), 1) is not None


def _found(parser: Any) -> Iterator[Page | Site]:
    for _, element in parser.read_events():
        if element.tag.endswith("siteinfo"):
            yield _site(element)
        else:
            yield _page(element)
        # Its emptied shell is all that stays of a page.
        element.clear()
        while element.getprevious() is not None:
            del element.getparent()[0]


def _site(element: Any) -> Site:
    spaces: Mapping[str, str] = {
        str(one.get("key")): one.text or "" for one in element.iter("{*}namespace")
    }
    return Site(element.findtext("{*}dbname", ""), element.findtext("{*}base", ""), spaces)


def _page(element: Any) -> Page:
    redirect, revision = element.find("{*}redirect"), element.find("{*}revision")
    of_revision = element if revision is None else revision
    return Page(
        id=element.findtext("{*}id", ""),
        title=element.findtext("{*}title", ""),
        namespace=element.findtext("{*}ns", "0"),
        redirect="" if redirect is None else str(redirect.get("title", "?")),
        revision=of_revision.findtext("{*}id", ""),
        time=of_revision.findtext("{*}timestamp", ""),
        model=of_revision.findtext("{*}model", "wikitext"),
        text=of_revision.findtext("{*}text", ""),
    )


def _boundary(packed: mmap.mmap, at: int) -> int:
    """Where the first stream at or behind a byte begins; the end where there is none."""
    found = STREAM.search(packed, at) if at else None
    return 0 if not at else found.start() if found else len(packed)


def _header(packed: mmap.mmap) -> Iterator[bytes]:
    """The beginning of the dump up to where it has said what it is."""
    head = b""
    for block in _unpacked(_span_blocks(packed, 0, len(packed)), len(packed)):
        head += block
        before, found, _ = head.partition(HEADER_END)
        if found or len(head) > LONGEST_HEADER:
            yield before + found
            return


def _unpacked(blocks: Iterator[bytes], size: int) -> Iterator[bytes]:
    return unpack(blocks, Budget(size, ratio=MOST_RATIO, free=FREE_BYTES))


def _span_blocks(packed: mmap.mmap, first: int, last: int) -> Iterator[bytes]:
    for start in range(first, last, BLOCK):
        yield packed[start : min(start + BLOCK, last)]


def _file_blocks(file: Any) -> Iterator[bytes]:
    while block := file.read(BLOCK):
        yield block
