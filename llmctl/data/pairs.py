"""Batches -> how often which token follows which.

Knows nothing of text or weights.
    V vocabulary, N the most frequent tokens
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from llmctl.data.batches import IGNORED, Batch


@dataclass(frozen=True, slots=True)
class Pairs:
    """How often each token came, and after which of the most frequent each of these came.

    `ids_N` are those tokens; `after_NN[i, j]` counts how often `ids_N[j]` came right after
    `ids_N[i]`, `came_V` how often each token of the vocabulary came after any.
    """

    came_V: Tensor
    ids_N: Tensor
    after_NN: Tensor


def count_pairs(batches: Iterable[Batch], vocab_size: int, *, kept: int) -> Pairs:
    """Count what batches would train: each input with its target, of the `kept` most frequent."""
    inputs, targets = [], []
    for batch in batches:
        is_trained = batch.targets_BT != IGNORED
        inputs.append(batch.inputs_BT[is_trained].int())
        targets.append(batch.targets_BT[is_trained].int())
    before, after = torch.cat(inputs).numpy(), torch.cat(targets).numpy()
    came_V = np.bincount(after, minlength=vocab_size)
    ids_N = np.sort(np.argsort(-came_V, kind="stable")[:kept])
    places_V = np.full(vocab_size, -1)
    places_V[ids_N] = np.arange(len(ids_N))
    rows, columns = places_V[before], places_V[after]
    is_kept = (rows >= 0) & (columns >= 0)
    cells = rows[is_kept] * len(ids_N) + columns[is_kept]
    counts = np.bincount(cells, minlength=len(ids_N) ** 2).reshape(len(ids_N), -1)
    return Pairs(
        torch.from_numpy(came_V).float(), torch.from_numpy(ids_N), torch.from_numpy(counts).float()
    )
