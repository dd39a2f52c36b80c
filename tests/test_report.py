import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from llmctl.report import Picture, Section, Table, Text, Tree, facts_table, write_report

HOSTILE = "<script>alert('x')</script> & \"quotes\" {{ 7 * 7 }}"
VOID = {"meta", "source", "img"}


class Page(HTMLParser):
    """What a browser sees: the text, the attributes, and the tags that were never closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text = ""
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def render(tmp_path: Path):
    def render(*blocks, title: str = "models/base", summary: str = "") -> tuple[str, Page]:
        path = tmp_path / "report.html"
        write_report(path, title, [Section(title, blocks)], summary=summary)
        html = path.read_text(encoding="utf-8")
        return html, Page(html)

    return render


@pytest.fixture
def one_of_each() -> list[Table | Picture | Text | Tree]:
    return [
        Table(columns=(HOSTILE, "share"), rows=[(HOSTILE, 0.25)], caption=HOSTILE, bars="share"),
        Picture(png=b"light", dark=b"dark", caption=HOSTILE),
        Text(text=HOSTILE, caption=HOSTILE),
        Tree(HOSTILE, HOSTILE, [Tree(HOSTILE)]),
        facts_table({HOSTILE: HOSTILE}),
    ]


def test_the_page_is_whole_and_refers_to_nothing_outside_itself(render, one_of_each):
    html, page = render(*one_of_each)

    references = [
        value for name, value in page.attributes if name in {"src", "srcset", "href", "action"}
    ]
    assert page.open == []
    assert all(value.startswith(("data:", "#")) for value in references)
    assert not re.search(r"https?:|url\(|@import|<link|<script", html)


def test_text_of_the_user_is_shown_and_never_run(render, one_of_each):
    _, page = render(*one_of_each, title=HOSTILE, summary=HOSTILE)

    assert "script" not in page.tags
    # Title, heading, summary, link and section, then the table, the text, the tree and the facts.
    assert page.text.count(HOSTILE) == 5 + 3 + 2 + 3 + 2
    assert ("alt", HOSTILE) in page.attributes


def test_the_page_follows_the_readers_light_or_dark_setting(render):
    html, page = render(Picture(png=b"light", dark=b"dark", caption="loss"))

    assert ("srcset", "data:image/png;base64,ZGFyaw==") in page.attributes
    assert ("src", "data:image/png;base64,bGlnaHQ=") in page.attributes
    assert html.count("(prefers-color-scheme: dark)") == 2


def test_numbers_are_written_as_people_read_them(render):
    _, page = render(
        facts_table({"tokens": 1234567, "loss": 3.14159, "rate": 0.0003, "even": True, "mix": None})
    )

    words = page.text.split()
    assert {"1,234,567", "3.142", "0.0003", "yes", "–"} <= set(words)


def test_nested_facts_and_lists_are_laid_out_flat():
    table = facts_table({"model": {"width": 64, "heads": {"key": 2}}, "stop": ["a", "b"]})

    assert table.rows == [("model.width", 64), ("model.heads.key", 2), ("stop", "a, b")]


def test_a_table_without_rows_is_a_table(render):
    _, page = render(Table(columns=("token", "probability"), rows=[]))

    assert "probability" in page.text


def test_a_loss_that_is_not_a_number_is_shown_as_such(render):
    _, page = render(facts_table({"loss": float("nan")}))

    assert "nan" in page.text


def test_every_artifact_of_the_lineage_is_in_the_tree(render):
    corpus = Tree("corpora/demo", "4 documents")

    _, page = render(Tree("models/base", "", [Tree("tokens/demo", "", [corpus])]))

    positions = [page.text.index(name) for name in ("tokens/demo", "corpora/demo", "4 documents")]
    assert positions == sorted(positions)
