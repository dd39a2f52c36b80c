"""Masks in blocks, which GPUs take: who sees whom, what is found and learnt, as with a whole mask.

torch computes FlexAttention on a CPU, too, but refuses gradients there, though its plain form has
them: these tests lift the refusal. The kernel that a GPU generates is another: see `gpu` below.
"""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.attention import flex_attention
from torch.nn.attention.flex_attention import BlockMask

from llmctl.model import attention
from llmctl.model.attention import LONGEST_WHOLE, attend, first_seen, row_mask, whole_mask
from llmctl.model.block_mask import SIDE, block_mask
from llmctl.model.transformer import Transformer, fresh
from llmctl.shapes import Size, shape_of
from llmctl.train.recompute import recompute

CPU = torch.device("cpu")
TIME = 2 * SIDE + 37
# A long document with the end of one before it and the beginnings of others; one alone; many.
SEGMENTS = torch.stack(
    [
        (torch.arange(TIME) >= 5).long() + (torch.arange(TIME) >= 2 * SIDE) * 1,
        torch.zeros(TIME, dtype=torch.long),
        torch.arange(TIME) // 10,
    ]
)
# Sums in float32 in another order.
TOLERANCE = {"atol": 3e-6, "rtol": 1e-5}


@pytest.fixture
def _gradients_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(flex_attention, "_validate_device", lambda *_: None)
    monkeypatch.setattr(flex_attention, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True)
    monkeypatch.setattr(attention, "GENERATING_DEVICES", frozenset({"cpu"}))
    yield
    torch.compiler.reset()


@pytest.mark.parametrize("window", [None, 1, 20, SIDE, 200])
@pytest.mark.parametrize("has_segments", [False, True])
def test_blocks_are_counted_whole_only_where_every_query_sees_every_key(
    window: int | None, has_segments: bool
) -> None:
    segments = SEGMENTS if has_segments else None
    whole = whole_mask(TIME, window, segments, CPU).expand(3, 1, TIME, TIME)

    mask = block_mask(first_seen(TIME, window, segments, CPU).expand(3, TIME))

    edge = -TIME % SIDE
    tiles = torch.nn.functional.pad(whole, (0, edge, 0, edge)).unfold(2, SIDE, SIDE)
    seen = tiles.unfold(3, SIDE, SIDE).sum(dim=(-2, -1))
    assert torch.equal(mask.to_dense().bool(), seen > 0)
    assert mask.full_kv_num_blocks is not None
    assert mask.full_kv_num_blocks.sum() == (seen == SIDE * SIDE).sum()


def found_and_learnt(
    kv_heads: int, window: int | None, segments: Tensor | None
) -> list[tuple[Tensor, ...]]:
    """What attention finds, and its gradients: by a mask in blocks, and by a whole one."""
    torch.manual_seed(0)
    queries = torch.randn(3, 4, TIME, 16, requires_grad=True)
    keys, values = (torch.randn(3, kv_heads, TIME, 16, requires_grad=True) for _ in range(2))
    slope = torch.randn(3, 4, TIME, 16)
    masks = (
        block_mask(first_seen(TIME, window, segments, queries.device)),
        whole_mask(TIME, window, segments, queries.device),
    )
    found: list[tuple[Tensor, ...]] = []
    for mask in masks:
        y = attend(queries, keys, values, mask, is_causal=False)
        found.append((y, *torch.autograd.grad(y, (queries, keys, values), slope)))
    return found


@pytest.mark.usefixtures("_gradients_on_a_cpu")
@pytest.mark.parametrize(
    ("kv_heads", "window", "has_segments"), [(4, None, True), (2, 20, True), (2, 20, False)]
)
def test_attention_in_blocks_finds_and_learns_what_a_whole_mask_does(
    kv_heads: int, window: int | None, has_segments: bool
) -> None:
    segments = SEGMENTS if has_segments else None

    for blocks, whole in zip(*found_and_learnt(kv_heads, window, segments), strict=True):
        torch.testing.assert_close(blocks, whole, **TOLERANCE)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(
    ("kv_heads", "window", "has_segments"), [(4, None, True), (2, 20, True), (2, 20, False)]
)
def test_the_kernel_of_a_gpu_finds_and_learns_what_a_whole_mask_does(
    kv_heads: int, window: int | None, has_segments: bool
) -> None:
    segments = SEGMENTS.cuda() if has_segments else None

    with torch.device("cuda"):
        blocks, whole = found_and_learnt(kv_heads, window, segments)

    # A GPU's products may round to ten bits.
    for one, other in zip(blocks, whole, strict=True):
        torch.testing.assert_close(one, other, atol=1e-2, rtol=1e-2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_reads_a_long_row_of_documents_without_a_mask_of_all_pairs() -> None:
    time = 2 * LONGEST_WHOLE
    model = fresh(shape_of(Size(1, 64, 16, time), vocab_size=40, family="llama"), 0, device="cuda")
    ids = torch.zeros(1, time, dtype=torch.long, device="cuda")

    with torch.no_grad():
        model.hidden(ids, segments_BT=torch.arange(time, device="cuda")[None] // 500)

    assert torch.cuda.max_memory_allocated() < time**2


@pytest.mark.usefixtures("_gradients_on_a_cpu")
def test_only_training_and_long_rows_that_need_a_mask_take_blocks() -> None:
    shape = shape_of(Size(1, 64, 16, TIME), vocab_size=40, family="llama")
    narrow = shape_of(Size(1, 64, 8, TIME), vocab_size=40, family="llama")
    windowed = replace(shape, window=20)
    like = torch.empty(0)

    assert isinstance(row_mask(TIME, shape, SEGMENTS, like), BlockMask)
    assert isinstance(row_mask(TIME, windowed, None, like), BlockMask)
    assert row_mask(TIME, shape, None, like) is None
    assert isinstance(row_mask(TIME, narrow, SEGMENTS, like), Tensor)
    with torch.no_grad():
        assert isinstance(row_mask(TIME, shape, SEGMENTS, like), Tensor)
        long = torch.arange(LONGEST_WHOLE + 1)[None] // 1000
        assert isinstance(row_mask(LONGEST_WHOLE + 1, shape, long, like), BlockMask)


def losses_and_gradients(model: Transformer, segments: Tensor | None) -> list[Tensor]:
    ids = torch.randint(1, 40, (3, TIME), generator=torch.Generator().manual_seed(0))
    loss = model(ids, segments_BT=segments).logsumexp(-1).mean()
    return [loss, *torch.autograd.grad(loss, list(model.parameters()))]


@pytest.mark.usefixtures("_gradients_on_a_cpu")
@pytest.mark.parametrize(("window", "how"), [(20, "none"), (None, "selective"), (None, "full")])
def test_a_model_learns_the_same_from_packed_rows(window: int | None, how: str) -> None:
    shape = shape_of(Size(2, 64, 16, TIME), vocab_size=40, family="llama", window=window)
    model = fresh(shape, 0)
    segments = SEGMENTS if window is None else None

    recompute(model, how)
    blocks = losses_and_gradients(model, segments)
    attention.GENERATING_DEVICES = frozenset()
    whole = losses_and_gradients(model, segments)

    for one, other in zip(blocks, whole, strict=True):
        torch.testing.assert_close(one, other, **TOLERANCE)


# Of torch's tracer itself.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.usefixtures("_gradients_on_a_cpu")
def test_a_compiled_model_takes_the_documents_of_every_batch_without_compiling_anew() -> None:
    model = fresh(shape_of(Size(1, 64, 16, TIME), vocab_size=40, family="llama"), 0)
    plain = [losses_and_gradients(model, segments) for segments in (SEGMENTS, SEGMENTS.flip(0))]
    for block in model.blocks:
        block.compile(dynamic=False, fullgraph=True, backend="aot_eager")

    with torch._dynamo.config.patch(error_on_recompile=True):
        compiled = [losses_and_gradients(model, one) for one in (SEGMENTS, SEGMENTS.flip(0))]

    for ones, others in zip(plain, compiled, strict=True):
        for one, other in zip(ones, others, strict=True):
            torch.testing.assert_close(one, other, **TOLERANCE)
