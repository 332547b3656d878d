"""What the pictures promise: the numbers drawn are the numbers known, on any curve, without side effects."""

from __future__ import annotations

import io
import itertools

import matplotlib.image
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from lrfinder.advice import Advice
from lrfinder.curve import LossCurve, StopReason, SweepConfig
from lrfinder.edges import read_curve
from lrfinder.errors import ConfigError
from lrfinder.plotting import figure_png, plot_curve, plot_curves, plot_recipe
from lrfinder.recipes import recipe

NO_ADVICE = Advice(max_lr=None, base_lr=None, min_lr=None, interval=None, grade="none", reasons=("Flat.",))


def falls_and_breaks(lrs):
    return 0.4 + 1.9 / (1 + (lrs / 0.01) ** 0.9) + (lrs / 0.7) ** 3


def curve_of(loss, *, n=100, start_lr=1e-5, end_lr=1.0, mode="exp", noise=0.02, stop=StopReason.DIVERGED, **facts):
    config = SweepConfig(start_lr=start_lr, end_lr=end_lr, num_iter=max(n, 2), mode=mode)
    lrs = np.array([config.lr_at(i) for i in range(n)])
    losses = loss(lrs) + noise * np.random.default_rng(0).standard_normal(n)
    return LossCurve(lrs=tuple(lrs.tolist()), losses=tuple(losses.tolist()), stop=stop, config=config, **facts)


def advice_of(base_lr=0.09, max_lr=0.14, grade="high"):
    return Advice(
        max_lr=max_lr,
        base_lr=base_lr,
        min_lr=base_lr / 50,
        interval=(base_lr / 3, base_lr * 2),
        grade=grade,
        reasons=("A reason.",),
        edge_lr=None,
    )


ODD_CURVES = {
    "clean": curve_of(falls_and_breaks),
    "noisy": curve_of(falls_and_breaks, noise=0.3),
    "no point": curve_of(falls_and_breaks, n=0),
    "one loss, so no pair": curve_of(falls_and_breaks, n=1),
    "one pair": curve_of(falls_and_breaks, n=2),
    "two pairs": curve_of(falls_and_breaks, n=3),
    "constant": curve_of(lambda lrs: 2.3 + 0 * lrs, noise=0.0, stop=StopReason.COMPLETED),
    "zero": curve_of(lambda lrs: 0 * lrs, noise=0.0, stop=StopReason.COMPLETED),
    "only noise": curve_of(lambda lrs: 2.3 + 0 * lrs, stop=StopReason.COMPLETED),
    "never turned": curve_of(falls_and_breaks, end_lr=0.1, stop=StopReason.COMPLETED),
    "only rises": curve_of(lambda lrs: lrs**2),
    "nonfinite": curve_of(falls_and_breaks, end_lr=0.3, stop=StopReason.NONFINITE, nonfinite_lr=0.31),
    "nonfinite at once": curve_of(falls_and_breaks, n=0, stop=StopReason.NONFINITE),
    "interrupted": curve_of(falls_and_breaks, n=30, stop=StopReason.INTERRUPTED),
    "linear": curve_of(falls_and_breaks, start_lr=1e-3, mode="linear"),
    "one linear point": curve_of(falls_and_breaks, n=1, start_lr=1e-3, mode="linear"),
    "negative losses": curve_of(lambda lrs: falls_and_breaks(lrs) - 50),
    "validation": curve_of(falls_and_breaks, measured="after"),
    "ten orders of magnitude": curve_of(lambda lrs: falls_and_breaks(lrs) + 1e10 * np.maximum(lrs - 0.5, 0) ** 4),
    "huge losses": curve_of(lambda lrs: 1e300 * falls_and_breaks(lrs), noise=0.0),
    "almost infinite": curve_of(lambda lrs: falls_and_breaks(lrs) + 1e308 * (lrs > 0.9)),
    "tiny losses": curve_of(lambda lrs: 1e-300 * falls_and_breaks(lrs), noise=0.0),
}

RECIPES = {
    "onecycle": recipe("onecycle", peak_lr=0.1, epochs=30, steps_per_epoch=100),
    "onecycle without momentum": recipe("onecycle", peak_lr=0.1, total_steps=100, cycle_momentum=False),
    "cosine": recipe("cosine", peak_lr=0.1, total_steps=1000),
    "step, per epoch": recipe("step", peak_lr=0.1, epochs=90),
    "multistep": recipe("multistep", peak_lr=0.1, total_steps=1000),
    "exponential, long": recipe("exponential", peak_lr=0.1, total_steps=2_000_000),
    "linear, one step": recipe("linear", peak_lr=1e-5, total_steps=1, warmup_steps=0),
    "plateau": recipe("plateau", peak_lr=0.1),
    "plateau with epochs": recipe("plateau", peak_lr=0.1, epochs=20),
    "cyclic": recipe("cyclic", peak_lr=0.1, total_steps=1000),
    "restarts": recipe("restarts", peak_lr=0.1, total_steps=700),
    "wsd": recipe("wsd", peak_lr=3e-4, total_steps=5000),
    "constant": recipe("constant", peak_lr=0.1),
    "constant after warm-up": recipe("constant", peak_lr=0.1, warmup_steps=400),
}


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
    (found,) = [line for line in ax.get_lines() if str(line.get_label()).startswith(label)]
    return found


def drawn_texts(ax):
    texts = [ax.title, ax._left_title, ax.xaxis.label, ax.yaxis.label, *ax.texts]
    return " | ".join(text.get_text() for text in texts if text.get_text())


def pixels(png):
    return matplotlib.image.imread(io.BytesIO(png), format="png")


def test_the_points_drawn_are_the_causal_pairs_and_the_line_is_the_zero_lag_smoothing(ax):
    curve = ODD_CURVES["noisy"]
    plot_curve(curve, ax=ax)
    lrs, losses = curve.pairs()
    np.testing.assert_array_equal(artist(ax, "raw").get_xydata(), np.column_stack([lrs, losses]))
    reading = read_curve(curve)
    np.testing.assert_array_equal(artist(ax, "smoothed").get_xydata(), np.column_stack([reading.lrs, reading.smooth]))


def test_each_mark_stands_at_its_learning_rate_and_says_it(ax):
    curve, advice = ODD_CURVES["clean"], advice_of()
    plot_curve(curve, advice, ax)
    edge_lr = read_curve(curve).edge_lr
    for name, lr in (("base_lr", 0.09), ("max_lr", 0.14), ("edge", edge_lr)):
        line = artist(ax, name)
        assert list(line.get_xdata()) == [lr, lr]
        assert f"{name} {lr:.2g}" in drawn_texts(ax)  # two digits are what a sweep can tell
    (band,) = [patch for patch in ax.patches if patch.get_label() == "interval"]
    assert (band.get_x(), band.get_x() + band.get_width()) == pytest.approx((0.03, 0.18))
    assert "best in 0.03 to 0.18" in drawn_texts(ax)


def test_marks_differ_in_dashes_and_in_markers_not_only_in_colour(ax):
    plot_curve(ODD_CURVES["clean"], advice_of(), ax)
    assert len({artist(ax, name).get_linestyle() for name in ("base_lr", "max_lr", "edge", "smoothed")}) == 4
    markers = [line.get_marker() for line in ax.get_lines() if len(line.get_xdata()) == 1]
    assert len(markers) == len(set(markers)) == 3


@pytest.mark.parametrize("base_lr, max_lr", [(0.1, 0.1), (0.1, 0.101), (0.101, 0.1)])
def test_of_two_markers_at_one_place_the_lower_stays_visible_as_a_rim(ax, base_lr, max_lr):
    plot_curve(ODD_CURVES["clean"], advice_of(base_lr, max_lr), ax)
    base, peak = (next(line for line in ax.get_lines() if line.get_marker() == shape) for shape in "o^")
    assert base.get_zorder() < peak.get_zorder() and base.get_markersize() > peak.get_markersize()


def test_markers_sit_on_the_smoothed_curve(ax):
    curve = ODD_CURVES["clean"]
    plot_curve(curve, advice_of(), ax)
    reading = read_curve(curve)
    for line in ax.get_lines():
        if len(line.get_xdata()) == 1:
            level = np.interp(np.log(line.get_xdata()[0]), np.log(reading.lrs), reading.smooth)
            assert line.get_ydata()[0] == pytest.approx(level)


@pytest.mark.parametrize("grade", ["high", "medium", "low"])
def test_the_grade_is_in_the_title(ax, grade):
    plot_curve(ODD_CURVES["clean"], advice_of(grade=grade), ax)
    assert f"grade: {grade}" in ax.get_title(loc="left")


@pytest.mark.parametrize("stop", StopReason)
def test_the_picture_says_why_the_sweep_ended_and_where(ax, stop):
    curve = curve_of(falls_and_breaks, end_lr=0.5, stop=stop)
    plot_curve(curve, ax=ax)
    words = {
        StopReason.COMPLETED: "swept to 0.5",
        StopReason.DIVERGED: "stopped at 0.5: the loss diverged",
        StopReason.NONFINITE: "stopped at 0.5: the loss became nan or infinite",
        StopReason.DATA_EXHAUSTED: "stopped at 0.5: the loader ran out of batches",
        StopReason.INTERRUPTED: "stopped at 0.5: interrupted",
    }
    assert words[stop] in ax.get_xlabel()


def test_a_nonfinite_loss_is_placed_at_the_learning_rate_that_made_it(ax):
    plot_curve(ODD_CURVES["nonfinite"], ax=ax)
    assert "stopped at 0.31" in ax.get_xlabel()


def test_a_validation_curve_is_called_one(ax):
    assert plot_curve(ODD_CURVES["validation"], ax=ax).get_ylabel().startswith("validation loss")


def test_the_learning_rate_axis_is_logarithmic_unless_the_sweep_was_linear(ax):
    assert plot_curve(ODD_CURVES["clean"], ax=ax).get_xscale() == "log"
    assert plot_curve(ODD_CURVES["linear"], ax=Figure().subplots()).get_xscale() == "linear"


def test_a_blow_up_over_ten_orders_of_magnitude_leaves_the_fall_filling_the_picture(ax):
    plot_curve(ODD_CURVES["ten orders of magnitude"], advice_of(), ax)
    low, high = ax.get_ylim()
    assert low < 0.5 and 2.3 < high < 3.5


def test_a_spike_among_quiet_losses_does_not_set_the_scale(ax):
    curve = curve_of(lambda lrs: falls_and_breaks(lrs) + 1e4 * (np.arange(len(lrs)) == 20), end_lr=0.3)
    assert plot_curve(curve, ax=ax).get_ylim()[1] < 5


def test_scaling_and_shifting_the_loss_scales_and_shifts_the_picture():
    bottoms = []
    for scale, shift in ((1.0, 0.0), (1000.0, -500.0)):
        curve = curve_of(lambda lrs: scale * falls_and_breaks(lrs) + shift, noise=0.0)
        limits = np.array(plot_curve(curve, ax=Figure().subplots()).get_ylim())
        bottoms.append((limits - shift) / scale)
    np.testing.assert_allclose(bottoms[0], bottoms[1], rtol=1e-6)


@pytest.mark.parametrize(
    "base_lr, max_lr", [(0.09, 0.14), (0.3, 0.31), (0.3, 0.3), (2e-5, 2.1e-5), (1e-5, 0.9), (5.0, 7.0)]
)
@pytest.mark.parametrize("width", [6.4, 3.2])
def test_labels_touch_neither_each_other_nor_the_curve_however_close_the_marks_are(base_lr, max_lr, width):
    figure = Figure(figsize=(width, 4.0), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    ax = plot_curve(ODD_CURVES["clean"], advice_of(base_lr, max_lr), figure.subplots())
    canvas.draw()
    labels = [text for text in ax.texts if isinstance(text, Annotation) and text.get_text()]
    assert len(labels) == 3
    boxes = [text.get_window_extent() for text in labels] + [ax._left_title.get_window_extent()]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    assert all(box.y0 >= ax.get_window_extent().y1 for box in boxes)  # above the axes: nothing is drawn there
    assert all(0 <= box.x0 and box.x1 <= canvas.get_width_height()[0] for box in boxes)
    lrs = sorted([base_lr, max_lr, read_curve(ODD_CURVES["clean"]).edge_lr])
    lines = [ax.transData.transform((lr, 1))[0] for lr in lrs]
    for i, box in enumerate(boxes[:3]):
        assert min(abs(box.x0 - lines[i]), abs(box.x1 - lines[i])) < 10  # beside its own line
        for j, line in enumerate(lines):  # and no other line runs through it on the way up to its own label
            assert j == i or boxes[j].y1 <= box.y1 or not box.x0 < line < box.x1


def test_in_a_plain_grid_of_axes_nothing_leaves_the_figure_or_touches_the_neighbours():
    figure = Figure(figsize=(12, 12))
    canvas = FigureCanvasAgg(figure)
    grid = figure.subplots(2, 2)
    for ax in grid[:, 0]:
        plot_curve(ODD_CURVES["clean"], advice_of(), ax)
    for ax in grid[:, 1]:
        plot_recipe(RECIPES["onecycle"], ax)
    canvas.draw()
    for column in (0, 1):
        upper, lower = (ax.get_tightbbox() for ax in grid[:, column])
        assert upper.y1 <= figure.bbox.y1 and lower.y1 <= upper.y0
    places = [ax.get_position().bounds for ax in figure.axes]
    assert places.count(grid[0, 1].get_position().bounds) == 2  # the momentum axis moved along


def test_the_regimes_are_named_where_there_is_room(ax):
    plot_curve(curve_of(falls_and_breaks, end_lr=3.0), ax=ax)
    assert [text.get_text() for text in ax.texts][:3] == ["flat", "falling", "unstable"]
    never = plot_curve(ODD_CURVES["never turned"], ax=Figure().subplots())
    assert "falling" in drawn_texts(never) and "unstable" not in drawn_texts(never)


@pytest.mark.parametrize("advice", [None, NO_ADVICE, advice_of()], ids=["no advice", "grade none", "advice"])
@pytest.mark.parametrize("name", ODD_CURVES)
def test_every_odd_curve_draws_without_a_warning(name, advice):
    figure = Figure(dpi=40)
    canvas = FigureCanvasAgg(figure)
    plot_curve(ODD_CURVES[name], advice, figure.subplots())
    canvas.draw()  # warnings are errors in this test suite


def test_without_axes_a_new_figure_is_made_for_the_caller_to_show_or_save():
    from matplotlib import pyplot

    first, second = plot_curve(ODD_CURVES["clean"]), plot_curve(ODD_CURVES["clean"])
    assert isinstance(first, Axes) and first is not second
    assert pyplot.gcf() is second.figure  # so that plt.savefig saves the picture made last
    assert len(pyplot.get_fignums()) == 2


def test_given_axes_are_used_and_no_figure_is_made(ax):
    from matplotlib import pyplot

    assert plot_recipe(RECIPES["cosine"], ax) is ax
    assert plot_curve(ODD_CURVES["clean"], advice_of(), ax) is ax
    assert plot_curves({"a": ODD_CURVES["clean"]}, ax) is ax
    assert pyplot.get_fignums() == []


def test_text_has_the_colour_of_the_current_style(ax):
    with matplotlib.rc_context({"text.color": "#123456"}):
        plot_curve(ODD_CURVES["clean"], advice_of(), ax)
    assert {text.get_color() for text in ax.texts if text.get_text()} == {"#123456"}


def test_several_curves_share_one_scale_from_their_start_to_their_lowest(ax):
    curve = curve_of(falls_and_breaks, noise=0.0)
    shifted = curve_of(lambda lrs: 30 * falls_and_breaks(lrs) - 700, noise=0.0)
    plot_curves({"one": curve, "other": shifted}, ax)
    one, other = artist(ax, "one"), artist(ax, "other")
    np.testing.assert_allclose(one.get_ydata(), other.get_ydata(), atol=1e-6)
    assert min(one.get_ydata()) == pytest.approx(0, abs=1e-9)
    assert one.get_ydata()[0] == pytest.approx(1, abs=0.02)


def test_the_legend_has_each_label_with_its_own_levels_and_edge(ax):
    curve = ODD_CURVES["clean"]
    plot_curves({"SGD": curve, "no edge here": ODD_CURVES["never turned"]}, ax)
    words = [text.get_text() for text in ax.get_legend().get_texts()]
    assert words[0].startswith("SGD: 2.3 to 0.5") and f"edge {read_curve(curve).edge_lr:.2g}" in words[0]
    assert words[1].startswith("no edge here: ") and words[1].endswith("no edge")


def test_many_overlaid_curves_all_look_different(ax):
    plot_curves({f"run {i}": ODD_CURVES["clean"] for i in range(20)}, ax)
    looks = {(line.get_color(), line.get_linestyle(), line.get_marker()) for line in ax.get_lines()}
    assert len(looks) == 20


def test_a_few_and_many_odd_curves_overlay_without_a_warning():
    for curves in (ODD_CURVES, dict(list(ODD_CURVES.items())[:8])):
        assert figure_png(lambda ax: plot_curves(curves, ax), dpi=50)


def test_many_labels_stand_beside_the_axes_without_their_levels(ax):
    plot_curves(ODD_CURVES, ax)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(ODD_CURVES)


def test_a_curve_that_never_fell_stays_near_its_start_in_the_overlay(ax):
    plot_curves({"flat": ODD_CURVES["only noise"]}, ax)
    assert np.abs(artist(ax, "flat").get_ydata() - 1).max() < 0.5


def test_no_curves_at_all_are_refused_and_one_is_accepted(ax):
    with pytest.raises(ConfigError, match="at least one curve; got none"):
        plot_curves({}, ax)
    assert plot_curves({"one": ODD_CURVES["clean"]}, ax).get_lines()


def test_pictures_in_memory_leave_settings_and_pyplot_as_they_were():
    from matplotlib import pyplot

    before = dict(matplotlib.rcParams)
    figure_png(lambda ax: plot_curve(ODD_CURVES["clean"], advice_of(), ax), dark=True)
    assert dict(matplotlib.rcParams) == before
    assert pyplot.get_fignums() == []


def test_pictures_in_memory_do_not_depend_on_the_callers_settings():
    def draw(ax):
        plot_curve(ODD_CURVES["clean"], advice_of(), ax)

    plain = figure_png(draw)
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red", "lines.linewidth": 9}):
        assert figure_png(draw) == plain


def test_pictures_in_memory_have_the_size_asked_for_and_light_or_dark_ground():
    def draw(ax):
        plot_curve(ODD_CURVES["clean"], ax=ax)

    light, dark = (pixels(figure_png(draw, dark=dark, size=(5, 3), dpi=60)) for dark in (False, True))
    assert light.shape[:2] == dark.shape[:2] == (180, 300)
    assert light[0, 0, :3].min() > 0.95 and dark[0, 0, :3].max() < 0.15


def test_a_failing_drawing_still_restores_the_settings():
    before = dict(matplotlib.rcParams)
    with pytest.raises(ZeroDivisionError):
        figure_png(lambda ax: 1 / 0, dark=True)
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("name", RECIPES)
def test_the_learning_rate_and_the_momentum_drawn_are_those_of_the_recipe(ax, name):
    plan = RECIPES[name]
    plot_recipe(plan, ax)
    times = artist(ax, "learning rate").get_xdata().astype(int).tolist()
    assert [plan.lr_at(t) for t in times] == list(artist(ax, "learning rate").get_ydata())
    assert times[0] == 0 and times[-1] == (plan.total_steps or max(2 * plan.warmup_steps, 100)) - 1
    twins = [twin for twin in ax.figure.axes if twin is not ax]
    momenta = [plan.momentum_at(t) for t in times]
    assert len(twins) == (momenta[0] is not None)
    for twin in twins:
        assert list(artist(twin, "momentum").get_ydata()) == momenta


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_draws_without_a_warning(name):
    assert figure_png(lambda ax: plot_recipe(RECIPES[name], ax), dpi=40)


def test_peak_end_and_warm_up_of_a_recipe_are_marked(ax):
    plan = RECIPES["wsd"]
    plot_recipe(plan, ax)
    assert f"peak 0.0003 at batch {plan.warmup_steps} (after warm-up)" in drawn_texts(ax)
    assert f"end {plan.lr_at(4999):.2g}" in drawn_texts(ax)
    (band,) = [patch for patch in ax.patches if patch.get_label() == "warm-up"]
    assert (band.get_x(), band.get_x() + band.get_width()) == (0, plan.warmup_steps)


def test_a_recipe_without_warm_up_or_without_an_end_claims_neither(ax):
    plot_recipe(RECIPES["constant"], ax)
    assert not ax.patches and "warm-up" not in drawn_texts(ax) and "end " not in drawn_texts(ax)
    assert "goes on" in ax.get_xlabel()


def test_the_picture_of_a_recipe_says_where_the_step_belongs(ax):
    plot_recipe(RECIPES["step, per epoch"], ax)
    assert "scheduler.step() after every epoch" in ax.get_title(loc="left")
    assert ax.get_xlabel() == "epoch"
