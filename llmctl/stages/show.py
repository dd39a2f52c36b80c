"""What is in the workspace: a table, one artifact, its lineage or its settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmctl import toml
from llmctl.config import knob
from llmctl.console import console
from llmctl.errors import ConfigError, DataError, WorkspaceError
from llmctl.figures import amount, size

if TYPE_CHECKING:
    from llmctl.workspace import Artifact, Input, Workspace

# The fact that says most about a kind, and how to read it.
HEADLINES = {
    "corpus": ("documents", "documents"),
    "tokenizer": ("vocab_size", "entries"),
    "tokens": ("tokens", "tokens"),
    "model": ("parameters", "parameters"),
}


# For `--json` and the manifest: lists and tables that no line can hold.
LONG_FACTS = {"cases", "funnel", "near_copies", "thresholds", "forgotten_from"}
# So much of a document's text says which one it is.
EXCERPT = 200
# The command whose knobs a manifest holds, by kind, or by the sort of a model.
MADE_BY = {
    "corpus": ("collect",),
    "tokenizer": ("tokenize",),
    "tokens": ("tokenize",),
    "causal-lm": ("pretrain",),
    "chat-lm": ("finetune", "instruct"),
    "classifier": ("finetune", "classify"),
    "report": ("eval",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Show:
    """List the artifacts of the workspace, or look at one."""

    artifact: str | None = knob(
        None,
        help="A NAME, KIND/NAME as in tokens/demo, or the id of a document",
        positional=True,
        metavar="ARTIFACT",
    )
    lineage: bool = knob(False, help="Draw what it was made from, back to the sources")
    config: bool = knob(False, help="Print its knobs as TOML that `--config` reads elsewhere")


def run(config: Show, workspace: Workspace) -> dict[str, Any]:
    """Print what was asked for; the same as data.

    >>> run(Show(artifact="tokens/demo"), workspace)["facts"]["tokens"]
    1234567
    """
    if config.artifact is None:
        if config.lineage or config.config:
            raise ConfigError("say of which artifact", hint="such as `llmctl show base --lineage`")
        return _all(workspace)
    try:
        artifact = workspace.resolve(config.artifact)
    except (ConfigError, WorkspaceError):
        found = _document(workspace, config.artifact)
        if found is None:
            raise
        return found
    if config.config:
        console.data(toml.dumps(_settings(artifact)), end="")
        return {"config": artifact.manifest.config}
    if config.lineage:
        tree = _lineage(workspace, artifact.as_input())
        console.tree(tree["label"], tree["inputs"])
        return tree
    return _one(artifact)


def _settings(artifact: Artifact) -> dict[str, Any]:
    """The knobs in the table of the command that they belong to."""
    manifest = artifact.manifest
    words = MADE_BY.get(manifest.sort or manifest.kind)
    if words is None:
        raise ConfigError(
            f"{artifact.label} was made on the way by a command for another artifact",
            hint=f"`llmctl show {artifact.label} --lineage` says what it came from",
        )
    if "revision" in manifest.config:
        words = ("import",)
    elif artifact.kind == "corpus" and "source" not in manifest.config:
        words = ("clean",)
    settings: dict[str, Any] = manifest.config
    for word in reversed(words):
        settings = {word: settings}
    return settings


def _all(workspace: Workspace) -> dict[str, Any]:
    from llmctl.workspace import FOLDERS

    artifacts, drafts = workspace.artifacts(), workspace.drafts()
    rows = [(one.label, _headline(one), _disk(one), _finished(one)) for one in artifacts]
    rows += [(f"{FOLDERS[kind]}/{name}", "unfinished", "", "") for kind, name, _ in drafts]
    if rows:
        columns = ("artifact", "holds", "on disk", "made")
        console.table(str(workspace.root), columns, rows, is_data=True)
    else:
        console.say(f"{workspace.root} is empty")
        console.next("llmctl collect demo")
    return {
        "artifacts": [_described(one) for one in artifacts],
        "drafts": [{"kind": kind, "name": name} for kind, name, _ in drafts],
    }


def _one(artifact: Artifact) -> dict[str, Any]:
    manifest = artifact.manifest
    made_from = ", ".join(f"{one.kind} {one.name}" for one in manifest.inputs) or "nothing"
    rows = [("path", str(artifact.path)), ("made from", made_from), ("made", _finished(artifact))]
    rows += [(key, _told(value)) for key, value in artifact.facts.items() if key not in LONG_FACTS]
    console.table(artifact.label, ("", ""), rows, is_data=True)
    return _described(artifact) | {
        "config": manifest.config,
        "inputs": [{"kind": one.kind, "name": one.name} for one in manifest.inputs],
        "provenance": manifest.provenance,
    }


def _rows_about(artifact: Artifact, document: str) -> list[Any]:
    """What a corpus holds of a document; one that is damaged does not hide what others hold."""
    from llmctl.data.forgetting import find

    try:
        return list(find(artifact.path, document))
    except DataError as error:
        console.warn(f"{artifact.label} was not searched: {error.message}")
        return []


def _document(workspace: Workspace, name: str) -> dict[str, Any] | None:
    """A document by its id: what it is, where it stands, and what each rule said of it."""
    about: dict[str, Any] = {}
    places: list[dict[str, Any]] = []
    for artifact in workspace.artifacts("corpus"):
        for folder, shard, row in _rows_about(artifact, name):
            if folder == "history":
                told = {key: row[key] for key in ("verdict", "reason", "detail", "changes", "twin")}
                places.append({"artifact": artifact.label, "shard": row["shard"], **told})
                continue
            where = f"{artifact.label}/{folder}".rstrip("/")
            places.append({"artifact": where, "shard": shard, "verdict": "holds it"})
            about = about or row
    if not places:
        return None
    shown = [(key, about[key]) for key in ("source", "url", "licence", "time") if about.get(key)]
    if about:
        shown.append(("text", about["text"][:EXCERPT]))
    for place in places:
        details = (place.get(key) for key in ("verdict", "reason", "detail", "changes"))
        said = ", ".join(filter(None, details))
        shown.append((place["artifact"], f"{said} ({place['shard']})"))
    console.table(name, ("", ""), shown, is_data=True)
    return {"document": about | {"id": name}, "places": places}


def _lineage(workspace: Workspace, made: Input) -> dict[str, Any]:
    """An artifact and, below it, what it was made from."""
    from llmctl.workspace import FOLDERS

    if made.kind not in FOLDERS:
        return {"label": f"{made.name} from outside", "digest": made.digest, "inputs": []}
    label = f"{FOLDERS[made.kind]}/{made.name}"
    try:
        artifact = workspace.find(made.kind, made.name)
    except WorkspaceError:
        return {"label": f"{label} (gone)", "digest": made.digest, "inputs": []}
    changed = "" if artifact.digest == made.digest else " (changed since)"
    return {
        "label": f"{label}{changed}",
        "digest": artifact.digest,
        "inputs": [_lineage(workspace, one) for one in artifact.manifest.inputs],
    }


def _described(artifact: Artifact) -> dict[str, Any]:
    return {
        "kind": artifact.kind,
        "name": artifact.name,
        "path": str(artifact.path),
        "digest": artifact.digest,
        "facts": artifact.facts,
    }


def _headline(artifact: Artifact) -> str:
    fact, unit = HEADLINES.get(artifact.kind, ("", ""))
    value = artifact.facts.get(fact)
    return "" if value is None else amount(value, unit)


def _disk(artifact: Artifact) -> str:
    return size(sum(known["bytes"] for known in artifact.manifest.files.values()))


def _finished(artifact: Artifact) -> str:
    return str(artifact.manifest.provenance.get("finished", ""))[:16].replace("T", " ")


def _told(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_told(one)}" for key, one in value.items()) or "none"
    if isinstance(value, float):
        return f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
