"""Papers: articles by their sections, harvested day by day, with what was left out counted."""

from pathlib import Path
from typing import Any

import pytest

from llmctl.data.document import Document, Rejected
from llmctl.data.sources.papers import Papers
from llmctl.errors import ConfigError, RemoteError
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
