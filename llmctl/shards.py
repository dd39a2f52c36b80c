"""Arrow shards: record batches in, record batches out, and a checksum on every byte between.

A folder of shards opens with `datasets.load_from_disk`. Beside its files stands `shards.json`,
which cuts each file into regions (schema, one a record batch, end mark) with an xxh3 each;
the reader checks a region when it first touches it, because Arrow itself notices no bit flip.

Knows nothing of what the rows mean to a model, nor of artifacts.
"""

import json
import mmap
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self, cast

import pyarrow as pa
import xxhash

from llmctl.errors import DataError

INDEX = "shards.json"
SHARD_BYTES = 512 * 2**20
BATCH_BYTES = 16 * 2**20

DOCUMENTS = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.string()),
        ("source", pa.string()),
        ("url", pa.string()),
        ("licence", pa.string()),
        ("time", pa.string()),
        ("meta", pa.string()),
    ]
)

# What became of each document that a command was given: `kept`, or the rule that dropped it.
# `shard` is the file that it came from, `changes` tells what was changed, `twin` names the
# document that it repeats, `similarity` says how much of it.
HISTORY = pa.schema(
    [
        ("id", pa.string()),
        ("url", pa.string()),
        ("shard", pa.string()),
        ("verdict", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("changes", pa.string()),
        ("twin", pa.string()),
        ("similarity", pa.float32()),
    ]
)


_MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string()), ("trained", pa.bool_())])
CONVERSATIONS = pa.schema([("id", pa.string()), ("messages", pa.list_(_MESSAGE))])


def classes_schema(names: Sequence[str]) -> pa.Schema:
    """One row a text: its id, the text and the number of its class, which `datasets` names."""
    features = {
        "id": {"dtype": "string", "_type": "Value"},
        "text": {"dtype": "string", "_type": "Value"},
        "label": {"names": list(names), "_type": "ClassLabel"},
    }
    told = json.dumps({"info": {"features": features}})
    fields = [("id", pa.string()), ("text", pa.string()), ("label", pa.int64())]
    return pa.schema(fields, metadata={"huggingface": told})


def tokens_schema(width: Literal["uint16", "uint32"]) -> pa.Schema:
    """One row a document: its id, its ids (the end-of-text id first) and its UTF-8 bytes."""
    ids = pa.list_(pa.uint16() if width == "uint16" else pa.uint32())
    return pa.schema([("document", pa.string()), ("ids", ids), ("bytes", pa.int64())])


def keys_schema(bands: int) -> pa.Schema:
    """One row a document: its text as 128 bits, its shingles counted, a key for each band."""
    exact = [("text_high", pa.uint64()), ("text_low", pa.uint64()), ("shingles", pa.int64())]
    return pa.schema([*exact, *((f"band_{band:03d}", pa.uint64()) for band in range(bands))])


def pairs_schema() -> pa.Schema:
    """One row a pair of documents, by their places in the run, and how similar they are."""
    return pa.schema([("left", pa.uint64()), ("right", pa.uint64()), ("similarity", pa.float32())])


@dataclass(frozen=True, slots=True)
class Region:
    """A stretch of a shard file: where it lies, its xxh3 (hex), its rows and tokens."""

    offset: int
    length: int
    xxh3: str
    rows: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Shard:
    """One finished Arrow file: its name and its regions, which tile the file."""

    file: str
    regions: tuple[Region, ...]

    @property
    def rows(self) -> int:
        """The rows of the file."""
        return sum(region.rows for region in self.regions)

    @property
    def bytes(self) -> int:
        """The length of the file."""
        return sum(region.length for region in self.regions)


class ShardWriter:
    """Writes record batches into numbered Arrow files of about `SHARD_BYTES`.

    `stem` keeps the files of several writers in one folder apart and in order. Leaving the
    `with` block closes and syncs the last file; `shards` then lists what was written.
    """

    def __init__(self, directory: Path, schema: pa.Schema, *, stem: str = "") -> None:
        self.directory = directory
        self.schema = schema
        self.stem = stem
        self.shards: list[Shard] = []
        self._sink: pa.OSFile | None = None
        self._stream: pa.RecordBatchStreamWriter | None = None
        self._marks: list[tuple[int, int, int]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._close()

    def write(self, batch: pa.RecordBatch, *, tokens: int = 0) -> None:
        """Append one batch of so many tokens; a new file begins where the present one is large."""
        if self._sink is not None and self._sink.tell() > SHARD_BYTES:
            self._close()
        if self._sink is None:
            self._open()
        assert self._sink is not None
        assert self._stream is not None
        self._stream.write_batch(batch)
        self._marks.append((self._sink.tell(), batch.num_rows, tokens))

    @property
    def _file(self) -> str:
        return f"{self.stem}{len(self.shards):05d}.arrow"

    def _open(self) -> None:
        self._sink = pa.OSFile(str(self.directory / self._file), "wb")
        self._stream = pa.ipc.new_stream(self._sink, self.schema)
        # The stream opens with the schema, written together with the first batch.
        self._marks = [(self.schema.serialize().size, 0, 0)]

    def _close(self) -> None:
        if self._sink is None or self._stream is None:
            return
        self._stream.close()
        self._marks.append((self._sink.tell(), 0, 0))
        self._sink.close()
        path = self.directory / self._file
        self.shards.append(Shard(self._file, tuple(_regions(path, self._marks))))
        self._sink = self._stream = None


def _regions(path: Path, marks: Sequence[tuple[int, int, int]]) -> Iterator[Region]:
    with path.open("r+b") as file:
        os.fsync(file.fileno())
        start = 0
        for end, rows, tokens in marks:
            if end > start:
                yield Region(start, end - start, _hash(file.read(end - start)), rows, tokens)
            start = end


def _hash(data: Any) -> str:
    return xxhash.xxh3_64_hexdigest(data)


def write_index(directory: Path, schema: pa.Schema, shards: Iterable[Shard]) -> None:
    """Write `shards.json`, and what makes `datasets.load_from_disk` open the folder."""
    listed = list(shards)
    index = {"schema": 1, "shards": [asdict(shard) for shard in listed]}
    fingerprint = _hash(json.dumps(index, sort_keys=True).encode())
    state: dict[str, Any] = {
        "_data_files": [{"filename": shard.file} for shard in listed],
        "_fingerprint": fingerprint,
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    _dump(directory / "state.json", state)
    _dump(directory / "dataset_info.json", {"citation": "", "description": "", "license": ""})
    _dump(directory / INDEX, index | {"columns": schema.names})


def write_splits(directory: Path, splits: Iterable[str]) -> None:
    """Make a folder of shard folders a `datasets.DatasetDict`."""
    _dump(directory / "dataset_dict.json", {"splits": list(splits)})


def _dump(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


class ShardReader:
    """The record batches of a folder of shards, memory-mapped, each checked at its first touch."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.shards = _read_index(directory)
        self._places = [
            (number, region)
            for number, shard in enumerate(self.shards)
            for region in shard.regions
            if region.rows
        ]
        self._maps: dict[int, tuple[memoryview, pa.Schema]] = {}
        self._checked: set[int] = set()

    def __len__(self) -> int:
        """The number of record batches."""
        return len(self._places)

    @property
    def rows(self) -> int:
        """The rows of all shards."""
        return sum(shard.rows for shard in self.shards)

    @property
    def bytes(self) -> int:
        """The bytes of all shards on disk."""
        return sum(shard.bytes for shard in self.shards)

    def tokens_of(self, index: int) -> int:
        """The tokens of batch `index`, without touching it."""
        return self._places[index][1].tokens

    def rows_of(self, index: int) -> int:
        """The rows of batch `index`, without touching it."""
        return self._places[index][1].rows

    def bytes_of(self, index: int) -> int:
        """The bytes of batch `index` on disk."""
        return self._places[index][1].length

    def file_of(self, index: int) -> str:
        """The file that holds batch `index`."""
        return self.shards[self._places[index][0]].file

    def batch(self, index: int) -> pa.RecordBatch:
        """Record batch `index`, zero-copy; raises DataError naming the file where it is damaged."""
        number, region = self._places[index]
        view, schema = self._open(number)
        data = view[region.offset : region.offset + region.length]
        if index not in self._checked:
            self._check(number, region, data)
            self._checked.add(index)
        return cast(pa.RecordBatch, pa.ipc.read_record_batch(pa.py_buffer(data), schema))

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for index in range(len(self)):
            yield self.batch(index)
            self._let_go(index)

    def _let_go(self, index: int) -> None:
        """Give the pages of a batch back to the system; they come again where still needed."""
        number, region = self._places[index]
        mapped = cast(mmap.mmap, self._open(number)[0].obj)
        start = region.offset - region.offset % mmap.PAGESIZE
        mapped.madvise(mmap.MADV_DONTNEED, start, region.offset + region.length - start)

    def _open(self, number: int) -> tuple[memoryview, pa.Schema]:
        if number not in self._maps:
            shard = self.shards[number]
            path = self.directory / shard.file
            if not path.exists() or path.stat().st_size != shard.bytes:
                raise _damaged(path, "it is missing or its size has changed")
            with path.open("rb") as file:
                view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            head, *_, tail = shard.regions
            for region in (head, tail):
                end = region.offset + region.length
                self._check(number, region, view[region.offset : end])
            schema = pa.ipc.read_schema(pa.py_buffer(view[: head.length]))
            self._maps[number] = (view, schema)
        return self._maps[number]

    def _check(self, number: int, region: Region, data: memoryview) -> None:
        if _hash(data) != region.xxh3:
            path = self.directory / self.shards[number].file
            raise _damaged(path, f"bytes {region.offset:,} and on do not match their checksum")


def _read_index(directory: Path) -> list[Shard]:
    path = directory / INDEX
    try:
        index = json.loads(path.read_bytes())
        return [
            Shard(row["file"], tuple(Region(**region) for region in row["regions"]))
            for row in index["shards"]
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, "the list of shards cannot be read") from error


def _damaged(path: Path, why: str) -> DataError:
    return DataError(
        f"{path} is damaged: {why}",
        hint="make it anew with `--force` on the command that made it, or bring back a copy",
    )
