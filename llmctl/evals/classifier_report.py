"""A judged classifier -> `confusion.png`, `report.json` and `report.html` in its folder."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llmctl.evals.bootstrap import Difference, Integers
from llmctl.evals.classification import Classification, Scores, compare, score
from llmctl.evals.pictures import confusion_matrix, losses
from llmctl.plots import DARK
from llmctl.report import Picture, Section, Table, Tree, facts_table, write_report

LONGEST_TEXT = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """Another way to classify the same texts: what it is, how good, and how the model compares."""

    name: str
    scores: Scores
    gain: Mapping[str, Difference]


def contender(
    name: str, labels_N: Integers, predicted_N: Integers, ours_N: Integers, *, seed: int
) -> Contender:
    """What another predicted of the same texts, beside what the model did."""
    most = int(max(one.max() for one in (labels_N, predicted_N, ours_N))) + 1
    return Contender(
        name=name,
        scores=score(labels_N, predicted_N),
        gain=compare(labels_N, predicted_N, ours_N, most, seed=seed),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifierPortrait:
    """All that the page tells of a classifier."""

    title: str
    summary: str
    found: Classification
    others: Sequence[Contender]
    remarks: Sequence[str]
    facts: Mapping[str, Any]
    config: Mapping[str, Any]
    lineage: Tree
    metrics: Sequence[Mapping[str, Any]] = ()


def write_classifier_report(directory: Path, portrait: ClassifierPortrait) -> None:
    """Write the pictures, the figures and the page into a folder."""
    found = portrait.found
    picture = confusion_matrix(found.confusion, found.classes)
    (directory / "confusion.png").write_bytes(picture)
    dark = confusion_matrix(found.confusion, found.classes, palette=DARK)
    figures = asdict(found) | {
        "others": [asdict(one) | {"gain": _told_gains(one)} for one in portrait.others],
        "remarks": list(portrait.remarks),
    }
    text = json.dumps(figures, indent=1, ensure_ascii=False)
    (directory / "report.json").write_text(text, encoding="utf-8")
    sections = [
        Section("How good it is", [comparison(found.scores, portrait.others), _intervals(found)]),
        Section("Class by class", [_classes(found)]),
        Section("What it takes for what", [Picture(png=picture, dark=dark, caption="test texts")]),
        Section("Where it was surest and wrong", [_mistakes(found)]),
        Section("The data", [_remarks(portrait.remarks)]),
    ]
    if portrait.metrics:
        curve = losses(directory, portrait.metrics, caption="loss over the steps", target="text")
        sections.append(Section("How it learnt", [curve]))
    sections += [
        Section("Facts", [facts_table(portrait.facts)]),
        Section("Settings", [facts_table(portrait.config)]),
        Section("What it was made from", [portrait.lineage]),
    ]
    write_report(directory / "report.html", portrait.title, sections, summary=portrait.summary)


def comparison(scores: Scores, others: Sequence[Contender]) -> Table:
    """The model beside the others, and the gain over each, where there are any."""
    rows: list[tuple[str, ...]] = [
        (
            "this model",
            *(f"{one:.4f}" for one in (scores.accuracy, scores.macro_f1, scores.mcc)),
            "",
        )
    ]
    for other in others:
        figures = (other.scores.accuracy, other.scores.macro_f1, other.scores.mcc)
        gain = other.gain["macro_f1"].told(4)
        rows.append((other.name, *(f"{one:.4f}" for one in figures), gain))
    columns = ("", "accuracy", "macro-F1", "MCC", "gain of the model in macro-F1")
    width = len(columns) if others else len(columns) - 1
    return Table(columns=columns[:width], rows=[row[:width] for row in rows])


def _told_gains(one: Contender) -> dict[str, Any]:
    return {name: asdict(difference) for name, difference in one.gain.items()}


def _intervals(found: Classification) -> Table:
    rows: list[tuple[str, str]] = [
        (name, f"{found.intervals[key].low:.4f} to {found.intervals[key].high:.4f}")
        for key, name in (("accuracy", "accuracy"), ("macro_f1", "macro-F1"))
    ]
    before, after = found.raw_calibration_error, found.calibration_error
    rows.append(("calibration error", f"{after:.4f} (untempered {before:.4f})"))
    return Table(columns=("95 % interval", "of this model"), rows=rows)


def _classes(found: Classification) -> Table:
    rows = [
        (one.name, f"{100 * one.precision:.1f} %", f"{100 * one.recall:.1f} %", one.f1, one.texts)
        for one in found.rows
    ]
    return Table(columns=("class", "precision", "recall", "F1", "texts"), rows=rows, bars="F1")


def _mistakes(found: Classification) -> Table:
    rows = [
        (one.text[:LONGEST_TEXT], one.label, one.predicted, one.probability)
        for one in found.mistakes
    ]
    return Table(columns=("text", "true", "predicted", "probability"), rows=rows)


def _remarks(remarks: Sequence[str]) -> Table:
    return Table(columns=("what was assumed and found",), rows=[(one,) for one in remarks])
