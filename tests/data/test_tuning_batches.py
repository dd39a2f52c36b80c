from collections import Counter

import torch

from llmctl.data.batches import IGNORED
from llmctl.data.chat_batches import ChatBatches, packed
from llmctl.data.class_batches import ClassBatches, LabelledText, More, Noise
from llmctl.data.template import Rendered
from llmctl.model.transformer import Transformer, fresh
from llmctl.shapes import named_shape
from llmctl.train.objectives import next_token

TEXTS = [LabelledText([index] * (1 + index % 37), torch.eye(3)[index % 3]) for index in range(500)]
LENGTHS = [5, 9, 3, 14, 2, 7, 11, 4]


def conversation(length: int, begin: int) -> Rendered:
    ids = [(begin * 31 + place * 7) % 60 for place in range(length)]
    return Rendered(ids, [place >= length // 2 for place in range(length)], (1,))


CONVERSATIONS = [conversation(length, place) for place, length in enumerate(LENGTHS)]


def chat_batches(*, pack: bool, rows: int = 8) -> ChatBatches:
    return ChatBatches(CONVERSATIONS, context=16, rows=rows, pad_id=0, seed=1, pack=pack)


def model() -> Transformer:
    shape = named_shape("nano", vocab_size=64, num_layers=2, width=32, num_heads=2, context=16)
    found = fresh(shape, 0)
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return found


def loss_and_gradients(
    model: Transformer, batches: ChatBatches, micro: int
) -> tuple[float, list[torch.Tensor]]:
    """As the Trainer accumulates: summed losses over the targets of the whole batch."""
    model.zero_grad()
    batch = batches.gathered(batches.packs)
    total = 0.0
    for start in range(0, batch.rows, micro):
        loss = next_token(model, batch.micro(start, start + micro)) / batch.trained
        loss.backward()
        total += float(loss.detach())
    return total, [one.grad.clone() for one in model.parameters() if one.grad is not None]


def test_an_epoch_visits_every_text_once_in_another_order_than_the_one_before() -> None:
    batches = ClassBatches(TEXTS, rows=16, pad_id=0, seed=3)
    steps = batches.steps_per_epoch

    def visited(epoch: int) -> list[int]:
        found: list[int] = []
        for step in range(epoch * steps, (epoch + 1) * steps):
            found += batches.batch(step).inputs[:, 0].tolist()
        return found

    first, second = visited(0), visited(1)

    assert sorted(first) == sorted(second) == list(range(500))
    assert first != second


def test_a_batch_is_a_function_of_the_step_alone() -> None:
    batches = ClassBatches(TEXTS, rows=16, pad_id=0, seed=3)
    forwards = [batches.batch(step).inputs for step in range(40)]

    backwards = [batches.batch(step).inputs for step in reversed(range(40))]

    assert all(map(torch.equal, forwards, reversed(backwards)))


def test_texts_of_like_length_stand_together() -> None:
    batches = ClassBatches(TEXTS, rows=16, pad_id=0, seed=3)
    found = [batches.batch(step) for step in range(batches.steps_per_epoch)]

    read = sum(batch.tokens for batch in found)

    assert read < 1.1 * sum(len(text.ids) for text in TEXTS)


def test_noise_leaves_ends_alone_and_is_a_function_of_the_step() -> None:
    long = [LabelledText([7] * 20, torch.eye(3)[0])] * 32
    batches = ClassBatches(long, rows=32, pad_id=0, seed=3, noise=Noise(0.5, 60))

    inputs = batches.batch(4).inputs

    changed = (inputs != 7).float().mean(dim=0)
    assert changed[0] == changed[-1] == 0
    assert 0.3 < changed[1:-1].mean() < 0.7
    assert inputs.equal(batches.batch(4).inputs)
    assert not inputs.equal(batches.batch(5).inputs)


def test_more_texts_stand_beside_the_given_ones_and_are_others_in_each_epoch() -> None:
    half = torch.tensor([0.5, 0.5, 0.0])
    more = More(250, lambda epoch: [LabelledText([1000 + epoch] * 9, half)] * 250)
    batches = ClassBatches(TEXTS, rows=16, pad_id=0, seed=3, more=more)
    steps = batches.steps_per_epoch

    second = [batches.batch(step) for step in range(steps, 2 * steps)]

    begins = Counter(begin for batch in second for begin in batch.inputs[:, 0].tolist())
    assert begins == Counter([*range(500), *[1001] * 250])
    shares = torch.cat([batch.shares_BC for batch in second])
    assert int((shares[:, 0] == 0.5).sum()) == 250


def test_memory_is_probed_with_full_batches_though_the_given_texts_are_few() -> None:
    few = [LabelledText([7] * length, torch.eye(2)[0]) for length in (3, 9, 5)]
    more = More(20, lambda _: [LabelledText([8] * 9, torch.eye(2)[1])] * 20)
    batches = ClassBatches(few, rows=12, pad_id=0, seed=0, more=more)

    found = [batches.batch(step).tokens for step in range(batches.steps_per_epoch)]

    assert batches.longest().rows == 12
    assert batches.longest().tokens >= max(found)


def test_packing_leaves_no_conversation_out_and_no_row_too_long() -> None:
    rows = packed(LENGTHS, 16)

    assert Counter(one for row in rows for one in row) == Counter(range(len(LENGTHS)))
    assert max(sum(LENGTHS[one] for one in row) for row in rows) <= 16
    assert len(rows) < len(LENGTHS)


def test_the_loss_of_packed_conversations_is_that_of_each_alone() -> None:
    torch.manual_seed(0)
    network = model()

    packed_loss, packed_gradients = loss_and_gradients(network, chat_batches(pack=True), 8)
    alone_loss, alone_gradients = loss_and_gradients(network, chat_batches(pack=False), 8)

    # Float32 sums in another order: a millionth of the loss.
    assert abs(packed_loss - alone_loss) < 1e-5
    for ours, theirs in zip(packed_gradients, alone_gradients, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_the_loss_does_not_depend_on_the_micro_batch() -> None:
    torch.manual_seed(0)
    network = model()

    whole, _ = loss_and_gradients(network, chat_batches(pack=False), 8)
    pieces, _ = loss_and_gradients(network, chat_batches(pack=False), 3)

    assert abs(whole - pieces) < 1e-5


def test_answers_alone_are_trained() -> None:
    batch = chat_batches(pack=False).in_order()[0]

    trained = (batch.targets_BT != IGNORED).sum(dim=1).tolist()

    # The first of an answer's tokens is the target of the last of the question's.
    expected = [sum(CONVERSATIONS[pack[0]].trained) for pack in chat_batches(pack=False).packs]
    assert trained == expected
    assert batch.trained == sum(expected)


def test_an_epoch_of_conversations_visits_each_once() -> None:
    batches = chat_batches(pack=False, rows=3)

    found = [batches.batch(step) for step in range(batches.steps_per_epoch)]

    first = [begin for batch in found for begin in batch.inputs_BT[:, 0].tolist()]
    assert sorted(first) == sorted(one.ids[0] for one in CONVERSATIONS)


def test_no_batch_is_larger_than_the_longest_by_which_memory_is_probed() -> None:
    # The long one leaves its row less full than the short ones fill theirs.
    talks = [conversation(length, 0) for length in (12, 9, 9, 9, 9)]
    chats = ChatBatches(talks, context=16, rows=1, pad_id=0, seed=0)
    texts = ClassBatches(TEXTS, rows=8, pad_id=0, seed=0)

    for batches in (chats, texts):
        largest = batches.longest()
        found = [batches.batch(step).tokens for step in range(3 * batches.steps_per_epoch)]
        assert largest.rows == batches.rows
        assert max(found) <= largest.tokens
