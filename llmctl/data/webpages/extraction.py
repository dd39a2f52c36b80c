"""A page of the web -> its main text: without menus, teasers, captions and comments.

Two ways: `quality` by trafilatura (extra `web`), `fast` by resiliparse. trafilatura is not safe
in threads: each process extracts by itself.
"""

import re
from collections.abc import Callable, Mapping
from html import unescape
from typing import Any, NamedTuple

from resiliparse.extract.html2text import extract_plain_text  # pyright: ignore[reportMissingModuleSource]
from resiliparse.parse.encoding import bytes_to_str, detect_encoding  # pyright: ignore[reportMissingModuleSource]

from llmctl.data.formats.passage import Unreadable
from llmctl.errors import DependencyError
from llmctl.registry import load

# Found by trial on the article extraction benchmark: what no article is made of.
UNREAD = ("header", "footer", "[class*=caption]", "[class*=newsletter]", "[class*=share]")
TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
LONGEST_TITLE = 300
UNSAID = "utf-8"
RULE = re.compile(r"[|:\s-]*\|[|:\s-]*")
BLANK_LINES = re.compile(r"\n\s*\n+")
# Its caches grow by a megabyte a page (its issue 216).
PAGES_PER_CACHE = 500
EXTRA = "pip install 'llmctl[web]', or take `--extract fast`"


class Extract(NamedTuple):
    """The main text of a page and its title."""

    text: str
    title: str


class Extractor:
    """Extracts the main text of pages in one of two `WAYS`."""

    def __init__(self, way: str) -> None:
        self._way = way
        self._main_text: Callable[[str], str] | None = None

    def extract(self, content: bytes, charset: str = "") -> Extract:
        """The main text of a page, empty where there is none.

        Raises Unreadable for what is no page, DependencyError where the extra is missing.
        """
        if self._main_text is None:  # archives of text need no extra
            self._main_text = WAYS[self._way]()
        html = decoded(content, charset)
        return Extract(_paragraphs(self._main_text(html)), _title(html))


def decoded(content: bytes, charset: str = "") -> str:
    """The text of a page: as the server or the page says, else as its bytes look."""
    encoding = charset or detect_encoding(content, from_html_meta=True) or UNSAID
    try:
        return bytes_to_str(content, encoding, errors="replace")
    except LookupError:
        return bytes_to_str(content, detect_encoding(content) or UNSAID, errors="replace")


def _quality() -> Callable[[str], str]:
    try:
        extract = load("trafilatura:extract")
        reset = load("trafilatura.meta:reset_caches")
    except ImportError as error:
        raise DependencyError("trafilatura is not installed", hint=EXTRA) from error
    pages = 0

    def main_text(html: str) -> str:
        nonlocal pages
        pages += 1
        if pages % PAGES_PER_CACHE == 0:
            reset()
        try:
            return extract(html, favor_precision=True, include_comments=False) or ""
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise Unreadable("not extracted", f"{type(error).__name__}: {error}") from error

    return main_text


def _fast() -> Callable[[str], str]:
    options: Mapping[str, Any] = {
        "main_content": True,
        "preserve_formatting": True,
        "list_bullets": False,
        "alt_texts": False,
        "comments": False,
        "post_meta": False,
        "skip_elements": list(UNREAD),
    }

    def main_text(html: str) -> str:
        try:
            return extract_plain_text(html, **options)
        except (ValueError, RuntimeError) as error:
            raise Unreadable("not extracted", str(error)) from error

    return main_text


def _title(html: str) -> str:
    found = TITLE.search(html)
    return " ".join(unescape(found[1]).split())[:LONGEST_TITLE] if found else ""


def _paragraphs(text: str) -> str:
    """Lines without space around them and rows of tables without rules, one empty line at most."""
    stripped = (" ".join(line.split()) for line in text.split("\n"))
    rows = (_row(line) for line in stripped if not RULE.fullmatch(line))
    return BLANK_LINES.sub("\n\n", "\n".join(rows)).strip()


def _row(line: str) -> str:
    """The cells of a row with tabs between them; any other line as it is."""
    if not (line.startswith("|") and line.endswith("|") and len(line) > 1):
        return line
    return "\t".join(filter(None, map(str.strip, line.strip("|").split("|"))))


WAYS: Mapping[str, Callable[[], Callable[[str], str]]] = {"quality": _quality, "fast": _fast}
