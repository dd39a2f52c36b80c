"""The record of an artifact: what it is, what it was made from, and a digest of all its files.

Written last, so that where it stands the artifact is whole, and sealed against silent change.
Knows nothing of where artifacts lie, or of how one is made (`workspace`).
"""

import json
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llmctl.durable import checksum, fingerprint
from llmctl.errors import WorkspaceError
from llmctl.registry import load

FOLDERS = {
    "corpus": "corpora",
    "tokenizer": "tokenizers",
    "tokens": "tokens",
    "labeled": "labeled",
    "model": "models",
    "report": "reports",
}


@dataclass(frozen=True, slots=True)
class Input:
    """What an artifact was made from: another artifact, or data from outside, by digest."""

    kind: str
    name: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The record of an artifact, written last.

    `digest` stands for the content (all files by sha256); `seal` for the manifest itself.
    `sort` says what a model is: `causal-lm`, `chat-lm` or `classifier`.
    """

    kind: str
    name: str
    digest: str
    sort: str = ""
    config: dict[str, Any] = field(default_factory=dict[str, Any])
    inputs: tuple[Input, ...] = ()
    files: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    facts: dict[str, Any] = field(default_factory=dict[str, Any])
    provenance: dict[str, Any] = field(default_factory=dict[str, Any])
    schema: int = 1

    def to_json(self) -> str:
        """The manifest as text, sealed against silent change."""
        body = asdict(self)
        return json.dumps(body | {"seal": seal_of(body)}, indent=1, ensure_ascii=False) + "\n"

    @staticmethod
    def read(path: Path) -> "Manifest":
        """Read a manifest; WorkspaceError where it is damaged or of a later llmctl."""
        try:
            body = json.loads(path.read_bytes())
            seal = body.pop("seal")
            if body["schema"] != 1:
                raise WorkspaceError(
                    f"{path} was written by another version of llmctl (schema {body['schema']})",
                    hint="upgrade llmctl, or make the artifact anew with `--force`",
                )
            if seal != seal_of(body):
                raise ValueError("the seal does not match")
            inputs = tuple(Input(**row) for row in body.pop("inputs"))
            return Manifest(**body, inputs=inputs)
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise WorkspaceError(
                f"{path} is damaged: {error}",
                hint="make the artifact anew with `--force`, or bring back a copy",
            ) from error


def seal_of(body: Mapping[str, Any]) -> str:
    """The sha256 of plain values, whatever their order."""
    plain = json.loads(json.dumps(body))
    return load("hashlib:sha256")(json.dumps(plain, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Artifact:
    """A finished folder of the workspace and its manifest."""

    path: Path
    manifest: Manifest

    @property
    def kind(self) -> str:
        """What it is: `corpus`, `tokens`, `model` and so on."""
        return self.manifest.kind

    @property
    def name(self) -> str:
        """Its name, unique within its kind."""
        return self.manifest.name

    @property
    def digest(self) -> str:
        """The sha256 that stands for all its files."""
        return self.manifest.digest

    @property
    def facts(self) -> dict[str, Any]:
        """What was measured while it was made."""
        return self.manifest.facts

    @property
    def label(self) -> str:
        """How people see it: its folder in the workspace, such as `tokens/wikipedia`."""
        return f"{FOLDERS[self.kind]}/{self.name}"

    def as_input(self) -> Input:
        """This artifact as the input of another."""
        return Input(self.kind, self.name, self.digest)

    def touch(self, file: str) -> Path:
        """The path of one file after a look at its fast checksum; WorkspaceError if it changed."""
        path, known = self.path / file, self.manifest.files[file]
        if not path.exists() or checksum(path) != known["xxh3"]:
            raise _changed(path)
        return path

    def verify(self) -> Iterator[Path]:
        """Hash every file again, yielding the sound; WorkspaceError at the first that is not."""
        for file, known in self.manifest.files.items():
            path = self.path / file
            if not path.exists() or fingerprint(path)["sha256"] != known["sha256"]:
                raise _changed(path)
            yield path

    def check_sizes(self) -> None:
        """Notice files that are gone or of another length; costs no reading."""
        for file, known in self.manifest.files.items():
            path = self.path / file
            if not path.exists() or path.stat().st_size != known["bytes"]:
                raise _changed(path)


def _changed(path: Path) -> WorkspaceError:
    return WorkspaceError(
        f"{path} is missing or no longer what was written",
        hint="make the artifact anew with `--force`, or bring back a copy",
    )


def now() -> str:
    """This moment, as manifests say it."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def provenance(started: str, device: str | None) -> dict[str, Any]:
    """When, by which versions and on what something was made."""
    version = load("importlib.metadata:version")
    return {
        "started": started,
        "finished": now(),
        "llmctl": version("llmctl"),
        "python": platform.python_version(),
        "torch": version("torch"),
        "platform": platform.platform(),
        "commit": _commit(),
        "device": device or platform.machine(),
    }


def _commit() -> str | None:
    """The git commit of the folder that the user works in, where there is one."""
    git = shutil.which("git")
    if git is None:
        return None
    told = subprocess.run([git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return told.stdout.strip() or None
