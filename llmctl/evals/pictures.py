"""Counts of right and wrong classes -> a PNG."""

from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from llmctl.plots import DPI, LIGHT, Palette, dress, to_png

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


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_LABEL else f"{name[: LONGEST_LABEL - 1]}…"
