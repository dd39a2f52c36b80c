import csv
import gzip
import io
import json
import random
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from llmctl.data.document import Document
from llmctl.data.formats.compression import Budget, unpack
from llmctl.data.formats.encoding import Decoded
from llmctl.data.formats.markup import visible_text
from llmctl.data.formats.mending import LEADS
from llmctl.data.formats.passage import BLOCK, Stream, Unreadable
from llmctl.data.formats.splitting import cut, lines, splitter, utf8_size
from llmctl.data.sources.files import Files

# All of Unicode but what is never kept (NUL, carriage returns, surrogates) and what looks like
# text gone wrong (the first characters of mojibake, a byte order mark).
ANY_TEXT = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\ufeff" + "".join(LEADS)),
    min_size=1,
).filter(lambda text: not text.isspace())


def in_lines(text: str) -> bytes:
    return json.dumps({"text": text}, ensure_ascii=False).encode()


def in_escapes(text: str) -> bytes:
    return json.dumps([{"text": text}]).encode()


def in_cells(text: str, delimiter: str) -> bytes:
    sink = io.StringIO()
    csv.writer(sink, delimiter=delimiter).writerows([["id", "text"], ["1", text]])
    return sink.getvalue().encode()


def in_columns(text: str) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": [text]}), sink)
    return sink.getvalue()


WRITERS = {
    "txt": str.encode,
    "jsonl": in_lines,
    "json": in_escapes,
    "csv": lambda text: in_cells(text, ","),
    "tsv": lambda text: in_cells(text, "\t"),
    "parquet": in_columns,
}


@pytest.mark.parametrize("ending", WRITERS)
@settings(deadline=None)
@given(text=ANY_TEXT)
def test_any_text_comes_back_as_it_was(ending: str, text: str):
    # One cell that holds both a tab and a line end cannot be told from a table with loose quotes.
    assume(ending != "tsv" or not {"\t", "\n"} <= {*text})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"a.{ending}")
        path.write_bytes(WRITERS[ending](text))
        source = Files(paths=(str(path),))

        found = [one for part in source.parts() for one in source.read(part)]

    assert [one.text for one in found if isinstance(one, Document)] == [text]


@settings(deadline=None)
@given(text=st.text(), cuts=st.lists(st.integers(0, 50)), limit=st.integers(8, 40))
def test_what_comes_out_does_not_depend_on_where_blocks_end(text: str, cuts: list[int], limit: int):
    blocks = list(chopped(text, cuts))

    assert list(cut(blocks, limit)) == list(cut([text], limit))
    assert list(lines(blocks, limit)) == list(lines([text], limit))
    for mode in ("file", "lines", "blank-lines", "chars:3"):
        assert list(splitter(mode)(blocks)) == list(splitter(mode)((text,)))


@settings(deadline=None)
@given(text=st.text(), limit=st.integers(8, 40))
def test_pieces_are_short_enough_and_joined_are_the_text(text: str, limit: int):
    for pieces in (list(cut([text], limit)), list(lines([text], limit))):
        assert "".join(pieces) == text
        assert all(utf8_size(piece) <= limit + 1 for piece in pieces)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("aaaa.\n\nbbbbb\nccc dd", ["aaaa.\n\n", "bbbbb\n", "ccc dd"]),
        ("aaaa bb\nccc dddd ee", ["aaaa bb\n", "ccc dddd ", "ee"]),
        ("Aaa bb. Ccc dd ee", ["Aaa bb. ", "Ccc dd ee"]),
        ("aaa bbb ccc ddd", ["aaa bbb ", "ccc ddd"]),
        ("aaaaaaaaaaaaaaa", ["aaaaaaaaaa", "aaaaa"]),
        ("ééééééé", ["ééééé", "éé"]),
    ],
)
def test_a_text_is_cut_at_a_paragraph_else_a_line_a_sentence_a_word(text: str, pieces: list[str]):
    assert list(cut([text], 10)) == pieces


def chopped(text: str, cuts: list[int]) -> Iterator[str]:
    for size in cuts:
        yield text[:size]
        text = text[size:]
    yield text


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "gb18030", "utf-16", "utf-8-sig"])
@pytest.mark.parametrize("shift", range(4))
def test_a_character_may_lie_across_the_end_of_a_block(encoding: str, shift: int):
    sentence = {"cp1252": "où est-ce déjà ?\r\n", "gb18030": "你好，世界。今天很好。\r\n"}
    text = "x" * shift + sentence.get(encoding, "déjà – 你好 \U0001f600\r\n") * 40_000
    content = text.encode(encoding)
    blocks = (content[at : at + BLOCK] for at in range(0, len(content), BLOCK))

    decoded = Decoded(Stream(blocks))

    assert "".join(decoded) == text.replace("\r\n", "\n")
    assert decoded.replaced == 0


@pytest.mark.parametrize("shift", range(5))
def test_what_is_no_utf_8_may_begin_where_a_block_ends(shift: int):
    blocks = [b"x" * BLOCK + b"\r\xe9t\xe9\n"[:shift], b"\r\xe9t\xe9\n"[shift:]]

    decoded = Decoded(Stream(iter(blocks)))

    assert "".join(decoded) == "x" * BLOCK + "\nété\n"


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_a_stream_that_unpacks_to_more_than_its_budget_ends_there(pack):
    budget = Budget(packed_bytes=0)
    budget.left = 50 * 2**20
    packed = pack(bytes(100 * 2**20))

    stream = Stream(unpack(iter([packed]), budget))
    size = sum(map(len, stream))

    assert 0 < size <= 50 * 2**20
    assert isinstance(stream.damage, Unreadable)
    assert stream.damage.reason == "bomb"


PAGES = {
    "<p>one</p><p>two": "one\n\ntwo",
    "one<br>two <b>bo</b>ld\n  words": "one\ntwo bold words",
    "<ul><li>one</li> <li>two</li></ul>three": "one\ntwo\n\nthree",
    "<table><tr><td>a</td> <td>b</td></tr><tr><td>c</td></tr></table>": "a\tb\nc",
    "<pre>if x:\n    y\n\nz</pre>": "if x:\n    y\n\nz",
    "a&nbsp;&amp;&eacute;&#8217;&lt;b&gt;": "a &é’<b>",
    "<nav>menu</nav><style>x</style><script>y</script><noscript>z</noscript>text": "text",
    "<div hidden>no</div><p style='display: none'>no</p><div>yes</div>": "yes",
    "<!-- no --><svg><text>no</text></svg><textarea>no</textarea>yes": "yes",
    "<h1>Title</h1>text<footer>end</footer>": "Title\n\ntext\n\nend",
    "": "",
}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_gives_the_text_that_a_browser_shows(page: str):
    assert visible_text(page) == (PAGES[page], "")


def test_a_page_says_its_title_and_its_encoding(tmp_path: Path):
    page = "<meta charset='iso-8859-7'><title>Τίτλος</title><p>Καλημέρα"
    path = tmp_path / "page"
    path.write_bytes(b"<!doctype html>" + page.encode("iso-8859-7"))
    source = Files(paths=(str(path),))

    document, *_ = (one for part in source.parts() for one in source.read(part))

    assert isinstance(document, Document)
    assert document.text == "Καλημέρα"
    assert document.meta == {"title": "Τίτλος", "encoding": "iso8859-7"}


def test_a_page_that_is_nested_beyond_sense_is_refused():
    with pytest.raises(Unreadable):
        visible_text("<div>" * 100_000)


def seeds() -> dict[str, bytes]:
    text = "A line of text – with “quotes”.\n\nÉté à la plage; 中文字符 пример.\n" * 20
    rows = [
        {"id": str(n), "text": f'row {n} "q", a;b\nété', "label": str(n % 2)} for n in range(40)
    ]
    table = pa.Table.from_pylist(rows)
    cells, columns, arrow = io.StringIO(), io.BytesIO(), io.BytesIO()
    writer = csv.DictWriter(cells, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    pq.write_table(table, columns)
    with pa.ipc.new_stream(arrow, table.schema) as sink:
        sink.write_table(table)
    page = "<html><head><title>T</title></head><p>Été <b>b</b><table><tr><td>a<td>b</table>" * 9
    files = {
        "a.txt": text.encode(),
        "b.txt": text.encode("utf-16"),
        "c.txt": text.encode("cp1252", "ignore"),
        "a.html": page.encode(),
        "a.jsonl": "\n".join(map(json.dumps, rows)).encode(),
        "a.json": json.dumps(rows, indent=1).encode(),
        "a.csv": cells.getvalue().encode(),
        "a.tsv": cells.getvalue().replace(",", "\t").encode(),
        "a.parquet": columns.getvalue(),
        "a.arrow": arrow.getvalue(),
    }
    tar, bundle = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive, zipfile.ZipFile(bundle, "w") as zipped:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
            zipped.writestr(name, content)
    files |= {"a.tar": tar.getvalue(), "a.zip": bundle.getvalue()}
    packed = {f"{name}.gz": gzip.compress(content) for name, content in files.items()}
    return files | packed


def mutated(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(chance.choice((1, 2, 5, 20))):
        at = chance.randrange(len(changed))
        to = min(at + chance.randrange(1, 200), len(changed))
        changed[at:to] = (
            chance.choice(
                (
                    b"",
                    changed[at:to] * 2,
                    chance.randbytes(to - at),
                    bytes([changed[at] ^ 1 << chance.randrange(8)]) + changed[at + 1 : to],
                    chance.choice((b"\0", b"\xff", b'"', b"\n", b"<", b"{", b"\r")) * (to - at),
                )
            )
            or b"x"
        )
    return bytes(
        changed[: chance.randrange(1, len(changed) + 1)] if chance.random() < 0.2 else changed
    )


@pytest.mark.parametrize("name", SEEDS := seeds())
def test_spoilt_files_are_told_and_never_raise(tmp_path: Path, name: str):
    path = tmp_path / name
    for number in range(15):
        chance = random.Random(f"{name} {number}")
        path.write_bytes(mutated(SEEDS[name], chance))
        source = Files(paths=(str(path),), split=chance.choice(("file", "lines", "chars:10")))

        found = [one for part in source.parts() for one in source.read(part)]

        assert found
        for one in found:
            written = one.text if isinstance(one, Document) else one.detail
            assert "\0" not in written
            assert written.encode().decode() == written
