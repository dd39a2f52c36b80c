"""Papers: by their sections, harvested day by day, open ones alone, what was left out counted."""

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from llmctl.data.document import Document, Rejected
from llmctl.data.sources.papers import PAUSES, Papers
from llmctl.errors import ConfigError, DataError, RemoteError
from llmctl.stages.collect import Collect, run
from llmctl.workspace import Artifact, Workspace

ARTICLE = """<article xmlns:xlink="http://www.w3.org/1999/xlink"><front>
<journal-meta><journal-title>Rivers</journal-title></journal-meta><article-meta>
<article-id pub-id-type="doi">10.1/abc</article-id>
<title-group><article-title>On <italic>mills</italic></article-title></title-group>
<contrib-group><contrib><name><surname>Lovelace</surname><given-names>Ada</given-names></name>
</contrib></contrib-group><pub-date><day>2</day><month>1</month><year>2026</year></pub-date>
<permissions><license xlink:href="https://creativecommons.org/licenses/by/4.0/"><p>CC</p></license>
</permissions><abstract><p>Mills turn.</p></abstract></article-meta></front><body>
<sec><title>Methods</title><p>We watched<xref>1</xref> mills [<xref>2</xref>, <xref>3</xref>] turn
at <inline-formula><tex-math>\\usepackage{x}
\\begin{document}$$v = 3$$\\end{document}</tex-math></inline-formula> and
<inline-formula><math><mi>x</mi></math></inline-formula>.</p>
<fig><caption><p>A mill.</p></caption></fig>
<table-wrap><table><tr><td>9</td></tr></table></table-wrap>
<disp-formula><math><mi>a long formula of many many letters</mi></math></disp-formula>
<list><list-item><p>One</p></list-item></list></sec></body>
<back><ref-list><ref>Old paper</ref><ref>Older paper</ref></ref-list></back></article>"""
TEXT = "On mills\n\nMills turn.\n\nMethods\n\nWe watched mills turn at $v = 3$ and x.\n\n- One"


def read(source: Papers) -> tuple[list[Document], list[Rejected]]:
    found = [one for part in source.parts() for one in source.read(part)]
    documents = [one for one in found if isinstance(one, Document)]
    return documents, [one for one in found if isinstance(one, Rejected)]


@pytest.mark.parametrize("ending", ["nxml", "xml"])
def test_an_article_is_read_by_its_sections(tmp_path: Path, ending: str):
    (tmp_path / f"a.{ending}").write_text(ARTICLE)

    (document,), _ = read(Papers(input_=str(tmp_path)))

    assert document.text == TEXT
    assert document.url == "https://doi.org/10.1/abc"
    assert document.licence == "https://creativecommons.org/licenses/by/4.0/"
    assert document.time == "2026-01-02"
    assert document.source == "papers"
    assert document.meta["authors"] == "Ada Lovelace"
    assert document.meta["journal"] == "Rivers"


def test_what_is_left_out_is_counted(tmp_path: Path):
    (tmp_path / "a.nxml").write_text(ARTICLE)

    _, rejected = read(Papers(input_=str(tmp_path)))

    assert {one.reason: one.detail for one in rejected} == {
        "left out figures": "1", "left out formulae": "1", "left out references": "2",
        "left out tables": "1",
    }  # fmt: skip


@pytest.mark.parametrize("content", ["<broken", "<html><p>x</p></html>", "<article/>"])
def test_what_is_no_article_is_told(tmp_path: Path, content: str):
    (tmp_path / "a.xml").write_text(content)
    (tmp_path / "b.nxml").write_text(content)

    documents, rejected = read(Papers(input_=str(tmp_path)))

    assert documents == []
    assert len(rejected) == 2


def answer(records: str, token: str = "") -> bytes:
    more = f"<resumptionToken>{token}</resumptionToken>"
    return (
        '<OAI-PMH xmlns="http://www.openarchives.org/OAI/2.0/"><ListRecords>'
        f"{records}{more}</ListRecords></OAI-PMH>"
    ).encode()


def complaint(code: str) -> bytes:
    root = '<OAI-PMH xmlns="http://www.openarchives.org/OAI/2.0/">'
    return f'{root}<error code="{code}">no</error></OAI-PMH>'.encode()


def record(number: int, article: str = ARTICLE) -> str:
    body = f"<metadata>{article}</metadata>" if article else ""
    return (
        f"<record><header><identifier>oai:pubmedcentral.nih.gov:{number}</identifier></header>"
        f"{body}</record>"
    )


@pytest.fixture
def archive(web: Any) -> Any:
    """An archive with two pages on one day and nothing on the next."""

    def oai(request: Any) -> None:
        if "2026-11-02" in request.path:
            request.answer(200, complaint("noRecordsMatch"))
        elif "resumptionToken=more" in request.path:
            request.answer(200, answer(record(3)))
        else:
            request.answer(200, answer(record(1) + record(2, ""), "more"))

    web.always["/oai"] = oai
    return web


def test_the_articles_of_days_are_harvested_page_by_page(archive: Any, tmp_path: Path):
    source = Papers(since="2026-11-01", until="2026-11-02", endpoint=f"{archive.url}/oai")

    made = run(Collect(source=source), Workspace(tmp_path))

    assert isinstance(made, Artifact)
    assert made.facts["documents"] == 2
    assert made.facts["dropped"] == {"no article": 1}


def test_an_archive_that_complains_is_heard(web: Any):
    web.pages["/oai"] = complaint("badSet")

    with pytest.raises(RemoteError, match="badSet"):
        read(Papers(since="2026-11-01", until="2026-11-01", endpoint=f"{web.url}/oai"))


def test_days_that_are_none_are_refused():
    with pytest.raises(ConfigError, match="monday"):
        Papers(since="monday")
    with pytest.raises(ConfigError, match="behind"):
        Papers(since="2026-11-02", until="2026-11-01").parts()


CC_BY = "http://creativecommons.org/licenses/by/4.0/"
NOT_OPEN = "http://arxiv.org/licenses/nonexclusive-distrib/1.0/"
LATEX = {
    "main.tex": r"\documentclass{article}\usepackage{ours}\begin{document}\input{parts/one}\us{}"
    r" end.\bibliography{x}\end{document}",
    "parts/one.tex": r"\section{One} The first part.",
    "ours.sty": r"\newcommand{\us}{The authors}",
    "main.bbl": r"\bibitem{a} A. \bibitem{b} B.",
    "figure.png": "\0\1\2",
    "response.tex": r"\documentclass{letter}\begin{document}Dear reviewer\end{document}",
}


def package(files: dict[str, str]) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w:gz") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text.encode())
            tar.addfile(entry, io.BytesIO(text.encode()))
    return sink.getvalue()


def metadata(number: str, licence: str, categories: str = "cs.CL stat.ML") -> str:
    return (
        f"<record><header><identifier>oai:arXiv.org:{number}</identifier></header><metadata>"
        f'<arXiv xmlns="http://arxiv.org/OAI/arXiv/"><id>{number}</id><created>2026-10-30</created>'
        "<authors><author><keyname>Lovelace</keyname><forenames>Ada</forenames></author></authors>"
        f"<title>On\n  mills</title><categories>{categories}</categories>"
        f"<license>{licence}</license></arXiv></metadata></record>"
    )


@pytest.fixture
def arxiv(web: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An arXiv of four papers on a day, and no need to be slow with it."""
    monkeypatch.setitem(PAUSES, "arxiv", 0.0)
    web.pages["/oai"] = answer(
        metadata("2610.00001", CC_BY)
        + metadata("2610.00002", NOT_OPEN)
        + metadata("2610.00003", CC_BY, "math.AG")
        + metadata("2610.00004", CC_BY)
        + "<record><header><identifier>oai:arXiv.org:9</identifier></header></record>"
    )
    web.pages["/src/2610.00001"] = package(LATEX)
    web.pages["/src/2610.00003"] = gzip.compress(b"\\section{Sheaves} Curves.")
    web.pages["/src/2610.00004"] = b"%PDF-1.7 and so on"
    return web


def from_arxiv(web: Any, **knobs: Any) -> Papers:
    day = {"since": "2026-11-01", "until": "2026-11-01"}
    places = {"endpoint": f"{web.url}/oai", "sources": f"{web.url}/src"}
    return Papers(**{"archive": "arxiv", **day, **places, **knobs})


def test_open_papers_of_arxiv_are_read_from_their_sources(arxiv: Any, tmp_path: Path):
    source = from_arxiv(arxiv).fetching_into(tmp_path)

    documents, rejected = read(source)

    first, second = documents
    assert first.id == "papers/2610.00001"
    assert first.text == "One\n\nThe first part. The authors end."
    assert (first.licence, first.time) == (CC_BY, "2026-10-30")
    assert first.url == "https://arxiv.org/abs/2610.00001"
    assert first.meta == {
        "title": "On mills", "authors": "Ada Lovelace", "categories": "cs.CL stat.ML",
        "left out references": "2",
    }  # fmt: skip
    assert second.text == "Sheaves\n\nCurves."
    assert sorted((one.reason, one.where) for one in rejected) == [
        ("PDF alone", "papers/2610.00004"),
        ("licence not open", "papers/2610.00002"),
        ("withdrawn", "oai:arXiv.org:9"),
    ]
    assert not arxiv.asked("/src/2610.00002")


def test_subjects_and_licences_can_be_chosen(arxiv: Any, tmp_path: Path):
    arxiv.pages["/src/2610.00002"] = package(LATEX)
    of_cs = from_arxiv(arxiv, subjects=("cs",)).fetching_into(tmp_path / "cs")
    of_all = from_arxiv(arxiv, licence="any").fetching_into(tmp_path / "all")

    assert [one.id for one in read(of_cs)[0]] == ["papers/2610.00001"]
    assert [one.licence for one in read(of_all)[0]] == [CC_BY, NOT_OPEN, CC_BY]


def test_arxiv_is_asked_once_in_three_seconds():
    assert PAUSES["arxiv"] == 3.0


def test_a_harvest_that_broke_off_fetches_no_source_again(arxiv: Any, faults: Any, tmp_path: Path):
    arxiv.faults["/src/2610.00003"] = [faults["status"](403)]
    source, workspace = from_arxiv(arxiv), Workspace(tmp_path)
    with pytest.raises(RemoteError, match="403"):
        run(Collect(source=source), workspace)

    made = run(Collect(source=source), workspace)

    assert isinstance(made, Artifact)
    assert made.facts["documents"] == 2
    assert len(arxiv.asked("/src/2610.00001")) == 1


def bulk(path: Path) -> None:
    """A file as arXiv's bulk archives are: a tar of packages, each packed by itself."""
    members = {
        "2610/2610.00001.gz": package(LATEX),
        "2610/2610.00002.gz": gzip.compress(b"\\section{Two} Not open."),
        "2610/2610.00003.pdf": b"%PDF-1.7",
        "9901/hep-th9901001.gz": gzip.compress(b"\\section{Old} Strings."),
    }
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


def test_a_bulk_archive_on_disk_is_read_by_the_licences_that_its_metadata_names(tmp_path: Path):
    (tmp_path / "src").mkdir()
    bulk(tmp_path / "src" / "arXiv_src_2610_001.tar")
    rows = [
        {"id": "2610.00001", "license": CC_BY, "categories": "cs.CL", "update_date": "2026-10-31"},
        {"id": "2610.00002", "license": None},
        {"id": "2610.00003", "license": CC_BY},
        {"id": "hep-th/9901001", "license": CC_BY},
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))

    documents, rejected = read(
        Papers(archive="arxiv", input_=str(tmp_path / "src"), metadata=tmp_path / "rows.jsonl")
    )

    assert [(one.id, one.time) for one in documents] == [
        ("papers/2610.00001", "2026-10-31"), ("papers/hep-th/9901001", ""),
    ]  # fmt: skip
    assert {one.reason for one in rejected} == {"no licence", "PDF alone"}


def test_packages_on_disk_without_metadata_are_read_only_on_demand(tmp_path: Path):
    (tmp_path / "2610.00001v2.tar.gz").write_bytes(package(LATEX))
    (tmp_path / "broken.tar.gz").write_bytes(package(LATEX)[:60])

    with pytest.raises(ConfigError, match="licence"):
        Papers(archive="arxiv", input_=str(tmp_path)).parts()
    documents, rejected = read(Papers(archive="arxiv", licence="any", input_=str(tmp_path)))

    assert [one.id for one in documents] == ["papers/2610.00001"]
    assert len(rejected) == 1


def test_metadata_that_is_none_is_refused(tmp_path: Path):
    (tmp_path / "a.tex").write_text("Text.")
    (tmp_path / "rows.jsonl").write_text("[1]")

    with pytest.raises(DataError, match=r"rows.jsonl is no metadata"):
        read(Papers(archive="arxiv", input_=str(tmp_path), metadata=tmp_path / "rows.jsonl"))
