"""The hub: one commit of a repository, fetched once; and a refusal says what to do."""

import errno
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from llmctl.errors import RemoteError, TrainingError
from llmctl.hub import fetch, is_hub_id

NAME = "somebody/something"


@pytest.fixture
def folder(hub, tmp_path: Path) -> Path:
    """What the hub's one repository holds."""
    folder = tmp_path / "repository"
    folder.mkdir()
    for name in ("config.json", "notes.txt", "pytorch_model.bin"):
        (folder / name).write_text(name)
    hub.repositories[NAME] = folder
    return folder


def test_what_matches_is_fetched_and_nothing_else(folder: Path, hub) -> None:
    path, revision = fetch(NAME, patterns=["*.json"])

    assert [one.name for one in path.iterdir()] == ["config.json"]
    assert (path / "config.json").read_text() == "config.json"
    assert revision == hub.commit


def test_a_commit_is_pinned_and_needs_no_hub_once_it_is_here(folder: Path, hub) -> None:
    fetched = fetch(NAME, patterns=["*.json"])
    hub.stop()

    assert fetch(NAME, patterns=["*.json"], revision=fetched.revision) == fetched
    assert fetch(NAME, patterns=["*.json"]) == fetched


def test_the_token_of_the_environment_is_shown_to_the_hub(folder: Path, hub, monkeypatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")

    fetch(NAME, patterns=["*.json"])

    assert set(hub.tokens) == {"Bearer hf_secret"}


@pytest.mark.parametrize(
    ("refusal", "message", "hint"),
    [
        ((403, "GatedRepo"), "gated", f"/{NAME}, then set HF_TOKEN"),
        ((401, "Anything"), "token in HF_TOKEN", "settings/tokens"),
    ],
)
def test_a_refused_file_says_how_to_get_it(
    folder: Path, hub, refusal: tuple[int, str], message: str, hint: str
) -> None:
    hub.refusals[NAME] = refusal

    with pytest.raises(RemoteError, match=message) as told:
        fetch(NAME, patterns=["*.json"])

    assert hint in str(told.value.hint)
    assert told.value.exit_code == 7


def test_a_repository_that_is_not_there_is_named(hub) -> None:
    with pytest.raises(RemoteError, match=f"no repository `{NAME}`") as told:
        fetch(NAME, patterns=["*"])

    assert f"{hub.address}/{NAME}" in str(told.value.hint)


def test_a_revision_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(RemoteError, match=f"`{NAME}` has no revision `v9`"):
        fetch(NAME, patterns=["*"], revision="v9")


def test_without_a_network_a_folder_is_proposed(hub) -> None:
    hub.stop()

    with pytest.raises(RemoteError, match=f"cannot be reached for `{NAME}`") as told:
        fetch(NAME, patterns=["*"])

    assert "folder" in str(told.value.hint)


def test_a_forbidden_network_is_said_to_be_one(folder: Path, hub, monkeypatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    with pytest.raises(RemoteError, match="HF_HUB_OFFLINE"):
        fetch(NAME, patterns=["*"])

    assert hub.asked == []


def test_a_full_disk_is_said_to_be_one(folder: Path, hub, monkeypatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise RuntimeError("xet gave up") from OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", full)

    with pytest.raises(TrainingError, match="disk is full"):
        fetch(NAME, patterns=["*"])


@pytest.mark.parametrize("reference", ["gpt2", "./a/b", "/a/b", "a/b/c", "a/", "../b", "", "~/b"])
def test_what_can_be_a_path_is_no_hub_id(reference: str) -> None:
    assert not is_hub_id(reference)


def test_a_folder_that_stands_here_is_no_hub_id(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert is_hub_id("organisation/name")
    (tmp_path / "organisation/name").mkdir(parents=True)
    assert not is_hub_id("organisation/name")
