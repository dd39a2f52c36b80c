"""The source files of Python and of llmctl's packages -> documents of the prose in them.

A document is one topic of pydoc, or the docstrings of one module. Files are read and parsed,
never imported; what is not installed is left out.
"""

import ast
import platform
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from llmctl.data.document import Document, Part, Rejected
from llmctl.data.sources.docstrings import docstrings, prose
from llmctl.registry import load

if TYPE_CHECKING:
    from importlib.metadata import PackageMetadata

_LIBRARY = Path(sysconfig.get_path("stdlib"))
_TOPICS = _LIBRARY / "pydoc_data" / "topics.py"
_VERSION = platform.python_version()
_PYTHON = (f"python:{_VERSION}", "PSF-2.0", _VERSION)

# Folders with much prose for little parsing: all of torch or sympy would take half a minute.
_PACKAGES: Mapping[str, Sequence[str]] = {
    "datasets": [""],
    "fsspec": [""],
    "huggingface_hub": [""],
    "jinja2": [""],
    "mpmath": [""],
    "networkx": [""],
    "numpy": [""],
    "pandas": ["core"],
    "rich": [""],
    "sympy": ["combinatorics", "ntheory", "stats"],
    "torch": ["distributions", "nn", "optim", "utils/data"],
    "typer": [""],
}
_SHELVES = ("ab", "cd", "efgh", "ijklm", "nopqr", "st", "uvwxyz")  # modules by first letter
_LEFT_OUT = frozenset(
    "__pycache__ _vendor config dist-packages encodings ensurepip idlelib lib2to3 pydoc_data "
    "site-packages test testing tests turtledemo vendor".split()
)
_SHORTEST = 200  # characters that make a document worth its row
_MOST_OF_A_PART = 200_000  # characters: no package shall drown the world


def prose_parts() -> Iterator[Part]:
    """Pydoc's topics, the standard library in shelves, and each package that is installed."""
    if _TOPICS.exists():
        yield _part("pydoc", "topics", [_TOPICS])
    for letters in _SHELVES:
        yield _part("stdlib", letters, _shelf(letters))
    for name in _PACKAGES:
        if find_spec(name) is not None:
            yield _part("packages", name, _package_files(name))


def read_prose(room: str, name: str) -> Iterator[Document | Rejected]:
    """The documents of the part with this spec."""
    match room:
        case "pydoc":
            return _read_topics()
        case "stdlib":
            return _read_modules(_shelf(name), _LIBRARY, _Origin("stdlib", *_PYTHON))
        case _:
            about = load("importlib.metadata:metadata")(name)
            origin = _Origin(
                f"packages/{name}", _home_page(about), _licence(about), about["Version"]
            )
            return _read_modules(_package_files(name), _package_root(name).parent, origin)


class _Origin(NamedTuple):
    """What the documents of a part share: the head of their ids, and their provenance."""

    name: str
    url: str
    licence: str
    version: str

    def document(self, key: str, paragraphs: Sequence[str]) -> Iterator[Document]:
        """One document of the paragraphs, or none where they are too short."""
        text = "\n\n".join(paragraphs)
        if len(text) >= _SHORTEST:
            yield Document(
                id=f"demo/{self.name}/{key}",
                text=text,
                source="demo",
                url=f"{self.url}#{key}",
                licence=self.licence,
                meta={"module": key, "version": self.version},
            )


def _part(room: str, name: str, files: Iterable[Path]) -> Part:
    size = sum(path.stat().st_size for path in files)
    return Part(label=f"{room}/{name}", bytes=size, spec=(room, name))


def _read_topics() -> Iterator[Document]:
    """Pydoc's topics, written as a dictionary of texts in a Python file."""
    origin = _Origin("pydoc/topics", "python:pydoc_data.topics", "PSF-2.0", _VERSION)
    for statement in ast.parse(_TOPICS.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Dict):
            for topic, text in sorted(ast.literal_eval(statement.value).items()):
                yield from origin.document(topic, list(prose(text)))


def _read_modules(
    files: Iterable[Path], root: Path, origin: _Origin
) -> Iterator[Document | Rejected]:
    """A document a module; a paragraph that stood in an earlier one is not repeated."""
    seen: set[str] = set()
    size = 0
    for path in files:
        try:
            texts = list(docstrings(path.read_text(encoding="utf-8")))
        except (SyntaxError, ValueError) as error:
            yield Rejected(where=str(path), reason="not parsed", detail=str(error))
            continue
        paragraphs = dict.fromkeys(each for text in texts for each in prose(text))
        new = [each for each in paragraphs if each not in seen]
        seen.update(new)
        for document in origin.document(_module(path.relative_to(root)), new):
            size += len(document.text)
            if size > _MOST_OF_A_PART:
                return
            yield document


def _module(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def _shelf(letters: str) -> list[Path]:
    """The files of the standard library whose modules begin with one of the letters."""
    tops = (top for top in _LIBRARY.iterdir() if top.name.lstrip("_")[:1].lower() in letters)
    return _sources(tops)


def _package_files(name: str) -> list[Path]:
    return _sources(_package_root(name) / folder for folder in _PACKAGES[name])


def _package_root(name: str) -> Path:
    spec = find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def _sources(tops: Iterable[Path]) -> list[Path]:
    """Python files under files and folders, in order, without tests and copies of others."""
    found: list[Path] = []
    for top in sorted(tops):
        if top.name in _LEFT_OUT:
            continue
        if top.is_dir():
            found += _sources(top.iterdir())
        elif top.suffix == ".py":
            found.append(top)
    return found


def _licence(about: "PackageMetadata") -> str:
    """What a package says of its licence; metadata has had three places for it."""
    classified = [each for each in _field(about, "Classifier") if each.startswith("License ::")]
    stated = [*_field(about, "License-Expression"), *_field(about, "License")]
    named = [each.rpartition(" :: ")[2] for each in classified]
    return next(text for text in [*stated, *named, "unknown"] if text and "\n" not in text)


def _home_page(about: "PackageMetadata") -> str:
    links = (link.split(", ", 1) for link in _field(about, "Project-URL"))
    linked = [url for label, url in links if label.lower() in ("homepage", "source")]
    return [*_field(about, "Home-page"), *linked, f"pypi:{about['Name']}"][0]


def _field(about: "PackageMetadata", name: str) -> list[str]:
    return about.get_all(name) or []
