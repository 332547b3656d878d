"""The range a sweep takes when none is given."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrfinder.training.critical import critical_lr
from lrfinder.training.range_search import SweepRequest, choose_range

DECADES = [10.0**k for k in range(-5, 7)]


def quadratic(h: float, *, scale: float = 1.0, shift: float = 0.0) -> tuple[Callable[[float], float], float]:
    """Loss after one step of gradient descent on scale * (h/2 * w**2) + shift from w = 1, and the loss before it."""
    return (lambda lr: scale * h / 2 * (1 - lr * scale * h) ** 2 + shift), scale * h / 2 + shift


@pytest.mark.parametrize("h", [h * part for h, part in itertools.product(DECADES, (1.0, 1.7, 3.0, 5.5))])
def test_on_a_quadratic_the_critical_lr_is_two_over_the_curvature(h: float) -> None:
    loss_at, before = quadratic(h)
    critical = critical_lr(loss_at, before)
    assert critical is not None
    assert 1 / h < critical < 4 / h


def test_a_critical_lr_is_looked_for_up_to_a_million() -> None:
    assert critical_lr(*quadratic(2 / 1.1e6)) is None
    assert critical_lr(*quadratic(2 / 1e5)) is not None


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("shift", [-100.0, -1.0, 0.0, 1.0, 100.0])
def test_the_level_of_the_loss_does_not_change_the_critical_lr(scale: float, shift: float) -> None:
    loss_at, before = quadratic(2.0, scale=scale, shift=shift * scale)
    critical = critical_lr(loss_at, before)
    assert critical is not None
    assert 0.5 / scale < critical < 2 / scale


@given(h=st.floats(1e-6, 1e6), scale=st.floats(1e-3, 1e3))
def test_scaling_the_reported_loss_without_the_step_changes_nothing(h: float, scale: float) -> None:
    # As with an optimizer that divides by the gradient's size.
    loss_at, before = quadratic(h)
    assert critical_lr(lambda lr: scale * loss_at(lr), scale * before) == pytest.approx(critical_lr(loss_at, before))


def test_about_a_dozen_forward_passes_are_enough() -> None:
    loss_at, before = quadratic(3.0)
    asked: list[float] = []

    def counted(lr: float) -> float:
        asked.append(lr)
        return loss_at(lr)

    critical_lr(counted, before)
    assert len(asked) <= 14


@pytest.mark.parametrize("ceiling", [10.0, 100.0])
def test_a_loss_that_saturates_after_the_rise_still_shows_it(ceiling: float) -> None:
    loss_at, before = quadratic(2.0)
    critical = critical_lr(lambda lr: min(loss_at(lr), ceiling), before)
    assert critical is not None
    assert 0.5 < critical < 2


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("from_lr", [3e-6, 0.02, 700.0])
def test_a_loss_that_turns_nonfinite_counts_as_worse(bad: float, from_lr: float) -> None:
    critical = critical_lr(lambda lr: bad if lr >= from_lr else 1.0, 1.0)
    assert critical is not None
    assert from_lr / 2 < critical < from_lr * 2


def test_a_rise_no_larger_than_what_smaller_learning_rates_did_is_noise() -> None:
    changes = {-4: -0.01, -3: 0.02, -2: -0.03, -1: 0.05, 0: 5.0}  # by decade; below that nothing, above it ever worse
    critical = critical_lr(lambda lr: 1 + changes.get(min(math.floor(math.log10(lr * 1.001)), 0), 0.0), 1.0)
    assert critical is not None
    assert 0.1 < critical < 1


@pytest.mark.parametrize("loss_before", [math.nan, math.inf, -math.inf])
def test_a_loss_nonfinite_from_the_start_has_no_critical_lr(loss_before: float) -> None:
    def never(lr: float) -> float:
        raise AssertionError("no forward pass was needed")

    assert critical_lr(never, loss_before) is None


@pytest.mark.parametrize(
    "loss_at",
    [
        pytest.param(lambda lr: 1.0, id="flat"),
        pytest.param(lambda lr: 1.0 + 1e-6 * math.sin(1e3 * lr), id="rounding"),
        pytest.param(lambda lr: 1.0 / (1.0 + lr), id="only ever better"),
        pytest.param(lambda lr: -math.log1p(lr), id="better without end"),
    ],
)
def test_a_loss_that_no_update_makes_worse_has_no_critical_lr(loss_at: Callable[[float], float]) -> None:
    assert critical_lr(loss_at, 1.0) is None


# --- the range --------------------------------------------------------------------------------------------------------

lrs = st.none() | st.floats(1e-12, 1e6)


@given(
    critical=lrs,
    start_lr=lrs,
    end_lr=lrs,
    num_iter=st.none() | st.integers(2, 1000),
    mode=st.sampled_from(["exp", "linear"]),
    early_stop=st.booleans(),
)
def test_given_numbers_are_obeyed_and_the_others_fit_them(
    critical: float | None,
    start_lr: float | None,
    end_lr: float | None,
    num_iter: int | None,
    mode: str,
    early_stop: bool,
) -> None:
    if start_lr is not None and end_lr is not None and start_lr >= end_lr:
        start_lr, end_lr = end_lr / 2, start_lr
    given = SweepRequest(start_lr=start_lr, end_lr=end_lr, num_iter=num_iter, mode=mode, early_stop=early_stop)
    config, extend = choose_range(critical, given, rule="adaptive")
    assert 0 < config.start_lr < config.end_lr < math.inf
    assert start_lr is None or config.start_lr == start_lr
    assert end_lr is None or config.end_lr == end_lr
    assert config.num_iter >= 10 if num_iter is None else config.num_iter == num_iter
    assert (config.mode, config.early_stop) == (mode, early_stop)
    assert extend >= 0
    if end_lr is not None or num_iter is not None:
        assert extend == 0


@given(critical=st.floats(1e-9, 1e6), rule=st.sampled_from(["proportional", "adaptive"]))
def test_a_chosen_range_spans_3_5_decades_around_the_critical_lr(
    critical: float, rule: str
) -> None:
    config, extend = choose_range(critical, SweepRequest(), rule=rule)
    assert config.end_lr / config.start_lr == pytest.approx(10**3.5)
    assert config.start_lr < critical < config.end_lr
    assert config.num_iter == 43


def test_the_range_of_a_proportional_update_rule_starts_lower() -> None:
    # With momentum they add up, and later batches are steeper than the first.
    starts = [choose_range(1.0, SweepRequest(), rule=rule)[0].start_lr for rule in ("proportional", "adaptive")]
    assert starts[0] < starts[1]


@given(critical=lrs, start_lr=lrs, mode=st.sampled_from(["exp", "linear"]))
def test_a_chosen_range_never_takes_more_than_100_iterations(
    critical: float | None, start_lr: float | None, mode: str
) -> None:
    config, extend = choose_range(critical, SweepRequest(start_lr=start_lr, mode=mode), rule="adaptive")
    assert config.num_iter + extend == 100


def test_without_a_critical_lr_the_range_is_that_of_other_finders() -> None:
    config, _ = choose_range(None, SweepRequest(), rule="adaptive")
    assert (config.start_lr, config.end_lr, config.num_iter) == (1e-7, 10.0, 97)


@given(start_lr=st.floats(1e-9, 1.0), decades=st.floats(0.8, 8))
def test_given_two_ends_there_are_12_iterations_per_decade(start_lr: float, decades: float) -> None:
    config, _ = choose_range(None, SweepRequest(start_lr=start_lr, end_lr=start_lr * 10**decades), rule="adaptive")
    assert config.num_iter == pytest.approx(12 * decades + 1, abs=0.51)


@pytest.mark.parametrize("critical", [None, 0.1])
def test_a_linear_sweep_starts_at_its_first_step_and_takes_a_hundred(critical: float | None) -> None:
    config, extend = choose_range(critical, SweepRequest(mode="linear"), rule="adaptive")
    assert config.num_iter == 100
    assert config.start_lr == pytest.approx(config.end_lr / 100)
    assert extend == 0


def test_a_start_above_the_critical_range_still_gets_an_end_above_it() -> None:
    config, _ = choose_range(0.1, SweepRequest(start_lr=5.0), rule="adaptive")
    assert (config.start_lr, config.end_lr) == (5.0, pytest.approx(5 * 10**3.5))


def test_an_end_below_the_critical_range_still_gets_a_start_below_it() -> None:
    config, _ = choose_range(0.1, SweepRequest(end_lr=1e-5), rule="adaptive")
    assert (config.start_lr, config.end_lr) == (pytest.approx(1e-5 / 10**3.5), 1e-5)


# --- losses that move by themselves, are bounded, or have another unit ---------------------------------------------


@pytest.mark.parametrize("growth", [0.001, 0.003, 0.01])
def test_a_loss_that_moves_without_an_update_does_not_count_as_a_rise(growth: float) -> None:
    loss_at, before = quadratic(2.0)
    calls = itertools.count(1)
    noise = 4 * growth  # as seen in a few passes before
    critical = critical_lr(lambda lr: loss_at(lr) + growth * (next(calls) % 4), before, noise=noise)
    assert critical is not None
    assert 0.5 < critical < 4


@pytest.mark.parametrize("digits", [2, 3])
def test_the_rounding_of_a_coarse_loss_is_no_rise(digits: int) -> None:
    loss_at, before = quadratic(2.0, shift=1.0)
    up = 10.0**-digits

    def rounded(lr: float) -> float:
        return loss_at(lr) + (up if math.log10(lr) % 2 < 1 else 0.0)

    critical = critical_lr(rounded, before)
    assert critical is not None
    assert 0.5 < critical < 4


BOUNDED: dict[str, Callable[[float], float]] = {
    "back to the start": lambda lr: 1 - lr * math.exp(1 - lr) if lr < 50 else 1.0,
    "slightly above the start": lambda lr: 1 - 2 * lr if lr < 0.4 else 1.1,
    "half of the fall": lambda lr: 1 - 1.5 * lr if lr < 0.7 else 0.95,
    "from the start to a plateau": lambda lr: 1.0 if lr < 0.7 else 1.5,
}


@pytest.mark.parametrize("loss_at", BOUNDED.values(), ids=BOUNDED)
def test_a_bounded_loss_is_worse_where_it_has_left_its_lowest_for_good(loss_at: Callable[[float], float]) -> None:
    critical = critical_lr(loss_at, 1.0)
    assert critical is not None
    assert 0.2 < critical < 4


def test_a_slowly_growing_loss_is_worse_where_it_is_back_at_the_start() -> None:
    # It rises four times as much as it fell only at 10**5.
    critical = critical_lr(lambda lr: 1 - lr if lr < 1 else 1.0 + 0.7 * math.log10(lr), 1.0)
    assert critical is not None
    assert 0.5 < critical < 10


@pytest.mark.parametrize("exponent", [-20, -12, -8, -4, 4, 8, 12, 20])
def test_the_search_follows_the_unit_of_a_loss_trained_with_sgd(exponent: int) -> None:
    unit = 10.0**exponent
    loss_at, before = quadratic(2.0, scale=unit)
    critical = critical_lr(loss_at, before, scale=1 / (2 * unit))  # w = 1, and the gradient is h * w
    assert critical is not None
    assert 0.5 < critical * unit < 2


@pytest.mark.parametrize("noise", [math.nan, math.inf])
def test_a_loss_nonfinite_without_an_update_has_no_critical_lr(noise: float) -> None:
    assert critical_lr(quadratic(2.0)[0], 1.0, noise=noise) is None


@given(changes=st.lists(st.floats(allow_nan=True), min_size=60, max_size=60), noise=st.floats(0, 10))
def test_any_losses_give_a_critical_lr_or_none(changes: list[float], noise: float) -> None:
    values = itertools.cycle(changes)
    critical = critical_lr(lambda lr: next(values), 1.0, noise=noise)
    assert critical is None or 1e-11 <= critical <= 1e6
