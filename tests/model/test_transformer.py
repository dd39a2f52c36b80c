"""The network: who sees whom, with a cache and without; what it is made of."""

import pytest
import torch
from torch import Tensor

from llmctl.model.attention import BLOCK, additive, attend, whole_mask
from llmctl.model.cache import KVCache
from llmctl.model.transformer import Transformer, fresh, logical_matrices
from llmctl.shapes import Size, named_shape, shape_of

VARIANTS = {
    "qwen3": {"family": "qwen3"},
    "grouped": {"family": "qwen3", "num_kv_heads": 1, "tied_head": True},
    "llama": {"family": "llama"},
    "window": {"family": "llama", "window": 3},
    "qkv-bias": {"family": "llama", "bias": "qkv"},
    "gpt2": {"family": "gpt2"},
}
# Sums in float32 over 64 numbers in another order: a few times 1e-6 on logits of about 1.
TOLERANCE = {"atol": 2e-5, "rtol": 1e-4}


def drawn_model(variant: str, layers: int = 2) -> Transformer:
    """A model whose every number is random, gains and biases too."""
    model = fresh(shape_of(Size(layers, 64, 32, 24), vocab_size=40, **VARIANTS[variant]), seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def some_ids(batch: int, time: int) -> Tensor:
    return torch.randint(1, 40, (batch, time), generator=torch.Generator().manual_seed(2))


@pytest.fixture(params=VARIANTS, autouse=False)
def model(request: pytest.FixtureRequest) -> Transformer:
    return drawn_model(request.param)


def new_cache(model: Transformer, batch: int, padding: list[int] | None = None) -> KVCache:
    padding_B = None if padding is None else torch.tensor(padding)
    return KVCache(model.shape, batch, 30, model.head_weight, padding_B)


def test_a_shape_counts_exactly_what_the_model_has(model: Transformer) -> None:
    assert sum(one.numel() for one in model.parameters()) == model.shape.parameters


def test_a_token_never_sees_what_comes_after_it(model: Transformer) -> None:
    ids = some_ids(1, 10)
    changed = ids.clone()
    changed[0, 6] = (ids[0, 6] + 1) % 40

    before, after = model(ids), model(changed)

    assert torch.equal(before[:, :6], after[:, :6])
    assert not torch.allclose(before[:, 6:], after[:, 6:])


def test_a_window_ends_what_a_token_sees() -> None:
    model = drawn_model("window", layers=1)
    ids = some_ids(1, 10)
    changed = ids.clone()
    changed[0, 4] = (ids[0, 4] + 1) % 40

    moved = (model(ids) != model(changed)).any(dim=-1)[0].tolist()

    assert moved == [False] * 4 + [True] * 3 + [False] * 3


@pytest.mark.parametrize("pieces", [[10], [4, 3, 1, 1, 1], [1] * 10])
def test_logits_with_a_cache_are_those_without(model: Transformer, pieces: list[int]) -> None:
    ids = some_ids(2, 10)
    cache = new_cache(model, 2)

    logits = torch.cat([model(piece, cache=cache) for piece in ids.split(pieces, dim=1)], dim=1)

    torch.testing.assert_close(logits, model(ids), **TOLERANCE)


def test_a_padded_row_in_a_batch_gets_what_it_gets_alone(model: Transformer) -> None:
    ids = some_ids(3, 10)
    padding = [0, 3, 6]
    ids[1, :3], ids[2, :6] = 0, 0
    cache = new_cache(model, 3, padding)

    logits = torch.cat([model(piece, cache=cache) for piece in ids.split([7, 2, 1], 1)], dim=1)

    for row, pad in enumerate(padding):
        alone = model(ids[row : row + 1, pad:])
        torch.testing.assert_close(logits[row, pad:], alone[0], **TOLERANCE)


def test_rows_that_leave_a_cache_do_not_disturb_the_others(model: Transformer) -> None:
    ids = some_ids(3, 10)
    ids[2, :4] = 0
    cache = new_cache(model, 3, [0, 0, 4])
    model(ids[:, :8], cache=cache)

    cache.remove(0)
    last, first = model(ids[[2, 1], 8:], cache=cache)

    torch.testing.assert_close(last, model(ids[2:, 4:])[0, 4:], **TOLERANCE)
    torch.testing.assert_close(first, model(ids[1:2])[0, 8:], **TOLERANCE)


def test_documents_packed_into_a_row_do_not_see_each_other(model: Transformer) -> None:
    ids = some_ids(2, 12)
    segments = torch.tensor([[0] * 5 + [1] * 7, [3] * 12])

    packed = model(ids, segments_BT=segments)

    apart = torch.cat((model(ids[:1, :5]), model(ids[:1, 5:])), dim=1)
    torch.testing.assert_close(packed[:1], apart, **TOLERANCE)
    torch.testing.assert_close(packed[1:], model(ids[1:]), **TOLERANCE)


def test_a_cache_takes_the_memory_that_the_shape_says(model: Transformer) -> None:
    cache = new_cache(model, 2)

    taken = sum(one.nbytes for one in (*cache.keys, *cache.values))

    assert taken == 2 * cache.capacity * model.shape.cache_bytes_per_token(bytes_per_value=4)


def test_weights_depend_on_the_seed_alone() -> None:
    shape = shape_of(Size(2, 64, 32, 24), vocab_size=40)
    torch.manual_seed(5)
    first = fresh(shape, seed=3).state_dict()
    untouched = torch.rand(1)
    torch.manual_seed(5)

    second, other = fresh(shape, seed=3).state_dict(), fresh(shape, seed=4).state_dict()

    assert torch.equal(untouched, torch.rand(1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["embedding.weight"], other["embedding.weight"])
    assert first["blocks.0.mlp.gate_up.weight"].std().item() == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize("variant", VARIANTS)
def test_layers_of_a_new_model_pass_their_input_on(variant: str) -> None:
    shape = shape_of(Size(2, 64, 32, 24), vocab_size=40, **VARIANTS[variant])
    model = fresh(shape, seed=0)
    ids = some_ids(1, 8)

    stream = model.embedding(ids)
    if model.positions is not None:
        stream = stream + model.positions.weight[:8]

    torch.testing.assert_close(model.hidden(ids), model.norm(stream))


def test_logical_matrices_cover_every_number_once(model: Transformer) -> None:
    marks = {name: torch.zeros(one.shape) for name, one in model.named_parameters()}
    names = {id(one): name for name, one in model.named_parameters()}

    for matrix in logical_matrices(model):
        marks[names[id(matrix.parameter)]][matrix.rows] += 1

    assert all((mark == 1).all() for mark in marks.values())


def test_fused_projections_are_apart_for_an_optimizer() -> None:
    model = drawn_model("grouped")
    found = {one.name: (one.kind, one.parameter[one.rows].shape) for one in logical_matrices(model)}

    assert found["blocks.1.attention.qkv.weight[query]"] == ("matrix", (64, 64))
    assert found["blocks.1.attention.qkv.weight[value]"] == ("matrix", (32, 64))
    assert found["blocks.0.mlp.gate_up.weight[up]"] == ("matrix", (192, 64))
    assert found["embedding.weight"][0] == "embedding"
    assert found["norm.weight"][0] == "vector"
    kinds = {one.kind for one in logical_matrices(drawn_model("gpt2"))}
    assert kinds == {"embedding", "matrix", "vector"}


def test_every_parameter_learns_from_packed_rows(model: Transformer) -> None:
    segments = torch.tensor([[0] * 5 + [1] * 7])

    model(some_ids(1, 12), segments_BT=segments).logsumexp(-1).sum().backward()

    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("kv_heads", [4, 2])
@pytest.mark.parametrize("has_segments", [False, True])
def test_plain_products_find_what_the_kernel_finds(kv_heads: int, has_segments: bool) -> None:
    torch.manual_seed(0)
    time = 2 * BLOCK + 5
    queries = torch.randn(2, 4, time, 8)
    keys, values = torch.randn(2, 2, kv_heads, time, 8)
    segments = (torch.arange(time) > torch.tensor([[BLOCK + 3], [time]])) if has_segments else None
    mask = whole_mask(time, None, segments, torch.device("cpu")) if has_segments else None

    kernel = attend(queries, keys, values, mask, is_causal=mask is None)
    products = attend(queries, keys, values, additive(mask, time, queries), is_causal=False)

    torch.testing.assert_close(products, kernel, atol=1e-6, rtol=1e-5)


def test_gradients_in_bfloat16_are_those_of_float32_to_its_precision() -> None:
    shape = named_shape("nano", vocab_size=64, num_layers=2, width=64, num_heads=4, context=32)
    ids = torch.randint(0, 64, (2, 32), generator=torch.Generator().manual_seed(0))
    found: list[torch.Tensor] = []
    for dtype in (torch.float32, torch.bfloat16):
        model = fresh(shape, 0).to(dtype)
        model(ids).float().logsumexp(-1).sum().backward()
        found.append(model.embedding.weight.grad.float())

    # bfloat16 keeps eight bits; sums over layers and tokens lose a few more.
    assert torch.nn.functional.cosine_similarity(*(one.flatten() for one in found), dim=0) > 0.999
