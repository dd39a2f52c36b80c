"""Batches: a pure function of (seed, step) that loses, doubles and mixes nothing."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from llmctl.data.batches import (
    IGNORED,
    TokenStream,
    TrainingBatches,
    shuffled,
    validation_batches,
)
from llmctl.shards import ShardWriter, tokens_schema, write_index

END = 0


def stream_of(directory: Path, documents: list[list[int]], *, per_batch: int = 2) -> TokenStream:
    schema = tokens_schema("uint16")
    directory.mkdir(exist_ok=True)
    with ShardWriter(directory, schema) as writer:
        for start in range(0, len(documents), per_batch):
            rows = [[END, *ids] for ids in documents[start : start + per_batch]]
            names = [str(number) for number in range(len(rows))]
            batch = pa.record_batch([names, rows, [len(row) for row in rows]], schema=schema)
            writer.write(batch, tokens=sum(map(len, rows)))
    write_index(directory, schema, writer.shards)
    return TokenStream(directory)


def one_long(directory: Path, length: int) -> TokenStream:
    return stream_of(directory, [[1 + number % 250 for number in range(length)]])


def training(stream: TokenStream, *, rows: int = 4, seed: int = 1) -> TrainingBatches:
    return TrainingBatches(stream, context=8, rows=rows, end_of_text=END, seed=seed)


def test_the_stream_is_the_documents_end_to_end(tmp_path: Path) -> None:
    documents = [[5, 6, 7], [8], [], [9, 10]]
    stream = stream_of(tmp_path, documents)
    out = np.empty(len(stream), dtype=np.int64)

    stream.read(0, out)

    assert out.tolist() == [0, 5, 6, 7, 0, 8, 0, 0, 9, 10]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000, 4097])
def test_every_window_is_visited_once_an_epoch_in_another_order(size: int) -> None:
    first = [shuffled(place, size, key=11) for place in range(size)]
    second = [shuffled(place, size, key=12) for place in range(size)]

    assert sorted(first) == sorted(second) == list(range(size))
    assert size < 7 or first != second != list(range(size))


def test_a_batch_depends_on_seed_and_step_alone(tmp_path: Path) -> None:
    stream = one_long(tmp_path, 1000)

    again = training(TokenStream(tmp_path)).batch(17)
    batch = training(stream).batch(17)

    assert batch.inputs_BT.equal(again.inputs_BT)
    assert not batch.inputs_BT.equal(training(stream, seed=2).batch(17).inputs_BT)
    assert not batch.inputs_BT.equal(training(stream).batch(18).inputs_BT)


def test_the_data_order_does_not_depend_on_how_many_rows_a_rank_takes(tmp_path: Path) -> None:
    stream = one_long(tmp_path, 1000)

    whole = training(stream, rows=4).batch(3)
    halves = [training(stream, rows=2).batch(step) for step in (6, 7)]

    assert whole.inputs_BT.tolist() == [row for half in halves for row in half.inputs_BT.tolist()]


def test_targets_are_the_next_tokens(tmp_path: Path) -> None:
    batch = training(one_long(tmp_path, 1000)).batch(0)

    assert batch.inputs_BT[:, 1:].equal(batch.targets_BT[:, :-1])
    assert batch.trained == batch.targets_BT.numel()


def test_segments_change_exactly_where_a_document_begins(tmp_path: Path) -> None:
    documents = [[1 + number] * 5 for number in range(40)]

    batch = training(stream_of(tmp_path, documents)).batch(0)

    assert batch.segments_BT is not None
    begins = batch.segments_BT[:, 1:] != batch.segments_BT[:, :-1]
    assert begins.equal(batch.inputs_BT[:, 1:] == END)


def test_a_row_inside_one_document_has_no_segments(tmp_path: Path) -> None:
    batches = training(one_long(tmp_path, 1000), rows=1)
    inside = [
        batches.batch(step).segments_BT is None
        for step in range(20)
        if END not in batches.batch(step).inputs_BT[:, 1:]
    ]

    assert inside
    assert all(inside)


def test_validation_scores_every_token_but_the_first_once(tmp_path: Path) -> None:
    documents = [[3, 4, 5, 6, 7], [8, 9], [10] * 11]
    stream = stream_of(tmp_path, documents)
    out = np.empty(len(stream), dtype=np.int64)
    stream.read(0, out)

    found = [
        int(target)
        for batch in validation_batches(stream, context=4, rows=2, end_of_text=END)
        for target in batch.targets_BT.flatten()
        if target != IGNORED
    ]

    assert found == out[1:].tolist()


def test_a_text_shorter_than_a_window_still_gives_batches(tmp_path: Path) -> None:
    batch = training(stream_of(tmp_path, [[1, 2, 3]])).batch(0)

    assert batch.trained == 4 * 3
    assert batch.targets_BT[0].tolist() == [1, 2, 3, *[IGNORED] * 5]
