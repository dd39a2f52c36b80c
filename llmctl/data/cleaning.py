"""Corpora -> a cleaned corpus, in four named steps, each of which can be taken up again alone.

    signatures   a bundle: its documents through the rules, and the keys of what is left
    bands        a range of keys: documents that share one
    clusters     candidates compared in full; who repeats whom
    filter       a bundle: what is left of it, as shards of the corpus

Every task of a step reads files and writes a folder that appears when it is whole, so a task may
run in any process, on any machine that sees the folder, any number of times.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from llmctl.data.dedup.bands import (
    RANGE_KEYS,
    Range,
    find_candidates,
    find_same,
    ranges,
    read_pairs,
)
from llmctl.data.dedup.clusters import NEAR, cluster, confirm, stretches
from llmctl.data.dedup.places import Documents
from llmctl.data.engines import Perform
from llmctl.data.funnel import Funnel
from llmctl.data.screening import KEYS, Bundle, Recipe, screen
from llmctl.data.winnowing import Winnowed, marks, winnow
from llmctl.shards import BATCH_BYTES, ShardReader

STEPS = ("signatures", "bands", "clusters", "filter")
WORK = "work"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleaning:
    """One cleaning: where it works, on what, how, and who does the work."""

    target: Path
    bundles: Sequence[Bundle]
    recipe: Recipe
    perform: Perform
    is_exact: bool = True

    def folder(self, step: str) -> Path:
        """Where a step leaves what the next one reads."""
        return self.target / WORK / step

    def missing(self) -> list[Bundle]:
        """The bundles whose documents have not been through the rules yet."""
        place = self.folder("signatures")
        return [bundle for bundle in self.bundles if not (place / bundle.stem).exists()]

    def signatures(self, bundles: Sequence[Bundle]) -> Iterator[tuple[Bundle, Funnel]]:
        """Take some bundles through the rules; yields each with its funnel, in order."""
        place = self.folder("signatures")
        place.mkdir(parents=True, exist_ok=True)
        tasks = [(bundle, self.recipe, place) for bundle in bundles]
        yield from zip(bundles, self.perform(screen, tasks), strict=True)

    def bands(self) -> Iterator[None]:
        """Find who may repeat whom: yields once for each range of keys."""
        signatures, found = self.folder("signatures"), self.folder("bands")
        found.mkdir(parents=True, exist_ok=True)
        exact, near = self._ranges()
        for function, parts in ((find_same, exact), (find_candidates, near)):
            yield from self.perform(
                function, [(part, self.bundles, signatures, found) for part in parts]
            )

    def clusters(self) -> Iterator[None]:
        """Compare the candidates and decide who goes: yields once for each stretch of them."""
        folders = (self.folder("signatures"), self.folder("bands"), self.folder("confirmed"))
        folders[2].mkdir(parents=True, exist_ok=True)
        similarity = self.recipe.similarity
        parts = stretches(self.bundles, folders[1]) if similarity else []
        yield from self.perform(
            confirm, [(part, self.bundles, similarity, folders) for part in parts]
        )
        self.folder("clusters").mkdir(parents=True, exist_ok=True)
        cluster(folders[2], self.folder("clusters"))

    def examples(self, number: int) -> list[tuple[str, str, float]]:
        """Ids of some near copies, of what each repeats, and how similar they are."""
        documents = Documents(self.folder("signatures"), self.bundles)
        found: list[tuple[str, str, float]] = []
        for left, right, scores in read_pairs(self.folder("clusters"), prefix=NEAR):
            for at in range(min(number - len(found), len(left))):
                pair = (documents.value(int(place[at]), "id") for place in (right, left))
                found.append((*pair, round(float(scores[at]), 3)))
        return found

    def filter(self) -> Iterator[tuple[Bundle, Winnowed]]:
        """Write the shards of the corpus; yields each bundle with what is left of it, in order."""
        folders = tuple(self.folder(step) for step in ("signatures", "bands", "clusters"))
        written = [bundle for bundle in self.bundles if not bundle.known]
        tasks = [(bundle, self.bundles, folders, self.target) for bundle in written]
        yield from zip(written, self.perform(winnow, tasks), strict=True)

    def waits_for(self, step: str) -> str | None:
        """The first step before this one that is not done yet."""
        before = STEPS[: STEPS.index(step)]
        return next((one for one in before if not self._is_done(one)), None)

    def _is_done(self, step: str) -> bool:
        match step:
            case "signatures":
                return not self.missing()
            case "bands":
                parts = (part for some in self._ranges() for part in some)
                return all((self.folder(step) / part.name).exists() for part in parts)
            case _:
                return (self.folder("clusters") / NEAR).exists()

    def _ranges(self) -> tuple[list[Range], list[Range]]:
        """The ranges of keys of whole texts, and those of bands."""
        documents, bands = self.documents(), self.recipe.bands[0]
        exact = ranges(documents, None) if self.is_exact else []
        return exact, [part for band in range(bands) for part in ranges(documents, band)]

    def scaffold(self) -> list[Path]:
        """What a whole corpus does not need: all that the steps left for each other."""
        return [self.target / WORK, *marks(self.target)]

    def documents(self) -> int:
        """How many documents the rules left, those to compare with included."""
        place = self.folder("signatures")
        return sum(ShardReader(place / bundle.stem / KEYS).rows for bundle in self.bundles)


def estimate(bundles: Sequence[Bundle], recipe: Recipe) -> dict[str, int]:
    """Documents and bytes of text, and what the work on them takes on disk and in memory."""
    documents = text = 0
    for path in {bundle.corpus for bundle in bundles}:
        reader = ShardReader(path)
        documents += reader.rows
        text += reader.bytes
    keys = documents * (24 + 8 * recipe.bands[0])
    return {
        "documents": documents,
        "text_bytes": text,
        "work_bytes": 2 * text + keys,
        "memory_bytes": 4 * BATCH_BYTES + min(documents, RANGE_KEYS) * 56,
    }
