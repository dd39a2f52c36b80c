"""Members of tar and zip archives as items: regular files with safe names, read in place.

Nothing is unpacked to disk under a name that an archive chose.
"""

import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from pathlib import PurePosixPath
from typing import IO, Any, cast

from llmctl.data.document import Rejected
from llmctl.data.formats import ARCHIVES
from llmctl.data.formats.compression import Budget, unpack
from llmctl.data.formats.names import clean, ending, is_hidden
from llmctl.data.formats.passage import BLOCK, Item, Stream, Unreadable
from llmctl.data.formats.times import utc


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """What an archive says of one of its entries, and how to read it."""

    name: str
    time: str
    refusal: str
    blocks: Iterator[bytes]
    bytes: int


def tar_items(archive: Item, budget: Budget) -> Iterator[Item | Rejected]:
    """The regular files of a tar, in its order; one pass over the stream."""
    # In this mode tarfile asks for nothing but `read`.
    readable = cast(IO[bytes], _Readable(archive.stream))
    with tarfile.open(fileobj=readable, mode="r|") as tar:
        yield from _items(archive, _tar_members(tar), budget)


def zip_items(archive: Item, budget: Budget) -> Iterator[Item | Rejected]:
    """The regular files of a zip, in its order."""
    with archive.open() as file, zipfile.ZipFile(file) as bundle:
        yield from _items(archive, _zip_members(bundle, budget), budget)


def _items(archive: Item, members: Iterator[Member], budget: Budget) -> Iterator[Item | Rejected]:
    for member in members:
        name = f"{archive.name}/{member.name}"
        refusal = member.refusal or _refusal(member.name)
        if refusal:
            yield Rejected(where=name, reason=refusal, bytes=member.bytes)
        elif not is_hidden(member.name):
            yield Item(
                name=name,
                stream=Stream(unpack(member.blocks, budget)),
                url=f"{archive.url}/{member.name}",
                bytes=member.bytes,
                time=member.time,
            )


def _refusal(name: str) -> str:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        return "unsafe name"
    return "archive in an archive" if ending(name) in ARCHIVES else ""


def _tar_members(tar: tarfile.TarFile) -> Iterator[Member]:
    while (entry := tar.next()) is not None:
        # The list serves look-ups by name only; a million members would fill the memory.
        tar.members.clear()  # pyright: ignore[reportAttributeAccessIssue]
        if not entry.isdir():
            yield Member(
                name=clean(entry.name),
                bytes=entry.size,
                time=utc(entry.mtime),
                refusal="" if entry.isreg() else "not a regular file",
                blocks=_blocks(tar.extractfile, entry),
            )


def _zip_members(bundle: zipfile.ZipFile, budget: Budget) -> Iterator[Member]:
    for entry in bundle.infolist():
        if not entry.is_dir():
            yield Member(
                name=clean(entry.filename),
                bytes=entry.file_size,
                time=_zip_time(entry),
                refusal=_zip_refusal(entry),
                blocks=_spent(_blocks(bundle.open, entry), budget),
            )


def _zip_refusal(entry: zipfile.ZipInfo) -> str:
    kind = stat.S_IFMT(entry.external_attr >> 16)  # zero where the maker knew no Unix modes
    if kind and kind != stat.S_IFREG:
        return "not a regular file"
    return "encrypted" if entry.flag_bits & 1 else ""


def _zip_time(entry: zipfile.ZipInfo) -> str:
    try:
        return datetime(*entry.date_time).isoformat()
    except ValueError:
        return ""


def _blocks(opened: Callable[[Any], IO[bytes] | None], entry: Any) -> Iterator[bytes]:
    try:
        with opened(entry) or BytesIO() as file:
            while block := file.read(BLOCK):
                yield block
    except Unreadable:
        raise
    # Both libraries raise what the bytes make them: BadZipFile, zlib.error, ReadError, KeyError.
    except Exception as error:
        raise Unreadable("damaged archive", str(error)) from error


def _spent(blocks: Iterator[bytes], budget: Budget) -> Iterator[bytes]:
    for block in blocks:
        budget.spend(len(block))
        yield block


class _Readable:
    """A stream as tarfile wants it: something with `read`."""

    def __init__(self, stream: Stream) -> None:
        self._blocks = iter(stream)
        self._rest = memoryview(b"")

    def read(self, size: int) -> bytes:
        pieces: list[memoryview] = []
        while size and (self._rest or self._next()):
            piece, self._rest = self._rest[:size], self._rest[size:]
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def _next(self) -> bool:
        self._rest = memoryview(next(self._blocks, b""))
        return bool(self._rest)
