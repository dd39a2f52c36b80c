"""Counts of right and wrong classes, scores with their intervals, a run's losses -> a PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from llmctl.evals.bootstrap import are_few
from llmctl.plots import DARK, DPI, LIGHT, Palette, blank, dress, loss_curve, to_png
from llmctl.report import Picture

if TYPE_CHECKING:
    # What scores answers takes long to import, and other pictures need none of it.
    from llmctl.evals.answers import Likeness

# Counts are written into the cells of a confusion matrix of up to so many classes.
MOST_LABELLED, LONGEST_LABEL = 20, 24


def confusion_matrix(
    counts: Sequence[Sequence[int]], classes: Sequence[str], *, palette: Palette = LIGHT
) -> bytes:
    """True classes (rows) against predicted ones as a PNG; shades are shares of the true class."""
    side = min(3.2 + 0.42 * len(classes), 16.0)
    figure = Figure(
        figsize=(side + 0.8, side), dpi=DPI, facecolor=palette.paper, layout="constrained"
    )
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    table = np.array(counts, dtype=float)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    shades = LinearSegmentedColormap.from_list("shares", [palette.paper, palette.train])
    axes.imshow(shares, cmap=shades, vmin=0, vmax=1)
    dress(axes, palette)
    axes.grid(visible=False)
    size = 9.0 if len(classes) <= MOST_LABELLED else 5.0
    places, names = range(len(classes)), [_short(name) for name in classes]
    axes.set_xticks(places, names, rotation=45 if len(classes) > 3 else 0, fontsize=size)
    axes.set_yticks(places, names, fontsize=size)
    for label in axes.get_xticklabels():
        label.set_horizontalalignment("right" if len(classes) > 3 else "center")
    if len(classes) <= MOST_LABELLED:
        for row, column in np.ndindex(*table.shape):
            ink = palette.paper if shares[row, column] > 0.5 else palette.ink
            axes.text(
                column, row, f"{table[row, column]:,.0f}", ha="center", va="center", color=ink
            )
    axes.set_xlabel("predicted", color=palette.ink)
    axes.set_ylabel("true", color=palette.ink)
    return to_png(figure)


def score_bars(
    models: Mapping[str, Mapping[str, Likeness]],
    *,
    names: Mapping[str, str],
    palette: Palette = LIGHT,
) -> bytes:
    """The scores of models side by side as a PNG, each with its interval where that tells much.

    `names` are what people call the scores.
    """
    figure = blank(palette)
    axes = figure.subplots()
    dress(axes, palette)
    height = 0.8 / len(models)
    colors = (palette.train, palette.held_out, palette.rate)
    for place, (model, scores) in enumerate(models.items()):
        found = list(scores.values())
        axes.barh(
            np.arange(len(found)) + place * height,
            [one.mean for one in found],
            height,
            label=_short(model),
            color=colors[place % len(colors)],
            xerr=None if are_few(len(found[0].values)) else np.transpose(_reaches(found)),
            ecolor=palette.ink,
        )
    axes.set_yticks(np.arange(len(names)) + 0.4 - height / 2, list(names.values()))
    axes.set_xlim(0, 1)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    figure.legend(
        loc="outside upper center", ncols=len(models), labelcolor=palette.ink, frameon=False
    )
    return to_png(figure)


def _reaches(scores: Sequence[Likeness]) -> list[tuple[float, float]]:
    """How far each interval reaches below and above its mean."""
    return [(one.mean - one.interval.low, one.interval.high - one.mean) for one in scores]


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_LABEL else f"{name[: LONGEST_LABEL - 1]}…"


def losses(
    directory: Path, metrics: Sequence[Mapping[str, Any]], *, caption: str, target: str = "token"
) -> Picture:
    """How the loss of a run fell, which is kept as `loss.png`, too."""
    curve = loss_curve(metrics, target=target)
    (directory / "loss.png").write_bytes(curve)
    dark = loss_curve(metrics, target=target, palette=DARK)
    return Picture(png=curve, dark=dark, caption=caption)
