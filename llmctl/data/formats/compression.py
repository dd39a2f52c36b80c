"""Compressed bytes -> plain bytes, block by block: gzip, bzip2, xz and zstandard by their magic.

A budget bounds what all streams of one file may grow to, so that a bomb ends early.
"""

import bz2
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

from llmctl.data.formats.passage import BLOCK, Unreadable
from llmctl.registry import load

# Of all four, zstandard gives most for one feed and cannot be told to stop: 32 MiB for 1 KiB.
FEED = 1024
FREE_BYTES = 2**30
MOST_RATIO = 1000
USUAL_WINDOW, WIDEST_WINDOW = 2**27, 2**31


class Budget:
    """How many bytes a file may still unpack to: `free`, or `ratio` times its size if more."""

    def __init__(
        self, packed_bytes: int, *, ratio: int = MOST_RATIO, free: int = FREE_BYTES
    ) -> None:
        self.ratio = ratio
        self.left = max(free, ratio * packed_bytes)

    def spend(self, size: int) -> None:
        """Take `size` bytes off; raises Unreadable once there are none left."""
        self.left -= size
        if self.left < 0:
            raise Unreadable("bomb", f"unpacks to more than {self.ratio} times its size")


@dataclass(frozen=True, slots=True)
class Compression:
    """A kind of compression: its name, its first bytes, and how to make and feed a machine."""

    name: str
    magic: re.Pattern[bytes]
    machine: Callable[[bytes], Any]
    feed: Callable[[Any, bytes], Iterator[bytes]]


def is_packed(head: bytes) -> bool:
    """Do these first bytes begin one of the compressions known here?"""
    return any(one.magic.match(head) for one in COMPRESSIONS)


def unpack(blocks: Iterator[bytes], budget: Budget) -> Iterator[bytes]:
    """The blocks without their compression, if they have one of those known here."""
    head = next(blocks, b"")
    whole = chain([head], blocks)
    for compression in COMPRESSIONS:
        if compression.magic.match(head):
            return _unpacked(whole, compression, budget)
    return whole


def unpack_bytes(content: bytes, budget: Budget) -> bytes:
    """All of some bytes without their compression; raises Unreadable for damage and bombs."""
    return b"".join(unpack(iter([content]), budget))


def _unpacked(blocks: Iterator[bytes], compression: Compression, budget: Budget) -> Iterator[bytes]:
    machine: Any = None
    for block in blocks:
        for start in range(0, len(block), FEED):
            data = block[start : start + FEED]
            # Streams stand one after another, with zeros as padding behind the last.
            while data and not (machine and machine.eof and not data.strip(b"\0")):
                if machine is None or machine.eof:
                    machine = compression.machine(data)
                for plain in _fed(machine, data, compression):
                    budget.spend(len(plain))
                    yield plain
                data = machine.unused_data if machine.eof else b""
    if machine is not None and not machine.eof:
        raise Unreadable(f"truncated {compression.name}", "it ends in the middle")


def _fed(machine: Any, data: bytes, compression: Compression) -> Iterator[bytes]:
    try:
        yield from compression.feed(machine, data)
    # Each library has an error of its own: zlib.error, OSError, LZMAError, ZstdError.
    except Exception as error:
        raise Unreadable(f"damaged {compression.name}", str(error)) from error


def _feed_all(machine: Any, data: bytes) -> Iterator[bytes]:
    plain = machine.decompress(data)
    # In pieces: as text, with one character beyond the first 65,536, they take four times as much.
    for start in range(0, len(plain), BLOCK):
        yield plain[start : start + BLOCK]


def _feed_bounded(machine: Any, data: bytes) -> Iterator[bytes]:
    yield machine.decompress(data, BLOCK)
    while not (machine.eof or machine.needs_input):
        yield machine.decompress(b"", BLOCK)


def _gzip_machine(_: bytes) -> Any:
    return zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)


def _bzip2_machine(_: bytes) -> Any:
    return bz2.BZ2Decompressor()


def _xz_machine(_: bytes) -> Any:
    return lzma.LZMADecompressor()


def _zstandard_machine(head: bytes) -> Any:
    """A machine that looks back as far as this stream asks for, and no further: it takes memory.

    Dumps of Reddit look 2 GiB back; the library by itself stops at 128 MiB.
    """
    try:
        window = load("zstandard:get_frame_parameters")(head).window_size
    except load("zstandard:ZstdError"):  # cut within the head of a later stream
        window = 0
    wide = {"max_window_size": WIDEST_WINDOW} if window > USUAL_WINDOW else {}
    return load("zstandard:ZstdDecompressor")(**wide).decompressobj()


COMPRESSIONS = (
    Compression("gzip", re.compile(rb"\x1f\x8b\x08"), _gzip_machine, _feed_all),
    Compression("bzip2", re.compile(rb"BZh[1-9]"), _bzip2_machine, _feed_bounded),
    Compression("xz", re.compile(rb"\xfd7zXZ\x00"), _xz_machine, _feed_bounded),
    Compression("zstandard", re.compile(rb"\x28\xb5\x2f\xfd"), _zstandard_machine, _feed_all),
)
