"""The advice after a trial search."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest
from searches import INITIAL, around, record, trials

from lrfinder.advice.advice import Advice
from lrfinder.advice.evidence import Evidence
from lrfinder.advice.trial_reading import best_trial_lr
from lrfinder.advice.verdict import advice_without_search, advice_without_trials, refined_advice
from lrfinder.analysis.finding import Finding
from lrfinder.numbers import round_lr
from lrfinder.record.trials import Trial
from lrfinder.tables.constants import FITTED
from lrfinder.tables.heads import HEAD
from lrfinder.tables.kinds import KINDS


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


def test_a_constant_lr_that_needs_no_factor_has_none_after_trials() -> None:
    ran = around(INITIAL, stage="screening", stride=4, steps=60)
    made = record(schedule="constant", start_loss=2.0, trials=ran)
    refined = refined_advice(advice(peaks=(("constant", INITIAL),)), made)
    assert refined.lr_for("constant") == refined.base_lr
    with_factor = refined_advice(advice(), made)
    assert with_factor.base_lr is not None and with_factor.lr_for("constant") < with_factor.base_lr


def test_a_peak_of_another_schedule_moves_with_the_advice_in_two_digits() -> None:
    ran = trials((0.1, 1.9), (0.4, 1.5), (1.6, 0.5), steps=300)
    before = advice(peaks=(("constant", 0.08), ("cosine", INITIAL)))
    refined = refined_advice(before, record(start_loss=2.0, total_steps=1000, trials=ran))
    assert refined.base_lr is not None and refined.base_lr > 1.5 * INITIAL
    assert [kind for kind, _ in refined.peaks] == ["cosine", "constant"]
    assert refined.lr_for("constant") == round_lr(0.8 * refined.base_lr)


@pytest.mark.parametrize("schedule", KINDS)
def test_the_schedule_of_the_search_gets_the_mean_of_trials_and_range_test(schedule: str) -> None:
    made = record(schedule=schedule, start_loss=2.0, trials=around(INITIAL, stage="screening", stride=4, steps=60))
    refined = refined_advice(advice(), made)
    trials, range_test = refined.evidence
    assert (trials.lr, range_test.lr) == (best_trial_lr(made), INITIAL)
    assert refined.lr_for(schedule) == round_lr(trials.lr**trials.weight * range_test.lr**range_test.weight)


HEAD_ALONE = Evidence(name="head", lr=INITIAL, weight=1.0, part=0.1, seen=(INITIAL, 4.0), source="edge and divergence")


def after_trials(steps: int, *, evidence: tuple[Evidence, ...] = (), **facts: Any) -> Advice:
    """The advice after three trials of that length, of a training of 1000 steps."""
    ran = around(INITIAL, stage="screening", stride=4, steps=steps)
    made = record(start_loss=2.0, total_steps=1000, budget_steps=10_000, trials=ran, **facts)
    return refined_advice(advice(evidence=evidence), made)


def weight(steps: int, **facts: Any) -> float:
    """Of trials of that length."""
    return after_trials(steps, **facts).evidence[0].weight


def test_longer_trials_weigh_more() -> None:
    assert 0 < weight(60) < weight(300) < weight(1000) < 1


def test_longer_trials_make_the_interval_narrower() -> None:
    before, *widths = (
        math.log2(known.interval[1] / known.interval[0]) / 2
        for known in (advice(), *map(after_trials, (1, 60, 300, 1000)))
        if known.interval is not None
    )
    assert widths == sorted(widths, reverse=True) and widths[0] == pytest.approx(before, rel=0.05)
    # Independent errors: the inverse variances add up, and one of a trial as long as the training is 1 squared octave.
    assert (1.28 / widths[-1]) ** 2 == pytest.approx((1.28 / before) ** 2 + 1, rel=0.05)


def test_trials_weigh_more_where_the_training_sees_its_data_few_times() -> None:
    assert weight(60) == weight(60, passes=8.0) == weight(60, passes=100.0)
    assert weight(60) < weight(60, passes=4.0) < weight(60, passes=1.0) < weight(60, passes=0.1) == weight(1000)
    assert weight(60, passes=1.0, probed=True) == weight(60)  # short trials of trained weights, and of heads, mislead
    assert weight(60, evidence=(HEAD_ALONE,), passes=1.0) == weight(60, evidence=(HEAD_ALONE,))


@pytest.mark.parametrize(("loss", "names"), [(None, ["trials"]), (2.0, ["trials", "range test"])])
def test_trials_count_alone_where_the_initial_lr_diverged(loss: float | None, names: list[str]) -> None:
    # A loss that has not fallen is no divergence: short trials of trained weights, or of a head, begin so.
    made = record(start_loss=2.0, trials=trials((INITIAL / 16, 1.5), (INITIAL / 4, 1.0), (INITIAL, loss)))
    assert [each.name for each in refined_advice(advice(), made).evidence] == names


@pytest.mark.parametrize("stage", ["screening", "confirmation"])
def test_a_short_trial_of_a_head_that_diverged_does_not_refute_its_lr(stage: str) -> None:
    def names(evidence: tuple[Evidence, ...]) -> list[str]:
        ran = around(INITIAL / 8, stage="screening", stride=4, steps=60)
        ran += (Trial(lr=INITIAL, steps=60, loss=None, stage=stage),)
        made = record(start_loss=2.0, total_steps=1000, budget_steps=1000, trials=ran)
        return [each.name for each in refined_advice(advice(evidence=evidence), made).evidence]

    assert names(()) == ["trials"]
    assert names((HEAD_ALONE,)) == (["trials", "range test"] if stage == "screening" else ["trials"])


def test_the_length_of_the_training_counts_once() -> None:
    long = 200_000
    start = advice().lr_for("cosine", long)
    found = trials((start / 4, 1.2), (start, 1.0), (start * 4, 1.2), steps=long // 16)
    numbers = {"total_steps": long, "budget_steps": long // 4, "initial_lr": start, "start_loss": 2.0}
    refined = refined_advice(advice(), record(trials=found, **numbers))
    assert refined.lr_for("linear", long) == refined.lr_for("cosine", long) == refined.lr_for("linear")
    for kind in ("linear", "cosine"):
        assert refined.lr_for(kind, 4 * long) < refined.lr_for(kind) == refined.lr_for(kind, 100)
    again = Advice.from_dict(json.loads(json.dumps(refined.to_dict())))
    assert again == refined and again.lr_for("linear", long) == refined.lr_for("linear", long)


@pytest.mark.parametrize("code", ["sorted", "lr_free"])
def test_what_trials_do_not_settle_is_still_said(code: str) -> None:
    finding = Finding(code=code, detail="Prodigy", values=(1.0,), caps_grade="low")
    before = dataclasses.replace(advice("low"), findings=(finding,))
    found = around(INITIAL, stage="screening", stride=4.0, steps=100)
    refined = refined_advice(before, record(trials=found))
    assert finding in refined.findings and refined.grade == "low"


def test_agreement_makes_a_new_head_no_surer() -> None:
    ran = (("screening", 4, 60), ("confirmation", 2, 250))
    made = record(start_loss=2.0, trials=sum((around(INITIAL, stage=a, stride=b, steps=c) for a, b, c in ran), ()))
    new, usual = (refined_advice(advice("low", evidence=each), made) for each in ((HEAD_ALONE,), ()))
    assert (new.grade, usual.grade) == ("medium", "high") and new.interval and usual.interval
    assert new.interval[1] / new.interval[0] == pytest.approx(HEAD.spread**2, rel=0.1)
    assert usual.interval[1] / usual.interval[0] < 0.5 * new.interval[1] / new.interval[0]


def test_a_search_without_a_best_lr_changes_no_number() -> None:
    made = record(trials=trials((INITIAL, None), (INITIAL / 4, 9.0)))
    after = refined_advice(advice(), made)
    assert dataclasses.replace(after, reasons=("By hand.",), findings=()) == advice()
    assert "no trial lowered the validation loss noticeably" in after.reasons[0]
    assert after.reasons[-1:] == advice().reasons


def test_the_reason_for_refusing_trials_is_the_one_that_holds() -> None:
    ran = tuple(dataclasses.replace(each, train_loss=0.1) for each in trials((INITIAL, 1.95), (INITIAL / 4, 1.99)))
    after = refined_advice(advice(), record(start_loss=2.0, trials=ran))
    assert "BatchNorm move too slowly" in after.reasons[0] and after.base_lr == advice().base_lr


def test_the_reasons_have_the_cost_the_best_lr_and_every_trial() -> None:
    ran = (*trials((0.025, 1.2), (0.1, 1.0), (0.4, None)), *trials((0.1, 0.5), (0.2, 0.7), stage="confirmation"))
    reasons = " ".join(refined_advice(advice(), record(start_loss=2.0, trials=ran, interrupted=True)).reasons)
    assert "Trial search: the best LR for cosine is" in reasons
    assert "500 optimizer steps in all, 12% of the 4000 of the cosine training" in reasons
    assert "until it was interrupted" in reasons
    whole = refined_advice(advice(), record(start_loss=2.0, trials=ran))
    assert not any("interrupted" in each for each in whole.reasons)
    assert "after screening trials of 100 steps: 1.2 at lr 0.025, 1 at lr 0.1, diverged at lr 0.4" in reasons
    assert "Validation losses after confirmation trials of 100 steps: 0.5 at lr 0.1, 0.7 at lr 0.2" in reasons


def test_a_best_lr_outside_the_range_that_was_screened_is_reported() -> None:
    rising = trials((0.1, 1.9), (0.4, 1.5), (1.6, 0.5), steps=300)
    falling = trials((0.00625, 0.5), (0.025, 1.5), (0.1, 1.9), steps=300)
    inside = record(start_loss=2.0, trials=around(0.1, stage="screening", stride=4, steps=60))
    for ran in (rising, falling):
        refined = refined_advice(advice("high"), record(start_loss=2.0, total_steps=1000, trials=ran))
        assert any("not inside the range that was screened" in each for each in refined.reasons)
        assert refined.grade == "medium"
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
