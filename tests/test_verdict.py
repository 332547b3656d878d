"""The outcome of a trial search: which LR its trials show to be best, and the advice after it."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from searches import INITIAL, SCREENING, WITH_CONFIRMATION, bowl, budgets, diverges_above, outcome, record, run, trials

from lrfinder.advice.advise import Advice
from lrfinder.advice.evidence import Evidence
from lrfinder.advice.search import TrialSearch
from lrfinder.advice.verdict import (
    advice_without_search,
    advice_without_trials,
    best_trial_lr,
    refined_advice,
    screened_lr,
)
from lrfinder.numbers import round_lr
from lrfinder.record.trials import Trial, TrialRecord
from lrfinder.tables.constants import FITTED
from lrfinder.tables.kinds import KINDS
from lrfinder.tables.situations import HEAD


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


# --- the advice after a search ----------------------------------------------------------------------------------------


def advice(grade: str = "high", **fields: Any) -> Advice:
    """Advice of a range test, around the initial LR."""
    given = {
        "max_lr": FITTED.peak_factor("onecycle") * INITIAL,
        "base_lr": INITIAL,
        "min_lr": INITIAL / 100,
        "interval": (INITIAL / 4, INITIAL * 4),
        "reasons": ("By hand.",),
    }
    return Advice(grade=grade, **{**given, **fields})


def around(best: float, *, stage: str, stride: float, steps: int) -> tuple[Trial, ...]:
    """Three trials with the lowest loss in the middle."""
    losses = {best / stride: 1.2, best: 1.0, best * stride: 1.2}
    return trials(*losses.items(), stage=stage, steps=steps)


@pytest.mark.parametrize(
    ("grade", "confirmed", "refined"),
    [
        ("high", None, "high"),
        ("low", None, "medium"),  # screening alone is no surer than a range test
        ("low", 0.10, "high"),
        ("low", 0.19, "high"),  # search and range test agree within a factor 2 ...
        ("low", 0.24, "medium"),  # ... and do not
    ],
)
def test_the_grade_is_high_where_it_was_or_where_confirmation_agrees(
    grade: str, confirmed: float | None, refined: str
) -> None:
    ran = around(INITIAL, stage="screening", stride=4, steps=60)
    if confirmed is not None:
        ran += around(confirmed, stage="confirmation", stride=1.25, steps=300)
    after = refined_advice(advice(grade), record(start_loss=2.0, total_steps=1200, budget_steps=1200, trials=ran))
    assert after.grade == refined
    found = confirmed or INITIAL
    assert after.base_lr is not None and min(found, INITIAL) * 0.95 < after.base_lr < max(found, INITIAL) * 1.05


@pytest.mark.parametrize("schedule", KINDS)
def test_the_schedule_of_the_search_gets_the_mean_of_trials_and_range_test(schedule: str) -> None:
    made = record(schedule=schedule, start_loss=2.0, trials=around(INITIAL, stage="screening", stride=4, steps=60))
    refined = refined_advice(advice(), made)
    trials, range_test = refined.evidence
    assert (trials.lr, range_test.lr) == (best_trial_lr(made), INITIAL)
    assert refined.lr_for(schedule) == round_lr(trials.lr**trials.weight * range_test.lr**range_test.weight)


def test_longer_trials_weigh_more() -> None:
    def weight(steps: int) -> float:
        ran = around(INITIAL, stage="screening", stride=4, steps=steps)
        made = record(start_loss=2.0, total_steps=1000, budget_steps=10_000, trials=ran)
        return refined_advice(advice(), made).evidence[0].weight

    assert 0 < weight(60) < weight(300) < weight(1000) < 1


@pytest.mark.parametrize("loss", [None, 2.0, 5.0])
def test_trials_that_refute_the_initial_lr_count_alone(loss: float | None) -> None:
    made = record(start_loss=2.0, trials=trials((INITIAL / 16, 1.5), (INITIAL / 4, 1.0), (INITIAL, loss)))
    evidence = refined_advice(advice(), made).evidence
    assert [(each.name, each.weight) for each in evidence] == [("trials", 1.0)]


def test_agreement_makes_a_new_head_no_surer() -> None:
    ran = (("screening", 4, 60), ("confirmation", 2, 250))
    made = record(start_loss=2.0, trials=sum((around(INITIAL, stage=a, stride=b, steps=c) for a, b, c in ran), ()))
    head = Evidence(name="head", lr=INITIAL, weight=1.0, part=0.1, seen=(INITIAL, 4.0), source="edge and divergence")
    new, usual = (refined_advice(advice("low", evidence=each), made) for each in ((head,), ()))
    assert (new.grade, usual.grade) == ("medium", "high") and new.interval and usual.interval
    assert new.interval[1] / new.interval[0] == pytest.approx(HEAD.spread**2, rel=0.1)
    assert usual.interval[1] / usual.interval[0] == pytest.approx(FITTED.search.spread**2, rel=0.1)


def test_a_search_without_a_best_lr_changes_no_number() -> None:
    made = record(trials=trials((INITIAL, None), (INITIAL / 4, 9.0)))
    after = refined_advice(advice(), made)
    assert dataclasses.replace(after, reasons=("By hand.",), findings=()) == advice()
    assert "no trial lowered the validation loss noticeably" in after.reasons[0]
    assert after.reasons[-1:] == advice().reasons


def test_the_reasons_have_the_cost_the_best_lr_and_every_trial() -> None:
    ran = (*trials((0.025, 1.2), (0.1, 1.0), (0.4, None)), *trials((0.1, 0.5), (0.2, 0.7), stage="confirmation"))
    reasons = " ".join(refined_advice(advice(), record(start_loss=2.0, trials=ran, interrupted=True)).reasons)
    assert "Trial search: the best LR for cosine is" in reasons
    assert "500 optimizer steps in all, 12% of the 4000 of the cosine training" in reasons
    assert "until it was interrupted" in reasons
    assert "after screening trials of 100 steps: 1.2 at lr 0.025, 1 at lr 0.1, diverged at lr 0.4" in reasons
    assert "Validation losses after confirmation trials of 100 steps: 0.5 at lr 0.1, 0.7 at lr 0.2" in reasons


def test_a_best_lr_outside_the_range_that_was_screened_is_reported() -> None:
    rising = trials((0.1, 1.9), (0.4, 1.5), (1.6, 0.5), steps=300)
    outside = record(start_loss=2.0, total_steps=1000, trials=rising)
    inside = record(start_loss=2.0, trials=around(0.1, stage="screening", stride=4, steps=60))
    assert any("not inside the range that was screened" in each for each in refined_advice(advice(), outside).reasons)
    assert not any("not inside the range" in each for each in refined_advice(advice(), inside).reasons)


def test_without_an_improvement_the_advice_stays() -> None:
    ran = around(0.1, stage="screening", stride=2, steps=60)
    with_fall, without = (record(start_loss=2.0, min_improvement=fall, trials=ran) for fall in (0.5, 1.5))
    after = refined_advice(advice(), without)
    assert "trained weights" in after.reasons[0] and after.base_lr == advice().base_lr
    assert not any("trained weights" in each for each in refined_advice(advice(), with_fall).reasons)


def test_without_room_for_a_search_the_advice_stays_and_says_so() -> None:
    after = advice_without_search(advice(), "linear", 20)
    assert "No trial search for linear: 20 steps are too few" in after.reasons[0]
    assert dataclasses.replace(after, reasons=advice().reasons, findings=()) == advice()


def test_an_interrupt_before_the_first_trial_leaves_the_advice_and_says_so() -> None:
    after = advice_without_trials(advice())
    assert after.reasons == ("The trial search was interrupted before its first trial.", *advice().reasons)
    assert dataclasses.replace(after, reasons=advice().reasons, findings=()) == advice()
