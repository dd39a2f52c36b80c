"""JSON lines, and JSON files that hold a list, one value or several, -> passages.

Values are read one after another: a list of any length needs no more memory than an entry.
"""

import json
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from llmctl.data.document import Rejected
from llmctl.data.formats.encoding import Decoded
from llmctl.data.formats.passage import Item, Options, Passage
from llmctl.data.formats.rows import Row, passages_of
from llmctl.data.formats.splitting import LONGEST, lines, utf8_size

# Characters of what the end of a block may cut in two: `-Infinity`, an escape.
LONGEST_WORD = 16
# Not strict: strings found in the wild hold tabs and line ends that the standard forbids.
DECODER = json.JSONDecoder(strict=False)
BETWEEN = re.compile(r"\s*")
BETWEEN_ENTRIES = re.compile(r"[\s,\]]*")


def read_lines(item: Item, options: Options) -> Iterator[Passage | Rejected]:
    """One passage a line."""
    return passages_of(line_rows(item, options.encoding), item, options)


def read_json(item: Item, options: Options) -> Iterator[Passage | Rejected]:
    """One passage a value."""
    return passages_of(value_rows(item, options.encoding), item, options)


def line_rows(item: Item, encoding: str | None = None) -> Iterator[Row | Rejected]:
    """One value a line: an object, or the text itself."""
    source = Decoded(item.stream, encoding=encoding)
    yield from _line_rows(source, item.name)
    yield from source.remarks(item)


def value_rows(item: Item, encoding: str | None = None) -> Iterator[Row | Rejected]:
    """A list of values, one value, or values one after another."""
    source = Decoded(item.stream, encoding=encoding)
    blocks = iter(source)
    head = next(blocks, "").lstrip()
    rows_of = _line_rows if _is_lines(head) else _value_rows
    yield from rows_of(chain((head,), blocks), item.name)
    yield from source.remarks(item)


def _is_lines(head: str) -> bool:
    first, _, rest = head.partition("\n")
    if not rest or rest.isspace():
        return False
    try:
        DECODER.decode(first)
    except (ValueError, RecursionError):
        return False
    return True


def _line_rows(blocks: Iterable[str], name: str) -> Iterator[Row | Rejected]:
    for number, line in enumerate(_whole_lines(lines(blocks, LONGEST)), 1):
        where = f"{name}:{number}"
        if line is None:
            yield Rejected(where=where, reason="line too long", detail=f"over {LONGEST} bytes")
        elif not line.isspace():
            try:
                yield _row(number, _value(line.strip()), where)
            except (ValueError, RecursionError) as error:
                detail, size = _said(error), utf8_size(line)
                yield Rejected(where=where, reason="bad JSON", detail=detail, bytes=size)


def _value(line: str) -> Any:
    value, end = DECODER.raw_decode(line)
    if end < len(line):
        raise ValueError(f"more behind character {end}")
    return value


def _whole_lines(pieces: Iterable[str]) -> Iterator[str | None]:
    """Lines out of pieces, of which only a line's last one ends in `\\n`; None for one cut up."""
    unended = 0
    last = ""
    for piece in pieces:
        if piece.endswith("\n"):
            yield None if unended else piece
            unended, last = 0, ""
        else:
            unended += 1
            last = "" if unended > 1 else piece
    if unended:  # the last line of a file may lack its end
        yield None if unended > 1 else last


def _value_rows(blocks: Iterable[str], name: str) -> Iterator[Row | Rejected]:
    number = 0
    try:
        for number, value in enumerate(_values(iter(blocks)), 1):
            yield _row(number, value, f"{name}:{number}")
    except (ValueError, RecursionError) as error:
        detail = f"{_said(error)}; nothing behind it was read"
        yield Rejected(where=f"{name}:{number + 1}", reason="bad JSON", detail=detail)


def _values(blocks: Iterator[str]) -> Iterator[Any]:
    filled = filter(None, blocks)
    text = next(filled, "")
    at = int(text.startswith("["))
    between = BETWEEN_ENTRIES if at else BETWEEN
    while text:
        at += len(between.match(text, at)[0])  # pyright: ignore[reportOptionalSubscript]
        if at == len(text):
            text, at = next(filled, ""), 0
            continue
        try:
            value, at = DECODER.raw_decode(text, at)
        except ValueError as error:
            # As much again, so that a long entry is not read many times over.
            more = _at_least(filled, len(text) - at) if _may_go_on(error, text) else ""
            if not more or len(text) - at > LONGEST:
                raise
            text, at = text[at:] + more, 0
        else:
            yield value


def _may_go_on(error: ValueError, text: str) -> bool:
    """May the entry be right, if only there were more of the text?"""
    if not isinstance(error, json.JSONDecodeError):
        return False
    # Of an open string, the error says where it began; of all else, where the sense ended.
    return error.msg.startswith("Unterminated string") or error.pos > len(text) - LONGEST_WORD


def _at_least(blocks: Iterator[str], size: int) -> str:
    gathered: list[str] = []
    while size > 0 and (block := next(blocks, "")):
        gathered.append(block)
        size -= len(block)
    return "".join(gathered)


def _row(number: int, value: Any, where: str) -> Row | Rejected:
    if isinstance(value, str):
        return Row(number, {"text": value})
    if isinstance(value, dict):
        return Row(number, value)
    return Rejected(where=where, reason="no text", detail="neither a string nor an object")


def _said(error: ValueError | RecursionError) -> str:
    # Without the line and column, which are those of a piece of the file.
    return error.msg if isinstance(error, json.JSONDecodeError) else str(error)
