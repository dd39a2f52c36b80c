"""Classes or conversations <-> a folder: a sub-folder of shards a split, and one file of facts.

The folder is a `datasets.DatasetDict`; `labeled.json` holds what its rows do not say.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from llmctl.data.labeled.classes import ClassSet, Example
from llmctl.data.labeled.conversations import Conversation, ConversationSet, Message
from llmctl.data.labeled.splits import SPLITS
from llmctl.errors import DataError
from llmctl.shards import (
    CONVERSATIONS,
    ShardReader,
    ShardWriter,
    classes_schema,
    write_index,
    write_splits,
)

FACTS_FILE = "labeled.json"
SCHEMA = 1
BATCH_ROWS = 10_000

Kind = Literal["classes", "conversations"]


def write_classes(found: ClassSet, directory: Path) -> None:
    """Write a set of classes into an existing folder."""
    for split, examples in found.splits.items():
        rows = [{"id": one.id, "text": one.text, "label": one.label} for one in examples]
        _write_rows(directory / split, classes_schema(found.classes), rows)
    _write_facts(directory, "classes", found)


def write_conversations(found: ConversationSet, directory: Path) -> None:
    """Write a set of conversations into an existing folder."""
    for split, conversations in found.splits.items():
        rows = [
            {
                "id": one.id,
                "messages": [asdict(each) for each in one.messages],
            }
            for one in conversations
        ]
        _write_rows(directory / split, CONVERSATIONS, rows)
    _write_facts(directory, "conversations", found)


def labeled_kind(directory: Path) -> Kind:
    """What a folder holds; raises DataError where it was not written here."""
    return _read_facts(directory)["kind"]


def read_classes_artifact(directory: Path) -> ClassSet:
    """The set that `write_classes` wrote; raises DataError where it is none, or is damaged."""
    told = _read_facts(directory, "classes")
    return ClassSet(
        classes=tuple(told["classes"]),
        splits={split: read_examples(directory, split) for split in SPLITS},
        facts=told["facts"],
        remarks=tuple(told["remarks"]),
    )


def read_conversations_artifact(directory: Path) -> ConversationSet:
    """The set that `write_conversations` wrote; raises DataError as `read_classes_artifact`."""
    told = _read_facts(directory, "conversations")
    return ConversationSet(
        splits={split: read_dialogues(directory, split) for split in SPLITS},
        facts=told["facts"],
        remarks=tuple(told["remarks"]),
    )


def read_examples(directory: Path, split: str) -> tuple[Example, ...]:
    """One split of a set of classes, as `eval --data NAME:test` scores it."""
    return tuple(Example(**row) for row in _read_rows(directory, split))


def read_dialogues(directory: Path, split: str) -> tuple[Conversation, ...]:
    """One split of a set of conversations."""
    return tuple(
        Conversation(row["id"], tuple(Message(**one) for one in row["messages"]))
        for row in _read_rows(directory, split)
    )


def _write_rows(directory: Path, schema: pa.Schema, rows: Sequence[Mapping[str, Any]]) -> None:
    directory.mkdir(exist_ok=True)
    with ShardWriter(directory, schema) as writer:
        # An empty split too is a file, without which `datasets` does not open the folder.
        for start in range(0, max(1, len(rows)), BATCH_ROWS):
            part = rows[start : start + BATCH_ROWS]
            writer.write(pa.RecordBatch.from_pylist(part, schema=schema))
    write_index(directory, schema, writer.shards)


def _read_rows(directory: Path, split: str) -> Iterator[dict[str, Any]]:
    if split not in SPLITS:
        raise DataError(f"there is no split `{split}`", hint=f"choose one of: {', '.join(SPLITS)}")
    for batch in ShardReader(directory / split):
        yield from batch.to_pylist()


def _write_facts(directory: Path, kind: Kind, found: ClassSet | ConversationSet) -> None:
    told: dict[str, Any] = {"schema": SCHEMA, "kind": kind}
    if isinstance(found, ClassSet):
        told["classes"] = list(found.classes)
    told |= {"facts": found.facts, "remarks": list(found.remarks)}
    text = json.dumps(told, indent=1, ensure_ascii=False) + "\n"
    (directory / FACTS_FILE).write_text(text, encoding="utf-8")
    write_splits(directory, found.splits)


def _read_facts(directory: Path, kind: Kind | None = None) -> dict[str, Any]:
    path = directory / FACTS_FILE
    try:
        told = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(
            f"`{directory}` holds no labelled data: {path.name} cannot be read",
            hint="`llmctl finetune` makes it from a file with labels or answers",
        ) from error
    if told.get("schema") != SCHEMA:
        raise DataError(
            f"`{directory}` was written in schema {told.get('schema')}, not {SCHEMA}",
            hint="make it anew from its file, with this version of `llmctl finetune`",
        )
    if kind and told["kind"] != kind:
        raise DataError(
            f"`{directory}` holds {told['kind']}, not {kind}",
            hint="classes are for `finetune classify`, conversations for `finetune instruct`",
        )
    return told
