"""Going on from a trained model with other text, and reading several texts by weight."""

from pathlib import Path
from typing import Any

import pytest

from llmctl.data.sources.files import Files
from llmctl.errors import ConfigError, WorkspaceError
from llmctl.stages import collect, pretrain, tokenize
from llmctl.workspace import Workspace

SMALL: dict[str, Any] = {"context": 64, "batch": 16, "eval_tokens": 8192}
SHAPE: dict[str, Any] = {"layers": 2, "width": 64, "heads": 2}
RHYME = "Seven green bottles stood upon the wall, and one of them was number {}.\n\n"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, tiny_workspace: Workspace) -> Workspace:
    """A workspace with two texts that differ, both as bytes."""
    folder = tmp_path_factory.mktemp("domains")
    found = Workspace(folder / "workspace")
    topics = tiny_workspace.root.parent / "topics"
    (folder / "rhymes.txt").write_text("".join(RHYME.format(n) for n in range(2000)))
    collect.run(collect.Collect(source=Files(paths=(str(topics),)), name="manuals"), found)
    rhymes = Files(paths=(str(folder / "rhymes.txt"),), split="blank-lines")
    collect.run(collect.Collect(source=rhymes, name="rhymes"), found)
    tokenize.run(tokenize.Tokenize(level="byte", validation="0.05"), found)
    config = pretrain.Pretrain(from_="manuals", steps=80, name="old", **SMALL, **SHAPE)
    pretrain.run(config, found)
    return found


def go_on(workspace: Workspace, **knobs: Any) -> Any:
    config = pretrain.Pretrain(base="old", from_="rhymes", steps=40, **SMALL, **knobs)
    return pretrain.run(config, workspace)


def test_new_text_is_learnt_and_what_the_old_cost_is_told(workspace: Workspace) -> None:
    made = go_on(workspace)

    before, after = made.facts["before"]["domains"], made.facts["domains"]
    assert made.name == "old-more"
    assert after["rhymes"] < 0.7 * before["rhymes"]
    assert before["manuals"] == pytest.approx(
        workspace.find("model", "old").facts["val_bits_per_byte"], rel=0.05
    )


def test_replay_keeps_the_old_text_better(workspace: Workspace) -> None:
    without = go_on(workspace, replay=0.0, name="forgetful")
    with_half = go_on(workspace, replay=0.5, name="mindful")

    forgot, kept = (one.facts["domains"]["manuals"] for one in (without, with_half))
    assert kept < forgot
    assert with_half.facts["mix"]["manuals"]["share"] == 0.5


def test_more_of_the_text_that_the_base_has_read_is_not_told_as_missing(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    config = pretrain.Pretrain(base="old", from_="manuals", steps=1, name="same", **SMALL)

    pretrain.run(config, workspace)

    assert "nothing is replayed" not in capsys.readouterr().err


@pytest.mark.parametrize("shape", [{"layers": 4}, {"size": "tiny"}, {"family": "llama"}])
def test_a_base_keeps_its_shape(workspace: Workspace, shape: dict[str, Any]) -> None:
    (key,) = shape
    with pytest.raises(ConfigError, match=f"`--{key}` says what `--base` says already"):
        go_on(workspace, name="other", **shape)


@pytest.mark.parametrize("base", ["old", "models/old"])
def test_a_base_is_never_replaced_by_what_goes_on_from_it(workspace: Workspace, base: str) -> None:
    before = workspace.find("model", "old").digest
    reference = base if base == "old" else str(workspace.root / base)
    config = pretrain.Pretrain(
        base=reference, from_="rhymes", steps=1, name="old", force=True, **SMALL
    )

    with pytest.raises(ConfigError, match="models/old is what is read"):
        pretrain.run(config, workspace)

    assert workspace.find("model", "old").digest == before


def test_text_of_another_tokenizer_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"from_": ("rhymes",), "vocab_size": 300, "tokenizer_name": "other"}
    tokenize.run(tokenize.Tokenize(name="rhymes-bpe", **settings), workspace)
    config = pretrain.Pretrain(base="old", from_="rhymes-bpe", steps=5, name="wrong", **SMALL)

    with pytest.raises(ConfigError, match="was not made by the tokenizer of models/old"):
        pretrain.run(config, workspace)


def test_a_mix_reads_each_text_by_its_share(workspace: Workspace) -> None:
    config = pretrain.Pretrain(mix="manuals=3,rhymes=1", steps=30, name="mixed", **SMALL, **SHAPE)

    made = pretrain.run(config, workspace)

    mix = made.facts["mix"]
    assert {name: one["share"] for name, one in mix.items()} == {"manuals": 0.75, "rhymes": 0.25}
    assert mix["rhymes"]["epochs"] > 0
    assert [one.name for one in made.manifest.inputs] == ["manuals", "rhymes"]


def test_a_mix_whose_text_is_missing_names_it(workspace: Workspace) -> None:
    config = pretrain.Pretrain(mix="gpt3", steps=5, name="big", **SMALL, **SHAPE)

    with pytest.raises(WorkspaceError, match="no tokens named `commoncrawl`"):
        pretrain.run(config, workspace)


def test_a_dry_run_plans_what_another_of_its_name_stands_in_the_way_of_and_says_so(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    wider: dict[str, Any] = {"layers": 2, "width": 128, "heads": 2, "context": 64, "steps": 80}
    there = pretrain.Pretrain(from_="manuals", steps=80, name="old", dry_run=True, **SMALL, **SHAPE)
    capsys.readouterr()

    planned = pretrain.run(
        pretrain.Pretrain(from_="manuals", name="old", dry_run=True, **wider), workspace
    )
    elsewhere = pretrain.run(
        pretrain.Pretrain(from_="manuals", name="new", dry_run=True, **wider), workspace
    )

    assert isinstance(planned, dict)
    assert isinstance(elsewhere, dict)
    assert planned["plan"] | {"name": "new"} == elsewhere["plan"]
    assert "width 64 -> 128" in planned["in_the_way"]
    assert "another `--name` keeps both" in capsys.readouterr().err
    assert pretrain.run(there, workspace) == workspace.find("model", "old")
