"""What `tokenize` refuses or warns of, when, and what it leaves behind."""

from pathlib import Path
from typing import Any

import pytest

from llmctl.data.sources.files import Files
from llmctl.errors import ConfigError, DataError, WorkspaceError
from llmctl.stages.clean import Clean
from llmctl.stages.clean import run as clean
from llmctl.stages.collect import Collect
from llmctl.stages.collect import run as collect
from llmctl.stages.tokenize import Tokenize, run
from llmctl.workspace import Artifact, Workspace

LINE = "Seven green bottles stood upon the wall, and one of them was number {}.\n\n"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A workspace with one small corpus, `rhymes`."""
    found = Workspace(tmp_path / "workspace")
    text = tmp_path / "rhymes.txt"
    text.write_text("".join(LINE.format(number) for number in range(400)))
    collect(Collect(source=Files(paths=(str(text),), split="blank-lines")), found)
    return found


def tokenized(workspace: Workspace, **knobs: Any) -> Artifact:
    made = run(Tokenize(**knobs), workspace)
    assert isinstance(made, Artifact)
    return made


def test_text_that_leaves_nothing_to_validate_on_is_not_in_the_way_of_the_next(
    workspace: Workspace, tmp_path: Path
) -> None:
    (tmp_path / "short.txt").write_text("One line, and no more.")
    collect(Collect(source=Files(paths=(str(tmp_path / "short.txt"),))), workspace)
    tokenized(workspace, from_=("rhymes",))

    with pytest.raises(DataError, match="too little text"):
        tokenized(workspace, from_=("short",))

    held_out = str(tmp_path / "rhymes.txt")
    assert tokenized(workspace, from_=("short",), validation=held_out).facts["documents"]


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"validation": "1.5"}, "is no share of a text"),
        ({"vocab_size": 0}, "a vocabulary of 0 has no room"),
    ],
)
def test_numbers_that_make_no_sense_are_refused_before_a_tokenizer_is_made(
    workspace: Workspace, knobs: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        tokenized(workspace, **knobs)

    assert not workspace.artifacts("tokenizer")


def test_another_tokenizer_of_that_name_is_refused_with_the_flag_that_names_it(
    workspace: Workspace,
) -> None:
    tokenized(workspace)

    with pytest.raises(WorkspaceError, match="vocab_size null -> 300") as refusal:
        tokenized(workspace, vocab_size=300)

    assert "another `--tokenizer-name` keeps both" in str(refusal.value.hint)


def test_a_held_out_side_that_says_nothing_is_warned_of(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenized(workspace, validation="0.01", name="few")
    few = capsys.readouterr().err
    tokenized(workspace, validation="0.2", name="enough")
    enough = capsys.readouterr().err

    assert "too few to judge a model by" in few
    assert "too few" not in enough


@pytest.mark.parametrize("command", [Tokenize, Clean, Collect])
def test_a_dry_run_refuses_a_name_that_cannot_be(
    workspace: Workspace, tmp_path: Path, command: Any
) -> None:
    given = {"source": Files(paths=(str(tmp_path / "rhymes.txt"),))} if command is Collect else {}
    config = command(name="a/b", dry_run=True, **given)

    with pytest.raises(ConfigError, match="a/b"):
        {Tokenize: run, Clean: clean, Collect: collect}[command](config, workspace)
