"""Shards: what was written comes back, opens elsewhere, and no flipped bit passes."""

import re
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pytest

from llmctl import shards
from llmctl.errors import DataError
from llmctl.shards import ShardReader, ShardWriter, tokens_schema, write_index

ROWS = [("a", [1, 2, 3], 7), ("b", [4], 2), ("c", [5, 6], 5)]


def write(directory: Path, *, batches: int = 3) -> Path:
    schema = tokens_schema("uint16")
    with ShardWriter(directory, schema) as writer:
        for _ in range(batches):
            columns = [list(column) for column in zip(*ROWS, strict=True)]
            writer.write(pa.record_batch(columns, schema=schema), tokens=6)
    write_index(directory, schema, writer.shards)
    return directory


def test_batches_come_back_as_written(tmp_path: Path) -> None:
    reader = ShardReader(write(tmp_path))

    assert reader.rows == 9
    assert [batch.column("ids").to_pylist() for batch in reader] == [[[1, 2, 3], [4], [5, 6]]] * 3
    assert [reader.tokens_of(index) for index in range(len(reader))] == [6, 6, 6]


def test_datasets_opens_a_folder_of_shards(tmp_path: Path) -> None:
    opened = datasets.load_from_disk(str(write(tmp_path)))

    assert opened["document"][:3] == ["a", "b", "c"]


def test_several_files_are_read_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 100)

    reader = ShardReader(write(tmp_path))

    assert len(reader.shards) == 3
    assert reader.rows == 9


def test_no_flipped_bit_of_a_shard_passes(tmp_path: Path) -> None:
    write(tmp_path)
    path = tmp_path / "00000.arrow"
    content = path.read_bytes()

    for place in range(0, len(content), 7):
        flipped = bytearray(content)
        flipped[place] ^= 1 << (place % 8)
        path.write_bytes(flipped)
        with pytest.raises(DataError, match=r"00000\.arrow"):
            list(ShardReader(tmp_path))


@pytest.mark.parametrize("length", [0, 100, -1])
def test_a_shard_cut_short_is_named(tmp_path: Path, length: int) -> None:
    path = write(tmp_path) / "00000.arrow"
    path.write_bytes(path.read_bytes()[:length])

    with pytest.raises(DataError, match=r"00000\.arrow"):
        list(ShardReader(tmp_path))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks the Linux kernel")
def test_reading_from_end_to_end_holds_a_batch_in_memory_and_not_the_file(tmp_path: Path) -> None:
    ids = pa.array([np.zeros(4 * 2**20, np.uint16)], tokens_schema("uint16").field("ids").type)
    with ShardWriter(tmp_path, tokens_schema("uint16")) as writer:
        for _ in range(8):
            writer.write(pa.record_batch([["a"], ids, [1]], schema=writer.schema), tokens=len(ids))
    write_index(tmp_path, writer.schema, writer.shards)
    before = mapped_bytes()

    peak = max(mapped_bytes() for batch in ShardReader(tmp_path) if batch.num_rows)

    # A batch has 8 MiB, and the next is checked before the last one is forgotten.
    assert peak - before < 24 * 2**20


def mapped_bytes() -> int:
    """The bytes of files that this process holds in memory."""
    found = re.search(r"RssFile:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return 1024 * int(found[1])
