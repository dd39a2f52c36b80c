"""The hub: rows of a data set, split over its files, the text found among its columns."""

import json
from pathlib import Path

import pytest

from llmctl.data.document import Document
from llmctl.data.fetching.network import Fetching
from llmctl.data.sources.hub import Hub
from llmctl.errors import ConfigError, DataError
from llmctl.stages.collect import Collect, run
from llmctl.workspace import Artifact, Workspace

SENTENCE = "The river rises in the hills behind the town and turns twice before the mill."


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set as the hub stores it: two files of a split, one of another."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    folder = tmp_path / "rivers"
    folder.mkdir()
    for name, numbers in (("train-0", (1, 2)), ("train-1", (3, 4)), ("test-0", (5,))):
        rows = [{"id": f"r{n}", "story": f"{n} {SENTENCE}", "url": f"u{n}"} for n in numbers]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_the_rows_of_a_split_become_documents_file_by_file(repository: Path, tmp_path: Path):
    source = Hub(repo=str(repository), licence="CC0")

    made = run(Collect(source=source), Workspace(tmp_path / "workspace"))
    documents = [one for part in source.parts() for one in source.read(part)]

    assert isinstance(made, Artifact)
    assert made.name == "rivers"
    assert made.facts["documents"] == 4
    assert len(source.parts()) == 2
    texts = [one.text for one in documents if isinstance(one, Document)]
    assert texts == [f"{number} {SENTENCE}" for number in (1, 2, 3, 4)]
    first = next(one for one in documents if isinstance(one, Document))
    assert (first.url, first.licence, first.meta) == ("u1", "CC0", {"id": "r1"})


def test_another_split_and_column_are_chosen(repository: Path):
    source = Hub(repo=str(repository), split="test", column="id")

    documents = [one for part in source.parts() for one in source.read(part)]

    assert [one.text for one in documents if isinstance(one, Document)] == ["r5"]


def test_a_split_that_is_not_there_is_told(repository: Path):
    with pytest.raises(DataError, match="rivers"):
        Hub(repo=str(repository), split="nothing").parts()


def test_a_name_that_is_none_is_refused():
    with pytest.raises(ConfigError):
        Hub(repo="a/b/c")


def test_the_parts_of_a_run_that_was_cut_are_those_that_it_began_with():
    assert isinstance(Hub(repo="a/b"), Fetching)
