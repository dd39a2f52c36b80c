"""Golden losses: a change of code that should not change the arithmetic does not."""

import json
from pathlib import Path

import pytest

from llmctl.data.sources.files import Files
from llmctl.stages import collect, tokenize
from llmctl.stages.pretrain import Pretrain, run
from llmctl.workspace import Artifact, Workspace

GOLDEN = Path(__file__).parent / "golden" / "losses.json"
# Singular vectors differ by processor in more than the last bits, so nothing begins with them.
SHAPE = {
    "layers": 2, "width": 32, "heads": 2, "context": 32, "batch": 8, "init": "random",
}  # fmt: skip
# Processors round the last bits of a product differently, and twenty steps make more of it.
TOLERANCE = 1e-3


@pytest.fixture(scope="module")
def sums(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A corpus that no release of Python will ever change."""
    folder = tmp_path_factory.mktemp("sums")
    lines = [f"{left} times {right} is {left * right}" for left in range(60) for right in range(9)]
    (folder / "sums.txt").write_text("\n".join(lines), encoding="utf-8")
    workspace = Workspace(folder / "workspace")
    collect.run(collect.Collect(source=Files(paths=(str(folder / "sums.txt"),))), workspace)
    tokenize.run(tokenize.Tokenize(level="byte", validation="0.1"), workspace)
    return workspace


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("family", ["qwen3", "llama", "gpt2"])
def test_twenty_steps_on_a_fixed_corpus_reproduce_the_stored_losses(
    sums: Workspace, request: pytest.FixtureRequest, family: str, optimizer: str
) -> None:
    name = f"{family}-{optimizer}"
    knobs = SHAPE | {"family": family, "optimizer": optimizer, "name": name}

    made = run(Pretrain(steps=20, deterministic=True, **knobs), sums)

    assert isinstance(made, Artifact)
    rows = [json.loads(line) for line in (made.path / "metrics.jsonl").read_text().splitlines()]
    losses = [round(row["loss"], 5) for row in rows if "loss" in row]
    stored = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if request.config.getoption("--update-golden"):
        GOLDEN.write_text(json.dumps(stored | {name: losses}, sort_keys=True) + "\n")
        return
    assert losses == pytest.approx(stored[name], rel=TOLERANCE)
