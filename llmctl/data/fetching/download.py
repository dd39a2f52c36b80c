"""An address -> a file: fetched once, gone on with where it was cut, checked when it is whole.

Beside an unfinished file lies what the server called it (its ETag). When that has changed, or
the server knows no ranges, the file is fetched from its beginning: two halves of two files never
become one.
"""

import hashlib
import json
import logging
import os
import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import httpx
from filelock import FileLock

from llmctl.data.fetching.client import Again, Client
from llmctl.durable import sync, write_durably
from llmctl.errors import RemoteError
from llmctl.figures import size

log = logging.getLogger(__name__)

RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
# A server that drips is no better than one that is silent.
SLOWEST, LOOK_EVERY = 200, 60.0  # bytes a second, seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """A file elsewhere: its address, and its size and digest (`sha1:…`) where they are known."""

    url: str
    bytes: int = 0
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Label:
    """What a server calls the present state of a file; empty where it says nothing of it."""

    url: str
    validator: str


def download(client: Client, remote: Remote, path: Path) -> Path:
    """Fetch a file to `path`, once however many processes ask for it; RemoteError if it fails."""
    with FileLock(path.with_name(f".{path.name}.lock"), is_singleton=False):
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            _complete(client, remote, path)
    return path


def _complete(client: Client, remote: Remote, path: Path) -> None:
    partial = path.with_name(f".{path.name}.part")
    log.info("fetching %s, %s", remote.url, size(remote.bytes) if remote.bytes else "size unknown")
    for is_last in (False, True):
        client.patiently(remote.url, lambda: _go_on(client, remote, partial))
        why = _mismatch(remote, partial)
        if why is None:
            break
        _begin_anew(partial)
        if is_last:
            raise RemoteError(
                f"{remote.url} is not what was promised: {why}",
                hint="it may have been changed just now: try again later, or another mirror",
            )
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)
    _label_path(partial).unlink(missing_ok=True)
    sync(path.parent)


def _go_on(client: Client, remote: Remote, partial: Path) -> None:
    """One attempt to bring what is missing of the partial file."""
    label = _label(partial)
    have = partial.stat().st_size if partial.exists() and label else 0
    if label is None or label.url != remote.url:
        have = 0
    headers = {"Accept-Encoding": "identity"}
    if have and label:
        headers |= {"Range": f"bytes={have}-", "If-Range": label.validator}
    with client.open(remote.url, headers=headers) as response:
        if response.status_code == 416:
            _past_the_end(response, partial, have)
            return
        start, total = _offered(response)
        if start not in (0, have) or (start and not _is_same(label, response)):
            _begin_anew(partial)
            raise Again("the server sent another part, or another state, of the file")
        if not start:
            _begin_anew(partial)
            _write_label(partial, remote.url, response)
        with partial.open("ab") as file:
            _append(response, file)
        if total and partial.stat().st_size < total:
            raise Again("the file was cut short", progress=partial.stat().st_size > have)


def _append(response: httpx.Response, file: BinaryIO) -> None:
    """Write what comes; what came before the connection was lost is kept."""
    got, since, looked = 0, time.monotonic(), 0
    try:
        for piece in response.iter_raw():
            file.write(piece)
            got += len(piece)
            if time.monotonic() - since > LOOK_EVERY:
                if got - looked < SLOWEST * LOOK_EVERY:
                    raise Again(f"only {size(got - looked)} came in {LOOK_EVERY:.0f} seconds")
                since, looked = time.monotonic(), got
    except httpx.TransportError as error:
        raise Again(str(error) or type(error).__name__, progress=got > 0) from error


def _offered(response: httpx.Response) -> tuple[int, int]:
    """Where what the server sends begins, and the size of the whole file (0: unknown)."""
    if response.status_code != 206:
        return 0, int(response.headers.get("content-length", 0))
    stated = RANGE.fullmatch(response.headers.get("content-range", ""))
    if stated is None:
        return -1, 0
    return int(stated[1]), 0 if stated[2] == "*" else int(stated[2])


def _is_same(label: Label | None, response: httpx.Response) -> bool:
    """Whether a part belongs to the file that we have the beginning of, as far as it says."""
    stated = _validator(response)
    return label is not None and stated in ("", label.validator)


def _past_the_end(response: httpx.Response, partial: Path, have: int) -> None:
    """The server has nothing behind what we have: it is whole, or it is another file."""
    if response.headers.get("content-range", "") != f"bytes */{have}":
        _begin_anew(partial)
        raise Again("the file has become shorter")


def _mismatch(remote: Remote, partial: Path) -> str | None:
    have = partial.stat().st_size
    if remote.bytes and have != remote.bytes:
        return f"{have:,} bytes instead of {remote.bytes:,}"
    kind, _, digest = remote.digest.partition(":")
    if digest and _digest(partial, kind) != digest:
        return f"its {kind} is not {digest}"
    return None


def _digest(path: Path, kind: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def _validator(response: httpx.Response) -> str:
    """A strong ETag, else the date of change: what `If-Range` takes (RFC 9110, 13.1.5)."""
    tag = response.headers.get("etag", "")
    return tag if tag and not tag.startswith("W/") else response.headers.get("last-modified", "")


def _label_path(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.json")


def _label(partial: Path) -> Label | None:
    """The label of a partial file; None where it cannot be gone on with."""
    try:
        row: dict[str, Any] = json.loads(_label_path(partial).read_bytes())
        label = Label(**row)
    except (OSError, ValueError, TypeError):
        return None
    return label if label.validator else None


def _write_label(partial: Path, url: str, response: httpx.Response) -> None:
    label = Label(url, _validator(response))
    write_durably(_label_path(partial), json.dumps(asdict(label)).encode())


def _begin_anew(partial: Path) -> None:
    _label_path(partial).unlink(missing_ok=True)
    partial.unlink(missing_ok=True)
