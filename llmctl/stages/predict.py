"""A model and texts -> what comes next, or with a classifier what they are."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmctl.config import knob
from llmctl.console import console
from llmctl.errors import ConfigError, DataError

if TYPE_CHECKING:
    from llmctl.workspace import Workspace

# Rows of a table that are read, judged and written at a time.
ROWS_AT_ONCE = 1024
MOST_SHOWN = 20
LABEL, SHARE = "predicted", "probability"


@dataclass(frozen=True, slots=True, kw_only=True)
class Predict:
    """Show what a model expects next, or what a classifier takes texts for."""

    texts: tuple[str, ...] = knob(
        (), help="A text; of a language model its beginning, `___` at the end is understood",
        positional=True, metavar="TEXT",
    )  # fmt: skip
    file: Path | None = knob(
        None, help="Read texts from a file: one a line, or a table for a classifier", panel="Input"
    )
    text_column: str | None = knob(
        None, help="The column of a table with the texts; found by default", panel="Input"
    )
    model: str | None = knob(
        None, help="A NAME, NAME@STEP, folder or hub id; the newest by default", panel="Model",
        metavar="NAME|DIR",
    )  # fmt: skip
    top: int = knob(10, help="How many tokens or classes to show", panel="Output")
    out: Path | None = knob(
        None, help="Write the table with its predictions: csv, tsv, jsonl or parquet",
        panel="Output", metavar="FILE",
    )  # fmt: skip
    device: str = knob("auto", help="auto, cpu, cuda or mps", panel="Machine", rare=True)


def run(config: Predict, workspace: Workspace) -> dict[str, Any]:
    """The likeliest next tokens of each text, or its class.

    >>> run(Predict(texts=("The capital of France is ___",)), workspace)["predictions"]
    [{'text': 'The capital …', 'next': [{'token': ' Paris', 'probability': 0.83}, …]}]
    >>> run(Predict(texts=("WIN a prize now",), model="spam"), workspace)["predictions"]
    [{'text': 'WIN a prize now', 'label': 'spam', 'probabilities': {'spam': 0.99, 'ham': 0.01}}]
    """
    from llmctl.model.classifier_folder import is_classifier

    source = workspace.model_source(config.model)
    folder = source.path
    if not is_classifier(folder):
        return _next_tokens(config, folder)
    if config.out is not None or (config.file is not None and _is_table(config.file)):
        trained_on = None
        if source.input.kind == "model":
            trained_on = workspace.find("model", source.input.name).facts.get("text_column")
        return _table(config, folder, config.text_column or trained_on)
    return _classes(config, folder)


def _next_tokens(config: Predict, folder: Path) -> dict[str, Any]:
    from llmctl.infer.engine import Engine

    if config.out is not None:
        raise ConfigError(
            "`--out` is for the predictions of a classifier", hint="redirect the output instead"
        )
    texts = _texts(config)
    engine = Engine.open(folder, device=config.device)
    prompts = [text.rstrip().removesuffix("___").rstrip() for text in texts]
    predictions: list[dict[str, Any]] = [
        {"text": text, "next": [{"token": one.text, "probability": one.probability} for one in row]}
        for text, row in zip(texts, engine.next_tokens(prompts, config.top), strict=True)
    ]
    for one in predictions:
        rows = [
            (repr(row["token"])[1:-1] or "(nothing)", f"{row['probability']:.1%}")
            for row in one["next"]
        ]
        console.table(one["text"], ("next", "probability"), rows, is_data=True)
    return {"predictions": predictions}


def _classes(config: Predict, folder: Path) -> dict[str, Any]:
    """The class of each text."""
    from llmctl.infer.classifier_engine import ClassifierEngine

    texts = _texts(config)
    engine = ClassifierEngine.open(folder, device=config.device)
    predictions: list[dict[str, Any]] = []
    for text, shares in zip(texts, engine.probabilities(texts), strict=True):
        order = shares.argsort()[::-1][: config.top].tolist()
        named = {engine.classes[number]: float(shares[number]) for number in order}
        predictions.append({"text": text, "label": next(iter(named)), "probabilities": named})
        rows = [(name, f"{share:.1%}") for name, share in named.items()]
        console.table(text, ("class", "probability"), rows, is_data=True)
    return {"predictions": predictions}


def _table(config: Predict, folder: Path, wanted: str | None) -> dict[str, Any]:
    """The rows of a file of any size, with their classes, some at a time."""
    from llmctl.data.formats.writing import written_rows
    from llmctl.infer.classifier_engine import ClassifierEngine

    if config.file is None:
        raise ConfigError("`--out` needs rows to judge", hint="give them with `--file new.csv`")
    engine = ClassifierEngine.open(folder, device=config.device)
    out = config.out or config.file.with_name(f"{config.file.name.partition('.')[0]}-scored.csv")
    counts = dict.fromkeys(engine.classes, 0)
    rejected: list[str] = []
    with written_rows(out) as write, console.progress("classifying", unit="rows") as bar:
        for rows, texts in _judged(config, wanted, rejected):
            scored: list[dict[str, Any]] = []
            for row, shares in zip(rows, engine.probabilities(texts), strict=True):
                best = int(shares.argmax())
                counts[engine.classes[best]] += 1
                scored.append(
                    {**row, LABEL: engine.classes[best], SHARE: round(float(shares[best]), 6)}
                )
            write(scored)
            bar.advance(len(rows))
    if rejected:
        console.warn(f"rows left out: {len(rejected):,}, the first: {rejected[0]}")
    shown = sorted(counts.items(), key=lambda pair: -pair[1])[:MOST_SHOWN]
    console.table("", ("class", "rows"), [(name, f"{rows:,}") for name, rows in shown])
    console.say(f"wrote {out}")
    return {"out": str(out), "rows": sum(counts.values()), "classes": counts, "left_out": rejected}


def _judged(
    config: Predict, wanted: str | None, rejected: list[str]
) -> Iterator[tuple[list[dict[str, Any]], list[str]]]:
    """Rows and their texts, some at a time; what is no row is told."""
    from llmctl.data.labeled.columns import find_text_columns, read_text
    from llmctl.data.labeled.table import Record, cases, describe, read_records

    assert config.file is not None
    found = read_records(config.file)
    columns: tuple[str, ...] = ()
    faults: list[Any] = []
    while some := list(islice(found, ROWS_AT_ONCE)):
        faults += [one for one in some if not isinstance(one, Record) and not one.kept]
        records = [one for one in some if isinstance(one, Record)]
        if records and not columns:
            columns = find_text_columns(records, wanted)
            console.note(f"text column `{'+'.join(columns)}`")
        if records:
            texts = [read_text(one.values, columns) for one in records]
            yield [dict(one.values) for one in records], texts
    rejected += [describe(one) for one in faults]
    if not columns:
        raise DataError(
            f"no row of `{config.file}` can be read: {cases(faults) or 'it is empty'}",
            hint="give a table: csv, tsv, jsonl, parquet or arrow",
        )


def _is_table(path: Path) -> bool:
    return not {".txt", ".md", ""} & {path.suffix.lower()}


def _texts(config: Predict) -> list[str]:
    texts = list(config.texts)
    if config.file:
        if not config.file.is_file():
            raise DataError(f"there is no file `{config.file}`", hint="check its path")
        texts += config.file.read_text(encoding="utf-8", errors="replace").split("\n")
    elif not texts and not sys.stdin.isatty():
        texts += sys.stdin.read().split("\n")
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise ConfigError(
            "there is no text to judge",
            hint='give one: `llmctl predict "The capital of France is ___"`',
        )
    return texts
