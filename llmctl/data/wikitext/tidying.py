"""Rendered lines -> text without holes: no empty brackets, no headings over nothing, no residue."""

import re
from collections.abc import Iterator

from llmctl.data.wikitext.pruning import OPEN

# Sentinels that the renderer writes: before a heading with its level, and before a list's item.
# Not those that Python takes for white space.
HEADING, ITEM = "\x04", "\x05"

STYLE = re.compile(r"'{2,5}")
BLANK = re.compile(r"[ \t\u00a0\u2000-\u200a\u202f\u3000]+")
INVISIBLE = re.compile(r"[\u200b\u200e\u200f\u00ad\u2060\ufeff]")
EMPTY = re.compile(r" ?[(\[（](?:[\s,;:/|·•–—-]|\bor\b|\band\b)*[)\]）]")
OPENING = re.compile(r"([(（])[\s,;:/]+")
CLOSING = re.compile(r"[\s,;:/]+([)）])")
MOST_NESTED = 4  # empty brackets within empty brackets
BEFORE_MARK = re.compile(r" +([,;.:](?=\s|$)|[)）])")
DOUBLE_MARK = re.compile(r"([,;])(?:\s*[,;])+")
MAGIC_WORD = re.compile(r"__[A-Z]{3,}__")
RESIDUE = re.compile(r"\{\{+|\}\}+|\[\[|\]\]|\{\||\|\}|</?[a-z]+[^<>\n]*>", re.IGNORECASE)
# Lines that are attributes of a table or a picture, or nothing but marks.
REST_OF_TABLE = re.compile(
    r"\s*[|!]|.*\b(?:style|class|align|width|colspan|bgcolor)\s*=\s*[\"']|thumb\|"
)
WORDLESS = re.compile(r"[\W_]*")
# Sections of notes and links, which are no text to read; in the languages of large wikis.
APPARATUS = frozenset(
    (
        "references|notes|notes and references|see also|external links|further reading|sources|"
        "bibliography|citations|footnotes|works cited|references and notes|navigation|"
        "einzelnachweise|weblinks|literatur|siehe auch|anmerkungen|quellen|"
        "notes et références|références|voir aussi|liens externes|bibliographie|"
        "articles connexes|referencias|véase también|enlaces externos|bibliografía|notas|"
        "note|voci correlate|collegamenti esterni|altri progetti|bibliografia|"
        "примечания|ссылки|литература|см. также|"
        "referências|ligações externas|ver também|przypisy|linki zewnętrzne|"
        "zobacz też|"
        "referenties|externe links|zie ook|referenser|externa länkar|se även|"
        "각주|외부 링크|같이 보기|참고 문헌|脚注|"
        "外部リンク|関連項目|参考文献|参考资料|外部链接|参见"
    ).split("|")
)


def tidy(text: str) -> str:
    """The text of an article out of what the renderer wrote."""
    text = STYLE.sub("", INVISIBLE.sub("", BLANK.sub(" ", text)))
    text = RESIDUE.sub("", MAGIC_WORD.sub("", text))
    if "(" in text or "[" in text or "（" in text:
        text = CLOSING.sub(r"\1", OPENING.sub(r"\1", text))
        for _ in range(MOST_NESTED):
            text = EMPTY.sub("", text)
    text = BEFORE_MARK.sub(r"\1", DOUBLE_MARK.sub(r"\1", text))
    lines = _without_empty_sections(list(_lines(text)))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _lines(text: str) -> Iterator[str]:
    """The lines worth reading, items of lists with a dash; an empty one between paragraphs."""
    in_apparatus = 0
    for raw in text.split("\n"):
        line = raw.strip()
        if line.startswith(HEADING):
            level = int(line[1:2])
            if in_apparatus and level > in_apparatus:
                continue
            in_apparatus = level if line[2:].strip().lower() in APPARATUS else 0
            if not in_apparatus:
                yield line
        elif not in_apparatus:
            yield from _line(line)


def _line(line: str) -> Iterator[str]:
    if not line:
        yield ""
        return
    if REST_OF_TABLE.match(line):
        return
    is_item = line.startswith(ITEM)
    line = BLANK.sub(" ", line.replace(ITEM, "")).strip(" ")
    if not WORDLESS.fullmatch(line) or OPEN in line:
        yield f"- {line}" if is_item else line


def _without_empty_sections(lines: list[str]) -> list[str]:
    """The lines without headings that nothing stands under, from the last to the first."""
    kept: list[str] = []
    below = 0  # the level of the next heading, if nothing stands between
    is_over_text = False
    for line in reversed(lines):
        if not line.startswith(HEADING):
            is_over_text = is_over_text or bool(line)
            kept.append(line)
            continue
        level = int(line[1])
        if is_over_text or below > level:
            kept.append(line[2:].strip())
            below, is_over_text = level, False
    return kept[::-1]
