"""HTML -> the text that a browser shows: paragraphs, lines and cells; no scripts or menus."""

import codecs
import re
from collections.abc import Iterator
from itertools import accumulate, chain

from selectolax.lexbor import LexborHTMLParser, LexborNode

from llmctl.data.document import Rejected
from llmctl.data.formats.encoding import Decoded
from llmctl.data.formats.passage import Item, Options, Passage, Unreadable
from llmctl.data.formats.splitting import cut

# Bytes parsed at once, as a tree of nothing but tags takes 200 times its source; and where a
# longer page is cut, so that hardly ever a script comes in two.
PIECE = 2 * 2**20
PLACES = ("</script>", "</p>", ">")
UNSEEN = (
    "annotation, audio, button, canvas, datalist, dialog, head, iframe, nav, noscript, object, "
    "script, select, style, svg, template, textarea, video, "
    "[hidden], [style*='display:none'], [style*='display: none']"
)
PARAGRAPHS = (
    "address, article, aside, blockquote, details, dl, fieldset, figure, footer, form, "
    "h1, h2, h3, h4, h5, h6, header, hr, main, ol, p, pre, section, table, ul"
)
LINES = "br, caption, dd, div, dt, figcaption, legend, li, summary, tr"
CELLS = "td, th"
# Control characters, which no page shows, stand for the space that is meant until all other
# space is collapsed; the last three for the space within `pre`.
GAP, LINE, CELL = "\x1c", "\x1d", "\x1e"
KEPT = {" ": "\x15", "\t": "\x16", "\n": "\x17"}
# The parser needs time and memory with the square of the depth, for which thirty kilobytes of
# unclosed tags are enough; browsers stop at 512. Tags that close themselves do not count, nor
# does the `i<a;` of a script.
DEEPEST = 1000
NESTING = re.compile(
    r"<(/?)(?!(?:area|base|br|col|dd|dt|embed|hr|img|input|li|link|meta|option|p|param|source"
    r"|tbody|td|tfoot|th|thead|tr|track|wbr)\b)[a-zA-Z][\w-]*[\s>]",
    re.IGNORECASE,
)
CHARSET = re.compile(rb"(?:charset|encoding)\s*=\s*[\"']?([\w.:-]+)", re.IGNORECASE)
HEAD = 2048  # bytes in which a page says its encoding; the HTML standard asks for 1024
# As in browsers: who says Latin-1 or ASCII means Windows-1252, and so on.
MEANT = {"ascii": "cp1252", "iso8859-1": "cp1252", "gb2312": "gb18030", "shift_jis": "cp932"}


def read(item: Item, options: Options) -> Iterator[Passage | Rejected]:
    """The visible text of a page, with its title as a fact."""
    declared = declared_charset(item.stream.head[:HEAD])
    source = Decoded(item.stream, encoding=options.encoding, declared=declared)
    pieces = cut(source, PIECE, PLACES)
    first, title = visible_text(next(pieces, ""))
    facts = {"title": title} if title else {}
    rest = (f"\n{visible_text(piece)[0]}" for piece in pieces)
    for key, text in options.split(chain((first,), rest)):
        yield Passage(key, text, source.facts | facts)
    yield from source.remarks(item)


def visible_text(html: str) -> tuple[str, str]:
    """The visible text of a page and its title; raises Unreadable for one nested absurdly.

    >>> visible_text("<title>A</title><p>One<script>x</script></p><p>two &amp; three</p>")
    ('One\\n\\ntwo & three', 'A')
    """
    depths = accumulate(-1 if closes else 1 for closes in NESTING.findall(html))
    if max(depths, default=0) > DEEPEST:
        raise Unreadable("nested too deeply", f"more than {DEEPEST} tags in each other")
    tree = LexborHTMLParser(html)
    title = tree.css_first("head > title")
    heading = " ".join(title.text().split()) if title else ""
    for node in tree.css(UNSEEN):
        node.decompose()
    for tags, mark in ((PARAGRAPHS, GAP), (LINES, LINE), (CELLS, CELL)):
        for node in tree.css(tags):
            node.insert_before(mark)
            node.insert_after(mark)
    for block in tree.css("pre"):
        _keep_space(block)
    return _laid_out(tree.body.text() if tree.body else ""), heading


def declared_charset(head: bytes) -> str:
    """The encoding that a page says it is in, empty if none that is known."""
    said = CHARSET.search(head)
    try:
        name = codecs.lookup(said[1].decode("ascii")).name if said else ""
    except (LookupError, UnicodeDecodeError):
        return ""
    return MEANT.get(name, name)


def _keep_space(block: LexborNode) -> None:
    for node in [one for one in block.traverse(include_text=True) if one.is_text_node]:
        text = node.text_content or ""
        for space, mark in KEPT.items():
            text = text.replace(space, mark)
        node.replace_with(text)


def _laid_out(text: str) -> str:
    paragraphs = ("\n".join(filter(None, map(_row, one.split(LINE)))) for one in text.split(GAP))
    text = "\n\n".join(filter(None, paragraphs))
    for space, mark in KEPT.items():
        text = text.replace(mark, space)
    return text


def _row(line: str) -> str:
    cells = (" ".join(cell.split()) for cell in line.split(CELL))
    return "\t".join(filter(None, cells))
