"""Articles of PubMed Central of a day, or one of a file -> documents."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llmctl.data.document import Document, Rejected
from llmctl.data.fetching.client import Client
from llmctl.data.formats.jats import passage_of
from llmctl.data.formats.mending import mend
from llmctl.data.formats.passage import Unreadable
from llmctl.data.papers.oai import parsed, records
from llmctl.errors import RemoteError

OPEN = "pmc-open"
UNKNOWN = "unknown (open access; see the article)"


def harvest(client: Client, endpoint: str, day: str) -> Iterator[Document | Rejected]:
    """The open access articles that were added or changed on a day."""
    for record in records(client, endpoint, day, metadataPrefix="pmc", set=OPEN):
        yield _record(record)


def read_article(path: Path, label: str) -> Iterator[Document | Rejected]:
    """The article in a file of JATS XML."""
    try:
        yield from _article(parsed(path.read_bytes(), str(path)), label, path.as_posix())
    except RemoteError as error:
        yield Rejected(where=label, reason="damaged XML", detail=error.message)


def _record(record: Any) -> Document | Rejected:
    label = record.findtext("{*}header/{*}identifier", "?")
    article = record.find("{*}metadata/{*}article")
    if article is None:
        return Rejected(where=label, reason="no article", detail="deleted or without text")
    number = label.rpartition(":")[2]
    return next(
        _article(
            article, f"papers/PMC{number}", f"https://pmc.ncbi.nlm.nih.gov/articles/PMC{number}/"
        )
    )


def _article(root: Any, label: str, url: str) -> Iterator[Document | Rejected]:
    try:
        passage, left_out = passage_of(root)
    except Unreadable as error:
        yield Rejected(where=label, reason=error.reason, detail=error.detail)
        return
    facts = dict(passage.facts)
    text, _ = mend(passage.text)
    facts |= {f"left out {what}": str(times) for what, times in left_out.items()}
    yield Document(
        id=label,
        text=text,
        source="papers",
        url=facts.pop("url", url),
        licence=facts.pop("licence", UNKNOWN),
        time=facts.pop("time", ""),
        meta=facts,
    )
