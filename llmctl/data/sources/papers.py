"""Research papers -> one document a paper: open access articles of PubMed Central, and your own.

Articles are harvested by OAI-PMH as PubMed Central asks of robots: a day a part, one request at a
time, three a second at most. Since August 2026 there are no bulk packages.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Self

from llmctl.config import knob
from llmctl.data.document import Document, Part, Rejected
from llmctl.data.fetching.network import Network
from llmctl.data.sources.files import Files
from llmctl.data.sources.given import find_given, is_local, is_remote, on_disk
from llmctl.errors import ConfigError
from llmctl.registry import load

ENDINGS = (".pdf", ".nxml", ".xml", ".tar.gz", ".tgz", ".tar", ".zip", ".docx", ".epub")
# What a day brings on average, and how long its pages take to come.
ARTICLES_A_DAY, BYTES_AN_ARTICLE, SECONDS_A_DAY = 2000, 120_000, 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Papers:
    """Fetch open access articles of PubMed Central, or read papers that you have.

    >>> Papers(since="2026-11-01", until="2026-11-02").default_name()
    'papers'
    """

    since: str = knob("yesterday", help="The first day of articles, as 2026-11-01", panel="Input")
    until: str = knob("yesterday", help="The last day", panel="Input")
    input_: str | None = knob(
        None, help="Papers that you have (PDF, JATS XML, archives): FILE, DIR or URL",
        panel="Input", metavar="PLACE",
    )  # fmt: skip
    endpoint: str = knob(
        "https://pmc.ncbi.nlm.nih.gov/api/oai/v1/mh/", help="Where articles are harvested",
        panel="Input", rare=True,
    )  # fmt: skip
    network: Network = knob(factory=Network, help="How to reach out")

    def __post_init__(self) -> None:
        """Refuse days that are none."""
        for stated in (self.since, self.until):
            if stated != "yesterday":
                _day(stated)

    def default_name(self) -> str:
        """The corpus is called `papers`."""
        return "papers"

    def fetching_into(self, folder: Path) -> Self:
        """Put downloads there, unless the user said where or there are none."""
        if is_local(self.input_):
            return self
        return replace(self, network=self.network.within(folder))

    def parts(self) -> Sequence[Part]:
        """One part a file, or a day."""
        if self.input_:
            found = find_given(self.input_, "papers", self.network, ENDINGS)
            return [Part(label=one.id, bytes=one.bytes, spec=("file", one.path)) for one in found]
        first, last = _day(self.since), _day(self.until)
        if first > last:
            raise ConfigError(
                f"{first} is behind {last}", hint="`--since` is the first day, `--until` the last"
            )
        days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
        return [
            Part(
                label=f"papers/{day}",
                bytes=ARTICLES_A_DAY * BYTES_AN_ARTICLE,
                spec=("day", day.isoformat()),
                seconds=SECONDS_A_DAY,
            )
            for day in days
        ]

    def read(self, part: Part) -> Iterator[Document | Rejected]:
        """The articles of a file or a day."""
        kind, what = part.spec
        if kind == "day":
            client = self.network.client(named=(self.endpoint,), pause=0.34, connections=1)
            yield from load("llmctl.data.papers.harvesting:harvest")(client, self.endpoint, what)
            return
        path = on_disk(what, self.network, named=(what,))
        if path.suffix == ".xml":
            yield from load("llmctl.data.papers.harvesting:read_article")(path, part.label)
            return
        files = Files(paths=(str(path),))
        url = what if is_remote(what) else ""
        for one in files.read(replace(part, spec=(str(path), part.label))):
            if isinstance(one, Document):
                yield replace(one, source="papers", url=url or one.url)
            else:
                yield one


def _day(stated: str) -> date:
    if stated == "yesterday":
        return date.today() - timedelta(days=1)
    try:
        return date.fromisoformat(stated)
    except ValueError as error:
        raise ConfigError(f"`{stated}` is no day", hint="for example 2026-11-01") from error
