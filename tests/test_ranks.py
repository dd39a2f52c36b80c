"""Several processes make the model that one makes, and take over from one another."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from llmctl.workspace import Artifact, Workspace
from tests.ranks import Job, train
from tests.test_resume import metrics

STEPS = 12
# A key's bias moves all scores of a query alike: its gradient is rounding, which AdamW enlarges.
NOISE = "attn.c_attn.bias"
# A width that three ranks or two do not divide evenly, and a batch that they do.
RUN = {
    "layers": 2,
    "width": 36,
    "heads": 6,
    "kv_heads": 2,
    "context": 32,
    "batch": 8,
    "steps": STEPS,
    "warmup": 2,
    "save_every": 4,
    "eval_every": 6,
    "device": "cpu",
    "precision": "float32",
    # What has foreseen pairs has small gradients at first, whose rounding Muon lifts.
    "init": "random",
}

LEARNED = {"family": "gpt2", "heads": 4, "kv_heads": None}
FSDP, SLICED, CUT = {"parallel": "fsdp"}, {"context_parallel": 2}, {"tp": 2}


def job(size: int, name: str, **knobs: Any) -> Job:
    return Job(size, RUN | {"name": f"of-ranks-{name}"} | knobs)


@pytest.fixture(scope="module")
def trained(tiny_workspace: Workspace) -> Workspace:
    exact = {"deterministic": True, "precision": "auto", "init": "bigram"}
    train(
        tiny_workspace,
        [
            job(1, "one"),
            job(2, "ddp", devices={"parallel": "ddp"}, recompute="selective"),
            job(2, "fsdp", devices=FSDP),
            job(1, "fsdp-alone", devices=FSDP),
            job(4, "hsdp", devices={"parallel": "hsdp"}),
            # One key head for two slices.
            job(2, "adamw", devices=SLICED | FSDP, optimizer="adamw", kv_heads=1),
            job(1, "adamw-one", optimizer="adamw", kv_heads=1),
            job(2, "full-offload", devices=FSDP | {"cpu_offload": True}, recompute="full"),
            job(4, "slices-fsdp", devices=SLICED | FSDP),
            job(1, "learned", **LEARNED),
            job(4, "learned-teams", **LEARNED, devices=SLICED | CUT),
            job(1, "exact", **exact),
            job(2, "exact-2", **exact),
            job(4, "exact-4", **exact),
            job(1, "longer", steps=2 * STEPS),
            # The plateau of the shorter run is what a longer one goes on from.
            job(2, "hops", devices=FSDP),
            job(1, "hops", steps=2 * STEPS),
            job(1, "hops-back"),
            job(2, "hops-back", devices=SLICED | FSDP, steps=2 * STEPS),
            job(2, "hops-into-parts", devices=FSDP),
            job(2, "hops-into-parts", devices=CUT, steps=2 * STEPS),
            job(4, "hops-out-of-parts", devices=CUT | FSDP),
            job(1, "hops-out-of-parts", steps=2 * STEPS),
            job(1, "exact-longer", **exact | {"steps": 2 * STEPS}),
            job(2, "exact-hops", **exact),
            job(1, "exact-hops", **exact | {"steps": 2 * STEPS}),
        ],
    )
    return tiny_workspace


def model(workspace: Workspace, name: str) -> Artifact:
    return workspace.find("model", f"of-ranks-{name}")


def furthest(one: Path, other: Path) -> float:
    mine, theirs = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    assert mine.keys() == theirs.keys()
    keys = [key for key in mine if not key.endswith(NOISE)]
    return max(float(np.abs(mine[key] - theirs[key]).max()) for key in keys)


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("ddp", "one"),
        ("fsdp", "one"),
        ("fsdp-alone", "one"),
        ("hsdp", "one"),
        ("adamw", "adamw-one"),
        ("full-offload", "one"),
        ("slices-fsdp", "one"),
        ("learned-teams", "learned"),
        ("hops", "longer"),
        ("hops-back", "longer"),
        ("hops-into-parts", "longer"),
        ("hops-out-of-parts", "longer"),
    ],
)
def test_however_a_run_lies_over_processes_its_losses_and_weights_are_those_of_one(
    trained: Workspace, name: str, reference: str
) -> None:
    mine, theirs = model(trained, name), model(trained, reference)

    losses = [row["loss"] for row in metrics(mine.path) if "loss" in row]
    expected = [row["loss"] for row in metrics(theirs.path) if "loss" in row]

    # Sums in another order: float32 rounds at 6e-8, and a few steps of Muon make the most of it.
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    assert furthest(mine.path, theirs.path) < 1e-4
    assert mine.facts["tokens"] == theirs.facts["tokens"]


@pytest.mark.parametrize(
    ("name", "reference"),
    [("exact-2", "exact"), ("exact-4", "exact"), ("exact-hops", "exact-longer")],
)
def test_deterministic_runs_have_the_same_bits_in_any_number_of_processes(
    trained: Workspace, name: str, reference: str
) -> None:
    mine, theirs = model(trained, name), model(trained, reference)

    assert metrics(mine.path) == metrics(theirs.path)
    assert furthest(mine.path, theirs.path) == 0


def test_a_model_says_in_how_many_processes_and_how_it_was_trained(trained: Workspace) -> None:
    facts = model(trained, "hsdp").facts

    assert (facts["world_size"], facts["parallel"]) == (4, "hsdp")
    assert 0 < facts["goodput"]["share"] <= 1


def test_a_run_goes_on_where_other_processes_left_it(trained: Workspace) -> None:
    assert model(trained, "hops").facts["resumed_from"] == STEPS // 2
    assert model(trained, "hops").facts["world_size"] == 1
    assert model(trained, "hops-back").facts["world_size"] == 2
    assert model(trained, "hops-into-parts").facts["tensor_parallel"] == 2
    assert model(trained, "hops-out-of-parts").facts["resumed_from"] == STEPS // 2


def test_ranks_look_together_whether_what_they_go_on_from_is_sound(trained: Workspace) -> None:
    (step,) = (model(trained, "fsdp").path / "state").glob("step-*")
    assert sorted(one.name for one in step.iterdir()) == [
        "seal.json",
        "shard-00001-model-00001-of-00001.safetensors",
        "shard-00002-model-00001-of-00001.safetensors",
        "trainer.json",
    ]
    part = next(step.glob("shard-00002-*"))
    content = bytearray(part.read_bytes())
    content[-1] ^= 1
    part.write_bytes(content)

    with pytest.raises(AssertionError, match=f"damaged \\({part.name} does not match"):
        train(trained, [job(2, "fsdp", devices=FSDP, steps=2 * STEPS)])
