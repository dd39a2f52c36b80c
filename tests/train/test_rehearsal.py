"""A dry run over many ranks that are not here: what each would hold, and how they would talk."""

import json

import pytest

from llmctl.cli.main import main
from llmctl.shapes import named_shape
from llmctl.train.distributed.rehearsal import rehearse
from llmctl.train.distributed.world import World
from llmctl.train.recompute import Recompute
from llmctl.workspace import Workspace

SHAPE = named_shape("nano", vocab_size=512, num_layers=5, context=64)


@pytest.mark.parametrize(("ranks", "each"), [(8, 8), (16, 4)])
def test_rows_over_ranks_add_up_to_the_model(ranks: int, each: int) -> None:
    seen = rehearse(SHAPE, World(size=ranks), each=each, micro_batches=1, muon=False, how="none")

    # The last rank may have fewer rows than the first, never more.
    assert SHAPE.parameters <= seen.parameters * each < 1.02 * SHAPE.parameters


def test_a_step_gathers_every_block_twice_and_sums_it_once() -> None:
    seen = rehearse(SHAPE, World(size=8), each=8, micro_batches=3, muon=True, how="full")

    # What lies outside the blocks stays where it is until the backward pass is through.
    assert seen.collectives["all-gather"] == 3 * (2 * SHAPE.num_layers + 1)
    assert seen.collectives["reduce-scatter"] == 3 * (SHAPE.num_layers + 1)


def test_replicas_of_rows_are_summed_over_machines_as_well() -> None:
    seen = rehearse(SHAPE, World(size=16), each=4, micro_batches=1, muon=False, how="none")

    assert seen.collectives["all-reduce"] == SHAPE.num_layers + 1 + 1


@pytest.mark.parametrize(("how", "trades"), [("none", 4), ("selective", 6), ("full", 6)])
def test_ranks_that_share_a_row_trade_heads_for_time_and_back_in_every_block(
    how: Recompute, trades: int
) -> None:
    world = World(size=8, slices=2)
    seen = rehearse(SHAPE, world, each=8, micro_batches=3, muon=False, how=how)

    assert seen.collectives["all-to-all"] == 3 * trades * SHAPE.num_layers


@pytest.mark.parametrize(("how", "sums"), [("none", 4), ("selective", 5), ("full", 5)])
def test_ranks_that_hold_parts_of_matrices_sum_the_stream_and_hold_less(
    how: Recompute, sums: int
) -> None:
    world = World(size=8, parts=2)
    seen = rehearse(SHAPE, world, each=4, micro_batches=3, muon=False, how=how)

    # Beside those of the stream, one of the gains of queries and keys; and the loss.
    assert seen.collectives["all-reduce"] == 3 * (sums + 1) * SHAPE.num_layers + 1
    held = SHAPE.part(2).parameters
    assert SHAPE.parameters / 2 < held <= 4 * seen.parameters < 1.02 * held


def test_a_row_that_does_not_fit_is_told_how_many_could_share_it(
    tiny_workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    here = ["--workspace", str(tiny_workspace.root), "--name", "long", "--dry-run", "--json"]
    long = ["--size", "xl", "--context", "131072", "--gpus", "64", *here]

    plans = []
    for more in ([], ["--context-parallel", "8"]):
        assert main(["pretrain", *long, *more]) == 0
        plans.append(json.loads(capsys.readouterr().out)["plan"])

    alone, shared = plans
    assert not alone["fits"]
    assert "fits with `--context-parallel" in alone["hint"]
    assert shared["fits"]


@pytest.mark.slow
def test_a_dry_run_for_a_thousand_gpus_says_what_each_would_hold(
    tiny_workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    here = ["--workspace", str(tiny_workspace.root), "--name", "huge", "--dry-run", "--json"]

    code = main(["pretrain", "--size", "175b", "--gpus", "1024", "--recompute", "full", *here])

    plan = json.loads(capsys.readouterr().out)["plan"]
    assert code == 0
    assert (plan["processes"], plan["layout"], plan["fits"]) == (1024, "fsdp", True)
    # What the laid out model holds is what `estimate-cost` counts: four bytes a number.
    assert plan["memory_per_rank"]["parameters"] == pytest.approx(
        4 * plan["parameters_per_rank"], rel=0.02
    )
    assert plan["memory_per_rank"]["total"] < plan["device_bytes"] == 80e9
    assert not tiny_workspace.draft_path("model", "huge").exists()
