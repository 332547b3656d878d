"""The zero-lag smoother and the noise estimate."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import savgol_filter

from lrfinder.analysis.smoothing import noise, smooth, window

SMOOTHABLE = st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=80)


@given(value=st.floats(-1e6, 1e6), count=st.integers(1, 60), width=st.sampled_from([1, 5, 11, 31]))
def test_a_constant_loss_is_smoothed_to_itself(value: float, count: int, width: int) -> None:
    assert smooth([value] * count, width).tolist() == [value] * count


@settings(max_examples=60)
@given(losses=SMOOTHABLE, exponent=st.integers(-20, 20), shift=st.integers(-1000, 1000))
def test_scaling_and_shifting_the_loss_scales_and_shifts_the_smooth_curve(
    losses: list[float], exponent: int, shift: int
) -> None:
    scale = 2.0**exponent
    moved = smooth([scale * (loss + shift) for loss in losses], 11)
    expected = scale * (smooth(losses, 11) + shift)
    assert moved == pytest.approx(expected, rel=1e-9, abs=scale * 1e-7)


@settings(max_examples=60)
@given(losses=SMOOTHABLE)
def test_no_smoothed_value_leaves_the_range_of_the_losses(losses: list[float]) -> None:
    smoothed = smooth(losses, 11)
    assert smoothed.shape == (len(losses),)
    assert min(losses) - 1e-9 <= smoothed.min() and smoothed.max() <= max(losses) + 1e-9


def test_a_symmetric_bump_stays_where_it_is() -> None:
    bump = [math.exp(-(((i - 50) / 8) ** 2)) for i in range(101)]
    smoothed = smooth(bump, 11)
    assert np.flatnonzero(smoothed > smoothed.max() - 1e-12).mean() == 50
    assert smoothed == pytest.approx(smoothed[::-1])


def test_smoothing_backwards_is_smoothing_reversed_so_there_is_no_lag() -> None:
    rng = np.random.default_rng(0)
    losses = np.linspace(2.0, 1.0, 60) + 0.1 * rng.normal(size=60)
    losses[:5] = losses[-5:] = 1.5  # the level at the start sets where a blow-up is cut; make both ends alike
    assert smooth(losses[::-1], 11) == pytest.approx(smooth(losses, 11)[::-1])


def test_smoothing_takes_most_of_the_noise_away() -> None:
    rng = np.random.default_rng(1)
    truth = 2.0 - np.tanh(np.linspace(-3, 3, 150))
    losses = truth + 0.1 * rng.normal(size=150)
    assert np.std(smooth(losses, 11) - truth) < 0.5 * 0.1


def test_two_bad_batches_in_a_row_leave_no_mark() -> None:
    losses = np.ones(60)
    losses[30:32] = 50.0
    assert smooth(losses, 11).tolist() == [1.0] * 60


@pytest.mark.parametrize("height", [1e1, 1e6, 1e40], ids=str)
def test_a_blow_up_does_not_ring_into_the_curve_before_it(height: float) -> None:
    losses = [2.0 - i / 60 for i in range(60)] + [1.0 + height * 10.0**i for i in range(6)]
    smoothed = smooth(losses, 11)
    assert smoothed[:55] == pytest.approx(losses[:55], abs=0.05)
    assert smoothed[-1] > height


def test_the_noise_of_normal_losses_is_their_standard_deviation() -> None:
    losses = 3.0 + 0.2 * np.random.default_rng(2).normal(size=2000)
    assert noise(losses) == pytest.approx(0.2, rel=0.1)


def test_neither_a_trend_nor_a_blow_up_counts_as_noise() -> None:
    rng = np.random.default_rng(3)
    losses = 0.01 * rng.normal(size=200) + np.linspace(50, 0, 200)
    losses[-10:] += 10.0 ** np.arange(10)
    assert noise(losses) == pytest.approx(0.01, rel=0.25)


def test_the_noise_of_a_rounded_loss_is_its_rounding() -> None:
    losses = [2.25] * 50
    losses[10] = losses[30] = 2.265625
    assert noise(losses) == 0.015625


def test_too_few_losses_have_no_noise() -> None:
    assert noise([1.0, 5.0, 2.0, 7.0]) == 0.0
    assert noise([1.0, 5.0, 2.0, 7.0, 3.0]) > 0.0


@pytest.mark.parametrize(("per_decade", "width"), [(12, 5), (25, 11), (50, 23)])
def test_the_window_spans_just_under_half_a_decade(per_decade: int, width: int) -> None:
    assert window([10 ** (i / per_decade) for i in range(5 * per_decade)]) == width


def test_the_window_of_a_linear_sweep_is_a_part_of_its_points() -> None:
    assert window([0.001 + 0.01 * i for i in range(100)]) == 15


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6, 9])
def test_short_curves_are_smoothed_too(count: int) -> None:
    lrs = [10.0**i for i in range(count)]
    width = window(lrs)
    assert width % 2 == 1
    assert len(smooth(list(map(float, range(count))), width)) == count


@pytest.mark.parametrize("width", [5, 7, 11, 23])
def test_a_falling_curve_is_smoothed_as_by_savitzky_and_golay(width: int) -> None:
    falling = np.exp(-np.linspace(0.0, 4.0, 200))
    expected = savgol_filter(falling, width, polyorder=2)
    inside = slice(width, -width)
    assert smooth(falling.tolist(), width)[inside] == pytest.approx(expected[inside], abs=1e-12)
    assert smooth(falling.tolist(), width)[inside] != pytest.approx(falling[inside], abs=1e-12)
