"""What `--input` names, a file, a folder or an address -> files to read, fetched where needed."""

import re
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from llmctl.data.fetching.network import Network
from llmctl.data.sources.listing import Found, find_files
from llmctl.errors import DataError
from llmctl.registry import load

REMOTE = "llmctl.data.fetching.download:Remote"
DOWNLOAD = "llmctl.data.fetching.download:download"


def is_remote(place: str) -> bool:
    """Whether a place is an address and not a path."""
    return place.startswith(("http://", "https://"))


def is_local(place: str | None) -> bool:
    """Whether all that there is to read lies on this machine."""
    return place is not None and not is_remote(place)


def find_given(place: str, name: str, network: Network, endings: Sequence[str]) -> list[Found]:
    """The files that a place means, those of a folder by their endings, ordered by id.

    Raises DataError where there are none, RemoteError where an address cannot be reached.
    """
    if is_remote(place):
        bytes_there = network.client(named=(place,)).length(place)
        return [Found(f"{name}/{_file_name(place)}", place, bytes_there)]
    found = find_files((place,), name)
    if Path(place).expanduser().is_dir():
        chosen = [one for one in found if one.path.lower().endswith(tuple(endings))]
        if not chosen:
            raise DataError(
                f"no file to read in {place}", hint=f"looked for names that end in {_or(endings)}"
            )
        return chosen
    return found


def on_disk(
    place: str,
    network: Network,
    *,
    named: Sequence[str] = (),
    client: Any = None,
    digest: str = "",
    size: int = 0,
) -> Path:
    """The file at a place, fetched once if it is an address; RemoteError where that fails.

    It is fetched by `client`, or by one that trusts the hosts of the addresses `named`.
    """
    if not is_remote(place):
        return Path(place)
    # The name is for people; two addresses that end alike are kept apart by their digest.
    name = f"{sha256(place.encode()).hexdigest()[:12]}-{_file_name(place)}"
    remote = load(REMOTE)(url=place, digest=digest, bytes=size)
    client = client or network.client(named=named)
    return load(DOWNLOAD)(client, remote, network.folder / name)


def _file_name(url: str) -> str:
    """The last part of an address as a name that stays in its folder."""
    last = urlsplit(url).path.rstrip("/").rpartition("/")[2]
    return re.sub(r"[^\w.-]", "_", last).lstrip(".")[-150:] or "download"


def _or(endings: Sequence[str]) -> str:
    *first, last = endings
    return f"{', '.join(first)} or {last}" if first else last
