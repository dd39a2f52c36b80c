"""Metrics rows -> the PNG of a run; the steps of a funnel -> the PNG of what each left.

A row is what `metrics.jsonl` holds: a training row has `step` and `loss` (nats a token), a
held-out row `step` and `val_loss`; further keys are drawn where they are and a value that is
missing or not finite leaves a gap. Draws through figure objects alone, so that no state is
shared with a notebook or another thread.
"""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

Row = Mapping[str, Any]

INCHES = (8.0, 4.7)
DPI = 150
# A window of a fiftieth of the run hides the noise of batches and keeps every bend that lasts.
WINDOWS_A_RUN = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Palette:
    """Colours by role; the lines are Okabe and Ito's, told apart by every common sort of sight."""

    paper: str
    ink: str
    faint: str
    train: str
    held_out: str
    rate: str


LIGHT = Palette(
    paper="#ffffff",
    ink="#24292f",
    faint="#d0d7de",
    train="#0072b2",
    held_out="#d55e00",
    rate="#009e73",
)
DARK = Palette(
    paper="#1c2128",
    ink="#d0d7de",
    faint="#373e47",
    train="#56b4e9",
    held_out="#e69f00",
    rate="#2fc49a",
)


def loss_curve(rows: Sequence[Row], *, target: str = "token", palette: Palette = LIGHT) -> bytes:
    """A training run as a PNG of 1200 x 705 pixels; losses are in nats a target."""
    figure = blank(palette)
    losses, rates = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    for axes in (losses, rates):
        dress(axes, palette)
    _draw_losses(losses, rows, palette)
    losses.set_ylabel(f"loss (nats a {target})", color=palette.ink)
    _draw_bits_per_byte(losses, rows, palette)
    _draw_rates(rates, rows, palette)
    return to_png(figure)


def blank(palette: Palette = LIGHT) -> Figure:
    """An empty figure of 1200 x 705 pixels."""
    figure = Figure(figsize=INCHES, dpi=DPI, facecolor=palette.paper, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def to_png(figure: Figure) -> bytes:
    """A figure as the bytes of a PNG file."""
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()


def funnel_chart(
    kept: Sequence[tuple[str, float]], *, unit: str, palette: Palette = LIGHT
) -> bytes:
    """What was left after each step of a funnel, from the whole down, as a PNG.

    >>> funnel_chart([("in", 300), ("gopher", 269), ("near copies", 237)], unit="documents")
    """
    figure = blank(palette)
    axes = figure.subplots()
    dress(axes, palette)
    names, values = [name for name, _ in kept], [value for _, value in kept]
    bars = axes.barh(names, values, color=palette.train, height=0.7)
    whole = max(values[0], 1)
    labels = [f" {value:,.0f}  ({value / whole:.1%})" for value in values]
    axes.bar_label(bars, labels, color=palette.ink, fontsize=9)
    axes.set_xlim(0, whole * 1.25)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_xlabel(f"{unit} left after each step", color=palette.ink)
    return to_png(figure)


def smooth(values: np.ndarray, *, windows: int = WINDOWS_A_RUN) -> np.ndarray:
    """The centred mean over a window of a `windows`-th of the values; shorter at both ends.

    >>> smooth(np.array([0.0, 3.0, 6.0]), windows=1)
    array([1.5, 3. , 4.5])
    """
    if not len(values):
        return values
    width = len(values) // windows | 1
    box = np.ones(width)
    return np.convolve(values, box, "same") / np.convolve(np.ones_like(values), box, "same")


def _draw_losses(axes: Axes, rows: Sequence[Row], palette: Palette) -> None:
    steps, losses = _series(rows, "loss")
    smoothed = smooth(losses)
    axes.plot(steps, losses, color=palette.train, alpha=0.25, linewidth=0.8)
    axes.plot(steps, smoothed, **_line(smoothed, palette.train), label="training")
    marked, held_out = _series(rows, "val_loss")
    if len(held_out):
        label = f"validation, {held_out[-1]:.3f} at the end"
        axes.plot(marked, held_out, **_line(held_out, palette.held_out), label=label)
    _leave_spikes_out(axes, np.concatenate([smoothed, held_out]))
    axes.legend(facecolor=palette.paper, edgecolor="none", labelcolor=palette.ink)


def _draw_bits_per_byte(axes: Axes, rows: Sequence[Row], palette: Palette) -> None:
    """A second scale: bits per byte are nats a token times a factor of tokenizer and text."""
    pairs = [
        (row[loss], row[bits])
        for loss, bits in (("val_loss", "val_bits_per_byte"), ("loss", "bits_per_byte"))
        for row in rows
        if _is_finite(row.get(loss)) and _is_finite(row.get(bits)) and row[loss] > 0
    ]
    if not pairs:
        return
    factor = pairs[0][1] / pairs[0][0]
    scale = axes.secondary_yaxis(
        "right", functions=(lambda loss: loss * factor, lambda bits: bits / factor)
    )
    scale.set_ylabel("bits per byte", color=palette.ink)
    scale.tick_params(colors=palette.ink, labelsize=9, length=0)
    scale.spines["right"].set_visible(False)


def _draw_rates(axes: Axes, rows: Sequence[Row], palette: Palette) -> None:
    steps, rates = _series(rows, "learning_rate")
    axes.plot(steps, rates, **_line(rates, palette.rate))
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("learning\nrate", color=palette.ink)
    axes.set_xlabel("step", color=palette.ink)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))


def _line(values: np.ndarray, color: str) -> dict[str, Any]:
    """How a series is drawn: few points are marked, so that even one is seen."""
    marker = "o" if len(values) <= WINDOWS_A_RUN else ""
    return {"color": color, "linewidth": 1.6, "marker": marker, "markersize": 4}


def dress(axes: Axes, palette: Palette) -> None:
    """Paper, grid and ink of the house on axes; no frame."""
    axes.set_facecolor(palette.paper)
    axes.grid(visible=True, color=palette.faint, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=palette.ink, labelsize=9, length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _leave_spikes_out(axes: Axes, values: np.ndarray) -> None:
    """Fit the scale to the lines: one bad batch would else press the whole run flat."""
    if len(values) and np.ptp(values) > 0:
        margin = 0.05 * np.ptp(values)
        axes.set_ylim(values.min() - margin, values.max() + margin)


def _series(rows: Sequence[Row], key: str) -> tuple[np.ndarray, np.ndarray]:
    """The steps at which `key` is a finite number, and its values there."""
    kept = [(row["step"], row[key]) for row in rows if _is_finite(row.get(key))]
    steps, values = zip(*kept, strict=True) if kept else ((), ())
    return np.array(steps, dtype=float), np.array(values, dtype=float)


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
