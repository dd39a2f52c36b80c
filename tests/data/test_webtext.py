"""WebText: links that were voted for, fetched as their hosts allow; answers with attribution."""

import bz2
import json
import lzma
from pathlib import Path
from typing import Any

import py7zr
import pytest
import zstandard

from llmctl.data.document import Document, Rejected
from llmctl.data.fetching.client import Client
from llmctl.data.fetching.network import Network
from llmctl.data.sources.webtext import WebText
from llmctl.data.webpages.extraction import Extractor
from llmctl.data.webtext.links import canonical, gather, refusal
from llmctl.data.webtext.pages import fetch_pages
from llmctl.errors import ConfigError, DataError, RemoteError
from llmctl.stages.collect import Collect, run
from llmctl.workspace import Artifact, Workspace

PAGE = (
    "<html><head><title>{0}</title></head><body><article>"
    + "<p>The river {0} rises in the hills behind the town and turns twice at the mill.</p>" * 8
    + "</article></body></html>"
)


def submission(url: str, score: int = 5, **more: Any) -> dict[str, Any]:
    return {"url": url, "score": score, "is_self": False} | more


def dump(path: Path, rows: list[dict[str, Any]], pack: Any = bytes) -> Path:
    path.write_bytes(pack("".join(json.dumps(row) + "\n" for row in rows).encode()))
    return path


def read(source: WebText) -> tuple[list[Document], list[Rejected]]:
    found = [one for part in source.parts() for one in source.read(part)]
    documents = [one for one in found if isinstance(one, Document)]
    return documents, [one for one in found if isinstance(one, Rejected)]


def wide(data: bytes) -> bytes:
    """zstandard as Reddit's dumps use it: it looks back further than programs usually allow."""
    knobs = zstandard.ZstdCompressionParameters.from_level(3, window_log=28)
    machine = zstandard.ZstdCompressor(compression_params=knobs).compressobj()
    return machine.compress(data) + machine.flush()


@pytest.mark.parametrize(
    ("ending", "pack"),
    [("jsonl", bytes), ("xz", lzma.compress), ("bz2", bz2.compress), ("zst", wide)],
)
def test_scores_are_summed_over_all_ways_to_write_an_address(
    tmp_path: Path, ending: str, pack: Any
):
    rows = [
        submission("http://www.example.org/a?utm_source=x&id=1#top", 2),
        submission("https://example.org/a?id=1", 1),
        submission("https://example.org/b", 2),
        submission("https://en.wikipedia.org/wiki/Riga", 90),
        submission("https://i.imgur.com/x.jpg", 90),
        submission("https://example.org/c.png", 90),
        submission("https://reddit.com/r/x", 90, is_self=True),
        submission("http://", 90),
        {"title": "none"},
    ]

    links = gather([dump(tmp_path / f"RS.{ending}", rows, pack)])

    assert links.chosen(3) == [("https://example.org/a?id=1", 3)] or links.chosen(3) == [
        ("http://www.example.org/a?id=1", 3)
    ]
    assert links.left_out == {
        "no article": 2,
        "media": 1,
        "no link": 1,
        "no address": 1,
        "no submission": 1,
    }


def test_the_order_of_submissions_does_not_matter(tmp_path: Path):
    rows = [submission("http://www.example.org/a", 2), submission("https://example.org/a/", 2)]

    one = gather([dump(tmp_path / "a.jsonl", rows)]).chosen(3)
    other = gather([dump(tmp_path / "b.jsonl", rows[::-1])]).chosen(3)

    assert one == other
    assert len(one) == 1


def test_addresses_are_made_one_without_changing_the_page():
    assert (
        canonical("https://EXAMPLE.org:443/A%20b?x=1&fbclid=2") == "https://example.org/A%20b?x=1"
    )
    assert refusal("javascript:alert(1)") == "no address"
    assert refusal("https://notreddit.com/a") == ""


def test_real_submissions_are_read(shared_data: Path):
    links = gather([shared_data / "webtext/RS_v2_2005-07.xz"])

    chosen = links.chosen(3)
    assert len(chosen) > 500
    assert not any("&amp;" in url or "reddit.com" in url for url, _ in chosen)
    assert links.left_out["no submission"] == 0


def test_a_bomb_of_submissions_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("llmctl.data.webtext.links.FREE_BYTES", 1000)
    (tmp_path / "RS.zst").write_bytes(zstandard.compress(b"\n" * 50_000_000))

    assert [one.reason for one in gather([tmp_path / "RS.zst"]).damage] == ["bomb"]


SILENT = [f"127.0.0.{number}:9" for number in (1, 2, 3)]  # where nobody listens


def polite(web: Any) -> Client:
    trusted = frozenset([web.host, *SILENT])
    return Client(trusted=trusted, sleep=lambda _: None, tries=2, connections=1)


def visit(web: Any, *paths: str) -> list[Document | Rejected]:
    links = [(path if "//" in path else f"{web.url}{path}", 5) for path in paths]
    return list(fetch_pages(polite(web), links, Extractor("fast"), sleep=lambda _: None))


def test_a_page_becomes_a_document_and_nothing_stops_the_others(web: Any, faults: Any):
    web.pages["/robots.txt"] = b"User-agent: *\nDisallow: /private"
    web.pages["/a"] = PAGE.format("Aa").encode()
    web.pages["/private/b"] = PAGE.format("Bb").encode()
    web.pages["/c.pdf"] = b"%PDF-"
    web.types["/c.pdf"] = "application/pdf"
    web.pages["/huge"] = bytes(6 * 2**20)
    web.always["/refused"] = faults["status"](403)
    web.always["/broken"] = faults["status"](500)
    web.always["/in"] = faults["redirect"]("http://169.254.169.254/latest/meta-data/")
    web.always["/around"] = faults["redirect"](f"{web.url}/private/b")
    web.always["/loop"] = faults["redirect"](f"{web.url}/loop")

    document, *rest = visit(
        web, "/a", "/private/b", "/c.pdf", "/huge", "/refused", "/broken", "/in", "/around",
        "/loop", "/none", f"http://{SILENT[0]}/",
    )  # fmt: skip

    assert isinstance(document, Document)
    assert document.text.startswith("The river Aa rises")
    assert document.meta == {"title": "Aa", "score": "5"}
    assert document.url == f"{web.url}/a"
    assert [one.reason for one in rest if isinstance(one, Rejected)] == [
        "robots.txt", "no HTML", "too large", "refused", "no answer", "private address",
        "robots.txt", "no answer", "not found", "no answer",
    ]  # fmt: skip
    assert web.asked("/private/b") == []


def test_a_lost_network_is_not_taken_for_pages_that_are_gone(web: Any):
    with pytest.raises(RemoteError, match="none of 3 hosts"):
        visit(web, *(f"http://{host}/" for host in SILENT))


def test_pages_are_collected_once_a_second_from_their_host(web: Any, tmp_path: Path):
    for name in "ab":
        web.pages[f"/{name}"] = PAGE.format(name).encode()
    rows = [submission(f"{web.url}/{name}") for name in "ab"]
    given = str(dump(tmp_path / "RS.jsonl", rows))
    source = WebText(input_=given, extract="fast", network=Network(trust=(web.host,)))

    made = run(Collect(source=source), Workspace(tmp_path / "workspace"))

    assert isinstance(made, Artifact)
    assert made.facts["documents"] == 2
    moments = [moment for path, _, moment in web.requests if path in ("/a", "/b")]
    assert moments[1] - moments[0] > 0.9


POSTS = """\ufeff<?xml version="1.0" encoding="utf-8"?>
<posts>
  <row Id="1" PostTypeId="1" AcceptedAnswerId="3" CreationDate="2015-01-27T20:09:32" Score="20"
   Body="&lt;p&gt;How should I store &lt;b&gt;coffee&lt;/b&gt;?&lt;/p&gt;" OwnerUserId="4"
   Title="Storing coffee" Tags="&lt;storage&gt;&lt;beans&gt;" />
  <row Id="2" PostTypeId="2" ParentId="1" CreationDate="2019-01-28" Score="9"
   Body="&lt;p&gt;In a dark jar.&lt;/p&gt;" OwnerDisplayName="Ada" />
  <row Id="3" PostTypeId="2" ParentId="1" CreationDate="2015-01-29" Score="2"
   Body="&lt;p&gt;In a bag.&lt;/p&gt;" OwnerUserId="6" />
  <row Id="4" PostTypeId="1" CreationDate="2015-01-27" Score="1" Body="x" Title="Unanswered" />
  <row Id="1000000001" PostTypeId="1" CreationDate="2024-01-01" Score="5" Body="false" Title="F" />
  <row Id="1000000010" PostTypeId="2" ParentId="1" CreationDate="2024-01-01" Score="99" Body="F" />
  <row Id="x" />
</posts>
"""


@pytest.mark.parametrize("ending", ["xml", "7z"])
def test_a_question_is_joined_with_its_best_answer_and_keeps_its_authors(
    tmp_path: Path, ending: str
):
    plain = tmp_path / "coffee.stackexchange.com" / "Posts.xml"
    plain.parent.mkdir()
    plain.write_text(POSTS, encoding="utf-8")
    given = plain
    if ending == "7z":
        given = tmp_path / "coffee.stackexchange.com.7z"
        with py7zr.SevenZipFile(given, "w") as archive:
            archive.write(plain, "Posts.xml")

    documents, rejected = read(WebText(stackexchange=str(given)))

    (document,) = documents
    assert document.text == "Storing coffee\n\nHow should I store coffee?\n\nIn a dark jar."
    assert document.url == "https://coffee.stackexchange.com/q/1"
    assert document.licence == "CC-BY-SA-4.0"
    assert document.meta["answered by"] == "Ada"
    assert document.meta["asked by"] == "4"
    assert document.meta["answer"] == "https://coffee.stackexchange.com/a/2"
    reasons = sorted(one.reason for one in rejected)
    assert reasons == ["bad row", "no answer", "planted row", "planted row"]


@pytest.mark.parametrize(
    ("file", "site", "least"),
    [
        ("coffee", "coffee.stackexchange.com", 150),
        ("matheducators", "matheducators.stackexchange.com", 380),
    ],
)
def test_real_posts_are_read(shared_data: Path, file: str, site: str, least: int):
    given = shared_data / f"webtext/{file}.stackexchange.Posts.xml"

    documents, rejected = read(WebText(stackexchange=str(given)))

    assert len(documents) >= least
    assert {one.reason for one in rejected} <= {"no answer"}
    assert not any("<p>" in one.text or "&lt;" in one.text for one in documents)
    assert documents[0].url.startswith(f"https://{site}/q/")


def test_an_entity_bomb_in_posts_is_stopped(tmp_path: Path):
    bomb = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 50}">' for n in range(1, 9))
    text = f'<!DOCTYPE p [<!ENTITY e0 "ha">{bomb}]><posts><row Id="1" Body="&e8;" /></posts>'
    (tmp_path / "Posts.xml").write_text(text)

    documents, rejected = read(WebText(stackexchange=str(tmp_path)))

    assert documents == []
    assert [one.reason for one in rejected] == ["damaged XML"]


def test_what_to_give_is_said_where_nothing_was_given(tmp_path: Path):
    with pytest.raises(ConfigError) as caught:
        WebText()
    assert "academictorrents" in str(caught.value.hint)

    given = dump(tmp_path / "RS.jsonl", [submission("https://example.org", 1)])
    with pytest.raises(DataError, match="score of 3"):
        WebText(input_=str(given)).parts()
