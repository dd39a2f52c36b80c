import random
import re
import subprocess
import sys
from collections import Counter

import pytest

from llmctl.data.document import Document, Rejected
from llmctl.data.sources.demo import Demo
from llmctl.data.sources.docstrings import docstrings, prose
from llmctl.data.sources.world.grammar import Speaker, parse_telling, polish
from llmctl.data.sources.world.probes import probes
from llmctl.data.sources.world.tables import load_table

SENTENCE_END = re.compile(r'(?<=[.!?"])\s+')


def read_all(demo: Demo) -> list[Document]:
    found = [each for part in demo.parts() for each in demo.read(part)]
    assert not [each for each in found if isinstance(each, Rejected)]
    return [each for each in found if isinstance(each, Document)]


@pytest.fixture(scope="module")
def world() -> list[Document]:
    return read_all(Demo(world_only=True))


@pytest.fixture(scope="module")
def said(world: list[Document]) -> str:
    """All that the world says, without capitals and line breaks."""
    return "\n".join(" ".join(document.text.casefold().split()) for document in world)


@pytest.fixture(scope="module")
def whole() -> list[Document]:
    return read_all(Demo())


def test_the_world_is_large_and_says_thousands_of_different_sentences(
    world: list[Document],
) -> None:
    sentences = [each for document in world for each in SENTENCE_END.split(document.text)]

    assert sum(len(document.text.encode()) for document in world) >= 400_000
    assert len(set(sentences)) > 5_000
    assert len(set(sentences)) > len(sentences) / 2
    assert len({document.text for document in world}) == len(world)


def test_the_parts_of_the_world_are_as_big_as_they_say(world: list[Document]) -> None:
    sizes = Counter[str]()
    for document in world:
        sizes[document.id.rpartition("/")[0]] += len(document.text.encode())

    for part in Demo(world_only=True).parts():
        assert sizes[f"demo/{part.label}"] == pytest.approx(part.bytes, rel=0.1), part.label


def test_a_part_gives_the_same_documents_whatever_was_read_before(
    world: list[Document],
) -> None:
    chosen = ("world/letters", "world/sums", "world/everyday")
    parts = [part for part in Demo().parts() if part.label in chosen]

    for part in reversed(parts):
        again = [document for document in world if document.id.startswith(f"demo/{part.label}/")]
        assert list(Demo().read(part)) == again


def test_wordings_leave_no_symbol_no_gap_and_no_small_letter_behind(
    world: list[Document],
) -> None:
    for document in world:
        assert not re.search(r"[{}/|;]\w|  | [.,!?]|\ba [aeio]|^[a-z]", document.text), document


def test_what_is_held_out_is_nowhere_in_the_world(said: str) -> None:
    held_out = [probe for probe in probes() if probe.kind == "held-out"]

    assert len(held_out) > 100
    for probe in held_out:
        for sentence in probe.sentences():
            assert sentence.casefold() not in said


def test_what_is_held_out_in_one_form_is_told_in_others(world: list[Document]) -> None:
    sentences = [each for document in world for each in SENTENCE_END.split(document.text)]
    spoken = [frozenset(re.findall(r"\w+", each.casefold())) for each in sentences]
    rarity = Counter(word for words in spoken for word in words)

    for probe in probes():
        if probe.kind == "held-out":
            # The rarest words of a prompt are its fact: the country, the animal, the numbers.
            prompt = re.findall(r"\w+", probe.prompt.casefold())
            fact = set(sorted(prompt, key=rarity.__getitem__)[: 2 if probe.topic == "sums" else 1])
            tellings = [fact | {answer.casefold()} for answer in probe.answers]
            assert sum(any(each <= words for each in tellings) for words in spoken) >= 3, probe


def test_what_is_told_is_told_in_the_words_of_the_prompt(said: str) -> None:
    told = [probe for probe in probes() if probe.kind == "told"]

    assert {"The capital of France is", "The lion is in the", "I went to the"} <= {
        probe.prompt for probe in told
    }
    for probe in told:
        assert any(sentence.casefold() in said for sentence in probe.sentences()), probe


def test_what_is_told_once_is_told_once_and_asked_in_other_words(said: str) -> None:
    for row in load_table("once"):
        assert said.count(row["told"][0].casefold()) == 1, row

    for probe in probes():
        if probe.kind == "once":
            assert probe.prompt.casefold() not in said


def test_probes_end_where_a_word_follows_and_are_answered_by_single_words() -> None:
    assert len({probe.prompt for probe in probes()}) == len(probes())
    for probe in probes():
        assert probe.prompt == probe.prompt.strip()
        assert probe.answers
        assert all(re.fullmatch(r"[\w-]+", answer) for answer in probe.answers), probe


def test_a_speaker_takes_the_rows_that_the_wording_asks_for() -> None:
    telling = parse_telling(
        "@bytes 9\n\ndocument\n    {cry}, not {cry/2} -//ends\n\ncry\n    a {x}"
    )
    rows = [({"x": ("owl",)}, {"x": ("cat",)})]

    speaker = Speaker(telling.wordings, rows, random.Random(0))

    assert speaker.tell("document") == "An owl, not a cat -\nEnds"


def test_speech_is_written_with_capitals_in_the_right_places() -> None:
    assert polish('"is it?" asked Tom. "yes," said Ann, "it is." she ran.') == (
        '"Is it?" asked Tom. "Yes," said Ann, "it is." She ran.'
    )


@pytest.mark.slow
def test_the_whole_demo_is_prose_of_many_modules_with_provenance(whole: list[Document]) -> None:
    text = "\n".join(document.text for document in whole)

    assert len(text.encode()) >= 3_000_000
    assert len({document.id for document in whole}) == len(whole)
    assert not re.search(r">>>|:param|^\s*\.\. |::$|^[-=~+|]{3,}|`", text, re.MULTILINE)
    for document in whole:
        assert document.id.startswith("demo/")
        assert document.source == "demo"
        assert document.url, document.id
        assert document.licence not in ("", "unknown"), document.id
        assert document.meta, document.id


@pytest.mark.slow
def test_the_world_is_a_good_part_of_the_whole_and_no_package_is_more(
    whole: list[Document],
) -> None:
    sizes = Counter[str]()
    for document in whole:
        room, name = document.id.split("/")[1:3]
        sizes[f"packages/{name}" if room == "packages" else room] += len(document.text)

    assert sizes["world"] > sum(sizes.values()) / 5
    assert max(sizes, key=sizes.__getitem__) == "world"
    assert {"pydoc", "stdlib", "packages/torch"} <= set(sizes)


def test_listing_parts_and_reading_docstrings_imports_none_of_the_packages() -> None:
    code = (
        "import sys\n"
        "from llmctl.data.sources.demo import Demo\n"
        "parts = {part.label: part for part in Demo().parts()}\n"
        "chosen = (parts['packages/fsspec'], parts['world/letters'])\n"
        "documents = [each for part in chosen for each in Demo().read(part)]\n"
        "heavy = {'torch', 'numpy', 'pandas', 'pyarrow', 'datasets', 'tokenizers', 'fsspec'}\n"
        "print(len(documents), sorted(heavy & set(sys.modules)))\n"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    count, _, loaded = done.stdout.strip().partition(" ")
    assert int(count) > 10
    assert loaded == "[]"


def test_docstrings_are_found_where_they_stand_and_other_strings_are_not() -> None:
    source = (
        '"""The module."""\nx = "no"\nclass A:\n    """A class."""\n'
        '    async def f(self):\n        """A method."""\n        return """no"""\n'
    )

    assert [each for each in docstrings(source) if each] == ["The module.", "A class.", "A method."]


@pytest.mark.parametrize(
    ("noise", "why"),
    [
        (">>> count_words('one two')\n2", "an example"),
        (
            "Parameters\n----------\ntext : str\n    The text in which the words are counted.",
            "a table",
        ),
        ("Text.split : Split the text into the words that it is made of.", "a reference"),
        (":param text: the text in which all of the words are to be counted.", "a field"),
        (".. deprecated:: 3.2", "a directive"),
        ("KeyError\n    If the word is not in the text that was given to it.", "a definition"),
        ("x = [word for word in text.split() if word]", "code"),
    ],
)
def test_prose_is_kept_and_the_noise_around_it_is_dropped(noise: str, why: str) -> None:
    sentence = "The words are counted from the first to the last of them."

    assert list(prose(f"Count words.\n\n{noise}\n\n{sentence}")) == [sentence], why


def test_prose_is_freed_of_markup_and_of_the_announcement_of_an_example() -> None:
    docstring = (
        "Return the *first* of the words that are in :class:`~shop.Text`, or ``None``.\n"
        "See `the manual <https://example.org>`_ for more of this. Here is one::\n\n    first(it)\n"
    )

    assert list(prose(docstring)) == [
        "Return the first of the words that are in shop.Text, or None. "
        "See the manual for more of this."
    ]
