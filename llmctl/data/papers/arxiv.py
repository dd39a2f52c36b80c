"""Papers of arXiv: their metadata of a day and their sources, or packages on disk -> documents.

arXiv holds few papers under a licence that lets others pass them on. Those alone are taken, unless
somebody says otherwise: what the metadata says decides, and a paper of which it says nothing goes.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from llmctl.data.document import Document, Rejected
from llmctl.data.fetching.client import Client, Missing
from llmctl.data.formats.compression import Budget, unpack
from llmctl.data.formats.latex import passage_of
from llmctl.data.formats.mending import mend
from llmctl.data.formats.opening import contained, open_items
from llmctl.data.formats.passage import BLOCK, Item, Stream
from llmctl.data.papers.oai import records
from llmctl.data.papers.packages import source_of
from llmctl.errors import DataError

PAGE = "https://arxiv.org/abs/"
# CC BY, CC BY-SA, CC0 and the public domain; not those that bar from selling or changing.
OPEN = re.compile(r"creativecommons\.org/(?:licenses/by(?:-sa)?/|publicdomain/)", re.I)
# 2401.01234v2, or until 2007 hep-th9901001: what files of the bulk archives are called.
NUMBER = re.compile(
    r"(\d{4}\.\d{4,5}|[a-z-]+(?:\.[A-Z]{2})?_?\d{7})(?:v\d+)?(?:\.(?:gz|pdf|tar|tex))*"
)


class Record(NamedTuple):
    """What arXiv says of a paper."""

    id: str
    licence: str = ""
    title: str = ""
    authors: str = ""
    categories: str = ""
    doi: str = ""
    time: str = ""


class Wanted(NamedTuple):
    """Which papers to take: `open` licences or `any`, and the subjects, none for all."""

    licence: str = "open"
    categories: tuple[str, ...] = ()

    def refusal(self, record: Record) -> tuple[str, str] | None:
        """Why a paper is not taken, as a reason and details; None where it is."""
        if self.categories and not any(map(self._covers, record.categories.split())):
            return "other subject", record.categories
        if self.licence == "open" and not OPEN.search(record.licence):
            return ("licence not open", record.licence) if record.licence else ("no licence", "")
        return None

    def _covers(self, category: str) -> bool:
        """Whether `cs.CL`, or the `cs` that it belongs to, is wanted."""
        return category in self.categories or category.partition(".")[0] in self.categories


def harvest(
    client: Client, endpoint: str, day: str, wanted: Wanted, fetch: Callable[[str], Path]
) -> Iterator[Document | Rejected]:
    """The papers that were added or changed on a day, those that are wanted, from their sources.

    `fetch` brings the source of a paper by its number, or raises Missing.
    """
    for found in records(client, endpoint, day, metadataPrefix="arXiv"):
        record = _record(found)
        if record is None:
            label = found.findtext("{*}header/{*}identifier", "?")
            yield Rejected(where=label, reason="withdrawn", detail="without metadata")
            continue
        refusal = wanted.refusal(record)
        if refusal:
            yield Rejected(where=f"papers/{record.id}", reason=refusal[0], detail=refusal[1])
            continue
        try:
            path = fetch(record.id)
        except Missing as error:
            yield Rejected(where=f"papers/{record.id}", reason="no source", detail=error.message)
            continue
        for item in _package(path, f"papers/{record.id}"):
            yield from _papers(item, record)


def read_packages(
    path: Path, label: str, wanted: Wanted, metadata: Path | None
) -> Iterator[Document | Rejected]:
    """The papers of a file: one package, or a tar of many as the bulk archives are."""
    known = _metadata(metadata) if metadata else {}
    for item in contained(_packages(path, label), label, 0):
        if isinstance(item, Rejected):
            yield item
            continue
        number = _number(item.name)
        record = known.get(number) or Record(number)
        refusal = wanted.refusal(record)
        if refusal:
            yield Rejected(where=item.name, reason=refusal[0], detail=refusal[1])
        else:
            yield from _papers(item, record)


def _packages(path: Path, label: str) -> Iterator[Item | Rejected]:
    """The members of a bulk archive, or the file as one package."""
    is_bulk = path.name.startswith("arXiv_src_")
    yield from open_items(path, label) if is_bulk else _package(path, label)


def _package(path: Path, label: str) -> Iterator[Item]:
    size = path.stat().st_size
    with path.open("rb") as file:
        blocks = iter(lambda: file.read(BLOCK), b"")
        yield Item(name=label, stream=Stream(unpack(blocks, Budget(size))), url="", bytes=size)


def _papers(item: Item, record: Record) -> Iterator[Document | Rejected]:
    yield from contained(_paper(item, record), item.name, item.bytes)


def _paper(item: Item, record: Record) -> Iterator[Document]:
    source = source_of(item)
    if not source.latex.strip() and item.stream.damage is not None:
        raise item.stream.damage
    passage, left_out = passage_of(source.latex, source.bibliography)
    text, _ = mend(passage.text)
    facts = {
        **passage.facts,
        **{f"left out {what}": str(times) for what, times in sorted(left_out.items())},
        **{
            name: value
            for name in ("title", "authors", "categories", "doi")
            if (value := getattr(record, name))
        },
    }
    yield Document(
        id=f"papers/{record.id}" if record.id else item.name,
        text=text,
        source="papers",
        url=f"{PAGE}{record.id}" if record.id else "",
        licence=record.licence,
        time=record.time,
        meta=facts,
    )


def _record(found: Any) -> Record | None:
    """The metadata of a record; None for one that was taken back."""
    stated = found.find("{*}metadata/{*}arXiv")
    if stated is None:
        return None

    def said(name: str) -> str:
        return " ".join((stated.findtext(f"{{*}}{name}") or "").split())

    names = [
        " ".join(filter(None, (one.findtext("{*}forenames"), one.findtext("{*}keyname"))))
        for one in stated.iter("{*}author")
    ]
    return Record(
        id=said("id"),
        licence=said("license"),
        title=said("title"),
        authors="; ".join(names[:20]),
        categories=said("categories"),
        doi=said("doi"),
        time=said("updated") or said("created"),
    )


def _number(name: str) -> str:
    """The number of a paper from the name of its file, as `hep-th/9901001`; else nothing."""
    found = NUMBER.fullmatch(name.rpartition("/")[2])
    if found is None:
        return ""
    old = re.fullmatch(r"([a-z-]+(?:\.[A-Z]{2})?)_?(\d{7})", found[1])
    return f"{old[1]}/{old[2]}" if old else found[1]


@lru_cache(maxsize=1)
def _metadata(path: Path) -> Mapping[str, Record]:
    """What a file says of papers by their numbers: JSON lines, as arXiv's on Kaggle.

    All that a paper's own source says better is left there: two million rows must fit.
    """
    known: dict[str, Record] = {}
    try:
        with path.open("rb") as file:
            for line in filter(None, map(bytes.strip, file)):
                row = json.loads(line)
                number = str(row["id"])
                known[number] = Record(
                    number,
                    licence=str(row.get("license") or ""),
                    categories=str(row.get("categories") or ""),
                    doi=str(row.get("doi") or ""),
                    time=str(row.get("update_date") or ""),
                )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is no metadata of arXiv: {error}",
            hint="JSON lines with `id` and `license`, as arxiv-metadata-oai-snapshot.json has",
        ) from error
    return known
