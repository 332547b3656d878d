"""Plots: the values of the figures, on any curve, without side effects. Their numbers: test_figures.py."""

from __future__ import annotations

import dataclasses
import io
import itertools
import pickle

import matplotlib.image
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from odd_curves import NO_ADVICE, ODD_CURVES, RECIPES, advice_of, curve_of, falls_and_breaks

from lrfinder import RangeTestResult, advise, slide
from lrfinder.analysis.regimes import read_curve
from lrfinder.display.curve_figure import CurveFigure
from lrfinder.display.curves_figure import curves_figure
from lrfinder.display.drawing import set_axis
from lrfinder.display.pictures import figure_png
from lrfinder.display.plotting import plot_curve, plot_curves, plot_recipe
from lrfinder.display.schedule_figure import schedule_figure
from lrfinder.errors import ConfigError
from lrfinder.record.curve import StopReason

CLEAN = ODD_CURVES["clean"]


@pytest.fixture
def ax():
    figure = Figure(figsize=(6.4, 4.0), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    return figure.subplots()


@pytest.fixture(autouse=True)
def showing_is_an_error(monkeypatch):
    from matplotlib import pyplot

    def refuse(*_, **__):
        raise AssertionError("something called show")

    monkeypatch.setattr(pyplot, "show", refuse)
    monkeypatch.setattr(Figure, "show", refuse)
    yield
    pyplot.close("all")


def artist(ax, label):
    (found,) = [line for line in ax.get_lines() if line.get_label() == label]
    return found


def band(ax, label):
    (found,) = [patch for patch in ax.patches if patch.get_label() == label]
    return found.get_x(), found.get_x() + found.get_width()


def labels_of(ax):
    return [text for text in ax.texts if isinstance(text, Annotation)]


def pixels(png):
    return matplotlib.image.imread(io.BytesIO(png), format="png")


# --- one curve --------------------------------------------------------------------------------------------------------


def test_points_line_and_interval_are_drawn_as_computed(ax):
    plot_curve(CLEAN, advice_of(), ax)
    shown = CurveFigure(CLEAN, read_curve(CLEAN), advice_of())
    lrs, losses, smooth = shown.reading.lrs, shown.reading.losses, shown.reading.smooth
    np.testing.assert_array_equal(artist(ax, "raw").get_xydata(), np.column_stack([lrs, losses]))
    np.testing.assert_array_equal(artist(ax, "smoothed").get_xydata(), np.column_stack([lrs, smooth]))
    assert band(ax, "interval") == pytest.approx(shown.interval)
    assert ax.get_xlim() == pytest.approx(shown.axis[1]) and ax.get_ylim() == pytest.approx(shown.y_limits)


def test_each_mark_is_a_line_a_marker_and_a_label(ax):
    plot_curve(CLEAN, advice_of(), ax)
    marks = CurveFigure(CLEAN, read_curve(CLEAN), advice_of()).marks
    assert all(list(artist(ax, mark.role).get_xdata()) == [mark.x, mark.x] for mark in marks)
    markers = [tuple(line.get_xydata()[0]) for line in ax.get_lines() if len(line.get_xdata()) == 1]
    assert markers == [(mark.x, mark.y) for mark in marks]
    assert [text.get_text().strip() for text in labels_of(ax)] == [mark.label for mark in marks]


def test_the_texts_around_the_axes_are_those_of_the_figure(ax):
    plot_curve(CLEAN, advice_of(), ax)
    shown = CurveFigure(CLEAN, read_curve(CLEAN), advice_of())
    assert ax.get_title(loc="left") == f"{shown.title}\n{shown.subtitle}"
    assert (ax.get_xlabel(), ax.get_ylabel()) == (shown.xlabel, shown.ylabel)


def test_narrow_axes_leave_out_the_second_line_of_the_title():
    ax = Figure(figsize=(3, 2), layout="constrained").subplots()
    plot_curve(CLEAN, advice_of(), ax)
    assert ax.get_title(loc="left") == "Range test, grade: high"


def test_a_given_reading_is_drawn_and_the_curve_is_not_read_again(ax):
    reading = dataclasses.replace(read_curve(CLEAN), edge_lr=0.5)
    plot_curve(CLEAN, ax=ax, reading=reading)
    assert [text.get_text().strip() for text in labels_of(ax)] == ["edge 0.5"]


@pytest.mark.parametrize("name", ["clean", "linear"])
def test_the_scale_of_the_axis_is_that_of_the_sweep(ax, name):
    scale = {"clean": "log", "linear": "linear"}[name]
    assert plot_curve(ODD_CURVES[name], ax=ax).get_xscale() == scale


def test_the_regimes_are_named_where_there_is_room(ax):
    plot_curve(curve_of(falls_and_breaks, end_lr=3.0), ax=ax)
    assert [text.get_text() for text in ax.texts][:3] == ["flat", "falling", "unstable"]
    plot_curve(CLEAN, ax=(narrow := Figure().subplots()))
    assert [text.get_text() for text in narrow.texts][:2] == ["flat", "falling"]
    assert "unstable" not in [text.get_text() for text in narrow.texts]


@pytest.mark.parametrize("factor, offset", [(1e6, 0.0), (1e-9, 0.0), (1.0, 1e6)])
def test_the_common_factor_of_the_losses_is_beside_the_labels(ax, factor, offset):
    curve = curve_of(lambda lrs: factor * falls_and_breaks(lrs) + offset, noise=0.02 * factor)
    plot_curve(curve, advice_of(2e-5, 3e-5), ax)
    ax.figure.canvas.draw()
    text = ax.yaxis.get_offset_text()
    assert text.get_text() != "" and text.get_window_extent().x1 <= ax.get_window_extent().x0 + 1
    assert text.get_window_extent().x0 >= 0


def test_a_logarithmic_loss_axis_is_kept_and_warns_of_nothing(ax):
    ax.set_yscale("log")
    curve = curve_of(lambda lrs: falls_and_breaks(lrs) - 0.35, noise=0.0)  # the margin below would end at 0
    plot_curve(curve, advice_of(), ax)
    ax.figure.canvas.draw()  # warnings are errors in this test suite
    assert ax.get_yscale() == "log" and 0 < ax.get_ylim()[0] <= min(curve.losses)


def test_names_and_labels_stay_at_their_places_when_the_axis_moves(ax):
    curve = curve_of(falls_and_breaks, end_lr=3.0)
    onset, edge = (reading := read_curve(curve)).onset_lr, reading.edge_lr
    plot_curve(curve, ax=ax)
    ax.set_xlim(onset * 1.5, edge / 1.5)
    ax.figure.canvas.draw()
    flat, falling, unstable, label = ax.texts
    left, right = ax.get_window_extent().intervalx
    places = [ax.transData.transform((lr, 1))[0] for lr in (onset, edge)]
    assert flat.get_window_extent().x1 < places[0] < left < right < places[1] < unstable.get_window_extent().x0
    assert places[0] < falling.get_window_extent().x0 < falling.get_window_extent().x1 < places[1]
    assert flat.get_clip_on() and unstable.get_clip_on()
    assert label.get_text().strip().startswith("edge") and label.get_tightbbox().width <= 0  # not drawn outside


def test_too_few_points_are_said_to_be_too_few(ax):
    plot_curve(ODD_CURVES["one pair"], ax=ax)
    assert [text.get_text() for text in ax.texts] == ["too few points: 1 of at least 9"]


def test_marks_differ_in_dashes_and_in_markers_too(ax):
    plot_curve(CLEAN, advice_of(), ax)
    assert len({artist(ax, name).get_linestyle() for name in ("base_lr", "max_lr", "edge", "smoothed")}) == 4
    markers = [line.get_marker() for line in ax.get_lines() if len(line.get_xdata()) == 1]
    assert len(markers) == len(set(markers)) == 3


@pytest.mark.parametrize("base_lr, max_lr", [(0.1, 0.1), (0.1, 0.101), (0.101, 0.1)])
def test_the_lower_of_two_markers_at_one_place_keeps_a_visible_rim(ax, base_lr, max_lr):
    plot_curve(CLEAN, advice_of(base_lr, max_lr), ax)
    markers = {line.get_marker(): line for line in ax.get_lines() if len(line.get_xdata()) == 1}
    base, peak = markers["o"], markers["^"]
    assert base.get_zorder() < peak.get_zorder() and base.get_markersize() > peak.get_markersize()


@pytest.mark.parametrize(
    "base_lr, max_lr", [(0.09, 0.14), (0.3, 0.31), (0.3, 0.3), (2e-5, 2.1e-5), (1e-5, 0.9), (5.0, 7.0)]
)
@pytest.mark.parametrize("width", [6.4, 3.2])
def test_labels_touch_nothing_however_close_the_marks_are(base_lr, max_lr, width):
    figure = Figure(figsize=(width, 4.0), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    ax = plot_curve(CLEAN, advice_of(base_lr, max_lr), figure.subplots())
    canvas.draw()
    labels = labels_of(ax)
    marks = [mark for mark in CurveFigure(CLEAN, read_curve(CLEAN), advice_of(base_lr, max_lr)).marks if mark.label]
    lines = [ax.transData.transform((mark.x, 1))[0] for mark in marks]
    boxes = [Text.get_window_extent(text) for text in labels]  # without its pole
    everything = [*boxes, ax._left_title.get_window_extent()]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(everything, 2))
    assert all(box.y0 >= ax.get_window_extent().y1 for box in boxes)  # above the axes: nothing is drawn there
    assert all(0 <= box.x0 and box.x1 <= canvas.get_width_height()[0] for box in boxes)
    for i, box in enumerate(boxes):
        assert min(abs(box.x0 - lines[i]), abs(box.x1 - lines[i])) < 10  # beside its own line
        for j, line in enumerate(lines):  # and no other line runs through it on the way up to its own label
            assert j == i or boxes[j].y1 <= box.y1 or not box.x0 < line < box.x1


def test_plots_in_a_plain_grid_do_not_touch():
    figure = Figure(figsize=(12, 12))
    canvas = FigureCanvasAgg(figure)
    grid = figure.subplots(2, 2)
    for ax in grid[:, 0]:
        plot_curve(CLEAN, advice_of(), ax)
    for ax in grid[:, 1]:
        plot_recipe(RECIPES["onecycle"], ax)
    canvas.draw()
    for column in (0, 1):
        upper, lower = (ax.get_tightbbox() for ax in grid[:, column])
        assert upper.y1 <= figure.bbox.y1 and lower.y1 <= upper.y0
    places = [ax.get_position().bounds for ax in figure.axes]
    assert places.count(grid[0, 1].get_position().bounds) == 2  # the momentum axis moved along


def test_drawing_again_on_cleared_axes_takes_no_more_room():
    figure = Figure()
    canvas = FigureCanvasAgg(figure)
    ax = figure.subplots()
    heights = []
    for _ in range(3):
        ax.cla()
        plot_curve(CLEAN, advice_of(), ax)
        canvas.draw()
        heights.append(ax.get_window_extent().height)
    assert len(set(heights)) == 1
    pickle.dumps(figure)


@pytest.mark.parametrize("ends", [(3e-3, 0.13), (1e-3, 0.03), (2e-3, 0.015)])
def test_texts_below_narrow_axes_touch_nothing(ends):
    figure = Figure(figsize=(10, 4), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    start_lr, end_lr = ends
    curve = curve_of(falls_and_breaks, start_lr=start_lr, end_lr=end_lr, stop=StopReason.NONFINITE)
    grid = [plot_curve(curve, ax=ax) for ax in figure.subplots(1, 3)]
    canvas.draw()
    boxes = [ax.xaxis.label.get_window_extent() for ax in grid]
    for ax in grid:
        ticks = [tick.get_window_extent() for tick in ax.get_xticklabels(which="both") if tick.get_text()]
        left, right = ax.get_window_extent().intervalx
        boxes += [box for box in ticks if left <= (box.x0 + box.x1) / 2 <= right]  # others are not drawn
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    assert max(box.x1 for box in boxes) <= figure.bbox.x1


def test_tight_layout_after_the_plot_has_room_for_titles_and_labels():
    figure = Figure(figsize=(10, 7))
    canvas = FigureCanvasAgg(figure)
    grid = figure.subplots(2, 1)
    for ax in grid:
        plot_curve(CLEAN, advice_of(), ax)
    figure.tight_layout()
    canvas.draw()
    upper, lower = (ax.get_tightbbox() for ax in grid)
    assert upper.y1 <= figure.bbox.y1 and lower.y1 <= upper.y0


@pytest.mark.parametrize("advice", [None, NO_ADVICE, advice_of()], ids=["no advice", "grade none", "advice"])
@pytest.mark.parametrize("name", ODD_CURVES)
def test_every_odd_curve_draws_without_a_warning(name, advice):
    figure = Figure(dpi=40)
    canvas = FigureCanvasAgg(figure)
    plot_curve(ODD_CURVES[name], advice, figure.subplots())
    canvas.draw()  # warnings are errors in this test suite


def test_without_axes_a_pyplot_figure_is_made():
    from matplotlib import pyplot

    first, second = plot_curve(CLEAN), plot_curve(CLEAN)
    assert isinstance(first, Axes) and first is not second
    assert pyplot.gcf() is second.figure  # so that plt.savefig saves the plot made last
    assert len(pyplot.get_fignums()) == 2


def test_given_axes_are_used_and_no_figure_is_made(ax):
    from matplotlib import pyplot

    assert plot_recipe(RECIPES["cosine"], ax) is ax
    assert plot_curve(CLEAN, advice_of(), ax) is ax
    assert plot_curves({"a": CLEAN}, ax) is ax
    assert pyplot.get_fignums() == []


def test_what_is_no_curve_or_no_axes_is_refused_with_the_mend(ax):
    result = RangeTestResult(curve=CLEAN)
    for use in (plot_curve, advise, slide, lambda result: plot_curves({"one": result}, ax)):
        with pytest.raises(ConfigError, match=r"as result\.curve is one; got a RangeTestResult"):
            use(result)
    with pytest.raises(ConfigError, match="got a list. Pass a dictionary"):
        plot_curves([CLEAN], ax)
    for wrong, name in ((Figure().subplots(1, 2), "ndarray"), ("lr.png", "str"), (ax.figure, "Figure")):
        with pytest.raises(ConfigError, match=f"got a {name}. Of several axes give one"):
            result.plot(wrong)
        with pytest.raises(ConfigError, match=f"got a {name}"):
            plot_recipe(RECIPES["cosine"], wrong)


def test_text_has_the_colour_of_the_current_style(ax):
    with matplotlib.rc_context({"text.color": "#123456"}):
        plot_curve(CLEAN, advice_of(), ax)
    assert {text.get_color() for text in ax.texts if text.get_text()} == {"#123456"}


# --- several curves ---------------------------------------------------------------------------------------------------


def test_several_curves_are_drawn_as_computed(ax):
    curves = {"SGD": CLEAN, "no edge": ODD_CURVES["never turned"]}
    plot_curves(curves, ax)
    for line in curves_figure(curves).lines:
        drawn = artist(ax, line.label)
        np.testing.assert_array_equal(drawn.get_xydata(), np.column_stack([line.lrs, line.parts]))
        assert drawn.get_markevery() == ([] if line.edge is None else [line.edge])


@pytest.mark.parametrize("count", [2, len(ODD_CURVES)])
def test_the_legend_has_the_label_of_every_curve(ax, count):
    curves = dict(list(ODD_CURVES.items())[:count])
    plot_curves(curves, ax)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == [line.label for line in curves_figure(curves).lines]


@pytest.mark.parametrize("count", [2, 6, 12])
def test_the_legend_is_within_a_figure_without_a_layout(count):
    figure = Figure()
    canvas = FigureCanvasAgg(figure)
    ax = plot_curves({f"run number {i}": CLEAN for i in range(count)}, figure.subplots())
    canvas.draw()
    box = ax.get_legend().get_window_extent()
    assert box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1


def test_many_overlaid_curves_all_look_different(ax):
    plot_curves({f"run {i}": CLEAN for i in range(20)}, ax)
    looks = {(line.get_color(), line.get_linestyle(), line.get_marker()) for line in ax.get_lines()}
    assert len(looks) == 20


def test_a_few_and_many_odd_curves_overlay_without_a_warning():
    for curves in (ODD_CURVES, dict(list(ODD_CURVES.items())[:8])):
        assert figure_png(lambda ax: plot_curves(curves, ax), dpi=50)


def test_one_curve_is_accepted_and_none_is_refused(ax):
    with pytest.raises(ConfigError, match="at least one curve; got none"):
        plot_curves({}, ax)
    assert plot_curves({"one": CLEAN}, ax).get_lines()


# --- images in memory -------------------------------------------------------------------------------------------------


def test_a_png_leaves_settings_and_pyplot_as_they_were():
    from matplotlib import pyplot

    before = dict(matplotlib.rcParams)
    figure_png(lambda ax: plot_curve(CLEAN, advice_of(), ax), dark=True)
    assert dict(matplotlib.rcParams) == before
    assert pyplot.get_fignums() == []


def test_a_png_does_not_depend_on_the_callers_settings():
    def draw(ax):
        plot_curve(CLEAN, advice_of(), ax)

    plain = figure_png(draw)
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red", "lines.linewidth": 9}):
        assert figure_png(draw) == plain


def test_a_png_has_the_size_and_the_background_asked_for():
    def draw(ax):
        plot_curve(CLEAN, ax=ax)

    light, dark = (pixels(figure_png(draw, dark=dark, size=(5, 3), dpi=60)) for dark in (False, True))
    assert light.shape[:2] == dark.shape[:2] == (180, 300)
    assert light[0, 0, :3].min() > 0.95 and dark[0, 0, :3].max() < 0.15


def test_a_failing_draw_function_still_restores_the_settings():
    before = dict(matplotlib.rcParams)
    with pytest.raises(ZeroDivisionError):
        figure_png(lambda ax: 1 / 0, dark=True)
    assert dict(matplotlib.rcParams) == before


# --- schedules --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECIPES)
def test_a_schedule_is_drawn_as_computed(ax, name):
    shown = schedule_figure(RECIPES[name])
    plot_recipe(RECIPES[name], ax)
    assert tuple(artist(ax, "learning rate").get_xdata()) == shown.times
    assert tuple(artist(ax, "learning rate").get_ydata()) == shown.lrs
    assert ax.get_title(loc="left") == "\n".join(filter(None, [shown.title, shown.subtitle]))
    assert [text.get_text().strip() for text in labels_of(ax)] == [mark.label for mark in shown.marks]
    assert [band(ax, "warm-up")] == [(0, shown.warmup)] if shown.warmup else not ax.patches


@pytest.mark.parametrize("name", RECIPES)
def test_the_momentum_has_an_axis_where_the_schedule_moves_it(ax, name):
    shown = schedule_figure(RECIPES[name])
    plot_recipe(RECIPES[name], ax)
    twins = [twin for twin in ax.figure.axes if twin is not ax]
    assert [tuple(artist(twin, "momentum").get_ydata()) for twin in twins] == ([shown.momenta] if shown.momenta else [])


def test_small_learning_rates_are_written_out_beside_their_ticks(ax):
    plot_recipe(RECIPES["linear, one step"], ax)
    ax.figure.canvas.draw()
    assert ax.yaxis.get_offset_text().get_text() == ""


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_draws_without_a_warning(name):
    assert figure_png(lambda ax: plot_recipe(RECIPES[name], ax), dpi=40)


NARROW_AND_WIDE = [(1e-3, 1.02e-3), (1.2e-3, 2e-3), (2e-6, 7e-5), (1e-3, 9e-3), (2e-3, 1.0), (1e-10, 1e4)]


@pytest.mark.parametrize("limits", NARROW_AND_WIDE)
def test_labels_of_the_lr_axis_do_not_touch(limits):
    figure = Figure(figsize=(6.4, 3.2))
    ax = figure.subplots()
    set_axis(ax, "log", limits)
    figure.canvas.draw()
    labels = [label for minor in (False, True) for label in ax.get_xticklabels(minor=minor) if label.get_text()]
    low, high = ax.bbox.x0 - 1, ax.bbox.x1 + 1
    boxes = sorted((box.x0, box.x1) for box in (label.get_window_extent() for label in labels))
    boxes = [box for box in boxes if low <= sum(box) / 2 <= high]
    assert len(boxes) >= 2 and all(left[1] < right[0] for left, right in itertools.pairwise(boxes))
