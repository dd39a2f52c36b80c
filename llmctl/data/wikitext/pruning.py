"""Wikitext -> the wikitext of its running text: what shows none is cut out before it is parsed.

Footnotes, tables, files, galleries and templates without text are three quarters of an article.
Finding where they end needs one look at their brackets; to parse them takes longer than all else.
What no rule of wikitext applies to (formulas, code) is put aside behind marks.
"""

import html
import re
from collections.abc import Callable, Iterable, Iterator

from llmctl.data.wikitext.site import Site

COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
UNSHOWN = "gallery|timeline|score|imagemap|hiero|graph|mapframe|maplink|references|templatestyles"
UNSHOWN_TAG = re.compile(
    rf"<(/?)(ref|{UNSHOWN}|indicator|inputbox|section|style|categorytree)\b([^<>]*)>", re.IGNORECASE
)
LITERAL = re.compile(
    r"<(/?)(nowiki|pre|math|chem|ce|code|syntaxhighlight|source)\b([^<>]*)>", re.IGNORECASE
)
# Sentinels: control characters cannot stand in XML, so no dump holds them.
OPEN, CLOSE = "\x02", "\x03"
KEPT = re.compile(f"{OPEN}(\\d+){CLOSE}")
# A table begins and ends at the beginning of a line.
BRACES = re.compile(r"\{\{|\}\}|^[ \t:*#]*\{\|(?!\})|^[ \t]*\|\}(?!\})", re.MULTILINE)
# Openings that may lack an end where somebody was careless. Of more, as vandals leave them, each
# would be followed to the end of the article, by us or by the parser.
MOST_UNPAIRED = 500
# What all that the parser looks for the end of begins with; what opens it (group 1) and closes it.
NESTINGS = tuple(
    (beginning, re.compile(pattern, re.IGNORECASE))
    for beginning, pattern in (
        ("[[", r"(\[\[)|\]\]"),
        ("[http", r"(\[(?=https?:))|\]"),
        ("{{", r"(\{\{)|\}\}"),
        ("<", r"(<[a-z]+\b[^<>/]*>)|</"),
    )
)
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
        text = _put_aside(text, literals)
        text = _without(text, ((start, end) for _, start, _, _, end in _pairs(text, UNSHOWN_TAG)))
        text = UNSHOWN_TAG.sub("", text)  # the halves of what was no pair
    text = _without(text, _braced(text, is_kept))
    text = _without(text, _linked(text, site.opening_of_files))
    for beginning, nesting in NESTINGS:
        is_suspect = text.count(beginning) > MOST_UNPAIRED
        if is_suspect and _count_unclosed(text, nesting) > MOST_UNPAIRED:
            text = nesting.sub(lambda found: "" if found[1] else found[0], text)
    return text, literals


def restore(text: str, literals: Literals) -> str:
    """The text with the literals in the place of their marks."""
    return KEPT.sub(lambda found: literals[int(found[1])], text) if literals else text


def template_name(text: str, start: int, end: int) -> str:
    """The name of the template that stands at a place, in lower case and with single spaces."""
    stop = NAME_END.search(text, start, end)
    name = text[start : stop.start() if stop else end]
    return " ".join(name.replace("_", " ").split()).lower()


def _pairs(text: str, tags: re.Pattern[str]) -> Iterator[tuple[str, int, int, int, int]]:
    """Tags with what they enclose: name, start, start and end of the content, end.

    A tag that closes itself encloses nothing; one that nobody closed is none.
    """
    opened: dict[str, tuple[int, int]] = {}
    found: list[tuple[str, int, int, int, int]] = []
    for tag in tags.finditer(text):
        closes, name, rest = tag[1], tag[2].lower(), tag[3]
        if not closes and rest.endswith("/"):
            found.append((name, tag.start(), tag.end(), tag.end(), tag.end()))
        elif not closes:
            opened.setdefault(name, tag.span())
        elif name in opened:
            start, inner = opened.pop(name)
            found.append((name, start, inner, tag.start(), tag.end()))
    return iter(sorted(found, key=lambda one: (one[1], -one[4])))


def _count_unclosed(text: str, nesting: re.Pattern[str]) -> int:
    count = 0
    for found in nesting.finditer(text):
        count = count + 1 if found[1] else max(count - 1, 0)
    return count


def _put_aside(text: str, literals: Literals) -> str:
    """The text with marks in the place of its literals, which are added to those put aside."""
    pieces: list[str] = []
    done = 0
    for name, start, inner, inner_end, end in _pairs(text, LITERAL):
        if start >= done:
            pieces += (text[done:start], f"{OPEN}{len(literals)}{CLOSE}")
            literals.append(_literal(name, text[inner:inner_end]))
            done = end
    return "".join((*pieces, text[done:]))


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
    at = unpaired = 0
    while unpaired < MOST_UNPAIRED and (found := opening.search(text, at)):
        depth, at = 0, found.end()
        for token in SQUARES.finditer(text, found.start()):
            depth += 1 if token[0] == "[[" else -1
            if not depth:
                at = token.end()
                yield found.start(), at
                break
        else:
            unpaired += 1


def _without(text: str, spans: Iterable[tuple[int, int]]) -> str:
    pieces: list[str] = []
    done = 0
    for start, end in spans:
        if start >= done:
            pieces.append(text[done:start])
        done = max(done, end)
    return "".join((*pieces, text[done:])) if done else text
