"""Paths as a user names them -> the files that they mean, each once, with a stable id.

An id is made of names below the folder that was named, so that it is the same on every machine.
"""

import difflib
import glob
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from llmctl.data.formats.names import clean, corpus_name, is_hidden, stem
from llmctl.errors import DataError

# The JSON files that `datasets` and our own workspace keep beside their Arrow files.
BESIDE_ARROW = frozenset(("dataset_info", "manifest", "state"))


@dataclass(frozen=True, slots=True)
class Found:
    """A file: its id, its path as given or below it, and its size."""

    id: str
    path: str
    bytes: int


def find_files(paths: Sequence[str], name: str) -> list[Found]:
    """All files meant, ordered by id, which begins with `name`.

    Raises DataError that names the paths without files.
    """
    files: dict[tuple[int, int], tuple[Path, Path, int]] = {}
    missing: list[str] = []
    for given in paths:
        root, matches = _root(given), list(_matches(given))
        missing += [] if matches else [given]
        for path in matches:
            facts = path.stat()
            files.setdefault((facts.st_dev, facts.st_ino), (root, path, facts.st_size))
    if missing:
        named = ", ".join(f"`{given}`" for given in missing)
        raise DataError(f"no files match {named}", hint=_hint(missing[0]))
    labels = _labels(root for root, _, _ in files.values())
    found = (
        Found(clean(f"{name}/{labels[root]}{path.relative_to(root).as_posix()}"), str(path), size)
        for root, path, size in files.values()
    )
    return sorted(found, key=lambda one: one.id)


def name_of(given: str) -> str:
    """The name for what is read from a path: a folder's, or a file's without its endings."""
    path = Path(given).expanduser()
    is_one_file = path.is_file() or not (path.is_dir() or glob.has_magic(given))
    return corpus_name(stem(path.name) if is_one_file else _root(given).resolve().name)


def _root(given: str) -> Path:
    """The folder given, or the one that the file or the pattern given is in."""
    path = Path(given).expanduser()
    if path.is_dir():
        return path
    if path.exists() or not glob.has_magic(given):
        return path.parent
    return Path(*takewhile(lambda part: not glob.has_magic(part), path.parts))


def _matches(given: str) -> Iterator[Path]:
    path = Path(given).expanduser()
    for one in [path] if path.exists() else _globbed(path, _root(given)):
        if one.is_dir():
            yield from _below(one)
        elif one.is_file():
            yield one


def _globbed(pattern: Path, root: Path) -> Sequence[Path]:
    try:
        matches = sorted(root.glob(str(pattern.relative_to(root))))
    except ValueError:  # such as a `**` beside other characters
        return []
    return [one for one in matches if not is_hidden(str(one.relative_to(root)))]


def _below(folder: Path) -> Iterator[Path]:
    """The files of a folder and of those in it, links followed once, hidden ones left out.

    A folder that cannot be listed comes itself, so that the attempt to read it is told.
    """
    unlisted: list[OSError] = []
    seen: set[Path] = set()
    for place, folders, files in os.walk(folder, onerror=unlisted.append, followlinks=True):
        here = Path(place)
        is_new = here.resolve() not in seen
        seen.add(here.resolve())
        folders[:] = sorted(one for one in folders if is_new and not is_hidden(one))
        for file in sorted(files) if is_new else ():
            path = here / file
            if not is_hidden(file) and not _is_beside_arrow(path, files) and path.is_file():
                yield path
    yield from (Path(error.filename) for error in unlisted)


def _is_beside_arrow(path: Path, files: Iterable[str]) -> bool:
    is_known = path.stem in BESIDE_ARROW and path.suffix == ".json"
    return is_known and any(one.endswith(".arrow") for one in files)


def _labels(roots: Iterable[Path]) -> Mapping[Path, str]:
    """What stands before the names below each root: nothing for one, else a name of its own."""
    places = {root: root.resolve() for root in roots}
    distinct = list(dict.fromkeys(places.values()))
    if len(distinct) == 1:
        return dict.fromkeys(places, "")
    names: dict[Path, str] = {}
    for place in distinct:
        twins = sum(other.name == place.name for other in names)
        names[place] = f"{place.name}~{twins + 1}/" if twins else f"{place.name}/"
    return {root: names[place] for root, place in places.items()}


def _hint(given: str) -> str:
    path = Path(given).expanduser()
    if path.is_dir():
        return "the folder is empty, or all in it is hidden"
    folder = _root(given)
    if not folder.is_dir():
        return f"there is no folder `{folder}`"
    near = difflib.get_close_matches(path.name, [one.name for one in folder.iterdir()])
    if near:
        return f"did you mean {' or '.join(f'`{folder / one}`' for one in near)}?"
    return "check the spelling; a pattern in quotes may use *, ? and **"
