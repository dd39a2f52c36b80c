"""PDF -> text, page by page, by PDFium (extra `docs`): lines joined to paragraphs.

Words cut at the end of a line are joined again. A scan without text is told as one.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from llmctl.data.document import Rejected
from llmctl.data.formats.passage import Item, Options, Passage, Unreadable, remark
from llmctl.data.formats.times import iso_time
from llmctl.errors import DependencyError
from llmctl.registry import load

LIBRARY = "pypdfium2:PdfDocument"
EXTRA = "pip install 'llmctl[docs]'"
MOST_PAGES = 20_000
# Lines that stand at the head or foot of so many pages are no text of them.
LEAST_REPEATS, LEAST_SHARE = 3, 0.5
EDGE_LINES = 2
PAGE_NUMBER = re.compile(r"\W*(?:page|seite|p\.)?\s*\d{1,4}(?:\s*(?:of|von|/)\s*\d{1,4})?\W*", re.I)
# PDFium writes the hyphen at the end of a line as one of these, and leaves the line's end out.
HYPHEN = re.compile(r"[\u0002\ufffe\u00ad]\n?")
CUT_WORD = re.compile(r"(?<=[^\W\d_])-\n(?=[^\W\d_])")
SENTENCE_END = re.compile(r"[.!?:;”\"')\]]$")
DATE = re.compile(r"D:(\d{4})(\d{2})(\d{2})")


def read(item: Item, options: Options) -> Iterator[Passage | Rejected]:
    """The text of all pages, split as asked, with the title and the date that the file states."""
    try:
        document_class = load(LIBRARY)
    except ImportError as error:
        raise DependencyError("pypdfium2 is not installed", hint=EXTRA) from error
    with item.open() as file:
        content = file.read()
    try:
        document = document_class(content)
    except Exception as error:  # PdfiumError, which only the extra could name
        locked = "password" in str(error).lower()
        raise Unreadable("encrypted" if locked else "damaged PDF", str(error)) from error
    try:
        pages = [_page(document, number) for number in range(min(len(document), MOST_PAGES))]
        facts = _facts(document)
    finally:
        document.close()
    text = joined(pages)
    if not text:
        raise Unreadable("no text", f"{len(pages)} pages of pictures: a scan, to be read by OCR")
    blank = sum(not page.strip() for page in pages)
    if blank:
        yield remark(item, "pages without text", f"{blank} of {len(pages)}")
    for key, piece in options.split((text,)):
        yield Passage(key, piece, facts)


def joined(pages: Sequence[str]) -> str:
    r"""Pages as one text: without running heads, their lines joined to paragraphs.

    >>> joined(["A long line that ends in a hy-\nphen and goes\non. The end."])
    'A long line that ends in a hyphen and goes on. The end.'
    """
    whole = (HYPHEN.sub("-\n", page) for page in pages)
    split = [[line.strip() for line in page.splitlines() if line.strip()] for page in whole]
    repeated = _running(split)
    kept = ["\n".join(_body(lines, repeated)) for lines in split]
    lines = "\n".join(filter(None, kept)).split("\n")
    return "\n\n".join(CUT_WORD.sub("", one).replace("\n", " ") for one in _paragraphs(lines))


def _page(document: Any, number: int) -> str:
    page = document[number]
    try:
        view = page.get_textpage()
        try:
            return view.get_text_bounded().replace("\r\n", "\n").replace("\r", "\n")
        finally:
            view.close()
    finally:
        page.close()


def _running(pages: Sequence[Sequence[str]]) -> frozenset[str]:
    """Lines, digits apart, that stand at the edges of most pages."""
    counts: Counter[str] = Counter()
    for lines in pages:
        counts.update({_shape(line) for line in (*lines[:EDGE_LINES], *lines[-EDGE_LINES:])})
    least = max(LEAST_REPEATS, LEAST_SHARE * len(pages))
    return frozenset(shape for shape, times in counts.items() if times >= least)


def _body(lines: Sequence[str], repeated: frozenset[str]) -> Iterator[str]:
    last = len(lines) - 1
    for number, line in enumerate(lines):
        is_edge = number < EDGE_LINES or number > last - EDGE_LINES
        if not (is_edge and len(lines) > 1 and _is_running(line, repeated)):
            yield line


def _is_running(line: str, repeated: frozenset[str]) -> bool:
    return _shape(line) in repeated or PAGE_NUMBER.fullmatch(line) is not None


def _shape(line: str) -> str:
    return re.sub(r"\d+", "#", line)


def _paragraphs(lines: Sequence[str]) -> Iterator[str]:
    """Lines that were full, put together; a short one that ends a sentence ends a paragraph."""
    width = max(map(len, lines), default=0)
    waiting: list[str] = []
    for line in lines:
        waiting.append(line)
        is_full = len(line) > 0.75 * width
        if not is_full and (SENTENCE_END.search(line) or len(line) < 0.5 * width):
            yield "\n".join(waiting)
            waiting = []
    if waiting:
        yield "\n".join(waiting)


def _facts(document: Any) -> dict[str, str]:
    stated = document.get_metadata_dict(skip_empty=True)
    date = DATE.match(stated.get("ModDate") or stated.get("CreationDate") or "")
    time = iso_time("-".join(date.groups())) if date else ""
    facts = {"title": " ".join(stated.get("Title", "").split()), "time": time}
    return {key: value for key, value in facts.items() if value}
