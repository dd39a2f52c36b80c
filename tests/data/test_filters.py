"""Rules: what each drops or changes, at its threshold, and what it must leave alone."""

import dataclasses
import re
from pathlib import Path

import pytest

from llmctl.config import knobs
from llmctl.data import filters
from llmctl.data.chain import build_rules, judge, resolve
from llmctl.data.filters import FILTERS
from llmctl.data.filters.pii import is_card
from llmctl.data.reading import Reading
from llmctl.data.verdict import Drop
from llmctl.registry import load

PROSE = (
    "The river rose in the night, and by morning the lower road was under water. "
    "People came down to the bridge to look at it. Nobody had seen it so high. "
    "An old man said that he remembered a worse year. They did not believe him. "
    "Later, when the water had gone back, they found his mark on the stone of the bridge."
)


def outcome(rule: str, text: str, *settings: str) -> str:
    """`kept`, the text as the rule left it, or the reason for which it was dropped."""
    passage = judge(build_rules(resolve((rule,), (), settings)), text)
    if passage.dropped is not None:
        return passage.dropped[1]
    return "kept" if passage.reading.text == text else passage.reading.text


@pytest.mark.parametrize("rule", FILTERS)
def test_prose_passes_every_rule_unchanged(rule: str) -> None:
    assert outcome(rule, PROSE) == "kept"


@pytest.mark.parametrize("rule", FILTERS)
@pytest.mark.parametrize("text", ["", " \n\n ", "\x00", "。", "x" * 5000, "🙂" * 200, "a\n" * 500])
def test_no_text_is_too_odd_for_a_rule(rule: str, text: str) -> None:
    assert isinstance(outcome(rule, text), str)


@pytest.mark.parametrize("rule", FILTERS)
def test_every_threshold_stands_in_the_toml_under_its_source(rule: str) -> None:
    path = Path(str(filters.__file__)).parent / f"{rule}.toml"
    text = path.read_text(encoding="utf-8")

    stated = set(re.findall(r"^(\w+) =", text, re.M))
    assert stated == {leaf.key for leaf in knobs(load(FILTERS[rule]))}
    assert text.startswith("# ")


@pytest.mark.parametrize(
    ("rule", "text", "reason"),
    [
        ("gopher", "Too short.", "few words"),
        ("gopher", "of to a " * 40, "short words"),
        ("gopher", f"{PROSE} {'#tag ' * 30}", "hash signs"),
        ("gopher", "\n".join(f"- {line} the be" for line in PROSE.split(".")), "bullet lines"),
        ("gopher", f"{PROSE}\n{PROSE} …", "ellipsis lines"),
        ("gopher", f"the of {'2024 10 12345 ' * 40}", "words without letters"),
        ("repetition", "the same words again\n" * 20, "repeated lines"),
        ("repetition", "buy it now here " * 40, "top 2-gram"),
        ("repetition", f"{PROSE} {PROSE}", "repeated 5-grams"),
        ("c4", f"{PROSE} {{}}", "braces"),
        ("c4", f"{PROSE} Lorem ipsum dolor.", "filler"),
        ("c4", "One sentence that is here. And two of them.", "few sentences"),
        ("fineweb", "Home\nAbout us\nContact\nNews\nShop it all", "lines without an end"),
        ("fineweb", "It is short.\n" * 3 + PROSE[:70], "short lines"),
        ("encoding", f"{PROSE[:80]} ���", "lost characters"),
        ("boilerplate", "Please enable JavaScript to view this page.", "nothing else"),
    ],
)
def test_a_rule_drops_what_it_is_there_for(rule: str, text: str, reason: str) -> None:
    assert outcome(rule, text) == reason


def test_a_language_is_kept_when_it_is_asked_for() -> None:
    german = "Der Fluss stieg in der Nacht, und am Morgen stand die Straße im Wasser."

    assert outcome("language", german) == "kept"
    assert outcome("language", german, "language.keep=en,fr") == "other language"
    assert outcome("language", german, "language.keep=en,de") == "kept"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Write to jane.doe+x@mail.example.org.", "Write to <email>."),
        ("Call +49 (0)30 1234-5678 now", "Call <phone> now"),
        ("Call (555) 010-9999 or 555-010-9999.", "Call <phone> or <phone>."),
        ("The host is 8.8.8.8, not 8.8.8.", "The host is <ip>, not 8.8.8."),
        ("From 2001:4860:4860::8888 it came", "From <ip> it came"),
        ("Card 4111 1111 1111 1111 was charged", "Card <card> was charged"),
    ],
)
def test_personal_data_gives_way_to_a_placeholder(text: str, left: str) -> None:
    assert outcome("pii", text) == left


@pytest.mark.parametrize(
    "text",
    [
        "On 2024-05-06 at 12:34:56 it cost $1,234.56.",
        "ISBN 978-0-306-40615-7, pages 100-200, since 1999-2004.",
        "It runs at 192.168.0.1 and 127.0.0.1, in version 1.2.3.",
        "Order 4111 1111 1111 1112 has a wrong check digit.",
        "He said: meet @noon, e-mail me.",
        "The sum is 1234567890123456 in all.",
        "A ratio of 16:9:4 is no address.",
    ],
)
def test_numbers_that_belong_to_nobody_stay(text: str) -> None:
    assert outcome("pii", text) == "kept"


def test_a_card_is_told_by_its_check_digit() -> None:
    assert is_card(list("5500005555555559"))
    assert not is_card(list("5500005555555558"))
    assert not is_card(list("4444444444444444"))


def test_lines_of_a_page_go_and_its_text_stays() -> None:
    page = f"Skip to content\n{PROSE}\nRead more\nShare on Facebook"

    assert outcome("boilerplate", page) == PROSE


def test_words_of_every_script_are_found() -> None:
    assert Reading("Don't stop—the well-known Café!").words == [
        "don't",
        "stop",
        "the",
        "well-known",
        "café",
    ]
    assert Reading("हिन्दी में लिखा है।").words == ["हिन्दी", "में", "लिखा", "है"]
    assert Reading("我爱你。").words == ["我", "爱", "你"]
    assert not Reading("我爱你。").is_spaced


def test_a_rule_of_another_package_is_found_by_its_entry_point(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @dataclasses.dataclass(frozen=True)
    class Point:
        name: str = "shouting"

        def load(self) -> type:
            return Shouting

    monkeypatch.setattr("llmctl.registry.plug_ins", lambda group: [Point()] * (group == "filters"))

    assert outcome("shouting", "LOUD") == "loud"
    assert outcome("shouting", "LOUD", "shouting.most=2") == "kept"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Shouting:
    """Drop text in capitals."""

    most: float = 0.5

    def judge(self, reading: Reading) -> object:
        share = sum(map(str.isupper, reading.text)) / len(reading.text)
        return Drop("loud") if share > self.most else None
