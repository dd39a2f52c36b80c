"""The workspace: an artifact is whole or not there, whatever happens while it is made."""

import contextlib
import itertools
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmctl.errors import ConfigError, DataError, WorkspaceError
from llmctl.manifest import FOLDERS, Input
from llmctl.workspace import Artifact, Workspace, outside


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


def make(
    workspace: Workspace, name: str = "notes", *, kind: str = "corpus", text: str = "a", **plan
) -> Artifact:
    settings = {"config": {"limit": 1}, "inputs": ()} | plan
    with workspace.draft(kind, name, **settings) as draft:
        (draft.path / "text.txt").write_text(text)
        return draft.finish(facts={"documents": 1})


def break_off(workspace: Workspace, name: str, **config: int) -> None:
    """Leave an artifact half made, as a fault would."""

    def fail() -> None:
        with workspace.draft("corpus", name, config=config) as draft:
            (draft.path / "half.txt").write_text("half")
            raise RuntimeError("fault")

    with pytest.raises(RuntimeError):
        fail()


def test_an_artifact_is_found_with_its_facts_once_it_is_finished(workspace: Workspace) -> None:
    made = make(workspace)

    found = workspace.find("corpus", "notes")

    assert found.facts == {"documents": 1}
    assert found.digest == made.digest
    assert found.path == workspace.root / "corpora" / "notes"


def test_a_step_that_fails_leaves_a_draft_and_no_artifact(workspace: Workspace) -> None:
    break_off(workspace, "notes")

    with pytest.raises(WorkspaceError, match="no corpus named `notes`"):
        workspace.find("corpus", "notes")
    assert [name for _, name, _ in workspace.drafts()] == ["notes"]


def test_a_refusal_leaves_a_draft_only_where_something_was_made(workspace: Workspace) -> None:
    def refuse(name: str, *files: str) -> None:
        with workspace.draft("corpus", name, config={}) as draft:
            for file in files:
                (draft.path / file).write_text("half")
            raise DataError("not these")

    for name, files in (("nothing", ()), ("something", ("half.txt",))):
        with pytest.raises(DataError):
            refuse(name, *files)

    assert [name for _, name, _ in workspace.drafts()] == ["something"]


def test_a_refusal_behind_a_finished_artifact_is_told_and_leaves_it(workspace: Workspace) -> None:
    def refuse() -> None:
        with workspace.draft("corpus", "notes", config={}) as draft:
            draft.finish(facts={})
            raise DataError("too late")

    with pytest.raises(DataError, match="too late"):
        refuse()

    assert workspace.has("corpus", "notes")


def test_the_same_command_takes_its_draft_up_again(workspace: Workspace) -> None:
    break_off(workspace, "notes")

    with workspace.draft("corpus", "notes", config={}) as draft:
        assert draft.resumed
        assert (draft.path / "half.txt").read_text() == "half"
        draft.finish(facts={})


def test_a_draft_of_other_settings_is_refused_by_key_until_forced(workspace: Workspace) -> None:
    break_off(workspace, "a", limit=1)

    with (
        pytest.raises(WorkspaceError, match="limit 1 -> 2"),
        workspace.draft("corpus", "a", config={"limit": 2}),
    ):
        pass
    with workspace.draft("corpus", "a", config={"limit": 2}, force=True) as draft:
        assert not (draft.path / "half.txt").exists()
        draft.finish(facts={})


def test_what_is_made_in_one_go_is_made_anew_after_a_fault_whatever_the_settings(
    workspace: Workspace,
) -> None:
    break_off(workspace, "notes", limit=1)

    made = workspace.obtain(
        "corpus", "notes", config={"limit": 2}, inputs=(), fill=lambda _: {"documents": 0}
    )

    assert made.manifest.config == {"limit": 2}
    assert "half.txt" not in made.manifest.files


def test_made_knows_the_same_plan_and_refuses_another_by_key(workspace: Workspace) -> None:
    make(workspace)

    assert workspace.made("corpus", "notes", config={"limit": 1}) is not None
    assert workspace.made("corpus", "other", config={"limit": 1}) is None
    with pytest.raises(WorkspaceError, match="limit 1 -> 5"):
        workspace.made("corpus", "notes", config={"limit": 5})


def test_an_input_that_has_changed_makes_another_plan_whatever_else_bears_its_name(
    workspace: Workspace,
) -> None:
    model, data = Input("model", "spam", "1"), Input("labeled", "spam", "2")
    one, other = Input("source", "train", "3"), Input("source", "train", "4")
    make(workspace, inputs=[model, data, one, other])

    def made(*inputs: Input) -> Artifact | None:
        return workspace.made("corpus", "notes", config={"limit": 1}, inputs=inputs)

    assert made(model, data, one, other) is not None
    for changed, told in (
        ((replace(model, digest="5"), data, one, other), "model spam"),
        ((model, data, replace(one, digest="5"), other), "source train"),
        ((model, data, one), "source train 2"),
        ((model, one, other), "labeled spam"),
        ((model, data, one, other, Input("model", "ham", "6")), "model ham"),
    ):
        with pytest.raises(WorkspaceError, match=f"settings: .*{told}"):
            made(*changed)


def test_a_larger_budget_alone_lets_an_artifact_be_made_on(workspace: Workspace) -> None:
    make(workspace, config={"steps": 10, "seed": 0})
    growing = frozenset({"steps"})

    longer = workspace.made("corpus", "notes", config={"steps": 20, "seed": 0}, growing=growing)

    assert longer is None
    with pytest.raises(WorkspaceError, match="seed 0 -> 1"):
        workspace.made("corpus", "notes", config={"steps": 20, "seed": 1}, growing=growing)


@pytest.mark.parametrize("read", [("model", "mine"), ("checkpoint", "mine@7")])
def test_what_is_read_is_never_replaced_by_what_is_made_of_it(
    workspace: Workspace, read: tuple[str, str]
) -> None:
    model = make(workspace, "mine", kind="model")
    plan: dict[str, Any] = {"config": {}, "inputs": [Input(*read, model.digest)]}

    with pytest.raises(ConfigError, match="models/mine is what is read"):
        workspace.made("model", "mine", **plan)
    with (
        pytest.raises(ConfigError, match="models/mine is what is read") as refusal,
        workspace.draft("model", "mine", **plan, force=True),
    ):
        pass

    assert "--name" in str(refusal.value.hint)
    assert workspace.find("model", "mine").digest == model.digest
    assert workspace.drafts() == []


def test_an_input_that_has_changed_since_stops_the_step_by_name(workspace: Workspace) -> None:
    corpus = make(workspace)
    make(workspace, kind="tokens", inputs=[corpus.as_input()])
    make(workspace, text="b", force=True)

    with pytest.raises(WorkspaceError, match=r"tokens/notes is stale: corpora/notes has changed"):
        workspace.take("tokens", "notes")


def test_an_input_made_anew_with_the_same_content_is_not_stale(workspace: Workspace) -> None:
    corpus = make(workspace)
    tokens = make(workspace, kind="tokens", inputs=[corpus.as_input()])
    make(workspace, force=True)

    assert workspace.take("tokens", "notes").digest == tokens.digest


def test_a_tokenizer_is_taken_whatever_has_become_of_its_text(workspace: Workspace) -> None:
    corpus = make(workspace)
    tokenizer = make(workspace, kind="tokenizer", inputs=[corpus.as_input()])
    make(workspace, text="b", force=True)

    assert workspace.take("tokenizer", "notes").digest == tokenizer.digest


@pytest.mark.parametrize("file", ["text.txt", "manifest.json"])
def test_one_flipped_bit_is_found_in_the_files_and_in_the_manifest(
    workspace: Workspace, file: str
) -> None:
    artifact = make(workspace, text="the quick brown fox" * 100)
    path = artifact.path / file
    content = bytearray(path.read_bytes())

    for place in range(0, len(content), max(1, len(content) // 40)):
        flipped = content.copy()
        flipped[place] ^= 4
        path.write_bytes(flipped)
        with pytest.raises(WorkspaceError, match=file):
            list(workspace.find("corpus", "notes").verify())


def test_a_lost_file_is_named_when_the_artifact_is_taken(workspace: Workspace) -> None:
    artifact = make(workspace)
    (artifact.path / "text.txt").unlink()

    with pytest.raises(WorkspaceError, match=r"text\.txt"):
        workspace.take("corpus", "notes")


@pytest.mark.parametrize("kind", FOLDERS)
def test_what_is_missing_is_answered_with_the_command_that_makes_it(
    workspace: Workspace, kind: str
) -> None:
    for ask in (lambda: workspace.find(kind, "nope"), lambda: workspace.newest(kind)):
        with pytest.raises(WorkspaceError) as refusal:
            ask()

        assert re.search(r"`llmctl \w+", str(refusal.value.hint))


def test_a_missing_name_is_answered_with_the_nearest(workspace: Workspace) -> None:
    make(workspace, "wikipedia")

    with pytest.raises(WorkspaceError) as refusal:
        workspace.find("corpus", "wikipdia")

    assert "wikipedia" in str(refusal.value.hint)


def test_a_name_that_two_kinds_bear_is_offered_once(workspace: Workspace) -> None:
    make(workspace)
    make(workspace, kind="tokens")

    with pytest.raises(WorkspaceError) as refusal:
        workspace.resolve("elsewhere")

    assert refusal.value.hint == "choose one of: notes"


def test_a_lack_of_tokens_is_one_of_many(workspace: Workspace) -> None:
    with pytest.raises(WorkspaceError, match="there are no tokens in"):
        workspace.take("tokens", None)
    with pytest.raises(WorkspaceError, match="there are no tokens named `notes`"):
        workspace.take("tokens", "notes")
    with pytest.raises(WorkspaceError, match="there is no corpus named `notes`"):
        workspace.take("corpus", "notes")


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "a b"])
def test_names_that_could_leave_the_workspace_are_refused(workspace: Workspace, name: str) -> None:
    with pytest.raises(ConfigError):
        workspace.path("corpus", name)


def test_the_newest_artifact_of_a_sort_is_taken_by_default(workspace: Workspace) -> None:
    make(workspace, "first")
    make(workspace, "second")

    assert workspace.newest("corpus").name == "second"
    with pytest.raises(WorkspaceError, match="causal-lm"):
        workspace.newest("model", sorts=("causal-lm",))


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("spam.csv", "spam"),
        ("spam.v2.csv", "spam-v2"),
        ("spam.v2.jsonl.gz", "spam-v2"),
        ("my spam (1).csv", "my-spam-1"),
        ("스팸.csv", "data"),
        (".csv", "csv"),
    ],
)
def test_data_from_outside_is_called_what_its_file_is_called(
    tmp_path: Path, file: str, name: str
) -> None:
    (tmp_path / file).write_text("a")

    assert outside(tmp_path / file).name == name


MAKER = """
    import sys, time
    from pathlib import Path
    from llmctl.workspace import Workspace
    workspace = Workspace(Path(sys.argv[1]))
    with workspace.draft("corpus", "notes", config={}, force=True) as draft:
        print("ready", flush=True)
        for number in range(30):
            (draft.path / f"{number}.txt").write_text("x" * 1000)
        if len(sys.argv) > 2:
            time.sleep(60)
        draft.finish(facts={})
"""


def maker(workspace: Workspace, *more: str) -> subprocess.Popen[str]:
    code = textwrap.dedent(MAKER)
    command = [sys.executable, "-c", code, str(workspace.root), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_second_process_is_told_who_makes_it_and_the_lock_dies_with_its_owner(
    workspace: Workspace,
) -> None:
    owner = maker(workspace, "sleep")
    assert owner.stdout is not None
    owner.stdout.readline()

    with (
        pytest.raises(WorkspaceError, match=f"made by process {owner.pid}"),
        workspace.draft("corpus", "notes", config={}),
    ):
        pass
    owner.kill()
    owner.communicate()
    with workspace.draft("corpus", "notes", config={}) as draft:
        draft.finish(facts={})


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_a_draft_or_a_whole_artifact(workspace: Workspace) -> None:
    make(workspace, text="before")

    for attempt in range(20):
        process = maker(workspace)
        assert process.stdout is not None
        process.stdout.readline()
        try:
            process.wait(timeout=0.002 * attempt)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        artifact = workspace.find("corpus", "notes")
        assert len(list(artifact.verify())) in (1, 30)


class Killed(BaseException):
    """The end of a process, at a moment of choice."""


@pytest.mark.parametrize("moment", range(6))
def test_an_end_at_any_moment_leaves_what_it_takes_to_go_on_or_the_whole_artifact(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    calls = itertools.count()

    def killed(original: Callable[..., None]) -> Callable[..., None]:
        def perform(*args: Any, **more: Any) -> None:
            if next(calls) >= moment:
                raise Killed
            original(*args, **more)

        return perform

    def finish() -> None:
        with workspace.draft("corpus", "notes", config={}) as draft:
            (draft.path / "work").mkdir()
            (draft.path / "work" / "part").write_text("hours of work")
            (draft.path / "text.txt").write_text("a")
            with monkeypatch.context() as patch:
                for name in ("unlink", "rename", "replace", "rmdir"):
                    patch.setattr(os, name, killed(getattr(os, name)))
                draft.finish(facts={}, scaffold=[draft.path / "work"])

    with contextlib.suppress(Killed):
        finish()

    if moment:
        artifact = workspace.find("corpus", "notes")
        files = [path.name for path in artifact.path.rglob("*")]
        assert sorted(files) == ["manifest.json", "text.txt"]
        assert list(artifact.verify())
    else:
        with workspace.draft("corpus", "notes", config={}) as draft:
            assert (draft.path / "work" / "part").read_text() == "hours of work"
            draft.finish(facts={})
