"""The installation -> findings: versions, extras, what torch can compile with and talk by."""

import importlib.metadata
import os
import platform
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from packaging.requirements import Requirement
from packaging.version import Version

from llmctl.evals.finding import Finding
from llmctl.registry import load
from llmctl.train.distributed.world import backends

SHOWN = ("torch", "tokenizers", "datasets", "pyarrow", "numpy")
# What torch.compile looks for after `CXX`.
COMPILERS = ("g++", "clang++", "c++")
EXTRA = re.compile(r"""extra\s*==\s*["']([\w-]+)["']""")
# Of extras, those that are made of others, and those for who works on llmctl itself.
NOT_PARTS = {"all", "dev"}


def software_looks() -> dict[str, Callable[[], Iterable[Finding]]]:
    """What to look at."""
    needs, extras = requirements()
    return {
        "versions": lambda: versions(needs),
        "extras": lambda: optional(extras),
        "compiler": compiler,
        "processes": messengers,
    }


def requirements() -> tuple[list[Requirement], dict[str, list[Requirement]]]:
    """What this llmctl needs, and what each of its extras needs; nothing where it has no record."""
    try:
        lines = importlib.metadata.requires("llmctl") or []
    except importlib.metadata.PackageNotFoundError:
        return [], {}
    needs: list[Requirement] = []
    extras: dict[str, list[Requirement]] = {}
    for one in map(Requirement, lines):
        extra = EXTRA.search(str(one.marker or ""))
        if extra is None:
            needs.append(one)
        elif extra[1] not in NOT_PARTS:
            extras.setdefault(extra[1], []).append(one)
    return needs, extras


def versions(needs: Iterable[Requirement]) -> Iterator[Finding]:
    """Python and llmctl, the libraries that compute, and whatever is not as it is asked for."""
    yield Finding("python", platform.python_version(), facts={"version": platform.python_version()})
    own = installed("llmctl")
    if own is None:
        yield Finding("llmctl", "not installed", "it runs from its source: `pip install -e .`")
    else:
        yield Finding("llmctl", own, facts={"version": own})
    asked = {one.name.lower().replace("_", "-"): one for one in needs}
    for name in SHOWN:
        yield _version(name, asked.pop(name, None))
    others = [finding for name, one in asked.items() if (finding := _version(name, one)).advice]
    yield from others
    if not others:
        yield Finding("other libraries", f"{len(asked)} as asked for")


def _version(name: str, asked: Requirement | None) -> Finding:
    version = installed(name)
    if version is None:
        return Finding(name, "not installed", f"pip install '{asked or name}'")
    facts = {"version": version, "asked": str(asked.specifier) if asked else ""}
    if asked is None or asked.specifier.contains(Version(version), prereleases=True):
        return Finding(name, version, facts=facts)
    return Finding(name, version, f"pip install '{asked.name}{asked.specifier}'", facts)


def installed(name: str) -> str | None:
    """The version of a package, None where it is not here."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def optional(extras: Mapping[str, Iterable[Requirement]]) -> Iterator[Finding]:
    """Each extra: here, or the line that brings it; that one is missing is nothing amiss."""
    for extra, needs in sorted(extras.items()):
        missing = [one.name for one in needs if installed(one.name) is None]
        line = f"pip install 'llmctl[{extra}]'"
        value = f"not installed: {line}" if missing else "installed"
        yield Finding(f"extra {extra}", value, facts={"missing": missing})


def compiler() -> Iterator[Finding]:
    """What torch.compile makes its code with, without which models run as they are written."""
    names = [os.environ.get("CXX", ""), *COMPILERS]
    found = next((path for name in names if (path := shutil.which(name))), None)
    advice = "" if found else "models are not compiled, and train slower: install g++"
    yield Finding("C++ compiler", found or "none", advice, {"path": found})


def messengers() -> Iterator[Finding]:
    """By what several processes would talk."""
    found = backends()
    facts: dict[str, Any] = {"backends": found}
    if "nccl" in found:
        version: Any = load("torch.cuda.nccl:version")
        facts["nccl"] = ".".join(map(str, version()))
    if "gloo" not in found:
        advice = "this torch trains in one process only: install one with gloo"
        yield Finding("process groups", ", ".join(found) or "none", advice, facts)
        return
    needs_nccl = torch.cuda.device_count() > 1 and "nccl" not in found
    advice = "several GPUs need NCCL: install torch for CUDA" if needs_nccl else ""
    told = [f"{name} {facts.get(name, '')}".rstrip() for name in found]
    yield Finding("process groups", ", ".join(told), advice, facts)
