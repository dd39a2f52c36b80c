"""Posts of a Stack Exchange site -> questions joined with their best answers, attribution kept."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]

from llmctl.data.document import Document, Rejected
from llmctl.data.formats.markup import visible_text
from llmctl.data.formats.passage import BLOCK, Unreadable
from llmctl.errors import DataError, DependencyError
from llmctl.registry import load

# Two false posts stand in each site's dump, to see who publishes it (meta.stackexchange 412018).
PLANTED = frozenset((1_000_000_001, 1_000_000_010))
# Since when a contribution is under which version (stackoverflow.com/help/licensing).
LICENCES = (("2018-05-02", "CC-BY-SA-4.0"), ("2011-04-08", "CC-BY-SA-3.0"), ("", "CC-BY-SA-2.5"))
SITE = re.compile(r"((?:[\w-]+\.)*(?:stackexchange|stackoverflow|superuser|serverfault|askubuntu"
                  r"|mathoverflow|stackapps))(\.com|\.net)?", re.IGNORECASE)  # fmt: skip
POSTS = "Posts.xml"
SEVEN_ZIP = b"7z\xbc\xaf\x27\x1c"
MOST_RATIO = 100
QUESTION, ANSWER = "1", "2"


@dataclass(slots=True)
class Post:
    """A question or an answer; `best` is the answer that a question is given."""

    id: int
    score: int
    body: str
    owner: str
    time: str
    title: str = ""
    tags: str = ""
    accepted: int = 0
    best: "Post | None" = None


def read_posts(path: Path, label: str) -> Iterator[Document | Rejected]:
    """The answered questions of a site by their number, and what was left out."""
    questions: dict[int, Post] = {}
    site = _site(path)
    with _opened(path) as file:
        try:
            yield from _gathered(file, questions, label)
        except Unreadable as damage:
            yield Rejected(where=label, reason=damage.reason, detail=damage.detail)
    for number in sorted(questions):
        question = questions.pop(number)
        if question.best is None:
            size = len(question.body)
            yield Rejected(where=f"{label}#{number}", reason="no answer", bytes=size)
        else:
            yield _document(question, question.best, site, label)


def _gathered(file: BinaryIO, questions: dict[int, Post], label: str) -> Iterator[Rejected]:
    for row in _rows(file):
        try:
            number, kind = int(row["Id"]), row.get("PostTypeId")
            parent = int(row.get("ParentId", 0))
            post = _post(number, row)
        except (KeyError, ValueError) as error:
            yield Rejected(where=label, reason="bad row", detail=str(error))
            continue
        if number in PLANTED or parent in PLANTED:
            yield Rejected(where=f"{label}#{number}", reason="planted row", bytes=len(post.body))
        elif kind == QUESTION:
            questions[number] = post
        elif kind == ANSWER and parent in questions:
            _give(questions[parent], post)


def _give(question: Post, answer: Post) -> None:
    """Keep the better of two answers: the higher score, of equals the accepted, the older one."""

    def worth(one: Post) -> tuple[int, bool, int]:
        return one.score, one.id == question.accepted, -one.id

    if question.best is None or worth(answer) > worth(question.best):
        question.best = answer


def _rows(file: BinaryIO) -> Iterator[dict[str, str]]:
    parser = etree.XMLPullParser(
        events=("end",), tag="row", resolve_entities=False, no_network=True, huge_tree=False
    )
    while block := file.read(BLOCK):
        try:
            parser.feed(block)
        except etree.XMLSyntaxError as error:
            yield from _read(parser)
            raise Unreadable("damaged XML", str(error)) from error
        yield from _read(parser)


def _read(parser: Any) -> Iterator[dict[str, str]]:
    for _, element in parser.read_events():
        yield dict(element.attrib)
        element.clear()
        while element.getprevious() is not None:
            del element.getparent()[0]


def _post(number: int, row: dict[str, str]) -> Post:
    return Post(
        id=number,
        score=int(row.get("Score", 0)),
        body=row.get("Body", ""),
        owner=row.get("OwnerDisplayName") or row.get("OwnerUserId", ""),
        time=row.get("CreationDate", ""),
        title=row.get("Title", ""),
        tags=" ".join(re.findall(r"[^<>|\s]+", row.get("Tags", ""))),
        accepted=int(row.get("AcceptedAnswerId", 0)),
    )


def _document(question: Post, answer: Post, site: str, label: str) -> Document | Rejected:
    where = f"{label}#{question.id}"
    try:
        asked, told = (visible_text(one.body)[0].strip() for one in (question, answer))
    except Unreadable as error:
        return Rejected(where=where, reason=error.reason, detail=error.detail)
    facts = {
        "title": question.title,
        "tags": question.tags,
        "score": str(answer.score),
        "asked by": question.owner,
        "answered by": answer.owner,
        "answer": f"https://{site}/a/{answer.id}" if site else str(answer.id),
    }
    newest = max(question.time, answer.time)
    return Document(
        id=f"stackexchange/{site or label}/{question.id}",
        text="\n\n".join(filter(None, (question.title, asked, told))),
        source="stackexchange",
        url=f"https://{site}/q/{question.id}" if site else "",
        licence=next(licence for since, licence in LICENCES if newest >= since),
        time=newest,
        meta={key: value for key, value in facts.items() if value},
    )


def _site(path: Path) -> str:
    """The host of the site, as the names of dumps say it: `coffee.stackexchange.Posts.xml`."""
    for name in (path.name, path.parent.name):
        found = SITE.search(name)
        if found:
            domain = found[1].lower()
            return domain + (found[2] or (".net" if domain == "mathoverflow" else ".com"))
    return ""


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The posts as a file: as they lie there, or out of the site's 7z."""
    with path.open("rb") as file:
        packed = file.read(len(SEVEN_ZIP)) == SEVEN_ZIP
    if not packed:
        with path.open("rb") as file:
            yield file
        return
    try:
        archive_class, factory = load("py7zr:SevenZipFile"), load("py7zr.io:BytesIOFactory")
    except ImportError as error:
        raise DependencyError("py7zr is not installed", hint="pip install py7zr") from error
    with archive_class(path) as archive:
        known = {one.filename: int(one.uncompressed or 0) for one in archive.list()}
        if POSTS not in known:
            raise DataError(f"there is no {POSTS} in {path}", hint=f"in it: {', '.join(known)}")
        most = max(path.stat().st_size * MOST_RATIO, 2**28)
        if known[POSTS] > most:
            raise DataError(f"{path} is a bomb: {POSTS} unpacks to more than {most:,} bytes")
        made = factory(most)
        archive.extract(targets=[POSTS], factory=made)
        yield made.get(POSTS)
