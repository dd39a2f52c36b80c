"""Submissions to Reddit -> the pages that people found worth reading, each once.

A link counts by the sum of its scores (WebText, Radford et al. 2019, section 2.1), and links to
one page are one however they are written. Pictures, films, Reddit itself and Wikipedia go.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from llmctl.data.document import Rejected
from llmctl.data.formats.compression import Budget, unpack
from llmctl.data.formats.passage import BLOCK, Unreadable

MOST_RATIO, FREE_BYTES = 200, 2**30
LONGEST_LINE, LONGEST_URL = 4 * 2**20, 2000
# Domains, with all below them, that hold no article.
PASSED_OVER = frozenset(
    "reddit.com redd.it redditmedia.com imgur.com youtube.com youtu.be vimeo.com flickr.com "
    "gfycat.com giphy.com instagram.com facebook.com twitter.com x.com t.co tiktok.com twitch.tv "
    "spotify.com soundcloud.com bandcamp.com liveleak.com streamable.com tinypic.com imageshack.us "
    "photobucket.com deviantart.com dailymotion.com qkme.me quickmeme.com wikipedia.org "
    "wikimedia.org bit.ly tinyurl.com goo.gl amazon.com ebay.com".split()
)
MEDIA = re.compile(
    r"\.(?:jpe?g|png|gifv?|webp|svg|bmp|mp[34]|m4a|webm|avi|mov|wmv|ogg|pdf|zip|gz|exe|swf|ppt)$",
    re.IGNORECASE,
)
TRACKING = re.compile(
    r"utm_\w+|fbclid|gclid|msclkid|mc_[ce]id|igshid|ref|ref_src|cmpid|ncid|partner|emc|feed(?:name|type)?",
    re.IGNORECASE,
)


@dataclass(slots=True)
class Links:
    """Addresses with the sum of their scores, and how many submissions were left out, by reason."""

    scores: Counter[str] = field(default_factory=Counter[str])
    urls: dict[str, str] = field(default_factory=dict[str, str])
    left_out: Counter[str] = field(default_factory=Counter[str])
    damage: list[Rejected] = field(default_factory=list[Rejected])

    def chosen(self, least: int) -> list[tuple[str, int]]:
        """The addresses of at least that score, by host and address, with it."""
        good = ((self.urls[key], score) for key, score in self.scores.items() if score >= least)
        return sorted(good, key=lambda one: (urlsplit(one[0]).netloc, one[0]))

    def add(self, line: bytes) -> None:
        """Count one submission."""
        try:
            row: dict[str, Any] = json.loads(line)
            url, score = unescape(str(row["url"])), int(row.get("score") or 0)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            self.left_out["no submission"] += 1
            return
        reason = "no link" if row.get("is_self") else refusal(url)
        if reason:
            self.left_out[reason] += 1
            return
        url = canonical(url)
        key = re.sub(r"^https?://(?:www\.|m\.)?", "", url).rstrip("/")
        self.scores[key] += score
        # Of the ways to write an address, one that does not depend on which came first.
        self.urls[key] = max(self.urls.get(key, ""), url)


def gather(files: list[Path]) -> Links:
    """The links of dumps: JSON lines, plain or packed (zst with windows of 2 GiB, xz, bz2, gz)."""
    links = Links()
    for path in files:
        try:
            for line in _lines(path):
                links.add(line)
        except Unreadable as damage:
            lost = Rejected(where=path.name, reason=damage.reason, detail=damage.detail)
            links.damage.append(lost)
    return links


def refusal(url: str) -> str:
    """Why a page behind an address is not wanted; empty where it is.

    >>> refusal("https://en.wikipedia.org/wiki/Riga"), refusal("https://example.org/riga")
    ('no article', '')
    """
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").lower()
        is_address = parts.scheme in ("http", "https") and "." in host and parts.port != 0
    except ValueError:
        is_address, host = False, ""
    if not is_address or len(url) > LONGEST_URL:
        return "no address"
    names = host.split(".")
    if any(".".join(names[at:]) in PASSED_OVER for at in range(len(names))):
        return "no article"
    return "media" if MEDIA.search(urlsplit(url).path) else ""


def canonical(url: str) -> str:
    """An address without what does not change the page: fragment, tracking, default port.

    >>> canonical("HTTP://Example.org:80/a?utm_source=x&b=1#top")
    'http://example.org/a?b=1'
    """
    parts = urlsplit(url.strip())
    host = (parts.hostname or "").lower()
    default = {"http": 80, "https": 443}.get(parts.scheme.lower())
    port = f":{parts.port}" if parts.port and parts.port != default else ""
    wanted = [
        pair
        for pair in parse_qsl(parts.query, keep_blank_values=True)
        if not TRACKING.fullmatch(pair[0])
    ]
    path = parts.path or "/"
    return urlunsplit((parts.scheme.lower(), f"{host}{port}", path, urlencode(wanted), ""))


def _lines(path: Path) -> Iterator[bytes]:
    rest = b""
    with path.open("rb") as file:
        budget = Budget(path.stat().st_size, ratio=MOST_RATIO, free=FREE_BYTES)
        for block in unpack(iter(lambda: file.read(BLOCK), b""), budget):
            *lines, rest = (rest + block).split(b"\n")
            yield from filter(None, lines)
            if len(rest) > LONGEST_LINE:
                raise Unreadable("line too long", f"over {LONGEST_LINE} bytes")
    if rest.strip():
        yield rest
