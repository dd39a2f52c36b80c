"""Wikipedia: no number lost, nothing of the markup left, however a dump is cut and fetched."""

import bz2
import gzip
import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mwparserfromhell
import pytest

from llmctl.data.document import Document, Rejected
from llmctl.data.fetching.network import Network
from llmctl.data.sources import wikipedia
from llmctl.data.sources.wikipedia import Wikipedia
from llmctl.data.wikitext.dump import Page, read_dump
from llmctl.data.wikitext.rendering import render
from llmctl.data.wikitext.site import Site
from llmctl.errors import DataError, RemoteError
from llmctl.stages.collect import Collect, run
from llmctl.workspace import Artifact, Workspace

SITE = Site(
    "ltgwiki",
    "https://ltg.wikipedia.org/wiki/Suoku_puslopa",
    {"0": "", "6": "Fails", "10": "Taiss", "14": "Kategoreja"},
)
HEADER = (
    '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/"><siteinfo>'
    "<dbname>ltgwiki</dbname><base>https://ltg.wikipedia.org/wiki/Suoku_puslopa</base>"
    '<namespaces><namespace key="0" /><namespace key="6">Fails</namespace>'
    '<namespace key="10">Taiss</namespace><namespace key="14">Kategoreja</namespace>'
    "</namespaces></siteinfo>\n"
)
FOOTER = "</mediawiki>\n"


def page(number: int, text: str, *, space: int = 0, redirect: str = "") -> str:
    turn = f'<redirect title="{redirect}" />' if redirect else ""
    return (
        f"<page><title>Page {number}</title><ns>{space}</ns><id>{number}</id>{turn}<revision>"
        f"<id>{number * 10}</id><timestamp>2026-11-01T00:00:00Z</timestamp>"
        f"<model>wikitext</model><text>{text}</text></revision></page>\n"
    )


def multistream(pages: list[str], each: int = 5) -> bytes:
    """A dump as Wikimedia writes it: a stream of the header, then `each` pages a stream."""
    groups = ["".join(pages[at : at + each]) for at in range(0, len(pages), each)]
    return b"".join(bz2.compress(one.encode()) for one in (HEADER, *groups, FOOTER))


PAGES = [page(number, f"The ''article'' {number} is [[long|short]].") for number in range(1, 41)]
DUMP = multistream([*PAGES, page(41, "#x", redirect="Page 1"), page(42, "x", space=14)])


def read(source: Wikipedia) -> tuple[list[Document], list[Rejected]]:
    found = [one for part in source.parts() for one in source.read(part)]
    documents = [one for one in found if isinstance(one, Document)]
    return documents, [one for one in found if isinstance(one, Rejected)]


def files(made: Any) -> dict[str, str]:
    assert isinstance(made, Artifact)
    return {name: str(known["sha256"]) for name, known in made.manifest.files.items()}


@pytest.mark.parametrize(
    ("wikitext", "text"),
    [
        ("at {{convert|2413|ft|0|abbr=on}}.", "at 2413 ft."),
        ("{{convert|5|to|10|km|mi}} {{cvt|6|ft|4|in|cm}}", "5 to 10 kilometres 6 feet 4 inches"),
        ("a {{convert|5|mi|km|0|adj=on}} walk", "a 5-mile walk"),
        ("{{convert|90|°F}}; {{convert|-27|C}}", "90°F; -27°C"),
        ("{{val|6.24|0.02|e=18|u=C}}", "6.24±0.02×10¹⁸ C"),
        ("{{formatnum: 34.62}} or {{formatnum:12345}}", "34.62 or 12345"),
        ("({{lang-ru|Рига}}; {{IPA-ru|ˈrʲiɡə|IPA}})", "(Рига; ˈrʲiɡə)"),
        ("{{lang|fr|''l'eau''}} {{transl|ar|ma}} {{nowrap|5 km}}", "l'eau ma 5 km"),
        ("{{IPAc-en|ˌ|æ|l|ə|ˈ|b|æ|m|ə}}", "/ˌæləˈbæmə/"),
        ("10<sup>6</sup> m<sup>2</sup>, the 1<sup>st</sup> H<sub>2</sub>O", "10⁶ m², the 1st H₂O"),
        ("one{{frac|1|2}} {{chem|H|2|SO|4}} {{nihongo|Go|碁|igo}}", "one1/2 H₂SO₄ Go (碁, igo)"),
        ("[[Fails:a.jpg|thumb|A [[big|''fat'']] cat]]A cat", "A cat"),
        ("[[Image:a.jpg]][[파일:b.png|섬네일|고양이]]A cat[[Kategoreja:Cats]]", "A cat"),
        ("see [[:Kategoreja:Cats]] and [[Cat (animal)|]][[lv:Kaķis]]", "see Cats and Cat (animal)"),
        ("one<ref name=a>{{cite|x}}</ref> two<ref name=a /> three<!-- no -->", "one two three"),
        ('{| class="x"\n|-\n| cell {{convert|5|km}}\n|}\ntext', "text"),
        ("{{infobox|a={{convert|5|km}}\n|b=[[c]]}}\ntext {{unknown|x}}.", "text."),
        ("{| open\n| table\n== Next ==\ntext", "Next\n\ntext"),
        ("Riga ({{unknown|x}}; {{other}}) is ( , old)", "Riga is (old)"),
        ("* one\n** two\n# three\n; four\n: five", "- one\n- two\n- three\nfour\nfive"),
        ("text\n== Empty ==\n=== Also ===\n== Full ==\nmore", "text\n\nFull\n\nmore"),
        ("text\n== References ==\n* a\n=== Deep ===\nb\n== Full ==\nmore", "text\n\nFull\n\nmore"),
        ("[http://a.b c d] [http://a.b] http://a.b/c", "c d"),
        ("a&nbsp;b &amp; c &#8211; d __NOTOC__", "a b & c – d"),
        ("<math>\\frac{{a}}{b}</math>", "\\frac{ {a} } {b}"),
        ("<nowiki>[[x]] &lt;</nowiki>", "[ [x] ] <"),
        ("<gallery>\na.jpg|b\n</gallery><div style='x'>kept</div>", "kept"),
        ("{{quote|text=To be.|sign=W}} {{as of|2005|3}}", "To be.\n\nAs of March 2005"),
        ("}} ]] {{ [[ |} broken", "broken"),
        ("", ""),
    ],
)  # fmt: skip
def test_wikitext_becomes_what_a_reader_sees(wikitext: str, text: str):
    assert render(wikitext, SITE) == text


def test_the_wiki_of_a_language_groups_digits_as_it_does():
    english = Site("enwiki", "https://en.wikipedia.org/wiki/Main_Page")

    assert render("{{formatnum: 1234567.5}}", english) == "1,234,567.5"


@pytest.mark.parametrize(
    "piece",
    ["[[File:", "<ref>", "<pre>", "<div>", "{{a|", "{{lang|fr|", "{|\n", "[[a|", "[http://a ", "(",
     "''", "<!--", "{{a|[[b|<ref>{|\n", "</ref>", "</div><div>", "* "],
)  # fmt: skip
def test_an_article_of_nothing_but_openings_comes_to_an_end(piece: str):
    assert len(render(piece * 8000, SITE)) <= len(piece) * 8000


RESIDUE = {
    "captions": r"thumb\|",
    "categories": r"(?i)\b(?:category|kategoreja):",
    "rows of tables": r"(?m)^\s*[|!]",
    "templates": r"\{\{|\}\}|\{\||\|\}",
    "links": r"\[\[|\]\]",
    "empty brackets": r"(?<!')\(\s*[,;]?\s*\)",
    "entities": r"&(?:nbsp|amp|ndash|mdash|quot|#\d+);",
    "tags": r"(?i)</?(?:ref|br|small|div|span|sup|sub|table|gallery)\b",
    "style": r"''",
    "headings": r"(?m)^==|==$",
    "magic words": r"__[A-Z]+__",
    "our own marks": r"[\x00-\x08\x0e-\x1f]",
}


@pytest.fixture(scope="module")
def english(shared_data: Path) -> list[tuple[str, str]]:
    """The articles of the English fixture: wikitext and text."""
    path = shared_data / "wikipedia/enwiki-pages-articles1-shortened.xml.bz2"
    site = Site()
    found: list[tuple[str, str]] = []
    for one in read_dump(path, 0, 0):
        if isinstance(one, Site):
            site = one
        elif isinstance(one, Page) and not one.redirect:
            found.append((one.text, render(one.text, site)))
    return found


@pytest.mark.parametrize("kind", RESIDUE)
def test_nothing_of_the_markup_is_left_in_real_articles(kind: str, english: list[tuple[str, str]]):
    left = [found[0] for _, text in english for found in re.finditer(RESIDUE[kind], text)]

    assert len(english) == 106
    assert left == []


@pytest.mark.slow
def test_the_numbers_of_measures_are_kept_in_real_articles(english: list[tuple[str, str]]):
    """Each convert, formatnum or val in a sentence: behind two plain words, its number follows."""
    place = re.compile(
        r"([a-z]+ [a-z]+) \{\{\s*(?:convert|cvt|formatnum|val)\s*[|:]\s*([\d.,]*\d)", re.IGNORECASE
    )
    lost: list[str] = []
    checked = 0
    for wikitext, text in english:
        running = "".join(
            str(node)
            for node in mwparserfromhell.parse(
                re.sub(r"(?s)<ref.*?(?:/>|</ref>)", "", wikitext)
            ).ifilter(recursive=False)
            if not isinstance(node, mwparserfromhell.nodes.Tag | mwparserfromhell.nodes.Wikilink)
        )
        plain = text.replace(",", "")
        for words, number in place.findall(running):
            checked += 1
            if f"{words} {number.replace(',', '')}" not in plain:
                lost.append(f"{words} {number}")

    assert checked > 100
    assert lost == []


def test_a_whole_wiki_is_read_without_one_failure(shared_data: Path):
    given = str(shared_data / "wikipedia/ltgwiki-latest-pages-articles.xml")

    documents, rejected = read(Wikipedia(input_=given))

    assert len(documents) > 890
    assert {one.reason for one in rejected} == {"redirect", "other namespace", "empty"}
    assert len(documents) + len(rejected) == 2004
    for kind, pattern in RESIDUE.items():
        assert [one.id for one in documents if re.search(pattern, one.text)] == [], kind
    reiga = next(one for one in documents if one.meta["title"] == "Reiga")
    assert reiga.text.startswith("Reiga\n\nReiga ")
    assert reiga.url == "https://ltg.wikipedia.org/wiki/Reiga"
    assert reiga.licence == "CC-BY-SA-4.0"


def test_a_real_dump_reads_the_same_however_it_is_cut(
    shared_data: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = str(shared_data / "wikipedia/ltgwiki-latest-pages-articles.xml")
    streams = str(shared_data / "derived/ltgwiki-pages-articles-multistream.xml.bz2")
    monkeypatch.setattr(wikipedia, "SPAN", 100_000)

    source = Wikipedia(input_=streams)

    assert len(source.parts()) > 5
    assert read(source)[0] == read(Wikipedia(input_=whole))[0]


@pytest.mark.parametrize("pack", [bytes, bz2.compress, gzip.compress])
def test_a_dump_is_read_however_it_is_packed(tmp_path: Path, pack: Callable[[bytes], bytes]):
    endings = {bytes: ".xml", bz2.compress: ".xml.bz2", gzip.compress: ".xml.gz"}
    path = tmp_path / f"dump{endings[pack]}"
    path.write_bytes(pack(bz2.decompress(DUMP)))

    documents, rejected = read(Wikipedia(input_=str(path)))

    assert [one.id for one in documents] == [f"wikipedia/ltg/{number}" for number in range(1, 41)]
    assert documents[6].text == "Page 7\n\nThe article 7 is short."
    assert documents[6].meta["revision"] == "70"
    assert [(one.reason, one.detail) for one in rejected] == [
        ("redirect", "Page 1"), ("other namespace", "Kategoreja"),
    ]  # fmt: skip


def test_a_dump_in_utf_16_is_read(tmp_path: Path):
    text = '<?xml version="1.0" encoding="utf-16"?>' + HEADER + "".join(PAGES) + FOOTER
    (tmp_path / "dump.xml").write_bytes(text.encode("utf-16"))

    assert len(read(Wikipedia(input_=str(tmp_path)))[0]) == 40


def test_a_truncated_dump_gives_what_came_before(tmp_path: Path):
    (tmp_path / "dump.xml.bz2").write_bytes(DUMP[: len(DUMP) * 2 // 3])

    documents, rejected = read(Wikipedia(input_=str(tmp_path)))

    assert 5 < len(documents) < 40
    assert rejected[-1].reason == "truncated bzip2"


def test_an_entity_bomb_stays_small(tmp_path: Path):
    bomb = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 50}">' for n in range(1, 9))
    text = f'<!DOCTYPE m [<!ENTITY e0 "ha">{bomb}]>{HEADER}{page(1, "ok &e8; end")}{FOOTER}'
    (tmp_path / "dump.xml").write_text(text)

    documents, rejected = read(Wikipedia(input_=str(tmp_path)))

    assert sum(len(one.text) for one in documents) < 100
    assert len(documents) + len(rejected) >= 1


def test_a_bomb_of_bzip2_is_stopped_with_a_reason(tmp_path: Path, monkeypatch: Any):
    monkeypatch.setattr("llmctl.data.wikitext.dump.FREE_BYTES", 1_000_000)
    text = HEADER + page(1, "x " * 1_500_000)
    (tmp_path / "dump.xml.bz2").write_bytes(bz2.compress(text.encode()))

    assert read(Wikipedia(input_=str(tmp_path)))[1][-1].reason == "bomb"


def test_an_enterprise_snapshot_is_read_from_its_archive(tmp_path: Path):
    rows = [
        {
            "name": "Riga",
            "identifier": 7,
            "url": "https://en.wikipedia.org/wiki/Riga",
            "date_modified": "2026-11-01T00:00:00Z",
            "in_language": {"identifier": "en"},
            "license": [{"name": "CC BY-SA", "identifier": "CC-BY-SA-4.0"}],
            "article_body": {"wikitext": "'''Riga''' has {{formatnum:605802}} people."},
        },
        {"name": "Oslo", "identifier": 8, "article_body": {"html": "<p>Oslo is <b>there</b>.</p>"}},
        {"name": "Broken"},
    ]
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    with tarfile.open(tmp_path / "snapshot.tar.gz", "w:gz") as archive:
        entry = tarfile.TarInfo("enwiki_0.ndjson")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))

    documents, rejected = read(Wikipedia(input_=str(tmp_path / "snapshot.tar.gz")))

    assert [one.text for one in documents] == [
        "Riga\n\nRiga has 605,802 people.", "Oslo\n\nOslo is there.",
    ]  # fmt: skip
    assert documents[0].id == "wikipedia/en/7"
    assert [one.reason for one in rejected] == ["bad snapshot row"]


@pytest.fixture
def dumps(web: Any) -> Any:
    """A mirror: content exports whose newest run is unfinished, and classic dumps."""
    root = "/other/mediawiki_content_current/ltgwiki"
    links = "".join(f'<a href="{day}/">' for day in ("2026-10-01", "2026-11-01", "2026-12-01"))
    web.pages[f"{root}/"] = links.encode()
    halves = {
        "ltgwiki-2026-11-01-p1p20.xml.bz2": multistream(PAGES[:20]),
        "ltgwiki-2026-11-01-p21p40.xml.bz2": multistream(PAGES[20:]),
    }
    sums = "".join(f"{hashlib.sha256(body).hexdigest()}  {name}\n" for name, body in halves.items())
    web.pages[f"{root}/2026-11-01/xml/bzip2/SHA256SUMS"] = sums.encode()
    for name, body in halves.items():
        web.pages[f"{root}/2026-11-01/xml/bzip2/{name}"] = body
    name = "ltgwiki-20261101-pages-articles-multistream.xml.bz2"
    about = {
        "size": len(DUMP),
        "url": f"/ltgwiki/20261101/{name}",
        "sha1": hashlib.sha1(DUMP).hexdigest(),
    }
    jobs = {"articlesmultistreamdump": {"status": "done", "files": {name: about}}}
    web.pages["/ltgwiki/"] = b'<a href="20261001/"><a href="20261101/"><a href="latest/">'
    web.pages["/ltgwiki/20261101/dumpstatus.json"] = json.dumps({"jobs": jobs}).encode()
    web.pages[f"/ltgwiki/20261101/{name}"] = DUMP
    return web


@pytest.mark.parametrize("form", ["content", "multistream", "auto"])
def test_the_latest_whole_dump_is_found_checked_and_read(dumps: Any, tmp_path: Path, form: Any):
    source = Wikipedia(lang="ltg", mirror=dumps.url, form=form)

    made = run(Collect(source=source), Workspace(tmp_path / "workspace"))

    assert isinstance(made, Artifact)
    assert made.name == "wikipedia-ltg"
    assert made.facts["documents"] == 40
    asked = [path for path, _, _ in dumps.requests if path.endswith(".bz2")]
    assert ("20261101" if form == "multistream" else "2026-11-01") in asked[-1]
    assert not list(made.path.glob(".*"))


def test_a_dump_that_is_not_what_its_checksum_says_is_refused(dumps: Any, tmp_path: Path):
    path = "/ltgwiki/20261101/ltgwiki-20261101-pages-articles-multistream.xml.bz2"
    dumps.pages[path] = DUMP[:-1] + b"x"
    source = Wikipedia(lang="ltg", mirror=dumps.url, form="multistream")

    with pytest.raises(RemoteError, match="sha1"):
        run(Collect(source=source), Workspace(tmp_path / "workspace"))


def test_a_wiki_that_is_not_there_is_an_error_that_says_where_to_look(dumps: Any):
    with pytest.raises(DataError, match="xxwiki") as caught:
        Wikipedia(lang="xx", mirror=dumps.url).parts()

    assert "--lang" in str(caught.value.hint)


def test_a_dry_run_fetches_no_dump(dumps: Any, tmp_path: Path):
    source = Wikipedia(lang="ltg", mirror=dumps.url)

    told: Any = run(Collect(source=source, dry_run=True), Workspace(tmp_path / "workspace"))

    assert told["plan"]["parts"] == 2
    assert told["plan"]["bytes_to_read"] > 1000
    assert not [
        headers
        for path, headers, _ in dumps.requests
        if path.endswith("bz2") and "Range" in headers
    ]
    assert not (tmp_path / "workspace").exists()


def test_what_the_user_keeps_is_not_fetched_again(dumps: Any, tmp_path: Path):
    network = Network(downloads=tmp_path / "kept")
    source = Wikipedia(lang="ltg", mirror=dumps.url, network=network)
    run(Collect(source=source), Workspace(tmp_path / "one"))
    before = len(dumps.requests)

    run(Collect(source=source), Workspace(tmp_path / "two"))

    fetched = [path for path, _, _ in dumps.requests[before:] if path.endswith(".xml.bz2")]
    assert len(list((tmp_path / "kept").glob("*.bz2"))) == 2
    assert len(fetched) == 2  # to ask for their size, no more


def test_a_killed_collection_goes_on_to_the_same_bytes_with_any_number_of_workers(
    dumps: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("llmctl.data.collecting.LEAST_BYTES", 500)
    source = Wikipedia(lang="ltg", mirror=dumps.url)
    whole = run(Collect(source=source), Workspace(tmp_path / "whole"))
    code = (
        "import llmctl.data.collecting as c\n"
        "c.LEAST_BYTES = 500\n"
        "from pathlib import Path\n"
        "from llmctl.data.sources.wikipedia import Wikipedia\n"
        "from llmctl.stages.collect import Collect, run\n"
        "from llmctl.workspace import Workspace\n"
        f"source = Wikipedia(lang='ltg', mirror='{dumps.url}')\n"
        f"run(Collect(source=source), Workspace(Path(r'{tmp_path / 'cut'}')))\n"
    )
    second = "/other/mediawiki_content_current/ltgwiki/2026-11-01/xml/bzip2/"
    second += "ltgwiki-2026-11-01-p21p40.xml.bz2"

    def killing(request: Any) -> None:
        if request.command == "GET":
            child.send_signal(signal.SIGKILL)
        request.answer(200, headers={"Content-Length": str(len(dumps.pages[second]))})

    dumps.always[second] = killing
    child = subprocess.Popen([sys.executable, "-c", code], env=os.environ)
    child.wait(timeout=60)
    assert child.returncode == -signal.SIGKILL
    # The world has moved on meanwhile; the run that was begun goes on with what it had chosen.
    del dumps.always[second]
    dumps.pages["/other/mediawiki_content_current/ltgwiki/"] += b'<a href="2027-01-01/">'
    dumps.pages["/other/mediawiki_content_current/ltgwiki/2027-01-01/xml/bzip2/SHA256SUMS"] = b""
    monkeypatch.setattr("llmctl.stages.collect.ALONE_BYTES", 0)

    resumed = run(Collect(source=source, workers=2), Workspace(tmp_path / "cut"))

    assert files(resumed) == files(whole)


def test_a_refusal_leaves_a_draft_that_the_same_command_takes_up(
    dumps: Any, faults: Any, tmp_path: Path
):
    workspace = Workspace(tmp_path / "workspace")
    config = Collect(source=Wikipedia(lang="ltg", mirror=dumps.url, form="multistream"))
    refusing = faults["status"](403)
    path = "/ltgwiki/20261101/ltgwiki-20261101-pages-articles-multistream.xml.bz2"
    dumps.always[path] = refusing

    with pytest.raises(RemoteError, match="403") as caught:
        run(config, workspace)

    assert "--contact" in str(caught.value.hint)
    assert [name for _, name, _ in workspace.drafts()] == ["wikipedia-ltg"]
    del dumps.always[path]
    assert isinstance(run(config, workspace), Artifact)
