"""The first key that each query sees -> who sees whom, in blocks, and attention that follows it.

On a GPU a mask of numbers or booleans keeps torch from its fast kernels and grows with the square
of a row. A block mask says which blocks of keys a block of queries sees in part, which whole and
which not at all; the rest follows from one number a query. The kernel is FlexAttention's (arXiv
2412.05496), generated when first needed.

    B batch, T time, Q blocks of queries, K blocks of keys, N heads, H head width
"""

import functools
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

SIDE = 128


def block_mask(first_BT: Tensor) -> BlockMask:
    """The mask by which each query sees the keys from `first_BT` up to its own.

    The first keys of a row never fall from one query to the next; rows that are alike may be one.
    """
    rows, time = first_BT.shape

    def sees(row: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (key >= first_BT[row % rows, query])

    starts_K = torch.arange(0, time, SIDE, device=first_BT.device)
    ends_K = (starts_K + SIDE - 1).clamp(max=time - 1)
    starts_Q1, ends_Q1 = starts_K[:, None], ends_K[:, None]
    furthest_BQ1, nearest_BQ1 = first_BT[:, starts_K, None], first_BT[:, ends_K, None]
    seen_BQK = (starts_K <= ends_Q1) & (ends_K >= furthest_BQ1)
    # What hangs over the end of a row is no whole block: torch's own masks count it so.
    is_inside_Q1 = starts_Q1 + SIDE <= time
    whole_BQK = is_inside_Q1 & (ends_K <= starts_Q1) & (starts_K >= nearest_BQ1)
    return BlockMask.from_kv_blocks(
        *_listed(seen_BQK & ~whole_BQK),
        *_listed(whole_BQK),
        BLOCK_SIZE=SIDE,
        mask_mod=sees,
        seq_lengths=(time, time),
    )


def attend_in_blocks(q_BNTH: Tensor, k_BKTH: Tensor, v_BKTH: Tensor, mask: BlockMask) -> Tensor:
    """Softmax attention (B, N, T, H) under a block mask; K are heads here."""
    # Compiled blocks take it in; by itself it would compute every score and keep it.
    is_alone = q_BNTH.device.type == "cuda" and not torch.compiler.is_compiling()
    kernel = _generated() if is_alone else flex_attention
    is_grouped = q_BNTH.shape[1] != k_BKTH.shape[1]
    found: Tensor = kernel(q_BNTH, k_BKTH, v_BKTH, block_mask=mask, enable_gqa=is_grouped)
    return found


def _listed(blocks_BQK: Tensor) -> tuple[Tensor, Tensor]:
    """How many blocks of keys each block of queries has, and which: those first, then the rest."""
    counts_BQ = blocks_BQK.sum(dim=-1, dtype=torch.int32)
    order_BQK = blocks_BQK.to(torch.int8).argsort(dim=-1, descending=True, stable=True)
    return counts_BQ[:, None], order_BQK.to(torch.int32)[:, None]


@functools.cache
def _generated() -> Any:
    return torch.compile(flex_attention)
