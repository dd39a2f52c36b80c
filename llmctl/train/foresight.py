"""Counts of pairs of tokens -> an embedding and a head that foresee the next token.

A network whose blocks add nothing yet, which is how ours begin, is embedding, norm and head alone:
a bigram model of the rank of its width. Its best weights need no training: they are the singular
vectors of the counts (Levy and Goldberg 2014, "Neural word embedding as implicit matrix
factorization", section 3), so that training begins where it would come to after hundreds of
steps, and goes on from there to what lies further back than a token.
    V vocabulary, D width, N the most frequent tokens, K rank
"""

import math

import torch
from torch import Tensor

from llmctl.data.pairs import Pairs
from llmctl.model.device import one_thread

# Each token is smoothed as though it had been followed so often by what usually comes (Dirichlet's
# prior, MacKay and Peto 1995, section 3).
PRIOR = 300.0
# The error of a pair counts with this power of how frequent its two tokens are, where even the
# rarest have a share of the mean.
FREQUENCY_POWER, LEAST_SHARE = 0.5, 0.05
# Rows of the embedding are as large as those of this share of tokens are by themselves.
USUAL = 0.9
# More singular vectors than these tell little, and take long.
MOST_RANK = 512
# How large an embedding is, as the root of its mean square.
SIZE = 1.0


@one_thread()
def foreseeing(pairs: Pairs, width: int, seed: int) -> tuple[Tensor, Tensor]:
    """An embedding and a head, (V, D) each in float32, of a model with RMSNorm before its head."""
    generator = torch.Generator().manual_seed(seed)
    share_V = (pairs.came_V + 0.5) / (pairs.came_V + 0.5).sum()
    features_NK, answers_NK = _factors(pairs, share_V[pairs.ids_N], width - 2, seed)
    # Some tokens are followed by few others only, and their rows are large: a norm takes no more.
    sizes_N = features_NK.norm(dim=1)
    most = float(sizes_N.quantile(USUAL)) or 1.0
    features_NK *= (most / sizes_N.clamp(min=most))[:, None]
    embedding_VD = torch.zeros(len(share_V), width)
    head_VD = torch.zeros(len(share_V), width)
    rank = features_NK.shape[1]
    embedding_VD[pairs.ids_N, :rank] = features_NK
    head_VD[pairs.ids_N, :rank] = answers_NK
    # One direction is the same in all tokens and holds how often each comes after any; another
    # makes all rows of one size, so that the norm changes none.
    embedding_VD[:, -2] = (most**2 - embedding_VD.square().sum(1)).clamp(min=0).sqrt()
    embedding_VD[:, -1] = most
    head_VD[:, -1] = (share_V.log() - share_V.log().mean()) / most
    # No axis is to stand out, where rates are by weight and numbers have few bits.
    turn_DD = torch.linalg.qr(torch.randn(width, width, generator=generator)).Q
    size = most * math.sqrt(2 / width)
    return embedding_VD @ turn_DD * (SIZE / size), head_VD @ turn_DD * size


def _factors(pairs: Pairs, share_N: Tensor, most_rank: int, seed: int) -> tuple[Tensor, Tensor]:
    """Two matrices (N, K) whose product is log p(after | before) - log p(after), nearly."""
    before_N = pairs.after_NN.sum(1)
    weight_N = _weight(before_N / before_N.sum().clamp(min=1))
    answer_weight_N = _weight(share_N)
    excess_NN = torch.log1p(pairs.after_NN / (PRIOR * share_N))
    excess_NN *= weight_N[:, None] * answer_weight_N
    rank = min(most_rank, MOST_RANK, len(share_N))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        left, values, right = torch.svd_lowrank(excess_NN, q=min(rank + 16, len(share_N)), niter=1)
    features_NK = left[:, :rank] * values[:rank] / weight_N[:, None]
    return features_NK, right[:, :rank] / answer_weight_N[:, None]


def _weight(share_N: Tensor) -> Tensor:
    return (share_N * len(share_N)).clamp(min=LEAST_SHARE) ** FREQUENCY_POWER
