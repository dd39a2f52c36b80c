"""Queries, keys, values and who sees whom -> what each query finds, by the fastest way here.

torch's own kernel nearly always. On a CPU in bfloat16 its backward pass takes up to six times as
long as plain products over short rows (measured at 64 to 512 tokens), so that training takes those.
On a GPU rows of several documents, or with a window, take a kernel that knows blocks: to train, or
where they are long.

    B batch, N heads, K key and value heads, T queries, S keys, H head width
"""

import functools
import shutil
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask

from llmctl.model.block_mask import attend_in_blocks, block_mask
from llmctl.model.cache import window_mask
from llmctl.shapes import Shape

Mask = Tensor | BlockMask

# Beyond this the scores of plain products outgrow the caches.
LONGEST_PLAIN = 512
# Queries at a time: the keys behind the last of them are left out, up to half of all products.
BLOCK = 128
# Where kernels for a mask are generated, and the narrowest head that they take.
GENERATING_DEVICES = frozenset({"cuda"})
NARROWEST_HEAD = 16
# Where nothing is learnt no kernel is generated for up to so many tokens: a mask of all pairs takes
# 16 MB a row.
LONGEST_WHOLE = 4096


def row_mask(time: int, shape: Shape, segments_BT: Tensor | None, like: Tensor) -> Mask | None:
    """Who sees whom in rows without a cache, as `attend` wants it for tensors `like` this.

    None where that is plainly all before.
    """
    is_plain = segments_BT is None and (shape.window is None or time <= shape.window)
    if not is_plain and takes_blocks(time, shape.head_width, like):
        return block_mask(first_seen(time, shape.window, segments_BT, like.device))
    mask = None if is_plain else whole_mask(time, shape.window, segments_BT, like.device)
    return additive(mask, time, like) if takes_products(time, like) else mask


def takes_blocks(time: int, head_width: int, like: Tensor) -> bool:
    """Whether rows of so many tokens that need a mask are better off with one in blocks."""
    is_wide = time > 1 and head_width >= NARROWEST_HEAD
    is_here = like.device.type in GENERATING_DEVICES and _has_compiler()
    return is_wide and is_here and (torch.is_grad_enabled() or time > LONGEST_WHOLE)


@functools.cache
def _has_compiler() -> bool:
    # What is generated for a GPU is launched by a few lines of C.
    return any(map(shutil.which, ("cc", "gcc", "clang")))


class Slices(Protocol):
    """Rows that several compute together, each a slice of their time.

    Around attention they trade heads for time: each finds what all queries of some heads find.
    """

    def mine(self, time: int) -> slice:
        """The slice of so much time that is computed here."""
        ...

    def to_heads(
        self, q_BTNH: Tensor, k_BTKH: Tensor, v_BTKH: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """All heads in a slice of time -> some heads in the whole of it."""
        ...

    def to_time(self, y_BTNH: Tensor) -> Tensor:
        """Some heads in the whole time -> all heads in a slice of it."""
        ...


class Parts(Protocol):
    """Matrices of which several hold a part each: some heads, some of the inner width.

    All have the same stream; what they make of it is summed.
    """

    def enter(self, x: Tensor) -> Tensor:
        """Something whole, on its way into parts: its gradient is the sum of theirs."""
        ...

    def leave(self, y: Tensor) -> Tensor:
        """The sum of what all parts gave."""
        ...


def takes_products(time: int, like: Tensor) -> bool:
    """Whether rows of so many tokens, without a cache, are better off with plain products."""
    is_short_row = 1 < time <= LONGEST_PLAIN
    is_slow_kernel = like.device.type == "cpu" and like.dtype == torch.bfloat16
    return is_short_row and is_slow_kernel and torch.is_grad_enabled()


def additive(mask: Tensor | None, time: int, like: Tensor) -> Tensor:
    """A mask as what is added to scores: zero where a query sees a key, else minus infinity."""
    if mask is None:
        return like.new_full((time, time), float("-inf")).triu_(1)
    return like.new_zeros(mask.shape).masked_fill_(~mask, float("-inf"))


def whole_mask(
    time: int, window: int | None, segments_BT: Tensor | None, device: torch.device
) -> Tensor:
    """A mask that broadcasts to B, N, T, S: a query sees what is before in window and segment."""
    mask_TS = window_mask(time, time, window, device)
    if segments_BT is None:
        return mask_TS
    seen_BTS = segments_BT[:, :, None] == segments_BT[:, None, :]
    return seen_BTS.logical_and_(mask_TS)[:, None]


def first_seen(
    time: int, window: int | None, segments_BT: Tensor | None, device: torch.device
) -> Tensor:
    """The first key (B, T) that each query sees; one row where all are alike.

    >>> first_seen(5, 2, torch.tensor([[0, 0, 1, 1, 1]]), torch.device("cpu")).tolist()
    [[0, 0, 2, 2, 3]]
    """
    slots_T = torch.arange(time, device=device)
    first_BT = torch.zeros_like(slots_T)[None]
    if segments_BT is not None:
        first_BT = slots_T - positions_within(segments_BT)
    if window is not None:
        first_BT = torch.maximum(first_BT, slots_T - window + 1)
    return first_BT


def positions_within(segments_BT: Tensor) -> Tensor:
    """The position (B, T) of each token in its own segment.

    >>> positions_within(torch.tensor([[0, 0, 1, 1, 1]])).tolist()
    [[0, 1, 0, 1, 2]]
    """
    slots_T = torch.arange(segments_BT.shape[1], device=segments_BT.device)
    begins_BT = F.pad(segments_BT[:, 1:] != segments_BT[:, :-1], (1, 0), value=True)
    return slots_T - torch.where(begins_BT, slots_T, 0).cummax(dim=1).values


def attend(
    q_BNTH: Tensor, k_BKSH: Tensor, v_BKSH: Tensor, mask: Mask | None, *, is_causal: bool
) -> Tensor:
    """Softmax attention (B, N, T, H).

    A mask of numbers is added to the scores of plain products; it lets no query see a later key.
    """
    if isinstance(mask, BlockMask):
        return attend_in_blocks(q_BNTH, k_BKSH, v_BKSH, mask)
    is_grouped = q_BNTH.shape[1] != k_BKSH.shape[1]
    if mask is None or mask.dtype == torch.bool:
        return F.scaled_dot_product_attention(
            q_BNTH, k_BKSH, v_BKSH, attn_mask=mask, is_causal=is_causal, enable_gqa=is_grouped
        )
    if is_grouped:
        group = q_BNTH.shape[1] // k_BKSH.shape[1]
        k_BKSH = k_BKSH.repeat_interleave(group, dim=1)
        v_BKSH = v_BKSH.repeat_interleave(group, dim=1)
    q_BNTH = q_BNTH * q_BNTH.shape[-1] ** -0.5
    found: list[Tensor] = []
    for start in range(0, q_BNTH.shape[2], BLOCK):
        stop = start + BLOCK
        scores_BNTS = q_BNTH[:, :, start:stop] @ k_BKSH[:, :, :stop].mT
        shares_BNTS = torch.softmax(scores_BNTS + mask[..., start:stop, :stop], dim=-1)
        found.append(shares_BNTS @ v_BKSH[:, :, :stop])
    return torch.cat(found, dim=2)
