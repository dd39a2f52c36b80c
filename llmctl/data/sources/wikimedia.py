"""What Wikimedia offers of a wiki: the files of its latest dump, with sizes and digests.

Two forms: content file exports (monthly, since 2026 the ones to use), whole as soon as their
SHA256SUMS stands beside them, and the classic multistream dumps with their dumpstatus.json.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from llmctl.data.fetching.client import Client, Missing
from llmctl.errors import DataError

DATE = re.compile(r'href="(\d{4}-?\d{2}-?\d{2})/?"')
SUM = re.compile(r"([0-9a-f]{64})\s+\*?(\S+\.xml\.bz2)")
JOBS = ("articlesmultistreamdump", "articlesdump")


@dataclass(frozen=True, slots=True)
class Offer:
    """A file to be had: its address, its bytes (0: not said) and its digest."""

    url: str
    bytes: int
    digest: str


def wiki_name(language: str) -> str:
    """The name of a wiki's database: `ltg` is `ltgwiki`, `zh-min-nan` is `zh_min_nanwiki`."""
    return f"{language.replace('-', '_')}wiki"


def offers(client: Client, mirror: str, wiki: str, date: str, form: str) -> list[Offer]:
    """The files of the dump of a date, or of the latest whole one, in the order of their pages.

    `form` is `content`, `multistream` or `auto`, the first of both that has it. Raises DataError
    where there is none, RemoteError where nobody answers.
    """
    ways = {"content": _content, "multistream": _multistream}
    for way in ways.values() if form == "auto" else (ways[form],):
        found = next((found for found in way(client, mirror, wiki, date) if found), None)
        if found:
            return found
    raise DataError(
        f"{mirror} has no dump of {wiki}" + (f" of {date}" if date != "latest" else ""),
        hint="look at `--lang` (a code as in en.wikipedia.org) and `--date` (2026-11-01, latest)",
    )


def _content(client: Client, mirror: str, wiki: str, date: str) -> Iterator[list[Offer]]:
    root = f"{mirror}/other/mediawiki_content_current/{wiki}"
    for day in _days(client, root, date, dashed=True):
        folder = f"{root}/{day}/xml/bzip2"
        sums = _text(client, f"{folder}/SHA256SUMS")
        named = {name: digest for digest, name in SUM.findall(sums)}
        yield [
            Offer(f"{folder}/{name}", client.length(f"{folder}/{name}"), f"sha256:{named[name]}")
            for name in sorted(named, key=_first_page)
        ]


def _multistream(client: Client, mirror: str, wiki: str, date: str) -> Iterator[list[Offer]]:
    root = f"{mirror}/{wiki}"
    for day in _days(client, root, date, dashed=False):
        status = _text(client, f"{root}/{day}/dumpstatus.json")
        for job in JOBS:
            yield list(_job(status, job, mirror))


def _job(status: str, job: str, mirror: str) -> Iterator[Offer]:
    try:
        jobs: dict[str, Any] = json.loads(status)["jobs"] if status else {}
        stated: dict[str, Any] = jobs.get(job, {})
        files: dict[str, Any] = stated.get("files", {}) if stated.get("status") == "done" else {}
    except (ValueError, KeyError, TypeError, AttributeError):
        return
    for name in sorted(files, key=_first_page):
        about = files[name]
        if name.endswith(".xml.bz2") or re.search(r"\.xml-p\d+p\d+\.bz2$", name):
            digest = f"sha1:{about['sha1']}" if about.get("sha1") else ""
            yield Offer(f"{mirror}{about['url']}", int(about.get("size", 0)), digest)


def _days(client: Client, root: str, date: str, *, dashed: bool) -> list[str]:
    """The days to try: the one that is asked for, or all there are, the latest first."""
    if date != "latest":
        plain = date.replace("-", "")
        return [f"{plain[:4]}-{plain[4:6]}-{plain[6:]}" if dashed else plain]
    return sorted(DATE.findall(_text(client, f"{root}/")), reverse=True)


def _text(client: Client, url: str) -> str:
    try:
        return client.get(url).content.decode("utf-8", "replace")
    except Missing:
        return ""


def _first_page(name: str) -> tuple[int, str]:
    found = re.search(r"p(\d+)p\d+", name)
    return (int(found[1]) if found else 0, name)
