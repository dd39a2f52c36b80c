"""Rendered conversations -> rows packed full, of which only the answers are trained.

Conversations are packed once, the longest first, each into the fullest row that has room; the
order of the rows is drawn anew each epoch. Those of one row are segments that do not see each
other, so that the loss is what it would be were each alone.

    B batch, T time (context)
"""

import bisect
from collections.abc import Sequence

import numpy as np
import torch

from llmctl.data.batches import IGNORED, Batch
from llmctl.data.template import Rendered


class ChatBatches:
    """The batches of a run over conversations: `batch(step)` is the same at every resume.

    Conversations must have two tokens or more, and no more than `context` and one.
    """

    def __init__(
        self,
        conversations: Sequence[Rendered],
        *,
        context: int,
        rows: int,
        pad_id: int,
        seed: int,
        pack: bool = True,
    ) -> None:
        self.conversations = conversations
        self.context = context
        self.rows = rows
        self.seed = seed
        self._pad_id = pad_id
        lengths = [len(one.ids) - 1 for one in conversations]
        self.packs = packed(lengths, context) if pack else [[one] for one in range(len(lengths))]

    @property
    def steps_per_epoch(self) -> int:
        """Batches in which every conversation stands once; the last may be smaller."""
        return -(-len(self.packs) // self.rows)

    def batch(self, step: int) -> Batch:
        """The batch of a step, counted from zero."""
        epoch, place = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.packs))
        chosen = order[place * self.rows : (place + 1) * self.rows]
        return self.gathered([self.packs[index] for index in chosen])

    def longest(self) -> Batch:
        """The largest batch that could be: of the fullest rows."""
        return self.gathered(sorted(self.packs, key=self._width, reverse=True)[: self.rows])

    def in_order(self) -> list[Batch]:
        """All conversations once, as a score reads them."""
        starts = range(0, len(self.packs), self.rows)
        return [self.gathered(self.packs[start : start + self.rows]) for start in starts]

    def gathered(self, packs: Sequence[Sequence[int]]) -> Batch:
        """Packs of conversations as the rows of a batch, as wide as the fullest needs."""
        widest = max(map(self._width, packs))
        inputs_BT = np.full((len(packs), widest), self._pad_id, dtype=np.int64)
        targets_BT = np.full_like(inputs_BT, IGNORED)
        # What is padded is a segment of its own.
        segments_BT = np.full_like(inputs_BT, max(map(len, packs)))
        for row, pack in enumerate(packs):
            start = 0
            for segment, index in enumerate(pack):
                one = self.conversations[index]
                ids = np.asarray(one.ids)
                place = slice(start, start + len(ids) - 1)
                inputs_BT[row, place] = ids[:-1]
                targets_BT[row, place] = np.where(one.trained[1:], ids[1:], IGNORED)
                segments_BT[row, place] = segment
                start = place.stop
        is_alone = all(len(pack) == 1 for pack in packs)
        return Batch(
            torch.from_numpy(inputs_BT),
            torch.from_numpy(targets_BT),
            # A row's padding stands behind all that it could disturb.
            None if is_alone else torch.from_numpy(segments_BT),
            int((targets_BT != IGNORED).sum()),
        )

    def _width(self, pack: Sequence[int]) -> int:
        return sum(len(self.conversations[one].ids) - 1 for one in pack)


def packed(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Which conversations share a row: best fit, the longest first (Johnson 1973).

    >>> packed([5, 3, 4, 2], 7)
    [[0, 3], [2, 1]]
    """
    packs: list[list[int]] = []
    free: list[tuple[int, int]] = []  # room left and number of the pack, in order
    for index in sorted(range(len(lengths)), key=lambda one: -lengths[one]):
        place = bisect.bisect_left(free, (lengths[index], -1))
        if place == len(free):
            left, number = room, len(packs)
            packs.append([])
        else:
            left, number = free.pop(place)
        packs[number].append(index)
        bisect.insort(free, (left - lengths[index], number))
    return packs
