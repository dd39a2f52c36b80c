"""A source of text -> a corpus: documents with their provenance, in Arrow shards."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from llmctl.config import dry_run_knob, force_knob, identity, knob, name_knob, parse_count
from llmctl.console import console
from llmctl.errors import DataError
from llmctl.figures import amount, duration, size

if TYPE_CHECKING:
    from llmctl.workspace import Artifact, Input, Workspace

# Below this much text, starting processes costs more than they save.
ALONE_BYTES = 8 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Collect:
    """Collect raw text into a corpus."""

    source: Any = knob(choices_from="llmctl.data.sources:SOURCES", help="Where the text comes from")
    limit: int | None = knob(
        None, help="Stop after so many documents", panel="Input", parse=parse_count
    )
    workers: int | None = knob(
        None, help="Processes to read with; as many as cores", panel="Machine", identity=False
    )
    name: str | None = name_knob("The corpus; the source's name by default")
    force: bool = force_knob()
    dry_run: bool = dry_run_knob()


def run(config: Collect, workspace: Workspace) -> Artifact | dict[str, Any]:
    """Read every part of the source into `corpora/NAME`.

    >>> run(Collect(source=Files(paths=("notes/",))), workspace).facts["documents"]
    12
    """
    from llmctl.data.collecting import Tally, bundles, keep_parts, scaffold, settled
    from llmctl.shards import DOCUMENTS, write_index

    name = config.name or config.source.default_name()
    parts = _parts(config, workspace, name)
    plan = bundles(parts)
    facts = _plan(config, parts)
    if config.dry_run:
        workspace.check_name(name)
        console.say(f"would make corpora/{name}")
        return {"plan": facts | {"kind": "corpus", "name": name}}
    settings: dict[str, Any] = {
        "config": identity(config),
        "inputs": [_fingerprint(config.source.default_name(), parts)],
    }
    made = None if config.force else workspace.made("corpus", name, **settings)
    if made:
        console.already_made(made)
        return made
    tally = Tally()
    with workspace.draft("corpus", name, **settings, force=config.force) as draft:
        source = settled(config.source, draft.path)
        if source is not config.source:
            keep_parts(parts, draft.path)
        config = replace(config, source=source)
        with console.progress("collecting", total=facts["bytes_to_read"], unit="B") as bar:
            for bundle, found in _collected(config, plan, draft.path):
                tally.add(found)
                bar.advance(sum(part.bytes for part in bundle.parts))
        if not tally.documents:
            draft.discard()
            raise DataError(
                f"nothing was collected: {_told(tally.dropped) or 'the source is empty'}",
                hint=_first_case(tally) or "look at what the source holds",
            )
        write_index(draft.path, DOCUMENTS, tally.shards)
        artifact = draft.finish(
            facts={
                "documents": tally.documents,
                "bytes": tally.bytes,
                "dropped": dict(sorted(tally.dropped.items())),
                "remarks": dict(sorted(tally.remarks.items())),
                "cases": tally.cases,
            },
            scaffold=scaffold(draft.path),
        )
    _report(tally)
    console.made(artifact, f"{amount(tally.documents, 'documents')}, {size(tally.bytes)}")
    console.next("llmctl tokenize")
    return artifact


def _parts(config: Collect, workspace: Workspace, name: str) -> Any:
    """What to read: listed now, or as an attempt with the same config listed it that was cut."""
    from llmctl.data.collecting import kept_parts

    before = workspace.unfinished("corpus", name)
    if before and before["config"] == identity(config) and not config.force:
        kept = kept_parts(workspace.draft_path("corpus", name))
        if kept is not None:
            return kept
    return config.source.parts()


def _plan(config: Collect, parts: Any) -> dict[str, Any]:
    """What is to be done, as facts, and with `--dry-run` as talk."""
    facts: dict[str, Any] = {
        "parts": len(parts),
        "bytes_to_read": sum(part.bytes for part in parts),
        "seconds": round(sum(part.seconds for part in parts)),
    }
    if config.dry_run:
        told = f"would read {amount(facts['parts'], 'parts')}, {size(facts['bytes_to_read'])}"
        if facts["seconds"] and config.limit is None:
            workers = min(config.workers or os.cpu_count() or 1, facts["parts"])
            told += f", in about {duration(facts['seconds'] / workers)}"
            told += f" with {amount(workers, 'processes')}"
        console.say(told)
    return facts


def _collected(config: Collect, plan: list[Any], directory: Any) -> Iterator[tuple[Any, Any]]:
    """Each bundle with what came of it, in order, from as many processes as pay."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    from llmctl.data.collecting import collect_bundle

    workers = min(config.workers or os.cpu_count() or 1, len(plan))
    read = sum(part.bytes for bundle in plan for part in bundle.parts)
    if config.limit is not None or workers == 1 or read < ALONE_BYTES:
        left = config.limit
        for bundle in plan:
            found = collect_bundle(config.source, bundle, directory, left)
            left = None if left is None else left - found.documents
            yield bundle, found
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        waiting = [
            pool.submit(collect_bundle, config.source, bundle, directory, None) for bundle in plan
        ]
        try:
            for bundle, one in zip(plan, waiting, strict=True):
                yield bundle, one.result()
        finally:
            # After a refusal nobody shall go on to ask.
            pool.shutdown(cancel_futures=True)


def _fingerprint(name: str, parts: Iterable[Any]) -> Input:
    """What the source holds, as an input: a changed file makes another corpus."""
    from llmctl.workspace import Input

    listed = repr([(part.label, part.bytes, part.spec) for part in parts])
    return Input("source", name, sha256(listed.encode()).hexdigest())


def _report(tally: Any) -> None:
    for counts, verb in ((tally.dropped, "dropped"), (tally.remarks, "noted")):
        for reason, times in counts.most_common():
            first = tally.cases[reason][0]
            more = f" and {times - 1:,} more" if times > 1 else ""
            console.note(f"{verb} {reason}: {first}{more}")


def _told(counts: Any) -> str:
    return ", ".join(f"{times:,} {reason}" for reason, times in counts.most_common())


def _first_case(tally: Any) -> str | None:
    for reason in tally.dropped:
        return f"the first one: {tally.cases[reason][0]}"
    return None
