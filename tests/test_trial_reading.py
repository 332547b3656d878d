"""Which LR the trials of a search show to be best."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from searches import (
    INITIAL,
    SCREENING,
    WITH_CONFIRMATION,
    around,
    bowl,
    budgets,
    diverges_above,
    outcome,
    record,
    run,
    trials,
)

from lrfinder.advice.search import TrialSearch
from lrfinder.advice.trial_reading import best_trial_lr, screened_lr
from lrfinder.record.trials import Trial, TrialRecord
from lrfinder.tables.constants import FITTED


@pytest.mark.parametrize("octaves", [-2.0, -1.3, -0.7, 0.0, 0.4, 1.0, 1.7, 2.0])
@pytest.mark.parametrize("sharp", [1.0, 2.0])
def test_on_a_smooth_bowl_the_best_lr_is_within_a_factor_two(octaves: float, sharp: float) -> None:
    bottom = INITIAL * 2**octaves
    made = run(lambda lr: sharp * bowl(bottom)(lr), budget_steps=WITH_CONFIRMATION, start_loss=4.5 * sharp)
    assert best_trial_lr(made) is not None
    assert 0.5 < best_trial_lr(made) / bottom < 2.0


@pytest.mark.parametrize("loss", [-3.0, 0.0, 1.0])
@budgets
def test_a_tie_goes_to_the_initial_lr(budget_steps: int, loss: float) -> None:
    made = run(lambda lr: loss, budget_steps=budget_steps, start_loss=5.0)
    assert best_trial_lr(made) == pytest.approx(INITIAL)


@pytest.mark.parametrize("loss", [None, 8.0, 8.5], ids=["diverged", "no change", "worse"])
@budgets
def test_no_lr_is_best_where_no_trial_came_below_the_start(budget_steps: int, loss: float | None) -> None:
    made = run(lambda lr: loss, budget_steps=budget_steps)
    assert made.trials
    assert best_trial_lr(made) is None and screened_lr(made) is None and not made.improved


def test_confirmation_that_improved_counts_though_no_screening_did() -> None:
    # A slow start: after a sixteenth of the training the loss is still that of the start, after a third it is not.
    search = TrialSearch(record(budget_steps=WITH_CONFIRMATION))
    while not search.done:
        loss = 8.01 if search.stage == "screening" else 4 + 0.1 * bowl(INITIAL)(search.lr)
        search.add(outcome(search, loss))
    assert best_trial_lr(search.record) is not None


@pytest.mark.parametrize(
    ("lower", "higher", "octaves"),
    [
        (1.0, None, 0.0),  # it broke, which says nothing of lower ones
        (1.0, 8.0, -0.75),  # the loss before training
        (1.0, 3.0, -0.75),
        (1.0, 1.0 + 1e-6, 0.5),
        (1.0 + 1e-6, 1.0, 0.5),
        (3.0, 1.0, 1.0),
        (None, 1.0, 1.0),
    ],
)
def test_two_confirmation_trials_show_the_side_on_which_the_best_lr_lies(
    lower: float | None, higher: float | None, octaves: float
) -> None:
    ran = trials((INITIAL, lower), (2 * INITIAL, higher), stage="confirmation")
    found = best_trial_lr(record(trials=ran))
    assert found is not None and math.log2(found / INITIAL) == pytest.approx(octaves, abs=0.01)


def test_three_confirmation_trials_enclose_the_best_lr() -> None:
    ran = trials((INITIAL, 1.0), (2 * INITIAL, 3.0), (4 * INITIAL, 5.0), stage="confirmation")
    assert best_trial_lr(record(trials=ran)) == pytest.approx(INITIAL)


@pytest.mark.parametrize(
    ("loss", "train_loss", "shows"),
    [(7.7, 1.0, False), (7.6, 1.0, True), (7.7, 3.0, True), (7.9, None, True), (7.9, 8.5, True)],
)
def test_trials_whose_validation_loss_lags_show_no_lr(
    loss: float, train_loss: float | None, shows: bool
) -> None:
    ran = (Trial(lr=INITIAL, steps=60, loss=loss, train_loss=train_loss), Trial(lr=4 * INITIAL, steps=60, loss=8.5))
    assert (best_trial_lr(record(trials=ran)) is not None) is shows


LENGTHS = {"start_loss": 8.0, "total_steps": 1000, "budget_steps": 3000}


def found(
    *,
    passes: float | None = None,
    steps: int = 375,
    train_loss: float | None = 3.0,
    stage: str = "confirmation",
) -> float:
    """The LR that three trials show, of which the middle one is best."""
    ran = around(INITIAL, steps=steps, stride=2, stage=stage)
    ran = tuple(dataclasses.replace(each, train_loss=train_loss) for each in ran)
    best = best_trial_lr(record(trials=ran, passes=passes, **LENGTHS))
    assert best is not None
    return best


@pytest.mark.parametrize(
    ("train_loss", "part"),
    [
        (1.0, 1.0),
        (-2.49, 1.0),  # the loss fell from 8 to 1: by 7, and 1 is 3.49 above the training loss ...
        (-2.51, 0.375),  # ... and more than half of it
        (None, 1.0),  # in files written before it was recorded
    ],
)
def test_where_long_trials_overfit_the_lr_falls_with_the_length(train_loss: float | None, part: float) -> None:
    for passes in (None, 1001 / 375, 8.0):
        assert found(train_loss=train_loss, passes=passes) == pytest.approx(part * INITIAL, rel=0.01)
    others: tuple[dict[str, Any], ...] = ({"stage": "screening"}, {"passes": 1000 / 375}, {"steps": 1000})
    for other in others:  # in one pass no sample comes again
        assert found(train_loss=train_loss, **other) == pytest.approx(INITIAL, rel=0.01)


@pytest.mark.parametrize(
    ("passes", "steps", "part"),
    [
        (None, 375, 1.0),
        (8.0, 60, 1.0),
        (16.0, 60, 1 / 2),  # a trial of less than one pass
        (16.0, 500, 1 / 2),  # of eight
        (16.0, 750, 3 / 4),  # of twelve
        (16.0, 1000, 1.0),
        (32.0, 60, 1 / 4),
        (32.0, 375, 3 / 8),
        (100.0, 375, 1.0),  # more than 32 passes count as 32, in the trial as well
    ],
)
def test_the_lr_of_more_than_eight_passes_falls_with_their_number(
    passes: float | None, steps: int, part: float
) -> None:
    assert found(passes=passes, steps=steps) == pytest.approx(part * INITIAL, rel=0.01)


@given(loss=st.integers(-5, 4), low=st.integers(-4, 7), lowest=st.integers(-4, 7))
def test_a_diverged_trial_above_the_best_limits_the_best_lr(loss: int, low: int, lowest: int) -> None:
    made = record(trials=trials((INITIAL / 4, lowest), (INITIAL / 2, low), (INITIAL, loss), (INITIAL * 4, None)))
    assert made.improved and best_trial_lr(made) is not None
    assert best_trial_lr(made) <= 4 * INITIAL / FITTED.search.margin * (1 + 1e-9)


@pytest.mark.parametrize(("loss", "shows"), [(7.0, False), (7.1, False), (6.9, True)])
def test_trials_show_no_lr_unless_the_loss_falls_noticeably(loss: float, shows: bool) -> None:
    made = record(start_loss=8.0, min_improvement=1.0, trials=trials((INITIAL, 7.5), (2 * INITIAL, loss)))
    assert made.improved is shows and (best_trial_lr(made) is not None) is shows


def test_a_diverged_trial_below_the_best_limits_nothing() -> None:
    ran = trials((INITIAL / 4, None), (INITIAL, 1.0), (INITIAL * 4, 1.0))
    assert best_trial_lr(record(trials=ran)) == pytest.approx(INITIAL, rel=0.5)


def losses_at(values: list[int | None], scale: float = 1.0, shift: float = 0.0) -> Callable[[TrialSearch], Trial]:
    """Trials whose losses are those of the list, one after the other, scaled and shifted."""
    following = itertools.cycle(values)

    def next_trial(search: TrialSearch) -> Trial:
        value = next(following)
        loss = None if value is None else scale * (value + shift)
        return outcome(search, loss)

    return next_trial


@given(
    values=st.lists(st.none() | st.integers(-60, 60), min_size=1, max_size=8),
    start_loss=st.integers(-20, 60),
    fall=st.sampled_from([0, 5]),
    power=st.integers(-20, 20),
    shift=st.integers(-1000, 1000),
    budget_steps=st.sampled_from([SCREENING, WITH_CONFIRMATION]),
)
def test_scaling_and_shifting_all_losses_changes_no_lr(
    values: list[int | None], start_loss: int, fall: int, power: int, shift: int, budget_steps: int
) -> None:
    # Exact in floating point, so that even ties must come out the same.
    records = []
    for scale, added in ((1.0, 0.0), (2.0**power, float(shift))):
        empty = record(
            budget_steps=budget_steps, start_loss=scale * (start_loss + added), min_improvement=scale * fall
        )
        search = TrialSearch(empty)
        next_trial = losses_at(values, scale, added)
        while not search.done:
            search.add(next_trial(search))
        records.append(search.record)
    plain, other = records
    assert [trial.lr for trial in other.trials] == [trial.lr for trial in plain.trials]
    assert (best_trial_lr(other), other.improved) == (best_trial_lr(plain), plain.improved)


@budgets
@given(log_bottom=st.floats(-3, 3), power=st.integers(-20, 20), log_limit=st.floats(-1, 6))
def test_all_lrs_times_a_power_of_two_multiply_the_best_and_no_more(
    budget_steps: int, log_bottom: float, power: int, log_limit: float
) -> None:
    # Losses look at the LR relative to its unit, so they are the same to the last bit.
    def search_in(unit: float) -> TrialRecord:
        relative = diverges_above(INITIAL * 2**log_limit, bowl(INITIAL * 2**log_bottom))
        initial_lr = INITIAL * unit
        return run(lambda lr: relative(lr / unit), budget_steps=budget_steps, initial_lr=initial_lr, start_loss=30.0)

    plain, other = search_in(1.0), search_in(2.0**power)
    assert [trial.lr / 2.0**power for trial in other.trials] == pytest.approx([trial.lr for trial in plain.trials])
    assert (best_trial_lr(plain) is None) == (best_trial_lr(other) is None)
    if best_trial_lr(plain) is not None and best_trial_lr(other) is not None:
        assert best_trial_lr(other) / 2.0**power == pytest.approx(best_trial_lr(plain))


@pytest.mark.parametrize("factor", [1e-4, 0.3, 7.0, 1e5])
def test_all_lrs_times_any_factor_multiply_the_best_lr(factor: float) -> None:
    bottom = 1.3 * INITIAL
    plain = run(bowl(bottom), budget_steps=WITH_CONFIRMATION)
    other = run(bowl(factor * bottom), budget_steps=WITH_CONFIRMATION, initial_lr=factor * INITIAL)
    assert best_trial_lr(plain) is not None and best_trial_lr(other) is not None
    assert best_trial_lr(other) / factor == pytest.approx(best_trial_lr(plain), rel=0.05)


@pytest.mark.parametrize("start_loss", [2.302, 2.3035])  # a dead network is at chance, just above the start or below it
def test_long_trials_that_end_at_chance_have_not_learnt(start_loss: float) -> None:
    search = TrialSearch(record(budget_steps=WITH_CONFIRMATION, start_loss=start_loss))
    while not search.done:
        learns = search.stage == "screening" or search.lr < 0.3 * INITIAL
        search.add(outcome(search, 1.2 + 0.1 * math.log2(search.lr / INITIAL) ** 2 if learns else 2.303))
    found = best_trial_lr(search.record)
    assert found is not None and found < 0.3 * INITIAL
