"""Forgetting: what was asked to go is nowhere in corpora and tokens, and the rest is as it was."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from llmctl.data.sources.files import Files
from llmctl.errors import DataError
from llmctl.shards import ShardReader
from llmctl.stages import clean, collect, forget, show, tokenize
from llmctl.stages.forget import Forget
from llmctl.workspace import Artifact, Workspace

WORDS = "the river and a stone house have to be with that of morning teacher garden letter".split()


def text(seed: int) -> str:
    chance = random.Random(seed)
    told = (" ".join(chance.choices(WORDS, k=10)) for _ in range(9))
    return " ".join(f"{one.capitalize()}." for one in told)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Two sites with twenty pages each, one of them twice; cleaned, tokenized."""
    for site in ("one", "two"):
        folder = tmp_path / "sites" / site
        folder.mkdir(parents=True)
        for page in range(20):
            body = text(page if site == "one" else 100 + page)
            (folder / f"{page:02d}.txt").write_text(body)
    (tmp_path / "sites" / "two" / "99.txt").write_text(text(3) + "\n\n")
    place = Workspace(tmp_path / "workspace")
    source = Files(paths=(str(tmp_path / "sites"),))
    collect.run(collect.Collect(source=source, name="web"), place)
    clean.run(clean.Clean(keep_dropped=True), place)
    tokenize.run(tokenize.Tokenize(level="byte", validation="0.2"), place)
    return place


def bytes_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def ids(folder: Path, column: str = "id") -> list[str]:
    return [name for batch in ShardReader(folder) for name in batch.column(column).to_pylist()]


def an_id(workspace: Workspace, ending: str) -> str:
    return next(name for name in ids(workspace.path("corpus", "web")) if name.endswith(ending))


def test_the_raw_corpus_is_not_tokenized_beside_the_cleaned_one(
    workspace: Workspace, tmp_path: Path
) -> None:
    other = Files(paths=(str(tmp_path / "sites" / "one"),))
    collect.run(collect.Collect(source=other), workspace)

    tokenize.run(tokenize.Tokenize(level="byte", validation="0.2"), workspace)

    assert {one.name for one in workspace.artifacts("tokens")} == {"one", "web-clean"}


def test_a_forgotten_document_is_nowhere_and_the_others_are_where_they_were(
    workspace: Workspace,
) -> None:
    name = an_id(workspace, "one/05.txt")
    before = ids(workspace.path("corpus", "web-clean"))
    tokens = workspace.find("tokens", "web-clean").facts["tokens"]

    answer = forget.run(Forget(documents=(name,)), workspace)

    assert answer["rewritten"] == ["corpora/web", "corpora/web-clean", "tokens/web-clean"]
    for folder in ("corpora", "tokens"):
        assert name.encode() not in bytes_of(workspace.root / folder)
    left = ids(workspace.path("corpus", "web-clean"))
    assert left == [one for one in before if one != name]
    made = workspace.find("tokens", "web-clean")
    assert made.facts["tokens"] == tokens - len(text(5).encode()) - 1
    assert made.facts["documents"] == len(left)


def test_what_was_rewritten_is_whole_and_not_stale(workspace: Workspace) -> None:
    forget.run(Forget(documents=(an_id(workspace, "one/05.txt"),)), workspace)

    for kind in ("corpus", "tokens"):
        for one in workspace.artifacts(kind):
            assert isinstance(workspace.take(kind, one.name), Artifact)
            assert len(list(one.verify())) == len(one.manifest.files)


def test_all_of_a_source_goes(workspace: Workspace, tmp_path: Path) -> None:
    answer = forget.run(Forget(source=str(tmp_path / "sites" / "two")), workspace)

    assert len(answer["documents"]) == 21
    assert not [name for name in ids(workspace.path("corpus", "web")) if "/two/" in name]
    assert len(ids(workspace.path("corpus", "web-clean"))) == 20


def test_copies_that_are_still_there_and_what_was_trained_are_listed(workspace: Workspace) -> None:
    answer = forget.run(Forget(documents=(an_id(workspace, "one/03.txt"),)), workspace)

    assert answer["copies"] == [an_id(workspace, "two/99.txt")]
    assert answer["retrain"] == []


def test_an_interrupted_forgetting_is_finished_by_the_same_command(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = an_id(workspace, "one/05.txt")
    real, calls = forget._rewrite, []

    def failing(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            raise MemoryError
        real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(forget, "_rewrite", failing)
        with pytest.raises(MemoryError):
            forget.run(Forget(documents=(name,)), workspace)
    forget.run(Forget(documents=(name,)), workspace)

    assert name.encode() not in bytes_of(workspace.root / "tokens")
    assert workspace.take("tokens", "web-clean").facts["documents"] == 39


def test_a_document_that_nobody_holds_is_refused(workspace: Workspace) -> None:
    with pytest.raises(DataError, match="holds web/nowhere"):
        forget.run(Forget(documents=("web/nowhere",)), workspace)


def test_a_document_is_shown_with_its_shard_and_what_the_rules_said(workspace: Workspace) -> None:
    name = an_id(workspace, "two/99.txt")

    answer = show.run(show.Show(artifact=name), workspace)

    places = {place["artifact"]: place for place in answer["places"]}
    assert answer["document"]["source"] == "files"
    assert places["corpora/web"]["shard"] == "00000-00000.arrow"
    assert places["corpora/web-clean"]["verdict"] == "exact copies"
    assert places["corpora/web-clean"]["twin"].endswith("one/03.txt")
    assert json.dumps(answer)


def test_a_corpus_that_is_damaged_does_not_hide_what_another_holds(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    name = an_id(workspace, "two/07.txt")
    (shard,) = workspace.path("corpus", "web").glob("0*.arrow")
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)

    answer = show.run(show.Show(artifact=name), workspace)

    assert {place["artifact"] for place in answer["places"]} == {"corpora/web-clean"}
    assert "corpora/web was not searched" in capsys.readouterr().err
