"""Wikipedia -> one document an article: plain text in which no number and no foreign word is lost.

A dump is fetched file by file, checked, and read in parts, each by the process that is free.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

from llmctl.config import knob
from llmctl.data.document import Document, Part, Rejected
from llmctl.data.fetching.network import Network
from llmctl.data.sources.given import find_given, is_local, is_remote, on_disk
from llmctl.errors import ConfigError
from llmctl.registry import load

ENDINGS = (".xml", ".bz2", ".xml.gz", ".xml.zst", ".xml.xz", ".json", ".ndjson", ".tar.gz")
SPAN = 8 * 2**20  # packed bytes of a part: about 20 MB of text, for half a minute of one core
# Packed bytes that one core reads in a second: 5 M characters of wikitext, packed to a quarter.
READ_RATE = 1.1e6
FETCH_RATE = 10e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Wikipedia:
    """Fetch a Wikipedia and read its articles as plain text.

    >>> Wikipedia(lang="simple").default_name()
    'wikipedia-simple'
    """

    lang: str = knob("en", help="The language, as in en.wikipedia.org", panel="Input")
    date: str = knob("latest", help="The day of the dump, as 2026-11-01", panel="Input")
    form: Literal["auto", "content", "multistream"] = knob(
        "auto", help="Content file exports or classic multistream dumps", panel="Input", rare=True
    )
    input_: str | None = knob(
        None, help="A dump that you have: FILE, DIR or URL", panel="Input", metavar="PLACE"
    )
    format: Literal["auto", "xml", "enterprise"] = knob(
        "auto", help="What the input is: XML, or an Enterprise snapshot (NDJSON)", panel="Input"
    )
    mirror: str = knob(
        "https://dumps.wikimedia.org", help="Where dumps are fetched from", panel="Input", rare=True
    )
    network: Network = knob(factory=Network, help="How to reach out")

    def __post_init__(self) -> None:
        """Refuse a date that is none."""
        plain = self.date.replace("-", "")
        if self.date != "latest" and not (len(plain) == 8 and plain.isdecimal()):
            raise ConfigError(f"`{self.date}` is no date", hint="for example 2026-11-01, or latest")

    def default_name(self) -> str:
        """`wikipedia`, with the language where it is not English."""
        return "wikipedia" if self.lang == "en" or self.input_ else f"wikipedia-{self.lang}"

    def fetching_into(self, folder: Path) -> Self:
        """Put downloads there, unless the user said where or there are none."""
        if is_local(self.input_):
            return self
        return replace(self, network=self.network.within(folder))

    def parts(self) -> Sequence[Part]:
        """Spans of each file; a file that cannot be read in spans is one part."""
        if self.input_:
            found = find_given(self.input_, self.default_name(), self.network, ENDINGS)
            files = [(one.path, one.bytes, "", one.id) for one in found]
        else:
            client = self.network.client(named=(self.mirror,))
            wiki = load("llmctl.data.sources.wikimedia:wiki_name")(self.lang)
            offers = load("llmctl.data.sources.wikimedia:offers")(
                client, self.mirror.rstrip("/"), wiki, self.date, self.form
            )
            files = [
                (one.url, one.bytes, one.digest, f"{wiki}/{one.url.rpartition('/')[2]}")
                for one in offers
            ]
        return [part for file in files for part in _spans(*file)]

    def read(self, part: Part) -> Iterator[Document | Rejected]:
        """The articles of a span, with the redirects and other pages that are left out."""
        place, size, digest, start, end = part.spec
        named = tuple(filter(None, (self.mirror, self.input_)))
        path = on_disk(place, self.network, named=named, digest=digest, size=size)
        if self._is_snapshot(place):
            return load("llmctl.data.wikitext.articles:read_snapshot")(path, part.label)
        return load("llmctl.data.wikitext.articles:read_articles")(path, start, end, part.label)

    def _is_snapshot(self, place: str) -> bool:
        if self.format != "auto":
            return self.format == "enterprise"
        return place.lower().endswith((".json", ".ndjson", ".tar.gz", ".ndjson.gz"))


def _spans(place: str, size: int, digest: str, label: str) -> Iterator[Part]:
    """One part, or for bzip2 in several streams one for every `SPAN` bytes."""
    remote = is_remote(place)
    in_streams = place.endswith(".bz2") and (
        remote or load("llmctl.data.wikitext.dump:is_streams")(Path(place))
    )
    # Without an end, the last part reads on to wherever the file ends.
    starts = range(0, max(size, 1), SPAN) if in_streams else [0]
    for start in starts:
        end = start + SPAN if start + SPAN < size and in_streams else 0
        length = (end or size) - start
        yield Part(
            label=f"{label}@{start}" if len(starts) > 1 else label,
            bytes=length,
            spec=(place, size if remote else 0, digest, start, end),
            seconds=length / READ_RATE + (length / FETCH_RATE if remote else 0),
        )
