"""Queries, keys, values and who sees whom -> what each query finds, by the fastest way here.

torch's own kernel nearly always. On a CPU in bfloat16 its backward pass takes up to six times as
long as plain products over short rows (measured at 64 to 512 tokens), so that training takes those.

    B batch, N heads, K key and value heads, T queries, S keys, H head width
"""

import torch
import torch.nn.functional as F
from torch import Tensor

# Beyond this the scores of plain products outgrow the caches.
LONGEST_PLAIN = 512
# Queries at a time: the keys behind the last of them are left out, up to half of all products.
BLOCK = 128


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


def attend(
    q_BNTH: Tensor, k_BKSH: Tensor, v_BKSH: Tensor, mask: Tensor | None, *, is_causal: bool
) -> Tensor:
    """Softmax attention (B, N, T, H).

    A mask of numbers is added to the scores of plain products; it lets no query see a later key.
    """
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
