"""Token shards -> batches: full rows, in an order that is a pure function of (seed, step).

The documents of a split stand end to end, each beginning with the end-of-text id, and are cut
into windows of `context` tokens. Windows are visited in a new pseudo-random order each epoch;
the batch of a step needs no iterator, so a run resumes to the token and may change its ranks.

Knows nothing of text, tokenizers or models.
    B batch, T time (context)
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from llmctl.errors import DataError
from llmctl.shards import ShardReader

IGNORED = -100


@dataclass(frozen=True, slots=True)
class Batch:
    """What a step learns from.

    `targets_BT` holds the next token of each input, `IGNORED` where none counts; `segments_BT`
    numbers the documents of each row, None where no row crosses from one into another.
    """

    inputs_BT: Tensor
    targets_BT: Tensor
    segments_BT: Tensor | None
    trained: int

    @property
    def rows(self) -> int:
        """Rows."""
        return self.inputs_BT.shape[0]

    @property
    def tokens(self) -> int:
        """Tokens that are read, padding among them."""
        return self.inputs_BT.numel()

    def micro(self, start: int, stop: int) -> "Batch":
        """The rows `start` to `stop`, as a batch of their own."""
        targets = self.targets_BT[start:stop]
        segments = None if self.segments_BT is None else self.segments_BT[start:stop]
        trained = int((targets != IGNORED).sum())
        return Batch(self.inputs_BT[start:stop], targets, segments, trained)

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device."""
        if device.type == "cpu":
            return self
        segments = None if self.segments_BT is None else sent(self.segments_BT, device)
        inputs, targets = sent(self.inputs_BT, device), sent(self.targets_BT, device)
        return Batch(inputs, targets, segments, self.trained)


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on its way to a device, which waits for it; the host goes on."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


class TokenStream:
    """The documents of a folder of token shards, end to end: one long row of ids, memory-mapped."""

    def __init__(self, directory: Path) -> None:
        self._reader = ShardReader(directory)
        counts = [self._reader.tokens_of(index) for index in range(len(self._reader))]
        self._ends = np.cumsum(np.array(counts, dtype=np.int64))
        self._values: dict[int, np.ndarray] = {}
        if not counts:
            raise DataError(
                f"{directory} holds no tokens", hint="collect more text, then `llmctl tokenize`"
            )

    def __len__(self) -> int:
        return int(self._ends[-1])

    def read(self, start: int, out: np.ndarray) -> None:
        """Fill `out` with the ids from `start` on; the range must lie inside the stream."""
        filled = 0
        while filled < len(out):
            index = int(np.searchsorted(self._ends, start + filled, side="right"))
            values = self._batch(index)
            inside = start + filled - (int(self._ends[index]) - len(values))
            piece = values[inside : inside + len(out) - filled]
            out[filled : filled + len(piece)] = piece
            filled += len(piece)

    def _batch(self, index: int) -> np.ndarray:
        if index not in self._values:
            self._values[index] = self._reader.batch(index).column("ids").flatten().to_numpy()
        return self._values[index]


class TrainingBatches:
    """The batches of a run: `batch(step)` is the same on every machine and at every resume."""

    def __init__(
        self, stream: TokenStream, *, context: int, rows: int, end_of_text: int, seed: int
    ) -> None:
        self.stream = stream
        self.context = context
        self.rows = rows
        self.end_of_text = end_of_text
        self.seed = seed
        # One window less than fits leaves room for an offset that differs from epoch to epoch.
        self.windows = max(1, (len(stream) - 1) // context - 1)

    @property
    def tokens_per_step(self) -> int:
        """Tokens that one batch reads."""
        return self.rows * self.context

    def epochs(self, rows: int) -> float:
        """How often so many rows go through the text."""
        return rows / self.windows

    @property
    def dropped_per_epoch(self) -> int:
        """Tokens of the stream that an epoch leaves out because they fill no window."""
        return max(0, len(self.stream) - 1 - self.windows * self.context)

    def batch(self, step: int) -> Batch:
        """The batch of a step, counted from zero."""
        numbers = range(step * self.rows, (step + 1) * self.rows)
        windows = [(self.stream, self.start(number)) for number in numbers]
        return batch_of(windows, self.context, self.end_of_text)

    def start(self, number: int) -> int:
        """Where in the stream the window stands that is visited as number so and so of all."""
        epoch, place = divmod(number, self.windows)
        room = len(self.stream) - 1 - self.windows * self.context
        offset = _draw(self.seed, epoch, "offset") % max(1, min(room, self.context) + 1)
        key = _draw(self.seed, epoch, "order")
        return max(0, offset) + shuffled(place, self.windows, key) * self.context


def validation_batches(
    stream: TokenStream, *, context: int, rows: int, end_of_text: int
) -> Iterator[Batch]:
    """The whole stream once, in order, in windows that do not overlap; the last row is padded."""
    starts = range(0, len(stream) - 1, context)
    for first in range(0, len(starts), rows):
        windows = [(stream, start) for start in starts[first : first + rows]]
        yield batch_of(windows, context, end_of_text)


def batch_of(windows: Sequence[tuple[TokenStream, int]], context: int, end_of_text: int) -> Batch:
    """The windows that begin at places in streams, as the rows of a batch."""
    window_BT = np.full((len(windows), context + 1), end_of_text, dtype=np.int64)
    targets_BT = np.full((len(windows), context), IGNORED, dtype=np.int64)
    for row, (stream, start) in enumerate(windows):
        length = min(context + 1, len(stream) - start)
        stream.read(start, window_BT[row, :length])
        targets_BT[row, : length - 1] = window_BT[row, 1:length]
    inputs_BT = np.ascontiguousarray(window_BT[:, :-1])
    begins_BT = inputs_BT == end_of_text
    segments = None
    if begins_BT[:, 1:].any():
        segments = torch.from_numpy(begins_BT.cumsum(axis=1))
    return Batch(
        torch.from_numpy(inputs_BT),
        torch.from_numpy(targets_BT),
        segments,
        int((targets_BT != IGNORED).sum()),
    )


def shuffled(place: int, size: int, key: int) -> int:
    """Where `place` goes in the pseudo-random order of `range(size)` that belongs to `key`.

    A four-round Feistel network over the next even power of two, walked until it falls inside
    (cycle walking: Black and Rogaway 2002, section 3): a bijection without a table.
    """
    half = max(1, (max(size - 1, 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    while True:
        left, right = place >> half, place & mask
        for turn in range(4):
            mixed = (right * 0x9E3779B97F4A7C15 + (key >> (turn * 8)) + turn) & (2**64 - 1)
            mixed ^= mixed >> 29
            mixed = (mixed * 0xBF58476D1CE4E5B9) & (2**64 - 1)
            left, right = right, left ^ ((mixed >> 32) & mask)
        place = (left << half) | right
        if place < size:
            return place


def _draw(*words: object) -> int:
    return int.from_bytes(hashlib.blake2b(repr(words).encode(), digest_size=8).digest())
