"""Wikitext -> the wikitext of its running text: what shows none is cut out before it is parsed.

Footnotes, tables, files, galleries and templates without text are three quarters of an article.
Finding where they end needs one look at their brackets; to parse them takes longer than all else.
What no rule of wikitext applies to (formulas, code) is put aside behind marks.
"""

import html
import re
from collections.abc import Callable, Iterator

from llmctl.data.wikitext.site import Site

COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
UNSHOWN = "gallery|timeline|score|imagemap|hiero|graph|mapframe|maplink|references|templatestyles"
UNSHOWN_TAG = re.compile(
    rf"<(ref|{UNSHOWN}|indicator|inputbox|section|nowiki|categorytree|table)\b[^<>]*/>"
    rf"|<(ref|{UNSHOWN}|indicator|inputbox|style|categorytree)\b[^<>]*>.*?</\s*\2\s*>",
    re.DOTALL | re.IGNORECASE,
)
LITERAL = re.compile(
    r"<(nowiki|pre|math|chem|ce|code|syntaxhighlight|source)\b([^<>]*)>(.*?)</\s*\1\s*>",
    re.DOTALL | re.IGNORECASE,
)
# Sentinels: control characters cannot stand in XML, so no dump holds them.
OPEN, CLOSE = "\x02", "\x03"
KEPT = re.compile(f"{OPEN}(\\d+){CLOSE}")
# A table begins and ends at the beginning of a line.
BRACES = re.compile(r"\{\{|\}\}|^[ \t:*#]*\{\|(?!\})|^[ \t]*\|\}(?!\})", re.MULTILINE)
SQUARES = re.compile(r"\[\[|\]\]")
NAME_END = re.compile(r"[|{}\n<]")
HEADING = re.compile(r"^=", re.MULTILINE)
Literals = list[str]


def prune(text: str, site: Site, is_kept: Callable[[str], bool]) -> tuple[str, Literals]:
    """The wikitext without what shows no text, and the literals that its marks stand for.

    `is_kept` says of a template's name (lower case, single spaces) whether it shows text.
    """
    text = COMMENT.sub("", text)
    literals: Literals = []
    if "<" in text:

        def put_aside(found: re.Match[str]) -> str:
            literals.append(_literal(found[1].lower(), found[3]))
            return f"{OPEN}{len(literals) - 1}{CLOSE}"

        text = LITERAL.sub(put_aside, text)
        text = UNSHOWN_TAG.sub("", text)
    text = _without(text, _braced(text, is_kept))
    return _without(text, _linked(text, site.opening_of_files)), literals


def restore(text: str, literals: Literals) -> str:
    """The text with the literals in the place of their marks."""
    return KEPT.sub(lambda found: literals[int(found[1])], text) if literals else text


def template_name(text: str, start: int, end: int) -> str:
    """The name of the template that stands at a place, in lower case and with single spaces."""
    stop = NAME_END.search(text, start, end)
    name = text[start : stop.start() if stop else end]
    return " ".join(name.replace("_", " ").split()).lower()


def _literal(tag: str, content: str) -> str:
    content = " ".join(content.split()) if tag in ("math", "chem", "ce") else content
    # The braces of a formula may stand apart; together they look like wikitext left over.
    return re.sub(r"(?<=[{}\[\]])(?=[{}\[\]])", " ", html.unescape(content))


def _braced(text: str, is_kept: Callable[[str], bool]) -> Iterator[tuple[int, int]]:
    """The spans of tables and of templates without text, in order, none within another."""
    spans: list[tuple[int, int]] = []
    opened: list[tuple[str, int]] = []
    for token in BRACES.finditer(text):
        kind = token[0].lstrip(" \t:*#")
        if kind in ("{{", "{|"):
            opened.append((kind, token.start() if kind == "{{" else token.end() - 2))
            continue
        wanted = "{{" if kind == "}}" else "{|"
        at = _last(opened, wanted)
        if at is None:
            continue
        start = opened[at][1]
        del opened[at:]
        if wanted == "{|" or not is_kept(template_name(text, start + 2, token.start())):
            while spans and spans[-1][0] >= start:
                spans.pop()
            spans.append((start, token.end()))
    spans += _unclosed(text, opened)
    return iter(sorted(spans))


def _unclosed(text: str, opened: list[tuple[str, int]]) -> Iterator[tuple[int, int]]:
    """A table that nobody closed ends where the next section begins."""
    for kind, start in opened:
        if kind == "{|":
            heading = HEADING.search(text, start)
            yield start, heading.start() if heading else len(text)
            return


def _last(opened: list[tuple[str, int]], kind: str) -> int | None:
    return next((at for at in reversed(range(len(opened))) if opened[at][0] == kind), None)


def _linked(text: str, opening: re.Pattern[str]) -> Iterator[tuple[int, int]]:
    """The spans of links to files and categories, with the links in their captions."""
    at = 0
    while found := opening.search(text, at):
        depth, at = 0, found.end()
        for token in SQUARES.finditer(text, found.start()):
            depth += 1 if token[0] == "[[" else -1
            if not depth:
                at = token.end()
                yield found.start(), at
                break


def _without(text: str, spans: Iterator[tuple[int, int]]) -> str:
    pieces: list[str] = []
    done = 0
    for start, end in spans:
        if start >= done:
            pieces.append(text[done:start])
        done = max(done, end)
    return "".join((*pieces, text[done:])) if done else text
