from pathlib import Path

import pytest

from llmctl.data.tokenizer_hub import tokenizer_from
from llmctl.data.tokenizer_training import byte_tokenizer
from llmctl.errors import ConfigError, RemoteError


@pytest.fixture
def saved(hub, tmp_path) -> Path:
    folder = tmp_path / "saved"
    folder.mkdir()
    byte_tokenizer().save(folder)
    hub.repositories["somebody/something"] = folder
    return folder


def test_a_folder_and_a_file_are_read_without_a_hub(saved):
    digests = {tokenizer_from(str(place)).digest for place in (saved, saved / "tokenizer.json")}

    assert digests == {byte_tokenizer().digest}


def test_a_hub_id_is_fetched_once_and_found_again_when_the_hub_is_gone(hub, saved):
    fetched = tokenizer_from("somebody/something", endpoint=hub.address)
    hub.stop()
    again = tokenizer_from("somebody/something", endpoint=hub.address)

    assert fetched.digest == again.digest == byte_tokenizer().digest


def test_a_hub_that_does_not_answer_is_a_remote_error_that_names_the_repository(hub):
    hub.stop()

    with pytest.raises(RemoteError, match="somebody/nothing"):
        tokenizer_from("somebody/nothing", endpoint=hub.address)


def test_a_repository_without_a_fast_tokenizer_is_refused(hub, saved):
    (saved / "tokenizer.json").unlink()

    with pytest.raises(ConfigError, match=r"no tokenizer\.json"):
        tokenizer_from("somebody/something", endpoint=hub.address)


@pytest.mark.parametrize("reference", ["nothing-here", "./a/b/c", "tokenizer.json", ""])
def test_what_can_be_no_hub_id_never_reaches_for_the_hub(reference, hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ConfigError):
        tokenizer_from(reference, endpoint=hub.address)
    assert hub.asked == []
