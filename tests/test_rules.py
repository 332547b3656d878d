"""The classic rules, on curves whose answer is known."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from curves import curve_of

from lrfinder.analysis.regimes import read_curve
from lrfinder.analysis.rules import Suggestion, minimum, slide, steepest, valley
from lrfinder.errors import NoAdviceError
from lrfinder.record.curve import LossCurve, StopReason

RULES = [steepest, valley, minimum, slide]
Rule = Callable[..., Suggestion]


def bowl(x: float) -> float:
    """Falls from 2 to 1, fastest at 10**-3; lowest at about 10**-1.3; explodes from 0.1 on."""
    return 1.5 - 0.5 * math.tanh(1.5 * (x + 3)) + (10 * (x + 1)) ** 2 * (x > -1)


@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_steepest_is_the_inflection_of_the_fall(noise: float) -> None:
    assert steepest(curve_of(bowl, noise=noise)).lr == pytest.approx(1e-3, rel=0.5)


def test_steepest_divides_by_decades_and_not_by_the_lr() -> None:
    # Per unit of LR the slope of noise at the bottom of the sweep would win by orders of magnitude.
    for noise in (0.0, 1e-4, 1e-3):
        assert steepest(curve_of(bowl, start=1e-8, count=226, noise=noise)).lr > 5e-4


def test_valley_lies_halfway_between_the_onset_and_the_lowest_point() -> None:
    # 5 % of the fall is gone at 10**-3.98, and it is lowest where the explosion starts, at 10**-1.
    assert valley(curve_of(bowl)).lr == pytest.approx(10**-2.49, rel=0.3)


def test_valley_does_not_move_with_the_start_of_the_sweep() -> None:
    far = valley(curve_of(bowl, start=1e-8, count=226)).lr
    near = valley(curve_of(bowl, start=1e-5, count=151)).lr
    assert far == pytest.approx(near, rel=0.1)


def test_minimum_is_a_tenth_of_the_lowest_point() -> None:
    curve = curve_of(lambda x: (x + 2) ** 2)
    suggestion = minimum(curve)
    assert suggestion.lr == pytest.approx(1e-3, rel=0.1)
    assert curve.pairs()[0][suggestion.index] == pytest.approx(1e-2, rel=0.1)


def test_slide_stays_below_the_blow_up_and_above_the_flat_start() -> None:
    assert 1e-5 < slide(curve_of(bowl)).lr < 0.1


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_scaling_and_shifting_the_loss_moves_no_suggestion(rule: Rule, noise: float) -> None:
    curve = curve_of(bowl, noise=noise)
    for scale, shift in ((2.0**-10, 0.0), (1.0, -64.0), (2.0**8, 32.0)):
        losses = tuple(scale * (loss + shift) for loss in curve.losses)
        moved = LossCurve(lrs=curve.lrs, losses=losses, stop=curve.stop, config=curve.config, measured="after")
        assert rule(moved).lr == pytest.approx(rule(curve).lr)


@pytest.mark.parametrize("rule", RULES)
def test_multiplying_the_lrs_multiplies_the_suggestion(rule: Rule) -> None:
    curve = curve_of(bowl, noise=0.02)
    lrs = tuple(8 * lr for lr in curve.lrs)
    moved = LossCurve(lrs=lrs, losses=curve.losses, stop=curve.stop, config=curve.config, measured="after")
    assert rule(moved).lr == pytest.approx(8 * rule(curve).lr)


@pytest.mark.parametrize("rule", RULES)
def test_a_training_loss_is_credited_to_the_lr_before_it(rule: Rule) -> None:
    after = curve_of(bowl)
    # The same curve as a training loop records it: each loss one iteration later.
    losses = (after.losses[0], *after.losses[:-1])
    before = LossCurve(lrs=after.lrs, losses=losses, stop=after.stop, config=after.config, measured="before")
    assert rule(before).lr == pytest.approx(rule(after).lr, rel=0.25)


@pytest.mark.parametrize("rule", RULES)
def test_a_suggestion_names_its_point_and_its_rule(rule: Rule) -> None:
    curve = curve_of(bowl, measured="before")
    suggestion = rule(curve)
    assert suggestion.method == rule.__name__
    assert "fastai" in suggestion.reference
    expected = curve.pairs()[0][suggestion.index] / (10 if rule is minimum else 1)
    assert suggestion.lr == pytest.approx(expected)


@pytest.mark.parametrize("rule", [steepest, valley, minimum])
def test_a_linear_sweep_is_read_too(rule: Rule) -> None:
    assert 0 < rule(curve_of(lambda x: (10**x - 4) ** 2, start=0.01, count=200, mode="linear")).lr < 5


@pytest.mark.parametrize("rule", RULES)
def test_a_curve_of_fewer_than_nine_points_is_refused_with_a_remedy(rule: Rule) -> None:
    curve = curve_of(bowl, count=8, stop=StopReason.NONFINITE)
    with pytest.raises(NoAdviceError, match="8 readable points.*nan or infinite.*needs 9.*lower start_lr"):
        rule(curve)
    with pytest.raises(NoAdviceError, match="Raise num_iter"):
        rule(curve_of(bowl, count=8))


@pytest.mark.parametrize("rule", [steepest, valley, minimum])
def test_a_curve_of_nine_points_is_accepted(rule: Rule) -> None:
    assert rule(curve_of(lambda x: (x + 1) ** 2, count=9)).lr > 0


@pytest.mark.parametrize("rule", RULES)
def test_a_curve_that_never_falls_is_refused_with_a_remedy(rule: Rule) -> None:
    with pytest.raises(NoAdviceError, match="never falls.*between lr=1e-06 and lr=10; .*Raise end_lr if the"):
        rule(curve_of(lambda x: 2.0, noise=0.1))
    with pytest.raises(NoAdviceError, match="lower start_lr if it only rises"):
        rule(curve_of(lambda x: 2.0 + (x + 6) ** 2, noise=0.1))


def test_slide_refuses_a_sweep_narrower_than_its_interval() -> None:
    with pytest.raises(NoAdviceError, match=r"found no 1\.2 decades .* between lr=1 and lr=10\. Lower start_lr"):
        slide(curve_of(lambda x: (x - 0.7) ** 2, start=1.0, count=50))


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_uses_the_reading_that_it_is_given(rule: Rule) -> None:
    curve = curve_of(bowl)
    assert rule(curve, reading=read_curve(curve)) == rule(curve)
