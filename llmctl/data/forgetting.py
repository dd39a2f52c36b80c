"""A folder of shards -> the same folder without some documents, wherever they are spoken of.

Works on corpora and tokens alike: a row belongs to a document by its `id` or `document`. Rows of
others that name a forgotten document as their twin lose the name. All other files are copied.
"""

import shutil
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute

from llmctl.shards import INDEX, ShardReader, ShardWriter, write_index

# Its functions are made when it is imported, where no type checker sees them.
pc: Any = pyarrow.compute
OWN_FILES = {INDEX, "state.json", "dataset_info.json"}


class Removed(NamedTuple):
    """What was taken out of one folder of shards."""

    rows: int
    tokens: int
    text_bytes: int


class Place(NamedTuple):
    """Where a row about a document stands: folder within the artifact, file, and the row itself."""

    folder: str
    shard: str
    row: dict[str, Any]


def find(artifact: Path, document: str) -> Iterator[Place]:
    """Every row of an artifact that is about a document."""
    for folder in shard_folders(artifact):
        reader = ShardReader(folder)
        for index, batch in enumerate(reader):
            rows = np.flatnonzero(_names(batch).to_numpy(zero_copy_only=False) == document)
            for row in batch.take(pa.array(rows, pa.int64())).to_pylist():
                within = folder.relative_to(artifact).as_posix()
                yield Place("" if within == "." else within, reader.file_of(index), row)


def documents_of(artifact: Path, url: str) -> set[str]:
    """The ids of the documents of an artifact that came from an address, or from below it."""
    below = url.rstrip("/") + "/"
    found: set[str] = set()
    for folder in shard_folders(artifact):
        for batch in ShardReader(folder):
            if "url" not in batch.schema.names:
                break
            urls = batch.column("url")
            is_meant = pc.or_(pc.equal(urls, url), pc.starts_with(urls, below))
            found.update(batch.filter(is_meant).column("id").to_pylist())
    return found


def holds(artifact: Path, documents: Collection[str]) -> bool:
    """Whether an artifact speaks of any of the documents."""
    wanted = pa.array(sorted(documents), pa.string())
    return any(
        pc.any(_is_about(batch, wanted)).as_py()
        for folder in shard_folders(artifact)
        for batch in ShardReader(folder)
    )


def rewrite(artifact: Path, target: Path, documents: Collection[str]) -> dict[str, Removed]:
    """Copy an artifact's files without the documents; what was removed, by folder of shards."""
    folders = shard_folders(artifact)
    shards = {folder / shard.file for folder in folders for shard in ShardReader(folder).shards} | {
        folder / name for folder in folders for name in OWN_FILES
    }
    for path in sorted(artifact.rglob("*")):
        if path.is_file() and path not in shards:
            copy = target / path.relative_to(artifact)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    wanted = pa.array(sorted(documents), pa.string())
    removed: dict[str, Removed] = {}
    for folder in folders:
        within = folder.relative_to(artifact)
        removed[within.as_posix()] = _rewrite_folder(folder, target / within, wanted)
    return removed


def shard_folders(artifact: Path) -> list[Path]:
    """The folders of shards in an artifact: itself, its splits, its history."""
    return sorted(path.parent for path in artifact.rglob(INDEX))


def _rewrite_folder(folder: Path, target: Path, wanted: pa.Array) -> Removed:
    target.mkdir(parents=True, exist_ok=True)
    gone = Counter[str]()
    reader = ShardReader(folder)
    schema = reader.batch(0).schema if len(reader) else None
    if schema is None:
        for name in OWN_FILES:
            shutil.copyfile(folder / name, target / name)
        return Removed(0, 0, 0)
    with ShardWriter(target, schema) as writer:
        for batch in reader:
            about = _is_about(batch, wanted)
            _measure(gone, batch.filter(about))
            kept = _without_twins(batch.filter(pc.invert(about)), wanted)
            if kept.num_rows:
                writer.write(kept, tokens=_tokens(kept))
    write_index(target, schema, writer.shards)
    return Removed(gone["rows"], gone["tokens"], gone["bytes"])


def _names(batch: pa.RecordBatch) -> pa.Array:
    return batch.column("document" if "document" in batch.schema.names else "id")


def _is_about(batch: pa.RecordBatch, wanted: pa.Array) -> pa.Array:
    return pc.is_in(_names(batch), value_set=wanted)


def _measure(gone: Counter[str], batch: pa.RecordBatch) -> None:
    gone["rows"] += batch.num_rows
    gone["tokens"] += _tokens(batch)
    if "bytes" in batch.schema.names:
        gone["bytes"] += pc.sum(batch.column("bytes")).as_py() or 0
    elif "text" in batch.schema.names:
        gone["bytes"] += pc.sum(pc.binary_length(batch.column("text"))).as_py() or 0


def _tokens(batch: pa.RecordBatch) -> int:
    if "ids" not in batch.schema.names:
        return 0
    return pc.sum(pc.list_value_length(batch.column("ids"))).as_py() or 0


def _without_twins(batch: pa.RecordBatch, wanted: pa.Array) -> pa.RecordBatch:
    if "twin" not in batch.schema.names:
        return batch
    is_named = pc.is_in(batch.column("twin"), value_set=wanted)
    for name in ("twin", "detail"):
        at = batch.schema.get_field_index(name)
        batch = batch.set_column(at, name, pc.if_else(is_named, "", batch.column(name)))
    return batch
