"""Artifacts -> the certainty that no byte of them has changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmctl.config import knob
from llmctl.console import console
from llmctl.errors import WorkspaceError
from llmctl.figures import exactly, size

if TYPE_CHECKING:
    from llmctl.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Verify:
    """Hash every file again and compare it with the manifest."""

    artifacts: tuple[str, ...] = knob(
        (), help="NAME or KIND/NAME; all by default", positional=True, metavar="ARTIFACT"
    )


def run(config: Verify, workspace: Workspace) -> dict[str, Any]:
    """Verify all the artifacts; WorkspaceError (exit 3), naming a file of each that has changed.

    >>> run(Verify(artifacts=("tokens/demo",)), workspace)
    {'verified': [{'artifact': 'tokens/demo', 'files': 9, 'bytes': 2345678}]}
    """
    chosen = [workspace.resolve(one) for one in config.artifacts] or workspace.artifacts()
    verified: list[dict[str, Any]] = []
    changed: list[WorkspaceError] = []
    for artifact in chosen:
        try:
            with console.status(f"hashing {artifact.label}"):
                paths = list(artifact.verify())
        except WorkspaceError as error:
            changed.append(error)
            continue
        total = sum(path.stat().st_size for path in paths)
        console.say(f"{artifact.label} is sound: {exactly(len(paths), 'files')}, {size(total)}")
        verified.append({"artifact": artifact.label, "files": len(paths), "bytes": total})
    if changed:
        told = "; ".join(error.message for error in changed)
        raise WorkspaceError(told, hint=changed[0].hint)
    if not chosen:
        console.say(f"{workspace.root} is empty")
    return {"verified": verified}
