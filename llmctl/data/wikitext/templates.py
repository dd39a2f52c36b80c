"""Templates that are part of a sentence -> the words that they show; all others show none.

A dump does not say what a template does, and many are programs. Known here are those that stand
in running text: numbers, foreign words, pronunciations, dashes, quotations. Boxes, notes and
notices are left out, and so is what nobody here has heard of.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from llmctl.data.wikitext.measures import (
    chemical,
    convert,
    fraction,
    grouped,
    lowered,
    raised,
    times_ten,
    value,
)


class Call(NamedTuple):
    """A template as it is used: its name, its values in order, its values by name."""

    name: str
    values: Sequence[str]
    named: Mapping[str, str]
    language: str = ""

    def at(self, place: int) -> str:
        """The value at a place, empty where there is none."""
        return self.values[place] if place < len(self.values) else ""

    @property
    def last(self) -> str:
        """The last value that is not empty."""
        return next((one for one in reversed(self.values) if one), "")


Template = Callable[[Call], str]

LANGUAGE_CODE = re.compile(r"[a-z]{2,3}(?:-[A-Za-z0-9]+)*")
MONTHS = (
    "January February March April May June July August September October November December"
).split()
# Words of pronunciation templates that are no sounds.
NO_SOUND = frozenset("lang pron local us uk ca au en-us en-uk audio file ipa wikt small".split())


def show(call: Call) -> str:
    """What a template shows in a sentence, empty for one that shows nothing there."""
    template = _find(call.name)
    return template(call) if template else ""


def is_shown(name: str) -> bool:
    """Whether a template of that name (lower case, single spaces) shows words in a sentence.

    >>> is_shown("convert"), is_shown("lang-fr"), is_shown("infobox country")
    (True, True, False)
    """
    return _find(name) is not None


def _find(name: str) -> Template | None:
    if name in TEMPLATES:
        return TEMPLATES[name]
    head, colon, _ = name.partition(":")
    if colon and head in FUNCTIONS:
        return FUNCTIONS[head]
    return next((one for start, one in FAMILIES.items() if name.startswith(start)), None)


def _always(text: str) -> Template:
    return lambda _: text


def _first(call: Call) -> str:
    return call.at(0) or call.named.get("text", "") or call.named.get("1", "")


def _second(call: Call) -> str:
    return call.at(1) or call.named.get("text", "")


def _last(call: Call) -> str:
    return call.last


def _all(call: Call) -> str:
    return "".join(call.values)


def _listed(call: Call) -> str:
    return ", ".join(filter(None, map(str.strip, call.values)))


def _convert(call: Call) -> str:
    return convert(call.values, call.named)


def _value(call: Call) -> str:
    return value(call.values, call.named)


def _grouped(call: Call) -> str:
    return grouped(call.name.partition(":")[2], call.language)


def _in_language(call: Call) -> str:
    """`{{langx|fr|texte}}`, and older `{{lang-fr|texte}}`."""
    return call.at(0 if call.name.startswith("lang-") else 1) or call.named.get("text", "")


def _sounds(call: Call) -> str:
    """`{{IPA|/x/}}` and `{{IPA|fr|x}}`; `{{IPA-fr|x}}`; `{{IPAc-en|a|b}}`, sound by sound."""
    sounds = [one for one in call.values if one.lower() not in NO_SOUND]
    if call.name.startswith("ipac"):
        return f"/{''.join(sounds).replace(' ', '')}/" if sounds else ""
    if call.name == "ipa" and len(sounds) > 1 and LANGUAGE_CODE.fullmatch(sounds[0]):
        sounds = sounds[1:]
    return sounds[0] if sounds else ""


def _respelt(call: Call) -> str:
    return "-".join(filter(None, call.values))


def _quoted(call: Call) -> str:
    text = call.named.get("text") or call.named.get("quote") or call.at(0)
    return f"\n\n{text.strip()}\n\n" if text.strip() else ""


def _as_of(call: Call) -> str:
    *_, day, month, year = ["", "", *reversed(call.values[:3])]
    if call.named.get("alt"):
        return call.named["alt"]
    month = MONTHS[int(month) - 1] if month.isdecimal() and 0 < int(month) <= 12 else month
    lead = "since" if call.named.get("since") else "as of"
    lead = lead if call.named.get("lc") in ("y", "yes", "on") else lead.capitalize()
    return f"{lead} {' '.join(filter(None, (day, month, year)))}"


def _nihongo(call: Call) -> str:
    """`{{nihongo|English|漢字|rōmaji}}` as English (漢字, rōmaji)."""
    english, *others = [*call.values[:3], "", "", ""][:3]
    inner = ", ".join(filter(None, others))
    if not english:
        return inner
    return f"{english} ({inner})" if inner else english


def _prefixed(text: str) -> Template:
    return lambda call: f"{text}{call.at(0)}" if call.at(0) else ""


def _nuclide(call: Call) -> str:
    element, mass = call.at(0), call.at(1)
    return f"{element}-{mass}" if mass else element


def _sic(call: Call) -> str:
    return _all(call) or "[sic]"


def _ship(call: Call) -> str:
    prefix = "" if call.name == "ship" else call.name.upper()
    words = call.values[:2] if call.name == "ship" else call.values[:1]
    return " ".join(filter(None, (prefix, *words)))


def _titled(call: Call) -> str:
    """The title that an article about a language of the wiki gives: `{{lang|en|''Emma''}}`."""
    return _second(call) or _first(call)


def _named(names: str, template: Template) -> dict[str, Template]:
    return dict.fromkeys(names.split(";"), template)


TEMPLATES: Mapping[str, Template] = {
    **_named("convert;cvt;conv", _convert),
    **_named("val", _value),
    **_named("frac;sfrac;fraction", lambda call: fraction(call.values)),
    **_named("chem;chem2", lambda call: chemical(call.values)),
    **_named("e;esp", lambda call: times_ten(call.at(0))),
    **_named("10^", lambda call: f"10{raised(call.at(0))}"),
    **_named("pow", lambda call: f"{call.at(0)}{raised(call.at(1))}"),
    **_named("sup", lambda call: raised(call.at(0))),
    **_named("sub", lambda call: lowered(call.at(0))),
    **_named("simplenuclide;simplenuclide2;nuclide;nuclide2", _nuclide),
    **_named("railgauge;track gauge;rail gauge", _first),
    **_named("nts;dts;dtsh;number table sorting;sort;sortname;ntsh", _last),
    **_named("gaps;unité;nombre;nb;nombre fr", lambda call: " ".join(filter(None, call.values))),
    **_named("lang;langue;nativename;native name;script;transl;translit;transliteration", _titled),
    **_named("langx;lang-x", _in_language),
    **_named("ipa;ipalink;ipablink", _sounds),
    **_named("respell;pronunciation respelling", _respelt),
    **_named("nihongo", _nihongo),
    **_named("nowrap;nobr;nobreak;nowr;small;smaller;big;larger;large;resize2;abbr;abbrv", _first),
    **_named("tooltip;hover title;smallcaps;sc;sc2;caps;allcaps;vanchor;visible anchor", _first),
    **_named("linktext;noitalic;noitalics;nobold;nocaps;nastaliq;unicode;polytonic;mvar", _first),
    **_named("math;var;strong;em;strongbad;mono;tt;kbd;code;bold;italic;i;b;u;s;nospam", _first),
    **_named("ill;interlanguage link;illm;interwiki;proper name;not a typo;notatypo", _first),
    **_named("as written;typo;color;font color;lj;flag;flagcountry;flag+link;cb;hebrew", _last),
    **_named("flagcountry2;flagu", _first),
    **_named("resize;font;fontcolor;rtl-lang;lang-small;nonfree;abbr2", _last),
    **_named("sic", _sic),
    **_named("keypress;key press;key;button", lambda call: "+".join(filter(None, call.values))),
    **_named("angbr;angle bracket;angbr ipa", lambda call: f"⟨{call.at(0)}⟩"),
    **_named("quote;blockquote;cquote;quotation;quote box2;poemquote;bq;zitat", _quoted),
    **_named("hlist;ubl;unbulleted list;vunblist;cslist;comma separated entries", _listed),
    **_named("plainlist;flatlist", _first),
    **_named("as of;since", _as_of),
    **_named("uss;hms;ship;hmcs;hmas;ss;rms;mv;usns;uscgc;sms", _ship),
    **_named("circa;c.;ca.", _prefixed("c. ")),
    **_named("floruit;fl.", _prefixed("fl. ")),
    **_named("reign;r.", _prefixed("r. ")),
    **_named("p.;page", _prefixed("p. ")),
    **_named("pp.;pages", _prefixed("pp. ")),
    **_named("vol.", _prefixed("vol. ")),
    **_named("us$;usd;us dollar", _prefixed("US$")),
    **_named("$", _prefixed("$")),
    **_named("£;gbp;pound sterling", _prefixed("£")),
    **_named("€;eur;euro", _prefixed("€")),
    **_named("inr;indian rupee", _prefixed("₹")),
    **_named("jpy;¥", _prefixed("¥")),
    **_named("'s", _always("’s")),
    **_named("';apostrophe", _always("’")),
    **_named("·;•;dot;middot;bullet", _always(" · ")),
    **_named("ndash;–;en dash", _always("–")),
    **_named("snd;spnd;spaced ndash;sndash;spaced en dash;nbndash", _always(" – ")),
    **_named("mdash;—;em dash", _always("—")),
    **_named("mdashb;spaced mdash;smd", _always(" — ")),
    **_named(
        "nbsp;spaces;thinsp;thin space;hair space;hairsp;sp;pad;space;ensp;emsp", _always(" ")
    ),
    **_named("=", _always("=")),
    **_named("minus", _always("−")),
    **_named("times", _always("×")),
    **_named("shy;zwj;zwnj;wbr;zwsp", _always("")),
}
# Parser functions, whose argument stands in their name.
FUNCTIONS: Mapping[str, Template] = {
    "formatnum": _grouped,
    "lc": lambda call: call.name.partition(":")[2].lower(),
    "uc": lambda call: call.name.partition(":")[2].upper(),
    "nowrap": lambda call: call.name.partition(":")[2],
}
FAMILIES: Mapping[str, Template] = {
    "lang-": _in_language,
    "ipac-": _sounds,
    "ipa-": _sounds,
}
