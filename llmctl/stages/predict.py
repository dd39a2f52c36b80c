"""A model and texts -> what comes next, as a table of tokens with their probabilities."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmctl.config import knob
from llmctl.console import console
from llmctl.errors import ConfigError

if TYPE_CHECKING:
    from llmctl.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Predict:
    """Show what a model expects next."""

    texts: tuple[str, ...] = knob(
        (), help="The beginning of a text; `___` at its end is understood", positional=True,
        metavar="TEXT",
    )  # fmt: skip
    file: Path | None = knob(None, help="Read texts from a file, one a line", panel="Input")
    model: str | None = knob(
        None, help="A NAME, NAME@STEP or folder; the newest by default", panel="Model",
        metavar="NAME|DIR",
    )  # fmt: skip
    top: int = knob(10, help="How many tokens to show", panel="Output")
    device: str = knob("auto", help="auto, cpu, cuda or mps", panel="Machine", rare=True)


def run(config: Predict, workspace: Workspace) -> dict[str, Any]:
    """The likeliest next tokens of each text.

    >>> run(Predict(texts=("The capital of France is ___",)), workspace)["predictions"]
    [{'text': 'The capital …', 'next': [{'token': ' Paris', 'probability': 0.83}, …]}]
    """
    from llmctl.infer.engine import Engine

    texts = _texts(config)
    folder = workspace.model_folder(config.model, sorts=("causal-lm", "chat-lm"))
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


def _texts(config: Predict) -> list[str]:
    texts = list(config.texts)
    if config.file:
        texts += config.file.read_text(encoding="utf-8").split("\n")
    elif not texts and not sys.stdin.isatty():
        texts += sys.stdin.read().split("\n")
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise ConfigError(
            "there is no text to continue",
            hint='give one: `llmctl predict "The capital of France is ___"`',
        )
    return texts
