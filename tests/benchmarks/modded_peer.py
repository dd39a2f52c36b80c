"""A recipe in the style of the modded-nanogpt speedrun, for `quality_peer.py`.

Written from what is told of its records: rotary positions, norms without weights, queries and keys
normed, squared ReLU, projections that begin at zero, logits capped at 15, the first embedding
mixed into every layer, values mixed with those of the first layer, skips from the first half of
the layers to the second; Muon for matrices, Adam (0.8, 0.95) for the rest, no warm-up, no
clipping, a rate that falls over the last half. Its rates are for half a million tokens a step;
here they are multiplied by `job["scale"]`.

    B batch, T time, D width, H heads, K width of a head, V vocabulary
"""

from typing import Any

import torch
import torch.nn.functional as F
from quality_peer import Recipe
from torch import Tensor, nn

# Rates of Muon, embeddings, head and scalars, and how long Muon's momentum rises, in steps.
MATRIX, EMBEDDING, HEAD, SCALAR, RISE = 0.05, 0.6, 0.008, 0.04, 300
COOLDOWN = 0.5


def modded(job: dict[str, Any], vocab_size: int) -> Recipe:
    """The model, its optimizers, and their rates."""
    model = Decoder(job["layers"], job["heads"], job["width"], job["context"], vocab_size)
    matrices = [one for one in model.blocks.parameters() if one.ndim == 2]
    scalars = [one for one in model.parameters() if one.ndim < 2]
    muon = torch.optim.Muon(matrices, lr=MATRIX, momentum=0.95, weight_decay=0.0)
    adam = torch.optim.Adam(
        [
            {"params": [model.embedding.weight], "lr": EMBEDDING},
            {"params": [model.head.weight], "lr": HEAD},
            {"params": scalars, "lr": SCALAR},
        ],
        betas=(0.8, 0.95),
        fused=True,
    )
    groups = [*muon.param_groups, *adam.param_groups]
    tops = [group["lr"] * job["scale"] for group in groups]

    def before_step(step: int, gone: float) -> None:
        for group, top in zip(groups, tops, strict=True):
            group["lr"] = top * min(1.0, (1 - gone) / COOLDOWN)
        muon.param_groups[0]["momentum"] = 0.85 + 0.10 * min(1.0, step / RISE)

    return Recipe(model, [muon, adam], before_step, clip=None)


def norm(x: Tensor) -> Tensor:
    """Root mean square norm without a weight."""
    return F.rms_norm(x, (x.shape[-1],))


class Attention(nn.Module):
    """Causal attention whose values are mixed with those of the first layer."""

    def __init__(self, heads: int, width: int) -> None:
        super().__init__()
        self.heads = heads
        self.read = nn.Linear(width, 3 * width, bias=False)
        self.write = nn.Linear(width, width, bias=False)
        self.share = nn.Parameter(torch.tensor(0.5))
        nn.init.zeros_(self.write.weight)

    def forward(
        self, x_BTD: Tensor, turn: tuple[Tensor, Tensor], first_BHTK: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """What it adds, and its values."""
        batch, time, width = x_BTD.shape
        split = (batch, time, 3, self.heads, width // self.heads)
        q_BHTK, k_BHTK, v_BHTK = self.read(x_BTD).view(split).permute(2, 0, 3, 1, 4)
        if first_BHTK is not None:
            v_BHTK = (1 - self.share) * v_BHTK + self.share * first_BHTK
        q_BHTK, k_BHTK = turned(norm(q_BHTK), turn), turned(norm(k_BHTK), turn)
        y_BHTK = F.scaled_dot_product_attention(q_BHTK, k_BHTK, v_BHTK, is_causal=True)
        return self.write(y_BHTK.transpose(1, 2).reshape(batch, time, width)), v_BHTK


class Block(nn.Module):
    """Attention and a squared ReLU, on a mix of the stream and the embedding."""

    def __init__(self, heads: int, width: int) -> None:
        super().__init__()
        self.attention = Attention(heads, width)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)
        self.mix = nn.Parameter(torch.tensor([1.0, 0.0]))
        nn.init.zeros_(self.down.weight)

    def forward(
        self, x_BTD: Tensor, x0_BTD: Tensor, turn: tuple[Tensor, Tensor], first: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The stream behind it, and the values of its attention."""
        x_BTD = self.mix[0] * x_BTD + self.mix[1] * x0_BTD
        added_BTD, values_BHTK = self.attention(norm(x_BTD), turn, first)
        x_BTD = x_BTD + added_BTD
        return x_BTD + self.down(F.relu(self.up(norm(x_BTD))).square()), values_BHTK


class Decoder(nn.Module):
    """Embedding, blocks with skips from the first half to the second, head."""

    def __init__(self, layers: int, heads: int, width: int, context: int, vocab_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, width)
        self.blocks = nn.ModuleList(Block(heads, width) for _ in range(layers))
        self.head = nn.Linear(width, vocab_size, bias=False)
        self.skips = nn.Parameter(torch.ones(layers // 2))
        nn.init.zeros_(self.head.weight)
        half = width // heads // 2
        angle = torch.outer(torch.arange(context), 10000 ** -(torch.arange(half) / half))
        self.turn = angle.cos(), angle.sin()

    def forward(self, ids_BT: Tensor, targets_BT: Tensor) -> tuple[None, Tensor]:
        """Nothing, and the mean loss: what nanoGPT's model gives."""
        x0_BTD = norm(self.embedding(ids_BT))
        x_BTD, first, kept = x0_BTD, None, []
        depth, half = len(self.blocks), len(self.skips)
        for number, block in enumerate(self.blocks):
            if number >= depth - half:
                x_BTD = x_BTD + self.skips[number - depth + half] * kept.pop()
            x_BTD, values = block(x_BTD, x0_BTD, self.turn, first)
            first = values if first is None else first
            if number < half:
                kept.append(x_BTD)
        logits = 15 * torch.tanh(self.head(norm(x_BTD)).float() / 15)
        return None, F.cross_entropy(logits.flatten(0, 1), targets_BT.flatten())


def turned(x_BHTK: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary positions: halves of a head turned by the angle of the time."""
    cos, sin = turn
    one, two = x_BHTK.chunk(2, dim=-1)
    return torch.cat((one * cos - two * sin, two * cos + one * sin), dim=-1).type_as(x_BHTK)
