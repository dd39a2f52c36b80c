"""WebText: pages that readers of Reddit voted for, and answers of Stack Exchange."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from llmctl.config import knob
from llmctl.data.document import Document, Part, Rejected
from llmctl.data.fetching.network import Network
from llmctl.data.sources.given import find_given, is_local, is_remote, on_disk
from llmctl.errors import ConfigError, DataError
from llmctl.registry import load

DUMPS = (".zst", ".xz", ".bz2", ".gz", ".jsonl", ".json", ".ndjson")
POSTS = ("posts.xml", ".7z")
PAGES_A_PART, BYTES_A_PAGE = 100, 60_000
SECONDS_A_PAGE = 0.5  # eight hosts at a time, a second and more each
READ_RATE = 5e6


@dataclass(frozen=True, slots=True, kw_only=True)
class WebText:
    """Fetch the pages that Reddit's readers voted for, or read Stack Exchange.

    >>> WebText(input_="RS_2023-01.zst", min_score=5).default_name()
    'webtext'
    """

    input_: str | None = knob(
        None, help="Submissions (RS_*.zst, .xz, .bz2, .jsonl): FILE, DIR or URL", panel="Input",
        metavar="PLACE",
    )  # fmt: skip
    stackexchange: str | None = knob(
        None, help="Posts of a site (Posts.xml or .7z): FILE, DIR or URL", panel="Input",
        metavar="PLACE",
    )  # fmt: skip
    min_score: int = knob(3, help="Least sum of a link's scores", panel="Input")
    via: Literal["web", "commoncrawl"] = knob(
        "web", help="Fetch pages from their hosts, or from a crawl", panel="Input"
    )
    crawl: str = knob("latest", help="The crawl for `--via commoncrawl`", panel="Input", rare=True)
    extract: Literal["quality", "fast"] = knob(
        "quality", help="How to find the main text of pages", panel="Text"
    )
    mirror: str = knob(
        "https://data.commoncrawl.org", help="Where the crawl's files lie", panel="Input",
        rare=True,
    )  # fmt: skip
    index: str = knob(
        "https://index.commoncrawl.org", help="Where pages are looked up in it", panel="Input",
        rare=True,
    )  # fmt: skip
    network: Network = knob(factory=Network, help="How to reach out")

    def __post_init__(self) -> None:
        """Refuse to begin with nothing."""
        if not (self.input_ or self.stackexchange):
            raise ConfigError(
                "no submissions to find pages by",
                hint="give `--input RS_2023-01.zst` (monthly dumps are on academictorrents.com and "
                "by Arctic Shift), or `--stackexchange Posts.xml`",
            )

    def default_name(self) -> str:
        """The corpus is called `webtext`."""
        return "webtext"

    def fetching_into(self, folder: Path) -> Self:
        """Put downloads there, unless the user said where or there are none."""
        if self.input_ is None and is_local(self.stackexchange):
            return self
        return replace(self, network=self.network.within(folder))

    def parts(self) -> Sequence[Part]:
        """About a hundred pages a part, never a host in two; a part a site of Stack Exchange."""
        found: list[Part] = []
        if self.input_:
            found += _by_host(self._links(self.input_), self._crawl())
        if self.stackexchange:
            found += [
                Part(
                    label=one.id, bytes=one.bytes, spec=("posts", one.path),
                    seconds=one.bytes / READ_RATE,
                )
                for one in find_given(self.stackexchange, "stackexchange", self.network, POSTS)
            ]  # fmt: skip
        return found

    def read(self, part: Part) -> Iterator[Document | Rejected]:
        """The documents of a part."""
        kind, *rest = part.spec
        if kind == "posts":
            path = on_disk(rest[0], self.network, named=self._named())
            yield from load("llmctl.data.webtext.exchange:read_posts")(path, part.label)
            return
        extractor = load("llmctl.data.webpages.extraction:Extractor")(self.extract)
        links, crawl = rest
        if not crawl:
            # What a stranger wrote is no reason to trust a host: nothing is named here.
            client = self.network.client(pause=1.0, connections=1)
            client.tries = 3
            yield from load("llmctl.data.webtext.pages:fetch_pages")(client, links, extractor)
            return
        client = self.network.client(named=self._named(), pause=1.0)
        for url, _ in links:
            place = load("llmctl.data.sources.crawls:look_up")(client, self.index, crawl, url)
            if place is None:
                yield Rejected(where=url, reason="not in the crawl", detail=crawl)
                continue
            record = load("llmctl.data.sources.crawls:fetch_record")(client, self.mirror, place)
            yield from load("llmctl.data.webpages.warc:read_record")(record, url, extractor)

    def _links(self, place: str) -> list[tuple[str, int]]:
        if is_remote(place) and self.network.downloads is None:
            raise ConfigError(
                f"a dump as large as {place} needs a place of its own",
                hint="say where with `--downloads DIR`",
            )
        files = find_given(place, "webtext", self.network, DUMPS)
        paths = [on_disk(one.path, self.network, named=(place,)) for one in files]
        links = load("llmctl.data.webtext.links:gather")(paths)
        chosen = links.chosen(self.min_score)
        if not chosen:
            told = [f"{times:,} {reason}" for reason, times in links.left_out.most_common()]
            told += [f"{one.where}: {one.reason}" for one in links.damage]
            raise DataError(
                f"no link in {place} has a score of {self.min_score} or more",
                hint=f"left out: {', '.join(told) or 'nothing'}",
            )
        return chosen

    def _crawl(self) -> str:
        if self.via == "web":
            return ""
        client = self.network.client(named=self._named())
        return load("llmctl.data.sources.crawls:crawl_named")(client, self.index, self.crawl)

    def _named(self) -> tuple[str, ...]:
        places: tuple[Any, ...] = (self.mirror, self.index, self.input_, self.stackexchange)
        return tuple(filter(None, places))


def _by_host(links: Sequence[tuple[str, int]], crawl: str) -> Iterator[Part]:
    waiting: list[tuple[str, int]] = []
    number = 0
    for _, group in groupby(links, lambda one: urlsplit(one[0]).netloc):
        waiting += group
        if len(waiting) >= PAGES_A_PART:
            yield _pages(number, waiting, crawl)
            waiting, number = [], number + 1
    if waiting:
        yield _pages(number, waiting, crawl)


def _pages(number: int, links: Sequence[tuple[str, int]], crawl: str) -> Part:
    return Part(
        label=f"webtext/pages@{number}",
        bytes=len(links) * BYTES_A_PAGE,
        spec=("pages", tuple(links), crawl),
        seconds=len(links) * SECONDS_A_PAGE,
    )
