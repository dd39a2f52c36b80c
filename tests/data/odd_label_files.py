"""Files with labels or answers as people really have them: odd, broken, or not what they seem.

Each case says what should become of it. All of them are made from a seed; no file is shipped.
"""

import bz2
import csv
import gzip
import io
import json
import lzma
import random
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

SUBJECTS = (
    "the parcel|my card|your app|this film|a café|the hotel|our flight|dinner|naïve me".split("|")
)
VERBS = "arrived late|never worked|was a joy|made me smile|broke twice|cost too much".split("|")
ENDINGS = ", again|; so what|, “really”|!|, and I would go back|… – never more| 🙂".split("|")
LABELS = ("bad", "good")
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": lambda data: gzip.compress(data, mtime=0),
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}
MAGIC = {
    "png": b"\x89PNG\r\n\x1a\n",
    "workbook": b"PK\x03\x04",
    "old workbook": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
    "pdf": b"%PDF-1.7\n",
    "elf": b"\x7fELF",
}

Kind = Literal["classes", "conversations"]
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Case:
    """Files by name, the one to give, how to read it, and what should come of it.

    `says` are parts of the remarks, or of the refusal; `accepted` is None where damage by chance
    may go either way.
    """

    title: str
    kind: Kind
    path: str
    files: dict[str, bytes]
    accepted: bool | None = True
    says: tuple[str, ...] = ()
    knobs: dict[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> Path:
        """Write the files; returns the path to give."""
        for name, data in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        return folder / self.path


def cases(seed: int = 0) -> list[Case]:
    """All cases, the same for the same seed."""
    draw = random.Random(seed)
    makers = (
        _delimited, _json, _columnar, _folders, _odd_labels, _no_labels, _wrong_columns,
        _no_text_at_all, _talks, _odd_talks, _no_talks, _templates, _damaged,
    )  # fmt: skip
    return [case for maker in makers for case in maker(draw)]


def _sentence(draw: random.Random) -> str:
    words = draw.choice(SUBJECTS), draw.choice(VERBS), str(draw.randrange(10_000))
    return " ".join(words) + draw.choice(ENDINGS)


def _rows(draw: random.Random, count: int = 24, labels: Any = LABELS) -> list[Row]:
    return [{"text": _sentence(draw), "label": labels[n % len(labels)]} for n in range(count)]


def _pairs(draw: random.Random, count: int = 12) -> list[Row]:
    return [
        {"question": f"Why {_sentence(draw)}?", "answer": _sentence(draw)} for _ in range(count)
    ]


def _csv(rows: list[Row], *, header: bool = True, **form: Any) -> str:
    sink = io.StringIO()
    writer = csv.DictWriter(sink, list(rows[0]), **({"lineterminator": "\n"} | form))
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return sink.getvalue()


def _jsonl(rows: list[Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _classes(title: str, name: str, data: bytes | str, *says: str, **more: Any) -> Case:
    content = data.encode() if isinstance(data, str) else data
    return Case(title, "classes", name, {name: content}, says=says, **more)


def _talk(title: str, name: str, data: bytes | str, *says: str, **more: Any) -> Case:
    content = data.encode() if isinstance(data, str) else data
    return Case(title, "conversations", name, {name: content}, says=says, **more)


def _delimited(draw: random.Random) -> Iterator[Case]:
    """Every way to write a table as text, by chance."""
    for number in range(48):
        delimiter = draw.choice(",;\t|")
        header = draw.random() < 0.6
        encoding = draw.choice(["utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-16-le"])
        ending = draw.choice(["\n", "\r\n", "\r"])
        packer = draw.choice([*PACKERS])
        rows = _rows(draw, 30)
        if draw.random() < 0.5:
            rows = [{"label": row["label"], "text": row["text"]} for row in rows]
        if draw.random() < 0.4 and delimiter != "\t":
            rows[draw.randrange(30)]["text"] += '\nin two lines, with a "quote"'
        if header and draw.random() < 0.3:
            rows = [{**row, "": "", "notes": ""} for row in rows]
        quoting = draw.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
        text = _csv(rows, header=header, delimiter=delimiter, quoting=quoting)
        # Windows-1252 has no smile.
        data = text.replace("🙂", ":)").replace("\n", ending).encode(encoding)
        says = ["text column `text`, label column `label`"] if header else ["no header"]
        says += ["encoding cp1252"] if encoding == "cp1252" else []
        name = f"table.{draw.choice(['csv', 'tsv', 'tab'])}{packer}"
        title = f"delimited {number}: {delimiter!r} {encoding} {ending!r} {packer} header={header}"
        yield _classes(title, name, PACKERS[packer](data), *says)


def _json(draw: random.Random) -> Iterator[Case]:
    """Labels of every type, and every way to hold rows in JSON."""
    said = "text column `text`, label column `label`"
    for labels in (LABELS, (0, 1), (True, False), (1.0, 2.0, 3.0), ("1.0", "2.0"), (["a"], ["b"])):
        rows = _rows(draw, 30, labels)
        yield _classes(f"labels {labels}", "rows.jsonl", _jsonl(rows), said)
        yield _classes(f"labels {labels} in a list", "rows.json", json.dumps(rows), said)
    rows = _rows(draw)
    columns = {name: [row[name] for row in rows] for name in ("text", "label")}
    numbered = {name: dict(enumerate(held)) for name, held in columns.items()}
    yield _classes("a list a column", "rows.json", json.dumps(columns), said)
    yield _classes("as pandas writes it", "rows.json", json.dumps(numbered), said)
    wrapped = {"version": 1, "data": rows}
    yield _classes("rows in an object", "rows.json", json.dumps(wrapped), said)
    yield _classes("lines in .json", "rows.json", _jsonl(rows), said)
    yield _classes("lines in .txt", "rows.txt", _jsonl(rows), said)
    yield _classes("a list in .txt", "rows.txt", json.dumps(rows, indent=1), said)
    yield _classes("no ending", "rows", _jsonl(rows), said)
    yield _classes("a mark before", "rows.jsonl", b"\xef\xbb\xbf" + _jsonl(rows), said)
    blank = _jsonl(rows).replace(b"\n", b"\r\n\r\n")
    yield _classes("blank lines", "rows.jsonl", blank, said)
    no_end = _jsonl(rows).rstrip()
    yield _classes("no end of the last line", "rows.jsonl", no_end, said)
    for broken in (b'{"text": "half', b"[1, 2]", b"null", b"42", b'{"text": "a"} trailing'):
        data = _jsonl(rows[:7]) + broken + b"\n" + _jsonl(rows[7:])
        yield _classes(f"line 8 is {broken!r}", "rows.jsonl", data, "rows.jsonl:8")


def _columnar(draw: random.Random) -> Iterator[Case]:
    said = "text column `text`, label column `label`"
    table = pa.Table.from_pylist(_rows(draw, 30, (3, 7)))
    kinds = {
        "int8": table.set_column(1, "label", table["label"].cast(pa.int8())),
        "float": table.set_column(1, "label", table["label"].cast(pa.float64())),
        "dictionary": table.set_column(
            1, "label", table["label"].cast(pa.string()).dictionary_encode()
        ),
        "large text": table.set_column(0, "text", table["text"].cast(pa.large_string())),
        "with nulls": pa.concat_tables([table, pa.table({"text": ["x y"], "label": [None]})],
                                       promote_options="permissive"),
    }  # fmt: skip
    for title, held in kinds.items():
        sink = io.BytesIO()
        pq.write_table(held, sink)
        lost = ("no label: 1", "rows.parquet:31") if title == "with nulls" else ()
        yield _classes(f"parquet, {title}", "rows.parquet", sink.getvalue(), said, *lost)
        stream = io.BytesIO()
        with pa.ipc.new_stream(stream, held.schema) as writer:
            writer.write_table(held)
        yield _classes(f"arrow, {title}", "rows.arrow", stream.getvalue(), said)


def _folders(draw: random.Random) -> Iterator[Case]:
    documents = {f"{LABELS[n % 2]}/{n}.txt": _sentence(draw).encode() for n in range(20)}
    said = "text column `text`, label column `label`"
    folder = {f"reviews/{name}": data for name, data in documents.items()}
    yield Case("a folder a label", "classes", "reviews", folder, says=(said,))
    beside = folder | {"reviews/README": b"What this is.", "reviews/.DS_Store": b"\0\0"}
    yield Case("and a file beside", "classes", "reviews", beside, says=(said, "README"))
    empty = folder | {"reviews/bad/empty.txt": b""}
    yield Case("and an empty text", "classes", "reviews", empty, says=("reviews/bad/empty.txt",))
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as bundle:
        for name, data in documents.items():
            bundle.writestr(name, data)
    yield _classes("a zip of folders", "reviews.zip", zipped.getvalue(), said)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as bundle:
        entry = tarfile.TarInfo("data/rows.csv")
        data = _csv(_rows(draw)).encode()
        entry.size = len(data)
        bundle.addfile(entry, io.BytesIO(data))
    yield _classes("a table in a tar", "data.tar.gz", packed.getvalue(), said)
    split = {f"set/{name}.csv": _csv(_rows(draw)).encode() for name in ("train", "test", "dev")}
    yield Case("train and test", "classes", "set", split, says=("`test.csv` the test", "`dev.csv`"))
    texts = {f"letters/{n}.txt": _sentence(draw).encode() for n in range(4)}
    told = ("plain text", "pretrain --base")
    yield Case("texts in no folder", "classes", "letters", texts, False, told)
    bare = {"empty/.keep": b""}
    yield Case("an empty folder", "classes", "empty", bare, False, ("no files match",))


def _odd_labels(draw: random.Random) -> Iterator[Case]:
    """Files that are fine but for some rows: these are named, all others are read."""
    rows = _rows(draw, 30)

    def changed(number: int, **values: Any) -> str:
        return _csv([{**row, **values} if n == number else row for n, row in enumerate(rows)])

    yield _classes("no label in a row", "a.csv", changed(4, label=""), "no label: 1", "a.csv:6")
    yield _classes("no text in a row", "a.csv", changed(4, text=" "), "no text: 1", "a.csv:6")
    yield _classes("a rare class", "a.csv", changed(4, label="odd"), "fewer than 3", "`odd`")
    yield _classes("a spelling", "a.csv", changed(4, label=" BAD "), "`BAD` as `bad`")
    yield _classes("a doubled row", "a.csv", _csv([*rows, rows[3]]), "duplicates dropped: 1")
    twice = [*rows, {**rows[3], "label": "bad" if rows[3]["label"] == "good" else "good"}]
    yield _classes("two labels", "a.csv", _csv(twice), "texts with two labels: 1", "a.csv:5")
    lines = _csv(rows).splitlines(keepends=True)
    wide = [*lines[:5], "too,many,cells,here\n", *lines[5:]]
    yield _classes("a wide row", "a.csv", "".join(wide), "wrong number of columns: 1", "a.csv:6")
    short = [*lines[:5], "short\n", *lines[5:]]
    yield _classes("a short row", "a.csv", "".join(short), "wrong number of columns: 1", "a.csv:6")
    opened = [*lines[:5], '"never closed,bad\n', *lines[5:]]
    yield _classes("an open quote", "a.csv", "".join(opened), "unclosed quote: 1", "a.csv:6")
    broken = _csv(rows).encode() + b"one broken \xff byte,bad\n" + _csv(rows, header=False).encode()
    yield _classes("a broken byte", "a.csv", broken, "label column `label`")
    yield _classes("NULs", "a.csv", _csv(rows).encode().replace(b"the", b"t\0he"), "`label`")
    mojibake = _csv([{**row, "text": row["text"] + " cafÃ©"} for row in rows])
    yield _classes("mojibake", "a.csv", mojibake, "label column `label`")
    packed = gzip.compress(_csv(_rows(draw, 3000)).encode(), mtime=0)
    yield _classes("cut in the middle", "a.csv.gz", packed[:-200], "truncated gzip")
    many = _rows(draw, 450, [f"intent_{n}" for n in range(150)])
    yield _classes("150 classes", "a.csv", _csv(many), "label column `label`")
    named = [{**row, "label_text": f"is {row['label']}", "label": LABELS.index(row["label"])}
             for row in rows]  # fmt: skip
    yield _classes("names beside numbers", "a.csv", _csv(named), "label column `label_text`")
    over = [{"v1": row["label"], "v2": row["text"], "": "", " ": ""} for row in rows]
    yield _classes("empty columns", "a.csv", _csv(over), "label column `v1`")
    long = [{**row, "text": row["text"] * 2000} for row in rows]
    yield _classes("long texts", "a.jsonl", _jsonl(long), "label column `label`")
    lists = [{**row, "label": ["a", "b"]} if n == 9 else row for n, row in enumerate(rows)]
    yield _classes(
        "a row with two labels", "a.jsonl", _jsonl(lists), "no single label", "a.jsonl:10"
    )


def _no_labels(draw: random.Random) -> Iterator[Case]:
    """Files without labels to learn: refused with the reason."""

    def refused(title: str, name: str, data: bytes | str, *says: str, **knobs: Any) -> Case:
        return _classes(title, name, data, *says, accepted=False, knobs=knobs)

    rows = _rows(draw, 30)
    one = [{**row, "label": "good"} for row in rows]
    yield refused("one class", "a.csv", _csv(one), "same label, `good`", "`label`")
    unique = [{**row, "label": f"case {n}"} for n, row in enumerate(rows)]
    yield refused("unique labels", "a.csv", _csv(unique), "unique", "`label`")
    many = _rows(draw, 320, [f"intent {n}" for n in range(160)])
    yield refused("160 classes", "a.csv", _csv(many), "160 different labels", "150")
    none = [{**row, "label": ""} for row in rows]
    yield refused(
        "a column of no labels", "a.csv", _csv(none), "`label` is empty", "pretrain --base"
    )
    missing = {"label_column": "label"}
    yield refused("chosen all the same", "a.csv", _csv(none), "a.csv:2", "`label`", **missing)
    texts = [{"text": row["text"]} for row in rows]
    for name, data in (("a.csv", _csv(texts)), ("a.jsonl", _jsonl(texts))):
        yield refused(f"texts alone in {name}", name, data, "no labels", "pretrain --base")
    prose = "\n\n".join(_sentence(draw) for _ in range(50))
    for name in ("a.txt", "a.md", "a", "a.log", "a.txt.gz"):
        data = gzip.compress(prose.encode(), mtime=0) if name.endswith("gz") else prose
        yield refused(f"plain text as {name}", name, data, "plain text", "pretrain --base")
    yield refused("plain text as .csv", "a.csv", prose, "`")
    yield refused("a web page", "a.html", "<html><p>Hello</p></html>", "plain text")
    few = [{"text": "good day", "label": "x"}, {"text": "bad day", "label": "y"}]
    yield refused("two rows", "a.csv", _csv(few), "`")
    four = [{"text": f"day {n}", "label": "xy"[n % 2]} for n in range(2)] * 2
    yield refused("two texts, twice", "a.csv", _csv(four), "`")
    lists = [{**row, "label": ["a", "b"]} for row in rows]
    yield refused("several labels a row", "a.jsonl", _jsonl(lists), "`label`")
    objects = [{**row, "label": {"cats": 1}} for row in rows]
    yield refused("objects as labels", "a.jsonl", _jsonl(objects), "`label`")


def _wrong_columns(draw: random.Random) -> Iterator[Case]:
    rows = _rows(draw, 30)

    def refused(title: str, data: list[Row], *says: str, **knobs: Any) -> Case:
        return _classes(title, "a.csv", _csv(data), *says, accepted=False, knobs=knobs)

    yield refused("unknown text", rows, "`txt`", "`text`", text_column="txt")
    yield refused("unknown label", rows, "`labels_`", "`label`", label_column="labels_")
    yield refused("one for both", rows, "`label`", text_column="label", label_column="label")
    both = [{"note": row["text"], "a": n % 2, "b": n % 3} for n, row in enumerate(rows)]
    yield refused("which label?", both, "`a`", "`b`", "--label-column")
    chosen = {"label_column": "b"}
    yield _classes("that label", "a.csv", _csv(both), "label column `b`", knobs=chosen)
    numbers = [{"x": n * 37, "label": "ab"[n % 2]} for n in range(30)]
    yield _classes("numbers as text", "a.csv", _csv(numbers), "label column `label`")
    numbers = [{"x": n * 37, "label": "ab"[n % 2]} for n in range(30)]
    yield _classes("numbers in JSON", "a.jsonl", _jsonl(numbers), "`label`", accepted=False)
    yield refused("no share left", rows, "leave nothing", validation=0.5, test_share=0.5)
    yield refused("a share below zero", rows, "between 0 and 1", validation=-0.1)


def _no_text_at_all(draw: random.Random) -> Iterator[Case]:
    """Files that hold no rows at all, whoever reads them."""
    for kind in ("classes", "conversations"):
        for name in ("a.csv", "a.tsv", "a.jsonl", "a.json", "a.txt", "a.parquet", "a.arrow"):
            yield Case(f"empty {name}", kind, name, {name: b""}, False, (name,))
        for name in ("a.csv", "a.jsonl", "a.json"):
            yield Case(f"blank {name}", kind, name, {name: b" \n\n \n"}, False, (name,))
        yield Case("a header alone", kind, "a.csv", {"a.csv": b"text,label\n"}, False, ("a.csv",))
        yield Case("an empty list", kind, "a.json", {"a.json": b"[]"}, False, ("a.json",))
        yield Case("an empty object", kind, "a.json", {"a.json": b"{}"}, False, ("`",))
        yield Case("broken JSON", kind, "a.json", {"a.json": b'[{"text": '}, False, ("a.json:1",))
        noise = draw.randbytes(5000)
        for title, magic in MAGIC.items():
            for name in ("a.csv", "a"):
                data = {name: magic + noise}
                yield Case(f"{title} as {name}", kind, name, data, False, (name,))
        yield Case(
            "noise as parquet", kind, "a.parquet", {"a.parquet": noise}, False, ("a.parquet",)
        )
        yield Case("no such file", kind, "b.csv", {"a.csv": b""}, False, ("b.csv",))


def _messages(row: Row, form: str = "openai") -> list[Row]:
    if form == "openai":
        return [
            {"role": "user", "content": row["question"]},
            {"role": "assistant", "content": row["answer"]},
        ]
    return [{"from": "human", "value": row["question"]}, {"from": "gpt", "value": row["answer"]}]


def _talks(draw: random.Random) -> Iterator[Case]:
    """Every shape of instruction data."""
    rows = _pairs(draw)
    alpaca = [{"instruction": r["question"], "input": "", "output": r["answer"]} for r in rows]
    chatml = [{"messages": _messages(row)} for row in rows]
    past = [row | {"history": [[f"About this: {row['instruction']}", "Yes?"]]} for row in alpaca]
    shapes: dict[str, tuple[list[Any], str]] = {
        "alpaca": (alpaca, "Alpaca"),
        "alpaca with history": (past, "Alpaca"),
        "dolly": (
            [{"instruction": r["question"], "context": "c", "response": r["answer"]} for r in rows],
            "Alpaca",
        ),
        "completion": (
            [{"prompt": r["question"], "completion": r["answer"]} for r in rows],
            "`prompt`, `completion`",
        ),
        "questions": (rows, "`question`, `answer`"),
        "squad": (
            [{**r, "context": "c d", "answer": {"text": [r["answer"]]}} for r in rows],
            "`context`, `question`, `answer`",
        ),
        "sharegpt": ([{"conversations": _messages(row, "share")} for row in rows], "ShareGPT"),
        "openai": (chatml, "OpenAI messages"),
        "with a system": (
            [{"messages": [{"role": "system", "content": "Be kind"}, *_messages(r)]} for r in rows],
            "OpenAI messages",
        ),
        "parts": (
            [
                {"messages": [
                    {**one, "content": [{"type": "text", "text": one["content"]}]}
                    for one in _messages(row)
                ]}
                for row in rows
            ],
            "OpenAI messages",
        ),
        "turns": ([{"turns": [r["question"], r["answer"]]} for r in rows], "turns in a list"),
        "preferences": (
            [{"prompt": r["question"], "chosen": r["answer"], "rejected": "no"} for r in rows],
            "`prompt`, `chosen`",
        ),
        "tree": (
            [
                {"prompt": {"text": r["question"], "role": "prompter", "replies": [
                    {"text": r["answer"], "role": "assistant", "replies": []}]}}
                for r in rows
            ],
            "OASST",
        ),
    }  # fmt: skip
    for title, (held, said) in shapes.items():
        yield _talk(f"{title} in lines", "a.jsonl", _jsonl(held), said)
        yield _talk(f"{title} in a list", "a.json", json.dumps(held), said)
    yield _talk("two columns", "a.csv", _csv(rows).replace("question,answer", "foo,bar"), "`foo`")
    yield _talk("no header", "a.csv", _csv(rows, header=False), "no header", "two columns")
    yield _talk("tabs", "a.txt", _csv(rows, delimiter="\t", quoting=csv.QUOTE_MINIMAL), "`answer`")
    yield _talk("utf-16", "a.csv", _csv(rows).encode("utf-16"), "`question`, `answer`")
    cells = [{"messages": json.dumps(_messages(row))} for row in rows]
    yield _talk("messages in a cell", "a.csv", _csv(cells), "OpenAI messages")
    flat = [
        one
        for n, r in enumerate(rows)
        for one in (
            {"message_id": f"q{n}", "parent_id": None, "role": "prompter", "text": r["question"]},
            {"message_id": f"a{n}", "parent_id": f"q{n}", "role": "assistant", "text": r["answer"]},
        )
    ]
    yield _talk("a message a row", "a.jsonl", _jsonl(flat), "OASST messages")


def _odd_talks(draw: random.Random) -> Iterator[Case]:
    """One bad conversation among good ones: named by its line, all others are read."""
    rows = [{"messages": _messages(row)} for row in _pairs(draw)]
    user, assistant = rows[0]["messages"]
    image = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}
    bad: dict[str, tuple[Any, str]] = {
        "another answer": (
            [user, {**assistant, "weight": 0}, assistant],
            "assistant after assistant",
        ),
        "a tool call": ([user, {**assistant, "tool_calls": [{"id": "1"}]}], "a tool call (`tool_"),
        "no answer to learn": ([user, {**assistant, "weight": 0}], "no answer to learn"),
        "a tool first": ([{"role": "tool", "content": "x"}, assistant], "begins with tool"),
        "an empty answer": ([user, {**assistant, "content": " "}], "empty answer"),
        "an empty question": ([{**user, "content": ""}, assistant], "empty question"),
        "no content": ([user, {"role": "assistant"}], "empty answer"),
        "null": ([user, {"role": "assistant", "content": None}], "empty answer"),
        "no role": ([{"content": "x"}, assistant], "without a role"),
        "a strange role": (
            [{"role": "wizard", "content": "x"}, assistant],
            "unknown role `wizard`",
        ),
        "an image": ([image, assistant], "content of type `image_url`"),
        "no answer": ([user], "no answer"),
        "no messages": ([], "no conversation"),
        "text for messages": ("Hello", "no conversation"),
        "numbers for messages": ([user, 5], "no object"),
    }
    for title, (messages, said) in bad.items():
        data = _jsonl([*rows[:3], {"messages": messages}, *rows[3:]])
        yield _talk(title, "a.jsonl", data, said, "a.jsonl:4")
    again, wrong = {**user, "content": "And now?"}, {**assistant, "weight": 0}
    trimmed: dict[str, tuple[list[Any], str]] = {
        "a question at the end": ([user, assistant, again], "an answer to learn left out: 1"),
        "an answer of weight 0 at the end": ([user, assistant, again, wrong], "left out: 1"),
        "an answer of weight 0": ([user, wrong, again, assistant], "`weight` 0 read and not"),
        "two questions": ([user, again, assistant], "of the same side: 1"),
        "three answers": ([user, assistant, assistant, assistant], "of the same side: 2"),
        "a greeting": ([assistant, again, assistant], "before the first question left out: 1"),
    }
    for title, (messages, said) in trimmed.items():
        yield _talk(title, "a.jsonl", _jsonl([*rows, {"messages": messages}]), said)
    yield _talk("doubled", "a.jsonl", _jsonl([*rows, rows[0]]), "duplicates dropped: 1")
    deep = b"[" * 100_000
    yield _talk("a deep line", "a.jsonl", _jsonl(rows) + deep, f"a.jsonl:{len(rows) + 1}")
    pairs = _pairs(draw)
    lost = [{"question": row["question"]} if n == 5 else row for n, row in enumerate(pairs)]
    yield _talk("a missing field", "a.jsonl", _jsonl(lost), "empty answer", "a.jsonl:6")


def _no_talks(draw: random.Random) -> Iterator[Case]:
    def refused(title: str, name: str, data: bytes | str, *says: str) -> Case:
        return _talk(title, name, data, *says, accepted=False)

    rows = _rows(draw, 40)
    yield refused("labels", "a.csv", _csv(rows), "`label`", "finetune classify")
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    calls = _jsonl([{"messages": [{"role": "user", "content": "Hi"}, call]}] * 5)
    yield refused("tool calls", "a.jsonl", calls, "a.jsonl:1: a tool call", "as text")
    texts = [{"text": row["text"]} for row in rows]
    yield refused("texts alone", "a.jsonl", _jsonl(texts), "`text`", "pretrain --base")
    prose = "\n".join(_sentence(draw) for _ in range(30))
    yield refused("plain text", "a.txt", prose, "plain text", "pretrain --base")
    strange = [{"alpha": n, "beta": row["text"], "gamma": "x"} for n, row in enumerate(rows)]
    yield refused("unknown columns", "a.jsonl", _jsonl(strange), "`alpha`", "--prompt")
    silent = [{"question": row["text"], "answer": ""} for row in rows]
    yield refused("no answers", "a.jsonl", _jsonl(silent), "empty answer", "a.jsonl:1")
    alone = [{"messages": [{"role": "user", "content": "Hi"}]}] * 3
    yield refused("nobody answers", "a.jsonl", _jsonl(alone), "no answer", "a.jsonl:1")


def _templates(draw: random.Random) -> Iterator[Case]:
    rows = [
        {"facts": row["question"], "holding": row["answer"], "the year": 1999}
        for row in _pairs(draw)
    ]
    data = _jsonl(rows)

    def given(title: str, *says: str, accepted: bool = True, **knobs: str) -> Case:
        return _talk(title, "a.jsonl", data, *says, accepted=accepted, knobs=knobs)

    prompt, response = "Facts of {the year}: {facts}", "We hold: {holding}"
    yield given("mapped", "your templates", "`facts`", prompt=prompt, response=response)
    yield given("and a system", "templates", prompt=prompt, response=response, system="Be just.")
    wrong: dict[str, tuple[str, str]] = {
        "an unknown column": ("{fact}", "{holding}"),
        "an open brace": ("{facts", "{holding}"),
        "a closed brace": ("facts}", "{holding}"),
        "no column": ("facts", "{holding}"),
        "an empty name": ("{}", "{holding}"),
        "an attribute": ("{facts.__class__}", "{holding}"),
    }
    for title, (asked, answered) in wrong.items():
        yield given(title, "--prompt", accepted=False, prompt=asked, response=answered)
    yield given("half of it", "--response", accepted=False, prompt=prompt)
    yield given("the other half", "--prompt", accepted=False, response=response)


def _damaged(draw: random.Random) -> Iterator[Case]:
    """Good files with bytes changed or cut off by chance: anything but a traceback."""
    talks = [{"messages": _messages(row)} for row in _pairs(draw, 40)]
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(_rows(draw, 60)), sink)
    good: dict[str, tuple[Kind, bytes]] = {
        "a.csv": ("classes", _csv(_rows(draw, 60)).encode()),
        "a.csv.gz": ("classes", gzip.compress(_csv(_rows(draw, 60)).encode(), mtime=0)),
        "a.json": ("classes", json.dumps(_rows(draw, 60)).encode()),
        "a.parquet": ("classes", sink.getvalue()),
        "a.jsonl": ("conversations", _jsonl(talks)),
    }
    for number in range(10):
        for name, (kind, data) in good.items():
            spoilt = bytearray(data)
            for _ in range(draw.randrange(1, 30)):
                spoilt[draw.randrange(len(spoilt))] = draw.randrange(256)
            cut = spoilt[: draw.randrange(len(spoilt))] if number % 2 else spoilt
            yield Case(f"damage {number} to {name}", kind, name, {name: bytes(cut)}, None)
