"""A model and texts -> what comes next, or with a classifier what they are."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmctl.config import knob
from llmctl.console import console
from llmctl.errors import ConfigError, DataError

if TYPE_CHECKING:
    from llmctl.workspace import ModelSource, Workspace

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

    if config.top < 1:
        raise ConfigError(f"`--top {config.top}` is not at least 1")
    source = _source(config, workspace)
    folder = source.path
    if not is_classifier(folder):
        return _next_tokens(config, folder)
    if _asks_for_rows(config):
        trained_on = None
        if source.input.kind == "model":
            trained_on = workspace.find("model", source.input.name).facts.get("text_column")
        return _table(config, folder, trained_on)
    return _classes(config, folder)


def _source(config: Predict, workspace: Workspace) -> ModelSource:
    """The model that is asked: by default the newest, for rows of a table the newest classifier."""
    if config.model is not None:
        return workspace.model_source(config.model)
    sorts = ("classifier", "chat-lm", "causal-lm")
    source = workspace.model_source(None, sorts=sorts if _asks_for_rows(config) else ())
    console.note(f"asking {source.label}")
    return source


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
    _say_cut(engine, len(texts))
    return {"predictions": predictions, "texts_cut": engine.cut}


def _table(config: Predict, folder: Path, trained_on: str | None) -> dict[str, Any]:
    """The rows of a file of any size, with their classes, some at a time."""
    from llmctl.data.formats.writing import written_rows
    from llmctl.data.labeled.sheet import look_at
    from llmctl.infer.classifier_engine import ClassifierEngine

    if config.file is None:
        raise ConfigError("`--out` needs rows to judge", hint="give them with `--file new.csv`")
    out = config.out or config.file.with_name(f"{config.file.name.partition('.')[0]}-scored.csv")
    if out.resolve() == config.file.resolve():
        raise ConfigError(
            f"`{out}` is what is read, and predictions would replace it",
            hint="give `--out` another name",
        )
    sheet = look_at(config.file, text_column=config.text_column, trained_on=trained_on)
    console.note(f"text column `{'+'.join(sheet.text_columns)}`")
    engine = ClassifierEngine.open(folder, device=config.device)
    ours = _our_columns(engine.classes, sheet.kinds)
    kinds = {**sheet.kinds, ours[0]: {"text"}, **{name: {"real"} for name in ours[1:]}}
    _say_mixed(out, kinds)
    counts = dict.fromkeys(engine.classes, 0)
    with written_rows(out, kinds) as write, console.progress("classifying", sheet.rows) as bar:
        for rows, texts in sheet:
            scored: list[dict[str, Any]] = []
            for row, shares in zip(rows, engine.probabilities(texts), strict=True):
                label = engine.classes[int(shares.argmax())]
                counts[label] += 1
                figures = [round(float(one), 6) for one in (shares.max(), *shares)]
                scored.append({**row, **dict(zip(ours, (label, *figures), strict=True))})
            write(scored)
            bar.advance(len(rows))
    if sheet.rejected:
        console.warn(f"rows left out: {len(sheet.rejected):,}, the first: {sheet.rejected[0]}")
    _say_cut(engine, sheet.rows)
    shown = sorted(counts.items(), key=lambda pair: -pair[1])[:MOST_SHOWN]
    console.table("", ("class", "rows"), [(name, f"{rows:,}") for name, rows in shown])
    console.say(f"wrote {out}")
    facts = {"path": str(out), "rows": sheet.rows, "columns": [*kinds]}
    facts |= {"classes": counts, "texts_cut": engine.cut}
    return facts | {"left_out": [*sheet.rejected]}


def _say_cut(engine: Any, texts: int) -> None:
    from llmctl.model.classifier import told_cut

    if engine.cut:
        console.warn(told_cut(engine.cut, texts, engine.model.shape.context))


def _our_columns(classes: Iterable[str], theirs: Iterable[str]) -> list[str]:
    """Names for the class, its probability and those of all classes; with a number where taken."""
    taken = {*theirs}
    ours: list[str] = []
    for wanted in (LABEL, SHARE, *(f"p({name})" for name in classes)):
        numbered = chain((wanted,), (f"{wanted}_{number}" for number in count(2)))
        name = next(one for one in numbered if one not in taken)
        if name != wanted:
            console.note(f"the table has a column `{wanted}`: ours is `{name}`")
        taken.add(name)
        ours.append(name)
    return ours


def _say_mixed(out: Path, kinds: Any) -> None:
    from llmctl.data.formats.writing import mixed_columns

    mixed = mixed_columns(kinds)
    if mixed and out.suffix.lower() == ".parquet":
        listed = ", ".join(f"`{name}`" for name in mixed)
        console.note(f"columns of lists, objects or several types, written as text: {listed}")


def _asks_for_rows(config: Predict) -> bool:
    return config.out is not None or _is_table(config)


def _is_table(config: Predict) -> bool:
    """Whether rows are meant, not lines: by the file's name, or since a column is named."""
    if config.file is None:
        return False
    return config.text_column is not None or config.file.suffix.lower() not in (".txt", ".md", "")


def _texts(config: Predict) -> list[str]:
    from llmctl.data.formats.plain import piped_text

    texts = list(config.texts)
    if config.file:
        texts += _lines(config.file)
    elif not texts and not sys.stdin.isatty():
        texts += piped_text(sys.stdin.buffer.read()).split("\n")
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise ConfigError(
            "there is no text to judge",
            hint='give one: `llmctl predict "The capital of France is ___"`',
        )
    return texts


def _lines(path: Path) -> Iterator[str]:
    """The lines of a file; what was assumed of it is said."""
    from llmctl.data.document import Rejected
    from llmctl.data.formats.plain import readable_lines

    if not path.is_file():
        raise DataError(f"there is no file `{path}`", hint="check its path")
    for one in readable_lines(path):
        if isinstance(one, Rejected):
            console.note(f"{one.where}: {one.reason}")
        else:
            yield one.text
