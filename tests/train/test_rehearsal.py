"""A dry run over many ranks that are not here: what each would hold, and how they would talk."""

import json
import shutil

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


def test_a_row_that_does_not_fit_is_told_what_would_make_it_fit(
    tiny_workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    here = ["--workspace", str(tiny_workspace.root), "--name", "long", "--dry-run", "--json"]
    long = ["--size", "xl", "--context", "131072", "--gpus", "64", *here]

    plans = []
    again = ["--recompute", "full"]
    for more in ([], again, ["--context-parallel", "8"], [*again, "--context", "1048576"]):
        assert main(["pretrain", *long, *more]) == 0
        plans.append(json.loads(capsys.readouterr().out)["plan"])

    alone, *_, longer = plans
    assert [one["fits"] for one in plans] == [False, True, True, False]
    assert "fits with `--recompute full`" in alone["hint"]
    assert "fits with `--context-parallel" in longer["hint"]


@pytest.mark.parametrize(("flags", "begun"), [(["--batch", "8"], None), ([], 8)])
def test_rows_that_processes_cannot_share_are_refused_before_there_is_a_run(
    tiny_workspace: Workspace,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    begun: int | None,
) -> None:
    here = ["--workspace", str(tiny_workspace.root), "--name", "uneven", "--dry-run", "--json"]
    draft = tiny_workspace.draft_path("model", "uneven")
    if begun is not None:
        draft.mkdir(parents=True)
        (draft / "recipe.json").write_text(json.dumps({"batch": begun}), encoding="utf-8")

    code = main(["pretrain", "--device", "cpu", "--processes", "3", *flags, *here])

    shutil.rmtree(draft, ignore_errors=True)
    assert code == 2
    message = json.loads(capsys.readouterr().out)["error"]["message"]
    assert message == "8 rows do not divide over 3 processes"


@pytest.mark.parametrize(("ranks", "rows"), [("3", 9), ("12", 12), ("16", 16)])
def test_rows_that_nobody_asked_for_are_so_many_that_processes_can_share_them(
    tiny_workspace: Workspace, capsys: pytest.CaptureFixture[str], ranks: str, rows: int
) -> None:
    here = ["--workspace", str(tiny_workspace.root), "--name", "even", "--dry-run", "--json"]

    assert main(["pretrain", "--device", "cpu", "--processes", ranks, "--steps", "3", *here]) == 0

    plan = json.loads(capsys.readouterr().out)["plan"]
    text = tiny_workspace.take("tokens", None).facts["train_tokens"]
    assert plan["rows"] == rows
    assert plan["epochs"] == pytest.approx(3 * rows * plan["context"] / text, rel=5e-3)


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
