"""A bundle of a corpus -> what the rules leave of it, why the rest went, and the keys of copies.

A pure function a bundle, so that any process can do it, in any order. Its folder appears at
once, when all of it is on disk:

    NNNNN/kept/      the documents that are left, changed where a rule changed them
          keys/      for each of them, what exact and near copies have in common
          history/   for each document of the bundle, what became of it
          dropped/   what went, where somebody wants to see it
          funnel.json
"""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from llmctl.data.chain import Passage, Rule, build_rules, judge
from llmctl.data.decontaminate import Decontaminator, stamps_of
from llmctl.data.dedup.minhash import SHINGLE_WORDS, band_keys, banding, signatures
from llmctl.data.funnel import Funnel
from llmctl.data.quality_model import FILE, Light, Quality, Scorer, read_score
from llmctl.data.reading import Reading
from llmctl.durable import appearing, write_durably
from llmctl.shards import DOCUMENTS, HISTORY, ShardReader, ShardWriter, keys_schema, write_index

# A bundle is a 64th of the text, so that all processes have work, within these bounds.
BUNDLES, LEAST_BYTES, MOST_BYTES = 64, 2 * 2**20, 256 * 2**20
QUALITY, CONTAMINATED = "quality", "contaminated"
KEPT, KEYS, HISTORIES, DROPPED, FUNNEL = "kept", "keys", "history", "dropped", "funnel.json"


@dataclass(frozen=True, slots=True)
class Bundle:
    """Neighbouring record batches of one corpus, read by one process.

    One that is `known` is only compared with: its documents are neither judged nor written.
    """

    number: int
    corpus: Path
    start: int
    stop: int
    bytes: int
    known: bool = False

    @property
    def stem(self) -> str:
        """Its number as folders and files bear it."""
        return f"{self.number:05d}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What is done to every document; a similarity of 0 looks for no near copies.

    `tests` are files with examples that no document may give away, `model` is the folder of a light
    classifier of quality, `scorer` another classifier.
    """

    thresholds: Mapping[str, Mapping[str, Any]]
    similarity: float = 0.8
    keep_dropped: bool = False
    tests: tuple[Path, ...] = ()
    model: Path | None = None
    scorer: Scorer | None = None

    @property
    def bands(self) -> tuple[int, int]:
        """How many bands of how many places."""
        return banding(self.similarity) if self.similarity else (0, 0)

    def rules(self) -> list[Rule]:
        """The rules, ready to judge."""
        tests = (
            [Rule(CONTAMINATED, Decontaminator(self.tests, stamps_of(self.tests)))]
            if self.tests
            else []
        )
        return [*build_rules(self.thresholds), *self._quality(), *tests]

    def _quality(self) -> list[Rule]:
        if self.scorer:
            return [Rule(QUALITY, Quality(self.scorer))]
        if not self.model:
            return []
        light = Light(self.model, *stamps_of((self.model / FILE,)))
        return [Rule(QUALITY, Quality(light, read_score(self.model).alpha))]


def bundles(corpora: Sequence[Path], known: Sequence[Path] = ()) -> list[Bundle]:
    """Corpora in order, cut where their record batches end; those to compare with come first."""
    readers = [(path, ShardReader(path), True) for path in known]
    readers += [(path, ShardReader(path), False) for path in corpora]
    total = sum(reader.bytes for _, reader, _ in readers)
    most = min(max(total // BUNDLES, LEAST_BYTES), MOST_BYTES)
    found: list[Bundle] = []
    for path, reader, is_known in readers:
        for start, stop, size in _stretches(reader, most):
            found.append(Bundle(len(found), path, start, stop, size, is_known))
    return found


def _stretches(reader: ShardReader, most: int) -> Iterator[tuple[int, int, int]]:
    start = size = 0
    for index in range(len(reader)):
        more = reader.bytes_of(index)
        if size and size + more > most:
            yield start, index, size
            start, size = index, 0
        size += more
    if size:
        yield start, len(reader), size


def screen(bundle: Bundle, recipe: Recipe, directory: Path) -> Funnel:
    """Judge every document of a bundle; what was done already is not done again."""
    place = directory / bundle.stem
    if place.exists():
        return Funnel.from_dict(json.loads((place / FUNNEL).read_bytes()))
    rules = [] if bundle.known else recipe.rules()
    funnel = Funnel()
    with appearing(place) as beside, _Writers(beside, recipe) as writers:
        reader = ShardReader(bundle.corpus)
        for index in range(bundle.start, bundle.stop):
            shard = f"{bundle.corpus.name}/{reader.file_of(index)}"
            batch = reader.batch(index)
            judged = [judge(rules, text) for text in batch.column("text").to_pylist()]
            writers.keys(judged)
            if not bundle.known:
                _count(funnel, batch, judged, shard)
                writers.documents(batch, judged, shard)
        write_durably(beside / FUNNEL, json.dumps(funnel.to_dict()).encode())
    return funnel


def sample(bundles: Sequence[Bundle], recipe: Recipe, documents: int) -> Funnel:
    """The funnel of about so many documents from all over the bundles; writes nothing."""
    rules, funnel = recipe.rules(), Funnel()
    for some, shard in sampled(bundles, documents):
        judged = [judge(rules, text) for text in some.column("text").to_pylist()]
        _count(funnel, some, judged, shard)
    return funnel


def sampled(bundles: Sequence[Bundle], documents: int) -> Iterator[tuple[pa.RecordBatch, str]]:
    """About so many documents from all over the bundles, the same each time, with their files."""
    chosen = [bundle for bundle in bundles if not bundle.known]
    taken = 0
    for bundle in chosen:
        reader = ShardReader(bundle.corpus)
        batch = reader.batch(bundle.start)
        step = max(1, batch.num_rows * len(chosen) // documents)
        some = batch.take(pa.array(range(0, batch.num_rows, step), pa.int64()))
        yield some, reader.file_of(bundle.start)
        taken += some.num_rows
        if taken >= documents:
            break


def _count(funnel: Funnel, batch: pa.RecordBatch, judged: Sequence[Passage], shard: str) -> None:
    for name, passage in zip(batch.column("id").to_pylist(), judged, strict=True):
        size = passage.reading.bytes
        funnel.take(size + sum(trimmed for _, _, trimmed in passage.edits))
        for rule, counts, trimmed in passage.edits:
            funnel.edit(rule, counts.items(), trimmed)
        if passage.dropped is None:
            funnel.keep(size)
        else:
            rule, reason, detail = passage.dropped
            told = f" ({detail})" if detail else ""
            funnel.drop(rule, reason, size, case=f"{shard} {name}{told}")


class _Writers:
    """The writers of a bundle's folder."""

    def __init__(self, place: Path, recipe: Recipe) -> None:
        self.place = place
        self.recipe = recipe
        schemas = {KEPT: DOCUMENTS, KEYS: keys_schema(recipe.bands[0]), HISTORIES: HISTORY}
        schemas |= {DROPPED: DOCUMENTS} if recipe.keep_dropped else {}
        self._stack = contextlib.ExitStack()
        self._writers: dict[str, ShardWriter] = {}
        for name, schema in schemas.items():
            (place / name).mkdir()
            self._writers[name] = self._stack.enter_context(ShardWriter(place / name, schema))

    def __enter__(self) -> "_Writers":
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()
        for name, writer in self._writers.items():
            write_index(self.place / name, writer.schema, writer.shards)

    def documents(self, batch: pa.RecordBatch, judged: Sequence[Passage], shard: str) -> None:
        """What is left, what went, and what became of each."""
        self._write(KEPT, kept_documents(batch, judged))
        self._write(HISTORIES, _histories(batch, judged, shard))
        if self.recipe.keep_dropped:
            self._write(DROPPED, _dropped_documents(batch, judged))

    def keys(self, judged: Sequence[Passage]) -> None:
        """The keys of what is left."""
        readings = [passage.reading for passage in judged if passage.dropped is None]
        texts = [xxhash.xxh3_128_intdigest(_plain(one.text)) for one in readings]
        shingles = [_shingles(one) for one in readings] if self.recipe.similarity else []
        bands, width = self.recipe.bands
        keys = band_keys(signatures(shingles), bands, width) if bands else np.empty((0, 0))
        columns = [
            np.array([text >> 64 for text in texts], np.uint64),
            np.array([text & (2**64 - 1) for text in texts], np.uint64),
            np.array([len(one) for one in shingles] or [0] * len(texts), np.int64),
            *(np.ascontiguousarray(keys[:, band]) for band in range(bands)),
        ]
        arrays = [pa.array(column) for column in columns]
        self._write(KEYS, pa.record_batch(arrays, schema=keys_schema(bands)))

    def _write(self, name: str, batch: pa.RecordBatch) -> None:
        if batch.num_rows:
            self._writers[name].write(batch)


def kept_documents(batch: pa.RecordBatch, judged: Sequence[Passage]) -> pa.RecordBatch:
    """The rows that no rule dropped, with the text that the rules left."""
    rows = [row for row, passage in enumerate(judged) if passage.dropped is None]
    kept = batch.take(pa.array(rows, pa.int64()))
    texts = pa.array([judged[row].reading.text for row in rows], pa.string())
    return kept.set_column(kept.schema.get_field_index("text"), "text", texts)


def _dropped_documents(batch: pa.RecordBatch, judged: Sequence[Passage]) -> pa.RecordBatch:
    """The rows that went, as they came, with the reason among their facts."""
    rows = [row for row, passage in enumerate(judged) if passage.dropped is not None]
    told = [judged[row].dropped or ("", "", "") for row in rows]
    return with_reasons(batch.take(pa.array(rows, pa.int64())), told)


def with_reasons(batch: pa.RecordBatch, reasons: Sequence[tuple[str, str, str]]) -> pa.RecordBatch:
    """The same documents; what dropped each stands in its `meta`."""
    metas: list[str] = []
    for meta, (rule, reason, detail) in zip(batch.column("meta").to_pylist(), reasons, strict=True):
        facts = json.loads(meta) if meta else {}
        why = {"dropped_by": rule, "dropped_for": reason, "dropped_detail": detail}
        metas.append(json.dumps(facts | why, sort_keys=True))
    column = batch.schema.get_field_index("meta")
    return batch.set_column(column, "meta", pa.array(metas, pa.string()))


def _histories(batch: pa.RecordBatch, judged: Sequence[Passage], shard: str) -> pa.RecordBatch:
    verdicts = [passage.dropped or ("kept", "", "") for passage in judged]
    columns: list[Any] = [
        batch.column("id"),
        batch.column("url"),
        pa.array([shard] * len(judged), pa.string()),
        *(pa.array([one[place] for one in verdicts], pa.string()) for place in range(3)),
        pa.array([_told(passage) for passage in judged], pa.string()),
        pa.array([""] * len(judged), pa.string()),
        pa.array([None] * len(judged), pa.float32()),
    ]
    return pa.record_batch(columns, schema=HISTORY)


def _told(passage: Passage) -> str:
    """The changes of a document in a line: `pii: 2 e-mails; c4: 3 lines`."""
    return "; ".join(
        f"{rule}: {', '.join(f'{number} {kind}' for kind, number in counts.items())}"
        for rule, counts, _ in passage.edits
    )


def _plain(text: str) -> bytes:
    """A text for comparison: white space is no difference."""
    return " ".join(text.split()).encode()


def _shingles(reading: Reading) -> np.ndarray:
    return reading.grams(max(1, min(SHINGLE_WORDS, len(reading.words))))
