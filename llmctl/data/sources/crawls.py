"""What Common Crawl offers: its crawls, the files of one, and where a page lies in it."""

import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from llmctl.data.fetching.client import Again, Answer, Client, Missing, received
from llmctl.data.formats.compression import Budget, unpack_bytes
from llmctl.data.formats.passage import Unreadable
from llmctl.errors import DataError, RemoteError
from llmctl.registry import suggest

CRAWL = re.compile(r"CC-MAIN-\d{4}-\d{2}")
MOST_OF_LIST = 64 * 2**20
MOST_RATIO = 100


@dataclass(frozen=True, slots=True)
class Place:
    """A record in an archive: its file, where it begins there and how long it is, in bytes."""

    file: str
    offset: int
    length: int


def crawl_named(client: Client, index: str, name: str) -> str:
    """The crawl of that name, `latest` for the newest; DataError where there is none."""
    if CRAWL.fullmatch(name):
        return name
    try:
        rows: list[dict[str, Any]] = json.loads(client.get(f"{index}/collinfo.json").content)
        known = sorted(row["id"] for row in rows if CRAWL.fullmatch(row["id"]))
    except (ValueError, KeyError, TypeError) as error:
        raise RemoteError(f"{index}/collinfo.json is no list of crawls: {error}") from error
    if name != "latest" or not known:
        raise DataError(f"there is no crawl `{name}`", hint=suggest(name, known[-5:]))
    return known[-1]


def archives(client: Client, mirror: str, crawl: str, form: str, count: int) -> list[str]:
    """The addresses of `count` files of a crawl, taken evenly from all of it."""
    try:
        packed = client.get(f"{mirror}/crawl-data/{crawl}/{form}.paths.gz").content
    except Missing as error:
        raise DataError(
            f"Common Crawl has no crawl `{crawl}`",
            hint="the names are at https://index.commoncrawl.org; `latest` is the newest",
        ) from error
    try:
        budget = Budget(len(packed), ratio=MOST_RATIO, free=MOST_OF_LIST)
        paths = unpack_bytes(packed, budget).decode("ascii").split()
    except (Unreadable, UnicodeDecodeError) as error:
        raise RemoteError(f"the list of files of {crawl} is damaged: {error}") from error
    count = min(count, len(paths))
    return [f"{mirror}/{paths[number * len(paths) // count]}" for number in range(count)]


def look_up(client: Client, index: str, crawl: str, url: str) -> Place | None:
    """Where the latest copy of a page lies in a crawl; None where it has none."""
    asked = f"{index}/{crawl}-index?url={quote(url, safe='')}&output=json&filter=status:200"
    try:
        lines = client.get(asked, most=MOST_OF_LIST).content.splitlines()
    except Missing:
        return None
    try:
        rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
        places = [
            (row.get("timestamp", ""), row["filename"], int(row["offset"]), int(row["length"]))
            for row in rows
        ]
    except (ValueError, KeyError, TypeError):
        return None
    return Place(*max(places)[1:]) if places else None


def fetch_record(client: Client, mirror: str, place: Place) -> bytes:
    """The bytes of a record, a gzip member of its own."""
    span = {"Range": f"bytes={place.offset}-{place.offset + place.length - 1}"}
    url = f"{mirror}/{place.file}"

    def once() -> Answer:
        with client.open(url, headers=span | {"Accept-Encoding": "identity"}) as response:
            if response.status_code != 206:
                raise RemoteError(f"{url} cannot be read in ranges")
            content = b"".join(received(response, most=place.length, seconds=120))
            if len(content) < place.length:
                raise Again("the range was cut short")
            return Answer(url, {}, content)

    return client.patiently(url, once).content
