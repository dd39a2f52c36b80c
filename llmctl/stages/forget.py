"""Documents, or a source -> a workspace without them, and a list of what was trained on them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from llmctl.config import dry_run_knob, knob
from llmctl.console import console
from llmctl.errors import ConfigError, DataError, WorkspaceError
from llmctl.figures import exactly

if TYPE_CHECKING:
    from llmctl.workspace import Artifact, Input, Workspace

# What has a row for each document, and so can be rewritten.
REWRITTEN = ("corpus", "tokens")
FORGOTTEN = "forgotten_from"


@dataclass(frozen=True, slots=True, kw_only=True)
class Forget:
    """Take documents out of everything that holds them, and list what was trained on them."""

    documents: tuple[str, ...] = knob(
        (), help="The ids of documents", positional=True, metavar="DOC-ID"
    )
    source: str | None = knob(
        None, help="Forget every document from this address, or from below it", metavar="URL"
    )
    dry_run: bool = dry_run_knob()


def run(config: Forget, workspace: Workspace) -> dict[str, Any]:
    """Rewrite every corpus and its tokens without the documents.

    >>> run(Forget(documents=("web/page:12",)), workspace)["retrain"]
    ['models/base']
    """
    if not config.documents and not config.source:
        raise ConfigError("say what to forget", hint="a DOC-ID, or `--source URL`")
    artifacts = list(_from_the_ground(workspace))
    documents = _meant(config, artifacts)
    concerned = _concerned(artifacts, documents)
    retrain = _trained_on(workspace, concerned)
    copies = sorted(_copies(artifacts, documents) - documents)
    if not concerned:
        raise DataError(
            f"nothing in {workspace.root} holds {config.source or ', '.join(config.documents)}",
            hint="`llmctl show DOC-ID` tells where a document is",
        )
    rewritten = [one.label for one in concerned]
    answer = {"documents": sorted(documents), "retrain": retrain, "copies": copies}
    if config.dry_run:
        what = exactly(len(documents), "documents")
        console.say(f"would forget {what} in {', '.join(rewritten)}")
        return {"plan": answer | {"rewritten": rewritten}}
    for artifact in concerned:
        _rewrite(workspace, artifact, documents)
    _tell(answer)
    return answer | {"rewritten": rewritten}


def _from_the_ground(workspace: Workspace) -> Iterator[Artifact]:
    """What can be rewritten, each after what it was made from."""
    from graphlib import TopologicalSorter

    found = {one.label: one for kind in REWRITTEN for one in workspace.artifacts(kind)}
    graph = {
        label: {_label(made) for made in one.manifest.inputs} & found.keys()
        for label, one in found.items()
    }
    yield from (found[label] for label in TopologicalSorter(graph).static_order())


def _label(made: Input) -> str:
    from llmctl.workspace import FOLDERS

    return f"{FOLDERS.get(made.kind, made.kind)}/{made.name}"


def _meant(config: Forget, artifacts: Sequence[Artifact]) -> set[str]:
    from llmctl.data.forgetting import documents_of

    documents = set(config.documents)
    if config.source:
        for artifact in artifacts:
            documents |= documents_of(artifact.path, config.source)
    return documents


def _concerned(artifacts: Sequence[Artifact], documents: Collection[str]) -> list[Artifact]:
    """What holds a document, or was made from what does or did."""
    from llmctl.data.forgetting import holds

    concerned: list[Artifact] = []
    changed = {one.label for one in artifacts if one.facts.get(FORGOTTEN)}
    for artifact in artifacts:
        made_from = {_label(made) for made in artifact.manifest.inputs}
        is_behind = any(
            made.digest in one.facts.get(FORGOTTEN, ())
            for made in artifact.manifest.inputs
            for one in artifacts
            if one.label in changed and one.label == _label(made)
        )
        is_above = bool(made_from & {one.label for one in concerned})
        if is_behind or is_above or (documents and holds(artifact.path, documents)):
            concerned.append(artifact)
    return concerned


def _trained_on(workspace: Workspace, concerned: Sequence[Artifact]) -> list[str]:
    """What learnt from artifacts that are rewritten, and from what learnt from them."""
    taught = {one.label for one in concerned}
    found: list[str] = []
    for artifact in workspace.artifacts():
        if artifact.kind in REWRITTEN:
            continue
        if {_label(made) for made in artifact.manifest.inputs} & taught:
            taught.add(artifact.label)
            found.append(artifact.label)
    return found


def _copies(artifacts: Sequence[Artifact], documents: Collection[str]) -> set[str]:
    """Other documents that were dropped as copies of those to forget, and are still collected."""
    from llmctl.data.forgetting import shard_folders
    from llmctl.shards import ShardReader

    return {
        row["id"]
        for artifact in artifacts
        for folder in shard_folders(artifact.path)
        if folder.name == "history"
        for batch in ShardReader(folder)
        for row in batch.select(["id", "twin"]).to_pylist()
        if row["twin"] in documents
    }


def _rewrite(workspace: Workspace, artifact: Artifact, documents: Collection[str]) -> None:
    from llmctl.data.forgetting import rewrite

    manifest = artifact.manifest
    inputs = [_present(workspace, made) for made in manifest.inputs]
    before = [*artifact.facts.get(FORGOTTEN, ()), artifact.digest]
    with workspace.draft(
        artifact.kind, artifact.name, config=manifest.config, inputs=inputs, force=True
    ) as draft:
        removed = rewrite(artifact.path, draft.path, documents)
        facts = _counted(_without(artifact.facts, documents), removed) | {FORGOTTEN: before}
        if not facts["documents"]:
            raise DataError(
                f"nothing would be left of {artifact.label}",
                hint="remove its folder instead, and what was made from it",
            )
        made = draft.finish(facts=facts, sort=manifest.sort)
    console.made(made, f"{sum(one.rows for one in removed.values()):,} rows less")


def _present(workspace: Workspace, made: Input) -> Input:
    """An input as it is now, where all that changed in it is what was forgotten."""
    if made.kind not in REWRITTEN:
        return made
    try:
        present = workspace.find(made.kind, made.name)
    except WorkspaceError:
        return made
    was = made.digest in present.facts.get(FORGOTTEN, ())
    return replace(made, digest=present.digest) if was else made


def _counted(facts: dict[str, Any], removed: dict[str, Any]) -> dict[str, Any]:
    """The facts of an artifact with what is no longer in it taken off."""
    facts = dict(facts)
    for folder, one in removed.items():
        if folder not in (".", "train", "validation"):
            continue
        for key, less in (
            ("documents", one.rows),
            ("bytes", one.text_bytes),
            ("tokens", one.tokens),
        ):
            for name in (key, f"{folder}_{key}"):
                if name in facts:
                    facts[name] -= less
    return facts


def _without(value: Any, documents: Collection[str]) -> Any:
    """Facts that name no forgotten document."""
    if isinstance(value, dict):
        return {key: _without(one, documents) for key, one in value.items()}
    if isinstance(value, list):
        return [_without(one, documents) for one in value if not _names(one, documents)]
    return value


def _names(value: Any, documents: Collection[str]) -> bool:
    if isinstance(value, list):
        return any(_names(one, documents) for one in value)
    return isinstance(value, str) and any(one in value.split() for one in documents)


def _tell(answer: dict[str, Any]) -> None:
    for label in answer["retrain"]:
        console.warn(f"{label} was trained on what is forgotten: make it anew with `--force`")
    if answer["copies"]:
        told = ", ".join(answer["copies"][:5])
        console.warn(f"{len(answer['copies'])} copies of it are still collected: {told}")
    console.note("a `collect --force` of the same source brings it back: take it out there too")
