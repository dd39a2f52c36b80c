"""Linear layers in eight bits: what they compute and learn, and when they do not."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from llmctl.model.float8 import Float8Linear, compute_in_float8, narrowed
from llmctl.model.transformer import fresh
from llmctl.shapes import named_shape
from llmctl.train.recompute import Recompute, recompute

SHAPE = named_shape("nano", vocab_size=64, num_layers=2, width=64, num_heads=4, context=32)


def linear(inputs: int = 64, outputs: int = 48, *, bias: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(inputs, outputs, bias=bias))


def learnt(module: nn.Module, x: Tensor, slope: Tensor) -> list[Tensor]:
    """What comes out, and the gradients of input and parameters."""
    x = x.detach().requires_grad_()
    y = module(x)
    return [y.detach(), *torch.autograd.grad(y, [x, *module.parameters()], slope)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [False, True])
def test_products_are_within_the_rounding_of_eight_bits(bias: bool, dtype: torch.dtype) -> None:
    module = linear(bias=bias).to(dtype)
    x, slope = torch.randn(4, 32, 64, dtype=dtype), torch.randn(4, 32, 48, dtype=dtype) * 1e-4
    exact = learnt(module, x, slope)

    compute_in_float8(module)

    for one, other in zip(learnt(module, x, slope), exact, strict=True):
        assert one.dtype == other.dtype == dtype
        # A value of three bits of fraction is off by up to 1/16, a gradient of two by up to 1/8,
        # 1/28 and 1/14 on average by the root of squares; both come together in a product.
        error = (one - other).float().norm() / other.float().norm()
        assert error < 0.1
    assert isinstance(module[0], Float8Linear)


def test_numbers_of_any_size_keep_their_bits() -> None:
    x = torch.randn(64)

    for size in (1e-6, 1.0, 1e6):
        bits, unit = narrowed(x * size, torch.float8_e4m3fn)

        assert bits.float().abs().max() == 448
        torch.testing.assert_close(bits.float() * unit / size, x, rtol=1 / 16, atol=1e-4)


def test_nothing_is_nothing_and_what_is_not_finite_is_not_hidden() -> None:
    for bad in (float("nan"), float("inf")):
        bits, unit = narrowed(torch.tensor([1.0, bad]), torch.float8_e4m3fn)
        assert not (bits.float() * unit).isfinite().all()
    bits, unit = narrowed(torch.zeros(4), torch.float8_e4m3fn)
    assert torch.equal(bits.float() * unit, torch.zeros(4))


def test_only_what_learns_is_rounded_and_only_sides_that_fit() -> None:
    module, x = linear(), torch.randn(32, 64)
    exact = module(x)
    odd = nn.Sequential(nn.Linear(60, 48), nn.Linear(64, 40))

    compute_in_float8(module)
    compute_in_float8(odd)

    with torch.no_grad():
        assert torch.equal(module(x), exact)
    assert torch.equal(module(x[:31]), F.linear(x[:31], module[0].weight))
    assert not torch.equal(module(x), exact)
    assert [type(one) for one in odd] == [nn.Linear, nn.Linear]


def test_a_model_rounds_in_its_blocks_alone_and_learns_the_same_when_it_keeps_less() -> None:
    found: list[list[Tensor]] = []
    kept: tuple[Recompute, ...] = ("none", "selective", "full")
    for how in kept:
        model = fresh(SHAPE, 0)
        compute_in_float8(model.blocks)
        recompute(model, how)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.02)
        ids = torch.randint(0, 64, (2, 32), generator=torch.Generator().manual_seed(0))
        found.append(list(torch.autograd.grad(model(ids).logsumexp(-1).sum(), model.parameters())))

    kinds = {name: type(one) for name, one in model.named_modules() if isinstance(one, nn.Linear)}
    assert {name for name, kind in kinds.items() if kind is nn.Linear} <= {"head"}
    for others in found[1:]:
        assert all(torch.equal(one, other) for one, other in zip(found[0], others, strict=True))


class Products(TorchDispatchMode):
    """Counts products in eight bits."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._scaled_mm.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("how", "again"), [("none", 0), ("selective", 0), ("full", 1)])
def test_what_products_gave_is_kept_unless_nothing_is(how: Recompute, again: int) -> None:
    model = fresh(SHAPE, 0)
    compute_in_float8(model.blocks)
    recompute(model, how)
    layers = sum(isinstance(one, Float8Linear) for one in model.modules())

    with Products() as products:
        model(torch.zeros(2, 32, dtype=torch.long)).logsumexp(-1).sum().backward()

    assert products.count == (3 + again) * layers


# Of torch's tracer itself.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_a_compiled_layer_computes_the_same() -> None:
    module, x, slope = linear(bias=True), torch.randn(4, 32, 64), torch.randn(4, 32, 48)
    compute_in_float8(module)
    plain = learnt(module, x, slope)

    module.compile(fullgraph=True, backend="aot_eager")

    for one, other in zip(learnt(module, x, slope), plain, strict=True):
        assert torch.equal(one, other)
    torch.compiler.reset()
