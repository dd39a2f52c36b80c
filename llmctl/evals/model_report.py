"""A finished training run -> `loss.png` and `report.html` beside the model.

Says what was trained, on what, how it went and what the model now writes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmctl.evals.pictures import losses
from llmctl.figures import duration
from llmctl.infer.engine import Engine
from llmctl.infer.sampling import Sampling
from llmctl.report import Section, Table, Text, Tree, facts_table, write_report

SAMPLE_TOKENS = 60
NEXT_TOKENS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Portrait:
    """All that the page tells of a run; the model itself is read from its folder."""

    title: str
    summary: str
    facts: Mapping[str, Any]
    config: Mapping[str, Any]
    metrics: Sequence[Mapping[str, Any]]
    lineage: Tree
    prompts: Sequence[str]


def write_model_report(directory: Path, portrait: Portrait, *, device: str) -> None:
    """Write the picture and the page of a model folder; reads the model once, to let it write."""
    caption = "loss and learning rate over the steps"
    curves = losses(directory, portrait.metrics, caption=caption)
    engine = Engine.open(directory, device=device)
    write_report(
        directory / "report.html",
        portrait.title,
        [
            Section("How it went", [curves]),
            Section("What it writes", _samples(engine, portrait.prompts)),
            Section("What it expects next", _expectations(engine, portrait.prompts)),
            *_time(portrait.facts),
            Section("Facts", [facts_table(portrait.facts)]),
            Section("Settings", [facts_table(portrait.config)]),
            Section("What it was made from", [portrait.lineage]),
        ],
        summary=portrait.summary,
    )


def _time(facts: Mapping[str, Any]) -> list[Section]:
    """Useful time over all time, by cause; nothing of a run that kept no account of it."""
    goodput = facts.get("goodput")
    if not goodput:
        return []
    seconds: Mapping[str, float] = goodput["seconds"]
    whole = max(sum(seconds.values()), 1e-9)
    attempts = goodput["attempts"]
    told = "one attempt" if attempts == 1 else f"{attempts:,} attempts"
    table = Table(
        columns=("cause", "time", "share"),
        rows=[(cause, duration(took), took / whole) for cause, took in seconds.items()],
        caption=f"{goodput['share']:.1%} of all time was spent on steps that count, in {told}",
        bars="share",
    )
    return [Section("Where the time went", [table])]


def _samples(engine: Engine, prompts: Sequence[str]) -> list[Text]:
    sampling = Sampling(max_tokens=SAMPLE_TOKENS, temperature=0.7, min_p=0.05, seed=0)
    found = engine.generate(list(prompts), sampling)
    return [Text(text=one.prompt + one.text, caption=f"prompt: {one.prompt}") for one in found]


def _expectations(engine: Engine, prompts: Sequence[str]) -> list[Table]:
    return [
        Table(
            columns=("next", "probability"),
            rows=[(one.text, one.probability) for one in row],
            caption=prompt,
            bars="probability",
        )
        for prompt, row in zip(prompts, engine.next_tokens(list(prompts), NEXT_TOKENS), strict=True)
    ]
