"""Token streams and weights -> batches whose rows are drawn from each by its weight.

Which stream a row comes from is a pure function of (seed, number of the row): in every thousand
rows each stream has its share, in an order that is drawn anew. So a run resumes to the token, and
a stream that is small beside its weight is simply read more often.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from llmctl.data.batches import Batch, TrainingBatches, batch_of
from llmctl.errors import ConfigError

BLOCK = 1000
# Brown et al. 2020 (arXiv 2005.14165), table 2.2: 8 + 8 % are its two sets of books. The shares
# are the paper's own, rounded, and sum to 101 %.
MIXES: Mapping[str, Mapping[str, float]] = {
    "gpt3": {"commoncrawl": 0.60, "webtext": 0.22, "books": 0.16, "wikipedia": 0.03}
}


class MixedBatches:
    """The batches of a run over several streams; `batch(step)` is the same at every resume."""

    def __init__(
        self, parts: Sequence[TrainingBatches], weights: Sequence[float], *, rows: int, seed: int
    ) -> None:
        self.parts = parts
        self.rows = rows
        self.seed = seed
        shares = np.asarray(weights, dtype=np.float64)
        self._bounds = np.cumsum(shares / shares.sum())
        self._bounds[-1] = 1.0
        self._block: tuple[int, np.ndarray, np.ndarray] = (-1, np.array([]), np.array([]))

    def batch(self, step: int) -> Batch:
        """The batch of a step, counted from zero."""
        numbers = range(step * self.rows, (step + 1) * self.rows)
        windows = [
            (self.parts[part].stream, self.parts[part].start(place))
            for part, place in map(self.source, numbers)
        ]
        return batch_of(windows, self.parts[0].context, self.parts[0].end_of_text)

    def source(self, number: int) -> tuple[int, int]:
        """The stream of a row of the run, and which of that stream's rows it is."""
        block, place = divmod(number, BLOCK)
        if self._block[0] != block:
            self._block = (block, *self._drawn(block))
        return int(self._block[1][place]), int(self._block[2][place])

    def rows_of(self, rows: int) -> list[int]:
        """How many of the first rows of the run come from each stream, to within a block."""
        return np.diff(np.floor(self._bounds * rows), prepend=0).astype(int).tolist()

    def _drawn(self, block: int) -> tuple[np.ndarray, np.ndarray]:
        before, after = self.rows_of(block * BLOCK), self.rows_of((block + 1) * BLOCK)
        counts = np.subtract(after, before)
        random = np.random.default_rng((self.seed, block))
        parts = random.permutation(np.repeat(np.arange(len(counts)), counts))
        places = np.empty(BLOCK, dtype=np.int64)
        for part, first in enumerate(before):
            mine = parts == part
            places[mine] = first + np.arange(mine.sum())
        return parts, places


def parse_mix(text: str) -> dict[str, float]:
    """Names and shares that sum to one: of a recipe by name, or as they are written.

    >>> parse_mix("news=3,books=1")
    {'news': 0.75, 'books': 0.25}
    """
    if text in MIXES:
        shares = dict(MIXES[text])
    else:
        shares = dict(_pair(part, text) for part in text.split(","))
    total = sum(shares.values())
    return {name: share / total for name, share in shares.items()}


def _pair(part: str, whole: str) -> tuple[str, float]:
    name, _, share = part.partition("=")
    try:
        weight = float(share)
    except ValueError:
        weight = 0.0
    if not name.strip() or not 0 < weight < float("inf"):
        known = ", ".join(MIXES)
        raise ConfigError(
            f"`--mix {whole}` makes no sense at `{part}`",
            hint=f"write names and weights: `news=0.7,books=0.3`, or one of {known}",
        )
    return name.strip(), weight
