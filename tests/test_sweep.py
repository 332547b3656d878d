"""The state machine of a range test: which learning rate comes next, and when it is over."""

from __future__ import annotations

import itertools
import math
import random
import statistics
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrfinder.record.curve import MODES, StopReason, SweepConfig
from lrfinder.record.sweep import Sweep, losses_until_diverged


def config(num_iter: int = 100, *, early_stop: bool = True, mode: str = "exp") -> SweepConfig:
    return SweepConfig(start_lr=1e-4, end_lr=1.0, num_iter=num_iter, mode=mode, early_stop=early_stop)


def feed(losses: Iterable[float], sweep: Sweep | None = None) -> Sweep:
    """Record losses until the sweep is over or there are no more; without a sweep one that fits their number."""
    losses = list(losses)
    sweep = sweep or Sweep(config(len(losses)))
    for loss in losses:
        if sweep.done:
            break
        sweep.record(loss)
    return sweep


def descend(curvatures: list[float], sweep: Sweep, *, noise: float = 0.0, seed: int = 0) -> Sweep:
    """Gradient descent on sum(h/2 * w**2) under the sweep's learning rates, with noise on the gradient."""
    generator = random.Random(seed)
    weights = [1.0] * len(curvatures)
    while not sweep.done:
        sweep.record(sum(h / 2 * w * w for h, w in zip(curvatures, weights, strict=True)))
        lr = sweep.last_lr
        weights = [w - lr * h * (w + noise * generator.gauss(0, 1)) for h, w in zip(curvatures, weights, strict=True)]
    return sweep


def typical(seed: int, *, num_iter: int = 100, noise: float = 0.05, turn: int = 70) -> list[float]:
    """A curve as seen in practice: flat, falling, blowing up; negative here and there."""
    generator = random.Random(seed)
    clean = [1 - 1.5 / (1 + math.exp(-(i - turn / 2) / 6)) + math.expm1(max(0, i - turn) / 4) for i in range(num_iter)]
    return [loss + generator.gauss(0, noise) for loss in clean]


@pytest.mark.parametrize("seed", range(5))
def test_losses_recorded_past_the_stop_show_where_it_would_have_been(seed: int) -> None:
    losses = typical(seed)
    sweep = feed(losses)
    assert sweep.stop is StopReason.DIVERGED
    count = len(sweep.losses)
    assert count < len(losses)
    assert losses_until_diverged(losses) == losses_until_diverged(losses[:count]) == count
    assert losses_until_diverged(losses[: count - 1]) is None


def test_losses_that_never_diverge_have_no_place_of_divergence() -> None:
    assert losses_until_diverged([]) is losses_until_diverged([1.0] * 50) is None


# --- which learning rates ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("num_iter", [2, 3, 10, 101])
def test_a_sweep_visits_both_ends_and_nothing_beyond(mode: str, num_iter: int) -> None:
    sweep = Sweep(config(num_iter, mode=mode))
    asked = []
    while not sweep.done:
        asked.append(sweep.lr)
        sweep.record(1.0)
    assert len(asked) == num_iter
    assert (asked[0], asked[-1]) == pytest.approx((1e-4, 1.0))
    assert sweep.curve().lrs == tuple(asked)
    assert sweep.stop is StopReason.COMPLETED


def test_neighbours_have_equal_ratios_or_equal_differences() -> None:
    exp = feed([1.0] * 50, Sweep(config(50, mode="exp"))).curve().lrs
    linear = feed([1.0] * 50, Sweep(config(50, mode="linear"))).curve().lrs
    ratios = [b / a for a, b in itertools.pairwise(exp)]
    differences = [b - a for a, b in itertools.pairwise(linear)]
    assert ratios == pytest.approx([1e4 ** (1 / 49)] * 49)
    assert differences == pytest.approx([0.9999 / 49] * 49)


def test_lr_belongs_to_the_next_loss_and_last_lr_to_the_last() -> None:
    sweep = Sweep(config(5))
    first = sweep.lr
    sweep.record(1.0)
    assert sweep.last_lr == first
    assert sweep.lr == pytest.approx(first * 10)


# --- when to stop -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_a_curve_that_diverges_is_stopped_after_it_has_turned(seed: int) -> None:
    sweep = feed(typical(seed))
    assert sweep.stop is StopReason.DIVERGED
    assert 70 < len(sweep.losses) < 90


@pytest.mark.parametrize("seed", range(5))
def test_without_early_stop_the_same_curve_runs_to_its_end(seed: int) -> None:
    sweep = feed(typical(seed), Sweep(config(100, early_stop=False)))
    assert sweep.stop is StopReason.COMPLETED
    assert len(sweep.losses) == 100


@pytest.mark.parametrize("h", [1e-6, 1e-3, 1.0, 1e3, 1e6])
@pytest.mark.parametrize("noise", [0.0, 0.03, 0.3])
def test_descent_on_a_quadratic_stops_near_its_stability_limit(h: float, noise: float) -> None:
    limit = 2 / h
    sweep = Sweep(SweepConfig(start_lr=limit * 1e-3, end_lr=limit * 100, num_iter=126))
    descend([h], sweep, noise=noise)
    assert sweep.stop is StopReason.DIVERGED
    assert limit * 0.8 < sweep.last_lr < limit * 10


def test_of_many_curvatures_the_largest_sets_the_limit() -> None:
    curvatures = [10 ** (-i / 4) for i in range(17)]
    sweep = descend(curvatures, Sweep(SweepConfig(start_lr=2e-3, end_lr=200, num_iter=126)), noise=0.1)
    assert sweep.stop is StopReason.DIVERGED
    assert 1.6 < sweep.last_lr < 20


@given(
    seed=st.integers(0, 10**6),
    turn=st.integers(15, 110),
    noise=st.sampled_from([0.0, 0.01, 0.1, 0.5]),
    scale=st.floats(1e-6, 1e6),
    shift=st.floats(-1e3, 1e3),
    early_stop=st.booleans(),
    extend=st.sampled_from([0, 30]),
)
def test_scaling_and_shifting_the_loss_changes_neither_stop_nor_length(
    seed: int, turn: int, noise: float, scale: float, shift: float, early_stop: bool, extend: int
) -> None:
    losses = typical(seed, num_iter=130, noise=noise, turn=turn)
    plain = feed(losses, Sweep(config(100, early_stop=early_stop), extend=extend))
    other = feed([scale * (loss + shift) for loss in losses], Sweep(config(100, early_stop=early_stop), extend=extend))
    assert (other.stop, len(other.losses)) == (plain.stop, len(plain.losses))


@given(losses=st.lists(st.integers(-50, 50), min_size=12, max_size=60), power=st.integers(-30, 30))
def test_scaling_by_a_power_of_two_changes_nothing_whatever_the_losses(losses: list[int], power: int) -> None:
    # Exact in floating point, so that even ties must come out the same.
    plain, other = feed(map(float, losses)), feed(loss * 2.0**power for loss in losses)
    assert (other.stop, len(other.losses)) == (plain.stop, len(plain.losses))


@given(where=st.integers(0, 99), height=st.floats(1e-3, 1e12), seed=st.integers(0, 10**6))
def test_one_bad_batch_does_not_stop_a_sweep_wherever_it_comes(where: int, height: float, seed: int) -> None:
    generator = random.Random(seed)
    losses = [2.3 - 0.01 * i + generator.gauss(0, 0.05) for i in range(100)]
    losses[where] += height
    sweep = feed(losses)
    assert (sweep.stop, len(sweep.losses)) == (StopReason.COMPLETED, 100)


@given(where=st.integers(0, 40), seed=st.integers(0, 10**6))
def test_a_bad_batch_does_not_hide_a_later_divergence(where: int, seed: int) -> None:
    losses = typical(seed)
    losses[where] += 1e3
    assert feed(losses).stop is StopReason.DIVERGED


def first_divergence(losses: list[float]) -> int | None:
    """The rule by which a sweep stops early, written down loss by loss."""
    average, lowest = math.nan, math.inf
    for count in range(3, len(losses) + 1):
        smooth = statistics.median(losses[count - 3 : count])
        average = smooth if count == 3 else 0.8 * average + 0.2 * smooth
        lowest = min(lowest, average)
        steps = [abs(b - a) for a, b in itertools.pairwise(losses[:count]) if a != b]
        if count > 10 and steps:
            rise, drop = average - lowest, statistics.median(losses[:5]) - lowest
            if rise > 0.8 * drop and rise > 16 * statistics.median(steps) / (0.6745 * math.sqrt(2)):
                return count
    return None


@given(
    seed=st.integers(0, 10**6),
    turn=st.integers(5, 110),
    noise=st.sampled_from([0.0, 0.001, 0.01, 0.1, 0.5]),
    fall=st.sampled_from([0.0, 0.1, 1.0]),
    digits=st.sampled_from([1, 16]),
)
def test_a_sweep_stops_where_the_plain_rule_stops(
    seed: int, turn: int, noise: float, fall: float, digits: int
) -> None:
    falling = typical(seed, num_iter=130, noise=0.0, turn=turn)
    generator = random.Random(seed)
    losses = [
        round(fall * min(loss, 1.0) + max(loss - 1.0, 0.0) + generator.gauss(0, noise), digits) for loss in falling
    ]
    assert losses_until_diverged(losses) == first_divergence(losses)


NOISES: dict[str, Callable[[random.Random], float]] = {
    "normal": lambda generator: generator.gauss(0, 1),
    "uniform": lambda generator: generator.random(),
    "two values": lambda generator: float(generator.random() < 0.2),
    "skewed": lambda generator: generator.expovariate(1),
    "with a long tail": lambda generator: generator.lognormvariate(0, 1),
}


@pytest.mark.parametrize("draw", NOISES.values(), ids=NOISES)
@given(seed=st.integers(0, 10**6), level=st.floats(-1e3, 1e3), noise=st.floats(1e-6, 1e6))
def test_flat_noise_never_stops_a_sweep(
    draw: Callable[[random.Random], float], seed: int, level: float, noise: float
) -> None:
    generator = random.Random(seed)
    sweep = feed(level + noise * draw(generator) for _ in range(200))
    assert (sweep.stop, len(sweep.losses)) == (StopReason.COMPLETED, 200)


@given(level=st.floats(-1e6, 1e6), first=st.floats(-1e6, 1e6), count=st.integers(0, 20))
def test_a_loss_that_is_or_becomes_constant_never_stops_a_sweep(
    level: float, first: float, count: int
) -> None:
    sweep = feed([max(level, first)] * count + [min(level, first)] * 80)
    assert sweep.stop is StopReason.COMPLETED


@given(seed=st.integers(0, 10**6), level=st.floats(0.01, 100))
def test_rounding_errors_of_the_loss_never_stop_a_sweep(seed: int, level: float) -> None:
    # So it looks where the same batch comes again and again and the learning rate is still far too small.
    generator = random.Random(seed)
    digit = level * 2.0**-23
    sweep = feed(level + digit * generator.choice([0, 0, 0, 0, 0, 0, 1, -1]) for _ in range(150))
    assert sweep.stop is StopReason.COMPLETED


@pytest.mark.parametrize("seed", range(5))
def test_a_trained_model_whose_loss_only_rises_is_stopped(seed: int) -> None:
    generator = random.Random(seed)
    losses = [0.01 * abs(1 + 0.3 * generator.gauss(0, 1)) + 1e-3 * math.expm1(max(0, i - 40) / 5) for i in range(100)]
    sweep = feed(losses)
    assert sweep.stop is StopReason.DIVERGED
    assert 40 < len(sweep.losses) < 80


# --- losses that are no numbers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("early_stop", [True, False])
def test_a_nonfinite_loss_ends_the_sweep_and_is_not_recorded(loss: float, early_stop: bool) -> None:
    sweep = feed([3.0, 2.0, loss], Sweep(config(10, early_stop=early_stop)))
    assert sweep.stop is StopReason.NONFINITE
    assert sweep.curve().losses == (3.0, 2.0)


def test_a_nonfinite_training_loss_is_that_of_the_update_before_it() -> None:
    sweep = feed([3.0, 2.0, math.nan], Sweep(config(5), measured="before"))
    assert sweep.nonfinite_lr == pytest.approx(1e-3)
    assert sweep.curve().nonfinite_lr == sweep.nonfinite_lr


def test_a_nonfinite_validation_loss_is_that_of_its_own_update() -> None:
    sweep = feed([3.0, 2.0, math.nan], Sweep(config(5), measured="after"))
    assert sweep.nonfinite_lr == pytest.approx(1e-2)


def test_a_training_loss_nonfinite_at_once_is_that_of_no_update() -> None:
    assert feed([math.nan], Sweep(config(5), measured="before")).curve().nonfinite_lr is None
    assert feed([math.nan], Sweep(config(5), measured="after")).curve().nonfinite_lr == pytest.approx(1e-4)


# --- going on past the end --------------------------------------------------------------------------------------------


def falling(count: int) -> list[float]:
    generator = random.Random(0)
    return [2 - 0.01 * i + generator.gauss(0, 0.005) for i in range(count)]


def test_a_curve_that_has_not_turned_is_extended_at_equal_spacing() -> None:
    sweep = feed(falling(200), Sweep(config(100), extend=50))
    curve = sweep.curve()
    assert sweep.stop is StopReason.COMPLETED
    assert len(curve) == curve.config.num_iter == 150
    assert curve.lrs[-1] == pytest.approx(curve.config.end_lr)
    ratios = [b / a for a, b in itertools.pairwise(curve.lrs)]
    assert ratios == pytest.approx([1e4 ** (1 / 99)] * 149)


def test_the_extended_ramp_as_recorded_visits_the_same_learning_rates() -> None:
    curve = feed(falling(200), Sweep(config(100), extend=50)).curve()
    assert [curve.config.lr_at(i) for i in range(len(curve))] == pytest.approx(list(curve.lrs))


def test_a_curve_that_has_turned_is_not_extended() -> None:
    # Given back: half of the drop. Too little to stop for, enough not to go on.
    losses = falling(70) + [1.3 + 0.015 * i for i in range(120)]
    sweep = feed(losses, Sweep(config(100), extend=50))
    assert (sweep.stop, len(sweep.losses)) == (StopReason.COMPLETED, 100)
    assert sweep.curve().config == config(100)


def test_an_extension_ends_when_the_curve_turns_in_it() -> None:
    losses = falling(110) + [0.9 + 0.02 * i for i in range(1, 90)]
    sweep = feed(losses, Sweep(config(100), extend=90))
    assert 110 < len(sweep.losses) < 140


def test_a_sweep_without_an_extension_is_never_extended() -> None:
    assert len(feed(falling(200), Sweep(config(100))).losses) == 100


# --- the end ----------------------------------------------------------------------------------------------------------


def test_nothing_can_be_recorded_after_the_end() -> None:
    sweep = feed([1.0] * 3, Sweep(config(3)))
    with pytest.raises(RuntimeError, match="the sweep is over"):
        sweep.record(1.0)
    assert len(sweep.losses) == 3


def test_only_the_first_reason_to_end_a_sweep_counts() -> None:
    sweep = feed([2.0, 1.0], Sweep(config(10)))
    assert not sweep.done
    sweep.end(StopReason.DATA_EXHAUSTED)
    sweep.end(StopReason.INTERRUPTED)
    assert sweep.done
    assert sweep.curve().stop is StopReason.DATA_EXHAUSTED
    assert sweep.curve().losses == (2.0, 1.0)


def test_the_curve_of_an_unfinished_sweep_counts_as_interrupted() -> None:
    sweep = feed([2.0, 1.0], Sweep(config(10)))
    assert sweep.curve().stop is StopReason.INTERRUPTED
    assert not sweep.done


def test_the_curve_has_the_fields_it_is_given() -> None:
    curve = feed([2.0], Sweep(config(10), measured="after")).curve(optimizer="AdamW", momentum=0.9, batches=7)
    assert (curve.measured, curve.optimizer, curve.momentum, curve.batches) == ("after", "AdamW", 0.9, 7)


@given(losses=st.lists(st.floats(), max_size=80), extend=st.integers(0, 20))
def test_any_losses_give_a_curve_and_a_named_reason(losses: list[float], extend: int) -> None:
    sweep = feed(losses, Sweep(config(20), extend=extend))
    curve = sweep.curve()
    assert all(map(math.isfinite, curve.losses))
    assert len(curve) <= 20 + extend
    assert curve.stop is (sweep.stop or StopReason.INTERRUPTED)


def test_a_network_that_dies_at_its_initial_loss_has_diverged() -> None:
    config = SweepConfig(start_lr=1e-3, end_lr=10.0, num_iter=101)
    sweep = Sweep(config)
    while not sweep.done:
        alive = sweep.lr < 0.5
        sweep.record(2.3 / (1 + sweep.lr / 0.05) if alive else 2.2)
    assert sweep.stop is StopReason.DIVERGED
    assert sweep.last_lr < 1.5
