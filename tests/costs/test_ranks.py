from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

from llmctl.costs import ranks
from llmctl.costs.memory import Layout, memory
from llmctl.costs.network import from_shape
from llmctl.costs.ranks import FLOAT, Ranks, cpu_values, layer_values, rank_memory
from llmctl.data.batches import Batch
from llmctl.errors import ConfigError
from llmctl.model import attention
from llmctl.model.attention import Slices
from llmctl.model.transformer import Transformer, fresh
from llmctl.shapes import Shape, Size, named_shape, shape_of
from llmctl.train import objectives
from llmctl.train.distributed.slices import Team
from llmctl.train.distributed.world import World
from llmctl.train.objectives import next_token

SHAPE = named_shape("175b", vocab_size=50257)
CONTEXT = 640


@pytest.fixture
def nobody() -> Iterator[World]:
    """This process among two that share a row, of whom the other is nobody: nothing is sent."""
    dist.init_process_group("fake", rank=0, world_size=2, store=FakeStore())
    yield World(size=2, slices=2)
    dist.destroy_process_group()


def kept_bytes(model: Transformer, slices: Slices | None = None) -> int:
    """What autograd keeps of two rows of documents until the backward pass, weights left out."""
    known = {one.untyped_storage().data_ptr() for one in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(value: torch.Tensor) -> torch.Tensor:
        if value.untyped_storage().data_ptr() not in known:
            kept[value.untyped_storage().data_ptr()] = value
        return value

    context = model.shape.context
    ids = torch.arange(context + 1).remainder(model.shape.vocab_size).expand(2, -1)
    segments = (torch.arange(context) // 300).expand(2, -1)
    batch = Batch(ids[:, :-1], ids[:, 1:], segments, 2 * context)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        next_token(model, batch, slices)
    return sum(one.untyped_storage().nbytes() for one in kept.values())


def small_shape(family: str, layers: int, context: int = CONTEXT) -> Shape:
    return shape_of(Size(layers, 128, 32, context), vocab_size=256, family=family)


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3"])
@pytest.mark.parametrize(
    ("dtype", "context"),
    [(torch.float32, CONTEXT), (torch.bfloat16, CONTEXT), (torch.bfloat16, 512)],
)
def test_a_layer_keeps_what_autograd_keeps(family: str, dtype: torch.dtype, context: int):
    two, four = (
        kept_bytes(fresh(small_shape(family, depth, context), 0).to(dtype)) for depth in (2, 4)
    )
    shape = small_shape(family, 2, context)
    measured = (four - two) / 2 / (2 * context) / dtype.itemsize

    expected = layer_values(shape) + cpu_values(shape, dtype.itemsize)
    assert measured == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3"])
def test_a_layer_of_a_slice_keeps_what_autograd_keeps(nobody: World, family: str):
    team = Team(nobody, torch.device("cpu"))
    two, four = (kept_bytes(fresh(small_shape(family, depth), 0), team) for depth in (2, 4))
    shape = small_shape(family, 2)
    measured = (four - two) / 2 / CONTEXT / FLOAT

    expected = layer_values(shape, slices=2) + cpu_values(shape, FLOAT, slices=2)
    assert measured == pytest.approx(expected, rel=0.01)


def test_chunks_of_the_loss_and_rows_of_plain_products_are_those_of_training():
    assert ranks.LONGEST_PLAIN == attention.LONGEST_PLAIN
    assert ranks.BLOCK == attention.BLOCK
    assert ranks.LEAST_ROWS == objectives.LEAST_ROWS
    assert ranks.CPU_LOGITS == objectives.CPU_LOGITS
    assert ranks.GPU_LOGITS == objectives.GPU_LOGITS


def test_ranks_that_share_a_row_divide_what_it_keeps():
    over = [
        rank_memory(SHAPE, Ranks(world_size=64, parallel="fsdp", slices=slices))
        for slices in (1, 8)
    ]

    assert over[1].activations == pytest.approx(over[0].activations / 8, rel=0.1)
    assert over[1].parameters == over[0].parameters


def test_ranks_that_hold_parts_of_matrices_divide_all_but_the_stream_and_the_tables():
    whole, part = (
        rank_memory(SHAPE, Ranks(world_size=64, parallel="fsdp", parts=parts), optimizer="adamw")
        for parts in (1, 8)
    )
    stream = 4 * SHAPE.num_layers * SHAPE.width * SHAPE.context * 2

    assert part.activations == pytest.approx(stream + (whole.activations - stream) / 8, rel=0.02)
    # Rows lie over an eighth of the ranks, and there are as many fewer; tables stay whole.
    tables = 2 * SHAPE.vocab_size * SHAPE.width / 8
    assert part.parameters / 4 == pytest.approx(whole.parameters / 4 + 7 / 8 * tables, rel=0.01)


def test_states_of_one_rank_are_masters_sums_and_averages():
    parameters = SHAPE.parameters
    need = rank_memory(SHAPE, precision="float32", optimizer="adamw")

    assert need.parameters == 4 * parameters
    assert need.optimizer == 8 * parameters
    assert rank_memory(SHAPE, optimizer="adamw").parameters == 6 * parameters
    assert rank_memory(SHAPE, optimizer="muon").optimizer < 0.51 * need.optimizer


def test_rows_over_all_ranks_divide_the_states_and_hybrid_ones_by_a_machine():
    whole = rank_memory(SHAPE, precision="float32", optimizer="adamw")
    over = {
        parallel: rank_memory(
            SHAPE, Ranks(world_size=1024, parallel=parallel), precision="float32", optimizer="adamw"
        )
        for parallel in ("fsdp", "hsdp")
    }

    assert over["fsdp"].optimizer == pytest.approx(whole.optimizer / 1024)
    assert over["hsdp"].optimizer == pytest.approx(whole.optimizer / 8)
    assert over["fsdp"].activations == whole.activations
    assert over["fsdp"].buffers > whole.buffers


def test_offloaded_rows_lie_on_the_host_and_nowhere_else():
    device = rank_memory(SHAPE, Ranks(world_size=64, parallel="fsdp"))
    host = rank_memory(SHAPE, Ranks(world_size=64, parallel="fsdp", offload=True))

    assert host.host == device.parameters + device.gradients + device.optimizer
    assert host.total == host.activations + host.buffers


def test_recomputing_more_keeps_less():
    kept = [rank_memory(SHAPE, recompute=how).activations for how in ("none", "selective", "full")]

    assert kept == sorted(kept, reverse=True)
    assert kept[2] < kept[0] / 10


def test_muon_over_rows_holds_one_whole_matrix_and_not_all():
    over = Ranks(world_size=1024, parallel="fsdp")
    need = rank_memory(SHAPE, over, optimizer="muon", recompute="full")

    one = 4 * 2 * SHAPE.width * SHAPE.mlp_width
    assert one < need.step < 2 * one
    assert need.total < rank_memory(SHAPE, over, optimizer="adamw", recompute="full").total


def test_more_rows_and_a_longer_context_take_as_much_more():
    one, four = (rank_memory(SHAPE, micro_rows=rows).activations for rows in (1, 4))

    assert four == 4 * one


def test_the_estimate_of_anybodys_training_has_the_same_states_but_for_float32_gradients():
    ours = rank_memory(SHAPE, Ranks(world_size=1024, parallel="fsdp"), optimizer="adamw")
    layout = Layout(gpus=1024, zero=3)
    theirs = memory(from_shape(SHAPE, name="175b"), stage="pretrain", layout=layout).components

    states = 1e9 * (theirs["weights"] + theirs["gradients"] + theirs["optimizer"])
    per_parameter = (ours.parameters + ours.gradients + ours.optimizer) / states * 16
    assert per_parameter == pytest.approx(4 + 4 + 4 + 8)


@pytest.mark.parametrize("wrong", [
    {"world_size": 0}, {"world_size": 12, "parallel": "hsdp"}, {"offload": True}, {"each": 0},
    {"world_size": 6, "slices": 4}, {"world_size": 6, "parts": 4},
])  # fmt: skip
def test_ranks_that_cannot_be_are_refused(wrong: dict[str, object]):
    with pytest.raises(ConfigError):
        Ranks(**wrong)  # pyright: ignore
