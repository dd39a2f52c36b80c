r"""LaTeX (extra `docs`) -> its text by sections, by the tree that pylatexenc makes of it.

Formulae stay as TeX, in `$…$` within a line and in `$$…$$` on lines of their own. Citations,
references, footnotes, tables, figures and algorithms are left out, and counted.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from llmctl.data.document import Rejected
from llmctl.data.formats.encoding import Decoded
from llmctl.data.formats.gaps import close_gaps
from llmctl.data.formats.latex_macros import without_comments, write_out
from llmctl.data.formats.passage import Item, Options, Passage, Unreadable, remark
from llmctl.errors import DependencyError
from llmctl.registry import load

EXTRA = "pip install 'llmctl[docs]'"
# A book of a thousand pages; the parser makes some 200 KB a second.
MOST_CHARACTERS = 8 * 2**20

HEADINGS = ("part", "chapter", "section", "subsection", "subsubsection", "paragraph",
            "subparagraph")  # fmt: skip
# Environments and macros that are left out, and what they are counted as.
UNREAD = {
    "figure": "figures", "wrapfigure": "figures", "tikzpicture": "figures", "SCfigure": "figures",
    "picture": "figures", "subfigure": "figures", "includegraphics": "figures",
    "table": "tables", "tabular": "tables", "tabularx": "tables", "longtable": "tables",
    "wraptable": "tables", "sidewaystable": "tables", "tabulary": "tables",
    "algorithm": "algorithms", "algorithmic": "algorithms", "algorithm2e": "algorithms",
    "lstlisting": "listings", "verbatim": "listings", "minted": "listings", "Verbatim": "listings",
    "footnote": "footnotes", "footnotetext": "footnotes", "thanks": "footnotes",
    "thebibliography": "", "comment": "", "CCSXML": "",
}  # fmt: skip
FORMULAE = ("equation", "align", "eqnarray", "gather", "multline", "flalign", "alignat", "math",
            "displaymath", "dmath")  # fmt: skip
CITES = re.compile(r"[a-zA-Z]*[cC]ite[a-zA-Z]*|nocite")
REFERENCES = ("ref", "eqref", "autoref", "cref", "Cref", "pageref", "nameref", "vref", "label",
              "bibliography")  # fmt: skip
# Macros that set something and say nothing, with what they take.
SETTINGS = {
    "bibliographystyle": "{", "pagestyle": "{", "thispagestyle": "{", "vskip": "", "hfill": "",
    "addtolength": "{{", "setlist": "[{", "captionsetup": "[{", "graphicspath": "{",
    "newtheorem": "*{[{[", "theoremstyle": "{", "numberwithin": "{{", "allowdisplaybreaks": "[",
    "affiliation": "{", "affil": "[{", "email": "{", "orcid": "{", "institute": "{",
    "address": "{", "thanksref": "{", "pacs": "{", "ccsdesc": "[{", "acmConference": "[{{{",
    "markboth": "{{", "markright": "{", "addcontentsline": "{{{", "titlerunning": "{",
    "authorrunning": "{", "let": "", "bibitem": "[{", "index": "{", "phantomsection": "",
    "thanks": "{", "footnotetext": "[{",
    "vspace": "*{", "hspace": "*{", "resizebox": "{{{", "fontsize": "{{", "linespread": "{",
    "hyphenation": "{", "crefname": "{{{", "Crefname": "{{{", "newtheoremstyle": "{{{{{{{{{",
    "definecolor": "{{{", "color": "{", "includepdf": "[{", "input": "{", "include": "{",
    "maketitle": "", "today": "", "tableofcontents": "", "appendix": "",
    "usepackage": "[{", "documentclass": "[{", "title": "[{", "author": "[{", "date": "{",
}  # fmt: skip
# Macros whose last argument is text, with what they take.
WORDS = {
    "href": "{{", "textcolor": "[{{", "footnotesize": "", "underline": "{", "uline": "{",
    "texorpdfstring": "{{", "textnormal": "{", "textsuperscript": "{", "textsubscript": "{",
    "enquote": "{", "MakeUppercase": "{", "caption": "[{", "hl": "{", "boxed": "{",
    "paragraph": "*[{", "part": "*[{", "parencite": "[[{", "textcite": "[[{", "autocite": "[[{",
}  # fmt: skip
ACCENTS = tuple("'`^\"~=.uvHtcdbrk")
MATH = re.compile("\ue000([0-9]+)\ue001")
LABEL = re.compile(r"\\(?:label|tag)\*?\{[^{}]*\}|\\(?:nonumber|notag)\b")
BIBLIOGRAPHY_ITEM = re.compile(r"\\bibitem\b")
DOCUMENT = re.compile(r"\\begin\s*\{document\}(.*?)(?:\\end\s*\{document\}|\Z)", re.DOTALL)
AND = re.compile(r"\\(?:and|And|AND)\b")
BREAK = re.compile(r"\n[ \t]*\n\s*")


def read(item: Item, options: Options) -> Iterator[Passage | Rejected]:
    """The text of a file of LaTeX with its title and authors, split as asked."""
    decoded = Decoded(item.stream, encoding=options.encoding)
    paper, left_out = passage_of("".join(decoded))
    for key, text in options.split((paper.text,)):
        yield Passage(key, text, {**decoded.facts, **paper.facts})
    for what, times in sorted(left_out.items()):
        yield remark(item, f"left out {what}", f"{times}")
    yield from decoded.remarks(item)


def passage_of(source: str, bibliography: str = "") -> tuple[Passage, Counter[str]]:
    """A paper as text with its facts, and how many things of which kind were left out.

    Raises Unreadable for a source without text or one that cannot be parsed.
    """
    if len(source) > MOST_CHARACTERS:
        raise Unreadable("too large", f"{len(source):,} characters of LaTeX")
    plain = write_out(without_comments(source))
    body = DOCUMENT.search(plain)
    renderer = _Renderer()
    try:
        title, authors = (
            renderer.line_of(plain, "title"),
            renderer.line_of(AND.sub("; ", plain), "author"),
        )
        renderer.left_out.clear()
        text = renderer.text(body[1] if body else plain)
    # RecursionError, and what the parser makes of sources that no TeX would take.
    except (RecursionError, ValueError, IndexError, AttributeError, TypeError) as error:
        raise Unreadable("damaged LaTeX", f"{type(error).__name__}: {error}") from error
    if not text:
        raise Unreadable("no text", "there is nothing between its macros")
    left_out = renderer.left_out
    left_out["references"] = len(BIBLIOGRAPHY_ITEM.findall(bibliography or plain))
    facts = {"title": title, "authors": authors, "formulae": str(renderer.kept)}
    found = {key: value for key, value in facts.items() if value not in ("", "0")}
    whole = f"{title}\n\n{text}" if title else text
    return Passage("", whole, found), +left_out


class _Renderer:
    """A tree of LaTeX -> text; formulae wait aside until the words are tidy."""

    def __init__(self) -> None:
        self.left_out: Counter[str] = Counter()
        self.formulae: list[str] = []
        self.kept = 0

    def text(self, source: str) -> str:
        """Paragraphs and headings, a blank line between them."""
        rendered = self._all(_nodes(source))
        found = [close_gaps(one) for one in BREAK.split(rendered)]
        self.kept = len(self.formulae)
        return "\n\n".join(MATH.sub(self._formula, one) for one in found if one not in ("", "-"))

    def line_of(self, source: str, macro: str) -> str:
        """What the first such macro of a source holds, on a line."""
        at = re.search(rf"\\{macro}\s*[\[{{]", source)
        if at is None:
            return ""
        node = next((one for one in _nodes(source[at.start() :], first=True)), None)
        held = _arguments(node)
        said = close_gaps(self._all(held[-1:]).replace("\n\n", " ")) if held else ""
        said = MATH.sub(self._formula, said)
        self.formulae.clear()
        return said

    def _formula(self, found: re.Match[str]) -> str:
        return self.formulae[int(found[1])]

    def _all(self, nodes: Iterable[Any]) -> str:
        return "".join(self._one(node) for node in nodes if node is not None)

    def _one(self, node: Any) -> str:
        match type(node).__name__:
            case "LatexCharsNode":
                return str(node.chars)
            case "LatexGroupNode":
                return self._all(node.nodelist)
            case "LatexMathNode":
                return self._math(
                    node.latex_verbatim(), node.delimiters, node.displaytype == "display"
                )
            case "LatexEnvironmentNode":
                return self._environment(node)
            case "LatexMacroNode":
                return self._macro(node)
            case "LatexSpecialsNode":
                chars = str(node.specials_chars)
                return " " if chars in ("~", "&") else str(_as_text()(node))
            case _:
                return ""

    def _math(self, verbatim: str, delimiters: tuple[str, str], is_display: bool) -> str:
        inner = verbatim.removeprefix(delimiters[0]).removesuffix(delimiters[1])
        inner = " ".join(LABEL.sub("", inner).split())
        if not inner:
            return ""
        self.formulae.append(f"$${inner}$$" if is_display else f"${inner}$")
        mark = f"\ue000{len(self.formulae) - 1}\ue001"
        return f"\n\n{mark}\n\n" if is_display else mark

    def _environment(self, node: Any) -> str:
        name = str(node.environmentname).rstrip("*")
        if name in UNREAD:
            self._count(UNREAD[name])
            return "\n\n" if name != "comment" else ""
        if name in FORMULAE:
            begin, end = rf"\begin{{{node.environmentname}}}", rf"\end{{{node.environmentname}}}"
            return self._math(node.latex_verbatim(), (begin, end), True)
        return f"\n\n{self._all(node.nodelist)}\n\n"

    def _macro(self, node: Any) -> str:
        name = str(node.macroname)
        held = _arguments(node)
        if name in HEADINGS:
            return f"\n\n{self._all(held[-1:])}\n\n"
        if name in UNREAD:
            self._count(UNREAD[name])
            return ""
        if CITES.fullmatch(name):
            self._count("citations")
            return ""
        if name in REFERENCES or name in SETTINGS:
            return ""
        if name == "item":
            return f"\n\n- {self._all(held[-1:])} ".replace("-  ", "- ")
        if name in ("\\", "newline", "par", "linebreak"):
            return "\n\n" if name == "par" else " "
        if held and name not in ACCENTS:
            return self._all(held[-1:])
        # Blanks behind a macro belong to it, and the words around are set apart all the same.
        return str(_as_text()(node)) + (str(node.macro_post_space) if name.isalpha() else "")

    def _count(self, what: str) -> None:
        if what:
            self.left_out[what] += 1


def _arguments(node: Any) -> list[Any]:
    """The arguments that a macro was given; stars are none."""
    parsed = getattr(node, "nodeargd", None)
    given = list(parsed.argnlist or ()) if parsed is not None else []
    return [one for one in given if one is not None and not _is_star(one)]


def _is_star(node: Any) -> bool:
    return type(node).__name__ == "LatexCharsNode" and node.chars == "*"


def _nodes(source: str, *, first: bool = False) -> Any:
    walker = load("pylatexenc.latexwalker:LatexWalker")(
        source, latex_context=_context(), tolerant_parsing=True
    )
    if first:
        return walker.get_latex_nodes(read_max_nodes=1)[0]
    return walker.get_latex_nodes()[0]


@cache
def _context() -> Any:
    """What the parser knows of macros, with what it should know besides."""
    try:
        context = load("pylatexenc.latexwalker:get_default_latex_context_db")()
    except ImportError as error:
        raise DependencyError("pylatexenc is not installed", hint=EXTRA) from error
    spec = load("pylatexenc.macrospec:MacroSpec")
    more = [spec(name, takes) for name, takes in (SETTINGS | WORDS).items()]
    context.add_context_category("more", macros=more, prepend=True)
    return context


@cache
def _as_text() -> Any:
    """What accents and signs look like, for a node of which we know no more."""
    return load("pylatexenc.latex2text:LatexNodes2Text")(keep_comments=False).node_to_text
