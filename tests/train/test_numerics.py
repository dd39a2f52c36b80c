"""The arithmetic of training: losses, gradients, masters and schedules are what they say."""

import weakref

import pytest
import torch
import torch.nn.functional as F

from llmctl.data.batches import IGNORED
from llmctl.model.transformer import fresh
from llmctl.shapes import named_shape
from llmctl.train.masters import GradientSum, Masters, PairwiseSum, RowSum
from llmctl.train.objectives import chunk_rows, head_cross_entropy
from llmctl.train.optimizers.muon import orthogonalize
from llmctl.train.schedule import Schedule

SHAPE = named_shape("nano", vocab_size=64, num_layers=2, width=32, num_heads=2, context=16)


def drawn(*size: int) -> torch.Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(sum(size)))


@pytest.mark.parametrize("frozen", [0, 1])
def test_the_loss_of_what_is_frozen_has_the_gradient_of_the_rest_alone(frozen: int) -> None:
    targets = torch.arange(30)
    learning, fixed = ([drawn(30, 8).requires_grad_(), drawn(40, 8).requires_grad_()] for _ in "ab")
    fixed[frozen].requires_grad_(False)

    for hidden, head in (learning, fixed):
        head_cross_entropy(hidden, head, targets).backward()

    other = 1 - frozen
    assert fixed[frozen].grad is None
    torch.testing.assert_close(fixed[other].grad, learning[other].grad, atol=0, rtol=0)


def test_a_frozen_head_costs_no_memory_for_a_gradient() -> None:
    hidden, head = drawn(4, 64).requires_grad_(), drawn(512, 64)
    saved: list[torch.Tensor] = []

    def save(one: torch.Tensor) -> torch.Tensor:
        saved.append(one)
        return one

    with torch.autograd.graph.saved_tensors_hooks(save, lambda one: one):
        head_cross_entropy(hidden, head, torch.arange(4))

    assert [one.shape for one in saved] == [hidden.shape]


@pytest.mark.parametrize("logits", [1, 10**9])
def test_the_chunked_loss_and_its_gradients_are_those_of_torch(
    monkeypatch: pytest.MonkeyPatch, logits: int
) -> None:
    monkeypatch.setattr("llmctl.train.objectives.CPU_LOGITS", logits)
    targets = torch.randint(0, 50, (300,), generator=torch.Generator().manual_seed(0))
    targets[::7] = IGNORED
    ours = [drawn(300, 24).requires_grad_(), drawn(50, 24).requires_grad_()]
    theirs = [one.detach().clone().requires_grad_() for one in ours]

    loss = head_cross_entropy(ours[0], ours[1], targets)
    (loss / 3).backward()
    logits = theirs[0] @ theirs[1].T
    right = F.cross_entropy(logits, targets, reduction="sum", ignore_index=IGNORED)
    (right / 3).backward()

    torch.testing.assert_close(loss, right)
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, reference.grad)


def test_a_gpu_reads_the_head_for_thousands_of_rows_and_a_cpu_for_what_its_cache_holds() -> None:
    rows = {name: chunk_rows(50_304, torch.device(name)) for name in ("cpu", "cuda")}

    assert rows["cpu"] == 128
    assert 4_000 < rows["cuda"] <= 2**30 / (4 * 50_304)


@pytest.mark.parametrize("total", [PairwiseSum(), RowSum({})])
def test_gradients_of_micro_batches_add_up(total: GradientSum) -> None:
    parameter = torch.nn.Parameter(torch.zeros(5))
    gradients = [drawn(5) * 10.0**power for power in range(-3, 4)]

    for gradient in gradients:
        parameter.grad = gradient.clone()
        total.add([parameter], gradient.sum())

    (summed,), loss = total.total()
    torch.testing.assert_close(summed, torch.stack(gradients).sum(0))
    torch.testing.assert_close(loss, torch.stack(gradients).sum())


def test_a_sum_of_bfloat16_gradients_is_float32_and_forgets_the_step_before() -> None:
    parameters = [torch.nn.Parameter(torch.zeros(5, dtype=torch.bfloat16)) for _ in range(2)]
    buffers: dict[int, torch.Tensor] = {}

    def summed(*micros: tuple[float | None, float | None]) -> list[float]:
        total = RowSum(buffers)
        for micro in micros:
            for parameter, value in zip(parameters, micro, strict=True):
                parameter.grad = None if value is None else torch.full_like(parameter, value)
            total.add(parameters, torch.zeros(()))
        return [one[0].item() for one in total.total()[0]]

    assert summed((1.0, 1.0), (2.0**-12, None)) == [1 + 2.0**-12, 1.0]
    assert summed((10.0, None)) == [10.0, 0.0]


def test_a_pairwise_sum_has_the_same_bits_for_any_split_over_processes() -> None:
    gradients = [drawn(1000) * (3.7**number) for number in range(8)]

    def summed(parts: list[torch.Tensor]) -> torch.Tensor:
        parameter = torch.nn.Parameter(torch.zeros(1000))
        total = PairwiseSum()
        for part in parts:
            parameter.grad = part.clone()
            total.add([parameter], torch.zeros(()))
        return total.total()[0][0]

    whole = summed(gradients)
    two = summed([summed(gradients[:4]), summed(gradients[4:])])
    four = summed([summed(gradients[start : start + 2]) for start in range(0, 8, 2)])

    assert whole.equal(two)
    assert whole.equal(four)


def test_masters_of_a_float32_model_are_its_weights() -> None:
    model = fresh(SHAPE, 0)
    masters = Masters(model)

    for value in masters.values:
        value.add_(1.0)

    assert float(model.norm.weight.detach()[0]) == 2.0
    assert sum(one.numel() for one in masters.values) == SHAPE.parameters


def test_masters_of_a_bfloat16_model_keep_what_its_type_would_round_away() -> None:
    model = fresh(SHAPE, 0)
    masters = Masters(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.to(torch.bfloat16)

    for value in masters.values:
        value.add_(1e-6)
    masters.publish()

    state = masters.full_state(model)
    assert model.norm.weight.dtype == torch.bfloat16
    for name, value in state.items():
        torch.testing.assert_close(value, before[name] + 1e-6, atol=0, rtol=0)


def test_the_float32_state_of_a_bfloat16_model_is_made_tensor_by_tensor() -> None:
    model = fresh(SHAPE, 0)
    masters = Masters(model)
    model.to(torch.bfloat16)
    state = masters.full_state(model)

    made = [weakref.ref(value) for value in state.values()]

    assert len(made) == len(state)
    assert not any(one() is not None for one in made)


def test_masters_give_back_the_state_that_they_took() -> None:
    model, other = fresh(SHAPE, 0), fresh(SHAPE, 1)
    state = {name: value.clone() for name, value in Masters(other).full_state(other).items()}

    masters = Masters(model)
    masters.load(model, state)

    assert all(value.equal(state[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("size", [(64, 64), (32, 96), (96, 32), (520, 600)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_orthogonalize_lifts_what_is_small_and_lets_nothing_grow_beyond(
    size: tuple[int, int], dtype: torch.dtype
) -> None:
    left, _, right = torch.linalg.svd(drawn(1, *size)[0], full_matrices=False)
    values = torch.logspace(0, -4, min(size))
    values /= values.norm()
    stack = (left * values @ right)[None].to(dtype)

    found = torch.linalg.svdvals(orthogonalize(stack).float())[0]

    assert float(found.max()) < 2
    # As many as were large enough before: all of those, and none of them is small now.
    assert int((found > 0.13).sum()) >= int((values > 1.05e-3).sum())


def test_a_wsd_run_warms_up_stays_and_decays_to_its_floor() -> None:
    schedule = Schedule(warmup=10, decay_share=0.5, floor=0.1)
    factors = [schedule.factor(step, 100) for step in range(100)]

    assert factors[:10] == [(step + 1) / 10 for step in range(10)]
    assert set(factors[10:50]) == {1.0}
    assert factors[50:] == sorted(factors[50:], reverse=True)
    assert factors[-1] == pytest.approx(0.1 + 0.9 / 50)


def test_before_its_decay_a_wsd_run_does_not_depend_on_its_length() -> None:
    schedule = Schedule(warmup=10, decay_share=0.5)
    start = schedule.decay_start(100)

    known = [schedule.factor(step, 100) for step in range(start)]

    assert known == [schedule.factor(step, 1000) for step in range(start)]
    assert known == [schedule.factor(step, None) for step in range(start)]
