"""The wikitext of an article -> its text, as a reader sees it without pictures and footnotes.

prune (brackets) -> parse (mwparserfromhell) -> render the tree -> tidy the lines
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import mwparserfromhell
from mwparserfromhell import nodes

from llmctl.data.wikitext.measures import lowered, raised
from llmctl.data.wikitext.pruning import CLOSE, OPEN, prune, restore
from llmctl.data.wikitext.site import LANGUAGE, Site
from llmctl.data.wikitext.templates import Call, is_shown, show
from llmctl.data.wikitext.tidying import HEADING, ITEM, tidy

# Tags of HTML that say nothing, and those of wikitext that mwparserfromhell writes as tags.
SILENT_TAGS = frozenset("ref gallery table style script references timeline hr dt dd".split())
MEDIA = re.compile(r"\.(?:jpe?g|png|svg|gif|tiff?|webp|og[gva]|web[mp]|mp3|wav|pdf|djvu)$", re.I)
LINE_TAGS = frozenset("br p div tr blockquote center poem".split())


def render(wikitext: str, site: Site) -> str:
    """The text of an article: paragraphs, headings and lists; empty where there is none.

    >>> render("'''Riga''' has [[people]] on {{convert|304|km2}}.<ref>x</ref>", Site())
    'Riga has people on 304 km².'
    """
    pruned, literals = prune(wikitext, site, is_shown)
    tree = mwparserfromhell.parse(pruned, skip_style_tags=True)
    return restore(tidy(_Renderer(site).render(tree)), literals)


class _Renderer:
    """Writes down one tree."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._ways: Mapping[type, Callable[[Any], str]] = {
            nodes.Text: str,
            nodes.Wikilink: self._link,
            nodes.ExternalLink: self._external,
            nodes.Template: self._template,
            nodes.Tag: self._tag,
            nodes.Heading: self._heading,
            nodes.HTMLEntity: _entity,
            nodes.Argument: self._argument,
            nodes.Comment: lambda _: "",
        }

    def render(self, tree: Any) -> str:
        """The text of a piece of wikitext."""
        return "".join([self._ways[type(node)](node) for node in tree.nodes])

    def _link(self, node: Any) -> str:
        title = self.render(node.title).strip()
        if ":" in title:
            prefix, _, rest = title.partition(":")
            space = prefix.strip().lower()
            # In old dumps namespaces go by names that their header no longer says.
            if space in self.site.unshown or MEDIA.search(title):
                return ""
            if not space:  # `[[:Category:Rivers]]` is shown as it stands
                title = rest if node.text else rest.rpartition(":")[2]
            elif node.text is None and LANGUAGE.fullmatch(prefix):
                return ""
        return title if node.text is None else self.render(node.text) or title

    def _external(self, node: Any) -> str:
        return self.render(node.title) if node.title else ""

    def _template(self, node: Any) -> str:
        values: list[str] = []
        named: dict[str, str] = {}
        for one in node.params:
            text = self.render(one.value).strip()
            if one.showkey:
                named[str(one.name).strip()] = text
            else:
                values.append(text)
        # `{{lang|1=fr|2=texte}}` is the same as `{{lang|fr|texte}}`.
        for place in range(1, 4):
            if place > len(values) and str(place) in named:
                values.append(named.pop(str(place)))
        name = " ".join(self.render(node.name).replace("_", " ").split()).lower()
        return show(Call(name, values, named, self.site.language))

    def _tag(self, node: Any) -> str:
        tag = str(node.tag).lower()
        if node.wiki_markup and tag == "li":
            return ITEM
        if tag in SILENT_TAGS:
            return ""
        content = self.render(node.contents) if node.contents is not None else ""
        if tag == "sup":
            return raised(content)
        if tag == "sub":
            return lowered(content)
        return f"\n{content}" if tag in LINE_TAGS else content

    def _heading(self, node: Any) -> str:
        return f"\n\n{HEADING}{node.level}{self.render(node.title).strip()}\n\n"

    def _argument(self, node: Any) -> str:
        return self.render(node.default) if node.default is not None else ""


def _entity(node: Any) -> str:
    try:
        character = node.normalize()
    except ValueError:
        return ""
    # What XML cannot hold would be taken for a mark of ours.
    return "" if character in (OPEN, CLOSE, HEADING, ITEM) else character
