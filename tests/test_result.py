"""The result: text, plots, recipes and schedulers made from it, and its file."""

from __future__ import annotations

import dataclasses
import io
import json
import pickle
import subprocess
import sys

import matplotlib.image
import pytest
from curves import breaks, curve_of
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from lrfinder.advice.advice import Advice
from lrfinder.advice.advise import advise
from lrfinder.analysis.regimes import read_curve
from lrfinder.display.text import describe
from lrfinder.errors import ConfigError, FileFormatError, NoAdviceError
from lrfinder.files import write_json
from lrfinder.recipes import recipe
from lrfinder.record.curve import StopReason
from lrfinder.record.facts import ModelFacts
from lrfinder.record.trials import Trial, TrialRecord
from lrfinder.result import RangeTestResult


def result_of(n=60, **facts):
    facts = {"stop": StopReason.DIVERGED, "batches": n, "optimizer": "SGD", "momentum": 0.9, **facts}
    curve = curve_of(breaks, start=1e-4, end=1.0, count=n, noise=0.01, measured="before", **facts)
    return RangeTestResult(curve=curve)


RESULT = result_of()
NO_ADVICE = Advice(max_lr=None, base_lr=None, min_lr=None, interval=None, grade="none", reasons=("The curve is flat.",))
TRIALS = TrialRecord(
    schedule="cosine",
    total_steps=100,
    budget_steps=30,
    initial_lr=0.1,
    start_loss=2.0,
    trials=(Trial(lr=0.1, steps=10, loss=1.0), Trial(lr=0.4, steps=10, loss=None)),
)
EMPTY_HANDED = RangeTestResult(curve=RESULT.curve, advice=NO_ADVICE)


def optimizer_of(lr=0.5):
    import torch

    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=lr, momentum=0.9)


def test_the_fixture_has_advice():
    assert RESULT.advice.grade != "none"


def test_a_result_is_a_frozen_value():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RESULT.curve = None
    assert result_of() == RESULT and hash(result_of()) == hash(RESULT)
    assert pickle.loads(pickle.dumps(RESULT)) == RESULT


def test_advice_that_is_not_given_is_that_of_the_curve():
    assert RangeTestResult(curve=RESULT.curve).advice == advise(RESULT.curve)
    assert RangeTestResult(curve=RESULT.curve, advice=NO_ADVICE).advice is NO_ADVICE
    with pytest.raises(dataclasses.FrozenInstanceError):
        RangeTestResult(curve=RESULT.curve).advice = NO_ADVICE


def test_the_reading_is_that_of_the_curve_and_made_once():
    result = RangeTestResult(curve=RESULT.curve, advice=NO_ADVICE)
    assert result.reading == read_curve(RESULT.curve)
    assert result.reading is result.reading


def test_using_a_result_changes_nothing_in_it(tmp_path):
    result, untouched = RangeTestResult(curve=RESULT.curve), RangeTestResult(curve=RESULT.curve)
    before = dict(vars(result))
    str(result), repr(result), hash(result), result.plot(Figure().subplots()), result._repr_html_()
    result.save(tmp_path / "lr.json")
    result.recipe("cosine", total_steps=100)
    assert vars(result) == before
    assert result == untouched and repr(result) == repr(untouched) and hash(result) == hash(untouched)
    assert pickle.loads(pickle.dumps(result)) == untouched


def test_a_reading_made_later_changes_no_comparison_and_no_text():
    early, late = (RangeTestResult(curve=RESULT.curve, advice=NO_ADVICE) for _ in range(2))
    assert early.reading is not None
    assert early == late and hash(early) == hash(late) and repr(early) == repr(late)
    assert early.to_dict() == late.to_dict()


@pytest.mark.parametrize(
    "result",
    [RESULT, EMPTY_HANDED, result_of(0), result_of(1), result_of(stop=StopReason.NONFINITE, nonfinite_lr=2.0)],
    ids=["advice", "no advice", "no point", "one point", "nonfinite"],
)
def test_saved_and_loaded_is_equal(tmp_path, result):
    assert result.save(tmp_path / "lr.json") == tmp_path / "lr.json"
    assert RangeTestResult.load(tmp_path / "lr.json") == result


@given(losses=st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=20))
def test_every_finite_loss_survives_the_file_bit_by_bit(tmp_path_factory, losses):
    curve = dataclasses.replace(RESULT.curve, lrs=RESULT.curve.lrs[: len(losses)], losses=tuple(losses))
    path = tmp_path_factory.mktemp("saved") / "lr.json"
    saved = RangeTestResult(curve=curve, advice=NO_ADVICE)
    saved.save(path)
    assert RangeTestResult.load(path) == saved


def test_save_and_show_write_the_one_dictionary_of_a_result(tmp_path):
    from click.testing import CliRunner

    from lrfinder.cli import main

    result = dataclasses.replace(RESULT, trials=TRIALS)
    path = result.save(tmp_path / "lr.json")
    content = json.loads(path.read_text())
    assert content == json.loads(json.dumps({"format": "lrfinder.result", "version": 1, **result.to_dict()}))
    assert content["trials"]["trials"]
    shown = CliRunner().invoke(main, ["show", str(path), "--json"])
    assert json.loads(shown.stdout) == {"decision": json.loads(json.dumps(result.decision.to_dict())), **content}
    assert RangeTestResult.from_dict(json.loads(shown.stdout)) == result


def test_a_file_of_curve_and_advice_alone_is_read(tmp_path):
    content = RESULT.to_dict()
    write_json(tmp_path / "lr.json", "result", {"curve": content["curve"], "advice": content["advice"]})
    assert RangeTestResult.load(tmp_path / "lr.json") == RESULT


def test_a_path_may_be_a_string(tmp_path):
    RESULT.save(str(tmp_path / "lr.json"))
    assert RangeTestResult.load(str(tmp_path / "lr.json")) == RESULT


@pytest.mark.parametrize("path", [".", "/", ""])
def test_a_folder_in_place_of_a_file_is_refused(path):
    with pytest.raises(ConfigError, match="folder"):
        RESULT.save(path)


def test_what_is_no_path_is_refused():
    with pytest.raises(ConfigError, match="a file must be named by a text or a path; got None"):
        RESULT.save(None)


def test_a_missing_folder_is_refused_and_an_existing_one_accepted(tmp_path):
    with pytest.raises(ConfigError, match="folder that exists"):
        RESULT.save(tmp_path / "missing" / "lr.json")
    (tmp_path / "missing").mkdir()
    assert RESULT.save(tmp_path / "missing" / "lr.json").exists()


def damaged(change):
    document = {"format": "lrfinder.result", "version": 1}
    document |= json.loads(json.dumps({"curve": RESULT.curve.to_dict(), "advice": RESULT.advice.to_dict()}))
    change(document)
    return json.dumps(document)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not json",
        "[]",
        "null",
        '{"losses": [1, 2]}',
        damaged(lambda document: document.update(format="lrfinder.recipe")),
        damaged(lambda document: document.update(version=2)),
        damaged(lambda document: document.pop("curve")),
        damaged(lambda document: document.pop("advice")),
        damaged(lambda document: document.update(more=1)),
        damaged(lambda document: document.update(trials={})),
        damaged(lambda document: document.update(race=None)),
        damaged(lambda document: document.update(curve=None)),
        damaged(lambda document: document.update(curve=[])),
        damaged(lambda document: document.update(advice=None)),
        damaged(lambda document: document.update(advice="high")),
        damaged(lambda document: document["curve"].pop("stop")),
        damaged(lambda document: document["curve"].update(stop="bored")),
        damaged(lambda document: document["curve"].update(lrs=[0.1])),
        damaged(lambda document: document["curve"].update(losses="abc")),
        damaged(lambda document: document["curve"].update(config=None)),
        damaged(lambda document: document["curve"]["config"].update(mode="spiral")),
        damaged(lambda document: document["advice"].pop("grade")),
        damaged(lambda document: document["advice"].update(grade="splendid")),
        damaged(lambda document: document["advice"].update(interval=[0.1])),
        damaged(lambda document: document["advice"].update(unknown=1)),
        damaged(lambda document: document["advice"].update(interval=[0.2, 0.1])),
        damaged(lambda document: document["advice"].update(interval=[0.0, 0.1])),
        damaged(lambda document: document["advice"].update(base_lr=-0.1)),
        damaged(lambda document: document["advice"].update(min_lr=1e9)),
        damaged(lambda document: document["advice"].update(edge_lr=0)),
        damaged(lambda document: document["advice"].update(peaks=[["cosine", -1]])),
        damaged(lambda document: document["advice"].update(peaks=[["cosin", 0.1]])),
        damaged(lambda document: document["advice"].update(base_lr="inf")),
        damaged(lambda document: document["advice"].update(base_lr=10**400)),
        damaged(lambda document: document["curve"].update(batches=10**400)),
        damaged(lambda document: document["curve"].update(batches=-1)),
        damaged(lambda document: document["curve"].update(skipped=0.5)),
        damaged(lambda document: document["curve"]["config"].update(num_iter=10**100)),
        damaged(lambda document: None).replace('"base_lr": ', '"base_lr": 1e999, "old": ', 1),
        damaged(lambda document: None).replace('"base_lr": ', f'"base_lr": {"9" * 5000}, "old": ', 1),
    ],
)
def test_a_damaged_or_foreign_file_is_refused_and_the_whole_one_accepted(tmp_path, text):
    path = tmp_path / "lr.json"
    path.write_text(text)
    with pytest.raises(FileFormatError):
        RangeTestResult.load(path)
    path.write_text(damaged(lambda document: None))
    assert RangeTestResult.load(path) == RESULT


HOSTILE = "SGD\x1b[2J\x07\x9b\u202e\ud800$x$<b>\r"


def test_names_from_a_file_reach_no_terminal_or_page_as_control(tmp_path):
    reasons = [f"The optimizer {HOSTILE} is unknown."]
    path = tmp_path / "lr.json"
    curve, advice = {"optimizer": HOSTILE}, {"reasons": reasons}
    path.write_text(damaged(lambda document: (document["curve"].update(curve), document["advice"].update(advice))))
    result = RangeTestResult.load(path)
    for text in (str(result), result._repr_html_()):
        assert not set("\x1b\x07\x9b\u202e\ud800\r") & set(text)
        text.encode("utf-8")
    assert r"SGD\x1b[2J" in str(result) and "<b>" not in result._repr_html_()


def test_a_missing_file_is_reported_as_missing(tmp_path):
    with pytest.raises(FileFormatError, match="No such file"):
        RangeTestResult.load(tmp_path / "nowhere.json")


def test_the_learning_rates_are_those_of_the_advice():
    assert RESULT.lr_for("cosine") == RESULT.advice.lr_for("cosine")
    assert RESULT.lr_for("onecycle", total_steps=9000) == RESULT.advice.lr_for("onecycle", 9000)


def test_a_recipe_has_the_advised_peak_for_its_kind_and_horizon():
    peak = RESULT.lr_for("cosine", 3000)
    by_steps = RESULT.recipe("cosine", total_steps=3000, warmup_steps=100)
    assert by_steps == recipe("cosine", peak_lr=peak, total_steps=3000, warmup_steps=100)


def test_a_recipe_by_epochs_has_the_advised_peak_as_well():
    made = RESULT.recipe("onecycle", epochs=30, steps_per_epoch=100)
    peak = RESULT.lr_for("onecycle", 3000)
    assert made == recipe("onecycle", peak_lr=peak, epochs=30, steps_per_epoch=100, cycle_momentum=True)


@pytest.mark.parametrize("kind", ["cosine", "constant", "plateau"])
def test_epochs_alone_are_as_long_as_the_loader_that_was_swept(kind):
    """Of 400 batches, in pairs: 50 epochs are 10,000 updates."""
    result = result_of(facts=ModelFacts(loader_batches=400, accumulation_steps=2))
    peak = result.lr_for(kind, 10_000)
    assert peak < result.lr_for(kind)
    assert result.recipe(kind, epochs=50).peak_lr == peak
    assert result.recipe(kind, epochs=50, steps_per_epoch=20).peak_lr == result.lr_for(kind, 1000)
    assert result_of(facts=ModelFacts()).recipe(kind, epochs=50).peak_lr == result.lr_for(kind)


@pytest.mark.parametrize("peak_lr", [None, 0.01])
def test_batches_in_place_of_updates_are_refused(peak_lr):
    """With len(train_loader) for steps_per_epoch the schedule of an accumulated training would never end."""
    result = result_of(facts=ModelFacts(loader_batches=401, accumulation_steps=2))
    with pytest.raises(ConfigError, match="counts updates; got 401, .* of which 2 make an update. Give 201"):
        result.recipe("cosine", epochs=3, steps_per_epoch=401, peak_lr=peak_lr)
    assert result.recipe("cosine", epochs=3, steps_per_epoch=201, peak_lr=peak_lr).total_steps == 603
    assert result.recipe("cosine", epochs=3, steps_per_epoch=200, peak_lr=peak_lr).total_steps == 600
    plain = result_of(facts=ModelFacts(loader_batches=401))
    assert plain.recipe("cosine", epochs=3, steps_per_epoch=401, peak_lr=peak_lr).total_steps == 1203
    one = result_of(facts=ModelFacts(loader_batches=1, accumulation_steps=4))
    assert one.recipe("cosine", epochs=3, steps_per_epoch=1, peak_lr=peak_lr).total_steps == 3


def test_the_accumulation_of_the_training_counts_the_updates_of_its_epochs():
    """Swept with two batches per update and trained with another number, such as one on a larger GPU."""
    result = result_of(facts=ModelFacts(loader_batches=400, accumulation_steps=2))
    plain = result.recipe("cosine", epochs=3, steps_per_epoch=400, accumulation_steps=1)
    assert (plain.total_steps, plain.updates.accumulation_steps) == (1200, 1)
    with pytest.raises(ConfigError, match="of which 4 make an update. Give 100: .* after 4 times"):
        result.recipe("cosine", epochs=3, steps_per_epoch=400, accumulation_steps=4)
    with pytest.raises(ConfigError, match="of which 2 make an update. Give 200"):
        result_of(facts=ModelFacts(loader_batches=400)).recipe(
            "cosine", epochs=3, steps_per_epoch=400, accumulation_steps=2
        )
    for steps in (1, 4):  # epochs alone are as long as that training
        peak = result.recipe("step", epochs=300, accumulation_steps=steps).peak_lr
        assert peak == result.lr_for("step", 300 * 400 // steps)
    with pytest.raises(ConfigError, match="accumulation_steps must be"):
        result.recipe("cosine", epochs=3, steps_per_epoch=400, accumulation_steps=0)


def test_the_printed_lines_use_the_optimizer_of_the_curve():
    result = result_of(group_scales=(1.0, 0.1), momentum=0.0)
    made = result.recipe("onecycle", peak_lr=0.1, total_steps=100)
    assert made.group_scales == (1.0, 0.1)
    assert "max_lr=[0.1, 0.01]" in made.code() and "cycle_momentum=False" in made.code()
    chosen = result.recipe("onecycle", peak_lr=0.1, total_steps=100, cycle_momentum=True)
    assert "cycle_momentum=True" in chosen.code()


def test_given_group_scales_win_over_those_of_the_curve():
    result = result_of(group_scales=(1.0, 0.1))
    made = result.recipe("cosine", peak_lr=0.1, total_steps=100, group_scales=[1.0, 0.5, 0.25])
    assert made == recipe("cosine", peak_lr=0.1, total_steps=100, group_scales=(1.0, 0.5, 0.25))


def test_a_given_peak_wins_over_the_advice_and_works_without_any():
    assert RESULT.recipe("linear", peak_lr=0.02, total_steps=500).peak_lr == 0.02
    assert EMPTY_HANDED.recipe("linear", peak_lr=0.02, total_steps=500).peak_lr == 0.02
    with pytest.raises(NoAdviceError, match="The curve is flat"):
        EMPTY_HANDED.recipe("linear", total_steps=500)


@pytest.mark.parametrize("epochs", [0, -3, 2.5, "ten"])
def test_an_impossible_length_is_refused_and_a_possible_one_accepted(epochs):
    with pytest.raises(ConfigError, match="epochs"):
        RESULT.recipe("cosine", epochs=epochs, steps_per_epoch=10)
    assert RESULT.recipe("cosine", epochs=5, steps_per_epoch=10)


def test_an_unknown_kind_is_refused_with_the_nearest_one():
    with pytest.raises(ConfigError, match="cosine"):
        RESULT.recipe("cosin", total_steps=100)


def test_the_scheduler_is_the_one_the_recipe_builds():
    optimizer, twin = optimizer_of(), optimizer_of()
    made = RESULT.scheduler("onecycle", optimizer, total_steps=200)
    expected = RESULT.recipe("onecycle", total_steps=200).build(twin)
    assert type(made) is type(expected)
    for _ in range(150):
        assert made.get_last_lr() == expected.get_last_lr()
        for stepped, scheduler in ((optimizer, made), (twin, expected)):
            stepped.step()
            scheduler.step()


def test_printed_it_is_the_report():
    assert str(RESULT) == describe(RESULT)


def test_plot_draws_curve_and_advice_on_the_axes_given():
    ax = Figure().subplots()
    assert RESULT.plot(ax) is ax
    assert any(str(line.get_label()).startswith("base_lr") for line in ax.get_lines())


@pytest.mark.parametrize("result", [RESULT, EMPTY_HANDED, result_of(0)], ids=["advice", "no advice", "no point"])
def test_a_notebook_gets_a_picture_and_a_page_and_no_open_figure(result):
    from matplotlib import pyplot

    image = matplotlib.image.imread(io.BytesIO(result._repr_png_()), format="png")
    assert image.shape[0] > 300 and image.shape[1] > 600
    page = result._repr_html_()
    assert page.count("data:image/png;base64,") == 2 and result.advice.grade in page
    assert pyplot.get_fignums() == []


@pytest.mark.parametrize(
    ("use", "packages"),
    [
        ("str(result); result.recipe('cosine', total_steps=100)", ("torch", "matplotlib", "scipy")),
        ("result.reading", ("torch", "matplotlib")),
    ],
    ids=["printing", "reading"],
)
def test_a_saved_result_is_opened_without_a_heavy_import(tmp_path, use, packages):
    RESULT.save(tmp_path / "lr.json")
    program = (
        f"import sys; from lrfinder import RangeTestResult; result = RangeTestResult.load(sys.argv[1]); {use}\n"
        f"print([name for name in {packages} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "lr.json")], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
