"""The advice: the rule, the schedules, and the sentence for each finding about a curve."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from curves import curve_of
from hypothesis import given, settings
from hypothesis import strategies as st

from lrfinder.advice.advice import Advice
from lrfinder.advice.advise import advise
from lrfinder.advice.combine import combine, peak_lr
from lrfinder.analysis.finding import GRADES, Finding
from lrfinder.analysis.plateau import half_fallen
from lrfinder.analysis.regimes import read_curve
from lrfinder.analysis.repeats import repeat_period
from lrfinder.errors import ConfigError, FileFormatError, NoAdviceError
from lrfinder.record.curve import LossCurve, StopReason, SweepConfig
from lrfinder.record.facts import ModelFacts
from lrfinder.record.sweep import losses_until_diverged
from lrfinder.tables.constants import FITTED
from lrfinder.tables.kinds import KINDS
from lrfinder.tables.optimizers import is_lr_free, typical_lr


def drawn(shape: Callable[[float], float], **facts: Any) -> LossCurve:
    """Curve of a shape with a little noise, with Adam as its optimizer."""
    return curve_of(shape, **{"noise": 0.01, "optimizer": "Adam", "momentum": 0.9, **facts})


def falls(x: float) -> float:
    """From 2 to 1, fastest at 10**-4."""
    return 1.5 - 0.5 * math.tanh(2 * (x + 4))


def bowl(x: float) -> float:
    """Falls, and rises from 0.01 on."""
    return falls(x) + 3 * max(0.0, x + 2)


def shifted(edge: float) -> Callable[[float], float]:
    """The bowl with its edge at another LR."""
    return lambda x: bowl(x - 2 - math.log10(edge))


def clean(**facts: Any) -> LossCurve:
    """A curve that agrees with the usual LR of Adam."""
    return drawn(shifted(0.1), start=1e-5, end=100.0, **facts)


def words(advice: Advice) -> str:
    return " ".join(advice.reasons)


def test_a_clean_curve_gets_the_best_grade_and_an_lr_among_its_evidence() -> None:
    curve = clean()
    advice, low_region, usual = advise(curve), read_curve(curve).low_region, typical_lr("Adam", 0.9, FITTED)
    assert low_region is not None and usual is not None and advice.base_lr is not None
    seen = math.sqrt(low_region[0] * low_region[1]) * FITTED.low_region_part.adaptive
    limit = FITTED.limit_part.adaptive * (advice.edge_lr or math.nan)
    assert min(usual, seen, limit) <= advice.base_lr <= max(usual, seen, limit)
    assert advice.grade == "high"
    assert advice.edge_lr == pytest.approx(0.11, rel=0.2)
    text = words(advice)
    assert "stability edge" in text and "The loss is lowest between" in text and "typical peak LR for Adam" in text


@pytest.mark.parametrize(("optimizer", "kind"), [("Adam", "adaptive"), ("SGD", "proportional")])
def test_typical_lr_low_region_and_limit_are_averaged_on_a_log_scale(optimizer: str, kind: str) -> None:
    curve = drawn(shifted(1.0), start=1e-4, end=1e3, optimizer=optimizer)
    advice, reading, usual = advise(curve), read_curve(curve), typical_lr(optimizer, 0.9, FITTED)
    assert reading.low_region is not None and usual is not None and advice.base_lr is not None
    seen = math.sqrt(reading.low_region[0] * reading.low_region[1]) * FITTED.low_region_part.of(kind)
    limit = (reading.edge_lr if kind == "adaptive" else reading.diverged_lr) or math.nan
    of_sweep = FITTED.sweep_weight.up if seen > usual else FITTED.sweep_weight.down
    of_limit = FITTED.limit_weight.of(kind)
    logarithm = (1 - of_sweep) * math.log(usual) + of_sweep * math.log(seen)
    logarithm += of_limit * (math.log(limit * FITTED.limit_part.of(kind)) - logarithm)
    assert advice.base_lr == pytest.approx(min(math.exp(logarithm), advice.ceiling or math.inf), rel=0.05)
    assert "weighted mean" in words(advice)


@pytest.mark.parametrize("edge", [1e-4, 1e-3, 1e-1])
def test_the_advice_never_exceeds_its_part_of_the_edge(edge: float) -> None:
    advice = advise(drawn(shifted(edge), start=edge / 1e5, end=edge * 100))
    assert advice.edge_lr is not None and advice.base_lr is not None and advice.max_lr is not None
    ceiling = FITTED.edge_part.adaptive * advice.edge_lr
    assert advice.ceiling == pytest.approx(ceiling)
    for lr in (advice.base_lr, advice.max_lr, *map(advice.lr_for, KINDS)):
        assert lr <= 1.05 * ceiling


@pytest.mark.parametrize("edge", [1e-4, 1e-3, 1e-1])
def test_the_advice_for_sgd_never_exceeds_its_part_of_the_limit(edge: float) -> None:
    advice = advise(drawn(shifted(edge), start=edge / 1e5, end=edge * 100, optimizer="SGD"))
    assert advice.edge_lr is not None and advice.diverged_lr is not None and advice.base_lr is not None
    assert advice.edge_lr < advice.diverged_lr < edge * 100
    weight = FITTED.diverged_weight
    ceiling = FITTED.edge_part.proportional * advice.edge_lr ** (1 - weight) * advice.diverged_lr**weight
    assert advice.ceiling == pytest.approx(ceiling)
    for lr in (advice.base_lr, *map(advice.lr_for, KINDS)):
        assert lr <= 1.05 * ceiling


def test_without_divergence_the_highest_lr_tried_stands_in_for_sgd() -> None:
    curve = drawn(shifted(1e-3), start=1e-8, end=1.0, optimizer="SGD")
    before = next(n for n in range(len(curve), 0, -1) if losses_until_diverged(curve.losses[:n]) is None)
    short = dataclasses.replace(curve, lrs=curve.lrs[:before], losses=curve.losses[:before])
    advice = advise(short)
    assert advice.edge_lr is not None and advice.diverged_lr is None
    ceiling = FITTED.edge_part.proportional * math.sqrt(advice.edge_lr * short.lrs[-1])
    assert advice.ceiling == pytest.approx(ceiling)
    assert "The highest LR tried was" in words(advice)


def test_the_interval_ends_where_the_sweep_diverged_at_the_latest() -> None:
    advice = advise(drawn(shifted(1e-4), start=1e-9, end=1e-2))
    assert advice.interval is not None and advice.diverged_lr is not None and advice.base_lr is not None
    assert advice.interval[1] == pytest.approx(
        min(advice.base_lr * FITTED.spread.of(advice.grade), advice.diverged_lr), rel=0.05
    )
    steep = advise(drawn(lambda x: falls(x) + (50 if x > -2 else 0)))  # at 0.01 it is over
    assert steep.interval is not None and steep.diverged_lr is not None
    assert steep.interval[1] <= 1.05 * steep.diverged_lr


def test_advice_lowered_below_the_edge_gives_that_reason() -> None:
    assert "too close to the edge" in words(advise(drawn(shifted(1e-4), start=1e-9, end=1e-2)))
    assert "too close to the edge" not in words(advise(clean()))


def test_the_lr_follows_the_curve_in_part() -> None:
    lrs = [advise(drawn(shifted(edge), start=edge / 1e5, end=edge * 100)).base_lr for edge in (1.0, 0.1, 0.02)]
    assert all(lr is not None for lr in lrs)
    assert 1 < lrs[0] / lrs[1] < 10 and 1 < lrs[1] / lrs[2] < 5  # type: ignore[operator]


def test_a_curve_far_from_the_typical_lr_has_a_lower_grade() -> None:
    near, far = advise(drawn(shifted(0.1), start=1e-6, end=10.0)), advise(drawn(shifted(30.0), start=3e-4, end=3e3))
    assert GRADES.index(near.grade) < GRADES.index(far.grade)


def test_without_a_name_of_the_optimizer_the_curve_alone_counts() -> None:
    curve = drawn(bowl, optimizer="")
    advice, low_region = advise(curve), read_curve(curve).low_region
    assert low_region is not None and advice.base_lr is not None and advice.ceiling is not None
    seen = math.sqrt(low_region[0] * low_region[1]) * FITTED.low_region_part.proportional
    assert advice.base_lr == pytest.approx(min(seen, advice.ceiling), rel=0.05)
    assert advice.grade == "medium"
    assert "No typical LR is known" in words(advice)


def test_an_unknown_optimizer_counts_as_adam_with_grade_medium() -> None:
    advice, like = advise(clean(optimizer="Shiny")), advise(clean())
    assert (advice.base_lr, advice.grade, like.grade) == (like.base_lr, "medium", "high")
    assert "No typical LR is known for Shiny." in words(advice)


@pytest.mark.parametrize("direction", [-1, 1])
def test_an_unknown_optimizer_far_from_adam_gets_what_the_curve_shows(direction: int) -> None:
    def told(name: str, decades: float) -> Advice:
        edge = 10 ** (direction * decades - 1)
        return advise(drawn(shifted(edge), start=edge / 1e4, end=edge * 1e3, optimizer=name))

    assert told("Shiny", 1.0).base_lr == told("Adam", 1.0).base_lr
    first, second, adam = told("Shiny", 3.0), told("Shiny", 4.0), told("Adam", 3.0)
    assert first.base_lr and second.base_lr and first.base_lr != adam.base_lr
    assert second.base_lr / first.base_lr == pytest.approx(10.0**direction, rel=0.1)
    assert first.grade == "low" and "the LR of Shiny is in another unit" in words(first)


@pytest.mark.parametrize(("optimizer", "grade"), [("AdamW", "high"), ("ADOPT", "medium"), ("SOAP", "medium")])
def test_only_an_optimizer_of_the_calibration_runs_gets_the_best_grade(optimizer: str, grade: str) -> None:
    advice = advise(clean(optimizer=optimizer))
    assert advice.base_lr == advise(clean()).base_lr and advice.grade == grade
    assert ("rests on far fewer trainings" in words(advice)) == (grade == "medium")


@pytest.mark.parametrize("edge", [0.01, 5.0])
@pytest.mark.parametrize(("optimizer", "lr"), [("Prodigy", 1.0), ("DAdaptSGD", 1.0), ("LBFGS", 1.0), ("Rprop", 0.01)])
def test_an_lr_free_optimizer_keeps_its_lr_whatever_the_curve(optimizer: str, lr: float, edge: float) -> None:
    advice = advise(drawn(shifted(edge), start=1e-6, end=1e3, optimizer=optimizer))
    assert advice.base_lr == lr
    assert advice.grade == "low"
    assert f"a range test does not find it. Keep {lr:g}" in words(advice)


@pytest.mark.parametrize(("optimizer", "told"), [("LBFGS", True), ("Rprop", True), ("Prodigy", False)])
def test_an_optimizer_that_compares_gradients_is_told_of_mini_batches(optimizer: str, told: bool) -> None:
    for full_batch in (False, True):
        facts = ModelFacts(full_batch=full_batch)
        advice = advise(drawn(shifted(0.01), start=1e-6, end=1e3, optimizer=optimizer, facts=facts))
        assert ("on mini-batches it may diverge" in words(advice)) == (told and not full_batch)
        assert "a range test does not find it" in words(advice)


@pytest.mark.parametrize(("optimizer", "told"), [("LBFGS", True), ("Adam", False)])
def test_a_curve_that_cannot_be_read_names_an_lr_free_optimizer(optimizer: str, told: bool) -> None:
    advice = advise(drawn(lambda x: 1.0, optimizer=optimizer, points=5))
    assert advice.grade == "none"
    assert ("Keep 1" in words(advice)) == told


@pytest.mark.parametrize(("optimizer", "lr"), [("Prodigy", 1.0), ("LBFGS", 1.0), ("Rprop", 0.01)])
def test_an_lr_free_optimizer_keeps_its_lr_on_a_flat_curve(optimizer: str, lr: float) -> None:
    """As with ``line_search_fn="strong_wolfe"``, which makes the same step at every learning rate."""
    advice = advise(drawn(lambda x: 1.0, optimizer=optimizer))
    assert (advice.base_lr, advice.lr_for("constant"), advice.grade) == (lr, lr, "low")
    assert f"Keep {lr:g}" in words(advice) and "flat" not in words(advice) and "Raise" not in words(advice)


def test_base_and_max_lr_are_those_of_cosine_and_onecycle() -> None:
    advice = advise(drawn(bowl))
    assert advice.lr_for("cosine") == advice.base_lr
    assert advice.lr_for("onecycle") == advice.max_lr


def test_a_schedule_that_stays_high_longer_gets_a_lower_lr() -> None:
    advice = advise(clean())
    lrs = [advice.lr_for(kind) for kind in ("constant", "wsd", "multistep", "cosine", "exponential")]
    assert lrs == sorted(lrs) and len(set(lrs)) == 5


@pytest.mark.parametrize("total_steps", [0, -5, 1.5, True, "9"])
def test_a_training_of_no_length_is_refused(total_steps: Any) -> None:
    with pytest.raises(ConfigError, match="total_steps must be a whole number of at least 1"):
        advise(drawn(bowl)).lr_for("cosine", total_steps=total_steps)


@pytest.mark.parametrize(("kind", "near"), [("OneCycle", "onecycle"), ("cosin", "cosine"), ("linaer", "linear")])
def test_an_unknown_kind_lists_the_kinds_and_offers_the_nearest(kind: str, near: str) -> None:
    with pytest.raises(ConfigError, match=f"onecycle, cosine, .*constant; got {kind!r}. Did you mean {near!r}"):
        advise(drawn(bowl)).lr_for(kind)
    assert advise(drawn(bowl)).lr_for(near) > 0


def test_the_learning_rates_have_two_significant_digits() -> None:
    advice = advise(drawn(lambda x: bowl(x + 0.4321)))
    lrs = [advice.base_lr, advice.max_lr, advice.min_lr, *(advice.interval or ()), *map(advice.lr_for, KINDS)]
    for lr in lrs:
        assert lr is not None and lr == float(f"{lr:.2g}")


@pytest.mark.parametrize(
    "curve",
    [drawn(bowl), drawn(falls), drawn(lambda x: max(0.0, x + 2)), drawn(bowl, noise=0.3), drawn(bowl, optimizer="")],
    ids=["clean", "never turned", "only rises", "noisy", "unknown optimizer"],
)
def test_the_lrs_are_in_order_and_the_interval_holds_the_base_lr(curve: LossCurve) -> None:
    advice = advise(curve)
    assert advice.min_lr is not None and advice.base_lr is not None and advice.interval is not None
    assert 0 < advice.min_lr <= advice.base_lr
    assert advice.interval[0] <= advice.base_lr <= advice.interval[1]


@pytest.mark.parametrize(("diverges", "source"), [(0.04, "divergence"), (1.0, "edge"), (10.0, "edge")])
def test_a_divergence_far_above_the_edge_is_no_limit(diverges: float, source: str) -> None:
    def shape(x: float) -> float:  # rises to half of its fall around 0.01, and diverges later
        return falls(x) + 0.45 / (1 + math.exp(-12 * (x + 2))) + 5 * max(0.0, x - math.log10(diverges))

    curve = drawn(shape, start=1e-6, end=1e3, optimizer="SGD")
    [limit] = [each for each in advise(curve).evidence if each.name == "limit"]
    edge, diverged = read_curve(curve).edge_lr, read_curve(curve).diverged_lr
    assert edge is not None and diverged is not None
    assert limit.source == source
    assert limit.lr == pytest.approx(FITTED.limit_part.proportional * min(diverged, 20 * edge))


def test_a_lower_grade_has_a_wider_interval() -> None:
    widths = []
    for advice in (advise(drawn(shifted(1e-2))), advise(drawn(falls))):
        assert advice.interval is not None
        widths.append(advice.interval[1] / advice.interval[0])
    assert widths[0] < widths[1]


def test_a_curve_still_falling_at_its_end_never_turned() -> None:
    advice = advise(drawn(falls, end=1e-4))
    assert advice.grade == "low" and advice.edge_lr is None
    assert "never turned: the loss was still falling at lr=0.0001, " in words(advice)
    assert "Raise end_lr" in words(advice)
    assert advice.base_lr is not None and advice.base_lr <= 1e-4


def test_a_curve_level_at_its_end_never_turned() -> None:
    advice = advise(drawn(lambda x: falls(x) + 0.02 * max(0.0, x + 2.8), end=1e-2))
    assert "never turned: the loss was no longer falling, and not rising, at lr=0.01, " in words(advice)


@pytest.mark.parametrize("optimizer", ["Adam", "SGD"])
def test_a_plateau_counts_from_where_half_of_the_fall_is_gone(optimizer: str) -> None:
    """How far it goes on, and where the noise makes it lowest, changes nothing."""
    advised = [advise(drawn(falls, end=end, optimizer=optimizer)) for end in (0.1, 10.0, 1e4)]
    assert len({advice.base_lr for advice in advised}) == 1
    for advice, end in zip(advised, ("0.1", "10", "10000"), strict=True):
        assert f"No LR up to {end} made the loss diverge: it is bounded" in words(advice) and advice.grade == "low"
    half = next(each for each in advised[0].evidence if each.name == "half fall")
    assert half.seen[0] == pytest.approx(1e-4, rel=0.3)


@pytest.mark.parametrize("change", [{"probed": True}, {"dead_lr": 1.0}, {"diverged_lr": 1.0}], ids=str)
def test_no_plateau_is_seen_in_a_probe_or_where_the_training_broke(change: dict[str, Any]) -> None:
    reading = read_curve(drawn(falls, end=0.1))
    assert half_fallen(reading) == pytest.approx(1e-4, rel=0.3)
    assert half_fallen(dataclasses.replace(reading, **change)) is None


def test_a_plateau_far_from_the_typical_lr_counts_as_a_factor_20_away() -> None:
    near, far = (advise(drawn(lambda x: falls(x + shift), start=1e-12, end=10.0)) for shift in (2, 5))
    assert near.base_lr == far.base_lr


@pytest.mark.parametrize(("edge", "end", "bounded"), [(0.1, 1.0, False), (0.1, 3.0, True), (3e-3, 0.1, False)])
def test_a_low_rise_ends_a_plateau_where_the_loss_would_have_diverged(edge: float, end: float, bounded: bool) -> None:
    def rises(x: float) -> float:
        return falls(x) + (0.35 if x > math.log10(edge) else 0.0)

    advice = advise(drawn(rises, end=end))
    assert ("half fall" in [each.name for each in advice.evidence]) is bounded


@pytest.mark.parametrize(
    ("edge", "end", "optimizer", "counts"),
    [
        (1.0, 100.0, "SGD", True),  # diverged, and four decades wide
        (0.01, 100.0, "SGD", False),
        (1.0, 100.0, "Adam", False),
        (1.0, 10.0, "Adam", True),  # not diverged
    ],
)
def test_a_plateau_of_four_decades_counts_whatever_follows(
    edge: float, end: float, optimizer: str, counts: bool
) -> None:
    """As with normalised layers, and where all outputs become alike: the loss falls on, and the training is worse."""

    def rises(x: float) -> float:
        return falls(x) + (0.35 if x > math.log10(edge) else 0.0) + (5.0 if x > math.log10(30 * edge) else 0.0)

    curve = drawn(rises, end=end, optimizer=optimizer)
    assert (read_curve(curve).diverged_lr is not None) is (end > 30 * edge)
    assert ("half fall" in [each.name for each in advise(curve).evidence]) is counts


def test_the_lowest_lr_that_trains_is_none_that_was_not_tried() -> None:
    low, high = (advise(drawn(lambda x: 1.0 + max(0.0, x + 1.0), start=start, end=10.0)) for start in (1e-6, 5e-3))
    assert low.min_lr is not None and low.min_lr < 5e-3 and high.min_lr == 5e-3


def test_the_grade_is_low_where_a_plateau_may_be_about_to_diverge() -> None:
    def rises(x: float) -> float:
        return falls(x) + (0.35 if x > -1 else 0.0)

    soon, late = (advise(drawn(rises, end=end)) for end in (1.5, 3.0))
    assert "half fall" not in {each.name for each in soon.evidence} and "half fall" in {e.name for e in late.evidence}
    assert soon.grade == late.grade == "low" and "Raise end_lr above 1.5 to see" in words(soon)


@pytest.mark.parametrize(
    "optimizer", ["SGD", "AdamW", "LAMB", "LARS", "Adafactor", "Adadelta", "RMSprop", "Lion", "New"]
)
def test_another_reference_group_is_the_same_training(optimizer: str) -> None:
    curve = drawn(bowl, optimizer=optimizer)

    def with_reference(times: float, scales: tuple[float, ...], sizes: tuple[int, ...]) -> float | None:
        ends = {"start_lr": times * curve.config.start_lr, "end_lr": times * curve.config.end_lr}
        moved = dataclasses.replace(
            curve, lrs=tuple(times * lr for lr in curve.lrs), config=dataclasses.replace(curve.config, **ends)
        )
        return advise(dataclasses.replace(moved, group_scales=scales, facts=ModelFacts(group_sizes=sizes))).base_lr

    small, large = with_reference(1.0, (1.0, 10.0), (100, 9000)), with_reference(10.0, (1.0, 0.1), (9000, 100))
    assert small is not None and large == pytest.approx(10 * small, rel=0.05)


@pytest.mark.parametrize(
    ("sizes", "scales", "said"),
    [
        ((0, 0, 50, 9), (1.0, 0.5, 100.0, 7.0), "group 2 (c), the first that is, trains at 100 times"),
        ((9, 0, 50, 9), (1.0, 0.5, 100.0, 7.0), None),
        ((0, 0, 50, 9), (0.0, 0.0, 1.0, 7.0), None),
        ((0, 0, 50, 9), (1.0, 0.5, 1.0, 7.0), None),
        ((0, 0, 0, 0), (1.0, 0.5, 100.0, 7.0), None),
        (None, (1.0, 0.5, 100.0, 7.0), None),
    ],
)
def test_a_reference_group_that_is_frozen_is_named(sizes: Any, scales: tuple[float, ...], said: str | None) -> None:
    facts = ModelFacts(group_sizes=sizes, group_names=("a", "b", "c", "d"))
    reasons = words(advise(dataclasses.replace(drawn(bowl), group_scales=scales, facts=facts)))
    assert ("No parameter of the reference group" in reasons) is (said is not None) and (said or "") in reasons


def test_a_loss_just_above_the_usual_ones_gets_nearly_their_lr() -> None:
    curves = [drawn(lambda x, s=scale: s * bowl(x), optimizer="SGD") for scale in (5.9, 6.05, 6.2)]
    lrs = [advise(curve).base_lr or 0.0 for curve in curves]
    assert 0 < max(lrs) <= 1.2 * min(lrs)


def test_a_flat_curve_gets_no_advice() -> None:
    advice = advise(drawn(lambda x: 2.3, noise=0.1))
    assert advice.grade == "none"
    assert "flat everywhere" in words(advice) and "Raise end_lr" in words(advice)


def test_a_constant_curve_gets_no_advice() -> None:
    assert advise(drawn(lambda x: 0.1, noise=0.0)).grade == "none"


def test_a_flat_curve_that_moves_by_its_rounding_gets_no_advice() -> None:
    assert advise(drawn(lambda x: 2.25 if abs(math.sin(40 * x)) < 0.95 else 2.265625, noise=0.0)).grade == "none"


def test_a_curve_that_only_rises_is_of_a_trained_model() -> None:
    advice = advise(drawn(lambda x: 0.05 + max(0.0, x + 2) ** 2))
    assert advice.grade == "low"
    assert "already trained" in words(advice) and "warm-up" in words(advice)


def test_a_loss_around_0_that_only_rises_may_be_of_a_policy_gradient() -> None:
    for sign in (1.0, -1.0):
        policy = advise(drawn(lambda x, sign=sign: sign * 0.02 * math.sin(40 * x) + max(0.0, x + 2) ** 2))
        assert policy.grade == "low"
        assert "lies around 0" in words(policy) and "already trained" not in words(policy)


def test_nan_at_once_gets_no_advice_but_a_remedy() -> None:
    first = advise(drawn(bowl, points=1, measured="before", stop=StopReason.NONFINITE))
    assert first.grade == "none"
    assert "nan or infinite at the very first iteration" in words(first) and "lower start_lr" in words(first)
    later = advise(drawn(bowl, points=6, stop=StopReason.NONFINITE, nonfinite_lr=1.7e-6))
    assert "nan or infinite at lr=1.7e-06, after 6 readable points" in words(later)


def test_nan_after_a_readable_curve_is_told() -> None:
    curve = drawn(bowl, points=110, stop=StopReason.NONFINITE, nonfinite_lr=0.025)
    assert "nan or infinite after the update with lr=0.025" in words(advise(curve))


@pytest.mark.parametrize("points", [0, 1, 2, 5, 8])
def test_fewer_than_nine_points_get_no_advice(points: int) -> None:
    config = SweepConfig(start_lr=1e-4, end_lr=1.0, num_iter=10)
    lrs = tuple(config.lr_at(i) for i in range(points))
    losses = tuple(2.0 - i / 10 for i in range(points))
    advice = advise(
        LossCurve(lrs=lrs, losses=losses, stop=StopReason.COMPLETED, config=config, measured="after", optimizer="SGD")
    )
    assert advice.grade == "none"
    assert f"Too few points: {points}" in words(advice) and "Raise num_iter" in words(advice)


def test_nine_points_get_advice() -> None:
    config = SweepConfig(start_lr=1e-4, end_lr=1.0, num_iter=9)
    losses = (2.0, 1.9, 1.7, 1.4, 1.1, 1.0, 1.0, 5.0, 20.0)
    lrs = tuple(config.lr_at(i) for i in range(9))
    advice = advise(
        LossCurve(lrs=lrs, losses=losses, stop=StopReason.DIVERGED, config=config, measured="after", optimizer="SGD")
    )
    assert advice.grade != "none"


def test_a_sweep_that_diverged_before_ten_points_started_too_high() -> None:
    assert "Lower start_lr" in words(advise(drawn(bowl, points=7, stop=StopReason.DIVERGED)))


def test_a_rise_at_the_first_learning_rates_means_a_start_lr_too_high() -> None:
    advice = advise(drawn(lambda x: 2.0 + 5 * max(0.0, x + 2) ** 2, start=0.009, end=1.0, stop=StopReason.DIVERGED))
    assert advice.grade == "low"
    assert "start_lr=0.009 was too high" in words(advice)
    assert "BatchNorm" in words(advice), "the losses were measured after the update, as validation losses are"


def test_training_losses_are_not_suspected_of_trailing_statistics() -> None:
    rising = drawn(lambda x: 2.0 + 5 * max(0.0, x + 2) ** 2, start=0.009, end=1.0, measured="before")
    text = words(advise(rising))
    assert "was too high" in text and "BatchNorm" not in text


def test_an_edge_at_the_end_of_the_sweep_was_not_seen_whole() -> None:
    advice = advise(drawn(bowl, end=0.014))
    assert advice.edge_lr is not None
    assert "at the very end of the sweep" in words(advice) and "Raise end_lr above 0.014" in words(advice)


def test_losses_that_repeat_are_reported_as_periodic() -> None:
    batches = 0.2 * np.random.default_rng(5).normal(size=20)
    curve = drawn(bowl)
    losses = tuple(loss + float(batches[i % 20]) for i, loss in enumerate(curve.losses))
    repeating = LossCurve.from_dict({**curve.to_dict(), "losses": losses})
    advice = advise(repeating)
    assert "repeat every 20 iterations" in words(advice) and "shuffle=True" in words(advice)
    assert advice.grade in ("medium", "low")


def test_the_reference_that_is_named_is_the_first_group_whose_lr_is_not_0() -> None:
    names = ModelFacts(group_names=("norms", "body", "head"))
    found = advise(drawn(bowl, group_scales=(0.0, 1.0, 10.0), facts=names)).findings
    assert [each.detail for each in found if each.code == "groups"] == ["body"]


@pytest.mark.parametrize(
    ("scales", "counts", "name"),
    [
        ((0.0, 0.0, 1.0, 10.0), (("SGD", 2), ("AdamW", 2)), "group 0 of optimizer[1]"),
        ((0.0, 1.0, 1.0, 10.0), (("SGD", 2), ("AdamW", 2)), "group 1 of optimizer[0]"),
        ((0.0, 1.0), None, ""),
    ],
)
def test_the_reference_group_of_several_optimizers_has_its_place(scales: Any, counts: Any, name: str) -> None:
    """Groups are counted through all of them, so that of [first, second] the group 1 may be second.param_groups[0]."""
    found = advise(drawn(bowl, group_scales=scales, facts=ModelFacts(optimizers=counts))).findings
    assert [each.detail for each in found if each.code == "groups"] == [name]


@pytest.mark.parametrize("period", [2, 3, 7, 16])
def test_the_period_is_found_from_forty_losses_on(period: int) -> None:
    rng = np.random.default_rng(0)
    losses = np.resize(rng.normal(size=period), 100) + np.linspace(2.0, 1.0, 100) + 0.02 * rng.normal(size=100)
    assert [repeat_period(losses[:count]) for count in (39, 40, 100)] == [0, period, period]


@pytest.mark.parametrize("count", [40, 47, 60])
def test_independent_losses_seldom_repeat_by_chance(count: int) -> None:
    rng = np.random.default_rng(0)
    found = [repeat_period(draw(size=count) + 5) for draw in (rng.standard_normal, rng.exponential) for _ in range(300)]
    assert sum(map(bool, found)) <= 3  # of 600; a bound of 0.6 alone took up to 40 for sorted data


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("noise", [0.0, 0.05, 0.2])
def test_plain_noise_is_not_called_periodic_nor_a_spike(noise: float, seed: int) -> None:
    text = words(advise(drawn(bowl, noise=noise, seed=seed)))
    assert "repeat" not in text and "spike" not in text


def test_a_noisy_curve_is_told_so() -> None:
    advice = advise(drawn(bowl, noise=0.3, seed=1))
    assert advice.grade != "high" and "Very noisy" in words(advice)


def test_a_spike_that_recovers_leads_to_a_hint_at_warm_up() -> None:
    advice = advise(drawn(lambda x: bowl(x) + (2.0 if -3.2 < x < -2.8 else 0.0)))
    assert advice.grade == "medium"
    assert "recovered" in words(advice) and "warm-up" in words(advice)
    assert advice.edge_lr == pytest.approx(0.011, rel=0.2)


@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        (StopReason.INTERRUPTED, "interrupted. Run it again"),
        (StopReason.DATA_EXHAUSTED, "ran out of batches .*more than once"),
    ],
)
def test_an_early_end_is_told_with_its_mend(stop: StopReason, expected: str) -> None:
    cut = advise(drawn(bowl, points=80, stop=stop))
    assert cut.grade == "low"
    assert re.search(expected, words(cut))


def test_skipped_updates_are_told() -> None:
    assert "skipped 3 updates" in words(advise(clean(skipped=3)))
    assert advise(clean(skipped=3)).grade == "high"
    assert advise(clean(skipped=60)).grade == "medium"
    assert "GradScaler" not in words(advise(clean()))


def test_the_scales_of_parameter_groups_are_reported() -> None:
    assert "0.1, 1 times" in words(advise(drawn(bowl, group_scales=(0.1, 1.0))))


@settings(max_examples=25, deadline=None)
@given(exponent=st.integers(-30, 30), shift=st.integers(-100, 100), seed=st.integers(0, 50))
def test_scaling_and_shifting_the_loss_changes_no_advice(exponent: int, shift: int, seed: int) -> None:
    curve = drawn(bowl, noise=0.05, seed=seed)
    losses = tuple(2.0**exponent * (loss + shift) for loss in curve.losses)
    moved = advise(LossCurve.from_dict({**curve.to_dict(), "losses": losses})).to_dict()
    plain = advise(curve).to_dict()
    assert moved.pop("edge_lr") == pytest.approx(plain.pop("edge_lr"))
    assert moved == plain


def test_advice_is_equal_after_a_round_trip_through_json() -> None:
    for curve in (drawn(bowl), drawn(lambda x: 1.0)):
        advice = advise(curve)
        again = Advice.from_dict(json.loads(json.dumps(advice.to_dict())))
        assert again == advice
    loaded = Advice.from_dict(json.loads(json.dumps(advise(drawn(bowl)).to_dict())))
    assert loaded.lr_for("exponential") == advise(drawn(bowl)).lr_for("exponential")


SHORT = {"code": "above_edge", "lr": 0.1, "values": [], "detail": "", "caps_grade": "low"}  # its edge is missing
LONG = SHORT | {"code": "edge", "values": [0.1, 0.2, 0.3]}
DAMAGES = [{"grade": "superb"}, {"base_lr": None}, {"base_lr": "much"}, {"interval": [1.0]}, {"more": 1}]
DAMAGES += [{"reasons": [], "findings": [found]} for found in (SHORT, LONG)]
LIMIT = {"name": "limit", "lr": 0.1, "weight": 1.0, "part": 1.0, "seen": [0.1, 0.1], "source": "unknown"}
DAMAGES += [{"reasons": [], "evidence": [LIMIT]}]


@pytest.mark.parametrize("change", [*DAMAGES, {"reasons": None}], ids=str)
def test_damaged_advice_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(FileFormatError, match="damaged.*Run the range test again"):
        Advice.from_dict({**advise(drawn(bowl)).to_dict(), **change})


@pytest.mark.parametrize("name", ["base_lr", "max_lr"])
def test_a_lowest_lr_above_the_advice_is_refused_and_one_at_it_is_not(name: str) -> None:
    advice = advise(drawn(bowl))
    lr = getattr(advice, name)
    lrs = {"base_lr": lr, "max_lr": lr, "interval": (lr / 2, lr * 2), "min_lr": lr}
    assert Advice.from_dict({**advice.to_dict(), **lrs}).min_lr == lr
    other = {"base_lr", "max_lr"} - {name}
    with pytest.raises(FileFormatError, match=f"min_lr must not be above {name}"):
        Advice.from_dict({**advice.to_dict(), **lrs, **dict.fromkeys(other, lr * 1.5), "min_lr": lr * 1.1})


@pytest.mark.parametrize("change", [{"lr": math.nan}, {"lr": math.inf}, {"values": [1.0, math.nan]}], ids=str)
def test_a_finding_without_a_finite_number_is_refused(change: dict[str, Any]) -> None:
    spike = {"code": "spike", "lr": 0.1, "values": [1.0, 2.0], "detail": "", "caps_grade": "low"}
    content = advise(drawn(bowl)).to_dict()
    assert Advice.from_dict({**content, "findings": [spike]}).findings[0].lr == 0.1
    with pytest.raises(FileFormatError, match="the numbers of a finding must be finite"):
        Advice.from_dict({**content, "findings": [{**spike, **change}]})


@pytest.mark.parametrize("name", [each.name for each in dataclasses.fields(Advice)])
def test_advice_with_a_missing_field_is_refused(name: str) -> None:
    content = advise(drawn(bowl)).to_dict()
    del content[name]
    with pytest.raises(FileFormatError, match=name):
        Advice.from_dict(content)


@pytest.mark.parametrize("grade", GRADES)
def test_learning_rates_are_given_exactly_if_the_grade_is_not_none(grade: str) -> None:
    lrs: dict[str, Any] = {"max_lr": 0.1, "base_lr": 0.1, "min_lr": 0.01, "interval": (0.05, 0.2)}
    nothing = dict.fromkeys(lrs)
    good, bad = (nothing, lrs) if grade == "none" else (lrs, nothing)
    Advice(**good, grade=grade, reasons=())
    with pytest.raises(ConfigError, match="must be None exactly if the grade is 'none'"):
        Advice(**bad, grade=grade, reasons=())


def test_refused_advice_raises_its_reason_and_remedy_for_every_kind() -> None:
    advice = advise(drawn(lambda x: 2.3, noise=0.1))
    assert (advice.max_lr, advice.base_lr, advice.min_lr, advice.interval) == (None, None, None, None)
    for kind in KINDS:
        with pytest.raises(NoAdviceError, match="flat everywhere.*Raise end_lr"):
            advice.lr_for(kind)


@settings(max_examples=60, deadline=None)
@given(
    losses=st.lists(st.floats(-1e6, 1e6), max_size=60),
    stop=st.sampled_from(StopReason),
    optimizer=st.sampled_from(["SGD", "Adam", ""]),
    measured=st.sampled_from(["before", "after"]),
)
def test_any_curve_gets_advice_or_reasons(losses: list[float], stop: StopReason, optimizer: str, measured: str) -> None:
    config = SweepConfig(start_lr=1e-4, end_lr=1.0, num_iter=60)
    lrs = tuple(config.lr_at(i) for i in range(len(losses)))
    curve = LossCurve(lrs=lrs, losses=tuple(losses), stop=stop, config=config, optimizer=optimizer, measured=measured)
    advice = advise(curve)
    assert advice.grade in GRADES and advice.reasons and all(advice.reasons)
    assert advise(curve) == advice
    if advice.grade != "none":
        assert advice.min_lr is not None and advice.base_lr is not None
        assert 0 < advice.min_lr <= advice.base_lr


# --- evidence and findings --------------------------------------------------------------------------------------------

CURVES = {
    "clean": clean(),
    "SGD": drawn(bowl, optimizer="SGD"),
    "never turned": drawn(falls),
    "only rises": drawn(lambda x: max(0.0, x + 2)),
    "noisy": drawn(bowl, noise=0.3),
    "unknown optimizer": drawn(bowl, optimizer="Sophia"),
    "unknown and rising": drawn(lambda x: max(0.0, x + 2), optimizer="Sophia"),
    "LR-free": drawn(bowl, optimizer="Prodigy"),
}


@pytest.mark.parametrize("curve", CURVES.values(), ids=CURVES)
def test_base_lr_is_the_weighted_mean_of_the_evidence_below_the_ceiling(curve: LossCurve) -> None:
    advice = advise(curve)
    weighed = [each for each in advice.evidence if each.name != "ceiling"]
    assert sum(each.weight for each in weighed) == pytest.approx(1.0)
    mean = math.exp(sum(each.weight * math.log(each.lr) for each in weighed))
    mean = next((each.lr for each in weighed if not each.weight), mean)  # the factor of a plateau, where there is one
    ceilings = [each.lr for each in advice.evidence if each.name == "ceiling"]
    assert advice.base_lr == pytest.approx(min([mean, *ceilings]), rel=0.05)
    assert advice.ceiling is not None and (not ceilings or ceilings == [advice.ceiling])


def test_the_weight_of_the_limit_is_part_of_the_evidence() -> None:
    limit = next(each for each in advise(CURVES["SGD"]).evidence if each.name == "limit")
    assert limit.weight == FITTED.limit_weight.proportional and limit.part == FITTED.limit_part.proportional


@pytest.mark.parametrize("curve", CURVES.values(), ids=CURVES)
def test_the_grade_is_no_better_than_any_finding_allows(curve: LossCurve) -> None:
    advice = advise(curve)
    assert all(GRADES.index(advice.grade) >= GRADES.index(finding.caps_grade) for finding in advice.findings)


@pytest.mark.parametrize("curve", CURVES.values(), ids=CURVES)
def test_there_is_one_sentence_for_each_finding_and_each_evidence(curve: LossCurve) -> None:
    advice = advise(curve)
    averaged = len([each for each in advice.evidence if each.name != "ceiling"]) > 1
    assert len(advice.reasons) == len(advice.findings) + len(advice.evidence) + averaged
    assert all(reason.endswith(".") and "None" not in reason for reason in advice.reasons)


def test_saved_reasons_are_kept() -> None:
    content = advise(clean()).to_dict()
    assert Advice.from_dict({**content, "reasons": ["As it was."]}).reasons == ("As it was.",)


def test_further_findings_come_first() -> None:
    advice = advise(clean())
    after = advice.with_findings(Finding(code="noisy", values=(3.0,), caps_grade="medium"))
    assert after.reasons[1:] == advice.reasons and after.reasons[0].startswith("Very noisy")
    assert after.findings[1:] == advice.findings


@pytest.mark.parametrize("curve", CURVES.values(), ids=CURVES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_peak_of_an_estimate_is_that_of_the_advice(curve: LossCurve, kind: str) -> None:
    estimate = combine(curve, read_curve(curve))
    if is_lr_free(curve.optimizer):  # one LR whatever the schedule
        assert advise(curve).lr_for(kind) == advise(curve).lr_for(kind, 2000) == estimate.base_lr
        return
    assert peak_lr(kind, estimate.base_lr, estimate.ceiling) == advise(curve).lr_for(kind)


def test_other_constants_give_other_advice_and_change_nothing_else() -> None:
    curve = clean()
    before = advise(curve)
    lower = dataclasses.replace(FITTED, typical_lr={**FITTED.typical_lr, "adam": 1e-4})
    other = advise(curve, constants=lower)
    assert other.base_lr is not None and before.base_lr is not None and other.base_lr < before.base_lr
    assert advise(curve) == before
    assert before.lr_for("constant", constants=dataclasses.replace(FITTED, schedule_factor={"constant": 1.0})) == (
        before.base_lr
    )


def test_a_reading_that_is_given_is_used() -> None:
    curve = clean()
    assert advise(curve, reading=read_curve(curve)) == advise(curve)


# --- the edge, and losses in another unit -----------------------------------------------------------------------------


def slow_break(edge: float, width: float, **facts: Any) -> LossCurve:
    """A loss that leaves its lowest level at an edge and diverges only ``width`` decades above it."""
    start = math.log10(edge)

    def shape(x: float) -> float:
        fall, rise = falls(x - start + 2), max(0.0, x - start)
        return fall + 0.25 * min(rise, width) / width + 20 * max(0.0, rise - width)

    return drawn(shape, **{"start": edge / 1e4, "end": edge * 10 ** (width + 1), "optimizer": "SGD", **facts})


@pytest.mark.parametrize("edge", [1e-4, 1e-2, 1.0])
@pytest.mark.parametrize("width", [0.5, 2.0, 3.0, 4.0])
def test_base_lr_is_above_the_edge_only_with_a_reason_and_grade_low(edge: float, width: float) -> None:
    advice = advise(slow_break(edge, width))
    assert advice.edge_lr is not None and advice.base_lr is not None
    assert advice.base_lr <= 2.55 * advice.edge_lr
    above = advice.base_lr > advice.edge_lr
    assert ("base_lr is above the stability edge" in words(advice)) is above
    assert advice.grade == "low" or not above


def test_an_lr_above_the_edge_is_not_called_too_close_to_it() -> None:
    curve = clean(optimizer="SGD")
    reading = read_curve(curve)
    for diverged, expected in ((0.01, "too close to where the loss had diverged"), (10.0, "too far above the edge")):
        read = dataclasses.replace(reading, edge_lr=1e-4, edge_interval=(5e-5, 2e-4), diverged_lr=diverged)
        advice = advise(curve, reading=read)
        assert advice.base_lr is not None and 1e-4 < advice.base_lr <= 2.5e-4 and advice.grade == "low"
        assert "too close to the edge" not in words(advice) and expected in words(advice)


@pytest.mark.parametrize("exponent", [-20, -12, -8, -4, 4, 8, 12, 20])
def test_for_sgd_a_loss_of_another_unit_gets_the_lr_divided_by_it(exponent: int) -> None:
    unit = 10.0**exponent
    lrs = []
    for more in (1.0, 10.0):  # of two units far from the usual one, the second a tenfold of the first
        edge = 1 / unit / more
        curve = drawn(shifted(edge), start=edge / 1e5, end=edge * 100, optimizer="SGD")
        advice = advise(curve)
        assert advice.base_lr is not None
        assert advice.grade == "low" and "the loss is in another unit" in words(advice)
        lrs.append(advice.base_lr)
    assert lrs[0] / lrs[1] == pytest.approx(10, rel=0.06)


def test_a_loss_of_another_unit_that_only_rises_gets_a_part_of_its_edge() -> None:
    advice = advise(drawn(lambda x: 0.05 + max(0.0, x - 8) ** 2, start=1e4, end=1e11, optimizer="SGD"))
    assert advice.base_lr is not None and advice.edge_lr is not None and advice.edge_lr > 1e7
    assert 0.01 < advice.base_lr / advice.edge_lr < 1


@pytest.mark.parametrize("optimizer", ["Adam", "RMSprop"])
def test_the_unit_of_the_loss_is_no_matter_to_an_adaptive_rule(optimizer: str) -> None:
    assert "another unit" not in words(advise(drawn(shifted(1e6), start=10.0, end=1e8, optimizer=optimizer)))
