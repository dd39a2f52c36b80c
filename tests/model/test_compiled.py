"""What `--compile on` computes: the gradients of the model as it was written."""

import shutil
from collections.abc import Callable

import pytest
import torch

from llmctl.model.transformer import fresh
from llmctl.shapes import named_shape
from llmctl.train.recompute import Recompute, recompute

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="there is no C++ compiler"
)


@needs_compiler
@pytest.mark.filterwarnings("ignore")  # torch warns of itself as it compiles
@pytest.mark.parametrize(("dtype", "most"), [(torch.bfloat16, 0.02), (torch.float32, 1e-5)])
def test_compiled_blocks_have_the_gradients_of_the_blocks_as_written(
    dtype: torch.dtype, most: float
) -> None:
    # A backward pass that is whole in bfloat16 and of this size has been not finite before.
    shape = named_shape(
        "nano", vocab_size=260, num_layers=1, width=384, num_heads=6, num_kv_heads=6, context=256
    )
    ids = torch.randint(0, 256, (4, 256), generator=torch.Generator().manual_seed(0))
    model = fresh(shape, 0).to(dtype)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith((".out.weight", ".down.weight")):
                parameter.normal_(0.0, 0.02, generator=torch.Generator().manual_seed(1))
    found: list[dict[str, torch.Tensor]] = []
    for is_compiled in (False, True):
        if is_compiled:
            for block in model.blocks:
                block.compile(dynamic=False)
        model.zero_grad()
        model(ids).float().logsumexp(-1).sum().backward()
        gradients = ((name, one.grad) for name, one in model.named_parameters())
        found.append({name: one.float() for name, one in gradients if one is not None})
    torch.compiler.reset()

    for name, written in found[0].items():
        compiled = found[1][name]
        assert compiled.isfinite().all(), name
        assert (compiled - written).norm() < most * written.norm(), name


@pytest.mark.filterwarnings("ignore")  # torch warns of itself as it compiles
@pytest.mark.parametrize("how", ["none", "selective", "full"])
def test_blocks_that_compute_again_are_compiled_all_the_same(how: Recompute) -> None:
    shape = named_shape("nano", vocab_size=64, num_layers=1, width=32, num_heads=2, context=16)
    model = fresh(shape, 0)
    graphs: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, _inputs: list[torch.Tensor]) -> Callable[..., object]:
        graphs.append(graph)
        return graph.forward

    recompute(model, how)
    model.blocks[0].compile(dynamic=False, backend=backend)
    model(torch.zeros(1, 16, dtype=torch.long)).sum().backward()
    torch.compiler.reset()

    assert len(graphs) == 1
