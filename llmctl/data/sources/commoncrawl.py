"""Common Crawl -> one document a page: its files as they come, or pages by their addresses."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

from llmctl.config import knob
from llmctl.data.document import Document, Part, Rejected
from llmctl.data.fetching.network import Network
from llmctl.data.sources.given import find_given, is_local, is_remote, on_disk
from llmctl.errors import ConfigError, DataError
from llmctl.registry import load

ENDINGS = (".warc", ".warc.gz", ".wet", ".wet.gz", ".wet.txt")
# Bytes of a file of a crawl on average: 9 TB of WET and 90 TB of WARC in 100,000 files each.
TYPICAL = {"wet": 90_000_000, "warc": 900_000_000}
# Packed bytes a second: fetched, and read by one core (WARC in the quality way).
FETCH_RATE, READ_RATE = 10e6, {"wet": 20e6, "warc": 0.5e6}
PAGES_A_PART, SECONDS_A_PAGE, BYTES_A_PAGE = 50, 3.0, 30_000


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonCrawl:
    """Fetch files of a web crawl, or single pages of it, and read them as text.

    >>> CommonCrawl(crawl="CC-MAIN-2026-30", segments=10).default_name()
    'commoncrawl'
    """

    crawl: str = knob("latest", help="The crawl, as CC-MAIN-2026-30", panel="Input")
    format: Literal["wet", "warc"] = knob(
        "wet", help="wet is text as found; warc is pages, whose main text is extracted",
        panel="Input",
    )  # fmt: skip
    segments: int = knob(
        1, help="How many files of the crawl's 100,000, evenly spread", panel="Input"
    )
    urls: Path | None = knob(
        None, help="Fetch the pages of this list instead, one address a line", panel="Input"
    )
    input_: str | None = knob(
        None, help="Archives that you have: FILE, DIR or URL", panel="Input", metavar="PLACE"
    )
    extract: Literal["quality", "fast"] = knob(
        "quality", help="How to find the main text of pages", panel="Text"
    )
    mirror: str = knob(
        "https://data.commoncrawl.org", help="Where files are fetched from", panel="Input",
        rare=True,
    )  # fmt: skip
    index: str = knob(
        "https://index.commoncrawl.org", help="Where crawls are listed and pages looked up",
        panel="Input", rare=True,
    )  # fmt: skip
    network: Network = knob(factory=Network, help="How to reach out")

    def __post_init__(self) -> None:
        """Refuse a number of files that is none."""
        if self.segments < 1:
            raise ConfigError(f"cannot fetch {self.segments} files", hint="--segments 1 or more")

    def default_name(self) -> str:
        """The corpus is called `commoncrawl`."""
        return "commoncrawl"

    def fetching_into(self, folder: Path) -> Self:
        """Put downloads there, unless the user said where or there are none."""
        if is_local(self.input_):
            return self
        return replace(self, network=self.network.within(folder))

    def parts(self) -> Sequence[Part]:
        """One part a file, or for a list of addresses one for every fifty."""
        if self.input_:
            found = find_given(self.input_, "commoncrawl", self.network, ENDINGS)
            return [self._file(one.path, one.id, one.bytes) for one in found]
        client = self._client()
        crawl = load("llmctl.data.sources.crawls:crawl_named")(client, self.index, self.crawl)
        if self.urls:
            return list(_lists(crawl, self._addresses(self.urls)))
        files = load("llmctl.data.sources.crawls:archives")(
            client, self.mirror, crawl, self.format, self.segments
        )
        size = TYPICAL[self.format]
        return [self._file(url, url.removeprefix(f"{self.mirror}/"), size) for url in files]

    def read(self, part: Part) -> Iterator[Document | Rejected]:
        """The pages of a file; of a list, those that the crawl has."""
        extractor = load("llmctl.data.webpages.extraction:Extractor")(self.extract)
        if part.spec[0] == "pages":
            _, crawl, urls = part.spec
            yield from self._pages(crawl, urls, extractor)
            return
        place = part.spec[1]
        path = on_disk(place, self.network, named=self._named())
        try:
            yield from load("llmctl.data.webpages.warc:read_archive")(path, part.label, extractor)
        finally:
            if is_remote(place) and self.network.is_passing:
                path.unlink(missing_ok=True)

    def _pages(
        self, crawl: str, urls: Sequence[str], extractor: Any
    ) -> Iterator[Document | Rejected]:
        client = self._client(pause=1.0)
        for url in urls:
            found = load("llmctl.data.sources.crawls:look_up")(client, self.index, crawl, url)
            if found is None:
                yield Rejected(where=url, reason="not in the crawl", detail=crawl)
                continue
            record = load("llmctl.data.sources.crawls:fetch_record")(client, self.mirror, found)
            yield from load("llmctl.data.webpages.warc:read_record")(record, url, extractor)

    def _file(self, place: str, label: str, size: int) -> Part:
        kind = "wet" if ".wet" in place else "warc"
        seconds = size / READ_RATE[kind] + (size / FETCH_RATE if is_remote(place) else 0)
        return Part(label=label, bytes=size, spec=("file", place), seconds=seconds)

    def _addresses(self, path: Path) -> list[str]:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"cannot read the addresses in {path}: {error}") from error
        urls = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
        if not urls:
            raise DataError(f"there is no address in {path}", hint="one address a line")
        return urls

    def _client(self, pause: float = 0.0) -> Any:
        return self.network.client(named=self._named(), pause=pause)

    def _named(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.mirror, self.index, self.input_)))


def _lists(crawl: str, urls: Sequence[str]) -> Iterator[Part]:
    for start in range(0, len(urls), PAGES_A_PART):
        some = tuple(urls[start : start + PAGES_A_PART])
        yield Part(
            label=f"{crawl}/pages@{start}",
            bytes=len(some) * BYTES_A_PAGE,
            spec=("pages", crawl, some),
            seconds=len(some) * SECONDS_A_PAGE,
        )
