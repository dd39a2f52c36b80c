"""Keys of documents on disk -> pairs that may be copies, a range of keys at a time.

Documents with the same text, and then those that share the key of a band, stand side by side once
their keys are sorted. A range holds `RANGE_KEYS` keys or so: that, and not the corpus, is what
must fit into memory.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from llmctl.data.dedup.places import place_of
from llmctl.data.screening import KEYS, Bundle
from llmctl.durable import appearing
from llmctl.shards import ShardReader, ShardWriter, pairs_schema, write_index

# 16 bytes a key and as much again to sort: half a gigabyte.
RANGE_KEYS = 2**24
PAIR_ROWS = 2**20
EXACT = "exact"


@dataclass(frozen=True, slots=True)
class Range:
    """The keys of one band, or of whole texts where `band` is None, that fall into one of many."""

    band: int | None
    number: int
    of: int

    @property
    def name(self) -> str:
        """Its folder."""
        return f"{EXACT if self.band is None else f'{self.band:03d}'}-{self.number:05d}"


def ranges(documents: int, band: int | None) -> list[Range]:
    """The ranges of a band for so many documents."""
    many = max(1, -(-documents // RANGE_KEYS))
    return [Range(band, number, many) for number in range(many)]


def find_same(part: Range, bundles: Sequence[Bundle], signatures: Path, found: Path) -> None:
    """Pairs of documents with the same text: the first of them, and each other one."""
    target = found / part.name
    if target.exists():
        return
    highs, lows, places = _gather(part, bundles, signatures, ("text_high", "text_low"))
    # Stable, so that the first of the same is the first of the corpora.
    order = np.lexsort((places, lows, highs))
    highs, lows, places = highs[order], lows[order], places[order]
    is_same = (highs[1:] == highs[:-1]) & (lows[1:] == lows[:-1])
    left, right = _pairs(places, is_same, chained=False)
    write_pairs(target, left, right, np.ones(len(left), np.float32))


def find_candidates(part: Range, bundles: Sequence[Bundle], signatures: Path, found: Path) -> None:
    """Pairs of documents that share the key of a band, leaving out those with the same text."""
    target = found / part.name
    if target.exists():
        return
    (keys, places) = _gather(part, bundles, signatures, (f"band_{part.band:03d}",))
    repeated = np.concatenate(
        [right for _, right, _ in read_pairs(found, prefix=EXACT)] or [places[:0]]
    )
    fresh = ~np.isin(places, repeated)
    keys, places = keys[fresh], places[fresh]
    order = np.argsort(keys, kind="stable")
    keys, places = keys[order], places[order]
    left, right = _pairs(places, keys[1:] == keys[:-1], chained=True)
    write_pairs(target, left, right, np.full(len(left), np.nan, np.float32))


def _pairs(
    places: np.ndarray, is_same: np.ndarray, *, chained: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Of sorted groups, each member with the first of its group, and with the one before it.

    All pairs of a group would grow with its square; two for each member find its cluster.
    """
    at = np.arange(len(places))
    is_first = np.concatenate(([True], ~is_same)) if len(places) else np.empty(0, bool)
    first = np.maximum.accumulate(np.where(is_first, at, 0)) if len(places) else at
    follower = at[~is_first]
    left, right = places[first[follower]], places[follower]
    if chained:
        left = np.concatenate((left, places[follower - 1]))
        right = np.concatenate((right, places[follower]))
    pairs = np.unique(np.stack((left, right), axis=1), axis=0) if len(left) else None
    return (left, right) if pairs is None else (pairs[:, 0], pairs[:, 1])


def _gather(
    part: Range, bundles: Sequence[Bundle], signatures: Path, columns: Sequence[str]
) -> list[np.ndarray]:
    """The columns of all bundles where the first of them falls into the range, then the places."""
    found: list[list[np.ndarray]] = [[np.empty(0, np.uint64)] for _ in (*columns, "places")]
    for bundle in bundles:
        start = 0
        for batch in ShardReader(signatures / bundle.stem / KEYS):
            values = [batch.column(name).to_numpy() for name in columns]
            is_in = values[0] % np.uint64(part.of) == part.number
            if part.band is not None:
                is_in &= batch.column("shingles").to_numpy() > 0
            rows = np.flatnonzero(is_in)
            places = place_of(bundle.number, rows + start)
            for pieces, column in zip(found, (*(one[rows] for one in values), places), strict=True):
                pieces.append(column)
            start += batch.num_rows
    return [np.concatenate(pieces) for pieces in found]


def write_pairs(target: Path, left: np.ndarray, right: np.ndarray, similarity: np.ndarray) -> None:
    """Write pairs as a folder of shards, which appears when it is whole."""
    with appearing(target) as beside:
        with ShardWriter(beside, pairs_schema()) as writer:
            for start in range(0, len(left), PAIR_ROWS):
                rows = slice(start, start + PAIR_ROWS)
                arrays = [pa.array(column[rows]) for column in (left, right, similarity)]
                writer.write(pa.record_batch(arrays, schema=pairs_schema()))
        write_index(beside, writer.schema, writer.shards)


def read_pairs(
    found: Path, *, prefix: str = ""
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Left, right and similarity of the pairs of all folders whose name begins so, in order."""
    for folder in finished(found, prefix=prefix):
        for batch in ShardReader(folder):
            left, right, similarity = (column.to_numpy() for column in batch.columns)
            yield left, right, similarity


def finished(found: Path, *, prefix: str = "") -> list[Path]:
    """The folders of pairs whose name begins so, in order; not what a kill left of others."""
    names = sorted(path.name for path in found.iterdir() if not path.name.startswith("."))
    return [found / name for name in names if name.startswith(prefix)]
