"""Books: the book and nothing else, never an empty one, from whichever mirror has it."""

import csv
import gzip
import io
import re
from difflib import SequenceMatcher
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

from llmctl.data.books.etext import plain, strip, unwrap, without_notes
from llmctl.data.document import Document, Rejected
from llmctl.data.sources.books import Books
from llmctl.errors import ConfigError, DataError, RemoteError
from llmctl.stages.collect import Collect, run
from llmctl.workspace import Artifact, Workspace

STORY = "\n\n".join(
    f"Chapter {number}\n\nIt was a long way to the mill, and the road went up and down as\n"
    "roads do in that part of the country, so that nobody was there by\nnoon." * 3
    for number in range(20)
)
HEAD = "The Project Gutenberg eBook of Mills\n\nThis eBook is for the use of anyone\n\n"
CREDITS = "\n\n\nProduced by Jane Doe and the Online Distributed\nProofreading Team\n\n\n\n"
LICENCE = "\n\nUpdated editions will replace the previous one. Full licence.\n" * 30


START = "*** START OF THE PROJECT GUTENBERG EBOOK X ***"
END = "*** END OF THE PROJECT GUTENBERG EBOOK X ***"


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (START, END),
        (START.replace("* S", "*S"), END.replace("* E", "*E")),
        ("*** START OF THIS PROJECT GUTENBERG EBOOK A LONG\nTITLE THAT WRAPS ***", END),
        (START, "End of Project Gutenberg's Mills, by Jane"),
        (
            "*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*",
            "End of the Project Gutenberg Etext of Mills",
        ),
    ],
)
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_header_credits_and_licence_of_every_age_go(start: str, end: str, ends: str):
    text = f"\ufeff{HEAD}{start}\n{CREDITS}{STORY}\n\n{end}\n{LICENCE}".replace("\n", ends)

    book = strip(text)

    assert book.text.strip() == STORY.strip()
    assert book.is_marked


def test_a_book_without_marks_is_kept_whole():
    assert strip(STORY).text.strip() == STORY.strip()
    assert not strip(STORY).is_marked


def test_a_book_is_never_cut_to_nothing():
    text = f"{START}\n{END}\n"

    assert strip(text).text


def test_a_book_that_speaks_of_its_producers_keeps_its_words():
    text = (
        f"*** START OF THE PROJECT GUTENBERG EBOOK X ***\n\nIslands Produced by Insects.\n\n{STORY}"
    )

    assert "Islands Produced by Insects." in strip(text).text


def test_notes_of_those_who_typed_it_go():
    boxed = "+-----+\n| Transcriber's Note: |\n| Spelling was kept. |\n+-----+"
    headed = "Transcriber's Note\n\nObvious typographical errors have been corrected."

    assert without_notes(f"{boxed}\n\n{STORY}").strip() == STORY.strip()
    assert without_notes(f"{headed}\n\n{STORY}").strip() == STORY.strip()
    assert without_notes("Transcriber's Note: nothing else")


def test_paragraphs_are_joined_and_verse_keeps_its_lines():
    prose = (
        "It was a long way to the mill, and the road went up and down,\n"
        "as roads do in that part of the country, so that nobody was there by\nnoon."
    )
    verse = "  Tyger Tyger, burning bright,\n  In the forests of the night;"
    table = "Flour     3 pounds\nSugar     1 pound\nSalt"

    assert unwrap(prose) == prose.replace("\n", " ")
    assert unwrap(verse) == verse
    assert unwrap(table) == table


def test_marks_of_italics_and_pictures_go():
    assert (
        plain("It was _very\u00a0late_, snake_case_names. [Illustration: A clock]")
        == "It was very\u00a0late, snake_case_names. "
    )


def in_common(left: str, right: str) -> int:
    """How many characters two texts begin alike with."""
    return sum(
        1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(left, right, strict=False))
    )


def alike(left: str, right: str) -> float:
    """The share of characters in common, space as one; their middle by difflib."""
    left, right = (re.sub(r"\s+", " ", one.lstrip("\ufeff")).strip() for one in (left, right))
    head = in_common(left, right)
    left, right, total = left[head:], right[head:], len(left) + len(right)
    tail = in_common(left[::-1], right[::-1])
    left, right = left[: len(left) - tail], right[: len(right) - tail]
    middle = SequenceMatcher(None, left, right, autojunk=False).ratio() if len(left) < 9000 else 0.0
    return (2 * (head + tail) + middle * (len(left) + len(right))) / total


def test_real_books_are_stripped_as_expected(shared_data: Path):
    pairs = sorted((shared_data / "books/gutenberg_pairs").glob("*.raw.txt"))

    found = {
        raw.name: alike(
            strip(raw.read_text("utf-8", "replace")).text,
            raw.with_name(raw.name.replace("raw", "clean")).read_text("utf-8", "replace"),
        )
        for raw in pairs
    }

    assert len(found) == 6
    assert min(found.values()) >= 0.99, found


@pytest.mark.parametrize(
    ("file", "first", "last"),
    [
        ("1342-0.txt", "PRIDE AND PREJUDICE", "uniting them."),
        ("22367-8.txt", "DIE VERWANDLUNG", "dehnte."),
        ("4650-8.txt", "VOLTAIRE", "jardin."),
        ("84-0.txt", "Frankenstein", "distance."),
        ("pandp10.txt", "Pride and Prejudice", "uniting them."),
    ],
)
def test_real_books_in_old_encodings_are_read(shared_data: Path, file: str, first: str, last: str):
    source = Books(input_=str(shared_data / "books/gutenberg" / file))

    (document,) = [one for part in source.parts() for one in source.read(part)]

    assert isinstance(document, Document)
    assert "boundaries" not in document.meta
    assert first.lower() in document.text[:300].lower()
    assert last in document.text[-1500:]
    assert "Gutenberg" not in document.text[:2000] + document.text[-2000:]
    assert "\ufffd" not in document.text


def catalogue(rows: list[dict[str, str]]) -> bytes:
    sink = io.StringIO()
    names = "Text#,Type,Issued,Title,Language,Authors,Subjects,LoCC,Bookshelves".split(",")
    writer = csv.DictWriter(sink, names)
    writer.writeheader()
    writer.writerows(rows)
    return gzip.compress(sink.getvalue().encode())


@pytest.fixture
def shelves(web: Any) -> Any:
    """A catalogue of five texts and two mirrors, each with some of them in an old place."""
    rows = [
        {
            "Text#": str(number),
            "Type": "Text",
            "Title": f"Mill\n{number}",
            "Language": "en",
            "Subjects": "Fiction",
        }
        for number in (7, 12345, 12346, 12347)
    ]
    rows += [{"Text#": "9", "Type": "Sound", "Language": "en"}]
    rows += [
        {
            "Text#": "10",
            "Type": "Text",
            "Title": "Mühle",
            "Language": "de; en",
            "Subjects": "History",
        }
    ]
    web.pages["/catalogue.csv.gz"] = catalogue(rows)
    book = f"{HEAD}{START}\n{STORY}é\n{END}\n"
    web.pages["/one/0/7/7.txt"] = book.replace("é", "").encode()
    web.pages["/one/1/2/3/4/12345/12345-8.txt"] = book.encode("latin-1")
    web.pages["/two/cache/epub/12346/pg12346.txt"] = book.encode()
    return web


def source_of(web: Any, **knobs: Any) -> Books:
    mirrors = (f"{web.url}/one", f"{web.url}/two")
    return Books(catalogue=f"{web.url}/catalogue.csv.gz", mirror=mirrors, pause=0.0, **knobs)


def test_books_are_found_in_old_and_new_places_and_those_without_text_are_told(
    shelves: Any, tmp_path: Path
):
    made = run(Collect(source=source_of(shelves, subjects="fiction")), Workspace(tmp_path))

    assert isinstance(made, Artifact)
    assert made.facts["documents"] == 3
    assert made.facts["dropped"] == {"no text": 1}
    assert "Mill 12347" in made.facts["cases"]["no text"][0]


def test_languages_and_subjects_choose(shelves: Any):
    german = source_of(shelves, lang="de").parts()
    all_of_them = source_of(shelves, lang="any").parts()

    assert [part.label for part in german] == ["books/10"]
    assert len(all_of_them) == 5
    with pytest.raises(ConfigError, match="cookery"):
        source_of(shelves, subjects="cookery").parts()


def test_a_mirror_that_fails_is_passed_over_and_none_at_all_is_an_error(shelves: Any, faults: Any):
    refusing = faults["status"](403)
    for path in ("cache/epub/12346/pg12346.txt",):
        shelves.always[f"/one/{path}"] = refusing
    source = source_of(shelves)
    part = next(one for one in source.parts() if one.label == "books/12346")

    assert isinstance(next(source.read(part)), Document)
    shelves.always["/two/cache/epub/12346/pg12346.txt"] = refusing
    with pytest.raises(RemoteError):
        next(source.read(part))


def test_what_is_no_catalogue_is_refused(web: Any):
    web.pages["/catalogue.csv.gz"] = b"<html>blocked</html>"

    with pytest.raises(DataError, match="no catalogue"):
        source_of(web).parts()


def test_a_file_without_text_is_told(tmp_path: Path):
    (tmp_path / "blank.txt").write_text(" \n\n ")
    (tmp_path / "noise.txt").write_bytes(bytes(range(256)) * 40)
    source = Books(input_=str(tmp_path))

    found = [one for part in source.parts() for one in source.read(part)]

    assert [type(one) for one in found] == [Rejected, Rejected]
