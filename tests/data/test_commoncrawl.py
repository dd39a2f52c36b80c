"""Common Crawl: every page once, broken records counted, refusals heeded."""

import errno
import gzip
import json
import re
import socket
import sys
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from llmctl.data.document import Document, Rejected
from llmctl.data.sources.commoncrawl import CommonCrawl
from llmctl.data.sources.webtext import WebText
from llmctl.data.webpages.extraction import Extractor
from llmctl.errors import DataError, DependencyError, RemoteError
from llmctl.stages.collect import Collect, run
from llmctl.workspace import Artifact, Workspace

SENTENCE = "The river rises in the hills behind the town and turns twice before the mill. "
PAGE = (
    "<html><head><title>The river &amp; the town</title></head><body><nav><a href='/'>Home</a>"
    "<a href='/b'>About</a></nav><article><h1>The river</h1>"
    + "".join(f"<p>{number}. {SENTENCE * 4}</p>" for number in range(5))
    + "</article><footer>All rights reserved</footer></body></html>"
)


def record(
    number: int, body: bytes, kind: str = "response", head: str = "", url: str = ""
) -> bytes:
    content = "application/http; msgtype=response" if kind == "response" else "text/plain"
    headers = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Date: 2026-07-10T00:00:00Z\r\n"
        f"WARC-Record-ID: <urn:uuid:{number:08d}>\r\n"
        f"WARC-Target-URI: {url or f'https://example.org/{number}'}\r\n"
        f"Content-Type: {content}\r\n"
    )
    if kind == "response":
        body = (head or "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n").encode() + b"\r\n" + body
    return f"{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body + b"\r\n\r\n"


def archive(records: list[bytes]) -> bytes:
    return b"".join(map(gzip.compress, records))


WET = [record(number, f"{number} {SENTENCE}".encode(), "conversion") for number in range(20)]


def read(source: CommonCrawl) -> tuple[list[Document], list[Rejected]]:
    found = [one for part in source.parts() for one in source.read(part)]
    documents = [one for one in found if isinstance(one, Document)]
    return documents, [one for one in found if isinstance(one, Rejected)]


def read_bytes(folder: Path, content: bytes, name: str = "a.warc.gz") -> Any:
    (folder / name).write_bytes(content)
    return read(CommonCrawl(input_=str(folder / name), extract="fast"))


@pytest.mark.parametrize("extract", ["quality", "fast"])
def test_a_page_becomes_its_main_text(tmp_path: Path, extract: Any):
    (tmp_path / "a.warc.gz").write_bytes(archive([record(1, PAGE.encode())]))

    documents, _ = read(CommonCrawl(input_=str(tmp_path), extract=extract))

    assert documents[0].id == "commoncrawl/00000001"
    assert documents[0].url == "https://example.org/1"
    assert documents[0].time == "2026-07-10T00:00:00Z"
    assert documents[0].meta["title"] == "The river & the town"
    assert "Common Crawl" in documents[0].licence
    assert documents[0].text.count("turns twice before the mill") == 20
    assert "Home" not in documents[0].text
    assert "All rights" not in documents[0].text


def test_what_is_no_page_is_counted_by_what_it_is(tmp_path: Path):
    records = [
        record(1, b"moved", head="HTTP/1.1 301 Moved\r\nContent-Type: text/html\r\n"),
        record(2, b"\x89PNG", head="HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n"),
        record(3, b"<html></html>"),
        record(4, PAGE.encode()),
    ]

    documents, rejected = read_bytes(tmp_path, archive(records))

    assert len(documents) == 1
    assert [one.reason for one in rejected] == ["status 301", "no HTML", "empty"]


@pytest.mark.parametrize("charset", ["windows-1251", "shift_jis", "iso-8859-1"])
@pytest.mark.parametrize("said", ["http", "meta"])
def test_a_page_is_decoded_as_it_or_its_server_says(tmp_path: Path, charset: str, said: str):
    words = {
        "windows-1251": "Река берёт начало",
        "shift_jis": "川は丘から流れる",
        "iso-8859-1": "Où l’été naît".replace("’", "'"),
    }[charset]
    page = PAGE.replace("The river rises", words)
    kind = f"text/html; charset={charset}" if said == "http" else "text/html"
    if said == "meta":
        page = page.replace("<head>", f"<head><meta charset='{charset}'>")
    content = record(1, page.encode(charset), head=f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n")

    assert words in read_bytes(tmp_path, archive([content]))[0][0].text


def test_bodies_in_chunks_and_packed_are_unpacked(tmp_path: Path):
    body = PAGE.encode()
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"
    records = [
        record(1, chunked, head=f"{head}Transfer-Encoding: chunked\r\n"),
        record(2, gzip.compress(body), head=f"{head}Content-Encoding: gzip\r\n"),
        record(3, body, head=f"{head}Transfer-Encoding: chunked\r\n"),
    ]

    documents, rejected = read_bytes(tmp_path, archive(records))

    assert len(documents) == 2
    assert len({one.text for one in documents}) == 1
    assert len(rejected) == 1  # which says that it comes in chunks, and does not


def test_a_broken_record_costs_no_other(tmp_path: Path):
    members = [gzip.compress(one) for one in WET]
    members[7] = members[7][:60] + b"\0" * 40 + members[7][100:]

    documents, rejected = read_bytes(tmp_path, b"".join(members), "a.wet.gz")

    assert [one.id for one in documents] == [
        f"commoncrawl/{number:08d}" for number in range(20) if number != 7
    ]
    assert rejected
    assert {one.reason for one in rejected} <= {"damaged record", "truncated record"}


def test_an_archive_that_ends_within_a_record_is_told(tmp_path: Path):
    members = [gzip.compress(one) for one in WET[:3]]
    content = b"".join(members)[:-20]

    documents, rejected = read_bytes(tmp_path, content, "a.wet.gz")

    assert len(documents) == 2
    assert [one.reason for one in rejected] == ["truncated record"]


def test_a_bomb_is_stopped_with_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("llmctl.data.webpages.warc.MOST_RECORD", 2**20)
    content = archive([record(1, bytes(2 * 2**20), "conversion")])

    documents, rejected = read_bytes(tmp_path, content)

    assert documents == []
    assert [one.reason for one in rejected] == ["bomb"]


@pytest.mark.parametrize(
    ("file", "pages"),
    [
        ("cc-main-2020-34-fragment.warc.gz", 16),
        ("wget-sample-0000.warc.gz", 22),
        ("whirlwind.warc.gz", 1),
        ("whirlwind.warc.wet.gz", 1),
        ("warcio/example-bad-non-chunked.warc.gz", 1),
        ("warcio/example-iana.org-chunked.warc", 1),
        ("warcio/example-wrong-chunks.warc.gz", 1),
        ("warcio/example.warc.gz", 1),
        ("../derived/cc-main-2020-34-fragment.warc.wet.gz", 16),
    ],
)
def test_real_archives_are_read(shared_data: Path, file: str, pages: int):
    source = CommonCrawl(input_=str(shared_data / "commoncrawl" / file), extract="fast")

    documents, rejected = read(source)

    assert len(documents) == pages
    assert rejected == []
    assert not any(one.url.startswith("<") for one in documents)


@pytest.mark.parametrize(
    "file", ["cc-fragment-clipped.warc.gz", "warcio/example-trunc.warc", "warcio/example.arc.gz"]
)
def test_real_archives_that_are_broken_are_told(shared_data: Path, file: str):
    source = CommonCrawl(input_=str(shared_data / "commoncrawl" / file), extract="fast")

    assert read(source)[1]


SHINGLE = 4


def shingles(text: str) -> Counter[tuple[str, ...]]:
    words = re.findall(r"\w+", text)
    return Counter(
        tuple(words[at : at + SHINGLE]) for at in range(max(len(words) - SHINGLE + 1, 1))
    )


@pytest.mark.parametrize(("way", "least"), [("quality", 0.97), ("fast", 0.93)])
def test_the_main_text_of_real_pages_is_found(shared_data: Path, way: str, least: float):
    """F1 over 4-grams of words, a page as heavy as another, as the benchmark of the pages does."""
    truth = json.loads(
        gzip.decompress((shared_data / "extraction/ground-truth.json.gz").read_bytes())
    )
    extractor = Extractor(way)
    right = wrong = missed = 0.0
    with tarfile.open(shared_data / "extraction/pages.tar") as pages:
        for entry in pages:
            name = Path(entry.name).name.partition(".")[0]
            file = pages.extractfile(entry)
            if file is None or name not in truth:
                continue
            found = shingles(extractor.extract(gzip.decompress(file.read())).text)
            meant = shingles(truth[name]["articleBody"])
            both, total = (found & meant).total(), (found | meant).total()
            right += both / total
            wrong += (found - meant).total() / total
            missed += (meant - found).total() / total

    assert 2 * right / (2 * right + wrong + missed) >= least


def test_archives_of_text_need_no_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "trafilatura", None)
    (tmp_path / "a.wet.gz").write_bytes(archive(WET))

    assert len(read(CommonCrawl(input_=str(tmp_path)))[0]) == 20


def test_without_the_extra_the_quality_way_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "trafilatura", None)

    with pytest.raises(DependencyError) as caught:
        Extractor("quality").extract(PAGE.encode())

    assert "llmctl[web]" in str(caught.value.hint)


@pytest.fixture
def crawl(web: Any) -> Any:
    """Two crawls of four WET files, and an index that knows one page."""
    ids = ["CC-MAIN-2026-30", "CC-MAIN-2025-47"]
    web.pages["/collinfo.json"] = json.dumps([{"id": one} for one in ids]).encode()
    paths = [f"crawl-data/CC-MAIN-2026-30/wet/{number}.warc.wet.gz" for number in range(4)]
    web.pages["/crawl-data/CC-MAIN-2026-30/wet.paths.gz"] = gzip.compress("\n".join(paths).encode())
    for number, path in enumerate(paths):
        web.pages[f"/{path}"] = archive(WET[number * 5 : number * 5 + 5])
    page = gzip.compress(record(7, PAGE.encode(), url="https://example.org/page"))
    web.pages["/warc/a.warc.gz"] = archive(WET) + page + archive(WET)
    row = {
        "timestamp": "20260710",
        "filename": "warc/a.warc.gz",
        "offset": str(len(archive(WET))),
        "length": str(len(page)),
    }

    def index(request: Any) -> None:
        known = "example.org%2Fpage" in request.path
        request.answer(200 if known else 404, json.dumps(row).encode() + b"\n" if known else b"")

    web.always["/CC-MAIN-2026-30-index"] = index
    return web


def source_of(web: Any, **knobs: Any) -> CommonCrawl:
    return CommonCrawl(mirror=web.url, index=web.url, extract="fast", **knobs)


def test_files_of_the_latest_crawl_are_taken_evenly_from_all_of_it(crawl: Any, tmp_path: Path):
    made = run(Collect(source=source_of(crawl, segments=2)), Workspace(tmp_path / "workspace"))

    assert isinstance(made, Artifact)
    assert made.facts["documents"] == 10
    fetched = [path for path, _, _ in crawl.requests if path.endswith(".wet.gz")]
    assert sorted(path.rpartition("/")[2][0] for path in fetched) == ["0", "2"]


def test_pages_are_looked_up_and_fetched_by_their_range(crawl: Any, tmp_path: Path):
    (tmp_path / "urls.txt").write_text("https://example.org/page\nhttps://example.org/none\n")
    source = source_of(crawl, urls=tmp_path / "urls.txt").fetching_into(tmp_path)

    documents, rejected = read(source)

    assert [one.url for one in documents] == ["https://example.org/page"]
    assert [(one.where, one.reason) for one in rejected] == [
        ("https://example.org/none", "not in the crawl")
    ]


def test_back_pressure_is_waited_out_and_a_refusal_ends_the_work(
    crawl: Any, faults: Any, tmp_path: Path
):
    path = "/crawl-data/CC-MAIN-2026-30/wet/1.warc.wet.gz"
    crawl.faults["/crawl-data/CC-MAIN-2026-30/wet/0.warc.wet.gz"] = [
        faults["status"](503, Retry_After="0"), faults["cut"](archive(WET[:5]), 400), None,
    ]  # fmt: skip
    crawl.always[path] = faults["status"](403)
    workspace = Workspace(tmp_path / "workspace")

    with pytest.raises(RemoteError, match="403"):
        run(Collect(source=source_of(crawl, segments=4), workers=1), workspace)

    assert len(crawl.asked(path)) == 1
    del crawl.always[path]
    made = run(Collect(source=source_of(crawl, segments=4), workers=1), workspace)
    assert isinstance(made, Artifact)
    assert made.facts["documents"] == 20


@pytest.mark.slow
def test_a_lost_network_leaves_a_draft_that_goes_on_to_the_same_bytes(
    crawl: Any, faults: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = "/crawl-data/CC-MAIN-2026-30/wet/2.warc.wet.gz"
    knobs: dict[str, Any] = {"source": source_of(crawl, segments=4), "workers": 1}
    whole = run(Collect(**knobs, name="whole"), Workspace(tmp_path / "workspace"))
    is_lost: list[bool] = []
    connect = socket.socket.connect

    def lost(request: Any) -> None:
        faults["cut"](archive(WET[10:15]), 400)(request)
        is_lost.append(True)

    def unreachable(self: socket.socket, address: Any) -> None:
        if is_lost:
            raise OSError(errno.ENETUNREACH, "Network is unreachable")
        connect(self, address)

    crawl.faults[path] = [lost]
    monkeypatch.setattr(socket.socket, "connect", unreachable)
    workspace = Workspace(tmp_path / "workspace")
    with pytest.raises(RemoteError, match="unreachable") as refusal:
        run(Collect(**knobs, name="cut"), workspace)
    is_lost.clear()
    made = run(Collect(**knobs, name="cut"), workspace)

    assert "the same command later goes on from there" in str(refusal.value.hint)
    assert isinstance(made, Artifact)
    assert isinstance(whole, Artifact)
    assert made.manifest.files == whole.manifest.files
    assert crawl.asked(path)[-1]["Range"] == "bytes=400-"


def test_a_crawl_that_is_not_there_is_told(crawl: Any):
    with pytest.raises(DataError, match="CC-MAIN-1999-01"):
        source_of(crawl, crawl="CC-MAIN-1999-01").parts()
    with pytest.raises(DataError, match="newest"):
        source_of(crawl, crawl="newest").parts()


def test_a_refusal_stops_the_other_processes_too(crawl: Any, faults: Any, tmp_path: Path):
    paths = [f"crawl-data/CC-MAIN-2026-30/wet/{number}.warc.wet.gz" for number in range(40)]
    packed = gzip.compress("\n".join(paths).encode())
    crawl.pages["/crawl-data/CC-MAIN-2026-30/wet.paths.gz"] = packed
    for path in paths:
        crawl.always[f"/{path}"] = faults["status"](403)

    with pytest.raises(RemoteError, match="403"):
        run(Collect(source=source_of(crawl, segments=40), workers=2), Workspace(tmp_path))

    assert len([path for path, _, _ in crawl.requests if path.endswith(".wet.gz")]) < 10


def test_pages_that_were_voted_for_are_found_in_a_crawl(crawl: Any, tmp_path: Path):
    rows = [{"url": f"https://example.org/{name}", "score": 5} for name in ("page", "none")]
    (tmp_path / "RS.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = WebText(
        input_=str(tmp_path / "RS.jsonl"), via="commoncrawl", extract="fast", mirror=crawl.url,
        index=crawl.url,
    )  # fmt: skip

    found = [one for part in source.parts() for one in source.read(part)]

    assert sorted(type(one).__name__ for one in found) == ["Document", "Rejected"]
    assert next(one.url for one in found if isinstance(one, Document)).endswith("/page")
