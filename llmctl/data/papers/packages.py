r"""What authors upload (LaTeX alone, or in a tar) -> one source of LaTeX, its parts put in.

Only what lies in the package is read, by the names that it has there.
"""

import json
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import NamedTuple

from llmctl.data.document import Rejected
from llmctl.data.formats.archives import tar_items
from llmctl.data.formats.compression import Budget
from llmctl.data.formats.encoding import Decoded
from llmctl.data.formats.latex_macros import without_comments
from llmctl.data.formats.passage import Item, Stream, Unreadable

MOST_BYTES = 64 * 2**20
WORTH_READING = (".tex", ".ltx", ".latex", ".txt", ".bbl", ".sty", ".00readme.json")
README = "00README.json"
TAR_MAGIC, TAR_MAGIC_AT = b"ustar", 257
MOST_DEPTH, MOST_CHARACTERS = 8, 8 * 2**20
# Papers with covers and supplements begin in several files; the longest is the paper.
MOST_MAINS = 16
DOCUMENT_CLASS = re.compile(r"\\document(?:class|style)\b")
INPUT = re.compile(
    r"\\(?:input|include|subfile|usepackage(?:\[[^\]]*\])?|RequirePackage)"
    r"(?:\s*\{\s*([^{}]+?)\s*\}|\s+([\w./-]+))"
    r"|\\(?:sub)?import\*?\s*\{\s*([^{}]*?)\s*\}\s*\{\s*([^{}]+?)\s*\}"
)


class Source(NamedTuple):
    """The LaTeX of a paper in one piece, and its list of references where it stands apart."""

    latex: str
    bibliography: str


def source_of(item: Item) -> Source:
    """The source of a paper from its package; raises Unreadable for one without LaTeX."""
    files = package(item)
    main, latex = max(
        (
            (name, _put_in(files[name], files, PurePosixPath(name).parent, 0))
            for name in _able(files)
        ),
        key=lambda one: len(one[1]),
    )
    lists = [text for name, text in files.items() if name.endswith(".bbl")]
    own = files.get(str(PurePosixPath(main).with_suffix(".bbl")))
    return Source(latex[:MOST_CHARACTERS], own or (lists[0] if lists else ""))


def package(item: Item) -> dict[str, str]:
    """The files of a package that may hold text, by name; a single file is called `main.tex`."""
    head = item.stream.head
    if head.startswith(b"%PDF-"):
        raise Unreadable("PDF alone", "its authors gave no source")
    if not head.startswith(TAR_MAGIC, TAR_MAGIC_AT):
        return {"main.tex": _text(item.stream)}
    files: dict[str, str] = {}
    size = 0
    for one in tar_items(item, Budget(item.bytes)):
        name = one.where if isinstance(one, Rejected) else one.name
        inner = name.removeprefix(f"{item.name}/")
        if isinstance(one, Rejected) or not _is_worth_reading(inner):
            continue
        files[inner] = _text(one.stream)
        size += len(files[inner])
        if size > MOST_BYTES:
            raise Unreadable("too large", f"more than {MOST_BYTES:,} characters of LaTeX")
    if item.stream.damage is not None and not files:
        raise item.stream.damage
    return files


def _is_worth_reading(name: str) -> bool:
    return name.lower().endswith(WORTH_READING) or name == README or "." not in name


def _text(stream: Stream) -> str:
    try:
        return "".join(Decoded(stream))
    except Unreadable:
        return ""  # a picture under a name that promised text


def _able(files: Mapping[str, str]) -> list[str]:
    """The files that may be the one to begin with: as the authors say, else by what they hold."""
    if README in files and (named := _named_by_readme(files[README])) in files:
        return [named]
    able = [name for name, text in files.items() if DOCUMENT_CLASS.search(text)]
    able = [name for name in able if r"\begin{document}" in files[name]] or able
    able = able or [name for name, text in files.items() if name.endswith(".tex") and text.strip()]
    if not able:
        raise Unreadable("no LaTeX", f"{len(files)} files, none of which begins a document")
    return able[:MOST_MAINS]


def _named_by_readme(text: str) -> str:
    try:
        listed = json.loads(text)["sources"]
        return next(one["filename"] for one in listed if one.get("usage") == "toplevel")
    except (ValueError, KeyError, TypeError, StopIteration, AttributeError):
        return ""


def _put_in(text: str, files: Mapping[str, str], folder: PurePosixPath, depth: int) -> str:
    """A file with the files that it names in their places; what is not there is left out."""
    left = MOST_CHARACTERS

    def part(found: re.Match[str]) -> str:
        nonlocal left
        below = folder / found[3] if found[3] is not None else folder
        name = found[1] or found[2] or found[4]
        is_package = "ackage" in found[0]
        path = _find(name, files, below, ".sty" if is_package else ".tex")
        if path is None or depth >= MOST_DEPTH or left <= 0:
            return found[0] if is_package else ""
        inner = _put_in(files[path], files, below, depth + 1)
        left -= len(inner)
        return f"{inner}\n"

    return INPUT.sub(part, without_comments(text))


def _find(name: str, files: Mapping[str, str], folder: PurePosixPath, ending: str) -> str | None:
    for place in (folder, PurePosixPath()):
        for candidate in (str(place / name), str(place / f"{name}{ending}")):
            if candidate.removeprefix("./") in files:
                return candidate.removeprefix("./")
    return None
