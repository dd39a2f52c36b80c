"""What the names of files say: their format, their stem, whether they are meant to be seen."""

import re
import unicodedata
from pathlib import PurePath

from llmctl.data.formats import COMPRESSIONS

# What some systems leave beside one's files; other such names begin with a dot.
LITTER = ("__MACOSX", "Thumbs.db", "desktop.ini")


def ending(name: str) -> str:
    """The ending that says the format, in lower case, behind which a compression may stand.

    >>> ending("books/Emma.TXT.gz")
    'txt'
    """
    return PurePath(_unpacked(name)).suffix.lower().removeprefix(".")


def stem(name: str) -> str:
    """The last part of a path without its endings.

    >>> stem("data/novels.tar.xz")
    'novels'
    """
    return PurePath(_unpacked(name)).stem


def corpus_name(text: str) -> str:
    """Letters, digits and `-_.` of a text, accents dropped; `files` where nothing is left.

    >>> corpus_name("Söhne & Töchter")
    'Sohne-Tochter'
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii")
    return re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("-.") or "files"


def clean(name: str) -> str:
    """A name as text that can be written down: bytes that are not UTF-8 as escapes."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def is_hidden(path: str) -> bool:
    """Is any part of the path hidden, or litter of a system?"""
    return any(
        (part.startswith(".") and part not in (".", "..")) or part in LITTER
        for part in PurePath(path).parts
    )


def _unpacked(name: str) -> str:
    first, _, last = name.rpartition(".")
    return first if first and last.lower() in COMPRESSIONS else name
