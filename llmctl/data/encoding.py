"""Document shards -> token shards: text goes in as Arrow buffers, ids come out as Arrow buffers.

No Python object is made for a token, and none for a document unless it is long enough to be cut.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmctl.data.encoders import Encoder
from llmctl.data.units import HoldOut
from llmctl.shards import ShardReader, ShardWriter, tokens_schema, write_index

# Encoders work on this much text at a time: enough to keep all cores busy, little enough to hold.
TEXT_BYTES = 16 * 2**20


@dataclass(slots=True)
class Side:
    """One side of the split: its writer and what went into it."""

    writer: ShardWriter
    documents: int = 0
    tokens: int = 0
    text_bytes: int = 0

    def write(self, names: pa.Array, texts: pa.Array, encoder: Encoder) -> None:
        """Encode texts and append them."""
        if not len(texts):
            return
        ids, counts = encoder.encode(texts)
        offsets = np.zeros(len(counts) + 1, dtype=np.int32)
        np.cumsum(counts, out=offsets[1:])
        lists = pa.ListArray.from_arrays(pa.array(offsets), pa.array(ids))
        sizes = byte_lengths(texts)
        batch = pa.record_batch([names, lists, sizes], schema=self.writer.schema)
        self.writer.write(batch, tokens=len(ids))
        self.documents += len(texts)
        self.tokens += len(ids)
        self.text_bytes += int(sizes.to_numpy().sum())


def byte_lengths(texts: pa.Array) -> pa.Array:
    """The UTF-8 bytes of each text, as int64."""
    return pc.call_function("binary_length", [texts]).cast(pa.int64())


def read_texts(corpus: ShardReader) -> Iterator[tuple[pa.Array, pa.Array]]:
    """Ids and texts of a corpus, about `TEXT_BYTES` at a time."""
    for batch in corpus:
        names, texts = batch.column("id"), batch.column("text")
        step = max(1, len(texts) * TEXT_BYTES // max(1, texts.nbytes))
        for start in range(0, len(texts), step):
            yield names.slice(start, step), texts.slice(start, step)


def lengths(corpus: ShardReader) -> Iterator[tuple[str, int]]:
    """Id and bytes of every document."""
    for names, texts in read_texts(corpus):
        sizes = byte_lengths(texts).to_pylist()
        yield from zip(names.to_pylist(), sizes, strict=True)


def encode_corpus(
    corpus: ShardReader,
    encoder: Encoder,
    sides: tuple[Side, Side],
    hold_out: HoldOut,
    on_bytes: Callable[[int], None],
) -> None:
    """Write a corpus to its two sides, training text and held-out text.

    `on_bytes` is told of text as it is done, in bytes.
    """
    for names, texts in read_texts(corpus):
        for side, (some_names, some_texts) in zip(
            sides, _split(names, texts, hold_out), strict=True
        ):
            side.write(some_names, some_texts, encoder)
        on_bytes(texts.nbytes)


@contextlib.contextmanager
def open_side(directory: Path, width: Literal["uint16", "uint32"]) -> Iterator[Side]:
    """A side to write to; leaving the block closes its shards and writes their index."""
    directory.mkdir(parents=True, exist_ok=True)
    side = Side(ShardWriter(directory, tokens_schema(width)))
    with side.writer:
        yield side
    write_index(directory, side.writer.schema, side.writer.shards)


def _split(
    names: pa.Array, texts: pa.Array, hold_out: HoldOut
) -> tuple[tuple[pa.Array, pa.Array], tuple[pa.Array, pa.Array]]:
    """Both sides of some documents; those of one unit are chosen by mask, not copied one by one."""
    if hold_out.share <= 0:
        return (names, texts), (names.slice(0, 0), texts.slice(0, 0))
    listed = names.to_pylist()
    sizes = byte_lengths(texts).to_numpy()
    long = sizes >= hold_out.long_bytes
    held = np.array(
        [not cut and hold_out.holds(name) for name, cut in zip(listed, long, strict=True)]
    )
    pieces: tuple[list[tuple[str, bytes]], ...] = ([], [])
    for row in np.flatnonzero(long):
        text = texts[int(row)].as_buffer().to_pybytes()
        for piece in hold_out.pieces(listed[row], text):
            pieces[piece.held_out].append((listed[row], text[piece.start : piece.stop]))
    return (
        _joined(
            names.filter(pa.array(~long & ~held)), texts.filter(pa.array(~long & ~held)), pieces[0]
        ),
        _joined(names.filter(pa.array(held)), texts.filter(pa.array(held)), pieces[1]),
    )


def _joined(
    names: pa.Array, texts: pa.Array, pieces: Sequence[tuple[str, bytes]]
) -> tuple[pa.Array, pa.Array]:
    if not pieces:
        return names, texts
    more_names = pa.array([name for name, _ in pieces], pa.string())
    more_texts = pa.array([text for _, text in pieces], pa.binary()).cast(pa.string())
    return pa.concat_arrays([names, more_names]), pa.concat_arrays([texts, more_texts])
