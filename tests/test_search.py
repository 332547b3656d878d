"""The trial search: which LRs are tried, and for how many steps. Losses come from formulas."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from searches import (
    INITIAL,
    SCREENING,
    TOTAL,
    WITH_CONFIRMATION,
    bowl,
    budgets,
    diverges_above,
    outcome,
    record,
    run,
    tried,
)

from lrfinder.advice.search import TrialSearch, plan_search
from lrfinder.advice.trial_reading import best_trial_lr, screened_lr
from lrfinder.tables.constants import FITTED

# --- the budget -------------------------------------------------------------------------------------------------------


@given(
    outcomes=st.lists(st.tuples(st.none() | st.floats(-100, 100), st.floats(0.1, 1.0)), min_size=1, max_size=12),
    total_steps=st.integers(1, 3000),
    part=st.floats(0.01, 3.0),
    fall=st.sampled_from([0.0, 1.0]),
    ceiling=st.none() | st.floats(0.01, 10.0),
)
def test_the_budget_is_never_exceeded_whatever_the_losses_are(
    outcomes: list[tuple[float | None, float]], total_steps: int, part: float, fall: float, ceiling: float | None
) -> None:
    budget_steps = max(1, int(part * total_steps))
    search = TrialSearch(
        record(total_steps=total_steps, budget_steps=budget_steps, start_loss=50.0, min_improvement=fall),
        ceiling=ceiling,
    )
    for loss, ended in itertools.cycle(outcomes):
        if search.done:
            break
        assert search.record.spent + search.steps <= budget_steps
        steps = search.steps if loss is not None else max(1, math.ceil(ended * search.steps))
        search.add(outcome(search, loss, steps))
    assert search.record.spent <= budget_steps
    assert (search.record.spent > 0) == bool(plan_search(budget_steps, total_steps))
    assert best_trial_lr(search.record) is None or best_trial_lr(search.record) > 0


@given(total_steps=st.integers(1, 10**6), part=st.floats(0.001, 3.0), probed=st.booleans())
def test_a_plan_fits_its_budget_and_no_trial_is_too_short(total_steps: int, part: float, probed: bool) -> None:
    budget_steps = int(part * total_steps)
    plan = plan_search(budget_steps, total_steps, probed=probed)
    assert sum(stage.trials * stage.steps for stage in plan.values()) <= budget_steps
    assert all(10 <= stage.steps <= total_steps for stage in plan.values())
    assert set(plan) in (set(), {"screening"}, {"screening", "confirmation"})
    assert not plan or plan["screening"].trials >= 3


@pytest.mark.parametrize("total_steps", [1000, 10**5])
def test_a_search_needs_three_trials_of_ten_steps(total_steps: int) -> None:
    assert plan_search(29, total_steps) == {}
    assert plan_search(30, total_steps) == {"screening": (3, 10, False)}


@pytest.mark.parametrize("budget_steps", [1, 1, 29])
def test_without_room_for_a_search_it_is_over_before_it_begins(budget_steps: int) -> None:
    search = TrialSearch(record(budget_steps=budget_steps))
    assert search.done
    assert best_trial_lr(search.record) is None
    with pytest.raises(RuntimeError, match="the trial search is over"):
        _ = search.lr


def test_a_larger_budget_gives_longer_trials_and_then_confirmation() -> None:
    plans = [plan_search(budget_steps, TOTAL) for budget_steps in (100, SCREENING, WITH_CONFIRMATION)]
    assert plans[0]["screening"][1] < plans[1]["screening"][1] == plans[2]["screening"][1]
    assert ["confirmation" in plan for plan in plans] == [False, False, True]
    assert plans[2]["confirmation"][1] > plans[2]["screening"][1]


@pytest.mark.parametrize(("trainings", "trials", "least_part"), [(1, 2, 0.3), (2, 2, 0.8), (3, 4, 0.6), (9, 14, 0.6)])
def test_a_budget_of_several_trainings_gives_more_long_trials(trainings: int, trials: int, least_part: float) -> None:
    confirmation = plan_search(trainings * TOTAL, TOTAL)["confirmation"]
    assert confirmation.trials == trials
    assert least_part * TOTAL <= confirmation.steps <= TOTAL


@pytest.mark.parametrize(("quarters", "part"), [(3 - 1 / TOTAL, None), (3, 3 / 16), (4, 1 / 4), (12, 1 / 4)])
def test_after_a_probe_trials_have_the_schedule_where_three_quarters_fit(quarters: float, part: float | None) -> None:
    budget_steps = int(quarters * TOTAL / 4)
    screening = plan_search(budget_steps, TOTAL, probed=True)["screening"]
    usual = plan_search(budget_steps, TOTAL)["screening"]
    assert not usual.compressed
    assert screening == (usual if part is None else (4, part * TOTAL, True))


def test_steps_left_by_a_diverged_trial_are_given_to_others() -> None:
    def count(part: float) -> int:
        search = TrialSearch(record())
        while not search.done:
            high = search.lr > INITIAL
            steps = max(1, int(part * search.steps)) if high else search.steps
            search.add(outcome(search, None if high else bowl(INITIAL / 3)(search.lr), steps))
        return len(search.record.trials)

    assert count(0.2) >= count(1.0)


# --- which learning rates ---------------------------------------------------------------------------------------------


@budgets
def test_screening_opens_at_the_initial_lr_then_four_times_above_and_below(budget_steps: int) -> None:
    lrs = tried(run(bowl(INITIAL), budget_steps=budget_steps))
    assert lrs[:3] == pytest.approx([INITIAL, 4 * INITIAL, INITIAL / 4])


@pytest.mark.parametrize("bottom", [INITIAL / 20, INITIAL, INITIAL * 20])
def test_the_fourth_trial_follows_the_loss_outward_or_closes_in(bottom: float) -> None:
    if FITTED.search.trials < 4:
        pytest.skip("a search has three trials")
    lrs = tried(run(bowl(bottom), start_loss=100.0))
    assert len(lrs) >= 4
    if bottom == INITIAL:
        assert INITIAL / 4 < lrs[3] < INITIAL * 4
    else:
        assert lrs[3] == pytest.approx(16 * INITIAL if bottom > INITIAL else INITIAL / 16)


@budgets
@given(log_bottom=st.floats(-5, 5), fall=st.sampled_from([0.0, 2.0]))
def test_no_lr_is_tried_twice_in_one_stage(budget_steps: int, log_bottom: float, fall: float) -> None:
    made = run(bowl(INITIAL * 2**log_bottom), budget_steps=budget_steps, start_loss=30.0, min_improvement=fall)
    for stage in ("screening", "confirmation"):
        lrs = sorted(tried(made, stage))
        assert all(b / a > 1.001 for a, b in itertools.pairwise(lrs))


@budgets
@given(log_bottom=st.floats(-4, 8), log_ceiling=st.floats(-3, 6))
def test_no_trial_exceeds_the_ceiling_but_the_initial_lr_may(
    budget_steps: int, log_bottom: float, log_ceiling: float
) -> None:
    ceiling = INITIAL * 2**log_ceiling
    made = run(bowl(INITIAL * 2**log_bottom), budget_steps=budget_steps, start_loss=100.0, ceiling=ceiling)
    assert made.trials[0].lr == INITIAL
    assert all(trial.lr <= max(ceiling, INITIAL) * (1 + 1e-6) for trial in made.trials)


@budgets
def test_after_a_probe_its_edge_is_no_ceiling(budget_steps: int) -> None:
    made = run(bowl(16 * INITIAL), budget_steps=budget_steps, start_loss=100.0, ceiling=INITIAL, probed=True)
    assert max(tried(made)) >= 16 * INITIAL


@budgets
def test_without_an_improvement_nothing_below_the_initial_lr_is_screened(budget_steps: int) -> None:
    # Lower is better here, but by less than what counts as learning: so it looks from trained weights.
    made = run(lambda lr: 7.9 + 0.01 * math.log2(lr / INITIAL), budget_steps=budget_steps, min_improvement=1.0)
    assert not made.improved
    assert min(tried(made)) == INITIAL
    assert max(tried(made)) > INITIAL


@budgets
@pytest.mark.parametrize("min_improvement", [0.0, 1.0])
def test_with_an_improvement_lrs_below_the_initial_one_are_tried(budget_steps: int, min_improvement: float) -> None:
    made = run(bowl(INITIAL / 3), budget_steps=budget_steps, min_improvement=min_improvement)
    assert made.improved
    assert min(tried(made)) < INITIAL


def test_an_initial_lr_that_diverges_sends_the_search_downwards() -> None:
    made = run(diverges_above(INITIAL / 10, bowl(INITIAL / 16)))
    assert best_trial_lr(made) is not None
    assert best_trial_lr(made) <= INITIAL / 10


# --- confirmation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bottom", [INITIAL / 3, INITIAL, INITIAL * 3])
def test_confirmation_runs_at_the_screened_lr_and_at_twice_it(bottom: float) -> None:
    made = run(bowl(bottom), budget_steps=WITH_CONFIRMATION)
    screened = screened_lr(made)
    assert screened is not None
    assert tried(made, "confirmation") == pytest.approx([screened, 2 * screened])


@pytest.mark.parametrize("wrong", [None, 8.0, 9.0], ids=["diverged", "no better than the start", "worse"])
def test_a_first_confirmation_that_goes_wrong_is_followed_by_half_its_lr(wrong: float | None) -> None:
    search = TrialSearch(record(budget_steps=WITH_CONFIRMATION))
    while not search.done:
        loss = bowl(INITIAL)(search.lr) if search.stage == "screening" else wrong
        search.add(outcome(search, loss))
    screened, best = screened_lr(search.record), best_trial_lr(search.record)
    assert screened is not None and best is not None
    assert tried(search.record, "confirmation") == pytest.approx([screened, screened / 2])
    assert best < screened / 2


@pytest.mark.parametrize(("longer", "second"), [(3.9, 2.0), (4.0, 0.5), (5.0, 0.5)])
def test_half_the_lr_follows_a_confirmation_no_better_than_a_shorter_trial(
    longer: float, second: float
) -> None:
    # With a small batch a high LR is best in a short trial, and in a long one it ends in the noise.
    search = TrialSearch(record(budget_steps=WITH_CONFIRMATION))
    while not search.done:
        search.add(outcome(search, 4 + bowl(INITIAL)(search.lr) if search.stage == "screening" else longer))
    assert tried(search.record, "confirmation") == pytest.approx([INITIAL, second * INITIAL])


@given(log_bottom=st.floats(-1.5, 1.5), off=st.sampled_from([1 / 4, 1.0, 4.0]))
def test_confirmations_go_on_until_the_best_lies_between_two_others(log_bottom: float, off: float) -> None:
    # The short trials find a best LR that is up to a factor 4 off.
    bottom = INITIAL * 2**log_bottom
    search = TrialSearch(record(budget_steps=9 * TOTAL, start_loss=15.0))
    while not search.done:
        screening = search.stage == "screening"
        search.add(outcome(search, bowl(bottom * off)(search.lr) if screening else bowl(bottom)(search.lr) - 10))
    lrs = sorted(tried(search.record, "confirmation"))
    assert lrs[0] < bottom < lrs[-1]
    assert best_trial_lr(search.record) == pytest.approx(bottom, rel=0.25)
    assert search.record.spent < 9 * TOTAL / 2


def test_confirmations_that_diverge_early_leave_their_steps_to_lower_lrs() -> None:
    search = TrialSearch(record(budget_steps=WITH_CONFIRMATION))
    while not search.done:
        high = search.stage == "confirmation" and search.lr > INITIAL / 5
        loss = None if high else bowl(INITIAL)(search.lr)
        search.add(outcome(search, loss, search.steps // 10 if high else None))
    lrs = tried(search.record, "confirmation")
    assert lrs[:3] == pytest.approx([lrs[0], lrs[0] / 2, lrs[0] / 4]) and min(lrs) <= INITIAL / 5
    assert best_trial_lr(search.record) <= INITIAL / 5


@pytest.mark.parametrize("bottom", [INITIAL / 4, INITIAL * 4])
@pytest.mark.parametrize("fall", [0.0, 20.0], ids=["fall seen", "no fall seen"])
def test_trials_nearly_as_long_as_the_training_pass_the_short_ones_limits(bottom: float, fall: float) -> None:
    limits = {"ceiling": INITIAL, "start_loss": 15.0, "min_improvement": fall}
    short, long = (run(bowl(bottom), budget_steps=trainings * TOTAL, **limits) for trainings in (1, 4))
    assert min(tried(long, "confirmation")) < bottom < max(tried(long, "confirmation"))
    if bottom > INITIAL and not fall:
        assert max(trial.lr for trial in short.trials) == pytest.approx(INITIAL)
    if bottom < INITIAL and fall:
        assert min(trial.lr for trial in short.trials) == pytest.approx(INITIAL)


@pytest.mark.parametrize("trainings", [1, 9, 100])
def test_trials_that_all_end_in_their_first_step_do_not_go_on_for_ever(trainings: int) -> None:
    search = TrialSearch(record(budget_steps=trainings * TOTAL))
    while not search.done:
        failed = search.stage == "confirmation"
        search.add(outcome(search, None if failed else bowl(INITIAL)(search.lr), 1 if failed else None))
    planned = plan_search(trainings * TOTAL, TOTAL)["confirmation"].trials
    assert planned < len(tried(search.record, "confirmation")) <= 2 * planned
    assert best_trial_lr(search.record) is not None


# --- an interrupt -----------------------------------------------------------------------------------------------------


@budgets
@pytest.mark.parametrize("after", [0, 1, 2])
def test_an_interrupt_ends_the_search_and_keeps_what_was_run(budget_steps: int, after: int) -> None:
    search = TrialSearch(record(budget_steps=budget_steps))
    for _ in range(after):
        search.add(outcome(search, bowl(INITIAL)(search.lr)))
    assert not search.done
    search.interrupt()
    assert search.done
    assert search.record.interrupted and len(search.record.trials) == after
    assert (best_trial_lr(search.record) is None) == (after == 0)
