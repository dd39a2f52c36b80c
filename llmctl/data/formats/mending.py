"""Text with flaws of its past -> the text that was meant, and what was mended.

NUL characters go, line ends become `\\n`, and mojibake (UTF-8 once read as something else) is
read again. Nothing else changes: no quotes, no ligatures, no normal forms.
"""

from collections.abc import Iterator
from heapq import merge

import ftfy

# What Latin-1 and Windows-1252 show for the first bytes of UTF-8, and for those that follow.
# Looking for the first runs at gigabytes a second, ftfy at one megabyte: it sees suspects only.
LEADS = ("Ã", "Â", "â€", "Ð", "Ñ", "ðŸ", "Î", "Ï", "Å", "Ä")
_FOLLOWING = bytes(range(0x80, 0xC0))
FOLLOWERS = frozenset(_FOLLOWING.decode("latin-1") + _FOLLOWING.decode("cp1252", "ignore"))


def mend(text: str) -> tuple[str, tuple[str, ...]]:
    """The text without flaws, and the kinds of flaws that were found.

    >>> mend("caf\\u00c3\\u00a9")
    ('café', ('mended mojibake',))
    """
    found: list[str] = []
    if "\0" in text:
        text = text.replace("\0", "")
        found.append("removed NUL characters")
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if text.isascii():
        return text, tuple(found)
    meant = _reread(text)
    if meant != text:
        found.append("mended mojibake")
    return meant, tuple(found)


def replace_surrogates(text: str) -> str:
    """The same text if it can be written as UTF-8, else one with U+FFFD for each surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _reread(text: str) -> str:
    """The text with each suspect line read again, as UTF-8 if ftfy thinks that it is."""
    pieces: list[str] = []
    done = 0
    for at in merge(*(_suspects(text, lead) for lead in LEADS)):
        if at >= done:
            start = text.rfind("\n", done, at) + 1 or done
            end = text.find("\n", at)
            end = len(text) if end < 0 else end
            pieces += (text[done:start], ftfy.fix_encoding(text[start:end]))
            done = end
    return "".join((*pieces, text[done:])) if pieces else text


def _suspects(text: str, lead: str) -> Iterator[int]:
    at = text.find(lead)
    while at >= 0:
        if len(lead) > 1 or text[at + 1 : at + 2] in FOLLOWERS:
            yield at
        at = text.find(lead, at + 1)
