"""The pages of a dump -> documents: the articles of its main namespace, as text.

Redirects and pages of other namespaces are counted by what they are, in the wiki's own words.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mwparserfromhell.parser import ParserError

from llmctl.data.document import Document, Rejected
from llmctl.data.formats.archives import tar_items
from llmctl.data.formats.compression import Budget, unpack
from llmctl.data.formats.encoding import Decoded
from llmctl.data.formats.markup import visible_text
from llmctl.data.formats.mending import replace_surrogates
from llmctl.data.formats.passage import BLOCK, Item, Stream, Unreadable
from llmctl.data.formats.splitting import lines
from llmctl.data.wikitext.dump import FREE_BYTES, MOST_RATIO, Page, read_dump
from llmctl.data.wikitext.rendering import render
from llmctl.data.wikitext.site import Site

LICENCE = "CC-BY-SA-4.0"
ARTICLES = "0"
TAR_MARK = 257  # where the header of a tar says so


def read_articles(path: Path, start: int, end: int, label: str) -> Iterator[Document | Rejected]:
    """The articles between two bytes of a dump of XML."""
    site = Site()
    try:
        for found in read_dump(path, start, end):
            if isinstance(found, Site):
                site = found
            else:
                yield _article(found, site, label)
    except Unreadable as damage:
        yield Rejected(where=label, reason=damage.reason, detail=damage.detail)


def read_snapshot(path: Path, label: str) -> Iterator[Document | Rejected]:
    """The articles of a snapshot of Wikimedia Enterprise: JSON lines, in tar.gz or alone."""
    size = path.stat().st_size
    budget = Budget(size, ratio=MOST_RATIO, free=FREE_BYTES)
    with path.open("rb") as file:
        blocks = unpack(iter(lambda: file.read(BLOCK), b""), budget)
        whole = Item(name=label, stream=Stream(blocks), url=label, bytes=size)
        is_tar = whole.stream.head[TAR_MARK:].startswith(b"ustar")
        for item in tar_items(whole, budget) if is_tar else (whole,):
            if isinstance(item, Rejected):
                yield item
                continue
            for number, line in enumerate(lines(Decoded(item.stream, encoding="utf-8")), 1):
                yield _row(line, f"{item.name}:{number}")
            if damage := item.stream.damage:
                yield Rejected(where=item.name, reason=damage.reason, detail=damage.detail)


def _article(page: Page, site: Site, label: str) -> Document | Rejected:
    where = f"{label}: {page.title}"
    size = len(page.text)
    if page.namespace != ARTICLES:
        name = site.namespaces.get(page.namespace, page.namespace)
        return Rejected(where=where, reason="other namespace", detail=name, bytes=size)
    if page.redirect:
        return Rejected(where=where, reason="redirect", detail=page.redirect, bytes=size)
    if page.model != "wikitext":
        return Rejected(where=where, reason="no wikitext", detail=page.model, bytes=size)
    try:
        text = render(page.text, site)
    except (ParserError, RecursionError) as error:
        return Rejected(where=where, reason="unparsed", detail=str(error), bytes=size)
    if not text:
        return Rejected(where=where, reason="empty", bytes=size)
    facts = {"title": page.title, "page": page.id, "revision": page.revision}
    return Document(
        id=f"wikipedia/{site.language or site.database}/{page.id}",
        text=f"{page.title}\n\n{text}",
        source="wikipedia",
        url=site.url(page.title),
        licence=LICENCE,
        time=page.time,
        meta=facts | ({"language": site.language} if site.language else {}),
    )


def _row(line: str, where: str) -> Document | Rejected:
    try:
        row: dict[str, Any] = json.loads(line)
        title, body = str(row["name"]), row["article_body"]
        language = str(row.get("in_language", {}).get("identifier", ""))
        if str(row.get("namespace", {}).get("identifier", 0)) != ARTICLES:
            return Rejected(where=where, reason="other namespace", detail=title, bytes=len(line))
        text = _body(body, Site(base=str(row.get("url", ""))))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        detail = f"{type(error).__name__}: {error}"
        return Rejected(where=where, reason="bad snapshot row", detail=detail, bytes=len(line))
    except (ParserError, Unreadable) as error:
        return Rejected(where=where, reason="unparsed", detail=str(error), bytes=len(line))
    if not text:
        return Rejected(where=where, reason="empty", detail=title, bytes=len(line))
    return Document(
        id=f"wikipedia/{language}/{row.get('identifier', title)}",
        text=replace_surrogates(f"{title}\n\n{text}"),
        source="wikipedia",
        url=str(row.get("url", "")),
        licence=_licence(row),
        time=str(row.get("date_modified", "")),
        meta={"title": title, "language": language},
    )


def _body(body: dict[str, Any], site: Site) -> str:
    if body.get("wikitext"):
        return render(str(body["wikitext"]), site)
    return visible_text(str(body.get("html", "")))[0].strip()


def _licence(row: dict[str, Any]) -> str:
    stated = row.get("license")
    if isinstance(stated, list) and stated and isinstance(stated[0], dict):
        return str(stated[0].get("identifier") or stated[0].get("name") or LICENCE)
    return LICENCE
