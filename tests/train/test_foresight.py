"""Embedding and head begin as the bigram model that the counts of pairs say."""

import numpy as np
import torch
from torch.nn import functional as F

from llmctl.data.batches import IGNORED, Batch
from llmctl.data.pairs import count_pairs
from llmctl.model.transformer import fresh
from llmctl.shapes import Shape
from llmctl.train.foresight import foreseeing
from llmctl.train.recipe import Budget, derive

VOCABULARY, KINDS, WIDTH = 320, 12, 32
# Tokens of a kind, and how likely each kind is after each; half of the vocabulary never comes.
MEMBERS = VOCABULARY // 2 // KINDS
FOLLOW = np.random.default_rng(0).dirichlet(np.full(KINDS, 0.2), size=KINDS)


def shape(**traits: object) -> Shape:
    given = {"family": "qwen3", "vocab_size": VOCABULARY, "width": WIDTH, "num_layers": 2,
             "num_heads": 2, "num_kv_heads": 2, "head_width": 16, "mlp_width": 64, "context": 64,
             "tied_head": False}  # fmt: skip
    return Shape(**(given | traits))  # type: ignore[arg-type]


def kinds_of_tokens(random: np.random.Generator, length: int) -> np.ndarray:
    """A text whose next token depends on the kind of the last one alone."""
    kinds = [0]
    for _ in range(length - 1):
        kinds.append(int(random.choice(KINDS, p=FOLLOW[kinds[-1]])))
    return np.array(kinds) * MEMBERS + random.integers(MEMBERS, size=length)


def batch_of_text(ids: np.ndarray) -> Batch:
    rows = torch.from_numpy(ids[: len(ids) // 65 * 65].reshape(-1, 65))
    return Batch(rows[:, :-1], rows[:, 1:], None, rows[:, 1:].numel())


def test_pairs_are_counted_as_they_would_be_trained() -> None:
    inputs = torch.tensor([[5, 3, 5, 3], [7, 5, 3, 5]])
    targets = torch.tensor([[3, 5, 3, IGNORED], [IGNORED, 3, 5, 7]])

    pairs = count_pairs([Batch(inputs, targets, None, 6)], 10, kept=2)

    assert pairs.came_V.tolist() == [0, 0, 0, 3, 0, 2, 0, 1, 0, 0]
    assert pairs.ids_N.tolist() == [3, 5]
    assert pairs.after_NN.tolist() == [[0, 2], [3, 0]]


def test_a_model_that_was_never_trained_foresees_what_pairs_tell() -> None:
    random = np.random.default_rng(1)
    learnt, held_out = kinds_of_tokens(random, 60_000), kinds_of_tokens(random, 8_000)
    model = fresh(shape(), seed=0)
    blind = next_token_loss(model, held_out)
    pairs = count_pairs([batch_of_text(learnt)], VOCABULARY, kept=VOCABULARY)

    embedding, head = foreseeing(pairs, WIDTH, seed=0)
    model.load_state_dict({"embedding.weight": embedding, "head.weight": head}, strict=False)

    frequency = pairs.came_V + 0.5
    by_frequency = F.cross_entropy(
        (frequency / frequency.sum()).log().expand(len(held_out) - 1, -1),
        torch.from_numpy(held_out[1:]),
    ).item()
    before, after = held_out[:-1] // MEMBERS, held_out[1:] // MEMBERS
    best = float(np.mean(-np.log(FOLLOW[before, after] / MEMBERS)))
    assert by_frequency < blind - 0.3
    reached = next_token_loss(model, held_out)
    assert reached < best + 0.4 * (by_frequency - best)


def next_token_loss(model: torch.nn.Module, ids: np.ndarray) -> float:
    batch = batch_of_text(ids)
    with torch.no_grad():
        logits = model(batch.inputs_BT)
    return F.cross_entropy(logits.flatten(0, 1), batch.targets_BT.flatten()).item()


def test_rare_tokens_that_were_not_paired_are_still_foreseen_by_how_often_they_come() -> None:
    learnt = kinds_of_tokens(np.random.default_rng(2), 20_000)
    pairs = count_pairs([batch_of_text(learnt)], VOCABULARY, kept=64)

    embedding, head = foreseeing(pairs, WIDTH, seed=0)
    model = fresh(shape(), seed=0)
    model.load_state_dict({"embedding.weight": embedding, "head.weight": head}, strict=False)

    unpaired = [one for one in range(VOCABULARY) if one not in set(pairs.ids_N.tolist())]
    with torch.no_grad():
        logits = model(torch.tensor([[unpaired[0]]]))[0, 0]
    share = (pairs.came_V + 0.5) / (pairs.came_V + 0.5).sum()
    difference = logits.log_softmax(0) - share.log()
    assert difference[unpaired].abs().max() < 0.05


def test_the_start_is_the_same_from_a_seed_and_leaves_torchs_generator_alone() -> None:
    pairs = count_pairs(
        [batch_of_text(kinds_of_tokens(np.random.default_rng(3), 5_000))], VOCABULARY, kept=200
    )
    state = torch.get_rng_state()

    first, second = foreseeing(pairs, WIDTH, seed=4), foreseeing(pairs, WIDTH, seed=4)

    assert all(map(torch.equal, first, second))
    assert torch.equal(torch.get_rng_state(), state)


def test_only_shapes_that_can_gain_from_it_begin_with_counts() -> None:
    def init(**traits: object) -> str:
        budget = Budget(steps=100)
        return derive(shape(**traits), budget, text_tokens=10**6).init

    many = {"vocab_size": 8192}
    assert init(**many) == "bigram"
    assert init(**many, tied_head=True) == "random"
    assert init(**many, norm="layer") == "random"
    assert init(vocab_size=259) == "random"
    going_on = derive(shape(**many), Budget(), text_tokens=10**6, is_continued=True)
    assert going_on.init == "random"
