"""A workspace: a folder of artifacts, each of which is whole or is not there.

Work happens in a `Draft` under `.drafts/`; leaving its `with` block writes the manifest and
renames the folder into place, so where a `manifest.json` stands, the artifact is whole. A draft
that was interrupted is taken up again by the same command; the lock on it dies with its process.

    Workspace -> Draft -> Artifact (path + Manifest) -> input of the next Draft

Knows nothing of what is inside an artifact. Opens no file that it does not hash or write.
"""

import contextlib
import json
import os
import platform
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from llmctl.durable import SEAL, checksum, damage, fingerprint, sync, write_durably
from llmctl.errors import ConfigError, DataError, LlmctlError, WorkspaceError
from llmctl.hub import fetch, is_hub_id
from llmctl.manifest import FOLDERS, Artifact, Input, Manifest, now, provenance, seal_of
from llmctl.registry import load, suggest

MAKERS = {
    "corpus": "llmctl collect demo",
    "tokenizer": "llmctl tokenize",
    "tokens": "llmctl tokenize",
    "model": "llmctl pretrain",
    "labeled": "llmctl finetune classify DATA",
    "report": "llmctl eval --data FILE",
}
MANIFEST = "manifest.json"
PLAN = "draft.json"
# Of settings that differ; another command's plan differs in all of them.
MOST_TOLD = 5
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# Of a file's name: its format, and how it is compressed.
ENDINGS = re.compile(r"(?<=.)\.\w+(\.(gz|bz2|xz|zstd?))?$", re.IGNORECASE)
# What a model folder is made of: weights as safetensors, a tokenizer, their settings; no pickle.
MODEL_FILES = (
    *(
        "config.json",
        "generation_config.json",
        "model*.safetensors",
        "model*.safetensors.index.json",
    ),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"),
    *("adapter_config.json", "adapter_model.safetensors"),
)


class ModelSource(NamedTuple):
    """A model to start from: its folder, itself as an input of what is made, and how people see it.

    The folder is one of the workspace, of the user, or of the hub's cache.
    """

    path: Path
    input: Input
    label: str

    @property
    def reference(self) -> str:
        """What a flag takes to mean it, however it was asked for."""
        return str(self.path) if self.input.kind == "source" else self.input.name


class Draft:
    """An artifact in the making: a folder to write into and the plan that it follows.

    `resumed` tells that an earlier attempt left work here. Call `finish` once, inside the block.
    """

    def __init__(self, workspace: "Workspace", plan: Mapping[str, Any]) -> None:
        self.workspace = workspace
        self.plan = dict(plan)
        self.kind, self.name = str(plan["kind"]), str(plan["name"])
        self.path = workspace.draft_path(self.kind, self.name)
        self.resumed = self.path.exists()
        self.artifact: Artifact | None = None
        self._started = now()

    def finish(
        self,
        *,
        facts: Mapping[str, Any],
        sort: str = "",
        device: str | None = None,
        scaffold: Iterable[Path] = (),
    ) -> Artifact:
        """Write the manifest, the last of the files, and move the folder to its place.

        `scaffold` is what only an unfinished artifact needs, files or folders: it goes once the
        manifest stands, so that a kill at any moment leaves a draft to go on with, or all of it.
        """
        outside = (self.path / PLAN, self.path / MANIFEST, *scaffold)
        files = {
            path.relative_to(self.path).as_posix(): fingerprint(path)
            for path in sorted(self.path.rglob("*"))
            if path.is_file() and not any(path.is_relative_to(one) for one in outside)
        }
        manifest = Manifest(
            kind=self.kind,
            name=self.name,
            digest=seal_of({name: known["sha256"] for name, known in files.items()}),
            sort=sort,
            config=self.plan["config"],
            inputs=tuple(Input(**row) for row in self.plan["inputs"]),
            files=files,
            facts=dict(facts),
            provenance=provenance(self._started, device),
        )
        write_durably(self.path / MANIFEST, manifest.to_json().encode())
        self.artifact = self.workspace.publish(self.path, manifest)
        return self.artifact

    def discard(self) -> None:
        """Leave nothing to go on with, where all the work came to nothing."""
        shutil.rmtree(self.path)


class Workspace:
    """The folder in which all artifacts of a project live.

    >>> with workspace.draft("corpus", "notes", config={}, inputs=()) as draft:
    ...     (draft.path / "00000.arrow").write_bytes(b"...")
    ...     draft.finish(facts={"documents": 1})
    >>> workspace.find("corpus", "notes").facts
    {'documents': 1}
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, kind: str, name: str) -> Path:
        """Where the artifact `name` of a kind lives, or would."""
        self.check_name(name)
        return self.root / FOLDERS[kind] / name

    def check_name(self, name: str) -> None:
        """Raise ConfigError for what cannot be the name of an artifact."""
        if not NAME.fullmatch(name):
            raise ConfigError(
                f"`{name}` cannot be a name",
                hint="use letters, digits, `.`, `_` and `-`, beginning with a letter or digit",
            )

    def draft_path(self, kind: str, name: str) -> Path:
        """Where the draft of an artifact lives, or would."""
        return self.root / ".drafts" / self.path(kind, name).relative_to(self.root)

    def artifacts(self, kind: str | None = None) -> list[Artifact]:
        """All whole artifacts, of one kind or of all, oldest first."""
        kinds = [kind] if kind else list(FOLDERS)
        found = [
            Artifact(path.parent, Manifest.read(path))
            for one in kinds
            for path in sorted((self.root / FOLDERS[one]).glob(f"*/{MANIFEST}"))
        ]
        return sorted(found, key=lambda one: str(one.manifest.provenance.get("finished", "")))

    def drafts(self) -> list[tuple[str, str, Path]]:
        """Kind, name and folder of everything unfinished."""
        return [
            (kind, path.parent.name, path.parent)
            for kind, folder in FOLDERS.items()
            for path in sorted((self.root / ".drafts" / folder).glob(f"*/{PLAN}"))
        ]

    def find(self, kind: str, name: str) -> Artifact:
        """The artifact of that kind and name; WorkspaceError, with near names, if there is none."""
        self._recover(kind, name)
        path = self.path(kind, name) / MANIFEST
        if path.exists():
            return Artifact(path.parent, Manifest.read(path))
        known = [one.parent.name for one in (self.root / FOLDERS[kind]).glob(f"*/{MANIFEST}")]
        raise WorkspaceError(
            f"there {_is_no(kind)} named `{name}` in {self.root}",
            hint=suggest(name, known) if known else f"make one with `{MAKERS.get(kind, 'llmctl')}`",
        )

    def resolve(self, reference: str) -> Artifact:
        """What `NAME` or `KIND/NAME` means; WorkspaceError where that is none or many."""
        head, _, name = reference.rpartition("/")
        if head:
            kinds = {folder: kind for kind, folder in FOLDERS.items()} | {
                one: one for one in FOLDERS
            }
            if head not in kinds:
                raise ConfigError(f"`{head}` is no kind of artifact", hint=suggest(head, kinds))
            return self.find(kinds[head], name)
        found = [one for one in self.artifacts() if one.name == reference]
        if len(found) == 1:
            return found[0]
        if found:
            labels = " or ".join(f"`{one.label}`" for one in found)
            raise WorkspaceError(
                f"`{reference}` names {len(found)} artifacts", hint=f"say {labels}"
            )
        raise WorkspaceError(
            f"there is no artifact named `{reference}` in {self.root}",
            hint=suggest(reference, [one.name for one in self.artifacts()]),
        )

    def newest(self, kind: str, *, sorts: Sequence[str] = ()) -> Artifact:
        """The youngest artifact of a kind; of the first of `sorts` that has any, if given."""
        found = self.artifacts(kind)
        for sort in sorts or ("",):
            fitting = [one for one in found if not sort or one.manifest.sort == sort]
            if fitting:
                return fitting[-1]
        what = f"{kind} ({' or '.join(sorts)})" if sorts else kind
        raise WorkspaceError(
            f"there {_is_no(what)} in {self.root} yet",
            hint=f"make one with `{MAKERS.get(kind, 'llmctl')}`",
        )

    def has(self, kind: str, name: str) -> bool:
        """Whether a whole artifact of that kind and name stands here."""
        return bool(NAME.fullmatch(name)) and (self.path(kind, name) / MANIFEST).exists()

    def model_source(
        self,
        reference: str | None,
        *,
        sorts: Sequence[str] = (),
        revision: str | None = None,
        weights: bool = True,
    ) -> ModelSource:
        """The model that a reference means, or the newest of the first of `sorts` that has any.

        A NAME, a NAME@STEP, a folder, or a hub id (`organisation/name`, at a `revision`), in this
        order. A finished model's weights are checked against their fast checksum first; what the
        hub gives, without `weights` its small files only, is pinned by its commit. Raises
        WorkspaceError where there is no such model, or it is of another sort, and RemoteError where
        the hub does not give it.
        """
        if reference is not None and _is_model_folder(Path(reference)):
            folder = Path(reference).resolve()
            is_own = folder.parent == (self.root / FOLDERS["model"]).resolve()
            if is_own and self.has("model", folder.name):
                return self._finished(folder.name, sorts)
            return _folder_source(Path(reference))
        if reference is not None and is_hub_id(reference):
            patterns = [one for one in MODEL_FILES if weights or not one.endswith(".safetensors")]
            path, commit = fetch(reference, patterns=patterns, revision=revision)
            return ModelSource(path, Input("hub", reference, commit), f"{reference}@{commit[:12]}")
        name, _, step = (reference or "").partition("@")
        if "/" in name:
            raise WorkspaceError(
                f"there is no model in `{reference}`",
                hint="a model's folder holds a config.json; a hub id is organisation/name",
            )
        return self._checkpoint(name, step) if step else self._finished(name, sorts)

    def _finished(self, name: str, sorts: Sequence[str]) -> ModelSource:
        """A whole model, the newest where no name says which; WorkspaceError for another sort."""
        artifact = self.find("model", name) if name else self.newest("model", sorts=sorts)
        if sorts and artifact.manifest.sort not in sorts:
            raise WorkspaceError(
                f"{artifact.label} is a {artifact.manifest.sort}, not a {' or '.join(sorts)}",
                hint="`llmctl show` lists the models that there are",
            )
        for file in artifact.manifest.files:
            if file.endswith(".safetensors") and "/" not in file:
                artifact.touch(file)
        return ModelSource(artifact.path, artifact.as_input(), artifact.label)

    def _checkpoint(self, name: str, step: str) -> ModelSource:
        """A step of a model, finished or not; WorkspaceError, with what there is."""
        folders = (self.draft_path("model", name), self.path("model", name))
        found = {path.name: path for one in folders for path in one.glob("state/step-*")}
        wanted = f"step-{int(step):08d}" if step.isdecimal() else step
        if wanted not in found:
            steps = ", ".join(str(int(one.removeprefix("step-"))) for one in sorted(found))
            raise WorkspaceError(
                f"model `{name}` has no checkpoint of step {step}",
                hint=f"there are: {steps}" if steps else "it has none",
            )
        why = damage(found[wanted])
        if why is not None:
            raise WorkspaceError(f"{found[wanted]} is damaged: {why}", hint="use another step")
        label = f"{name}@{int(wanted.rpartition('-')[2])}"
        digest = fingerprint(found[wanted] / SEAL)["sha256"]
        return ModelSource(found[wanted], Input("checkpoint", label, digest), f"models/{label}")

    def take(self, kind: str, name: str | None, *, sorts: Sequence[str] = ()) -> Artifact:
        """The artifact that a step is to read: the named one or the newest, whole and not stale."""
        artifact = self.find(kind, name) if name else self.newest(kind, sorts=sorts)
        artifact.check_sizes()
        self._refuse_stale(artifact)
        return artifact

    def made(
        self,
        kind: str,
        name: str,
        *,
        config: Mapping[str, Any],
        inputs: Iterable[Input] = (),
        growing: frozenset[str] = frozenset(),
    ) -> Artifact | None:
        """The artifact that this very plan has made already, None where it is still to be made.

        Another plan under that name is refused, naming the keys that differ; keys in `growing`
        (a training budget) may differ, and then None is returned; so it is where a draft of this
        very plan, begun by `force`, waits to be gone on with. ConfigError for a plan that would
        replace one of its own inputs.
        """
        plan = _wish(kind, name, config, inputs)
        self._recover(kind, name)
        if not self.has(kind, name) or self.unfinished(kind, name) == plan:
            return None
        artifact = self.find(kind, name)
        before = _plan(kind, name, artifact.manifest.config, artifact.manifest.inputs)
        changed = differences(before, plan)
        if set(changed) - {f"config.{key}" for key in growing}:
            raise _other_plan(kind, f"{artifact.label} was made", changed)
        return None if changed else artifact

    @contextlib.contextmanager
    def draft(
        self,
        kind: str,
        name: str,
        *,
        config: Mapping[str, Any],
        inputs: Iterable[Input] = (),
        force: bool = False,
    ) -> Iterator[Draft]:
        """Work on an artifact under its lock; a draft of the same plan is taken up again.

        A draft of another plan is refused unless `force`, which begins anew, and a plan that would
        replace one of its own inputs always. The draft stays when the block raises, but where it
        refuses what it was given: the settings at the first attempt, or all before it wrote a file.
        """
        plan = _wish(kind, name, config, inputs)
        with self._lock(kind, name):
            draft = Draft(self, plan)
            if draft.resumed:
                self._admit(draft, plan, force)
            draft.path.mkdir(parents=True, exist_ok=True)
            if not (draft.path / PLAN).exists():
                write_durably(draft.path / PLAN, json.dumps(plan, indent=1).encode())
            try:
                yield draft
            except LlmctlError as error:
                is_new = isinstance(error, ConfigError) and not draft.resumed
                if is_new or [one.name for one in draft.path.glob("*")] == [PLAN]:
                    shutil.rmtree(draft.path)
                raise
            assert draft.artifact is not None, "a draft must be finished inside its block"

    def obtain(
        self,
        kind: str,
        name: str,
        *,
        config: Mapping[str, Any],
        inputs: Sequence[Input],
        fill: Callable[[Path], Mapping[str, Any]],
        force: bool = False,
    ) -> Artifact:
        """The artifact that this plan has made already, else made now: `fill` gives its facts."""
        made = None if force else self.made(kind, name, config=config, inputs=inputs)
        if made:
            return made
        # Made in one go: what a failed attempt left is nothing to go on with, nor to guard.
        with self.draft(kind, name, config=config, inputs=inputs, force=True) as draft:
            return draft.finish(facts=fill(draft.path))

    @contextlib.contextmanager
    def share(
        self,
        kind: str,
        name: str,
        *,
        part: str,
        config: Mapping[str, Any],
        inputs: Iterable[Input] = (),
    ) -> Iterator[Path]:
        """Work on a part of a draft while other processes work on others; yields its folder.

        A plain `draft` of the same plan takes up what all of them left.
        """
        plan = _wish(kind, name, config, inputs)
        path = self.draft_path(kind, name)
        with self._lock(kind, f"{name}.{part}"):
            # Whoever comes first writes the plan; the others wait for it.
            with load("filelock:FileLock")(path.with_name(f"{name}.plan.lock"), timeout=60):
                before = self.unfinished(kind, name)
                changed = differences(before, plan) if before else {}
                if changed:
                    raise _other_plan(kind, f"an unfinished {kind} `{name}` was begun", changed)
                path.mkdir(parents=True, exist_ok=True)
                if before is None:
                    write_durably(path / PLAN, json.dumps(plan, indent=1).encode())
            yield path

    def unfinished(self, kind: str, name: str) -> dict[str, Any] | None:
        """The plan of a draft that waits to be taken up again, if there is one."""
        path = self.draft_path(kind, name) / PLAN
        return json.loads(path.read_bytes()) if path.exists() else None

    def publish(self, source: Path, manifest: Manifest) -> Artifact:
        """Move a folder with a manifest to its place; what stood there goes once it does.

        What the manifest does not name was needed to make it, and goes first.
        """
        _strip(source, manifest)
        target = self.path(manifest.kind, manifest.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        replaced = source.with_name(f"{source.name}.replaced")
        if target.exists():
            shutil.rmtree(replaced, ignore_errors=True)
            target.rename(replaced)
        source.rename(target)
        sync(target.parent)
        shutil.rmtree(replaced, ignore_errors=True)
        return Artifact(target, manifest)

    def _admit(self, draft: Draft, plan: Mapping[str, Any], force: bool) -> None:
        before = self.unfinished(draft.kind, draft.name)
        changed = differences(before, plan) if before else {}
        if changed and not force:
            what = f"an unfinished {draft.kind} `{draft.name}` was begun"
            raise _other_plan(draft.kind, what, changed)
        if changed or before is None or force:
            shutil.rmtree(draft.path)
            draft.resumed = False

    def _recover(self, kind: str, name: str) -> None:
        """Finish a publication that a kill cut after its manifest was written."""
        source = self.draft_path(kind, name)
        if (source / MANIFEST).exists():
            with self._lock(kind, name):
                self.publish(source, Manifest.read(source / MANIFEST))

    def _refuse_stale(self, artifact: Artifact) -> None:
        # A tokenizer is as good on text that has changed since: its ids stay what they are.
        if artifact.kind == "tokenizer":
            return
        for made_from in artifact.manifest.inputs:
            if made_from.kind not in FOLDERS:
                continue
            path = self.path(made_from.kind, made_from.name) / MANIFEST
            if not path.exists():
                continue
            present = Artifact(path.parent, Manifest.read(path))
            if present.digest != made_from.digest:
                raise WorkspaceError(
                    f"{artifact.label} is stale: {present.label} has changed since it was made",
                    hint=f"make {artifact.label} anew with `--force` on the command that made it",
                )
            self._refuse_stale(present)

    @contextlib.contextmanager
    def _lock(self, kind: str, name: str) -> Iterator[None]:
        path = self.draft_path(kind, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        owner = path.with_name(f"{path.name}.owner")
        lock = load("filelock:FileLock")(path.with_name(f"{path.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except load("filelock:Timeout") as error:
            who = owner.read_text(encoding="utf-8") if owner.exists() else "another process"
            raise WorkspaceError(
                f"{FOLDERS[kind]}/{name} is being made by {who}",
                hint="wait for it to end, or choose another `--name`",
            ) from error
        try:
            owner.write_text(f"process {os.getpid()} on {platform.node()}", encoding="utf-8")
            yield
        finally:
            owner.unlink(missing_ok=True)
            lock.release()


def outside(path: Path) -> Input:
    """A file or folder of the user's as an input: what it is called, and the digest of it all.

    Raises DataError where there is nothing.
    """
    if not path.exists():
        near = [one.name for one in path.parent.glob("*")] if path.parent.is_dir() else []
        raise DataError(f"there is no file `{path}`", hint=suggest(path.name, near))
    files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
    digests = {str(one.relative_to(path)): fingerprint(one)["sha256"] for one in files}
    return Input("source", _stem(path), seal_of(digests))


def _stem(path: Path) -> str:
    """What a file or folder is called, without its endings, as a name of the workspace."""
    whole = path.resolve()
    plain = ENDINGS.sub("", whole.name) if whole.is_file() else whole.name
    return re.sub(r"[^A-Za-z0-9_-]+", "-", plain).strip("-_") or "data"


def _is_model_folder(path: Path) -> bool:
    return any((path / name).is_file() for name in ("config.json", "adapter_config.json"))


def _is_no(what: str) -> str:
    """The lack of a kind: tokens alone are many."""
    return f"are no {what}" if what == "tokens" else f"is no {what}"


def _folder_source(path: Path) -> ModelSource:
    """A model folder of the user's, known by a fast digest of what a model is made of."""
    files = sorted({file for pattern in MODEL_FILES for file in path.glob(pattern)})
    digest = seal_of({file.name: checksum(file) for file in files})
    return ModelSource(path, Input("source", path.resolve().name, digest), str(path))


def _strip(directory: Path, manifest: Manifest) -> None:
    """Delete what a manifest does not name."""
    for path in sorted(directory.rglob("*"), reverse=True):
        if path.is_dir():
            with contextlib.suppress(OSError):
                path.rmdir()
        elif path != directory / MANIFEST and path.relative_to(directory).as_posix() not in (
            manifest.files
        ):
            path.unlink()


def _plan(
    kind: str, name: str, config: Mapping[str, Any], inputs: Iterable[Input]
) -> dict[str, Any]:
    rows = [asdict(one) for one in inputs]
    return json.loads(
        json.dumps({"kind": kind, "name": name, "config": dict(config), "inputs": rows})
    )


def _wish(
    kind: str, name: str, config: Mapping[str, Any], inputs: Iterable[Input]
) -> dict[str, Any]:
    """The plan of what is to be made; ConfigError where that would replace what it is made of."""
    plan = _plan(kind, name, config, inputs)
    for row in plan["inputs"]:
        read = "model" if row["kind"] == "checkpoint" else row["kind"]
        if (read, row["name"].partition("@")[0]) == (kind, name):
            raise ConfigError(
                f"{FOLDERS[kind]}/{name} is what is read, and would be replaced by what is made",
                hint="choose another `--name`",
            )
    return plan


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The keys, dotted, whose values differ between two nested dicts, with both values."""
    old, new = dict(_leaves("", before)), dict(_leaves("", after))
    return {
        key: (old.get(key), new.get(key))
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    }


def _leaves(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, one in value.items():
            yield from _leaves(f"{prefix}.{key}" if prefix else str(key), one)
    elif isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        seen: Counter[str] = Counter()
        for one in value:
            # A model may be called what its data are called, and two files alike.
            name = f"{one.get('kind', '')} {one.get('name', '')}".strip()
            seen[name] += 1
            yield from _leaves(f"{prefix}.{name}{f' {seen[name]}' if seen[name] > 1 else ''}", one)
    else:
        yield prefix, value


def _other_plan(kind: str, what: str, changed: Mapping[str, tuple[Any, Any]]) -> WorkspaceError:
    flag = "--tokenizer-name" if kind == "tokenizer" else "--name"
    told = ", ".join(
        f"{key.removeprefix('config.')} {_short(old)} -> {_short(new)}"
        for key, (old, new) in list(changed.items())[:MOST_TOLD]
    )
    if len(changed) > MOST_TOLD:
        told += f", and {len(changed) - MOST_TOLD} more"
    return WorkspaceError(
        f"{what} with other settings: {told}",
        hint=f"`--force` makes it anew; another `{flag}` keeps both",
    )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:18]}…{text[-18:]}"
