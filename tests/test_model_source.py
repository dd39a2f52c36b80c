"""Which model is meant: of the workspace, a checkpoint of it, a folder, or one of the hub."""

from pathlib import Path

import pytest

from llmctl.durable import sealed_directory
from llmctl.errors import WorkspaceError
from llmctl.workspace import Artifact, Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


def write_model(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")


def make(workspace: Workspace, name: str, sort: str = "causal-lm") -> Artifact:
    with workspace.draft("model", name, config={}) as draft:
        write_model(draft.path)
        with sealed_directory(draft.path / "state" / "step-00000007") as step:
            write_model(step)
        return draft.finish(facts={}, sort=sort)


def test_a_name_is_the_model_of_the_workspace_and_its_input_is_the_artifact(
    workspace: Workspace,
) -> None:
    made = make(workspace, "mine")

    found = workspace.model_source("mine", sorts=("causal-lm",))

    assert found == (made.path, made.as_input(), "models/mine")


def test_the_folder_of_a_model_of_the_workspace_is_that_model(workspace: Workspace) -> None:
    made = make(workspace, "mine")

    assert workspace.model_source(str(made.path)) == workspace.model_source("mine")
    with pytest.raises(WorkspaceError, match="models/mine is a causal-lm"):
        workspace.model_source(str(made.path), sorts=("classifier",))


def test_without_a_reference_the_newest_of_the_first_sort_that_there_is_is_taken(
    workspace: Workspace,
) -> None:
    for name, sort in (("a", "causal-lm"), ("b", "causal-lm"), ("c", "classifier")):
        make(workspace, name, sort)

    assert workspace.model_source(None, sorts=("chat-lm", "causal-lm")).label == "models/b"
    assert workspace.model_source(None).label == "models/c"


def test_a_model_of_another_sort_is_refused_by_name(workspace: Workspace) -> None:
    make(workspace, "spam", "classifier")

    with pytest.raises(WorkspaceError, match="models/spam is a classifier"):
        workspace.model_source("spam", sorts=("causal-lm", "chat-lm"))


def test_a_step_is_an_input_of_its_own(workspace: Workspace) -> None:
    made = make(workspace, "mine")

    found = workspace.model_source("mine@7")

    assert found.path == made.path / "state" / "step-00000007"
    assert (found.input.kind, found.input.name) == ("checkpoint", "mine@7")
    with pytest.raises(WorkspaceError, match="no checkpoint of step 8"):
        workspace.model_source("mine@8")


def test_weights_that_changed_are_not_used(workspace: Workspace) -> None:
    made = make(workspace, "mine")
    (made.path / "model.safetensors").write_bytes(b"weightz")

    with pytest.raises(WorkspaceError, match=r"model\.safetensors"):
        workspace.model_source("mine")


def test_a_folder_is_an_input_by_what_its_model_is_made_of(
    workspace: Workspace, tmp_path: Path
) -> None:
    folder = tmp_path / "theirs"
    write_model(folder)

    first = workspace.model_source(str(folder))
    (folder / "README.md").write_text("of no account")
    same = workspace.model_source(str(folder))
    (folder / "model.safetensors").write_bytes(b"weightz")
    other = workspace.model_source(str(folder))

    assert (first.path, first.label) == (folder, str(folder))
    assert first.input == same.input
    assert first.input.digest != other.input.digest


def test_a_hub_id_is_fetched_and_pinned_by_its_commit(
    workspace: Workspace, hub, tmp_path: Path
) -> None:
    write_model(tmp_path / "repository")
    (tmp_path / "repository" / "pytorch_model.bin").write_bytes(b"a pickle")
    hub.repositories["somebody/theirs"] = tmp_path / "repository"

    found = workspace.model_source("somebody/theirs")

    assert sorted(one.name for one in found.path.iterdir()) == ["config.json", "model.safetensors"]
    assert (found.input.kind, found.input.digest) == ("hub", hub.commit)
    assert found.label == "somebody/theirs@012345678901"


def test_a_reference_that_is_nothing_is_refused_without_a_hub(workspace: Workspace, hub) -> None:
    make(workspace, "mine")

    with pytest.raises(WorkspaceError, match="no model named `mina`") as told:
        workspace.model_source("mina")

    assert "`mine`" in str(told.value.hint)
    assert hub.asked == []


def test_a_folder_without_a_model_is_told_from_a_name(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="there is no model in") as told:
        workspace.model_source(str(tmp_path))

    assert "config.json" in str(told.value.hint)
