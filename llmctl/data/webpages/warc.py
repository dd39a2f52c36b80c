"""A web archive (WARC or WET) -> documents: pages by their main text, conversions as they stand.

What is broken in an archive ends a record and not the archive: reading goes on where the next
record begins.
"""

import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from fastwarc.warc import ArchiveIterator, WarcRecordType  # pyright: ignore[reportMissingModuleSource]

from llmctl.data.document import Document, Rejected
from llmctl.data.formats.mending import mend, replace_surrogates
from llmctl.data.formats.passage import Unreadable
from llmctl.data.webpages.extraction import Extractor

WANTED = WarcRecordType.response | WarcRecordType.conversion
HTML = ("text/html", "application/xhtml+xml")
MOST_PAYLOAD = 16 * 2**20  # bytes of a page
# A record of more, or an archive that unpacks to more than so many times its size, is a bomb.
MOST_RECORD, MOST_RATIO, FREE_BYTES = 512 * 2**20, 500, 2**30
NEXT_MEMBER = re.compile(rb"\x1f\x8b\x08[\x00-\x1f]|(?<=\r\n\r\n)WARC/[01]\.|\A(?=WARC/)")
WINDOW = 2**20
LONGEST_LINE = 64
ENCODINGS = ("Transfer-Encoding", "Content-Encoding")
LICENCE = "unknown (page of its author; Common Crawl Terms of Use)"


def read_archive(path: Path, label: str, extractor: Extractor) -> Iterator[Document | Rejected]:
    """The documents of an archive on disk, with what could not become one."""
    with path.open("rb") as file:
        yield from read_records(file, label, extractor, path.stat().st_size)


def read_record(content: bytes, label: str, extractor: Extractor) -> Iterator[Document | Rejected]:
    """The documents in some bytes of an archive, such as a range of it."""
    yield from read_records(BytesIO(content), label, extractor, len(content))


def read_records(
    file: BinaryIO, label: str, extractor: Extractor, size: int
) -> Iterator[Document | Rejected]:
    """The documents of an open archive of `size` bytes."""
    seen = 0
    for record in _records(file, label, size):
        seen += 1
        if isinstance(record, Rejected):
            yield record
            continue
        try:
            yield _document(record, label, extractor)
        except Unreadable as error:
            where = f"{label}: {_target(record)}"
            yield Rejected(where=where, reason=error.reason, detail=error.detail)
    if not seen:
        yield Rejected(where=label, reason="no web archive", detail="no record of a page in it")


def _records(file: BinaryIO, label: str, size: int) -> Iterator[Any]:
    """The records with pages, also behind broken ones; a bomb ends it."""
    # Archives made by hand end their lines as Unix does, which the standard forbids.
    head = file.read(LONGEST_LINE)
    quirks = head.startswith(b"WARC/") and b"\r" not in head.partition(b"\n")[0]
    start = unpacked = 0
    while start is not None and start < size:
        file.seek(start)
        last = 0
        try:
            for record in ArchiveIterator(
                file, record_types=WANTED, auto_decode="all", quirks_mode=quirks, fsspec_args=False
            ):
                last = record.stream_pos
                unpacked += record.content_length
                if record.content_length > MOST_RECORD or unpacked > max(
                    FREE_BYTES, MOST_RATIO * size
                ):
                    yield Rejected(where=label, reason="bomb", detail="unpacks to far too much")
                    return
                yield record
        # Its errors are OSError, ValueError and what Rust calls a panic turned into RuntimeError.
        except (OSError, ValueError, RuntimeError) as error:
            detail = f"behind byte {start + last:,}: {error}"
            yield Rejected(where=label, reason="damaged record", detail=detail)
            start = _next_record(file, start + last + 1)
        else:
            return


def _next_record(file: BinaryIO, at: int) -> int | None:
    """Where something begins that looks like a record, at or behind a byte."""
    while True:
        file.seek(at)
        window = file.read(WINDOW)
        found = NEXT_MEMBER.search(window)
        if found:
            return at + found.start()
        if len(window) < WINDOW:
            return None
        at += WINDOW - 16


def _document(record: Any, label: str, extractor: Extractor) -> Document | Rejected:
    url = _target(record)
    where = f"{label}: {url}"
    facts: dict[str, str] = {}
    if record.record_type == WarcRecordType.conversion:
        text = _payload(record).decode("utf-8", "replace").strip()
        facts["language"] = record.headers.get("WARC-Identified-Content-Language", "")
    else:
        refusal = _refusal(record)
        if refusal:
            return Rejected(where=where, reason=refusal, bytes=record.content_length)
        content = _payload(record)
        text, facts["title"] = extractor.extract(content, record.http_charset or "")
    text, flaws = mend(replace_surrogates(text))
    if not text or text.isspace():
        return Rejected(where=where, reason="empty", bytes=record.content_length)
    if flaws:
        facts["mended"] = ", ".join(flaws)
    return Document(
        id=f"commoncrawl/{_identity(record)}",
        text=text,
        source="commoncrawl",
        url=url,
        licence=LICENCE,
        time=record.headers.get("WARC-Date", ""),
        meta={key: value for key, value in facts.items() if value},
    )


def _refusal(record: Any) -> str:
    headers = record.http_headers
    if headers is None:
        return "no HTTP"
    if headers.status_code != 200:
        return f"status {headers.status_code}"
    kind = (record.http_content_type or "").lower()
    return "" if kind in HTML else "no HTML"


def _payload(record: Any) -> bytes:
    try:
        content = record.reader.read(MOST_PAYLOAD + 1)
    except (OSError, ValueError) as error:
        raise Unreadable("damaged record", str(error)) from error
    if len(content) > MOST_PAYLOAD:
        raise Unreadable("too large", f"over {MOST_PAYLOAD} bytes")
    # The reader says nothing of an archive that ends within a record.
    if len(content) < record.content_length and not _is_encoded(record):
        raise Unreadable("truncated record", f"{len(content)} of {record.content_length} bytes")
    return content


def _is_encoded(record: Any) -> bool:
    headers = record.http_headers
    return headers is not None and any(headers.get(name) for name in ENCODINGS)


def _target(record: Any) -> str:
    return record.headers.get("WARC-Target-URI", "").strip("<>")


def _identity(record: Any) -> str:
    """The id that the archive gives a record, without its brackets."""
    return (record.record_id or _target(record)).strip("<>").removeprefix("urn:uuid:")
