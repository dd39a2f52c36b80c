"""Research papers -> one document a paper: PubMed Central, arXiv, and papers that you have.

Articles of PubMed Central are harvested by OAI-PMH as it asks of robots: a day a part, one request
at a time, three a second at most; since August 2026 it has no bulk packages. arXiv asks for one
request in three seconds: its metadata comes the same way, and after it the sources of the papers
that are open. Its bulk archives lie where the reader pays: fetch them yourself, and `--input` them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Literal, Self

from llmctl.config import knob
from llmctl.data.document import Document, Part, Rejected
from llmctl.data.fetching.network import Network
from llmctl.data.sources.files import Files
from llmctl.data.sources.given import find_given, is_local, is_remote, on_disk
from llmctl.errors import ConfigError
from llmctl.registry import load

ENDINGS = (".pdf", ".nxml", ".xml", ".tar.gz", ".tgz", ".tar", ".zip", ".docx", ".epub", ".tex")
PACKAGES = (".gz", ".tgz", ".tar", ".tex")
ENDPOINTS = {
    "pmc": "https://pmc.ncbi.nlm.nih.gov/api/oai/v1/mh/",
    "arxiv": "https://oaipmh.arxiv.org/oai",
}
SOURCES = "https://export.arxiv.org/src"
# Seconds between two requests to an archive, as it asks.
PAUSES = {"pmc": 0.34, "arxiv": 3.0}
# What a day brings on average, and how long it takes to come; of arXiv the open papers.
ARTICLES_A_DAY = {"pmc": 2000, "arxiv": 300}
BYTES_AN_ARTICLE = {"pmc": 120_000, "arxiv": 1_500_000}
SECONDS_A_DAY = {"pmc": 600.0, "arxiv": 1000.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Papers:
    """Fetch open papers of PubMed Central or arXiv, or read papers that you have.

    >>> Papers(archive="arxiv", since="2026-11-01", until="2026-11-02").default_name()
    'papers'
    """

    archive: Literal["pmc", "arxiv"] = knob(
        "pmc", help="pmc: articles of PubMed Central; arxiv: LaTeX of arXiv", panel="Input"
    )
    since: str = knob("yesterday", help="The first day of papers, as 2026-11-01", panel="Input")
    until: str = knob("yesterday", help="The last day", panel="Input")
    subjects: tuple[str, ...] = knob(
        (), help="Only these categories of arXiv, as cs or math.AG", panel="Input",
        metavar="CATEGORY",
    )  # fmt: skip
    licence: Literal["open", "any"] = knob(
        "open", help="Of arXiv take papers under CC BY, CC BY-SA and CC0, or all", panel="Input"
    )
    input_: str | None = knob(
        None, help="Papers that you have (PDF, JATS, LaTeX, archives): FILE, DIR or URL",
        panel="Input", metavar="PLACE",
    )  # fmt: skip
    metadata: Path | None = knob(
        None, help="Licences of the arXiv papers of --input: JSON lines, as on Kaggle",
        panel="Input", metavar="FILE",
    )  # fmt: skip
    endpoint: str | None = knob(
        None, help="Where the archive is harvested; where it asks for it by default",
        panel="Input", rare=True,
    )  # fmt: skip
    sources: str = knob(
        SOURCES, help="Where sources of arXiv are fetched", panel="Input", rare=True
    )
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
            return self._given(self.input_)
        first, last = _day(self.since), _day(self.until)
        if first > last:
            raise ConfigError(
                f"{first} is behind {last}", hint="`--since` is the first day, `--until` the last"
            )
        days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
        return [
            Part(
                label=f"papers/{day}",
                bytes=ARTICLES_A_DAY[self.archive] * BYTES_AN_ARTICLE[self.archive],
                spec=("day", day.isoformat()),
                seconds=SECONDS_A_DAY[self.archive],
            )
            for day in days
        ]

    def read(self, part: Part) -> Iterator[Document | Rejected]:
        """The papers of a file or a day."""
        kind, what = part.spec
        if kind == "day":
            yield from self._harvest(what)
            return
        path = on_disk(what, self.network, named=(what,))
        if self.archive == "arxiv":
            yield from load("llmctl.data.papers.arxiv:read_packages")(
                path, part.label, self._wanted(), self.metadata
            )
            return
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

    def _given(self, place: str) -> list[Part]:
        is_arxiv = self.archive == "arxiv"
        if is_arxiv and self.licence == "open" and self.metadata is None:
            raise ConfigError(
                "nothing says under which licence these papers are",
                hint="`--metadata FILE` with arXiv's metadata, or `--licence any` to take all",
            )
        endings = PACKAGES if is_arxiv else ENDINGS
        found = find_given(place, "papers", self.network, endings)
        return [Part(label=one.id, bytes=one.bytes, spec=("file", one.path)) for one in found]

    def _harvest(self, day: str) -> Iterator[Document | Rejected]:
        endpoint = self.endpoint or ENDPOINTS[self.archive]
        client = self.network.client(
            named=(endpoint, self.sources), pause=PAUSES[self.archive], connections=1
        )
        if self.archive == "pmc":
            yield from load("llmctl.data.papers.harvesting:harvest")(client, endpoint, day)
            return

        def fetch(number: str) -> Path:
            return on_disk(f"{self.sources.rstrip('/')}/{number}", self.network, client=client)

        yield from load("llmctl.data.papers.arxiv:harvest")(
            client, endpoint, day, self._wanted(), fetch
        )

    def _wanted(self) -> Any:
        return load("llmctl.data.papers.arxiv:Wanted")(self.licence, self.subjects)


def _day(stated: str) -> date:
    if stated == "yesterday":
        return date.today() - timedelta(days=1)
    try:
        return date.fromisoformat(stated)
    except ValueError as error:
        raise ConfigError(f"`{stated}` is no day", hint="for example 2026-11-01") from error
