"""How fast `clean` judges web text, and how well it finds copies; prints one line a figure.

    python tests/benchmarks/clean_speed.py chain --data ../shared/data --peer PEER/bin/python
    python tests/benchmarks/clean_speed.py copies
    python tests/benchmarks/clean_speed.py million

`chain`: four filters and MinHash signatures over the C4 sample, one process, against datatrove in
the environment of `--peer`, on the same documents. `copies`: precision and recall against exact
Jaccard similarity of all pairs that share a shingle. `million`: short documents, two processes.
"""

import argparse
import json
import random
import resource
import subprocess
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa

from llmctl.data.chain import resolve
from llmctl.data.dedup.minhash import SHINGLE_WORDS
from llmctl.data.reading import Reading
from llmctl.data.screening import Recipe, bundles, screen
from llmctl.shards import DOCUMENTS, ShardReader, ShardWriter, write_index
from llmctl.stages.clean import Clean, run
from llmctl.workspace import Workspace

FILTERS = ("gopher", "repetition", "fineweb", "c4")
ROUNDS = 20


def write_corpus(workspace: Workspace, name: str, texts: list[str], *, batch: int = 20_000) -> Path:
    """A corpus of texts, as `collect` would make it."""
    with workspace.draft("corpus", name, config={}, inputs=()) as draft:
        with ShardWriter(draft.path, DOCUMENTS) as writer:
            for start in range(0, len(texts), batch):
                some = texts[start : start + batch]
                ids = [f"{name}/{start + at}" for at in range(len(some))]
                blank = [""] * len(some)
                columns = [ids, some, *([blank] * 5)]
                arrays = [pa.array(column, pa.string()) for column in columns]
                writer.write(pa.record_batch(arrays, schema=DOCUMENTS))
        write_index(draft.path, DOCUMENTS, writer.shards)
        draft.finish(facts={"documents": len(texts), "bytes": sum(map(len, texts))})
    return workspace.path("corpus", name)


def chain(data: Path, peer: str | None) -> None:
    rows = (data / "commoncrawl/c4_demo.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [json.loads(row)["text"] for row in rows]
    with tempfile.TemporaryDirectory() as folder:
        corpus = write_corpus(Workspace(Path(folder)), "c4", texts * ROUNDS)
        recipe = Recipe(thresholds=resolve(FILTERS, (), ()))
        (bundle,) = bundles([corpus])
        place = Path(folder) / "signatures"
        began = time.process_time()
        funnel = screen(bundle, recipe, place)
        seconds = time.process_time() - began
        print(f"llmctl: {funnel.bytes_in / seconds / 1e6:.2f} MB/s, {dict(funnel.dropped)}")
        history = [
            row for one in ShardReader(place / bundle.stem / "history") for row in one.to_pylist()
        ]
        ours = ["" if row["verdict"] == "kept" else row["verdict"] for row in history[: len(texts)]]
    if peer:
        script = Path(__file__).with_name("clean_peer.py")
        answer = subprocess.run(
            [peer, str(script)],
            input=json.dumps(texts),
            capture_output=True,
            text=True,
            check=True,
        )
        told = json.loads(answer.stdout.splitlines()[-1])
        print(f"datatrove: {told['bytes'] / told['seconds'] / 1e6:.2f} MB/s")
        pairs = Counter(
            (mine or "kept", theirs or "kept")
            for mine, theirs in zip(ours, told["dropped"], strict=True)
        )
        for (mine, theirs), number in pairs.most_common():
            print(f"  llmctl {mine:12} datatrove {theirs:40} {number}")


def copies() -> None:
    """20,000 documents, of which some are edited copies with every similarity from 0.4 to 1."""
    chance = random.Random(7)
    vocabulary = [f"word{number}" for number in range(20_000)]
    texts: list[str] = []
    while len(texts) < 20_000:
        words = chance.choices(vocabulary, k=chance.randint(40, 300))
        texts.append(" ".join(words))
        for _ in range(chance.choice((0, 0, 1, 2))):
            changed = list(words)
            for _ in range(round(len(words) * chance.uniform(0, 0.12))):
                changed[chance.randrange(len(changed))] = chance.choice(vocabulary)
            texts.append(" ".join(changed))
    texts = texts[:20_000]
    chance.shuffle(texts)
    truth = similar(texts, 0.8)
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        write_corpus(workspace, "built", texts)
        made = run(Clean(rule=("encoding",), workers=1), workspace)
        history = [row for one in ShardReader(made.path / "history") for row in one.to_pylist()]
    found = {at for at, row in enumerate(history) if row["verdict"] != "kept"}
    both = len(found & truth)
    print(f"{len(truth):,} true copies, {len(found):,} found")
    print(f"precision {both / len(found):.4f}, recall {both / len(truth):.4f}")


def similar(texts: list[str], least: float) -> set[int]:
    """The documents that share so much with an earlier one, by their whole sets of shingles."""
    sets = [frozenset(Reading(text).shingles(SHINGLE_WORDS).tolist()) for text in texts]
    holders: dict[int, list[int]] = defaultdict(list)
    found: set[int] = set()
    for at, shingles in enumerate(sets):
        common = Counter(other for one in shingles for other in holders[one])
        for other, number in common.items():
            if number / (len(shingles) + len(sets[other]) - number) >= least:
                found.add(at)
        for one in shingles:
            holders[one].append(at)
    return found


def million(documents: int) -> None:
    generator = np.random.default_rng(3)
    vocabulary = np.array([f"word{number}" for number in range(50_000)])
    texts: list[str] = []
    while len(texts) < documents:
        words = vocabulary[generator.integers(0, len(vocabulary), generator.integers(20, 60))]
        texts.append(" ".join(words))
        if len(texts) % 10 == 0:
            words[generator.integers(0, len(words))] = "elsewhere"
            texts.append(" ".join(words))
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        write_corpus(workspace, "short", texts, batch=60_000)
        del texts
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.perf_counter()
        made = run(Clean(rule=("encoding",), workers=2), workspace)
        seconds = time.perf_counter() - began
    worker = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{documents:,} documents in {seconds:.0f} s, {made.facts['dropped']}")
    print(f"peak: {own / 1e6:.2f} GB ({before / 1e6:.2f} to build), a worker {worker / 1e6:.2f} GB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("figure", choices=("chain", "copies", "million"))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--peer", help="the Python of an environment with datatrove")
    parser.add_argument("--documents", type=int, default=1_000_000)
    given = parser.parse_args()
    match given.figure:
        case "chain":
            chain(given.data, given.peer)
        case "copies":
            copies()
        case _:
            million(given.documents)
