"""Ask the model of `make demo` what the small world told it, and what it told in other words.

    python examples/demo/score_probes.py [WORKSPACE] [MODEL]

Prints, for each kind of probe, how often a right word was the likeliest and among the first five.
"""

import sys
from collections import defaultdict
from pathlib import Path

from llmctl.data.sources.world.probes import probes
from llmctl.infer.engine import Engine
from llmctl.workspace import Workspace

FIRST = 5
MEANING = {
    "told": "the text says it in these very words",
    "held-out": "the text says it in other words only",
    "once": "one sentence of the text says it",
}


def main(workspace: str = "workspace", model: str | None = None) -> None:
    """Score the model, the newest one by default."""
    folder = Workspace(Path(workspace)).model_source(model, sorts=("causal-lm",)).path
    engine = Engine.open(folder, device="cpu", rows=32)
    asked = probes()
    ranks: dict[str, list[int]] = defaultdict(list)
    tables = engine.next_tokens([probe.prompt for probe in asked], FIRST)
    for probe, table in zip(asked, tables, strict=True):
        words = [one.text.strip() for one in table]
        right = [rank for rank, word in enumerate(words) if begins(word, probe.answers)]
        ranks[probe.kind].append(right[0] if right else FIRST)
    for kind, found in ranks.items():
        first = sum(rank == 0 for rank in found) / len(found)
        among = sum(rank < FIRST for rank in found) / len(found)
        print(
            f"{kind:9} {len(found):4} asked   likeliest {first:4.0%}   among the first {FIRST}"
            f" {among:4.0%}   ({MEANING[kind]})"
        )


def begins(word: str, answers: tuple[str, ...]) -> bool:
    """Whether a token begins an answer: a long word may be several tokens."""
    return len(word) > 1 and any(answer.startswith(word) for answer in answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
