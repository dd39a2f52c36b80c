"""How a source reaches out: the knobs that every source with a remote shares.

A client is made when it is first needed, so that a page of help loads no HTTP library.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable
from urllib.parse import urlsplit

from llmctl.config import knob
from llmctl.data.document import Source
from llmctl.registry import load

CLIENT = "llmctl.data.fetching.client:Client"
CONTACT = "LLMCTL_CONTACT"
PASSING = ".downloads"  # the folder of a draft, which goes when the corpus is whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """Who asks, where what is fetched is kept, and which hosts of one's own may be asked."""

    contact: str | None = knob(
        None,
        help=f"Mail address or page to reach you at, for the User-Agent (else ${CONTACT})",
        identity=False,
    )
    downloads: Path | None = knob(
        None, help="Keep what is fetched in this folder, and look there first", identity=False
    )
    trust: tuple[str, ...] = knob(
        (),
        help="A HOST or HOST:PORT of your own network that addresses in the data may lead to",
        identity=False,
        rare=True,
        metavar="HOST",
    )

    def client(self, *, named: Sequence[str] = (), pause: float = 0.0, connections: int = 3) -> Any:
        """A client; hosts of the addresses `named`, which the user gave, may be of any network.

        `pause` is the least number of seconds between two requests to a host.
        """
        hosts = [urlsplit(url).netloc.rpartition("@")[2] for url in named]
        return load(CLIENT)(
            contact=self.contact or os.environ.get(CONTACT, ""),
            trusted=frozenset([*self.trust, *hosts]),
            pause=pause,
            connections=connections,
        )

    def within(self, folder: Path) -> "Network":
        """The same with downloads in a folder, unless the user named another."""
        return self if self.downloads else replace(self, downloads=folder)

    @property
    def is_passing(self) -> bool:
        """Whether what is fetched is of no use once it has been read."""
        return self.downloads is not None and self.downloads.name == PASSING

    @property
    def folder(self) -> Path:
        """Where downloads lie; a source that fetches is told before it reads."""
        assert self.downloads is not None
        self.downloads.mkdir(parents=True, exist_ok=True)
        return self.downloads


@runtime_checkable
class Fetching(Source, Protocol):
    """A source that fetches: its parts are listed once a corpus, its downloads have a place."""

    def fetching_into(self, folder: Path) -> Self:
        """The same source with its downloads in `folder`, unless the user named another.

        The very same object where nothing is fetched: what lies here is listed anew each time,
        so that a file that has changed is noticed.
        """
        ...
