"""The reading of a curve: flat, falling, blowing up, and the stability edge against its theory."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from curves import curve_of
from hypothesis import given, settings
from hypothesis import strategies as st

from lrfinder.advice.advise import advise
from lrfinder.analysis.regimes import read_curve
from lrfinder.record.curve import LossCurve, StopReason, SweepConfig
from lrfinder.record.facts import ModelFacts
from lrfinder.record.sweep import Sweep


def descend(
    *,
    dimension: int = 10,
    spread: bool = False,
    momentum: float = 0.0,
    nesterov: bool = False,
    gradient_noise: float = 0.0,
    loss_noise: float = 0.0,
    distance: float = 1.0,
    curvature: float = 1.0,
    per_decade: int = 25,
    mode: str = "exp",
    early_stop: bool = True,
    seed: int = 0,
) -> tuple[LossCurve, float]:
    """Sweep of torch's SGD on a quadratic with a wandering target, and its stability limit."""
    rng = np.random.default_rng(seed)
    curvatures = curvature / np.arange(1, dimension + 1) if spread else np.full(dimension, curvature)
    limit = 2 * (1 + momentum) / ((1 + 2 * momentum) if nesterov else 1) / curvature
    start, end = (1e-3, 30.0) if mode == "exp" else (0.02, 4.0)
    num_iter = round(per_decade * math.log10(end / start)) + 1
    sweep = Sweep(
        SweepConfig(start_lr=start * limit, end_lr=end * limit, num_iter=num_iter, mode=mode, early_stop=early_stop)
    )
    error = rng.normal(size=dimension)
    error *= distance / math.sqrt(0.5 * float(curvatures @ error**2))
    velocity = np.zeros(dimension)
    while not sweep.done:
        target = gradient_noise * rng.normal(size=dimension) / math.sqrt(dimension * curvature)
        loss = 0.5 * float(curvatures @ (error - target) ** 2) + loss_noise * rng.normal()
        sweep.record(loss)
        gradient = curvatures * (error - target)
        velocity = momentum * velocity + gradient
        error = error - sweep.last_lr * (gradient + momentum * velocity if nesterov else velocity)
    return sweep.curve(optimizer="SGD", momentum=momentum), limit


def drawn(shape: Callable[[float], float], **facts: Any) -> LossCurve:
    """Curve of a shape, with Adam as its optimizer."""
    return curve_of(shape, **{"optimizer": "Adam", **facts})


def falls(x: float) -> float:
    """From 2 to 1, fastest at 10**-3."""
    return 1.5 - 0.5 * math.tanh(2 * (x + 3))


def valley(x: float) -> float:
    """Falls, and rises by a tenth of a drop per tenth of a decade from 0.1 on, as Adam's loss does."""
    return falls(x) + max(0.0, x + 1)


NOISES = {"none": (0.0, 0.0), "loss": (0.0, 0.05), "gradient": (0.05, 0.0), "both": (0.1, 0.01)}


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize(("dimension", "spread"), [(1, False), (2, True), (10, False), (100, True)])
def test_the_edge_of_a_noisy_quadratic_is_its_stability_limit(
    dimension: int, spread: bool, noise: str, momentum: float
) -> None:
    gradient_noise, loss_noise = NOISES[noise]
    parts = []
    for seed in range(5):
        curve, limit = descend(
            dimension=dimension,
            spread=spread,
            momentum=momentum,
            gradient_noise=gradient_noise,
            loss_noise=loss_noise,
            seed=seed,
        )
        edge = read_curve(curve).edge_lr
        assert edge is not None
        parts.append(edge / limit)
    assert all(1 / 1.3 < part < 1.3 for part in parts)
    assert sum(1 / 1.15 < part < 1.15 for part in parts) >= 4


@pytest.mark.parametrize("distance", [1e3, 1.0, 0.1])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_edge_does_not_depend_on_how_far_the_optimum_is(distance: float, momentum: float) -> None:
    curve, limit = descend(distance=distance, momentum=momentum, gradient_noise=0.01, loss_noise=1e-3, seed=1)
    assert read_curve(curve).edge_lr == pytest.approx(limit, rel=0.15)


@pytest.mark.parametrize("per_decade", [12, 18, 25, 35, 50])
def test_the_edge_does_not_depend_on_the_spacing_of_the_sweep(per_decade: int) -> None:
    curve, limit = descend(spread=True, loss_noise=0.02, per_decade=per_decade)
    assert read_curve(curve).edge_lr == pytest.approx(limit, rel=0.15)


@pytest.mark.parametrize("curvature", [1e-8, 1e8])
def test_the_edge_follows_the_curvature(curvature: float) -> None:
    curve, limit = descend(curvature=curvature, loss_noise=0.02)
    assert read_curve(curve).edge_lr == pytest.approx(limit, rel=0.15)


def test_the_edge_is_found_in_a_linear_sweep() -> None:
    curve, limit = descend(mode="linear", loss_noise=0.01, per_decade=60)
    assert read_curve(curve).edge_lr == pytest.approx(limit, rel=0.2)


def test_the_edge_is_the_same_when_the_sweep_goes_on_after_the_blow_up() -> None:
    stopped, limit = descend(loss_noise=0.02)
    going_on, _ = descend(loss_noise=0.02, early_stop=False)
    assert len(going_on) > len(stopped)
    assert read_curve(going_on).edge_lr == pytest.approx(limit, rel=0.3)


def test_nesterov_is_read_within_a_factor_of_one_and_a_half() -> None:
    curve, limit = descend(momentum=0.9, nesterov=True, loss_noise=0.02)
    edge = read_curve(curve).edge_lr
    assert edge is not None and 1 / 1.5 < edge / limit < 1.5


def test_the_interval_of_the_edge_holds_the_limit_in_most_sweeps() -> None:
    held = 0
    for seed in range(20):
        curve, limit = descend(gradient_noise=0.05, loss_noise=0.01, seed=seed)
        reading = read_curve(curve)
        assert reading.edge_interval is not None and reading.edge_lr is not None
        low, high = reading.edge_interval
        assert low < reading.edge_lr < high
        held += low <= limit <= high
    assert held >= 16


@pytest.mark.parametrize("noise", [0.0, 0.03, 0.1])
def test_a_gentle_rise_has_its_edge_where_it_sets_in(noise: float) -> None:
    edge = read_curve(drawn(valley, noise=noise)).edge_lr
    assert edge is not None and 0.05 < edge < 0.35


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_the_regimes_of_an_analytic_curve_are_where_they_were_drawn(noise: float) -> None:
    reading = read_curve(drawn(valley, noise=noise))
    assert reading.onset_lr is not None and reading.steepest_lr is not None and reading.lowest_lr is not None
    assert reading.onset_lr == pytest.approx(10**-3.75, rel=0.8)  # 5 % of the fall is gone at 10**-3.74
    assert reading.steepest_lr == pytest.approx(1e-3, rel=0.8)
    assert 10**-2.2 < reading.lowest_lr < 10**-0.8
    assert reading.total_drop == pytest.approx(1.0, abs=0.15)
    assert reading.noise_std == pytest.approx(noise, abs=0.01)


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_a_curve_that_never_turned_has_no_edge(noise: float) -> None:
    reading = read_curve(drawn(falls, noise=noise))
    assert reading.edge_lr is None and reading.edge_interval is None
    assert reading.lowest_lr is not None


@pytest.mark.parametrize("seed", range(10))
def test_noise_alone_is_neither_a_fall_nor_a_rise(seed: int) -> None:
    reading = read_curve(drawn(lambda x: 2.3, noise=0.1, seed=seed))
    assert (reading.onset_lr, reading.steepest_lr, reading.lowest_lr, reading.edge_lr) == (None,) * 4


def test_a_curve_that_only_rises_has_an_edge_and_no_fall() -> None:
    reading = read_curve(drawn(lambda x: 0.1 + max(0.0, x + 1) ** 2, noise=0.01))
    assert reading.onset_lr is None and reading.steepest_lr is None
    assert reading.edge_lr == pytest.approx(0.1, rel=2)


def test_a_spike_that_recovers_is_not_the_edge() -> None:
    def spiked(x: float) -> float:
        return valley(x) + (3.0 if -2.5 < x < -2.1 else 0.0)

    assert read_curve(drawn(spiked, noise=0.02)).edge_lr == pytest.approx(0.15, rel=0.5)
    assert read_curve(drawn(lambda x: spiked(x) - valley(x) + falls(x), noise=0.02)).edge_lr is None


def test_a_sudden_nan_puts_the_edge_at_the_last_lr_with_a_finite_loss() -> None:
    config = SweepConfig(start_lr=1e-4, end_lr=1.0, num_iter=101)
    sweep = Sweep(config)
    for i in range(60):
        sweep.record(2.0 - i / 60)
    sweep.record(math.nan)
    reading = read_curve(sweep.curve(optimizer="SGD"))
    assert reading.edge_lr == config.lr_at(58)


def test_a_cliff_onto_a_plateau_has_its_edge_before_the_jump() -> None:
    edge = read_curve(drawn(lambda x: falls(x) if x < -1 else 1000.0, noise=0.01, optimizer="SGD")).edge_lr
    assert edge is not None and 0.03 < edge <= 0.11


@settings(max_examples=40, deadline=None)
@given(
    exponent=st.integers(-30, 30),
    shift=st.integers(-100, 100),
    lr_exponent=st.integers(-20, 20),
    seed=st.integers(0, 100),
    momentum=st.sampled_from([0.0, 0.9]),
)
def test_readings_are_invariant_to_loss_scale_loss_shift_and_lr_scale(
    exponent: int, shift: int, lr_exponent: int, seed: int, momentum: float
) -> None:
    curve, _ = descend(loss_noise=0.02, gradient_noise=0.02, momentum=momentum, seed=seed)
    scale, lr_scale = 2.0**exponent, 2.0**lr_exponent
    moved = LossCurve(
        lrs=tuple(lr * lr_scale for lr in curve.lrs),
        losses=tuple(scale * (loss + shift) for loss in curve.losses),
        stop=curve.stop,
        config=curve.config,
        optimizer=curve.optimizer,
        momentum=curve.momentum,
    )
    plain, other = read_curve(curve), read_curve(moved)
    for name in ("onset_lr", "steepest_lr", "lowest_lr", "edge_lr", "diverged_lr"):
        assert getattr(other, name) == pytest.approx(lr_scale * getattr(plain, name), rel=1e-6), name
    assert other.edge_interval == pytest.approx(tuple(lr_scale * lr for lr in plain.edge_interval or ()), rel=1e-6)
    assert other.total_drop == pytest.approx(scale * plain.total_drop, rel=1e-6)


@pytest.mark.parametrize("measured", ["before", "after"])
def test_diverged_lr_is_the_same_with_and_without_early_stop(measured: str) -> None:
    stopped, whole = (
        dataclasses.replace(descend(loss_noise=0.02, early_stop=early_stop)[0], measured=measured)
        for early_stop in (True, False)
    )
    assert len(stopped) < len(whole)
    assert stopped.stop is StopReason.DIVERGED
    # The last LR whose effect is on the curve.
    assert read_curve(stopped).diverged_lr == read_curve(whole).diverged_lr == stopped.pairs()[0][-1]


def before_divergence(stop: StopReason) -> LossCurve:
    """A diverging curve without its last four points."""
    curve, _ = descend()
    return dataclasses.replace(curve, lrs=curve.lrs[:-4], losses=curve.losses[:-4], stop=stop)


def test_a_curve_that_ends_before_it_diverges_has_no_diverged_lr() -> None:
    assert read_curve(before_divergence(StopReason.COMPLETED)).diverged_lr is None


def test_a_curve_that_ends_in_nan_diverged_at_its_last_lr() -> None:
    curve = before_divergence(StopReason.NONFINITE)
    assert read_curve(curve).diverged_lr == curve.pairs()[0][-1]


def test_reading_is_deterministic_and_pairs_each_lr_with_its_effect() -> None:
    curve, _ = descend(loss_noise=0.02)
    reading = read_curve(curve)
    assert reading == read_curve(curve)
    assert (reading.lrs, reading.losses) == curve.pairs()
    assert len(reading.smooth) == len(reading.lrs)


@settings(max_examples=60, deadline=None)
@given(
    losses=st.lists(st.floats(-1e30, 1e30), max_size=40),
    stop=st.sampled_from(StopReason),
    measured=st.sampled_from(["before", "after"]),
    mode=st.sampled_from(["exp", "linear"]),
)
def test_any_curve_can_be_read(losses: list[float], stop: StopReason, measured: str, mode: str) -> None:
    config = SweepConfig(start_lr=1e-4, end_lr=1.0, num_iter=40, mode=mode)
    lrs = tuple(config.lr_at(i) for i in range(len(losses)))
    reading = read_curve(LossCurve(lrs=lrs, losses=tuple(losses), stop=stop, config=config, measured=measured))
    for lr in (reading.onset_lr, reading.steepest_lr, reading.lowest_lr):
        assert lr is None or lr in reading.lrs
    assert (reading.edge_lr is None) == (reading.edge_interval is None)
    if reading.edge_lr is not None and reading.edge_interval is not None:
        assert 0 < reading.edge_interval[0] <= reading.edge_lr <= reading.edge_interval[1]


# ResNet-18 on 8x8 digits, SGD with momentum 0.9: the loss climbs onto a plateau at 0.03 and explodes at 0.15.
TWO_PARTS = (
    2.56,
    2.57,
    2.69,
    2.49,
    2.28,
    2.45,
    2.34,
    2.18,
    2.13,
    2.09,
    2.14,
    1.93,
    2.02,
    1.88,
    1.82,
    1.73,
    1.57,
    1.54,
    1.42,
    1.38,
    1.27,
    1.2,
    1.07,
    1.18,
    0.816,
    0.767,
    0.75,
    0.491,
    0.507,
    0.505,
    0.444,
    0.372,
    0.32,
    0.265,
    0.252,
    0.228,
    0.107,
    0.158,
    0.171,
    0.163,
    0.219,
    0.158,
    0.205,
    0.162,
    0.214,
    0.18,
    0.108,
    0.296,
    0.281,
    0.115,
    0.211,
    0.287,
    0.142,
    0.144,
    0.494,
    0.189,
    0.438,
    0.413,
    0.201,
    0.176,
    0.183,
    0.6,
    0.916,
    0.583,
    1.17,
    0.539,
    1.22,
    0.522,
    0.781,
    1.14,
    1.22,
    0.377,
    1.49,
    0.914,
    0.599,
    1.56,
    1.91,
    0.183,
    3.33,
    3.29,
    6.36,
    4.81,
)


def test_a_rise_in_two_parts_has_a_blurred_edge_between_them() -> None:
    config = SweepConfig(start_lr=0.0001333521432163324, end_lr=1.333521432163324, num_iter=101)
    lrs = tuple(config.lr_at(i) for i in range(len(TWO_PARTS)))
    curve = LossCurve(lrs=lrs, losses=TWO_PARTS, stop=StopReason.DIVERGED, config=config, optimizer="SGD", momentum=0.9)
    reading = read_curve(curve)
    assert reading.edge_lr is not None and reading.edge_interval is not None
    assert 0.04 < reading.edge_lr < 0.15
    assert reading.edge_interval[0] < 0.04 and reading.edge_interval[1] > 0.15
    advice = advise(curve)
    assert advice.grade in ("medium", "low")
    assert any("blurred" in reason and "another seed" in reason for reason in advice.reasons)


# The low region.


def test_the_low_region_ends_where_a_fifth_of_the_drop_is_lost_again() -> None:
    reading = read_curve(drawn(valley))
    assert reading.low_region is not None and reading.lowest_lr is not None
    low, high = reading.low_region
    assert low <= reading.lowest_lr <= high
    lowest = min(reading.smooth)
    inside = [loss for lr, loss in zip(reading.lrs, reading.smooth, strict=True) if low <= lr <= high]
    assert max(inside) <= lowest + 0.2 * reading.total_drop
    assert reading.smooth[reading.lrs.index(low) - 1] > lowest + 0.2 * reading.total_drop
    assert reading.smooth[reading.lrs.index(high) + 1] > lowest + 0.2 * reading.total_drop


def test_the_middle_of_the_low_region_varies_less_than_the_lowest_point() -> None:
    readings = [read_curve(drawn(valley, noise=0.05, seed=seed)) for seed in range(20)]
    middles = [math.log10(r.low_region[0] * r.low_region[1]) / 2 for r in readings if r.low_region is not None]
    lowest = [math.log10(r.lowest_lr) for r in readings if r.lowest_lr is not None]
    assert len(middles) == len(lowest) == 20
    assert np.std(middles) < np.std(lowest)


def test_a_fall_that_only_a_decade_of_losses_shows_is_seen() -> None:
    readings = [read_curve(drawn(valley, noise=0.65, seed=seed)) for seed in range(20)]
    # Too little for the narrow smoother.
    hidden = [reading for reading in readings if reading.total_drop < 2.5 * reading.noise_std]
    assert len(hidden) >= 5
    assert sum(reading.low_region is not None for reading in hidden) >= 0.8 * len(hidden)
    for reading in readings:
        assert (reading.low_region is None) == (reading.onset_lr is None) == (reading.lowest_lr is None)
        assert reading.low_region is None or reading.low_region[0] <= reading.low_region[1]


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_noise_alone_rarely_shows_a_low_region_or_an_edge(optimizer: str) -> None:
    readings = [read_curve(drawn(lambda x: 2.0, noise=0.1, seed=seed, optimizer=optimizer)) for seed in range(100)]
    assert sum(reading.low_region is not None for reading in readings) <= 5
    assert sum(reading.edge_lr is not None for reading in readings) <= 2


def test_a_loss_that_saturates_in_noise_has_an_edge() -> None:
    # As of a trained model under Adam: the loss climbs to that of a constant answer, and single batches go back.
    curves = [drawn(lambda x: 0.4 + 0.3 * (x > -0.7), noise=0.07, seed=seed) for seed in range(20)]
    edges = [read_curve(curve).edge_lr for curve in curves]
    assert all(edge is not None and 0.1 < edge < 1.0 for edge in edges)


@pytest.mark.parametrize("seed", range(10))
def test_an_explosion_within_two_steps_puts_no_edge_below_the_low_region(seed: int) -> None:
    # No quadratic grows by twenty orders of magnitude in two steps; taken for one, the limit came out a factor 30 low.
    rng = np.random.default_rng(seed)
    config = SweepConfig(start_lr=4e-4, end_lr=4.0, num_iter=81)
    lrs = [config.lr_at(i) for i in range(74)]
    losses = [(1.0 if lr < 0.1 else 0.6) + 0.12 * float(rng.normal()) for lr in lrs[:-3]] + [0.62, 1.65, 4e22]
    curve = LossCurve(
        lrs=tuple(lrs), losses=tuple(losses), stop=StopReason.DIVERGED, config=config, optimizer="SGD", momentum=0.9
    )
    reading = read_curve(curve)
    assert reading.low_region is not None and reading.edge_lr is not None and reading.edge_interval is not None
    assert reading.edge_lr >= reading.low_region[0] >= 0.08
    assert reading.edge_interval[0] <= reading.edge_lr <= reading.edge_interval[1]


def dies(at: float = 0.01, *, tail: float = 0.0, level: float = 2.3, noise: float = 0.05, seed: int = 0) -> LossCurve:
    """Batch noise around 2.3 that shrinks to the part ``tail`` of itself, around ``level``, from a learning rate on."""
    curve = curve_of(lambda x: 2.3, start=1e-5, end=10.0, count=73, noise=noise, seed=seed, optimizer="SGD")
    losses = [
        loss if lr < at else level + tail * (loss - 2.3) for lr, loss in zip(curve.lrs, curve.losses, strict=True)
    ]
    return dataclasses.replace(curve, losses=tuple(losses))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("at", [1e-3, 0.01, 0.3])
def test_a_network_that_dies_is_seen_where_its_losses_become_equal(at: float, seed: int) -> None:
    reading = read_curve(dies(at, seed=seed))
    assert reading.dead_lr == pytest.approx(at, rel=0.25)
    assert reading.edge_lr is not None and reading.edge_lr <= reading.dead_lr
    assert reading.edge_interval is not None
    assert reading.edge_interval[0] <= reading.edge_lr <= reading.edge_interval[1]
    assert reading.diverged_lr == reading.dead_lr
    advice = advise(dies(at, seed=seed))
    assert advice.base_lr is not None and advice.base_lr < at and advice.grade == "low"
    assert any(reason.startswith("From lr=") and "same for every batch" in reason for reason in advice.reasons)


@pytest.mark.parametrize(
    "curve",
    [dies(tail=0.5), dies(level=1.8), dies(noise=0.0), dies(at=8.0)],
    ids=["less noise", "a lower loss that stays", "no noise at all", "equal losses at the very end"],
)
def test_a_network_that_lives_is_not_taken_for_dead(curve: LossCurve) -> None:
    assert read_curve(curve).dead_lr is None


@pytest.mark.parametrize("seed", range(20))
def test_losses_of_few_digits_are_not_taken_for_a_dead_network(seed: int) -> None:
    curve = curve_of(lambda x: 2.3, noise=0.006, seed=seed)  # bfloat16 has steps of 0.016 there
    coarse = tuple(round(loss * 64) / 64 for loss in curve.losses)
    assert read_curve(dataclasses.replace(curve, losses=coarse)).dead_lr is None


@given(scale=st.floats(1e-3, 1e3), shift=st.floats(-5, 5), seed=st.integers(0, 100))
def test_where_a_network_dies_does_not_depend_on_the_unit_of_the_loss(scale: float, shift: float, seed: int) -> None:
    curve = dies(tail=0.01, seed=seed)
    other = dataclasses.replace(curve, losses=tuple(scale * loss + shift for loss in curve.losses))
    assert read_curve(other).dead_lr == read_curve(curve).dead_lr is not None


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_a_gentle_rise_shows_no_limit_and_has_the_edge_that_adam_has(power: float) -> None:
    curves = [drawn(lambda x: falls(x) + 0.3 * 10 ** (power * (x + 1)), optimizer=name) for name in ("SGD", "Adam")]
    assert read_curve(curves[0]).edge_lr == read_curve(curves[1]).edge_lr


# --- the update rule --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scales", "sizes", "rule"),
    [
        ((1.0, 0.5), (100, 101), "proportional"),
        ((1.0, 0.5), (101, 100), "adaptive"),
        ((1.0, 0.0), (100, 9000), "adaptive"),  # a group whose LR is 0 is not trained
        ((0.0, 1.0), (9000, 100), "proportional"),
    ],
)
def test_the_rule_is_that_of_most_parameters_that_are_trained(
    scales: tuple[float, ...], sizes: tuple[int, ...], rule: str
) -> None:
    facts = ModelFacts(optimizers=(("AdamW", 1), ("SGD", 1)), group_sizes=sizes)
    assert read_curve(drawn(valley, optimizer="AdamW", group_scales=scales, facts=facts)).update_rule == rule
