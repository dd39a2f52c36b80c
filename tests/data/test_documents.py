"""Documents that companies have: PDF, DOCX, EPUB and e-mail, as they would be read aloud."""

import io
import sys
import zipfile
from pathlib import Path

import pytest

from llmctl.data.document import Document, Rejected
from llmctl.data.formats.pdf import joined
from llmctl.data.sources.files import Files
from llmctl.errors import DependencyError


def read(path: Path) -> tuple[list[Document], list[Rejected]]:
    source = Files(paths=(str(path),))
    found = [one for part in source.parts() for one in source.read(part)]
    documents = [one for one in found if isinstance(one, Document)]
    return documents, [one for one in found if isinstance(one, Rejected)]


def pdf(pages: list[list[str]]) -> bytes:
    """A PDF with lines of Helvetica, and its table of offsets."""
    kids = " ".join(f"{3 + 2 * number} 0 R" for number in range(len(pages)))
    font = 3 + 2 * len(pages)
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
    ]
    for number, lines in enumerate(pages):
        shown = "".join(f"({line}) Tj T* " for line in lines)
        stream = f"BT /F1 11 Tf 13 TL 50 800 Td {shown}ET"
        objects += [
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents {4 + 2 * number} 0 R "
            f"/Resources << /Font << /F1 {font} 0 R >> >> >>",
            f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream",
        ]
    objects += [
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        "<< /Title (A contract) /ModDate (D:20260102120000) >>",
    ]
    content = "%PDF-1.4\n"
    offsets: list[int] = []
    for number, one in enumerate(objects, 1):
        offsets.append(len(content))
        content += f"{number} 0 obj\n{one}\nendobj\n"
    table = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    size = len(objects) + 1
    return (
        f"{content}xref\n0 {size}\n0000000000 65535 f \n{table}"
        f"trailer << /Size {size} /Root 1 0 R /Info {size - 1} 0 R >>\n"
        f"startxref\n{len(content)}\n%%EOF\n"
    ).encode("latin-1")


LINES = [
    "The landlord lets the house to the tenant for a period of three years,",
    "beginning on the first day of May, and the tenant takes it with its gar-",
    "den and stable.",
    "The rent is due on the first day of each month.",
]


def test_a_pdf_is_read_in_paragraphs_without_running_heads(tmp_path: Path):
    pages = [
        [
            "Contract no. 7",
            f"{word} {LINES[0]}",
            *LINES[1:3],
            f"{word} {LINES[3]}",
            f"Page {number} of 4",
        ]
        for number, word in enumerate(("Here", "There", "Then", "Thus"), 1)
    ]
    (tmp_path / "a.pdf").write_bytes(pdf(pages))

    (document,), _ = read(tmp_path)

    paragraphs = document.text.split("\n\n")
    assert len(paragraphs) == 8
    assert paragraphs[0].endswith("takes it with its garden and stable.")
    assert paragraphs[1] == f"Here {LINES[3]}"
    assert document.meta["title"] == "A contract"
    assert document.time == "2026-01-02"


def test_a_scan_and_a_broken_pdf_are_told(tmp_path: Path):
    (tmp_path / "scan.pdf").write_bytes(pdf([[]]))
    (tmp_path / "broken.pdf").write_bytes(pdf([LINES])[:200])

    documents, rejected = read(tmp_path)

    assert documents == []
    assert [one.reason for one in rejected] == ["damaged PDF", "no text"]


def test_a_pdf_without_its_name_is_known_by_its_beginning(tmp_path: Path):
    (tmp_path / "contract").write_bytes(pdf([LINES]))

    assert "landlord" in read(tmp_path)[0][0].text


def test_without_the_extra_a_pdf_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "a.pdf").write_bytes(pdf([LINES]))
    monkeypatch.setitem(sys.modules, "pypdfium2", None)

    with pytest.raises(DependencyError) as caught:
        read(tmp_path)

    assert "llmctl[docs]" in str(caught.value.hint)


def test_lines_of_pages_become_paragraphs():
    assert joined(["Short.\nAlso short."]) == "Short. Also short." or joined(
        ["Short.\nAlso short."]
    )
    assert joined([]) == ""


def zipped(members: dict[str, str]) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return sink.getvalue()


W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
DC = 'xmlns:dc="http://purl.org/dc/elements/1.1/"'


def paragraph(text: str) -> str:
    return f"<w:p><w:pPr><w:t>style</w:t></w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>"


DOCX = {
    "word/document.xml": f"<w:document {W}><w:body>"
    + paragraph("The parties agree.")
    + "<w:p><w:r><w:t>The term is </w:t></w:r><w:del><w:r><w:delText>one</w:delText><w:t>one</w:t>"
    + "</w:r></w:del><w:ins><w:r><w:t>three</w:t></w:r></w:ins><w:r><w:tab/><w:t>years.</w:t></w:r>"
    + "<w:hyperlink><w:r><w:t> See below.</w:t></w:r></w:hyperlink></w:p>"
    + f"<w:tbl><w:tr><w:tc>{paragraph('Rent')}</w:tc>"
    + f"<w:tc>{paragraph('900')}</w:tc></w:tr></w:tbl>"
    + f"<w:sdt><w:sdtContent>{paragraph('Signed')}</w:sdtContent></w:sdt></w:body></w:document>",
    "word/footnotes.xml": f"<w:footnotes {W}>{paragraph('A note.')}</w:footnotes>",
    "docProps/core.xml": f"<p {DC}><dc:title>Lease</dc:title><dc:creator>Ada</dc:creator></p>",
}


def test_a_word_file_is_read_with_tables_notes_and_its_latest_wording(tmp_path: Path):
    (tmp_path / "a.docx").write_bytes(zipped(DOCX))

    (document,), _ = read(tmp_path)

    assert document.text == (
        "The parties agree.\n\nThe term is three\tyears. See below.\n\n"
        "Rent\t900\n\nSigned\n\nA note."
    )
    assert document.meta["title"] == "Lease"


def test_a_book_is_read_in_the_order_of_its_spine(tmp_path: Path):
    opf = (
        f"<package {DC}><metadata><dc:title>Emma</dc:title><dc:language>en</dc:language>"
        '</metadata><manifest><item id="b" href="text/b.xhtml"/>'
        '<item id="a" href="text/a%20.xhtml"/></manifest><spine><itemref idref="a"/>'
        '<itemref idref="b"/><itemref idref="gone"/></spine></package>'
    )
    members = {
        "META-INF/container.xml": '<c><rootfiles><rootfile full-path="OPS/x.opf"/></rootfiles></c>',
        "OPS/x.opf": opf,
        "OPS/text/a .xhtml": "<html><body><h1>One</h1><p>Emma was clever.</p></body></html>",
        "OPS/text/b.xhtml": "<html><body><p>And rich.</p></body></html>",
    }
    (tmp_path / "emma.epub").write_bytes(zipped(members))

    (document,), _ = read(tmp_path)

    assert document.text == "One\n\nEmma was clever.\n\nAnd rich."
    assert document.meta == {"title": "Emma", "language": "en"}


@pytest.mark.parametrize("ending", ["docx", "epub"])
def test_bundles_that_are_broken_bombs_or_something_else_are_told(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("llmctl.data.formats.office.FREE_BYTES", 2**20)
    member = "word/document.xml" if ending == "docx" else "META-INF/container.xml"
    bomb = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 50}">' for n in range(1, 9))
    entities = f'<!DOCTYPE p [<!ENTITY e0 "ha">{bomb}]><p>&e8;</p>'
    contents = [
        b"no zip", zipped({"x": "y"}), zipped({member: "<broken"}), zipped({member: entities}),
        zipped({member: " " * 3_000_000}),
    ]  # fmt: skip
    for number, content in enumerate(contents):
        (tmp_path / f"{number}.{ending}").write_bytes(content)

    documents, rejected = read(tmp_path)

    assert documents == []
    assert len(rejected) == 5
    assert rejected[-1].reason == "bomb"


MESSAGE = (
    "From: Ada <ada@example.org>\r\nSubject: =?utf-8?q?Caf=C3=A9?= rent\r\n"
    "Date: Thu, 01 Jan 2026 10:00:00 +0000\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
    "The café is let.\r\n\r\nOn Wed, 31 Dec 2025, Bob wrote:\r\n> Is it free?\r\n\r\n-- \r\nAda\r\n"
)


def test_an_e_mail_is_what_was_written_in_it(tmp_path: Path):
    (tmp_path / "a.eml").write_bytes(MESSAGE.encode())
    html = MESSAGE.replace("text/plain", "text/html").replace("The café", "<p>The <b>café</b>")
    (tmp_path / "b.eml").write_bytes(html.encode())
    (tmp_path / "c.eml").write_bytes(b"no header")

    documents, rejected = read(tmp_path)

    assert documents[0].text == "The café is let."
    assert documents[0].meta == {"title": "Café rent", "from": "Ada <ada@example.org>"}
    assert documents[0].time == "2026-01-01T10:00:00+00:00"
    assert documents[1].text.startswith("The café is let.")
    assert len(rejected) == 1


def test_a_mailbox_is_read_message_by_message(tmp_path: Path):
    plain = MESSAGE.replace("\r\n", "\n")
    second = plain.replace("The café is let.", "It is.\n\n>From here on it is quiet.")
    box = f"From ada Thu Jan  1\n{plain}\nFrom ada Thu Jan  1\n{second}\nFrom x\nnothing\n"
    (tmp_path / "a.mbox").write_text(box, encoding="utf-8")

    documents, rejected = read(tmp_path)

    assert [one.text for one in documents] == [
        "The café is let.", "It is.\n\nFrom here on it is quiet.",
    ]  # fmt: skip
    assert len(rejected) == 1
