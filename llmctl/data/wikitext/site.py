"""What a wiki says of itself in its dumps: its language, its address, its names of namespaces.

`File:` is `Fails:` in Latgalian and `파일:` in Korean: nothing is known of a wiki but what the
dump says, and the canonical English names, which work everywhere.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from urllib.parse import quote, urlsplit

FILES, CATEGORIES, MEDIA, SPECIAL = "6", "14", "-2", "-1"
CANONICAL = {FILES: ("file", "image"), CATEGORIES: ("category",), MEDIA: ("media",)}
# Links to the same article elsewhere stand in no text: `[[lv:Reiga]]`, `[[zh-min-nan:Riga]]`.
LANGUAGE = re.compile(r"[a-z]{2,3}(?:-[a-z]{2,})*|simple")


@dataclass(frozen=True)
class Site:
    """A wiki: `base` is the address of its main page, `namespaces` its names by number."""

    database: str = ""
    base: str = ""
    namespaces: Mapping[str, str] = field(default_factory=dict[str, str])

    @cached_property
    def language(self) -> str:
        """The code of its language, as in its address; empty where the dump does not say."""
        host = urlsplit(self.base).hostname or ""
        return host.partition(".")[0] if host.count(".") > 1 else ""

    @cached_property
    def unshown(self) -> frozenset[str]:
        """The names of namespaces, in lower case, whose links show no text: files, categories."""
        own = (self.namespaces.get(key, "") for key in (FILES, CATEGORIES, MEDIA))
        canonical = (name for names in CANONICAL.values() for name in names)
        return frozenset(filter(None, (*map(str.lower, own), *canonical)))

    @cached_property
    def spaces(self) -> frozenset[str]:
        """The names of all namespaces, in lower case."""
        return frozenset(map(str.lower, self.namespaces.values())) | self.unshown

    @cached_property
    def opening_of_files(self) -> re.Pattern[str]:
        """What a link to a file or a category begins with."""
        names = "|".join(sorted(map(re.escape, self.unshown), key=len, reverse=True))
        return re.compile(rf"\[\[\s*(?:{names})\s*:", re.IGNORECASE)

    def url(self, title: str) -> str:
        """The address of an article."""
        head = self.base.rpartition("/")[0]
        return f"{head}/{quote(title.replace(' ', '_'), safe=':/()!,')}" if head else ""
