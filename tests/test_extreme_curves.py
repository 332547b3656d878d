"""Reading any curve: learning rates and losses at the ends of the floats, and curves of many points."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import random
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from curves import breaks, curve_of
from hypothesis import given, settings
from hypothesis import strategies as st

from lrfinder.advice.advice import Advice
from lrfinder.advice.advise import advise
from lrfinder.analysis.finding import GRADES
from lrfinder.analysis.regimes import read_curve
from lrfinder.analysis.rules import minimum, slide, steepest, valley
from lrfinder.analysis.smoothing import convolved, scale_of
from lrfinder.errors import NoAdviceError
from lrfinder.numbers import clamp_lr, geometric_mean, round_lr
from lrfinder.record.curve import LossCurve, StopReason, SweepConfig
from lrfinder.record.sweep import losses_until_diverged
from lrfinder.tables.kinds import KINDS

LARGEST, SMALLEST = sys.float_info.max, 5e-324
EXTREMES = (SMALLEST, 1e-310, 1e-300, 1e-150, 1e-30, 1e-5, 0.1, 1.0, 1e5, 1e30, 1e150, 1e300, LARGEST)
SHAPES: dict[str, Callable[[float, float], float]] = {
    "noise": lambda part, chance: 2 * chance - 1,
    "bowl": lambda part, chance: 2 * (part - 0.6) ** 2 - 1 + 0.01 * chance,
    "constant": lambda part, chance: 0.5,
    "rise": lambda part, chance: part,
    "fall": lambda part, chance: -part,
    "cliff": lambda part, chance: -1.0 if part < 0.7 else 1.0,
    "blow-up": lambda part, chance: 1 - part + (2 * part) ** 12 / 4096,
}


@st.composite
def extreme_curves(draw: st.DrawFn) -> LossCurve:
    """Curve of a usual shape at any scale of learning rates and losses."""
    start, end = sorted(draw(st.tuples(*[st.sampled_from(EXTREMES)] * 2).filter(lambda ends: ends[0] != ends[1])))
    count = draw(st.sampled_from([2, 3, 5, 10, 11, 12, 30, 60, 100]))
    config = SweepConfig(start_lr=start, end_lr=end, num_iter=count, mode=draw(st.sampled_from(["exp", "linear"])))
    points = draw(st.sampled_from([0, 1, count // 2, count]))
    scale, shift = draw(st.sampled_from(EXTREMES)), draw(st.sampled_from([0.0, 1.0, -1.0, 1e300, -LARGEST]))
    shape, rng = SHAPES[draw(st.sampled_from(sorted(SHAPES)))], random.Random(draw(st.integers(0, 1000)))
    losses = (shape(i / count, rng.random()) * scale + shift for i in range(points))
    return LossCurve(
        lrs=tuple(config.lr_at(i) for i in range(points)),
        losses=tuple(max(-LARGEST, min(LARGEST, loss)) for loss in losses),
        config=config,
        stop=draw(st.sampled_from(StopReason)),
        measured=draw(st.sampled_from(["before", "after"])),
        optimizer=draw(st.sampled_from(["SGD", "Adam", "LBFGS", "Prodigy", "Sophia", ""])),
        momentum=draw(st.sampled_from([0.0, 0.9, 1.0])),
    )


def check(advice: Advice) -> None:
    """What holds for the advice of every curve."""
    assert advice.grade in GRADES and all(advice.reasons)
    assert Advice.from_dict(json.loads(json.dumps(advice.to_dict(), allow_nan=False))) == advice
    if advice.grade == "none":
        return
    assert advice.base_lr is not None and advice.min_lr is not None and advice.interval is not None
    assert 0 < advice.min_lr <= advice.base_lr < math.inf
    assert 0 < advice.interval[0] <= advice.base_lr <= advice.interval[1] < math.inf
    assert all(0 < advice.lr_for(kind) < math.inf for kind in KINDS)
    if advice.edge_lr is not None and advice.base_lr > advice.edge_lr:
        text = " ".join(advice.reasons)
        assert advice.grade == "low" and ("above the stability edge" in text or "whatever its edge" in text)


@settings(max_examples=300, deadline=None)
@given(curve=extreme_curves())
def test_no_scale_of_learning_rates_and_losses_breaks_the_advice(curve: LossCurve) -> None:
    check(advise(curve))  # warnings are errors


@settings(max_examples=100, deadline=None)
@given(curve=extreme_curves(), rule=st.sampled_from([steepest, valley, minimum, slide]))
def test_no_scale_of_learning_rates_and_losses_breaks_a_rule(curve: LossCurve, rule: Callable[..., Any]) -> None:
    with contextlib.suppress(NoAdviceError):
        assert 0 < rule(curve).lr < math.inf


@settings(max_examples=200, deadline=None)
@given(
    losses=st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=60),
    stop=st.sampled_from(StopReason),
    optimizer=st.sampled_from(["SGD", "Adam", "Rprop", ""]),
)
def test_any_losses_give_sound_advice(losses: list[float], stop: StopReason, optimizer: str) -> None:
    config = SweepConfig(start_lr=1e-6, end_lr=10.0, num_iter=60)
    lrs = tuple(config.lr_at(i) for i in range(len(losses)))
    check(advise(LossCurve(lrs=lrs, losses=tuple(losses), stop=stop, config=config, optimizer=optimizer)))


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(st.integers(-1000, 1000), min_size=12, max_size=80),
    exponent=st.integers(-900, 900),
    shift=st.integers(-(2**20), 2**20),
    optimizer=st.sampled_from(["", "Adam"]),  # "" is read as SGD; the typical LR of SGD follows the size of the loss
)
def test_scaling_and_shifting_any_loss_changes_no_advice(
    steps: list[int], exponent: int, shift: int, optimizer: str
) -> None:
    walk = np.cumsum(steps).tolist()
    flat = curve_of(lambda x: 0.0, count=len(walk), optimizer=optimizer)
    plain, moved = (
        advise(dataclasses.replace(flat, losses=tuple(losses)))
        for losses in (map(float, walk), ((loss + shift) * 2.0**exponent for loss in walk))
    )
    assert (moved.base_lr, moved.interval, moved.grade) == (plain.base_lr, plain.interval, plain.grade)


@pytest.mark.parametrize("exponent", [-1040, -900, -500, 500, 1000])
def test_an_extreme_unit_of_the_loss_moves_no_regime(exponent: int) -> None:
    plain = read_curve(curve_of(breaks, optimizer="SGD"))
    other = read_curve(curve_of(lambda x: breaks(x) * 2.0**exponent, optimizer="SGD"))
    assert other.edge_lr == pytest.approx(plain.edge_lr, rel=0.1)
    assert other.lowest_lr == pytest.approx(plain.lowest_lr, rel=0.1)
    assert other.total_drop == pytest.approx(plain.total_drop * 2.0**exponent, rel=0.1)


# --- many points ------------------------------------------------------------------------------------------------------

LONG: dict[str, Callable[[int, int], float]] = {
    "white noise": lambda i, count: random.Random(i).gauss(0, 1),
    "sawtooth": lambda i, count: float(i % 1000),
    "short sawtooth": lambda i, count: i % 7 + 1e-4 * i / count,
    "blow-up in noise": lambda i, count: (
        random.Random(i).gauss(0, 0.05) - i / count + (10 * max(0, i / count - 0.8)) ** 4
    ),
}


def calls_to_read(shape: Callable[[int, int], float], count: int) -> int:
    """Function calls, those of C included, that the advice of a curve of so many points takes."""
    config = SweepConfig(start_lr=1e-6, end_lr=1.0, num_iter=count, early_stop=False)
    losses = tuple(shape(i, count) for i in range(count))
    facts: dict[str, Any] = {"stop": StopReason.DIVERGED, "measured": "after", "optimizer": "SGD"}
    curve = LossCurve(lrs=tuple(map(config.lr_at, range(count))), losses=losses, config=config, **facts)
    calls = [0]

    def count_call(frame: object, event: str, argument: object) -> None:
        calls[0] += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count_call)
    try:
        advise(curve)
    finally:
        sys.setprofile(before)
    return calls[0]


@pytest.mark.parametrize("shape", LONG.values(), ids=LONG)
def test_the_work_grows_no_faster_than_the_number_of_points(shape: Callable[[int, int], float]) -> None:
    few, many = calls_to_read(shape, 4000), calls_to_read(shape, 16000)
    assert many < 5 * few + 5000


@pytest.mark.parametrize("count", [3000, 20_000])
def test_long_sums_by_fourier_transform_are_the_direct_ones(count: int) -> None:
    rng = np.random.default_rng(0)
    values, kernel = rng.normal(size=count), rng.normal(size=900)
    np.testing.assert_allclose(convolved(values, kernel), np.convolve(values, kernel, "valid"), atol=1e-9)


def test_a_hundred_thousand_points_are_read() -> None:
    config = SweepConfig(start_lr=1e-6, end_lr=10.0, num_iter=100_000, early_stop=False)
    rng = np.random.default_rng(0)
    lrs = tuple(map(config.lr_at, range(100_000)))
    losses = tuple(breaks(math.log10(lr)) + 0.01 * float(noise) for lr, noise in zip(lrs, rng.normal(size=100_000)))
    facts: dict[str, Any] = {"stop": StopReason.COMPLETED, "measured": "after", "optimizer": "Adam"}
    curve = LossCurve(lrs=lrs, losses=losses, config=config, **facts)
    few = read_curve(curve_of(breaks, noise=0.01, optimizer="Adam"))
    many = read_curve(curve)
    assert many.edge_lr == pytest.approx(few.edge_lr, rel=0.3)
    assert many.lowest_lr == pytest.approx(few.lowest_lr, rel=1.0)


@given(losses=st.lists(st.integers(-5, 5), min_size=12, max_size=40))
def test_whether_a_loss_has_diverged_does_not_depend_on_its_unit(losses: list[int]) -> None:
    assert losses_until_diverged(losses) == losses_until_diverged([loss * 2.0**900 for loss in losses])


# --- numbers ----------------------------------------------------------------------------------------------------------


@given(lr=st.floats(min_value=0.0, exclude_min=True, allow_infinity=False))
def test_a_rounded_learning_rate_is_positive_and_finite(lr: float) -> None:
    assert 0 < round_lr(lr) < math.inf


@given(low=st.sampled_from(EXTREMES), high=st.sampled_from(EXTREMES))
def test_a_geometric_mean_lies_between_its_numbers(low: float, high: float) -> None:
    mean = geometric_mean(low, high)
    assert min(low, high) * (1 - 1e-9) <= mean <= max(low, high)
    assert clamp_lr(mean) == mean or mean > 1.7e308


@pytest.mark.parametrize("largest", [SMALLEST, 1e-200, 1e200, LARGEST])
def test_extreme_losses_are_scaled_near_one(largest: float) -> None:
    scaled = np.array([largest, -largest, 0.0]) * scale_of(np.array([largest, -largest, 0.0]))
    assert 1e-30 < np.abs(scaled).max() < 1e30
    assert scale_of(np.array([1.0, -3.0])) == scale_of(np.zeros(3)) == scale_of(np.zeros(0)) == 1.0
