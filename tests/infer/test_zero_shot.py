"""A language model is asked for classes by name: what it says anyway counts for nothing."""

import numpy as np
import pytest
import torch

from llmctl.data.tokenizer_training import byte_tokenizer
from llmctl.infer.engine import Engine
from llmctl.infer.zero_shot import ASKING, ZeroShot
from llmctl.model.transformer import fresh
from llmctl.shapes import Size, shape_of

CLASSES = ("aaa", "zzz")


@pytest.fixture
def engine() -> Engine:
    """A model of random weights, which finds the letter `a` far likelier than any other."""
    tokenizer = byte_tokenizer()
    size = Size(2, 64, 32, 48)
    shape = shape_of(size, vocab_size=tokenizer.vocab_size, family="gpt2", tied_head=False)
    model = fresh(shape, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        (letter,) = tokenizer.encode("a")
        model.norm.bias.fill_(1.0)
        model.head_weight[letter] += 0.1
    return Engine(model, tokenizer, rows=3)


def test_what_a_text_makes_likelier_wins_and_not_what_is_likely(engine: Engine) -> None:
    texts = ["", "one text", "another one"]
    nats = np.array(
        [
            [engine.log_likelihood(f"{text}{ASKING}", f" {name}").nats for name in CLASSES]
            for text in texts
        ]
    )

    found = ZeroShot(engine, CLASSES).logits(texts)

    assert (nats[:, 0] > nats[:, 1]).all()
    np.testing.assert_allclose(found, nats - nats[:1], atol=1e-4)
    assert (found[1:, 0] != found[1:, 1]).all()
