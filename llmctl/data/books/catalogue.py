"""The catalogue of Project Gutenberg, and where on its mirrors the text of a book may lie."""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from llmctl.data.fetching.client import Answer, Client, Missing
from llmctl.data.formats.compression import Budget, unpack_bytes
from llmctl.data.formats.passage import Unreadable
from llmctl.errors import DataError, RemoteError

FIELDS = {"Text#", "Type", "Title", "Language", "Authors", "Subjects", "Bookshelves"}
MOST = 128 * 2**20
LARGEST_BOOK = 64 * 2**20
MOST_RATIO = 100


@dataclass(frozen=True, slots=True)
class Entry:
    """A book of the catalogue."""

    id: int
    title: str
    authors: str
    language: str
    subjects: str
    issued: str


def fetch_catalogue(client: Client, url: str) -> list[Entry]:
    """The texts of the catalogue at an address, as CSV or packed with gzip."""
    return read_catalogue(client.get(url, most=MOST, seconds=600).content, url)


def read_catalogue(content: bytes, where: str) -> list[Entry]:
    """The texts (no recordings, no pictures) of a catalogue, by their number."""
    try:
        plain = unpack_bytes(content, Budget(len(content), ratio=MOST_RATIO, free=MOST))
        rows = csv.DictReader(io.StringIO(plain.decode("utf-8-sig", "replace"), newline=""))
        if not set(rows.fieldnames or ()) >= FIELDS:
            raise DataError(
                f"{where} is no catalogue of Project Gutenberg",
                hint=f"it should have the columns {', '.join(sorted(FIELDS))}",
            )
        found = [_entry(row) for row in rows if row["Type"] == "Text" and _is_number(row["Text#"])]
    except (Unreadable, csv.Error) as error:
        raise DataError(f"the catalogue {where} cannot be read: {error}") from error
    return sorted(found, key=lambda one: one.id)


def chosen(entries: Sequence[Entry], language: str, subjects: str) -> list[Entry]:
    """The entries in a language (`any` for all) whose subjects or title hold a pattern."""
    pattern = re.compile(subjects, re.IGNORECASE) if subjects else None
    return [
        one
        for one in entries
        if (language == "any" or language in re.split(r"[;, ]+", one.language))
        and (pattern is None or pattern.search(f"{one.subjects}; {one.title}"))
    ]


def paths(book: int) -> Iterator[str]:
    """Where the text of a book may lie on a mirror: made for readers, UTF-8, 8-bit, ASCII, old."""
    yield f"cache/epub/{book}/pg{book}.txt"
    digits = str(book)
    folder = "/".join([*digits[:-1], digits]) if len(digits) > 1 else f"0/{book}"
    for ending in ("-0", "-8", "", "-5", "-7"):
        yield f"{folder}/{book}{ending}.txt"
    for ending in ("-0", "-8", ""):
        yield f"{folder}/old/{book}{ending}.txt"


def fetch_book(client: Client, mirrors: Sequence[str], book: int) -> Answer | None:
    """The text of a book from the first mirror that has it; None where none of them has.

    Raises RemoteError where none of them answers.
    """
    trouble: RemoteError | None = None
    answered = False
    for mirror in mirrors:
        for path in paths(book):
            try:
                answer = client.get(f"{mirror.rstrip('/')}/{path}", most=LARGEST_BOOK, seconds=300)
            except Missing:
                answered = True
            except RemoteError as error:
                trouble = error
                break  # the next mirror, not the next path
            else:
                if answer.content.strip():
                    return answer
                answered = True
    if not answered and trouble is not None:
        raise trouble
    return None


def _entry(row: dict[str, str]) -> Entry:
    return Entry(
        id=int(row["Text#"]),
        title=" ".join((row["Title"] or "").split()),
        authors=row["Authors"] or "",
        language=row["Language"] or "",
        subjects="; ".join(filter(None, (row["Subjects"], row["Bookshelves"]))),
        issued=row.get("Issued") or "",
    )


def _is_number(text: str | None) -> bool:
    return bool(text) and str(text).isdecimal()
