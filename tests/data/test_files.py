import bz2
import csv
import gzip
import io
import json
import lzma
import os
import random
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from llmctl.data.document import Document, Rejected
from llmctl.data.sources.files import Files
from llmctl.errors import ConfigError, DataError

TEXT = "Call me Ishmael. Some years ago – never mind how long – I thought I would sail.\n"
FRENCH = "Ça va très bien, merci. L’été dernier nous étions à la plage, là où la mer est bleue.\n"


def read(*paths: Path | str, **knobs: str) -> tuple[list[Document], list[Rejected]]:
    source = Files(paths=tuple(map(str, paths)), **knobs)
    found = [one for part in source.parts() for one in source.read(part)]
    documents = [one for one in found if isinstance(one, Document)]
    return documents, [one for one in found if isinstance(one, Rejected)]


def written(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def places(ending: str, texts: list[str]) -> list[int]:
    """Where rows stand: by the line that each begins in below a header, else by number."""
    if ending != "csv":
        return list(range(1, len(texts) + 1))
    lines = [1 + text.count("\n") for text in texts]
    return [2 + sum(lines[:row]) for row in range(len(texts))]


def delimited(rows: list[dict[str, str]]) -> str:
    sink = io.StringIO()
    writer = csv.DictWriter(sink, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    return sink.getvalue()


def arrow_stream(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def arrow_file(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def tar(members: dict[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return sink.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return sink.getvalue()


ROWS = [{"id": f"r{number}", "text": f"{TEXT}{number}", "url": f"u{number}"} for number in range(3)]
TABLE = pa.Table.from_pylist(ROWS)
FORMATS: dict[str, bytes] = {
    "txt": TEXT.encode(),
    "md": TEXT.encode(),
    "html": f"<html><body><script>no</script><p>{TEXT}</p></body></html>".encode(),
    "jsonl": "\n".join(map(json.dumps, ROWS)).encode(),
    "json": json.dumps(ROWS, indent=2).encode(),
    "csv": "\n".join(
        ["id,text,url", *(f'{r["id"]},"{r["text"]}",{r["url"]}' for r in ROWS)]
    ).encode(),
    "tsv": "id\ttext\turl\n1\tone two\tu1\n2\tthree “four”\tu2\n".encode(),
    "parquet": parquet(TABLE),
    "arrow": arrow_stream(TABLE),
    "feather": arrow_file(TABLE),
}
PACKED: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.compress,
}


@pytest.mark.parametrize("packing", PACKED)
@pytest.mark.parametrize("ending", FORMATS)
def test_every_format_is_read_through_every_compression(tmp_path: Path, ending: str, packing: str):
    plain = written(tmp_path / f"plain.{ending}", FORMATS[ending])
    packed = written(tmp_path / f"packed.{ending}{packing}", PACKED[packing](FORMATS[ending]))

    expected, _ = read(plain)
    documents, rejected = read(packed)

    assert expected
    assert [one.text for one in documents] == [one.text for one in expected]
    assert all(one.kept for one in rejected)


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "parquet", "arrow", "feather"])
def test_rows_become_documents_with_what_stands_beside_the_text(tmp_path: Path, ending: str):
    documents, _ = read(written(tmp_path / f"rows.{ending}", FORMATS[ending]))

    assert [one.text for one in documents] == [row["text"] for row in ROWS]
    assert [one.id for one in documents] == [
        f"rows/rows.{ending}:{place}" for place in places(ending, [row["text"] for row in ROWS])
    ]
    assert [(one.url, one.meta) for one in documents] == [
        (row["url"], {"id": row["id"]}) for row in ROWS
    ]


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "parquet", "arrow"])
def test_many_rows_come_in_order_and_say_where_they_stand(tmp_path: Path, ending: str):
    rows = [{"id": str(number), "text": f"{number} {TEXT}" * 5} for number in range(3000)]
    table = pa.Table.from_pylist(rows)
    content = {
        "jsonl": "\n".join(map(json.dumps, rows)).encode,
        "json": json.dumps(rows, indent=2).encode,
        "csv": delimited(rows).encode,
        "parquet": lambda: parquet(table),
        "arrow": lambda: arrow_stream(table),
    }[ending]()

    documents, _ = read(written(tmp_path / f"a.{ending}", content))

    assert [one.text for one in documents] == [row["text"] for row in rows]
    assert [one.id for one in documents] == [
        f"a/a.{ending}:{place}" for place in places(ending, [row["text"] for row in rows])
    ]


ARCHIVES: dict[str, Callable[[dict[str, bytes]], bytes]] = {
    "tar": tar,
    "tar.gz": lambda members: gzip.compress(tar(members)),
    "tgz": lambda members: gzip.compress(tar(members)),
    "tar.xz": lambda members: lzma.compress(tar(members)),
    "tar.zst": lambda members: zstandard.compress(tar(members)),
    "zip": zipped,
}


@pytest.mark.parametrize("ending", ARCHIVES)
def test_an_archive_is_read_as_the_files_in_it(tmp_path: Path, ending: str):
    members = {
        "a/one.txt": TEXT.encode(),
        "a/two.jsonl.gz": gzip.compress(FORMATS["jsonl"]),
        "three.parquet": FORMATS["parquet"],
        ".hidden.txt": b"not me",
        "__MACOSX/one.txt": b"nor me",
        "image.png": b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
    }

    documents, rejected = read(written(tmp_path / f"box.{ending}", ARCHIVES[ending](members)))

    name = f"box/box.{ending}"
    assert [one.id for one in documents] == [
        f"{name}/a/one.txt",
        *(f"{name}/a/two.jsonl.gz:{n}" for n in (1, 2, 3)),
        *(f"{name}/three.parquet:{n}" for n in (1, 2, 3)),
    ]
    assert documents[0].url == f"{tmp_path}/box.{ending}/a/one.txt"
    lost = [(one.where, one.reason) for one in rejected if not one.kept]
    assert lost == [(f"{name}/image.png", "binary")]


def test_members_that_are_links_or_lead_out_of_an_archive_are_refused(tmp_path: Path):
    secret = written(tmp_path / "secret.txt", "secret")
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for kind, name in ((tarfile.SYMTYPE, "soft.txt"), (tarfile.LNKTYPE, "hard.txt")):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, str(secret)
            archive.addfile(link)
        for name in ("../up.txt", "/root.txt", "a/../../b.txt", "inner.zip"):
            entry = tarfile.TarInfo(name)
            entry.size = 4
            archive.addfile(entry, io.BytesIO(b"text"))

    documents, rejected = read(written(tmp_path / "evil.tar", sink.getvalue()))

    assert documents == []
    assert [one.reason for one in rejected] == [
        "not a regular file",
        "not a regular file",
        "unsafe name",
        "unsafe name",
        "unsafe name",
        "archive in an archive",
    ]


ENCODED = {
    "utf-8": (FRENCH, "utf-8", {}),
    "utf-8 with a mark": (FRENCH, "utf-8-sig", {}),
    "utf-16 with a mark": (FRENCH, "utf-16", {"encoding": "utf-16"}),
    "utf-16-le": (FRENCH, "utf-16-le", {"encoding": "utf-16-le"}),
    "utf-16-be": (FRENCH, "utf-16-be", {"encoding": "utf-16-be"}),
    "utf-32 with a mark": (FRENCH, "utf-32", {"encoding": "utf-32"}),
    "utf-32-le": (FRENCH, "utf-32-le", {"encoding": "utf-32-le"}),
    "windows-1252": (FRENCH, "cp1252", {"encoding": "cp1252"}),
    "latin-1": (FRENCH.replace("’", "'"), "latin-1", {"encoding": "cp1252"}),
    "windows-1250": (
        "Příliš žluťoučký kůň úpěl ďábelské ódy.\n" * 5,
        "cp1250",
        {"encoding": "cp1250"},
    ),
    "windows-1251": (
        "Привет, как дела? Сегодня хорошая погода.\n",
        "cp1251",
        {"encoding": "cp1251"},
    ),
    "shift-jis": ("こんにちは、世界。今日はいい天気です。\n", "cp932", {"encoding": "cp932"}),
    "gb18030": ("你好，世界。今天天气很好。\n", "gb18030", {"encoding": "gb18030"}),
}


@pytest.mark.parametrize("case", ENCODED)
def test_the_encoding_is_found(tmp_path: Path, case: str):
    text, encoding, meta = ENCODED[case]

    (document,), _ = read(written(tmp_path / "a.txt", text.encode(encoding)))

    assert document.text == text
    assert document.meta == meta


def test_an_accent_deep_in_a_plain_file_is_read_as_what_it_is(tmp_path: Path):
    text = TEXT.replace("–", "-") * 20_000 + FRENCH

    (document,), rejected = read(written(tmp_path / "a.txt", text.encode("cp1252")))

    assert document.text == text
    assert [one.reason for one in rejected] == ["encoding cp1252"]


@pytest.mark.parametrize(
    ("before", "behind"),
    [(FRENCH, FRENCH * 5000), (FRENCH * 5000, FRENCH), (FRENCH + "x\n" * 300_000, "x\n")],
    ids=["in front", "in the midst", "far behind"],
)
def test_a_broken_byte_does_not_make_utf_8_something_else(tmp_path: Path, before: str, behind: str):
    content = before.encode() + b"\xe9\n" + behind.encode()

    (document,), rejected = read(written(tmp_path / "a.txt", content))

    assert document.text == f"{before}\ufffd\n{behind}"
    assert [(one.reason, one.kept) for one in rejected] == [("broken bytes", True)]


def test_an_encoding_that_is_given_is_believed(tmp_path: Path):
    path = written(tmp_path / "a.txt", "¿Qué?".encode("cp850"))

    (document,), _ = read(path, encoding="cp850")

    assert document.text == "¿Qué?"


MENDED = {
    "cafÃ© olÃ©\nplain é\nnaÃ¯ve\nfaÃ§ade": (
        "café olé\nplain é\nnaïve\nfaçade",
        "mended mojibake",
    ),
    "it is â€œquotedâ€\x9d": ("it is “quoted”", "mended mojibake"),
    "fine: SÃO PAULO, Âge d’or, à\u00a0» and ﬁ": (None, None),
    "one\0two": ("onetwo", "removed NUL characters"),
    "one\r\ntwo\rthree": ("one\ntwo\nthree", None),
    "a\u2028b\u0085c\x0bd": (None, None),
}


@pytest.mark.parametrize("text", MENDED)
def test_text_is_mended_and_nothing_else_is_changed(tmp_path: Path, text: str):
    meant, reason = MENDED[text]

    (document,), rejected = read(written(tmp_path / "a.txt", text))

    assert document.text == (meant or text)
    assert [one.reason for one in rejected] == ([reason] if reason else [])


def deep(levels: int) -> bytes:
    return b'{"text": ' + b"[" * levels + b"]" * levels + b"}"


BARE = ["text column~", "no header~"]
TITLES = "lines above the table~"
ODD: dict[str, tuple[bytes, list[str], list[str]]] = {
    "nothing.txt": (b"", [], ["empty"]),
    "nothing.csv": (b"", [], ["empty"]),
    "nothing.parquet": (b"", [], ["empty"]),
    "blank.txt": (b" \n\n\t\n", [], ["empty"]),
    "header.csv": (b"id,text\n", [], ["empty"]),
    "nothing.txt.gz": (gzip.compress(b""), [], ["empty"]),
    "nothing.zip": (zipped({}), [], ["empty"]),
    "image.png": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 9, [], ["binary"]),
    "zeros.txt": (bytes(5000), [], ["binary"]),
    "program": (b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\0>\0" * 50, [], ["binary"]),
    "paper.pdf": (b"%PDF-1.4\n% some text\n", [], ["damaged PDF"]),
    "head.txt.gz": (gzip.compress(TEXT.encode())[:10], [], ["truncated gzip"]),
    "tail.txt.gz": (gzip.compress(TEXT.encode()) + b"no gzip", [TEXT], ["damaged gzip~"]),
    "padded.txt.gz": (gzip.compress(TEXT.encode()) + bytes(99), [TEXT], []),
    "twice.txt.gz": (gzip.compress(TEXT.encode()) * 2, [TEXT * 2], []),
    "cut.zip": (zipped({"a.txt": TEXT.encode()})[:-30], [], ["unreadable"]),
    "not.zip": (TEXT.encode(), [], ["unreadable"]),
    "not.parquet": (TEXT.encode(), [], ["unreadable"]),
    "not.arrow": (TEXT.encode(), [], ["unreadable"]),
    "cut.parquet": (FORMATS["parquet"][:-9], [], ["unreadable"]),
    "deep.jsonl": (deep(200_000) + b'\n{"text": "a b"}', ["a b"], ["bad JSON"]),
    "deep.json": (deep(200_000), [], ["bad JSON"]),
    "bad.jsonl": (
        b'{"text": "a b"}\nno\n\n"a string"\n7\n',
        ["a b", "a string"],
        ["bad JSON", "no text"],
    ),
    "cut.json": (b'[{"text": "a b"}, {"text": "c', ["a b"], ["bad JSON"]),
    "lines.json": (b'{"text": "a b"}\n{"text": "c d"}\n', ["a b", "c d"], []),
    "one.json": (b'{\n "text": "a b"\n}', ["a b"], []),
    "strings.json": (b'["one", "two"]', ["one", "two"], []),
    "numbers.json": (b"[1, 2]", [], ["no text", "no text"]),
    "separator.jsonl": ('{"text": "a\u2028b"}'.encode(), ["a\u2028b"], []),
    "tab.jsonl": (b'{"text": "a\tb"}', ["a\tb"], []),
    "half.jsonl": (b'{"text": "a \\ud800 b"}', ["a \ufffd b"], ["replaced lone surrogates~"]),
    "whole.jsonl": (b'{"text": "a \\ud83d\\ude00"}', ["a \U0001f600"], []),
    "quoted.csv": (b'id,text\n1,"a\n\nb, ""c"""\n', ['a\n\nb, "c"'], ["text column~"]),
    "long.csv": (b'id,text\n1,"' + b"a b " * 99_999 + b'"', ["a b " * 99_999], ["text column~"]),
    "zero.csv": (b"id,text\n1,a \0b\n", ["a b"], ["text column~", "removed NUL characters~"]),
    "wide.csv": (
        b"id,text\n1,a b,c\n2,d e\n3\n",
        ["d e"],
        ["text column~", *["wrong number of columns"] * 2],
    ),
    "semicolon.csv": (b"id;text\n1;a, b\n2;c, d\n", ["a, b", "c, d"], ["text column~"]),
    "told.csv": (b"sep=;\nid;text\n1;a, b\n", ["a, b"], ["text column~", TITLES]),
    "titled.csv": (
        b"Export, all;;\n;;\nNo;Text;Kind\n1;a b;x\n2;c d;y\n",
        ["a b", "c d"],
        [
            "text column~",
            TITLES,
        ],
    ),
    "title.csv": (b"Tickets\n\nid,text\n1,a b\n2,c d\n", ["a b", "c d"], ["text column~", TITLES]),
    "commas.csv": (b"text\na, b\nc, d\n", [], ["wrong number of columns"] * 2),
    "bar.csv": (b"id|text\n1|a, b\n", ["a, b"], ["text column~"]),
    "bare.csv": (
        b'3,"It was a day."\n4,"It was a night."\n',
        ["It was a day.", "It was a night."],
        ["text column~", "no header~"],
    ),
    "bare.tsv": (b"ham\tno no\nspam\tgo go\nham\tso so", ["no no", "go go", "so so"], BARE),
    "quotes.tsv": (
        b'id\ttext\n1\t"a b" he said\n2\t"c d\n3\te f\n',
        ['"a b" he said', '"c d', "e f"],
        ["text column~"],
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_file_is_told_and_its_good_part_is_kept(tmp_path: Path, name: str):
    content, texts, reasons = ODD[name]

    documents, rejected = read(written(tmp_path / name, content))

    assert [one.text for one in documents] == texts
    assert [one.reason + "~" * one.kept for one in rejected] == reasons
    assert all(
        one.where.startswith(f"{Files(paths=(name,)).default_name()}/{name}") for one in rejected
    )


@pytest.mark.parametrize("packing", [".gz", ".bz2", ".xz", ".zst"])
def test_what_came_before_the_end_of_a_truncated_file_is_kept(tmp_path: Path, packing: str):
    words = random.Random(0)
    text = "".join(f"{words.random()} is a number\n" for _ in range(60_000))
    packed = PACKED[packing](text.encode())

    (document,), (told,) = read(written(tmp_path / f"a.txt{packing}", packed[: len(packed) // 2]))

    assert text.startswith(document.text)
    assert len(document.text) > 1000
    assert told.reason.startswith("truncated")
    assert told.kept


def test_no_file_stops_another_and_each_is_told_by_name(tmp_path: Path):
    for name, (content, _, _) in ODD.items():
        written(tmp_path / "all" / name, content)
    written(tmp_path / "all" / "good.txt", TEXT)

    documents, rejected = read(tmp_path / "all")

    assert sorted(one.text for one in documents) == sorted(
        [TEXT, *(text for _, texts, _ in ODD.values() for text in texts)]
    )
    told = {one.where.split("/")[1].split(":")[0] for one in rejected}
    assert told == {name for name, (_, _, reasons) in ODD.items() if reasons}


def test_a_quote_that_nobody_closes_costs_the_line_that_it_stands_in(tmp_path: Path):
    lines = [f'{number},"text, {number}"\n' for number in range(1000)]
    lines[100] = '100,"text\n'
    lines[500] = '500,text "\n'
    lines[900] = '900,"text\n'

    documents, rejected = read(written(tmp_path / "a.csv", "id,text\n" + "".join(lines)))

    lost = {100, 900}
    assert [one.meta["id"] for one in documents] == [
        str(number) for number in range(1000) if number not in lost
    ]
    assert [one.where for one in rejected if one.reason == "unclosed quote"] == [
        "a/a.csv:102",
        "a/a.csv:902",
    ]


def test_no_line_is_read_again_and_again_however_many_quotes_are_open(tmp_path: Path):
    content = "id,text\n" + 'b","c\n' * 100_000

    documents, rejected = read(written(tmp_path / "a.csv", content))

    assert sum(one.bytes for one in rejected) + len("id,text\n") == len(content)
    assert documents == []


def test_every_line_of_json_is_a_document_or_told_with_its_number(tmp_path: Path):
    lines = [json.dumps({"text": f"row {number}"}) for number in range(100)]
    lines[17], lines[40], lines[99] = "{", '{"text": 5}', '{"text": ""}'

    documents, rejected = read(written(tmp_path / "a.jsonl", "\n".join(lines)))

    assert len(documents) == 97
    assert [(one.where, one.reason) for one in rejected] == [
        ("a/a.jsonl:18", "bad JSON"),
        ("a/a.jsonl:41", "no text"),
        ("a/a.jsonl:100", "empty"),
    ]


COLUMNS = {
    "text": [{"title": "a much longer title than the text is", "text": "a b"}],
    "Body": [{"id": "1", "Body": "a b", "x": "c d e f"}],
    "story": [{"link": "http://example.org/" + "x" * 99, "story": "a b c", "tag": "a b"}],
    "plot": [{"title": "a title longer than the plot", "plot": "a b", "date": "12 May 2020"}],
    "评论": [{"编号": "12", "评论": "很好看的电影"}],
}


@pytest.mark.parametrize("column", COLUMNS)
def test_the_text_is_in_the_column_of_a_usual_name_or_with_the_longest_prose(
    tmp_path: Path, column: str
):
    content = json.dumps(COLUMNS[column])

    (document,), (told,) = read(written(tmp_path / "a.json", content))

    assert document.text == COLUMNS[column][0][column]
    assert (told.reason, told.kept) == ("text column", True)
    assert told.detail.startswith(f"`{column}` of ")


def test_the_column_can_be_named(tmp_path: Path):
    path = written(tmp_path / "a.jsonl", '{"text": "no", "summary": "yes"}')

    (document,), rejected = read(path, text_column="summary")
    nothing, (refused,) = read(path, text_column="summery")

    assert (document.text, rejected) == ("yes", [])
    assert (nothing, refused.reason) == ([], "no column `summery`")
    assert "text, summary" in refused.detail


def test_only_columns_that_hold_strings_are_offered_for_the_text(tmp_path: Path):
    chat = '"number": 1, "messages": [{"role": "user", "content": "Hello"}]'
    path = written(tmp_path / "chat.jsonl", f"{{{chat}}}")
    coded = written(tmp_path / "coded.jsonl", f'{{{chat}, "code": "7"}}')

    (nothing,), (offered,) = read(path)[1], read(coded)[1]

    assert nothing.detail == "no column holds strings: number, messages"
    assert offered.detail == "name one with `--text-column`: code"


@pytest.mark.parametrize(
    ("rows", "labels"),
    [
        ([{"text": "a b", "label": 1}], "label"),
        ([{"text": "a b", "airline_sentiment": "c"}], "airline_sentiment"),
        ([{"instruction": "a b", "input": "c", "output": "d e f"}], "instruction"),
    ],
)
def test_that_labels_are_left_out_is_said(tmp_path: Path, rows: list[dict[str, str]], labels: str):
    _, rejected = read(written(tmp_path / "a.json", json.dumps(rows)))

    (told,) = (one for one in rejected if one.reason == "labels left out")
    assert told.kept
    assert told.detail.startswith(f"{labels}: ")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b"v1,v2,,,\n" + b"ham,see you,,,\nspam,win \xa3 5,,,\n" * 9),
        ("a.tsv", b"ham\tsee you\nspam\twin it\n" * 9),
        ("a.jsonl", b'{"text": "a b", "is_spam": true}\n{"text": "c d", "is_spam": false}\n' * 9),
        ("a.parquet", parquet(pa.table({"text": ["a b", "c d"] * 9, "y": [0, 1] * 9}))),
    ],
)
def test_a_label_is_found_by_what_it_holds(tmp_path: Path, name: str, content: bytes):
    documents, rejected = read(written(tmp_path / name, content))

    (told,) = (one for one in rejected if one.reason == "labels left out")
    assert len(documents) == 18
    assert told.detail.partition(":")[0] in ("v1", "1", "is_spam", "y")


def test_a_document_says_where_it_is_from(tmp_path: Path):
    plain = written(tmp_path / "a.txt", TEXT)
    os.utime(plain, (1_700_000_000, 1_700_000_000))
    row = {
        "text": "a b",
        "url": "http://x",
        "license": "CC0",
        "timestamp": 1_600_000_000,
        "title": "T",
    }
    rows = written(tmp_path / "b.jsonl", json.dumps(row))

    documents, _ = read(plain, rows, licence="CC BY 4.0")

    assert documents == [
        Document(
            id="a/a.txt",
            text=TEXT,
            source="files",
            url=str(plain),
            licence="CC BY 4.0",
            time="2023-11-14T22:13:20+00:00",
        ),
        Document(
            id="a/b.jsonl:1",
            text="a b",
            source="files",
            url="http://x",
            licence="CC0",
            time="2020-09-13T12:26:40+00:00",
            meta={"title": "T"},
        ),
    ]


SPLIT = {
    "file": [("", "one\ntwo\n\n\nthree \n \nfour")],
    "lines": [("#0", "one"), ("#1", "two"), ("#2", "three "), ("#3", "four")],
    "blank-lines": [("#0", "one\ntwo"), ("#1", "three "), ("#2", "four")],
    "chars:10": [("#0", "one\ntwo\n\n\n"), ("#1", "three \n \nf"), ("#2", "our")],
}


@pytest.mark.parametrize("split", SPLIT)
@pytest.mark.parametrize("ending", ["txt", "jsonl"])
def test_a_file_or_row_is_split_as_asked(tmp_path: Path, split: str, ending: str):
    text = SPLIT["file"][0][1]
    content = {"txt": text, "jsonl": json.dumps({"text": text})}[ending]
    row = {"txt": "", "jsonl": ":1"}[ending]

    documents, _ = read(written(tmp_path / f"a.{ending}", content), split=split)

    assert [(one.id, one.text) for one in documents] == [
        (f"a/a.{ending}{row}{suffix}", piece) for suffix, piece in SPLIT[split]
    ]


@pytest.mark.parametrize("ending", ["txt", "jsonl", "parquet"])
def test_a_long_document_is_cut_at_paragraphs(tmp_path: Path, ending: str):
    text = "\n\n".join(f"{number} {FRENCH * 20}" for number in range(10_000))
    content = {
        "txt": text.encode,
        "jsonl": json.dumps({"text": text}, ensure_ascii=False).encode,
        "parquet": lambda: parquet(pa.table({"text": [text]})),
    }[ending]()

    documents, _ = read(written(tmp_path / f"a.{ending}", content))

    *full, last = [one.text for one in documents]
    row = "" if ending == "txt" else ":1"
    assert [one.id for one in documents] == [
        f"a/a.{ending}{row}#{number}" for number in range(len(documents))
    ]
    assert text == "".join([*full, last])
    assert all(piece.endswith("\n\n") for piece in full)
    assert all(8 * 2**20 < len(piece.encode()) <= 16 * 2**20 for piece in full)


def test_ids_are_the_same_wherever_the_folder_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for place in ("here", "far/away"):
        for name in ("b.txt", "a/c.txt", "a.txt"):
            written(tmp_path / place / "corpus" / name, name)
    monkeypatch.chdir(tmp_path / "here" / "corpus")

    ids = [
        [one.id for one in read(path)[0]]
        for path in (tmp_path / "here/corpus", "../../far/away/corpus/", ".", "**/*.txt")
    ]

    assert ids == [["corpus/a.txt", "corpus/a/c.txt", "corpus/b.txt"]] * 4


def test_files_of_the_same_name_in_several_folders_keep_their_own_ids(tmp_path: Path):
    paths = [written(tmp_path / place / "x.txt", place) for place in ("a/c", "b/c", "d")]

    documents, _ = read(*(path.parent for path in paths))

    assert [(one.id, one.text) for one in documents] == [
        ("c/c/x.txt", "a/c"),
        ("c/c~2/x.txt", "b/c"),
        ("c/d/x.txt", "d"),
    ]


def test_a_file_that_is_named_twice_is_read_once(tmp_path: Path):
    path = written(tmp_path / "a" / "x.txt", TEXT)
    (tmp_path / "a" / "link.txt").symlink_to(path)
    (tmp_path / "a" / "b").mkdir()
    (tmp_path / "a" / "b" / "loop").symlink_to(tmp_path / "a")

    documents, _ = read(tmp_path / "a", path, f"{tmp_path}/a/*.txt")

    assert len(documents) == 1


def test_what_systems_and_datasets_leave_in_folders_is_not_read(tmp_path: Path):
    for name in (".hidden.txt", ".git/a.txt", "__MACOSX/a.txt", "Thumbs.db"):
        written(tmp_path / "a" / name, "no")
    for name in ("dataset_info.json", "state.json"):
        written(tmp_path / "a" / "set" / name, '{"text": "a b"}')
        written(tmp_path / "a" / "mine" / name, '{"text": "c d"}')
    written(tmp_path / "a" / "set" / "0.arrow", FORMATS["arrow"])

    documents, _ = read(tmp_path / "a")

    assert [one.text for one in documents] == ["c d"] * 2 + [row["text"] for row in ROWS]


def test_a_path_without_files_is_named_with_what_was_perhaps_meant(tmp_path: Path):
    written(tmp_path / "moby-dick.txt", TEXT)
    (tmp_path / "empty").mkdir()
    wrong = [f"{tmp_path}/moby-dik.txt", f"{tmp_path}/*.md", f"{tmp_path}/empty"]

    with pytest.raises(DataError) as caught:
        Files(paths=(f"{tmp_path}/moby-dick.txt", *wrong)).parts()

    assert all(f"`{path}`" in caught.value.message for path in wrong)
    assert f"`{tmp_path}/moby-dick.txt`" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("books/Moby Dick.txt", "Moby-Dick"),
        ("novels.tar.xz", "novels"),
        ("a/b/rows.jsonl.gz", "rows"),
        ("data/*.txt", "data"),
        ("données/**/*.md", "donnees"),
        ("日本", "files"),
    ],
)
def test_a_corpus_is_named_after_the_first_path(path: str, name: str):
    assert Files(paths=(path, "other.txt")).default_name() == name


@pytest.mark.parametrize(
    "knobs",
    [
        {"paths": ()},
        {"split": "words"},
        {"split": "chars:0"},
        {"split": "chars:99999999"},
        {"encoding": "klingon"},
        {"encoding": "base64"},
    ],
)
def test_knobs_that_make_no_sense_are_refused(knobs: dict[str, str]):
    with pytest.raises(ConfigError) as caught:
        Files(**{"paths": ("a.txt",)} | knobs)

    assert caught.value.hint


def test_the_source_loads_no_library_before_it_reads():
    heavy = [
        "pyarrow",
        "torch",
        "datasets",
        "ftfy",
        "selectolax",
        "charset_normalizer",
        "zstandard",
    ]
    code = f"import sys, llmctl.data.sources.files; print([n for n in {heavy} if n in sys.modules])"

    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert told.stdout.strip() == "[]"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's peak memory")
@pytest.mark.parametrize("ending", ["txt", "html", "jsonl", "csv", "txt.zst"])
def test_memory_stays_bounded_on_one_line_of_200_megabytes(tmp_path: Path, ending: str):
    unit = ("word " * 2000 + "\U0001f600").encode()
    path = tmp_path / f"a.{ending}"
    with zstandard.open(path, "wb") if ending.endswith("zst") else path.open("wb") as file:
        for _ in range(20_000):
            file.write(unit)
    code = """
import sys
from pathlib import Path
from llmctl.data.sources.files import Files
source = Files(paths=(sys.argv[1],))
count = sum(1 for part in source.parts() for _ in source.read(part))
(peak,) = (line for line in Path("/proc/self/status").open() if line.startswith("VmHWM"))
print(count, int(peak.split()[1]) // 1024)
"""

    told = subprocess.run(
        [sys.executable, "-c", code, str(path)], check=True, capture_output=True, text=True
    )

    count, megabytes = map(int, told.stdout.split())
    assert count
    assert megabytes < 500


@pytest.mark.parametrize(
    ("name", "count"),
    [("books/gutenberg", 5), ("files/inaugural.zip", 60), ("langid/udhr2.zip", 387)],
)
def test_real_texts_come_out_readable(shared_data: Path, name: str, count: int):
    documents, _ = read(shared_data / name)

    assert len(documents) == count
    assert not any("Ã©" in one.text or "\ufffd" in one.text for one in documents)


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("spam/sms_spam.tsv", 5574),
        ("spam/spam.csv", 5572),
        ("classify/airline_tweets.csv", 14640),
        ("classify/ag_news/test.csv", 7600),
        ("classify/korean_chatbot.csv", 11823),
        ("math/aqua_test.json", 254),
        ("math/gsm8k_train.jsonl.gz", 7473),
        ("extraction/pages.tar", 100),
    ],
)
def test_real_tables_give_every_row(shared_data: Path, name: str, rows: int):
    documents, rejected = read(shared_data / name)

    assert len(documents) == rows
    assert all(one.kept for one in rejected)
