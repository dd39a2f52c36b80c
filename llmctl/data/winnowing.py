"""A bundle that went through its rules, and who repeats whom -> shards of the cleaned corpus.

A pure function a bundle, like the screening before it.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from llmctl.data.dedup.bands import EXACT, read_pairs
from llmctl.data.dedup.clusters import NEAR
from llmctl.data.dedup.places import ROW_BITS, Documents
from llmctl.data.funnel import Funnel
from llmctl.data.screening import (
    DROPPED,
    FUNNEL,
    HISTORIES,
    KEPT,
    Bundle,
    with_reasons,
)
from llmctl.durable import write_durably
from llmctl.shards import DOCUMENTS, HISTORY, Region, Shard, ShardReader, ShardWriter, write_index

EXACT_RULE, NEAR_RULE = "exact copies", "near copies"
FOLDERS = {KEPT: (".", DOCUMENTS), HISTORIES: (HISTORIES, HISTORY), DROPPED: (DROPPED, DOCUMENTS)}


class Repeat(NamedTuple):
    """A document that goes because it repeats another: by which rule, whose copy, how similar."""

    rule: str
    twin: str
    similarity: float

    @property
    def detail(self) -> str:
        """Whose copy it is, for a person."""
        return f"{self.similarity:.0%} of {self.twin}"

    @property
    def verdict(self) -> tuple[str, str, str]:
        """Rule, reason and detail, as other rules give them."""
        return self.rule, "", self.detail


@dataclass(slots=True)
class Winnowed:
    """What one bundle left: shards by folder, and its funnel."""

    shards: dict[str, list[Shard]] = field(default_factory=dict[str, list[Shard]])
    funnel: Funnel = field(default_factory=Funnel)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON holds them."""
        shards = {key: [asdict(one) for one in listed] for key, listed in self.shards.items()}
        return {"shards": shards, "funnel": self.funnel.to_dict()}

    @staticmethod
    def from_dict(row: dict[str, Any]) -> "Winnowed":
        """The way back from `to_dict`."""
        shards = {
            key: [
                Shard(one["file"], tuple(Region(**region) for region in one["regions"]))
                for one in listed
            ]
            for key, listed in row["shards"].items()
        }
        return Winnowed(shards, Funnel.from_dict(row["funnel"]))


def winnow(
    bundle: Bundle,
    bundles: Sequence[Bundle],
    folders: tuple[Path, Path, Path],
    target: Path,
) -> Winnowed:
    """Write what is left of a bundle; `folders`: signatures, bands, clusters."""
    done = target / f".{bundle.stem}-done.json"
    if done.exists():
        return Winnowed.from_dict(json.loads(done.read_bytes()))
    signatures, bands, clusters = folders
    place = signatures / bundle.stem
    documents = Documents(signatures, bundles)
    repeats = _repeats(bundle, bands, clusters, documents)
    found = Winnowed(funnel=Funnel.from_dict(json.loads((place / FUNNEL).read_bytes())))
    folder_names = [KEPT, HISTORIES, *([DROPPED] if (place / DROPPED).exists() else [])]
    with contextlib.ExitStack() as stack:
        writers = {
            name: stack.enter_context(_writer(target, name, bundle)) for name in folder_names
        }
        for batch in ShardReader(place / DROPPED) if DROPPED in writers else ():
            writers[DROPPED].write(batch)
        for start, batch in _numbered(ShardReader(place / KEPT)):
            rows = [row for row in range(batch.num_rows) if row + start in repeats]
            lost = [repeats[row + start] for row in rows]
            _release(found.funnel, batch, rows, lost)
            _write(writers[KEPT], _without(batch, rows))
            if DROPPED in writers:
                gone = batch.take(pa.array(rows, pa.int64()))
                _write(writers[DROPPED], with_reasons(gone, [one.verdict for one in lost]))
        for batch in _histories(ShardReader(place / HISTORIES), repeats):
            writers[HISTORIES].write(batch)
    found.shards = {name: writer.shards for name, writer in writers.items()}
    write_durably(done, json.dumps(found.to_dict()).encode())
    return found


def write_indexes(target: Path, winnowed: Sequence[Winnowed]) -> None:
    """Make one corpus of the shards of all bundles."""
    for name in winnowed[0].shards:
        folder, schema = FOLDERS[name]
        write_index(
            target / folder, schema, [shard for one in winnowed for shard in one.shards[name]]
        )


def marks(target: Path) -> list[Path]:
    """The marks of the bundles that are done."""
    return list(target.glob(".*-done.json"))


def _writer(target: Path, name: str, bundle: Bundle) -> ShardWriter:
    folder, schema = FOLDERS[name]
    (target / folder).mkdir(exist_ok=True)
    return ShardWriter(target / folder, schema, stem=f"{bundle.stem}-")


def _repeats(
    bundle: Bundle, bands: Path, clusters: Path, documents: Documents
) -> dict[int, Repeat]:
    """The rows of a bundle that repeat an earlier document."""
    found: dict[int, Repeat] = {}
    for rule, pairs in (
        (EXACT_RULE, read_pairs(bands, prefix=EXACT)),
        (NEAR_RULE, read_pairs(clusters, prefix=NEAR)),
    ):
        for left, right, scores in pairs:
            mine = np.flatnonzero(right >> np.uint64(ROW_BITS) == bundle.number)
            for at in mine.tolist():
                row = int(right[at]) & (2**ROW_BITS - 1)
                twin = str(documents.value(int(left[at]), "id"))
                found[row] = Repeat(rule, twin, float(scores[at]))
    return found


def _numbered(reader: ShardReader) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Each batch, with the rows before it."""
    start = 0
    for batch in reader:
        yield start, batch
        start += batch.num_rows


def _without(batch: pa.RecordBatch, rows: Sequence[int]) -> pa.RecordBatch:
    stays = np.ones(batch.num_rows, bool)
    stays[list(rows)] = False
    return batch.filter(pa.array(stays))


def _write(writer: ShardWriter, batch: pa.RecordBatch) -> None:
    if batch.num_rows:
        writer.write(batch)


def _release(
    funnel: Funnel, batch: pa.RecordBatch, rows: Sequence[int], lost: Sequence[Repeat]
) -> None:
    names, texts = batch.column("id"), batch.column("text")
    for row, one in zip(rows, lost, strict=True):
        size = len(texts[row].as_py().encode())
        funnel.release(one.rule, "", size, case=f"{names[row].as_py()} ({one.detail})")


def _histories(reader: ShardReader, repeats: Mapping[int, Repeat]) -> Iterator[pa.RecordBatch]:
    """The histories of a bundle, in which a copy was still kept, as they end."""
    row = 0
    for batch in reader:
        columns = {name: batch.column(name).to_pylist() for name in batch.schema.names}
        for at, verdict in enumerate(columns["verdict"]):
            if verdict != "kept":
                continue
            if row in repeats:
                one = repeats[row]
                columns["verdict"][at], columns["detail"][at] = one.rule, one.detail
                columns["twin"][at], columns["similarity"][at] = one.twin, one.similarity
            row += 1
        yield pa.record_batch(columns, schema=HISTORY)
