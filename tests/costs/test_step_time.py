import pytest

from llmctl.costs.accelerators import accelerator
from llmctl.costs.estimate import Plan, estimate
from llmctl.costs.flops import training_flops
from llmctl.costs.memory import Layout
from llmctl.costs.network import from_counts
from llmctl.costs.step_time import StepTime, step_time, usual_batch

PLAN = Plan(network=from_counts(70e9), tokens=1e12, chip=accelerator("H100-SXM-80GB"), gpus=512)


def hours(**layout: object) -> float:
    plan = PLAN._replace(layout=Layout(gpus=512, **layout))  # pyright: ignore
    return estimate(plan).figures["gpu_hours"].mid


def turing(gpus: int) -> StepTime:
    network = from_counts(530e9, context=2048)
    return step_time(
        network,
        accelerator("A100-SXM-80GB"),
        Layout(gpus=gpus, tp=8, pp=35, recompute="full"),
        flops_per_token=training_flops(network, stage="pretrain", tokens=1).model,
        batch_tokens=1920 * 2048,
    )


def test_a_layout_that_nobody_wished_for_leaves_the_prior_alone():
    assert all("layout" not in why for why in estimate(PLAN).rate.why)
    assert hours(zero=3) == hours()


def test_cuts_that_are_not_needed_cost_time_and_longer_ones_more():
    assert hours() < hours(pp=2) < hours(pp=8)
    assert hours() < hours(tp=2) < hours(tp=8) < hours(tp=16)
    assert hours() < hours(recompute="selective") < hours(recompute="full") < 1.2 * hours()


def test_what_is_modelled_and_not_measured_widens_the_interval():
    usual, wished = (estimate(PLAN._replace(layout=Layout(gpus=512, tp=tp))).rate for tp in (1, 8))

    assert wished.spread > usual.spread


def test_a_measured_rate_has_its_layout_in_it_already():
    measured = PLAN._replace(tokens_per_second=4e5)
    pipelined = measured._replace(layout=Layout(gpus=512, pp=8))

    assert estimate(pipelined).rate == estimate(measured).rate


def test_a_larger_batch_makes_the_bubble_smaller():
    layout = Layout(gpus=512, pp=8)
    small, large = (
        estimate(PLAN._replace(layout=layout, batch_tokens=tokens)).figures["gpu_hours"].mid
        for tokens in (2e6, 16e6)
    )

    assert large < small


# Megatron-Turing 530B (arXiv 2201.11990, section 2.4): 60.1, 50.2 and 44.4 seconds a step on 280,
# 350 and 420 machines; the batch stays, so that more replicas have fewer micro-batches each.
@pytest.mark.parametrize(("gpus", "seconds"), [(2800, 50.2), (3360, 44.4)])
def test_a_pipeline_scales_as_that_of_a_published_run(gpus: int, seconds: float):
    ratio = turing(gpus).total / turing(2240).total

    assert ratio == pytest.approx(seconds / 60.1, rel=0.05)


def test_the_usual_batch_is_that_of_gpt3():
    assert usual_batch(from_counts(125e6)) == pytest.approx(0.5e6, rel=0.01)
    assert usual_batch(from_counts(175e9)) == pytest.approx(3.2e6, rel=0.05)
