"""Articles of journals as JATS XML (PubMed Central, most publishers) -> their text by sections.

References, tables, figures and formulae that only a printer can read are left out and counted.
"""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]

from llmctl.data.document import Rejected
from llmctl.data.formats.gaps import close_gaps
from llmctl.data.formats.passage import Item, Options, Passage, Unreadable, remark

# What is left out of the text, and what it is counted as.
UNREAD = {
    "xref": "", "table-wrap": "tables", "fig": "figures", "fig-group": "figures",
    "graphic": "", "media": "", "supplementary-material": "", "fn-group": "", "fn": "",
    "ref-list": "", "object-id": "", "label": "", "permissions": "",
}  # fmt: skip
FORMULAE = ("disp-formula", "inline-formula", "math", "tex-math")
BLOCKS = ("p", "title", "sec", "list", "list-item", "disp-quote", "abstract", "boxed-text")
PREAMBLE = re.compile(
    r"^\s*\\(?:documentclass|usepackage|setlength)\b.*$|\\(?:begin|end)\{document\}", re.MULTILINE
)


def read(item: Item, options: Options) -> Iterator[Passage | Rejected]:
    """The text of an article with its title, authors, licence and date, split as asked."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=False)
    with item.open() as file:
        try:
            root = etree.parse(file, parser).getroot()
        except etree.XMLSyntaxError as error:
            raise Unreadable("damaged XML", str(error)) from error
    if root is None:
        raise Unreadable("damaged XML", "there is nothing in it")
    article, left_out = passage_of(root)
    for key, text in options.split((article.text,)):
        yield Passage(key, text, article.facts)
    for what, times in sorted(left_out.items()):
        yield remark(item, f"left out {what}", f"{times}")


def passage_of(root: Any) -> tuple[Passage, Counter[str]]:
    """An article as text with its facts, and how many things of which kind were left out.

    Raises Unreadable for XML that is no article or has no text.
    """
    if _name(root) != "article":
        raise Unreadable("no article", f"its root is <{_name(root)}>")
    left_out: Counter[str] = Counter()
    title = _line(root.find(".//{*}article-title"))
    abstract = root.find(".//{*}abstract")
    body = root.find("{*}body")
    blocks = [title]
    for part in (abstract, body):
        blocks += [] if part is None else _blocks(part, left_out)
    left_out["references"] = sum(1 for _ in root.iter("{*}ref"))
    text = "\n\n".join(filter(None, blocks))
    if body is None and abstract is None:
        raise Unreadable("no text", "neither an abstract nor a body")
    return Passage("", text, _facts(root, title)), +left_out


def _blocks(element: Any, left_out: Counter[str]) -> list[str]:
    """The paragraphs and headings below an element, in their order."""
    found: list[str] = []
    for child in element.iterchildren(tag=etree.Element):
        name = _name(child)
        if name in UNREAD or name in FORMULAE:
            _count(child, left_out)
        elif name in ("p", "title") and not _holds_blocks(child):
            found.append(close_gaps(_inline(child, left_out)))
        elif name == "list-item":
            found += [f"- {one}" for one in _blocks(child, left_out)]
        else:
            found += _blocks(child, left_out)
    return [one for one in found if one and one != "- "]


def _holds_blocks(element: Any) -> bool:
    return any(_name(one) in BLOCKS for one in element.iterchildren(tag=etree.Element))


def _inline(element: Any, left_out: Counter[str]) -> str:
    pieces = [element.text or ""]
    for child in element.iterchildren():
        if isinstance(child.tag, str):
            name = _name(child)
            if name in FORMULAE:
                pieces.append(_formula(child, left_out))
            elif name in UNREAD:
                _count(child, left_out)
            else:
                pieces.append(_inline(child, left_out))
        pieces.append(child.tail or "")
    return "".join(pieces)


def _formula(element: Any, left_out: Counter[str]) -> str:
    """A formula as TeX where the publisher gives it, or as its letters where they are few."""
    tex = next((one.text for one in element.iter("{*}tex-math") if one.text), "")
    if tex:
        inner = PREAMBLE.sub("", tex).strip().strip("$").strip()
        return f"${inner}$"
    letters = " ".join("".join(element.itertext()).split())
    if letters and len(letters) <= 20:
        return letters
    left_out["formulae"] += 1
    return ""


def _count(element: Any, left_out: Counter[str]) -> None:
    kind = "formulae" if _name(element) in FORMULAE else UNREAD.get(_name(element), "")
    if kind:
        left_out[kind] += 1


def _facts(root: Any, title: str) -> dict[str, str]:
    names = [
        " ".join(filter(None, (_line(one.find("{*}given-names")), _line(one.find("{*}surname")))))
        for one in root.iter("{*}name")
        if _name(one.getparent()) == "contrib"
    ]
    ids = {str(one.get("pub-id-type")): _line(one) for one in root.iter("{*}article-id")}
    licence = next(root.iter("{*}license"), None)
    dates = [_date(one) for one in root.iter("{*}pub-date")]
    doi = ids.get("doi", "")
    facts = {
        "title": title,
        "authors": "; ".join(names[:20]),
        "journal": _line(next(root.iter("{*}journal-title"), None)),
        "doi": doi,
        "id": ids.get("pmcid") or ids.get("pmc") or doi,
        "url": f"https://doi.org/{doi}" if doi else "",
        "licence": _licence(licence),
        "time": min(filter(None, dates), default=""),
    }
    return {key: value for key, value in facts.items() if value}


def _licence(element: Any) -> str:
    if element is None:
        return ""
    links = (value for one in element.iter() for key, value in one.attrib.items() if "href" in key)
    return next(links, "") or _line(element)[:200]


def _date(element: Any) -> str:
    parts = [_line(element.find(f"{{*}}{name}")) for name in ("year", "month", "day")]
    numbers = [part.zfill(2) for part in parts if part.isdecimal()]
    return "-".join(numbers)


def _line(element: Any) -> str:
    return "" if element is None else close_gaps("".join(element.itertext()))


def _name(element: Any) -> str:
    return str(element.tag).rpartition("}")[2]
