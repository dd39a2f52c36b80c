"""Rows of a data set of the hub, as the `datasets` library streams them -> documents.

Nothing of a data set is run: loading scripts are refused by the library since its version 4.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datasets import load_dataset
from huggingface_hub import HfApi

from llmctl.data.document import Document, Rejected
from llmctl.data.formats.mending import mend
from llmctl.data.formats.passage import Item, Options, Passage, Stream, Unreadable
from llmctl.data.formats.rows import Row, passages_of
from llmctl.data.formats.splitting import splitter
from llmctl.data.labeled.beside import label_beside
from llmctl.errors import DataError, RemoteError

SIZE_UNKNOWN = 2**20


def look_at(
    repo: str, subset: str | None, split: str, revision: str | None
) -> tuple[list[int], str, str]:
    """The bytes of each part of a split, the commit, and the licence that the data set states.

    Raises DataError for a data set, configuration or split that there is none of, RemoteError
    where the hub does not answer.
    """
    commit, licence = "", ""
    if not Path(repo).is_dir():
        try:
            about = HfApi().dataset_info(repo, revision=revision, timeout=30)
        except Exception as error:
            raise _remote(repo, error) from error
        commit = about.sha or ""
        licence = next((one[8:] for one in about.tags or () if one.startswith("license:")), "")
    found = _opened(repo, subset, split, commit)
    stated = (found.info.splits or {}).get(split)
    total = getattr(stated, "num_bytes", 0) or found.num_shards * SIZE_UNKNOWN
    return [total // found.num_shards] * found.num_shards, commit, licence


def rows(
    repo: str, subset: str | None, split: str, commit: str, total: int, number: int
) -> Iterator[Row]:
    """The rows of one part of a split, numbered from 1."""
    found = _opened(repo, subset, split, commit)
    if found.num_shards != total:
        raise DataError(
            f"{repo} has {found.num_shards} files instead of {total}",
            hint="it has changed: give the command again with `--force`",
        )
    try:
        shard: Any = found.shard(num_shards=total, index=number)
        yield from (Row(number, values) for number, values in enumerate(shard, 1))
    except (OSError, RuntimeError) as error:
        raise _remote(repo, error) from error


def documents(
    found: Iterator[Row], label: str, repo: str, column: str | None, licence: str
) -> Iterator[Document | Rejected]:
    """The rows as documents: which column holds the text is found as in files."""
    item = Item(name=label, stream=Stream(iter(())), url=f"https://huggingface.co/datasets/{repo}")
    options = Options(split=splitter("file"), text_column=column, find_label=label_beside)
    try:
        for passage in passages_of(found, item, options):
            if not isinstance(passage, Passage):
                yield passage
                continue
            text, _ = mend(passage.text)
            if not text.strip():
                yield Rejected(where=f"{label}{passage.key}", reason="empty")
                continue
            facts = dict(passage.facts)
            yield Document(
                id=f"{label}{passage.key}",
                text=text,
                source="hub",
                url=facts.pop("url", item.url),
                licence=facts.pop("licence", licence),
                time=facts.pop("time", ""),
                meta=facts,
            )
    except Unreadable as error:
        yield Rejected(where=label, reason=error.reason, detail=error.detail)


def _opened(repo: str, subset: str | None, split: str, commit: str) -> Any:
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        return load_dataset(repo, subset, split=split, streaming=True, revision=commit or None)
    except ValueError as error:  # an unknown configuration or split: the library lists the known
        raise DataError(
            f"{repo}: {_first_line(error)}", hint="look at `--subset` and `--split`"
        ) from error
    except Exception as error:
        raise _remote(repo, error) from error


def _remote(repo: str, error: Exception) -> RemoteError:
    return RemoteError(
        f"cannot read the data set `{repo}`: {_first_line(error)}",
        hint="look at its name and at the connection; for a gated one log in with `hf auth login`",
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
