"""Blocks of text -> the texts of documents: whole, by blank lines, by lines or by length.

Every text holds at most `LIMIT` bytes of UTF-8; what is longer is cut at a paragraph, else a
line, a sentence, a word. Blocks may end anywhere: the result does not depend on where.
"""

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, groupby

from llmctl.data.formats.passage import Split
from llmctl.errors import ConfigError

LIMIT = 16 * 2**20
LONGEST = LIMIT * 3 // 2  # a row of more than that is not read, even to be cut
MOST_CHARS = LIMIT // 4  # so that no text of that many characters needs more bytes
PLACES = ("\n\n", "\n", ". ", " ")


def splitter(mode: str) -> Split:
    """The way to split that `mode` names; raises ConfigError for one that is not known.

    It turns blocks into pairs of a suffix for the id (`#0`, `#1` …; none for a text that stays
    whole) and a text.
    """
    length = re.fullmatch(r"chars:([1-9]\d{0,8})", mode)
    if length and int(length[1]) <= MOST_CHARS:
        return partial(split_chars, length=int(length[1]))
    if mode in MODES:
        return MODES[mode]
    raise ConfigError(
        f"cannot split by `{mode}`",
        hint=f"choose file, blank-lines, lines, or chars:N with N up to {MOST_CHARS}",
    )


def split_whole(blocks: Iterable[str]) -> Iterable[tuple[str, str]]:
    """All as one text; suffixes only where its length makes it more than one."""
    if isinstance(blocks, tuple) and len(blocks) == 1 and len(blocks[0]) <= MOST_CHARS:
        return (("", blocks[0]),)  # a row, as most texts are: nothing to join or to cut
    pieces = cut(blocks)
    first = next(pieces, "")
    second = next(pieces, "")
    return _numbered(chain((first, second), pieces)) if second else (("", first),)


def split_lines(blocks: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Each line without its end, blank ones left out."""
    return _numbered(line.removesuffix("\n") for line in lines(blocks))


def split_blank_lines(blocks: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Each run of lines between blank ones."""
    runs = (run for is_blank, run in groupby(lines(blocks), str.isspace) if not is_blank)
    return _numbered(piece.removesuffix("\n") for run in runs for piece in cut(run))


def split_chars(blocks: Iterable[str], length: int) -> Iterator[tuple[str, str]]:
    """Each `length` characters, the last text with the rest, blank ones left out."""
    return _numbered(_lengths(blocks, length))


MODES = {"file": split_whole, "lines": split_lines, "blank-lines": split_blank_lines}


def cut(blocks: Iterable[str], limit: int = LIMIT, places: Sequence[str] = PLACES) -> Iterator[str]:
    """The text in pieces of at most `limit` bytes that end behind one of `places`, if they can.

    The pieces joined are the text.
    """
    held: list[str] = []
    size = 0
    for block in blocks:
        rest = block
        while size + (rest_size := utf8_size(rest)) > limit:
            fitting = _fitting(rest, limit - size)
            text = "".join((*held, rest[:fitting]))
            end = _end(text, places)
            held, rest = [text[end:]], rest[fitting:]
            size = utf8_size(held[0])
            text = text[:end]  # so that no more than one copy waits
            yield text
        held.append(rest)
        size += rest_size
    if size:
        yield "".join(held)


def lines(blocks: Iterable[str], limit: int = LIMIT) -> Iterator[str]:
    """Lines with their `\\n`, which nothing else ends.

    A line of more than `limit` bytes comes in pieces, of which only the last has the `\\n`.
    """
    return chain.from_iterable(_line_batches(blocks, limit))


def utf8_size(text: str) -> int:
    """Bytes of the text as UTF-8, at no cost for plain ASCII."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _line_batches(blocks: Iterable[str], limit: int) -> Iterator[Iterable[str]]:
    held: list[str] = []
    size = 0
    for block in blocks:
        batch = io.StringIO(block, newline="\n").readlines()
        held += batch[:1]
        size += utf8_size("".join(batch[:1]))
        if size > limit:
            *pieces, last = cut(held, limit)
            held, size = [last], utf8_size(last)
            yield pieces
        if batch and batch[0].endswith("\n"):
            batch[0] = "".join(held)
            held = [] if batch[-1].endswith("\n") else [batch.pop()]
            size = utf8_size("".join(held))
            # No character needs more than four bytes, so that most blocks need no look.
            is_short = len(block) <= limit // 4
            yield batch if is_short else (one for line in batch for one in cut((line,), limit))
    yield cut(held, limit)


def _lengths(blocks: Iterable[str], length: int) -> Iterator[str]:
    held: list[str] = []
    size = 0
    for block in blocks:
        held.append(block)
        size += len(block)
        if size >= length:
            text = "".join(held)
            whole = size - size % length
            yield from (text[start : start + length] for start in range(0, whole, length))
            held, size = [text[whole:]], size - whole
    yield "".join(held)


def _numbered(texts: Iterable[str]) -> Iterator[tuple[str, str]]:
    seen = (text for text in texts if text and not text.isspace())
    return ((f"#{number}", text) for number, text in enumerate(seen))


def _fitting(text: str, size: int) -> int:
    """How many characters of a text fit into `size` bytes, which is less than it has."""
    if text.isascii():
        return size
    encoded = text.encode("utf-8", "surrogatepass")
    while encoded[size] & 0xC0 == 0x80:  # never within a character
        size -= 1
    return len(encoded[:size].decode("utf-8", "surrogatepass"))


def _end(text: str, places: Sequence[str]) -> int:
    """Where a text that fills a piece should end: behind a place in its latter half, if any."""
    for place in places:
        found = text.rfind(place, len(text) // 2)
        if found >= 0:
            return found + len(place)
    return len(text)
