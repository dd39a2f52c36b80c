"""A text as Project Gutenberg publishes it -> the book: no licence, no credits, no broken lines.

Fifty years of volunteers have marked the beginning of a book in many ways. What cannot be told
from the book stays in it: a book is never cut to nothing.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

# The marker may wrap over lines, and its title may hold anything but stars.
START = re.compile(
    r"^\*\*\* ?START OF (?:THE|THIS) PROJECT GUTENBERG E-?(?:BOOK|TEXT)[^*]*\*\*\*[^\n]*\n",
    re.MULTILINE | re.IGNORECASE,
)
SMALL_PRINT = re.compile(r"^\*END\*? ?THE SMALL PRINT!.*?\n", re.MULTILINE | re.IGNORECASE)
END = re.compile(
    r"^[ \t]*(?:\*\*\* ?END OF (?:THE|THIS) PROJECT GUTENBERG"
    r"|End of (?:the |this )?Project Gutenberg(?:'s|’s|\b)"
    r"|\*\*\* ?START: FULL LICENSE)",
    re.MULTILINE | re.IGNORECASE,
)
# A marker of the end in the first half belongs to the header, or to another book in this one.
EARLIEST_END = 0.3
CREDITS = re.compile(
    r"(?:\[?(?:this )?(?:e-?text|e-?book|file|transcript|html version)?,? ?(?:was )?"
    r"(?:produced|prepared|scanned|transcribed|created|converted|proofed|digitized|typed)\b"
    r".{0,80}?\bby\b"
    r"|(?:e-?text|transcription|scanned and proofed|updated editions?|html version) "
    r"(?:prepared |produced )?by\b"
    r"|note: project gutenberg (?:also )?has|images? (?:generously )?(?:made available|provided) by"
    r"|this (?:project gutenberg )?(?:e-?book|e-?text|file) was"
    r"|we thank |(?:with )?thanks to |nous remercions |editorial note: "
    r"|(?:the )?project gutenberg(?:'s|’s)? (?:e-?text|e-?book|edition)\b)",
    re.IGNORECASE | re.DOTALL,
)
LONGEST_CREDITS, MOST_CREDITS = 900, 6  # characters of a paragraph, paragraphs
NOTE = re.compile(
    r"[\[|+\s*_-]*(?:the )?(?:original )?transcriber\S{0,14}? ?(?:end)?notes?\b", re.IGNORECASE
)
BOX = re.compile(r"^\s*[|+]")
LONGEST_NOTE, LONGEST_HEADING = 2500, 40
# What the paragraph below such a heading speaks of, if it belongs to it.
OF_THE_FILE = re.compile(
    r"typograph|correct|spelling|hyphenat|punctuation|e-?text|this (?:text|file|edition|book)",
    re.IGNORECASE,
)
PARAGRAPH = re.compile(r"\n[ \t]*\n")
WIDEST = 80  # columns of text that was wrapped by hand
MARKS = re.compile(r"(?<![^\W_])_([^_\n]{1,200}?)_(?![^\W_])")
ILLUSTRATION = re.compile(r"\[Illustrations?(?::[^\]]*)?\]", re.IGNORECASE)


class Book(NamedTuple):
    """The text of a book, and whether the marks of its beginning and end were found."""

    text: str
    is_marked: bool


def strip(text: str) -> Book:
    """The book in a text, its lines as they are.

    >>> strip("Licence\\n*** START OF THE PROJECT GUTENBERG EBOOK X ***\\nOnce.\\n").text
    'Once.'
    """
    text = text.lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    starts = [*START.finditer(text), *SMALL_PRINT.finditer(text)]
    # Of several marks, as in a header of two ages, the last one in the first third counts.
    early = [one.end() for one in starts if one.end() < max(len(text) / 3, 20_000)]
    begin = max(early, default=0)
    ends = [
        one.start()
        for one in END.finditer(text, begin)
        if one.start() - begin > EARLIEST_END * (len(text) - begin) or not early
    ]
    body = text[begin : min(ends, default=len(text))]
    body = _without_credits(body)
    if not body.strip():
        return Book(text.strip(), False)
    return Book(body.strip("\n").rstrip(), bool(early))


def without_notes(text: str) -> str:
    """The book without the notes of those who typed it, at its beginning and its end.

    A note of several paragraphs keeps those behind the first: nobody marks where it ends.
    """
    paragraphs = PARAGRAPH.split(text)
    head, tail = paragraphs[:12], paragraphs[-6:] if len(paragraphs) > 24 else []
    middle = paragraphs[12 : len(paragraphs) - len(tail)]
    kept = [*_unnoted(head), *middle, *_unnoted(tail)]
    return "\n\n".join(kept) if any(one.strip() for one in kept) else text


def unwrap(text: str) -> str:
    """Paragraphs as one line each; verse, tables and what is set apart keep their lines.

    >>> unwrap("It was the best\\nof times.\\n\\n  Rose\\n  Thorn")
    'It was the best of times.\\n\\n  Rose\\n  Thorn'
    """
    paragraphs = (one.strip("\n") for one in PARAGRAPH.split(text))
    return "\n\n".join(_unwrapped(one.split("\n")) for one in paragraphs if one.strip())


def plain(text: str) -> str:
    """The text without the underscores of italics and the marks of pictures.

    >>> plain("It was _very_ late. [Illustration: A clock]")
    'It was very late. '
    """
    return ILLUSTRATION.sub("", MARKS.sub(r"\1", text))


def _without_credits(body: str) -> str:
    """The book without the paragraphs at its head that say who made the file."""
    paragraphs = PARAGRAPH.split(body)
    filled = [at for at, one in enumerate(paragraphs) if one.strip()][:MOST_CREDITS]
    last = -1
    for at in filled:
        one = paragraphs[at].strip()
        # An indented block behind credits goes on with them: addresses of other forms.
        goes_on = last >= 0 and paragraphs[at].startswith("  ") and "http" in one
        if (CREDITS.match(one) or goes_on) and len(one) <= LONGEST_CREDITS:
            last = at
        elif set(one) - set("* \n"):
            break
    return "\n\n".join(paragraphs[last + 1 :])


def _unnoted(paragraphs: Sequence[str]) -> list[str]:
    kept: list[str] = []
    in_box = after_heading = False
    for paragraph in paragraphs:
        text = paragraph.strip()
        is_boxed = bool(BOX.match(text))
        if NOTE.match(text) and len(text) <= LONGEST_NOTE:
            in_box = is_boxed
            after_heading = "\n" not in text and len(text) < LONGEST_HEADING and not is_boxed
        elif in_box and is_boxed:
            continue
        elif after_heading and (not text or OF_THE_FILE.search(text)):
            after_heading = not text
        else:
            in_box = after_heading = False
            kept.append(paragraph)
    return kept


def _unwrapped(lines: list[str]) -> str:
    if len(lines) == 1:
        return lines[0].strip()  # a heading, set in the middle
    if not _is_prose(lines):
        return "\n".join(line.rstrip() for line in lines)
    joined = " ".join(line.strip() for line in lines)
    return re.sub(r"(?<=[^\W\d_]-)- (?=\w)|(?<=\w--) (?=\w)", "", re.sub(r" {2,}", " ", joined))


def _is_prose(lines: Sequence[str]) -> bool:
    """Whether lines were broken because they were full: all but the last one are long."""
    full = [line.rstrip() for line in lines[:-1]]
    if any(re.search(r"\S {3,}\S|^ {4,}", line) for line in lines[1:]):
        return False  # columns, or verse set in
    if max(map(len, full)) > WIDEST * 2:
        return False
    long = sum(len(line) >= 0.7 * max(map(len, full)) and len(line) > 45 for line in full)
    return long >= 0.75 * len(full)
