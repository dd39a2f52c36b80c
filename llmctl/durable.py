"""Files that survive a crash: written at once or not at all, and checked when read.

Common formats notice no bit flip (safetensors let 149 of 150 pass in our trial), so whatever is
trusted later carries a checksum. Knows nothing of artifacts or of what the files mean.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import xxhash

from llmctl.registry import load

SEAL = "seal.json"
# Sums of some of the files, by whoever wrote them, until the folder is sealed.
SEALS_OF_SOME = "seal-*.json"


def fingerprint(path: Path) -> dict[str, Any]:
    """Bytes, sha256 and xxh3 of a file, read once."""
    slow, fast, size = load("hashlib:sha256")(), xxhash.xxh3_64(), 0
    with path.open("rb") as file:
        while block := file.read(2**22):
            slow.update(block)
            fast.update(block)
            size += len(block)
    return {"bytes": size, "sha256": slow.hexdigest(), "xxh3": fast.hexdigest()}


def checksum(path: Path) -> str:
    """The xxh3 of a file, 64 bits in hex: fast, against accidents, not against malice."""
    fast = xxhash.xxh3_64()
    with path.open("rb") as file:
        while block := file.read(2**22):
            fast.update(block)
    return fast.hexdigest()


def write_durably(path: Path, content: bytes) -> None:
    """Put a file in place at once: written beside it, synced, renamed, the folder synced."""
    beside = path.with_name(f".{path.name}.tmp")
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    sync(path.parent)


def unsealed(target: Path) -> Path:
    """Where a folder is filled that will be sealed at `target`, also by other processes."""
    return target.with_name(f".{target.name}.tmp")


@contextlib.contextmanager
def sealed_directory(target: Path) -> Iterator[Path]:
    """Fill a folder beside `target`; leaving the block seals it and renames it there.

    Until then nothing stands at `target`; when the block raises, nothing is left of the attempt.
    """
    beside = unsealed(target)
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        yield beside
        sums = _taken_in(beside)
        rest = (path for path in sorted(beside.iterdir()) if path.name not in sums)
        sums |= {path.name: _seal_file(path) for path in rest}
        write_durably(beside / SEAL, json.dumps(sums, indent=1).encode())
        if target.exists():
            shutil.rmtree(target)
        beside.rename(target)
        sync(target.parent)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def seal_some(folder: Path, pattern: str, number: int) -> None:
    """Sync and sum the files that one of several has put into a folder, by a pattern of names.

    `number` tells the several apart. To seal the folder nobody reads these files again.
    """
    sums = {path.name: _seal_file(path) for path in sorted(folder.glob(pattern))}
    name = SEALS_OF_SOME.replace("*", str(number))
    write_durably(folder / name, json.dumps(sums).encode())


def _taken_in(folder: Path) -> dict[str, Any]:
    """The sums that were made by others, each of which is deleted."""
    sums: dict[str, Any] = {}
    for path in sorted(folder.glob(SEALS_OF_SOME)):
        sums |= json.loads(path.read_bytes())
        path.unlink()
    return sums


def _seal_file(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return {"bytes": path.stat().st_size, "xxh3": checksum(path)}


@contextlib.contextmanager
def appearing(place: Path) -> Iterator[Path]:
    """A folder to fill, which takes its name when it is full; of an attempt nothing is left."""
    beside = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        yield beside
        sync(beside)
        _rename(beside, place)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _rename(beside: Path, place: Path) -> None:
    try:
        beside.rename(place)
    except OSError:
        # Another process was faster, with the same bytes.
        if not place.exists():
            raise
    sync(place.parent)


def damage(directory: Path, share: slice = slice(None)) -> str | None:
    """Why a sealed folder cannot be trusted, None where all its files match their seal.

    Of several who look, each reads a `share` of the files.
    """
    try:
        sums = json.loads((directory / SEAL).read_bytes())
        for name, known in list(sums.items())[share]:
            path = directory / name
            if path.stat().st_size != known["bytes"]:
                return f"{name} has {path.stat().st_size:,} bytes instead of {known['bytes']:,}"
            if checksum(path) != known["xxh3"]:
                return f"{name} does not match its checksum"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"its seal cannot be read ({error})"
    return None


def sync(directory: Path) -> None:
    """Make the renames inside a folder survive a power cut."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
