"""Shingles of a text -> a signature whose places agree as often as two sets overlap (Broder 1997).

The signature is that of rensa 0.4's R-MinHash, which is used where it is installed and NumPy
where it is not: both give the same bits, and rensa is asked for a known one before it is trusted
(0.5 gives others). Place i holds the least of `(a_i * shingle + b_i) mod 2^64 >> 32`, with a_i odd
and both drawn by xoshiro256++ (Blackman and Vigna 2021).
"""

import importlib.util
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np

from llmctl.registry import load

PLACES = 128
SHINGLE_WORDS = 5
SEED = 42
# How many of the pairs that are just similar enough must meet in some band.
LEAST_RECALL = 0.99
_MASK = 2**64 - 1


def banding(similarity: float) -> tuple[int, int]:
    """How many bands of how many places find pairs of that Jaccard similarity, at least cost.

    Long bands bring few strangers together; these are the longest that still let `LEAST_RECALL`
    of the wanted pairs meet.

    >>> banding(0.8)
    (21, 6)
    """
    for width in range(PLACES, 0, -1):
        bands = PLACES // width
        if 1 - (1 - similarity**width) ** bands >= LEAST_RECALL:
            return bands, width
    return PLACES, 1


def signatures(shingle_sets: Sequence[np.ndarray]) -> np.ndarray:
    """The signature of each set of uint64 shingles: uint32, a row a set."""
    if not len(shingle_sets):
        return np.empty((0, PLACES), np.uint32)
    if _rensa_agrees():
        return _by_rensa(shingle_sets)
    return _by_numpy(shingle_sets)


def band_keys(signature_rows: np.ndarray, bands: int, width: int) -> np.ndarray:
    """A uint64 for each band of each signature: equal where all places of the band are."""
    places = signature_rows[:, : bands * width].reshape(len(signature_rows), bands, width)
    keys = np.zeros((len(signature_rows), bands), np.uint64)
    for place in range(width):
        keys = keys * np.uint64(0x9E3779B97F4A7C15) + places[:, :, place]
        keys ^= keys >> np.uint64(29)
    return keys


def jaccard(left: np.ndarray, right: np.ndarray) -> float:
    """How much of two sets is common to them: the intersection over the union.

    >>> jaccard(np.array([1, 2, 3]), np.array([2, 3, 4]))
    0.5
    """
    common = len(np.intersect1d(left, right, assume_unique=True))
    union = len(left) + len(right) - common
    return common / union if union else 1.0


def _by_numpy(shingle_sets: Sequence[np.ndarray]) -> np.ndarray:
    rows = np.full((len(shingle_sets), PLACES), 2**32 - 1, np.uint32)
    factors, terms = _permutations()
    for row, shingles in zip(rows, shingle_sets, strict=True):
        if len(shingles):
            products = shingles[:, None] * factors + terms
            row[:] = products.min(axis=0) >> np.uint64(32)
    return rows


def _by_rensa(shingle_sets: Sequence[np.ndarray]) -> np.ndarray:
    ends = np.cumsum([0, *map(len, shingle_sets)], dtype=np.uint64)
    flat = np.concatenate(shingle_sets).astype(np.uint64, copy=False)
    matrix = _rensa().digest_matrix_from_flat_token_hashes(flat, ends, PLACES, SEED)
    return np.array(matrix.to_rows(), dtype=np.uint32)


@cache
def _rensa_agrees() -> bool:
    """Whether rensa is there and computes what NumPy does."""
    if importlib.util.find_spec("rensa") is None:
        return False
    known = [np.arange(1, 40, dtype=np.uint64) ** np.uint64(9)]
    return bool((_by_rensa(known) == _by_numpy(known)).all())


def _rensa() -> Any:
    return load("rensa:RMinHash")


@cache
def _permutations() -> tuple[np.ndarray, np.ndarray]:
    drawn = _xoshiro(SEED)
    pairs = [(next(drawn) | 1, next(drawn)) for _ in range(PLACES)]
    factors, terms = zip(*pairs, strict=True)
    return np.array(factors, np.uint64), np.array(terms, np.uint64)


def _xoshiro(seed: int) -> Iterator[int]:
    """xoshiro256++, its state filled by SplitMix64 as its authors advise."""
    s0, s1, s2, s3 = (_split_mix(seed, number) for number in range(1, 5))
    while True:
        yield (_rotate((s0 + s3) & _MASK, 23) + s0) & _MASK
        shifted = (s1 << 17) & _MASK
        s2 ^= s0
        s3 ^= s1
        s1 ^= s2
        s0 ^= s3
        s2 ^= shifted
        s3 = _rotate(s3, 45)


def _split_mix(seed: int, number: int) -> int:
    mixed = (seed + number * 0x9E3779B97F4A7C15) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
    return mixed ^ (mixed >> 31)


def _rotate(value: int, places: int) -> int:
    return ((value << places) | (value >> (64 - places))) & _MASK
