"""Pairs that may be copies -> those that are, by their exact Jaccard similarity -> who must go.

A signature only says who is worth comparing. The shingles of both texts decide, so that nothing
is dropped for the company that it keeps by chance.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llmctl.data.dedup.bands import EXACT, finished, read_pairs, write_pairs
from llmctl.data.dedup.minhash import jaccard
from llmctl.data.dedup.places import ROW_BITS, Documents
from llmctl.data.screening import Bundle
from llmctl.shards import ShardReader

# Enough pairs to keep a process busy for seconds.
STRETCH_PAIRS, MOST_STRETCHES = 2**16, 256
NEAR = "near"


@dataclass(frozen=True, slots=True)
class Stretch:
    """The pairs whose left document stands in some neighbouring bundles."""

    number: int
    first: int
    last: int


def stretches(bundles: Sequence[Bundle], bands: Path) -> list[Stretch]:
    """Bundles put together until their pairs are worth a process, whoever works on them."""
    pairs = sum(
        ShardReader(path).rows for path in finished(bands) if not path.name.startswith(EXACT)
    )
    many = min(max(1, pairs // STRETCH_PAIRS), MOST_STRETCHES, len(bundles))
    cuts = [len(bundles) * number // many for number in range(many + 1)]
    return [Stretch(number, cuts[number], cuts[number + 1]) for number in range(many)]


def confirm(
    stretch: Stretch,
    bundles: Sequence[Bundle],
    similarity: float,
    folders: tuple[Path, Path, Path],
) -> None:
    """Keep the pairs of a stretch that are similar enough; `folders`: signatures, bands, target."""
    signatures, bands, confirmed = folders
    target = confirmed / f"{stretch.number:05d}"
    if target.exists():
        return
    pairs = _candidates(stretch, bundles, bands)
    documents = Documents(signatures, bundles)
    scores = np.array(
        [
            jaccard(documents.shingles(int(left)), documents.shingles(int(right)))
            for left, right in pairs
        ],
        dtype=np.float64,
    )
    is_copy = scores >= similarity
    kept = pairs[is_copy]
    write_pairs(target, kept[:, 0], kept[:, 1], scores[is_copy].astype(np.float32))


def _candidates(stretch: Stretch, bundles: Sequence[Bundle], bands: Path) -> np.ndarray:
    """The distinct pairs of a stretch, a row each; two that are only compared with are no pair."""
    known = sum(bundle.known for bundle in bundles)
    found = [np.empty((0, 2), np.uint64)]
    for left, right, score in read_pairs(bands):
        if len(score) and not np.isnan(score[0]):
            continue  # the same text: decided already
        home = left >> np.uint64(ROW_BITS)
        rows = (home >= stretch.first) & (home < stretch.last)
        rows &= right >> np.uint64(ROW_BITS) >= known
        found.append(np.stack((left[rows], right[rows]), axis=1))
        if sum(map(len, found)) > STRETCH_PAIRS * 16:
            found = [np.unique(np.concatenate(found), axis=0)]
    return np.unique(np.concatenate(found), axis=0)


def cluster(confirmed: Path, clusters: Path) -> None:
    """Each document that repeats an earlier one, with the first of its cluster, sorted."""
    target = clusters / NEAR
    if target.exists():
        return
    pairs = list(read_pairs(confirmed))
    if not pairs:
        empty = np.empty(0, np.uint64)
        write_pairs(target, empty, empty, np.empty(0, np.float32))
        return
    left, right, scores = (np.concatenate(column) for column in zip(*pairs, strict=True))
    members, ends = np.unique(np.concatenate((left, right)), return_inverse=True)
    first = _first_of_cluster(len(members), ends[: len(left)], ends[len(left) :])
    best = np.zeros(len(members), np.float32)
    np.maximum.at(best, ends, np.concatenate((scores, scores)))
    goes = first != np.arange(len(members))
    write_pairs(target, members[first[goes]], members[goes], best[goes])


def _first_of_cluster(number: int, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """For each member the lowest one that it hangs together with: union-find with halved paths."""
    parents = list(range(number))

    def root(one: int) -> int:
        while parents[one] != one:
            parents[one] = parents[parents[one]]
            one = parents[one]
        return one

    for one, other in zip(left.tolist(), right.tolist(), strict=True):
        low, high = sorted((root(one), root(other)))
        parents[high] = low
    return np.array([root(one) for one in range(number)], dtype=np.int64)
