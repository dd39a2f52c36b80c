"""What to ask a model that has read the small world: prompts and the words that are right next.

A probe is *told* when the text says it in the very words of the prompt, *held-out* when the
text tells the fact in other words only, and *once* when one sentence of the text holds it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from string import Formatter
from typing import Literal
from zlib import crc32

from llmctl.data.sources.world.grammar import polish
from llmctl.data.sources.world.tables import Row, load_table

Kind = Literal["told", "held-out", "once"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A prompt without its last blank, and the words of which any may follow.

    >>> probes()[0]
    Probe(prompt='The capital of France is', answers=('Paris',), kind='told', topic='countries')
    """

    prompt: str
    answers: tuple[str, ...]
    kind: Kind
    topic: str

    def sentences(self) -> Iterator[str]:
        """The prompt with each of its answers, as the text would have it."""
        return (f"{self.prompt} {answer}" for answer in self.answers)


@dataclass(frozen=True, slots=True)
class _Form:
    """A way to ask for a fact: a prompt over columns, and the columns that answer it."""

    table: str
    key: str
    prompt: str
    answers: tuple[str, ...]

    def questions(self) -> dict[str, tuple[str, list[str]]]:
        """Prompt -> the key of its fact, and its answers of one word."""
        found: dict[str, tuple[str, list[str]]] = {}
        for row in load_table(self.table):
            for column, slots in product(self.answers, _each_value(self.prompt, row)):
                for answer in row[column]:
                    prompt = polish(f"{self.prompt} {answer}".format(**slots)).removesuffix(answer)
                    if " " not in answer:
                        key = slots.get(self.key, row[self.key][0])
                        found.setdefault(prompt.rstrip(), (key, []))[1].append(answer)
        return found


_FORMS = (
    _Form("countries", "country", "The capital of {country} is", ("capital",)),
    _Form("countries", "country", "{capital} is the capital of", ("country",)),
    _Form("countries", "country", "In {country} people speak", ("language",)),
    _Form("animals", "animal", "The {animal} is in the", ("home", "spot")),
    _Form("animals", "animal", "The {animal} lives in the", ("home",)),
    _Form("animals", "animal", "A young {animal} is called a", ("young",)),
    _Form("places", "wares", "You can buy {wares} at the", ("place",)),
    _Form("sums", "pair", "{a} plus {b} is", ("sum",)),
    _Form("sums", "pair", "{digit_a} + {digit_b} =", ("digit_sum",)),
    _Form("months", "month", "The month after {month} is", ("next",)),
    _Form("months", "month", "In {month} it is", ("season",)),
    _Form("days", "day", "The day after {day} is", ("next_day",)),
    _Form("days", "day", "Today is {day}, so tomorrow is", ("next_day",)),
    _Form("weather", "weather", "It is {weather}, so take your", ("take",)),
    _Form("opposites", "word", "The opposite of {word} is", ("opposite",)),
    _Form("opposites", "word", "{opposite} is the opposite of", ("word",)),
    _Form("things", "thing", "The colour of {thing} is", ("colour",)),
    _Form("things", "thing", "{thing} has the colour", ("colour",)),
    _Form("tools", "use", "To {use} you need the", ("tool",)),
    _Form("jobs", "job", "The {job} works in the", ("workspot",)),
    _Form("people", "person", "{person} is a", ("job",)),
    _Form("people", "person", "{person} has a", ("pet",)),
)
_ALWAYS_TOLD = ("France", "lion")
_HEADLINES = ("The capital of France is", "The lion is in the")
_HELD_OUT = 4  # one fact in four is held out in one of its forms


@cache
def probes() -> tuple[Probe, ...]:
    """Every probe in a stable order, the three of `make demo` first.

    Of the told ones a sample is taken: as many of each form as are held out in it.
    """
    errand = Probe(
        prompt="I went to the",
        answers=tuple(
            row["place"][0] for row in load_table("places") if " " not in row["place"][0]
        ),
        kind="told",
        topic="places",
    )
    headlines: list[Probe] = []
    others: list[Probe] = []
    for form in _FORMS:
        asked = _ask(form)
        held_out = [probe for probe in asked if probe.kind == "held-out"]
        told = [probe for probe in asked if probe.kind == "told"]
        told.sort(key=lambda probe: crc32(probe.prompt.encode()))
        headlines += [probe for probe in told if probe.prompt in _HEADLINES]
        others += [probe for probe in told if probe.prompt not in _HEADLINES][: len(held_out)]
        others += held_out
    return (*headlines, errand, *others, *_once())


@cache
def held_out_sentences() -> frozenset[str]:
    """What no text of the world may say: casefolded, each prompt with each of its answers."""
    return frozenset(
        sentence.casefold()
        for form in _FORMS
        for probe in _ask(form)
        if probe.kind == "held-out"
        for sentence in probe.sentences()
    )


def _ask(form: _Form) -> list[Probe]:
    return [
        Probe(
            prompt=prompt,
            answers=tuple(sorted(set(answers))),
            kind="held-out" if _form_held_out(form, key) is form else "told",
            topic=form.table,
        )
        for prompt, (key, answers) in form.questions().items()
    ]


def _form_held_out(form: _Form, key: str) -> _Form | None:
    """The one form in which a fact is never told, chosen by its hash; None for most facts."""
    if key in _ALWAYS_TOLD:
        return None
    forms = [other for other in _FORMS if other.table == form.table]
    place = crc32(key.encode()) % (_HELD_OUT * len(forms))
    return forms[place] if place < len(forms) else None


def _once() -> Iterator[Probe]:
    for row in load_table("once"):
        yield Probe(prompt=row["asked"][0], answers=row["answers"], kind="once", topic="once")


def _each_value(prompt: str, row: Row) -> Iterator[dict[str, str]]:
    """The row with one value for each column that the prompt names, in every combination."""
    columns = [name for _, name, _, _ in Formatter().parse(prompt) if name]
    for values in product(*(row[column] for column in columns)):
        yield dict(zip(columns, values, strict=True))
