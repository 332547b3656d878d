"""The values that plots are drawn from: the numbers and the words, without matplotlib."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from odd_curves import NO_ADVICE, ODD_CURVES, RECIPES, advice_of, curve_of, falls_and_breaks

from lrfinder.analysis.regimes import read_curve
from lrfinder.display.curve_figure import CurveFigure
from lrfinder.display.curves_figure import curves_figure
from lrfinder.display.marks import Mark, labelled, places
from lrfinder.display.schedule_figure import schedule_figure
from lrfinder.numbers import round_lr
from lrfinder.recipes import recipe
from lrfinder.record.curve import StopReason
from lrfinder.record.facts import ModelFacts


def figure_of(curve, advice=None):
    return CurveFigure(curve, read_curve(curve), advice)


def marks_at(*xs):
    return labelled([Mark(role=f"m{i}", x=x, y=None, value=f"{x}") for i, x in enumerate(xs)], lambda x: x)


# --- one curve --------------------------------------------------------------------------------------------------------


def test_points_are_the_causal_pairs_and_the_line_is_the_smoothing():
    curve = ODD_CURVES["noisy"]
    shown = figure_of(curve)
    assert (shown.reading.lrs, shown.reading.losses) == curve.pairs()
    assert shown.reading.smooth == read_curve(curve).smooth


def test_marks_are_the_advice_and_the_edge_lowest_first():
    curve = ODD_CURVES["clean"]
    edge = read_curve(curve).edge_lr
    marks = figure_of(curve, advice_of(0.09, 0.14)).marks
    assert [(mark.role, mark.x) for mark in marks] == [("base_lr", 0.09), ("max_lr", 0.14), ("edge", edge)]
    assert [mark.label for mark in marks] == ["base_lr 0.09", "max_lr 0.14", f"edge {edge:.2g}"]


def test_marks_sit_on_the_smoothed_curve():
    curve = ODD_CURVES["clean"]
    shown = figure_of(curve, advice_of())
    heights = np.interp(np.log([mark.x for mark in shown.marks]), np.log(shown.reading.lrs), shown.reading.smooth)
    assert [mark.y for mark in shown.marks] == pytest.approx(heights)


def test_a_mark_outside_the_curve_has_no_height_and_widens_the_axis():
    shown = figure_of(ODD_CURVES["clean"], advice_of(1e-7, 5.0))
    assert [mark.y for mark in shown.marks if mark.role != "edge"] == [None, None]
    assert shown.axis[1][0] < 1e-7 and shown.axis[1][1] > 5.0


def test_without_advice_only_the_edge_is_marked():
    shown = figure_of(ODD_CURVES["clean"])
    assert [mark.role for mark in shown.marks] == ["edge"]
    assert shown.interval is None and shown.subtitle == ""


@pytest.mark.parametrize("grade", ["high", "medium", "low"])
def test_the_title_has_the_optimizer_and_the_grade(grade):
    curve = dataclasses.replace(ODD_CURVES["clean"], optimizer="AdamW")
    assert figure_of(curve, advice_of(grade=grade)).title == f"AdamW range test, grade: {grade}"


def test_the_title_without_optimizer_and_without_advice():
    assert figure_of(ODD_CURVES["clean"]).title == "Range test"
    assert figure_of(ODD_CURVES["clean"], NO_ADVICE).title == "Range test, grade: none"


@pytest.mark.parametrize(
    ("name", "base_lr", "words"),
    [
        ("clean", 0.09, "at 0.03 to 0.18 (shaded)"),
        ("clean", 0.3, "at 0.1 to 0.6 (hatched where unstable)"),
        ("clean", 3.0, "at 1 to 6 (hatched: unstable)"),
        ("never turned", 0.03, "at 0.01 to 0.06 (shaded)"),
        ("never turned", 0.09, "at 0.03 to 0.18 (hatched where not swept)"),
    ],
)
def test_the_subtitle_says_where_the_interval_lies(name, base_lr, words):
    shown = figure_of(ODD_CURVES[name], advice_of(base_lr))
    assert shown.interval == advice_of(base_lr).interval
    assert shown.subtitle == f"best base_lr expected {words}"


def title_of(subject=(), **facts):
    curve = dataclasses.replace(ODD_CURVES["clean"], optimizer="AdamW", facts=ModelFacts(**facts))
    return CurveFigure(curve, read_curve(curve), advice_of(), subject).title


def test_the_title_has_model_data_and_batch_where_they_are_known():
    assert title_of(batch_size=64) == "AdamW range test, batch 64, grade: high"
    assert title_of(batch_size=64, accumulation_steps=4) == "AdamW range test, batch 64 x 4, grade: high"
    assert title_of(("vit_b_16", "pets"), batch_size=64) == "vit_b_16 on pets: AdamW range test, batch 64, grade: high"


def test_a_long_title_has_two_lines_and_cut_names_that_are_no_formula():
    title = title_of(("mobilenet_v3_small", "a $folder$ with a name that is far too long"), batch_size=64)
    first, second = title.split("\n")
    assert first == r"mobilenet_v3_small on a \$folder\$ with a name th..."
    assert second == "AdamW range test, batch 64, grade: high"


def test_the_part_of_the_interval_above_the_edge_or_the_sweep_is_hatched():
    edge = read_curve(ODD_CURVES["clean"]).edge_lr
    assert figure_of(ODD_CURVES["clean"], advice_of(0.09)).beyond is None
    assert figure_of(ODD_CURVES["clean"], advice_of(0.3)).beyond == (edge, 0.6)
    assert figure_of(ODD_CURVES["clean"], advice_of(3.0)).beyond == (1.0, 6.0)
    assert figure_of(ODD_CURVES["never turned"], advice_of(0.09)).beyond[1] == 0.18


@given(base=st.floats(1e-6, 100), name=st.sampled_from(sorted(ODD_CURVES)))
def test_no_interval_reaches_into_the_unstable_part_unsaid(base, name):
    shown = figure_of(ODD_CURVES[name], advice_of(base))
    unstable = [span.start for span in shown.regimes if span.name == "unstable"]
    reaches = bool(unstable) and round_lr(shown.interval[1]) > round_lr(unstable[0])
    assert not reaches or (shown.beyond is not None and "unstable" in shown.subtitle)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("constant", "flat: the loss neither falls nor rises"),
        ("only noise", "flat: the loss neither falls nor rises"),
        ("nonfinite at once", "the loss became nan or infinite"),
        ("one pair", "too few points: 1 of"),
        ("clean", ""),
        ("only rises", ""),
    ],
)
def test_a_curve_without_advice_says_why_in_the_picture(name, words):
    note = figure_of(ODD_CURVES[name]).note
    assert note.startswith(words) and bool(note) == bool(words)


def test_noise_alone_does_not_fill_the_height():
    curve = ODD_CURVES["only noise"]
    low, high = figure_of(curve).y_limits
    assert np.ptp(curve.losses) < 0.4 * (high - low)


@pytest.mark.parametrize("stop", StopReason)
def test_the_axis_label_says_where_and_why_the_sweep_ended(stop):
    words = {
        StopReason.COMPLETED: "swept to 0.5",
        StopReason.DIVERGED: "stopped at 0.5: the loss diverged",
        StopReason.NONFINITE: "stopped at 0.5: the loss became nan or infinite",
        StopReason.DATA_EXHAUSTED: "stopped at 0.5: the loader ran out of batches",
        StopReason.INTERRUPTED: "stopped at 0.5: interrupted",
        StopReason.ERROR: "stopped at 0.5: an exception was raised",
    }
    shown = figure_of(curve_of(falls_and_breaks, end_lr=0.5, stop=stop))
    assert shown.xlabel == f"learning rate ({words[stop]})"


def test_a_nonfinite_loss_is_placed_at_the_learning_rate_that_made_it():
    assert "stopped at 0.31" in figure_of(ODD_CURVES["nonfinite"]).xlabel


def test_a_validation_curve_is_called_one():
    assert figure_of(ODD_CURVES["clean"]).ylabel.startswith("training loss")
    assert figure_of(ODD_CURVES["validation"]).ylabel.startswith("validation loss")


def test_a_loss_that_is_to_rise_is_told_with_its_own_sign():
    curve = curve_of(lambda lrs: -falls_and_breaks(lrs), facts=ModelFacts(maximize=True))
    assert figure_of(curve).ylabel.startswith("minus training loss") and min(figure_of(curve).reading.losses) > 0
    (line,) = curves_figure({"one": curve}).lines
    assert line.label.startswith("one: -2.29 to -0.5")


def test_the_learning_rate_axis_is_linear_after_a_linear_sweep():
    assert figure_of(ODD_CURVES["clean"]).axis[0] == "log"
    assert figure_of(ODD_CURVES["linear"]).axis[0] == "linear"


@pytest.mark.parametrize("name", ODD_CURVES)
def test_every_point_and_every_mark_lies_within_the_axis(name):
    shown = figure_of(ODD_CURVES[name], advice_of())
    _, (low, high) = shown.axis
    assert low < high
    assert all(low < x < high for x in (*shown.reading.lrs, *(mark.x for mark in shown.marks)))


def test_a_blow_up_over_ten_orders_of_magnitude_does_not_flatten_the_fall():
    low, high = figure_of(ODD_CURVES["ten orders of magnitude"], advice_of()).y_limits
    assert low < 0.5 and 2.3 < high < 3.5


def test_a_spike_among_quiet_losses_does_not_set_the_scale():
    curve = curve_of(lambda lrs: falls_and_breaks(lrs) + 1e4 * (np.arange(len(lrs)) == 20), end_lr=0.3)
    assert figure_of(curve).y_limits[1] < 5


@pytest.mark.parametrize("name", ODD_CURVES)
def test_the_lowest_smoothed_loss_is_always_within_the_axis(name):
    shown = figure_of(ODD_CURVES[name])
    assert shown.y_limits is None or shown.y_limits[0] < min(shown.reading.smooth) < shown.y_limits[1]


def test_scaling_and_shifting_the_loss_scales_and_shifts_the_axis():
    bottoms = []
    for scale, shift in ((1.0, 0.0), (1000.0, -500.0)):
        curve = curve_of(lambda lrs: scale * falls_and_breaks(lrs) + shift, noise=0.0)
        bottoms.append((np.array(figure_of(curve).y_limits) - shift) / scale)
    np.testing.assert_allclose(bottoms[0], bottoms[1], rtol=1e-6)


@pytest.mark.parametrize("name", ["no point", "one loss, so no pair", "one pair"])
def test_a_curve_of_fewer_than_two_points_has_no_loss_axis(name):
    assert figure_of(ODD_CURVES[name]).y_limits is None
    assert figure_of(ODD_CURVES["two pairs"]).y_limits is not None


def test_the_regimes_meet_at_the_onset_and_at_the_edge():
    curve = curve_of(falls_and_breaks, end_lr=3.0)
    reading, shown = read_curve(curve), figure_of(curve)
    assert [span.name for span in shown.regimes] == ["flat", "falling", "unstable"]
    _, (low, high) = shown.axis
    ends = [low, reading.onset_lr, reading.edge_lr, high]
    assert [(span.start, span.end) for span in shown.regimes] == list(zip(ends, ends[1:]))
    assert sum(span.share for span in shown.regimes) == pytest.approx(1)


def test_a_curve_that_never_turned_has_no_unstable_regime():
    assert [span.name for span in figure_of(ODD_CURVES["never turned"]).regimes] == ["flat", "falling"]


def test_a_curve_that_never_moved_has_no_regimes():
    assert figure_of(ODD_CURVES["constant"]).regimes == ()


# --- labels of marks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("xs", "sides", "rows"),
    [
        ((0.6, 0.7, 0.9), (True, True, True), (0, 1, 2)),  # room on the left
        ((0.1, 0.2, 0.4), (False, False, False), (2, 1, 0)),  # room on the right
        ((0.1, 0.2, 0.9), (False, False, True), (2, 1, 0)),  # room in the middle
        ((0.1, 0.8, 0.9), (False, True, True), (2, 0, 1)),
        ((0.5,), (True,), (0,)),
        ((), (), ()),
    ],
)
def test_labels_point_into_the_widest_gap(xs, sides, rows):
    marks = marks_at(*xs)
    assert tuple(mark.to_left for mark in marks) == sides
    assert tuple(mark.row for mark in marks) == rows


@pytest.mark.parametrize("seed", range(20))
def test_no_line_crosses_a_label_that_is_narrower_than_the_gap(seed):
    xs = sorted(np.random.default_rng(seed).uniform(size=3).tolist())
    width = max(np.diff([0, *xs, 1]))
    for label in (marks := marks_at(*xs)):
        left = label.x - width if label.to_left else label.x
        assert left >= -1e-9 and left + width <= 1 + 1e-9
        crossing = [mark for mark in marks if left + 1e-9 < mark.x < left + width - 1e-9 and mark is not label]
        assert all(mark.row < label.row for mark in crossing)


@pytest.mark.parametrize(("base_lr", "max_lr"), [(0.1, 0.1), (0.1, 0.101)])
def test_equal_learning_rates_share_one_label(base_lr, max_lr):
    marks = figure_of(ODD_CURVES["clean"], advice_of(base_lr, max_lr)).marks
    assert [mark.label for mark in marks[:2]] == ["base_lr = max_lr 0.1", ""]


def test_unequal_learning_rates_have_a_label_each():
    marks = figure_of(ODD_CURVES["clean"], advice_of(0.1, 0.11)).marks
    assert [mark.label for mark in marks[:2]] == ["base_lr 0.1", "max_lr 0.11"]


def test_places_are_parts_of_the_axis_on_either_scale():
    assert [places("log", (0.01, 1.0))(x) for x in (0.01, 0.1, 1.0)] == pytest.approx([0, 0.5, 1])
    assert [places("linear", (0.0, 4.0))(x) for x in (0.0, 1.0, 4.0)] == [0, 0.25, 1]


# --- several curves ---------------------------------------------------------------------------------------------------


def test_several_curves_share_one_scale_from_their_start_to_their_lowest():
    curve = curve_of(falls_and_breaks, noise=0.0)
    shifted = curve_of(lambda lrs: 30 * falls_and_breaks(lrs) - 700, noise=0.0)
    one, other = curves_figure({"one": curve, "other": shifted}).lines
    np.testing.assert_allclose(one.parts, other.parts, atol=1e-6)
    assert min(one.parts) == pytest.approx(0, abs=1e-9)
    assert one.parts[0] == pytest.approx(1, abs=0.02)


def test_a_noisy_curve_that_falls_has_its_lowest_at_zero_too():
    (line,) = curves_figure({"noisy": ODD_CURVES["noisy"]}).lines
    assert min(line.parts) == pytest.approx(0, abs=1e-9)


def test_a_curve_that_never_fell_stays_near_its_start():
    (line,) = curves_figure({"flat": ODD_CURVES["only noise"]}).lines
    assert np.abs(np.array(line.parts) - 1).max() < 0.5


@pytest.mark.parametrize(("fall", "lowest"), [(0.0003, 0.99), (0.5, 0.0)])
def test_a_faint_fall_is_drawn_faint_and_told_in_numbers(fall, lowest):
    curve = curve_of(lambda lrs: 2.3 - fall / (1 + 0.01 / lrs), noise=fall / 50, stop=StopReason.COMPLETED)
    (line,) = curves_figure({"one": curve}).lines
    assert min(line.parts) == pytest.approx(lowest, abs=0.01)
    assert line.label == ("one: 2.3, falls by 0.0003, no edge" if fall < 0.1 else line.label)


def test_each_label_has_the_levels_and_the_edge_of_its_curve():
    clean, falling, empty = curves_figure(
        {"SGD": ODD_CURVES["clean"], "no edge here": ODD_CURVES["never turned"], "empty": ODD_CURVES["no point"]}
    ).lines
    assert clean.label.startswith("SGD: 2.3 to 0.5")
    assert clean.label.endswith(f"edge {read_curve(ODD_CURVES['clean']).edge_lr:.2g}")
    assert falling.label.endswith("no edge") and falling.edge is None
    assert empty.label == "empty: too few points"


def test_the_edge_is_the_point_nearest_to_it():
    curve = ODD_CURVES["clean"]
    (line,) = curves_figure({"clean": curve}).lines
    step = curve.lrs[1] / curve.lrs[0]
    assert read_curve(curve).edge_lr == pytest.approx(line.lrs[line.edge], rel=step - 1)


def test_labels_of_many_curves_go_beside_the_axes_without_levels():
    shown = curves_figure(ODD_CURVES)
    assert shown.beside and [line.label for line in shown.lines] == list(ODD_CURVES)
    assert not curves_figure({"one": ODD_CURVES["clean"]}).beside


@pytest.mark.parametrize(("other", "scale"), [("linear", "linear"), ("clean", "log")])
def test_the_axis_of_several_curves_is_linear_if_all_sweeps_were(other, scale):
    assert curves_figure({"one": ODD_CURVES["linear"], "other": ODD_CURVES[other]}).axis[0] == scale


# --- schedules --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECIPES)
def test_learning_rates_and_momenta_are_those_of_the_schedule(name):
    plan = RECIPES[name]
    shown = schedule_figure(plan)
    assert shown.times[0] == 0 and shown.times[-1] == (plan.total_steps or max(2 * plan.warmup_steps, 100)) - 1
    assert shown.lrs == tuple(plan.lr_at(t) for t in shown.times)
    momenta = tuple(plan.momentum_at(t) for t in shown.times)
    assert shown.momenta == (() if momenta[0] is None else momenta)
    assert (shown.momentum_limits is None) == (momenta[0] is None)


def test_the_peak_and_the_end_of_a_schedule_are_marked():
    plan = RECIPES["wsd"]
    peak, end = schedule_figure(plan).marks
    assert (peak.x, peak.y, peak.label) == (plan.warmup_steps, 3e-4, f"peak 0.0003 at batch {plan.warmup_steps}")
    assert (end.x, end.y, end.label) == (4999, plan.lr_at(4999), f"end {plan.lr_at(4999):.2g}")


@pytest.mark.parametrize("kind", ["onecycle", "cyclic", "cosine"])
@pytest.mark.parametrize("steps", [4999, 100_000, 1_000_003])
def test_the_place_of_the_peak_is_exact_however_long_the_training(kind, steps):
    plan = recipe(kind, peak_lr=0.1, total_steps=steps)
    peak = schedule_figure(plan).marks[0]
    assert plan.lr_at(peak.x) == peak.y >= max(plan.lr_at(max(peak.x - 1, 0)), plan.lr_at(min(peak.x + 1, steps - 1)))


def test_the_warm_up_is_shaded_and_named():
    shown = schedule_figure(RECIPES["wsd"])
    assert shown.warmup == RECIPES["wsd"].warmup_steps
    assert shown.subtitle == f"{shown.warmup} batches of warm-up (shaded)"


def test_a_schedule_without_warm_up_and_without_end_has_neither():
    shown = schedule_figure(RECIPES["constant"])
    assert shown.warmup == 0 and shown.subtitle == ""
    assert [mark.role for mark in shown.marks] == ["peak"]
    assert "goes on" in shown.xlabel


def test_the_title_says_where_the_step_belongs():
    assert schedule_figure(RECIPES["cosine"]).title == "cosine: scheduler.step() after every batch"
    accumulated = schedule_figure(recipe("cosine", peak_lr=0.1, total_steps=100, accumulation_steps=4))
    assert accumulated.title == "cosine: scheduler.step() after every update"
    assert (accumulated.subtitle, accumulated.xlabel) == ("5 updates of warm-up (shaded)", "update")
    shown = schedule_figure(RECIPES["step, per epoch"])
    assert shown.title == "step: scheduler.step() after every epoch"
    assert shown.xlabel == "epoch" and shown.stepwise
