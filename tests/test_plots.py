import math
import struct

import numpy as np
import pytest

from llmctl.plots import DARK, loss_curve, smooth

TRAINING = [
    {
        "step": step,
        "loss": 8 * math.exp(-step / 40) + 2,
        "bits_per_byte": 3 * math.exp(-step / 40) + 0.8,
        "learning_rate": 1e-3 * min(1, step / 20),
    }
    for step in range(1, 121)
]
HELD_OUT = [
    {"step": step, "val_loss": 8 * math.exp(-step / 40) + 2.1, "val_bits_per_byte": 1.2}
    for step in (40, 80, 120)
]


def pixels(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack(">II", png[16:24])


def test_a_run_is_drawn_as_a_png_wide_enough_to_read():
    assert pixels(loss_curve(TRAINING + HELD_OUT)) == (1200, 705)


@pytest.mark.parametrize(
    "rows",
    [
        [],
        TRAINING[:1],
        HELD_OUT,
        [{"step": 1, "loss": math.nan}, {"step": 2, "loss": math.inf}],
        [*TRAINING, {"step": 121, "loss": None, "learning_rate": None}],
        [{"step": step, "loss": 0.0, "bits_per_byte": 0.0} for step in range(5)],
    ],
    ids=["no row", "one row", "no training row", "never finite", "a gap", "a loss of zero"],
)
def test_a_run_cut_short_or_broken_is_still_drawn(rows):
    assert pixels(loss_curve(rows)) == (1200, 705)


def test_rows_that_are_not_finite_leave_the_rest_of_the_picture_as_it_was():
    broken = [*TRAINING, {"step": 60, "loss": math.nan, "learning_rate": math.nan}]

    assert loss_curve(broken) == loss_curve(TRAINING)


def test_validation_points_and_palette_change_the_picture():
    pictures = {
        loss_curve(TRAINING),
        loss_curve(TRAINING + HELD_OUT),
        loss_curve(TRAINING, palette=DARK),
    }

    assert len(pictures) == 3


def test_smoothing_keeps_a_level_and_thins_the_noise():
    noise = np.random.default_rng(0).normal(size=1000)

    smoothed = smooth(5 + noise)

    assert len(smoothed) == 1000
    np.testing.assert_allclose(smooth(np.full(1000, 5.0)), 5.0)
    # A mean of 21 values has a deviation of 1 / sqrt(21) = 0.22.
    assert smoothed.std() < 0.3
