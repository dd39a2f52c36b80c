"""Labelled token ids -> an embedding that says of each token what it tells of the classes.

A model that has hardly read texts like these finds out which tokens tell a class from few texts,
one step at a time, and is sure of much that is chance. Counts know at once, as naive Bayes weighs
words (Wang and Manning 2012, aclanthology.org/P12-2018, section 2). So each row of the embedding
begins with its token's evidence along a direction of each class, where the blocks find it.

    N texts, V vocabulary, C classes, D width
"""

from collections.abc import Sequence

import torch
from torch import Tensor

# So many more texts, mixed as all are, are thought to hold each token: a token of one text says
# little (Dirichlet's prior, MacKay and Peto 1995, section 3).
PRIOR = 1.0
# How large the evidence of a token is, in the mean, beside the row that it is added to. Three
# times as much, and the model hears nothing else.
STRENGTH = 0.3


def evidence(
    rows: Sequence[Sequence[int]], labels: Sequence[int], *, num_classes: int, vocab_size: int
) -> Tensor:
    """How much more often texts that hold a token are of a class than texts are, as logarithms.

    Of N texts and their classes, (V, C) in float32, of mean zero over the classes; nothing for
    tokens that never came.
    """
    held_VC = torch.zeros(vocab_size, num_classes)
    for ids, label in zip(rows, labels, strict=True):
        held_VC[list(set(ids)), label] += 1
    share_C = torch.bincount(torch.tensor(labels), minlength=num_classes) / len(labels)
    came_V1 = held_VC.sum(dim=1, keepdim=True)
    share_VC = (held_VC + PRIOR * share_C) / (came_V1 + PRIOR)
    found_VC = (share_VC / share_C.clamp(min=1 / len(labels))).clamp(min=1e-6).log()
    found_VC -= found_VC.mean(dim=1, keepdim=True)
    return torch.where(came_V1 > 0, found_VC, 0.0)


@torch.no_grad()
def plant(embedding_VD: Tensor, evidence_VC: Tensor, *, seed: int) -> None:
    """Add to each row of an embedding its token's evidence, along a direction for each class."""
    is_told_V = evidence_VC.norm(dim=1) > 0
    if not is_told_V.any():
        return
    usual = evidence_VC[is_told_V].norm(dim=1).square().mean().sqrt()
    size = STRENGTH * embedding_VD[is_told_V].norm(dim=1).median() / usual
    width, classes = embedding_VD.shape[1], evidence_VC.shape[1]
    generator = torch.Generator().manual_seed(seed)
    drawn_DC = torch.randn(width, classes, generator=generator)
    # At right angles, as long as there is room for that.
    ways_DC = torch.linalg.qr(drawn_DC).Q if classes <= width else drawn_DC / drawn_DC.norm(dim=0)
    added_VD = size.cpu() * evidence_VC @ ways_DC.T
    embedding_VD += added_VD.to(embedding_VD.device, embedding_VD.dtype)
