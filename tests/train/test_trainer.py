"""The loop: what a step does, whatever the micro-batch, and what it does when things go wrong."""

import contextlib
import functools
import json
import math
import resource
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import replace

import psutil
import pytest
import torch
from torch import Tensor

from llmctl.cli.main import main
from llmctl.costs.ranks import RankMemory, Ranks, rank_memory
from llmctl.data.batches import IGNORED, Batch
from llmctl.errors import TrainingError
from llmctl.model.transformer import Transformer, fresh
from llmctl.shapes import Shape, named_shape
from llmctl.train.distributed.world import Pulse, World
from llmctl.train.masters import Masters
from llmctl.train.objectives import Objective, next_token
from llmctl.train.optimizers.muon import muon
from llmctl.train.probe import fitting_rows
from llmctl.train.recipe import Rates
from llmctl.train.reduction import Alone
from llmctl.train.schedule import Schedule
from llmctl.train.spread import Spread
from llmctl.train.trainer import Hooks, Plan, StepFacts, Trainer
from llmctl.train.twins import tiny_model, tiny_trainer
from llmctl.workspace import Workspace

SHAPE = named_shape("nano", vocab_size=64, num_layers=2, width=32, num_heads=2, context=16)
RATES = Rates(matrix=0.02, embedding=0.01, head=0.01, vector=0.003, weight_decay=0.0)


class Drawn:
    """Random rows; every third target does not count, so that micro-batches differ in weight."""

    def batch(self, step: int) -> Batch:
        generator = torch.Generator().manual_seed(step)
        ids = torch.randint(1, 64, (8, 17), generator=generator)
        targets = ids[:, 1:].clone()
        targets[: 2 + step % 4, ::3] = IGNORED
        return Batch(ids[:, :-1], targets, None, int((targets != IGNORED).sum()))


def trainer(
    *, micro_rows: int = 8, steps: int = 6, objective: Objective = next_token, **plan: int
) -> Trainer:
    model = fresh(SHAPE, 0)
    masters = Masters(model)
    return Trainer(
        model,
        objective,
        Drawn(),
        masters=masters,
        optimizers=muon(masters.masters, RATES, torch.float32, Spread()),
        plan=Plan(
            steps=steps,
            micro_rows=micro_rows,
            schedule=Schedule(warmup=2),
            clip=1.0,
            pairwise=False,
            save_every=plan.get("save_every", 1000),
            save_seconds=1e9,
            eval_every=plan.get("eval_every", 1000),
            eval_seconds=1e9,
        ),
    )


def run(
    one: Trainer,
    *,
    on_save: Callable[[int], None] = lambda _: None,
    on_eval: Callable[[int], None] = lambda _: None,
) -> list[StepFacts]:
    seen: list[StepFacts] = []
    one.run(
        Hooks(
            on_step=seen.append,
            on_save=on_save,
            on_eval=on_eval,
            should_stop=lambda: False,
            settle=lambda _: None,
        )
    )
    return seen


@pytest.mark.parametrize("micro_rows", [1, 2, 3])
def test_the_loss_does_not_depend_on_the_micro_batch(micro_rows: int) -> None:
    whole = [facts.loss for facts in run(trainer())]

    cut = [facts.loss for facts in run(trainer(micro_rows=micro_rows))]

    assert cut == pytest.approx(whole, rel=1e-4)


def test_a_checkpoint_is_always_written_before_an_evaluation() -> None:
    order: list[tuple[str, int]] = []

    run(
        trainer(steps=4, save_every=3, eval_every=2),
        on_save=lambda step: order.append(("save", step)),
        on_eval=lambda step: order.append(("eval", step)),
    )

    evaluations = [place for place, (what, _) in enumerate(order) if what == "eval"]
    assert [order[place][1] for place in evaluations] == [2, 4]
    assert all(order[place - 1] == ("save", order[place][1]) for place in evaluations)


def poisoned(bad: Callable[[int], bool]) -> Objective:
    """The usual objective, whose loss is not finite at some steps."""
    calls = iter(range(10**6))

    def objective(model: Transformer, batch: Batch) -> Tensor:
        loss = next_token(model, batch)
        return loss * math.nan if bad(next(calls)) else loss

    return objective


def test_a_step_whose_loss_is_not_finite_changes_nothing_and_is_counted() -> None:
    sick = trainer(steps=4, objective=poisoned(lambda step: step == 2))
    weights: list[Tensor] = []

    seen = run(trainer(steps=4))
    facts: list[StepFacts] = []
    for _ in range(4):
        facts.append(sick.step())
        weights.append(sick.model.embedding.weight.detach().clone())

    assert [one.skipped for one in facts] == [False, False, True, False]
    assert weights[2].equal(weights[1])
    assert not weights[3].equal(weights[2])
    assert sick.progress.skipped == 1
    assert sick.progress.trained == seen[-1].trained - Drawn().batch(2).trained


def test_ten_steps_in_a_row_that_are_not_finite_end_the_run() -> None:
    sick = trainer(steps=100, objective=poisoned(lambda step: step >= 3))

    with pytest.raises(TrainingError, match="up to step 13"):
        run(sick)


def test_numbers_that_would_slow_a_product_down_count_as_nothing_in_training_alone() -> None:
    tiny = torch.tensor([1e-30])
    found: list[float] = []

    def objective(model: Transformer, batch: Batch) -> Tensor:
        found.append((tiny * 1e-10).item())
        return next_token(model, batch)

    run(trainer(steps=1, objective=objective))

    assert found == [0.0]
    assert tiny * 1e-10 > 0


def test_no_gradient_outlives_its_step() -> None:
    one = trainer()

    one.step()

    assert all(value.grad is None for value in one.masters.values)


@torch.no_grad()
def test_a_kernel_is_generated_while_blocks_run_as_they_were_written() -> None:
    one = trainer()
    graphs: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, _: list[Tensor]) -> Callable[..., object]:
        graphs.append(graph)
        return graph.forward

    one.model.blocks[0].compile(backend=backend)
    kernel = torch.compile(torch.nn.functional.silu, backend=backend)

    with one.eager():
        kernel(one.model(torch.zeros(1, 4, dtype=torch.long)))
    aside = len(graphs)
    one.model(torch.zeros(1, 4, dtype=torch.long))
    torch.compiler.reset()

    assert (aside, len(graphs)) == (1, 2)


def test_documents_in_one_row_learn_as_documents_apart() -> None:
    model = fresh(SHAPE, 0)
    ids = torch.randint(1, 64, (2, 9), generator=torch.Generator().manual_seed(0))
    apart = Batch(ids[:, :-1], ids[:, 1:], None, 16)
    segments = torch.tensor([[0] * 8 + [1] * 8])
    packed = Batch(ids[:, :-1].reshape(1, 16), ids[:, 1:].reshape(1, 16), segments, 16)

    torch.testing.assert_close(next_token(model, packed), next_token(model, apart))


@contextlib.contextmanager
def room(size: int) -> Iterator[None]:
    """So many bytes more than this process has, and no more."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (used + size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_AS"), reason="needs a limit on memory")
def test_a_long_row_is_not_refused_for_scores_that_attention_never_keeps() -> None:
    shape = replace(SHAPE, num_heads=16, num_kv_heads=16, head_width=4, context=8192)
    row = torch.zeros(1, shape.context, dtype=torch.long)
    longest = Batch(row, row, None, shape.context)
    scores = 4 * shape.num_layers * shape.num_heads * shape.context**2

    with room(scores // 2):
        rows = fitting_rows(trainer(micro_rows=1), longest, functools.partial(need, shape), hint="")

    assert rows == 1


def need(shape: Shape, rows: int) -> RankMemory:
    on_cpu = Ranks(on_cpu=True)
    return rank_memory(shape, on_cpu, precision="float32", optimizer="muon", micro_rows=rows)


def test_one_row_too_long_is_refused_with_what_would_take_less(
    tiny_workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    here = ["--workspace", str(tiny_workspace.root), "--name", "too-long", "--json"]
    small = ["--layers", "1", "--width", "32", "--heads", "2", "--batch", "1", "--steps", "1"]

    code = main(["pretrain", *small, "--context", "1000000", "--device", "cpu", *here])

    error = json.loads(capsys.readouterr().out)["error"]
    assert code == 6
    assert "one row of 1,000,000 tokens does not fit" in error["message"]
    assert "`--recompute full`, a smaller `--context`" in error["hint"]
    assert "`--context-parallel`" in error["hint"]


NARROW = """
    import json, resource, sys
    import psutil, torch
    from llmctl.costs.ranks import Ranks, rank_memory
    from llmctl.data.batches import Batch
    from llmctl.model.transformer import fresh
    from llmctl.shapes import named_shape
    from llmctl.train.masters import Masters
    from llmctl.train.spread import Spread
    from llmctl.train.objectives import next_token
    from llmctl.train.optimizers.adamw import adamw
    from llmctl.train.probe import fitting_rows
    from llmctl.train.recipe import Rates
    from llmctl.train.schedule import Schedule
    from llmctl.train.trainer import Plan, Trainer

    class Drawn:
        def batch(self, step):
            ids = torch.randint(1, 64, (32, 257), generator=torch.Generator().manual_seed(step))
            return Batch(ids[:, :-1], ids[:, 1:], None, 32 * 256)

    torch.set_num_threads(1)
    shape = named_shape(
        "nano", vocab_size=64, num_layers=4, width=64, num_heads=2, context=256
    )
    model = fresh(shape, 0)
    masters = Masters(model)
    rates = Rates(matrix=0.01, embedding=0.01, head=0.01, vector=0.01, weight_decay=0.0)
    trainer = Trainer(
        model, next_token, Drawn(), masters=masters,
        optimizers=adamw(masters.masters, rates, torch.float32, Spread()),
        plan=Plan(steps=1, micro_rows=32, schedule=Schedule(warmup=1), clip=1.0, pairwise=False,
                  save_every=9, save_seconds=9, eval_every=9, eval_seconds=9),
    )
    trainer.accumulate(trainer.feed.cut(trainer.feed.batches.batch(0).micro(0, 1), 32))
    room = int(sys.argv[1])
    if room:
        used = psutil.Process().memory_info().vms
        resource.setrlimit(resource.RLIMIT_AS, (used + room, used + room))
    rows = fitting_rows(
        trainer,
        trainer.feed.batches.batch(0),
        lambda rows: rank_memory(
            shape, Ranks(on_cpu=True), precision="float32", optimizer="adamw", micro_rows=rows
        ),
        hint="",
    )
    print(json.dumps([rows, trainer.step().loss]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(resource, "RLIMIT_AS"), reason="needs a limit on memory")
def test_a_batch_that_does_not_fit_is_halved_and_the_loss_stays() -> None:
    def trained(room: int) -> list[float]:
        command = [sys.executable, "-c", textwrap.dedent(NARROW), str(room)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    wide, narrow = trained(0), trained(250 * 2**20)

    assert wide[0] == 32
    assert narrow[0] < 32
    assert narrow[1] == pytest.approx(wide[1], rel=1e-4)


class Told(Pulse):
    """All that was told."""

    def __init__(self) -> None:
        super().__init__(None, 0)
        self.all: list[str] = []

    def tell(self, doing: str) -> None:
        self.all.append(doing)


def test_who_watches_hears_whether_a_rank_computes_or_waits_for_the_device() -> None:
    told = Told()
    trainer = tiny_trainer(tiny_model(), reduce=Alone(World(_pulse=told)))

    trainer.step()

    assert told.all == [
        "computes step 1",
        "waits for the sums of step 1",
        "updates weights by step 1",
    ]


def test_memory_that_runs_out_while_others_are_waited_for_is_not_their_fault() -> None:
    with pytest.raises(torch.OutOfMemoryError), World(size=2).waiting_for("a sum"):
        raise torch.OutOfMemoryError("CUDA out of memory")
