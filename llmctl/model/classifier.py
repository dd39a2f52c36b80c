"""Token ids -> logits of classes: a decoder with a head on the last token of each text.

Texts stand flush left and are padded at the right, where no token of theirs can see, so that a
text gets the same logits however it is padded. The form on disk is Hugging Face's
`*ForSequenceClassification`, whose head has no bias.

    B batch, T time, D width, C classes
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from llmctl.model.transformer import Transformer
from llmctl.shapes import Shape

# Rows of like length are worked on together, as many as hold so many tokens.
TOKENS_AT_ONCE = 8192


class Padded(NamedTuple):
    """Texts as one rectangle of ids (B, T), and the length of each."""

    ids_BT: Tensor
    lengths_B: Tensor


class Classifier(nn.Module):
    """A decoder without its output matrix, and a head (C, D) in its place."""

    def __init__(self, shape: Shape, num_classes: int) -> None:
        super().__init__()
        # A tied head is a head that takes no memory; here nobody computes with it.
        self.shape = replace(shape, tied_head=True)
        self.decoder = Transformer(self.shape)
        self.score = nn.Linear(shape.width, num_classes, bias=False)

    @property
    def num_classes(self) -> int:
        """How many classes it tells apart."""
        return self.score.out_features

    @property
    def blocks(self) -> nn.ModuleList:
        """The layers of the decoder."""
        return self.decoder.blocks

    def forward(self, ids_BT: Tensor, lengths_B: Tensor) -> Tensor:
        """The logits (B, C) of texts."""
        return self.judge(self.decoder.hidden(ids_BT), lengths_B)

    def judge(self, x_BTD: Tensor, lengths_B: Tensor) -> Tensor:
        """The logits (B, C) of the states of texts: of the last token of each."""
        rows_B = torch.arange(len(lengths_B), device=x_BTD.device)
        return self.score(x_BTD[rows_B, lengths_B - 1])


def classifier_from(decoder: Transformer, num_classes: int, *, seed: int) -> Classifier:
    """A classifier on top of a language model, whose weights it takes; the head is drawn anew."""
    shape = decoder.shape
    with torch.device("meta"):
        model = Classifier(shape, num_classes)
    decoder.head, decoder.shape = None, model.shape
    model.decoder = decoder
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.empty(num_classes, shape.width).normal_(0.0, 0.02, generator=generator)
    weight = decoder.embedding.weight
    model.score.weight = nn.Parameter(drawn.to(weight.device, weight.dtype))
    return model


def padded(rows: Sequence[Sequence[int]], pad_id: int, device: torch.device | str) -> Padded:
    """Rows of ids as a rectangle, padded at the right."""
    longest = max(map(len, rows))
    ids = [[*row, *[pad_id] * (longest - len(row))] for row in rows]
    return Padded(
        torch.tensor(ids, device=device), torch.tensor([len(row) for row in rows], device=device)
    )


@torch.inference_mode()
def class_logits(model: Classifier, rows: Sequence[Sequence[int]], pad_id: int) -> Tensor:
    """The float32 logits (N, C) of N texts, in their order."""
    weight = model.score.weight
    found = torch.empty(len(rows), model.num_classes)
    for some in alike(rows):
        texts = padded([rows[index] for index in some], pad_id, weight.device)
        found[some] = model(*texts).float().cpu()
    return found


def told_cut(cut: int, texts: int, context: int) -> str:
    """What is to be said of texts that a context does not hold to their end."""
    return f"texts read no further than {context:,} tokens, all that fit: {cut:,} of {texts:,}"


def alike(rows: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """The indices of all rows, those of like length together."""
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
    while order:
        # The longest is the last, and decides how many fit.
        count = 1
        while count < len(order) and (count + 1) * len(rows[order[count]]) <= TOKENS_AT_ONCE:
            count += 1
        yield order[:count]
        order = order[count:]
