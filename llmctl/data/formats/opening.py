"""A path -> the inputs in it: the file itself or the members of an archive, unpacked.

What breaks while an input is read becomes a reject here, whatever its parser raises.
"""

import errno
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, TypeVar

from llmctl.data.document import Rejected
from llmctl.data.formats import ARCHIVES, BEGINNINGS, READERS
from llmctl.data.formats.compression import Budget, is_packed, unpack
from llmctl.data.formats.names import clean, ending
from llmctl.data.formats.passage import BLOCK, Item, Stream, Unreadable
from llmctl.data.formats.times import utc
from llmctl.errors import LlmctlError
from llmctl.registry import load

MOST_SAID = 200  # characters of a foreign error
# Troubles of this machine, no fault of what is read: a disk that is full, no handles left.
OURS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
MAGIC = 8  # bytes that tell a compression
SNIFFED = 64  # bytes, of which a mark and blanks may be the first

Thing = TypeVar("Thing")


def open_items(path: Path, name: str) -> Iterator[Item | Rejected]:
    """The file itself under that name, or the members of the archive that it is."""
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


def format_of(item: Item) -> str:
    """The format that the ending of a name says, else what the bytes begin with, else none."""
    known = ending(item.name)
    if known in READERS:
        return known
    beginning = item.stream.head[:SNIFFED].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return next((kind for start, kind in BEGINNINGS.items() if beginning.startswith(start)), "")


def contained(results: Iterable[Thing], where: str, size: int) -> Iterator[Thing | Rejected]:
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
    except OSError as error:
        if error.errno in OURS:
            raise
        yield _refused(error, where, 0 if some else size)
    # The parsers of ten formats meet bytes that nobody foresaw, and raise what they like.
    except Exception as error:
        yield _refused(error, where, 0 if some else size)


def _refused(error: Exception, where: str, lost: int) -> Rejected:
    known = error if isinstance(error, Unreadable) else Unreadable("unreadable", _said(error))
    return Rejected(where=where, reason=known.reason, detail=known.detail, bytes=lost)


def told(item: Item, kept: int, lost: int) -> Iterator[Rejected]:
    """What remains to be said of an item: that it was cut short, or that nothing was in it."""
    damage = item.stream.damage
    size = 0 if kept else item.bytes
    if damage is not None:
        yield Rejected(
            where=item.name, reason=damage.reason, detail=damage.detail, bytes=size, kept=kept > 0
        )
    elif not kept and not lost:
        yield Rejected(where=item.name, reason="empty", bytes=size)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:MOST_SAID]


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(BLOCK):
        yield block
