"""Encoded texts and their labels -> batches of texts of like length, a pure function of the step.

An epoch visits every text once, in an order that follows from (seed, epoch): shuffled, then sorted
by length within stretches of many batches, whose batches are shuffled again. So little is padded
and yet what stands together changes from epoch to epoch.

    B batch, T time, D width, C classes
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from llmctl.data.batches import sent

# Batches among which texts are sorted by length: enough to pad little, few enough to mix well.
STRETCH = 50


class LabelledText(NamedTuple):
    """The ids of a text, the share (C,) of each class in it, and its weight (1 on average)."""

    ids: Sequence[int]
    shares_C: Tensor
    weight: float = 1.0


class More(NamedTuple):
    """So many texts beside the given ones in each epoch, by its number; no longer than those."""

    count: int
    texts: Callable[[int], Sequence[LabelledText]]


class Noise(NamedTuple):
    """The share of tokens that others stand for, and below which number those are drawn."""

    share: float
    vocab_size: int


NO_NOISE = Noise(0.0, 0)
NO_MORE = More(0, lambda _: ())


@dataclass(frozen=True, slots=True)
class ClassBatch:
    """What a step learns from: ids (B, T), or the states (B, T, D) that frozen layers made of them.

    Texts stand flush left; `lengths_B` are their tokens.
    """

    inputs: Tensor
    lengths_B: Tensor
    shares_BC: Tensor
    weights_B: Tensor

    @property
    def rows(self) -> int:
        """Texts."""
        return len(self.shares_BC)

    @property
    def tokens(self) -> int:
        """Tokens that are read, padding among them."""
        return self.inputs.shape[0] * self.inputs.shape[1]

    @property
    def trained(self) -> int:
        """What the summed loss is divided by: every text counts once."""
        return self.rows

    def micro(self, start: int, stop: int) -> "ClassBatch":
        """The texts `start` to `stop`, without padding that none of them needs."""
        rows = slice(start, stop)
        longest = int(self.lengths_B[rows].max())
        return ClassBatch(
            self.inputs[rows, :longest],
            self.lengths_B[rows],
            self.shares_BC[rows],
            self.weights_B[rows],
        )

    def to(self, device: torch.device) -> "ClassBatch":
        """The same batch on a device."""
        return ClassBatch(
            sent(self.inputs, device),
            sent(self.lengths_B, device),
            sent(self.shares_BC, device),
            sent(self.weights_B, device),
        )


class ClassBatches:
    """The batches of a run over labelled texts, or over `states` of theirs, one (T, D) a text.

    With `noise` other ids, drawn anew each time, stand for a share of the tokens, but for the first
    and the last of a text: so a model cannot learn few texts by heart (word
    dropout: Iyyer et al. 2015, aclanthology.org/P15-1162, section 3.1).
    """

    def __init__(  # noqa: PLR0913
        self,
        texts: Sequence[LabelledText],
        *,
        rows: int,
        pad_id: int,
        seed: int,
        states: Sequence[Tensor] | None = None,
        noise: Noise = NO_NOISE,
        more: More = NO_MORE,
    ) -> None:
        self.texts = texts
        self.rows = rows
        self.seed = seed
        self.states = states
        self.noise = noise
        self.more = more
        self._pad_id = pad_id
        self._epoch = -1
        self._texts: Sequence[LabelledText] = ()
        self._places: list[list[int]] = []

    @property
    def steps_per_epoch(self) -> int:
        """Batches in which every text stands once; the last may be smaller."""
        return -(-(len(self.texts) + self.more.count) // self.rows)

    def batch(self, step: int) -> ClassBatch:
        """The batch of a step, counted from zero."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if self._epoch != epoch:
            self._texts = [*self.texts, *self.more.texts(epoch)]
            lengths = [len(text.ids) for text in self._texts]
            self._places = like_lengths(lengths, self.rows, (self.seed, epoch))
            self._epoch = epoch
        batch = self._gathered(self._texts, self._places[place])
        return self._disturbed(batch, step) if self.noise.share and self.states is None else batch

    def longest(self) -> ClassBatch:
        """The largest batch that could be: of the longest texts, again where they are too few."""
        order = sorted(range(len(self.texts)), key=lambda one: -len(self.texts[one].ids))
        rows = min(self.rows, len(self.texts) + self.more.count)
        return self._gathered(self.texts, [order[place % len(order)] for place in range(rows)])

    def _disturbed(self, batch: ClassBatch, step: int) -> ClassBatch:
        random = np.random.default_rng((self.seed, step))
        slots_T = torch.arange(batch.inputs.shape[1])
        is_inner_BT = (slots_T > 0) & (slots_T < batch.lengths_B[:, None] - 1)
        is_drawn_BT = torch.from_numpy(random.random(batch.inputs.shape) < self.noise.share)
        ids_BT = torch.from_numpy(random.integers(0, self.noise.vocab_size, batch.inputs.shape))
        inputs_BT = torch.where(is_inner_BT & is_drawn_BT, ids_BT, batch.inputs)
        return replace(batch, inputs=inputs_BT)

    def _gathered(self, among: Sequence[LabelledText], indices: Sequence[int]) -> ClassBatch:
        texts = [among[index] for index in indices]
        lengths = [len(text.ids) for text in texts]
        if self.states is None:
            inputs = torch.full((len(texts), max(lengths)), self._pad_id)
            for row, text in enumerate(texts):
                inputs[row, : len(text.ids)] = torch.tensor(text.ids)
        else:
            chosen = [self.states[index] for index in indices]
            inputs = torch.nn.utils.rnn.pad_sequence(chosen, batch_first=True)
        return ClassBatch(
            inputs,
            torch.tensor(lengths),
            torch.stack([text.shares_C for text in texts]),
            torch.tensor([text.weight for text in texts]),
        )


def like_lengths(lengths: Sequence[int], rows: int, seed: tuple[int, ...]) -> list[list[int]]:
    """The indices of an epoch in batches, of texts of like length, in an order of the seed's."""
    random = np.random.default_rng(seed)
    order = random.permutation(len(lengths))
    sizes = np.asarray(lengths)
    batches: list[list[int]] = []
    for start in range(0, len(order), rows * STRETCH):
        stretch = order[start : start + rows * STRETCH]
        by_length = stretch[np.argsort(sizes[stretch], kind="stable")]
        batches += [by_length[at : at + rows].tolist() for at in range(0, len(by_length), rows)]
    return [batches[place] for place in random.permutation(len(batches))]
