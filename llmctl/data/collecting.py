"""Parts of a source -> Arrow shards: a pure function a bundle of parts, so any process can do it.

A bundle that is done leaves a small file that says so; an interrupted run skips it. What was
read, rejected and remarked is counted by reason, with the first cases by name.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from llmctl.data.document import Document, Part, Rejected, Source
from llmctl.data.fetching.network import PASSING, Fetching
from llmctl.durable import write_durably
from llmctl.shards import BATCH_BYTES, DOCUMENTS, Region, Shard, ShardWriter

# A bundle is a 64th of the source, so that all processes have work, within these bounds.
BUNDLES, LEAST_BYTES, MOST_BYTES = 64, 2 * 2**20, 256 * 2**20
MOST_CASES = 5
# A draft holds the list of what it reads besides its shards, until the corpus is whole.
PARTS = ".parts.json"


@dataclass(slots=True)
class Tally:
    """What came out of some parts: shards, counts, and the first cases of each reason."""

    shards: list[Shard] = field(default_factory=list[Shard])
    documents: int = 0
    bytes: int = 0
    dropped: Counter[str] = field(default_factory=Counter[str])
    remarks: Counter[str] = field(default_factory=Counter[str])
    cases: dict[str, list[str]] = field(default_factory=dict[str, list[str]])

    def note(self, rejected: Rejected) -> None:
        """Count a reject or a remark, and keep it by name while there are few."""
        (self.remarks if rejected.kept else self.dropped)[rejected.reason] += 1
        cases = self.cases.setdefault(rejected.reason, [])
        if len(cases) < MOST_CASES:
            told = f"{rejected.where}: {rejected.detail}" if rejected.detail else rejected.where
            cases.append(told)

    def add(self, other: "Tally") -> None:
        """Take the counts of another bundle in."""
        self.shards += other.shards
        self.documents += other.documents
        self.bytes += other.bytes
        self.dropped += other.dropped
        self.remarks += other.remarks
        for reason, cases in other.cases.items():
            mine = self.cases.setdefault(reason, [])
            mine += cases[: MOST_CASES - len(mine)]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON holds them."""
        # `asdict` would count the pairs of a Counter, not copy it.
        return {
            "shards": [asdict(shard) for shard in self.shards],
            "documents": self.documents,
            "bytes": self.bytes,
            "dropped": dict(self.dropped),
            "remarks": dict(self.remarks),
            "cases": self.cases,
        }

    @staticmethod
    def from_dict(row: dict[str, Any]) -> "Tally":
        """The way back from `to_dict`."""
        shards = [
            Shard(one["file"], tuple(Region(**region) for region in one["regions"]))
            for one in row["shards"]
        ]
        counts = {key: Counter[str](row[key]) for key in ("dropped", "remarks")}
        fields: dict[str, Any] = row | {"shards": shards} | counts
        return Tally(**fields)


@dataclass(frozen=True, slots=True)
class Bundle:
    """Parts that one process reads into shards of one stem."""

    number: int
    parts: tuple[Part, ...]

    @property
    def stem(self) -> str:
        """The beginning of the names of its shards."""
        return f"{self.number:05d}-"


def bundles(parts: Sequence[Part]) -> list[Bundle]:
    """Parts in order, put together until they are worth a process of their own."""
    total = sum(part.bytes for part in parts)
    most = min(max(total // BUNDLES, LEAST_BYTES), MOST_BYTES)
    found: list[Bundle] = []
    waiting: list[Part] = []
    for part in parts:
        if waiting and sum(one.bytes for one in waiting) + part.bytes > most:
            found.append(Bundle(len(found), tuple(waiting)))
            waiting = []
        waiting.append(part)
    if waiting:
        found.append(Bundle(len(found), tuple(waiting)))
    return found


def collect_bundle(source: Source, bundle: Bundle, directory: Path, limit: int | None) -> Tally:
    """Read the parts of a bundle into shards in `directory`, at most `limit` documents."""
    done = directory / f".{bundle.stem}done.json"
    if done.exists():
        return Tally.from_dict(json.loads(done.read_bytes()))
    tally = Tally()
    with ShardWriter(directory, DOCUMENTS, stem=bundle.stem) as writer:
        for batch in _batches(_documents(source, bundle.parts, tally, limit)):
            writer.write(batch)
    tally.shards = writer.shards
    write_durably(done, json.dumps(tally.to_dict()).encode())
    return tally


def keep_parts(parts: Sequence[Part], directory: Path) -> None:
    """Write down the parts of a source that fetches: a resumed run reads the same ones.

    What lies elsewhere changes (a new crawl, a new book): a list made anew would be another.
    """
    rows = [asdict(part) for part in parts]
    write_durably(directory / PARTS, json.dumps(rows).encode())


def kept_parts(directory: Path) -> list[Part] | None:
    """The parts that an earlier attempt wrote down, if it did."""
    path = directory / PARTS
    if not path.exists():
        return None
    rows = json.loads(path.read_bytes())
    return [Part(**row | {"spec": _as_tuples(row["spec"])}) for row in rows]


def settled(source: Source, directory: Path) -> Source:
    """The source, told where to keep what it fetches if it does."""
    return source.fetching_into(directory / PASSING) if isinstance(source, Fetching) else source


def scaffold(directory: Path) -> list[Path]:
    """What a whole corpus does not need: marks of finished bundles, and what was fetched."""
    return [*directory.glob(".*done.json"), directory / PARTS, directory / PASSING]


def _as_tuples(value: Any) -> Any:
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value


def _documents(
    source: Source, parts: Sequence[Part], tally: Tally, limit: int | None
) -> Iterator[Document]:
    for part in parts:
        for found in source.read(part):
            if isinstance(found, Rejected):
                tally.note(found)
                continue
            if limit is not None and tally.documents >= limit:
                return
            tally.documents += 1
            tally.bytes += len(found.text.encode())
            yield found


def _batches(documents: Iterable[Document]) -> Iterator[pa.RecordBatch]:
    waiting: list[Document] = []
    size = 0
    for document in documents:
        waiting.append(document)
        size += len(document.text)
        if size >= BATCH_BYTES:
            yield _record_batch(waiting)
            waiting, size = [], 0
    if waiting:
        yield _record_batch(waiting)


def _record_batch(documents: Sequence[Document]) -> pa.RecordBatch:
    columns = [
        [getattr(one, name) for one in documents] for name in DOCUMENTS.names if name != "meta"
    ]
    metas = [json.dumps(one.meta, sort_keys=True) if one.meta else "" for one in documents]
    arrays = [pa.array(column, pa.string()) for column in [*columns, metas]]
    return pa.record_batch(arrays, schema=DOCUMENTS)
