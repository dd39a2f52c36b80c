"""Addresses from anybody -> pages: robots.txt obeyed, a host asked once a second, by one at a time.

What a page does never ends the others. When no host at all answers, the network is at fault.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from urllib.parse import urlsplit

from llmctl.data.document import Document, Rejected
from llmctl.data.fetching.addresses import Barred
from llmctl.data.fetching.client import Answer, Client, Forbidden, Missing, TooLarge
from llmctl.data.fetching.robots import Robots
from llmctl.data.formats.mending import mend, replace_surrogates
from llmctl.data.formats.passage import Unreadable
from llmctl.data.webpages.extraction import Extractor
from llmctl.errors import RemoteError

HOSTS_AT_ONCE = 8
MOST_BYTES, MOST_SECONDS = 5 * 2**20, 30.0
LONGEST_DELAY = 30.0  # seconds between pages that a host may ask for
LEAST_HOSTS = 3  # of which none answers before the network is blamed
LICENCE = "unknown (page of its author)"
HTML = ("text/html", "application/xhtml+xml")
REASONS: Mapping[type[RemoteError], str] = {
    Barred: "private address", Forbidden: "refused", Missing: "not found", TooLarge: "too large",
}  # fmt: skip


class Disallowed(RemoteError):
    """A host's robots.txt does not want the page to be fetched."""


@dataclass(frozen=True, slots=True)
class Visit:
    """An address with its score, and what came of it."""

    url: str
    score: int
    outcome: Answer | Rejected
    answered: bool = True


def fetch_pages(
    client: Client,
    links: Sequence[tuple[str, int]],
    extractor: Extractor,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Document | Rejected]:
    """The pages behind links that are sorted by host, in their order."""
    robots = Robots(client)
    hosts = [list(group) for _, group in groupby(links, lambda one: urlsplit(one[0]).netloc)]
    silent = 0
    with ThreadPoolExecutor(HOSTS_AT_ONCE) as pool:
        # Extraction is not safe in threads, so only the waiting is done there.
        for visits in pool.map(lambda some: _visit_host(client, robots, some, sleep), hosts):
            silent += not any(visit.answered for visit in visits)
            for visit in visits:
                yield _page(visit, extractor)
    if silent == len(hosts) >= LEAST_HOSTS:
        raise RemoteError(
            f"none of {len(hosts)} hosts answered",
            hint="look at the connection; the same command later goes on from here",
        )


def _visit_host(
    client: Client,
    robots: Robots,
    links: Sequence[tuple[str, int]],
    sleep: Callable[[float], None],
) -> list[Visit]:
    def hop(url: str) -> None:
        if not robots.allows(url):
            raise Disallowed("robots.txt")

    visits: list[Visit] = []
    for url, score in links:
        answered = True
        outcome: Answer | Rejected
        try:
            hop(url)
            delay = robots.delay(url)
            if delay > LONGEST_DELAY:
                raise Disallowed(f"one page every {delay:.0f} seconds")
            if visits and delay > client.pause:
                sleep(delay - client.pause)
            outcome = client.get(url, most=MOST_BYTES, seconds=MOST_SECONDS, hop=hop)
        except Disallowed as error:
            answered = robots.answers(url)
            reason = "robots.txt" if answered else "no answer"
            outcome = Rejected(where=url, reason=reason, detail=error.message)
        except RemoteError as error:
            answered = type(error) in REASONS
            reason = REASONS.get(type(error), "no answer")
            outcome = Rejected(where=url, reason=reason, detail=error.message)
        visits.append(Visit(url, score, outcome, answered))
    return visits


def _page(visit: Visit, extractor: Extractor) -> Document | Rejected:
    answer = visit.outcome
    if isinstance(answer, Rejected):
        return answer
    size = len(answer.content)
    kind, _, rest = answer.headers.get("content-type", "text/html").partition(";")
    if kind.strip().lower() not in HTML:
        return Rejected(where=visit.url, reason="no HTML", detail=kind, bytes=size)
    charset = rest.partition("charset=")[2].strip(" \"'")
    try:
        text, title = extractor.extract(answer.content, charset)
    except Unreadable as error:
        return Rejected(where=visit.url, reason=error.reason, detail=error.detail, bytes=size)
    text, _ = mend(replace_surrogates(text))
    if not text.strip():
        return Rejected(where=visit.url, reason="empty", bytes=size)
    facts = {"title": title, "score": str(visit.score)}
    return Document(
        id=f"webtext/{visit.url}",
        text=text,
        source="webtext",
        url=answer.url,
        licence=LICENCE,
        time=answer.headers.get("last-modified", ""),
        meta={key: value for key, value in facts.items() if value},
    )
