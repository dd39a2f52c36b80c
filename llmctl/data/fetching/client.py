"""An address -> what lies there, asked for politely: who asks is said, and no means no.

What may pass (a lost connection, 429, 5xx) is tried again, after as long as the server asks for
or twice as long as before. 403 ends the work at once: it is what a server says to a client that
it wants to be rid of. Nothing waits for ever: answers have a size and a time in which to come.
"""

import contextlib
import email.utils
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import httpx

from llmctl.data.fetching.addresses import Barred, Guarded
from llmctl.data.fetching.pace import Pace
from llmctl.errors import RemoteError
from llmctl.figures import duration, size
from llmctl.registry import load

log = logging.getLogger(__name__)

Thing = TypeVar("Thing")
Hop = Callable[[str], None]

HOME = "https://pypi.org/project/llmctl/"
PASSING = frozenset((408, 425, 429, 500, 502, 503, 504))
GONE = frozenset((401, 404, 410, 451))
UNASKED = frozenset((405, 501))  # from servers that answer no HEAD
MOST_HOPS = 10
WORTH_SAYING = 10.0  # seconds of waiting that a person should know of
LONGEST_WAIT = 900.0  # seconds that a server may ask us to wait
RESUME = "what was fetched is kept: the same command later goes on from there"


class Again(Exception):
    """Something that may pass: why, and after how many seconds if the server said so."""

    def __init__(self, reason: str, *, after: float | None = None, progress: bool = False) -> None:
        super().__init__(reason)
        self.after = after
        self.progress = progress


class Forbidden(RemoteError):
    """The server does not want us (403): to be left alone for a long while."""


class Missing(RemoteError):
    """Nothing lies at the address (404 and its like)."""


class TooLarge(RemoteError):
    """What lies at the address is larger than it may be."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came: from where in the end, its headers (lower case) and its bytes."""

    url: str
    headers: Mapping[str, str]
    content: bytes


@dataclass(slots=True, kw_only=True)
class Client:
    """Fetches for one process; turns at a host are shared with all others of this user."""

    contact: str = ""
    trusted: frozenset[str] = frozenset()
    pause: float = 0.0
    connections: int = 3
    tries: int = 6
    first_wait: float = 1.0
    silence: float = 30.0  # seconds in which something must come
    sleep: Callable[[float], None] = time.sleep
    _http: httpx.Client = field(init=False)
    _pace: Pace = field(init=False)

    def __post_init__(self) -> None:
        """Open nothing yet."""
        self._http = httpx.Client(
            transport=Guarded(self.trusted),
            headers={"User-Agent": self.agent},
            timeout=httpx.Timeout(self.silence, connect=min(10.0, self.silence)),
        )
        self._pace = Pace(
            _hosts_folder(), connections=self.connections, pause=self.pause, sleep=self.sleep
        )

    @property
    def agent(self) -> str:
        """The User-Agent: what we are and where to complain."""
        version = load("importlib.metadata:version")("llmctl")
        return f"llmctl/{version} ({'; '.join(filter(None, (self.contact, HOME)))})"

    def get(
        self, url: str, *, most: int = 64 * 2**20, seconds: float = 120.0, hop: Hop | None = None
    ) -> Answer:
        """What lies at an address, of at most `most` bytes, within so many seconds.

        `hop` is asked about each address on the way and raises what should end it.
        Raises RemoteError: Forbidden, Missing, TooLarge, Barred, or that it did not come.
        """

        def once() -> Answer:
            with self.open(url, hop=hop) as response:
                content = b"".join(received(response, most=most, seconds=seconds))
                return Answer(str(response.url), dict(response.headers), content)

        return self.patiently(url, once)

    def length(self, url: str) -> int:
        """How many bytes lie at an address; 0 where the server does not say."""

        def once() -> int:
            with self.open(url, method="HEAD", headers={"Accept-Encoding": "identity"}) as response:
                is_said = response.status_code == 200
                return int(response.headers.get("content-length", 0)) if is_said else 0

        return self.patiently(url, once)

    @contextlib.contextmanager
    def open(
        self,
        url: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        hop: Hop | None = None,
    ) -> Iterator[httpx.Response]:
        """One attempt: an answer whose body is still to come; raises Again for what may pass."""
        for _ in range(MOST_HOPS + 1):
            if hop is not None:
                hop(url)
            with self._sent(url, method, headers or {}) as response:
                if response.next_request is None:
                    self._judge(response)
                    yield response
                    return
                url = str(response.next_request.url)
        raise RemoteError(f"{url} only leads on and on: more than {MOST_HOPS} redirects")

    def patiently(self, url: str, once: Callable[[], Thing]) -> Thing:
        """What `once` brings, tried again while it raises Again; progress renews our patience."""
        left, wait = self.tries, self.first_wait
        while True:
            try:
                return once()
            except (Again, httpx.TransportError) as error:
                trouble = error if isinstance(error, Again) else Again(_said(error))
                # Who cannot be reached at all is most often not there: half the patience.
                cost = 2 if isinstance(error, httpx.ConnectError) else 1
            if trouble.progress:
                left, wait = self.tries, self.first_wait
            left -= cost
            after = wait if trouble.after is None else trouble.after
            if left <= 0 or after > LONGEST_WAIT:
                raise _given_up(url, trouble)
            if after >= WORTH_SAYING:
                log.warning("%s: %s; waiting %s", url, trouble, duration(after))
            if trouble.after is not None:
                self._pace.postpone(urlsplit(url).netloc, after)
            self.sleep(after)
            wait *= 2

    @contextlib.contextmanager
    def _sent(self, url: str, method: str, headers: Mapping[str, str]) -> Iterator[httpx.Response]:
        if not url.startswith(("http://", "https://")):
            raise Barred(f"`{url}` is no web address")
        try:
            request = self._http.build_request(method, url, headers=headers)
        except httpx.InvalidURL as error:
            raise Barred(f"`{url}` is no web address: {error}") from error
        if not request.url.host or " " in url:
            raise Barred(f"`{url}` is no web address")
        with self._pace.turn(request.url.netloc.decode()):
            response = self._http.send(request, stream=True)
            try:
                yield response
            finally:
                response.close()

    def _judge(self, response: httpx.Response) -> None:
        status, url = response.status_code, str(response.url)
        if status in PASSING:
            raise Again(f"the server says {status}", after=_retry_after(response))
        if status == 403:
            raise Forbidden(
                f"{response.url.host} refuses us (403): {url}",
                hint="leave it alone for some hours, then give the same command again; "
                "`--contact` tells the server how to reach you",
            )
        if status in GONE:
            raise Missing(f"nothing to be had at {url} ({status})")
        if status in UNASKED and response.request.method == "HEAD":
            return
        if status >= 300 and status != 416:
            raise RemoteError(f"{url} cannot be fetched: the server says {status}")


def received(response: httpx.Response, *, most: int, seconds: float) -> Iterator[bytes]:
    """The body in pieces; TooLarge beyond `most` bytes, Again where it takes too long."""
    deadline = time.monotonic() + seconds
    got = 0
    for piece in response.iter_bytes():
        got += len(piece)
        if got > most:
            raise TooLarge(f"{response.url} is larger than {size(most)}")
        if time.monotonic() > deadline:
            raise Again(f"it took longer than {duration(seconds)}")
        yield piece


def _retry_after(response: httpx.Response) -> float | None:
    """The seconds that `Retry-After` asks for, as a number or as a date (RFC 9110, 10.2.3)."""
    stated = response.headers.get("retry-after", "").strip()
    if stated.isdecimal():
        return float(stated)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(stated).timestamp() - time.time())
    except ValueError:
        return None


def _given_up(url: str, trouble: Again) -> RemoteError:
    if trouble.after is not None and trouble.after > LONGEST_WAIT:
        return RemoteError(
            f"{url} asks to be left alone for {duration(trouble.after)} ({trouble})", hint=RESUME
        )
    return RemoteError(
        f"cannot fetch {url}: {trouble}",
        hint=f"look at the connection and at $HTTPS_PROXY, or read what you have with `--input`; "
        f"{RESUME}",
    )


def _said(error: httpx.TransportError) -> str:
    return str(error) or type(error).__name__


def _hosts_folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "llmctl" / "hosts"
