"""Logits -> the next token: temperature, top-k, top-p and min-p, each a pure function.

All compute in float32, and leave out a token by making its logit minus infinity. The order is
that of Hugging Face's `generate`: temperature, top-k, top-p, min-p.

    B batch, V vocabulary (or the k tokens that are left of it)
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from llmctl.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How to write on from a prompt; temperature 0 takes the likeliest token each time.

    The text ends before the first of the strings in `stop`. The seed decides all draws.
    Raises ConfigError for what no sampling can be.
    """

    max_tokens: int = 100
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0
    stop: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        limits = {
            "max_tokens": (self.max_tokens >= 1, "at least 1"),
            "temperature": (0 <= self.temperature < float("inf"), "0 or more"),
            "top_k": (self.top_k is None or self.top_k >= 1, "at least 1"),
            "top_p": (0 < self.top_p <= 1, "above 0 and at most 1"),
            "min_p": (0 <= self.min_p <= 1, "between 0 and 1"),
            "stop": (all(self.stop), "no empty text"),
        }
        for name, (is_met, wanted) in limits.items():
            if not is_met:
                raise ConfigError(
                    f"sampling with {name} = {getattr(self, name)} makes no sense",
                    hint=f"it must be {wanted}",
                )


def next_ids(logits_BV: Tensor, sampling: Sampling, uniforms_B: Tensor) -> Tensor:
    """The next token (B) of each row; `uniforms_B` in [0, 1) decides, one number a row."""
    if sampling.temperature == 0:
        return logits_BV.argmax(dim=-1)
    logits_BV = heated(logits_BV, sampling.temperature)
    ids_BV = None
    if sampling.top_k is not None:
        logits_BV, ids_BV = logits_BV.topk(min(sampling.top_k, logits_BV.shape[-1]))
    if sampling.top_p < 1:
        logits_BV = top_p(logits_BV, sampling.top_p)
    if sampling.min_p > 0:
        logits_BV = min_p(logits_BV, sampling.min_p)
    places_B = drawn(logits_BV, uniforms_B)
    return places_B if ids_BV is None else ids_BV.gather(-1, places_B[:, None])[:, 0]


def heated(logits_BV: Tensor, temperature: float) -> Tensor:
    """Logits over a temperature: below 1 likely tokens gain, above 1 unlikely ones do."""
    logits_BV = logits_BV.float()
    # From the highest down, so that no temperature is low enough to overflow.
    return (logits_BV - logits_BV.amax(dim=-1, keepdim=True)) / temperature


def top_p(logits_BV: Tensor, share: float) -> Tensor:
    """Keep the likeliest tokens until they hold `share` of the probability (arXiv 1904.09751)."""
    ordered_BV, order_BV = logits_BV.float().sort(dim=-1, descending=True, stable=True)
    held_BV = ordered_BV.softmax(dim=-1)
    is_beyond_BV = held_BV.cumsum(dim=-1) - held_BV >= share
    # Rounding may say so of the first as well, which always stays.
    is_beyond_BV[..., 0] = False
    return logits_BV.masked_fill(is_beyond_BV.scatter(-1, order_BV, is_beyond_BV), -torch.inf)


def min_p(logits_BV: Tensor, share: float) -> Tensor:
    """Keep tokens at least `share` times as likely as the likeliest (arXiv 2407.01082)."""
    probabilities_BV = logits_BV.float().softmax(dim=-1)
    least_B1 = share * probabilities_BV.amax(dim=-1, keepdim=True)
    return logits_BV.masked_fill(probabilities_BV < least_B1, -torch.inf)


def drawn(logits_BV: Tensor, uniforms_B: Tensor) -> Tensor:
    """A token (B) of each row, drawn by its probability: where the running sum passes a uniform.

    The numbers come from outside, so that the same ones give the same tokens on every device.
    """
    sums_BV = logits_BV.float().softmax(dim=-1).cumsum(dim=-1)
    # A float32 below 1 times the total is rounded to less than the total, never past every token.
    aims_B1 = uniforms_B[:, None] * sums_BV[:, -1:]
    return torch.searchsorted(sums_BV, aims_B1, right=True)[:, 0]
