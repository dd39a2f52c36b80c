"""Broken inputs by the hundred: each source tells what is wrong, and none falls over."""

import bz2
import gzip
import io
import json
import lzma
import random
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from llmctl.data.document import Document, Rejected
from llmctl.data.sources.commoncrawl import CommonCrawl
from llmctl.data.sources.files import Files
from llmctl.data.sources.papers import Papers
from llmctl.data.sources.webtext import WebText
from llmctl.data.sources.wikipedia import Wikipedia
from llmctl.errors import LlmctlError

SENTENCE = "The river rises in the hills behind the town and turns twice before the mill. "
PAGE = f"<html><head><title>R</title></head><body><p>{SENTENCE * 9}</p></body></html>"
HTTP = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n{PAGE}"
WARC = "".join(
    f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Record-ID: <urn:uuid:{number}>\r\n"
    f"WARC-Target-URI: https://example.org/{number}\r\nWARC-Date: 2026-07-10T00:00:00Z\r\n"
    f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(HTTP)}\r\n\r\n"
    f"{HTTP}\r\n\r\n"
    for number in range(4)
).encode()
WIKI = (
    '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/"><siteinfo><dbname>x</dbname>'
    "<base>https://x.wikipedia.org/wiki/M</base><namespaces/></siteinfo>"
    + "".join(
        f"<page><title>{number}</title><ns>0</ns><id>{number}</id><revision><id>1</id><text>"
        "'''R''' [[a|b]] {{convert|5|km}} {| x\n|}\n== H ==\n* {{lang|fr|l'eau}}&lt;ref&gt;x"
        "&lt;/ref&gt;[[File:a.jpg|thumb|c]]&lt;math&gt;x&lt;/math&gt;</text></revision></page>\n"
        for number in range(6)
    )
    + "</mediawiki>"
).encode()
REDDIT = "".join(
    json.dumps({"url": f"https://example.org/{number}", "score": 5, "is_self": False}) + "\n"
    for number in range(40)
).encode()
POSTS = (
    b'<posts><row Id="1" PostTypeId="1" Score="2" Title="T" Body="&lt;p&gt;a&lt;/p&gt;"'
    b' CreationDate="2015" /><row Id="2" PostTypeId="2" ParentId="1" Score="3" Body="b" /></posts>'
)
ARTICLE = (
    "<article><front><article-meta><title-group><article-title>T</article-title></title-group>"
    f"</article-meta></front><body><sec><title>S</title><p>{SENTENCE}</p></sec></body></article>"
).encode()
MESSAGE = (
    f"From: a@b.c\nSubject: =?utf-8?q?x?=\nDate: Thu, 01 Jan 2026 10:00:00 +0000\n\n{SENTENCE}"
)


def zipped(name: str, content: str) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return sink.getvalue()


WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
DOCX = zipped(
    "word/document.xml",
    f'<w:document xmlns:w="{WORD}"><w:body><w:p><w:r><w:t>{SENTENCE}</w:t></w:r></w:p>'
    "</w:body></w:document>",
)

LATEX = r"""\documentclass{article}\newcommand{\us}[1]{We #1}\title{T}\begin{document}
\section{S}\us{saw} $x$ \cite{a}\begin{equation}y\end{equation}\footnote{z}\end{document}"""


def tarred(name: str, content: str) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w:gz") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content.encode()))
    return sink.getvalue()


Make = Callable[[Path], Any]
CASES: dict[str, tuple[str, bytes, Make]] = {
    "warc": ("a.warc", WARC, lambda path: CommonCrawl(input_=str(path), extract="fast")),
    "warc.gz": (
        "a.warc.gz", gzip.compress(WARC),
        lambda path: CommonCrawl(input_=str(path), extract="fast"),
    ),
    "wiki.xml": ("a.xml", WIKI, lambda path: Wikipedia(input_=str(path))),
    "wiki.bz2": ("a.xml.bz2", bz2.compress(WIKI), lambda path: Wikipedia(input_=str(path))),
    "snapshot": (
        "a.ndjson", b'{"name":"R","article_body":{"wikitext":"x [[y]] {{z}}"}}\n' * 5,
        lambda path: Wikipedia(input_=str(path)),
    ),
    "reddit.jsonl": ("a.jsonl", REDDIT, lambda path: WebText(input_=str(path))),
    "reddit.zst": ("a.zst", zstandard.compress(REDDIT), lambda path: WebText(input_=str(path))),
    "reddit.xz": ("a.xz", lzma.compress(REDDIT), lambda path: WebText(input_=str(path))),
    "posts": ("Posts.xml", POSTS, lambda path: WebText(stackexchange=str(path))),
    "article": ("a.xml", ARTICLE, lambda path: Papers(input_=str(path))),
    "latex": ("a.tex", LATEX.encode(), lambda path: Files(paths=(str(path),))),
    "arxiv": (
        "a.tar.gz", tarred("a.tex", LATEX),
        lambda path: Papers(archive="arxiv", licence="any", input_=str(path)),
    ),
    "mail": ("a.eml", MESSAGE.encode(), lambda path: Files(paths=(str(path),))),
    "docx": ("a.docx", DOCX, lambda path: Files(paths=(str(path),))),
}  # fmt: skip


def mutated(content: bytes, random_: random.Random) -> bytes:
    """The content with some bytes changed, taken out, doubled or cut off."""
    data = bytearray(content)
    for _ in range(random_.randint(1, 6)):
        at = random_.randrange(len(data)) if data else 0
        match random_.randrange(6):
            case 0:
                data[at : at + 1] = bytes([random_.randrange(256)])
            case 1:
                del data[at : at + random_.randint(1, 40)]
            case 2:
                data[at:at] = data[at : at + random_.randint(1, 60)]
            case 3:
                del data[at:]
            case 4:
                data[at:at] = random_.choice(
                    (
                        b"\0" * 9,
                        b"<",
                        b"&x;",
                        b"]]>",
                        b"{{",
                        b"\xff\xfe",
                        b"9" * 30,
                        b"\r\n\r\n",
                        b"-1",
                    )
                )
            case _:
                data[at : at + 8] = random_.randbytes(8)
    return bytes(data)


@pytest.mark.parametrize("case", CASES)
def test_a_mutated_input_is_read_or_refused_and_never_falls_over(
    case: str, tmp_path: Path, request: pytest.FixtureRequest
):
    name, content, make = CASES[case]
    rounds = int(request.config.getoption("--mutations")) // len(CASES) + 1
    path = tmp_path / name

    for seed in range(rounds):
        path.write_bytes(mutated(content, random.Random(f"{case}{seed}")))
        try:
            source = make(path)
            found = [
                one
                for part in source.parts()
                if part.spec[0] != "pages"
                for one in source.read(part)
            ]
        except LlmctlError:
            continue
        for one in found:
            assert isinstance(one, Document | Rejected)
            if isinstance(one, Document):
                one.text.encode()
