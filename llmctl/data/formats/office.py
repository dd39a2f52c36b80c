"""DOCX and EPUB, both zips of XML -> text: paragraphs, tables, notes; chapters in their order.

Read with lxml and selectolax. Of a tracked change the new text is read, as a printer would show it.
"""

import posixpath
import zipfile
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]

from llmctl.data.document import Rejected
from llmctl.data.formats.compression import Budget
from llmctl.data.formats.encoding import Decoded
from llmctl.data.formats.markup import visible_text
from llmctl.data.formats.passage import BLOCK, Item, Options, Passage, Stream, Unreadable

WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
NOTES = ("word/footnotes.xml", "word/endnotes.xml")
CORE = "docProps/core.xml"
CONTAINER = "META-INF/container.xml"
MOST_RATIO, FREE_BYTES = 100, 256 * 2**20
# Tags of Word that stand for a character, and those whose text is not shown.
CHARACTERS = {f"{WORD}tab": "\t", f"{WORD}br": "\n", f"{WORD}cr": "\n", f"{WORD}noBreakHyphen": "-"}
UNSHOWN = frozenset(f"{WORD}{tag}" for tag in ("del", "moveFrom", "instrText", "pPr", "rPr"))


def read_docx(item: Item, options: Options) -> Iterator[Passage | Rejected]:
    """The text of a Word file, its notes behind it, split as asked."""
    with _Bundle(item) as bundle:
        body = bundle.tree("word/document.xml")
        if body is None:
            raise Unreadable("no DOCX", "there is no word/document.xml in it")
        blocks = list(_blocks(body))
        for name in NOTES:
            notes = bundle.tree(name)
            blocks += [] if notes is None else list(_blocks(notes))
        facts = _facts(bundle.tree(CORE))
    for key, text in options.split(("\n\n".join(filter(None, blocks)),)):
        yield Passage(key, text, facts)


def read_epub(item: Item, options: Options) -> Iterator[Passage | Rejected]:
    """The chapters of a book in the order of its spine, split as asked."""
    with _Bundle(item) as bundle:
        package = _package(bundle)
        root = bundle.tree(package)
        if root is None:
            raise Unreadable("no EPUB", f"there is no {package} in it")
        facts = _facts(root)
        files = {one.get("id"): one.get("href", "") for one in root.iter("{*}manifest/{*}item")}
        files |= {one.get("id"): one.get("href", "") for one in root.iter("{*}item")}
        chapters: list[str] = []
        for one in root.iter("{*}itemref"):
            href = unquote(files.get(one.get("idref"), ""))
            content = bundle.read(
                posixpath.normpath(posixpath.join(posixpath.dirname(package), href))
            )
            if content and one.get("linear") != "no":
                html = "".join(Decoded(Stream(iter([content]))))
                chapters.append(visible_text(html)[0].strip())
    for key, text in options.split(("\n\n".join(filter(None, chapters)),)):
        yield Passage(key, text, facts)


class _Bundle:
    """A zip whose members are read into memory, as long as it is no bomb."""

    def __init__(self, item: Item) -> None:
        self._file = item.open()
        self._budget = Budget(item.bytes, ratio=MOST_RATIO, free=FREE_BYTES)
        try:
            self._zip = zipfile.ZipFile(self._file)
        except Exception as error:  # what it makes of damaged tables: also NotImplementedError
            self._file.close()
            raise Unreadable("damaged zip", str(error)) from error

    def __enter__(self) -> "_Bundle":
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()
        self._file.close()

    def read(self, name: str) -> bytes:
        """A member, empty where there is none."""
        if name not in self._zip.namelist():
            return b""
        pieces: list[bytes] = []
        try:
            with self._zip.open(name) as member:
                while piece := member.read(BLOCK):
                    self._budget.spend(len(piece))
                    pieces.append(piece)
        except Unreadable:
            raise
        except Exception as error:  # BadZipFile, zlib.error, RuntimeError for a password
            raise Unreadable("damaged zip", f"{name}: {error}") from error
        return b"".join(pieces)

    def tree(self, name: str) -> Any:
        """A member as XML without its entities, None where there is none."""
        content = self.read(name)
        if not content:
            return None
        parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=False)
        try:
            return etree.fromstring(content, parser)
        except etree.XMLSyntaxError as error:
            raise Unreadable("damaged XML", f"{name}: {error}") from error


def _package(bundle: _Bundle) -> str:
    container = bundle.tree(CONTAINER)
    roots = (
        [] if container is None else [one.get("full-path") for one in container.iter("{*}rootfile")]
    )
    if not roots or not roots[0]:
        raise Unreadable("no EPUB", "it does not say where its package is")
    return str(roots[0])


def _blocks(root: Any) -> Iterator[str]:
    """Paragraphs and tables, in their order; a row of a table is a line with tabs."""
    for element in root.iterchildren():
        if element.tag == f"{WORD}p":
            yield _text(element).strip()
        elif element.tag == f"{WORD}tbl":
            rows = (_row(row) for row in element.iterchildren(f"{WORD}tr"))
            yield "\n".join(filter(None, rows))
        elif element.tag not in UNSHOWN and not isinstance(element.tag, type(etree.Comment)):
            yield from _blocks(element)


def _row(row: Any) -> str:
    cells = (" ".join(filter(None, _blocks(cell))) for cell in row.iterchildren(f"{WORD}tc"))
    return "\t".join(" ".join(cell.split()) for cell in cells).strip()


def _text(element: Any) -> str:
    pieces: list[str] = []
    waiting = [element]
    while waiting:
        node = waiting.pop()
        if node.tag == f"{WORD}t":
            pieces.append(node.text or "")
        elif node.tag in CHARACTERS:
            pieces.append(CHARACTERS[node.tag])
        elif node.tag not in UNSHOWN:
            waiting.extend(reversed(list(node)))
    return "".join(pieces)


def _facts(root: Any) -> dict[str, str]:
    """What Dublin Core says of the file."""
    if root is None:
        return {}
    named = {
        "title": "{*}title",
        "author": "{*}creator",
        "language": "{*}language",
        "licence": "{*}rights",
    }
    found = {key: next(root.iter(tag), None) for key, tag in named.items()}
    time = next(root.iter("{*}modified"), None)
    told = {key: (one.text or "").strip() for key, one in found.items() if one is not None}
    if time is not None:
        told["time"] = (time.text or "").strip()
    return {key: value for key, value in told.items() if value}
