"""What `verify` says of a workspace in which not all is sound."""

from pathlib import Path

import pytest

from llmctl.errors import WorkspaceError
from llmctl.stages.verify import Verify, run
from llmctl.workspace import Workspace


def test_all_that_has_changed_is_named_and_the_rest_is_told_as_sound(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = Workspace(tmp_path / "workspace")
    for name in ("first", "second", "third"):
        with workspace.draft("corpus", name, config={}) as draft:
            (draft.path / "text.txt").write_text(name)
            draft.finish(facts={})
    for name in ("first", "third"):
        (workspace.path("corpus", name) / "text.txt").write_text("other")

    with pytest.raises(WorkspaceError) as refusal:
        run(Verify(), workspace)

    assert "first/text.txt" in refusal.value.message
    assert "third/text.txt" in refusal.value.message
    assert "corpora/second is sound" in capsys.readouterr().err
