"""Keys and values of the tokens that a model has already seen, so that each is computed once.

Rows of different length stand flush right: slots before a row's first token are padding, which
no token sees. Slots count from the left end, positions from a row's own first token.

    B batch, T time (new tokens), S seen (slots filled), K key and value heads, H head width
"""

import torch
from torch import Tensor

from llmctl.shapes import Shape


class KVCache:
    """Room for `capacity` tokens in each of `batch` rows, filled in place from the left.

    `padding_B` is the count of padded slots at the left of each row, None where there are none.
    """

    def __init__(
        self, shape: Shape, batch: int, capacity: int, like: Tensor, padding_B: Tensor | None = None
    ) -> None:
        size = (batch, shape.num_kv_heads, capacity, shape.head_width)
        self.keys = [like.new_empty(size) for _ in range(shape.num_layers)]
        self.values = [like.new_empty(size) for _ in range(shape.num_layers)]
        self.padding_B = padding_B
        self.capacity = capacity
        self.length = 0

    def append(self, layer: int, k_BKTH: Tensor, v_BKTH: Tensor) -> tuple[Tensor, Tensor]:
        """Write a layer's new keys and values; all of that layer so far, as views."""
        time = k_BKTH.shape[2]
        keys, values = self.keys[layer], self.values[layer]
        keys.narrow(2, self.length, time).copy_(k_BKTH)
        values.narrow(2, self.length, time).copy_(v_BKTH)
        seen = self.length + time
        return keys.narrow(2, 0, seen), values.narrow(2, 0, seen)

    def advance(self, time: int) -> None:
        """Count tokens as seen, when every layer has written them."""
        self.length += time

    def remove(self, row: int) -> None:
        """Forget a row; the last one takes its place, so that no other has to move."""
        last = len(self.keys[0]) - 1
        for tensor in (*self.keys, *self.values):
            tensor[row, :, : self.length] = tensor[last, :, : self.length]
        self.keys = [keys[:last] for keys in self.keys]
        self.values = [values[:last] for values in self.values]
        if self.padding_B is not None:
            self.padding_B[row] = self.padding_B[last]
            self.padding_B = self.padding_B[:last]

    def positions(self, time: int) -> slice | Tensor:
        """The positions of the next tokens: one range for all rows, or (B, T) where they differ."""
        if self.padding_B is None:
            return slice(self.length, self.length + time)
        slots_T = torch.arange(self.length, self.length + time, device=self.padding_B.device)
        return (slots_T - self.padding_B[:, None]).clamp_(min=0)

    def mask(self, time: int, window: int | None, device: torch.device) -> Tensor | None:
        """Which slots the next tokens see, as `window_mask` does; None where plain rules do.

        The plain rules: one new token sees all, several in an empty cache see what is before them.
        """
        seen = self.length + time
        is_plain = self.length == 0 or time == 1
        if self.padding_B is None and is_plain and (window is None or seen <= window):
            return None
        mask_TS = window_mask(time, seen, window, device)
        if self.padding_B is None:
            return mask_TS
        slots_S = torch.arange(seen, device=device)
        is_token_BS = slots_S >= self.padding_B[:, None]
        # Padding sees itself: a row of the mask without any key would make NaN of its sum.
        is_self_TS = slots_S == slots_S[self.length :, None]
        return ((mask_TS & is_token_BS[:, None]) | is_self_TS)[:, None]


def window_mask(time: int, seen: int, window: int | None, device: torch.device) -> Tensor:
    """The (T, S) mask of the last `time` of `seen` tokens: each sees the `window` up to itself."""
    keys_S = torch.arange(seen, device=device)
    queries_T1 = keys_S[seen - time :, None]
    mask_TS = keys_S <= queries_T1
    if window is not None:
        mask_TS &= keys_S > queries_T1 - window
    return mask_TS
