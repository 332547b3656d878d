"""Recipes before any torch is involved: units, defaults, values, files, and errors with their remedies."""

from __future__ import annotations

import ast
import json
import math
import pickle
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrfinder.errors import ConfigError, FileFormatError
from lrfinder.files import write_json
from lrfinder.recipes import Recipe, recipe
from lrfinder.schedules.code import scheduler_code
from lrfinder.schedules.defaults import make_schedule
from lrfinder.schedules.schedule import Schedule
from lrfinder.schedules.specs import Cyclic, Exponential, MultiStep, Restarts, Sequential, Step
from lrfinder.tables.kinds import KIND_TABLE, KINDS

STEP_KINDS = [kind for kind, row in KIND_TABLE.items() if row.unit == "step"]
kinds = pytest.mark.parametrize("kind", KINDS)
warmup_kinds = pytest.mark.parametrize("kind", [kind for kind, row in KIND_TABLE.items() if row.warmup])


def build(kind: str, **changes: Any) -> Recipe:
    return recipe(kind, **{"peak_lr": 0.1, "epochs": 6, "steps_per_epoch": 35, **changes})


@kinds
def test_a_recipe_is_a_frozen_value(kind: str) -> None:
    one, same, other = build(kind), build(kind), build(kind, peak_lr=0.2)
    assert one == same and hash(one) == hash(same)
    assert one != other
    assert f"kind='{kind}'" in repr(one)
    assert pickle.loads(pickle.dumps(one)) == one
    with pytest.raises(FrozenInstanceError):
        one.peak_lr = 1.0  # type: ignore[misc]


@kinds
def test_a_recipe_survives_json_and_files(kind: str, tmp_path: Path) -> None:
    one = build(kind, peak_lr=0.1 / 3, group_scales=(0.0, 1.0, 1 / 3))
    assert Recipe.from_dict(json.loads(json.dumps(one.to_dict()))) == one
    path = one.save(tmp_path / "recipe.json")
    loaded = Recipe.load(path)
    assert loaded == one
    assert loaded.describe() == one.describe()
    assert loaded.code() == one.code()


@kinds
def test_a_recipe_is_the_schedule_of_the_same_numbers(kind: str) -> None:
    schedule = make_schedule(kind, peak_lr=0.1, epochs=6, steps_per_epoch=35)
    assert isinstance(build(kind), Schedule)
    assert build(kind).to_dict() == schedule.to_dict()
    assert build(kind).code() == scheduler_code(schedule)


@kinds
def test_the_peak_is_reached_and_nothing_is_above_it(kind: str) -> None:
    one = build(kind, epochs=10, steps_per_epoch=140)
    lrs = [one.lr_at(t) for t in range(one.total_steps or 1)]
    assert max(lrs) == pytest.approx(0.1)
    assert min(lrs) >= 0


@kinds
def test_describe_is_one_line_that_names_the_source_of_every_default(kind: str) -> None:
    text = build(kind).describe()
    assert "\n" not in text
    assert text.startswith(f"{kind} with peak LR 0.1, ")
    assert text.count("(") - text.count("scheduler.step()") >= 1


def test_describe_tells_given_numbers_from_defaults() -> None:
    text = build("cosine", eta_min=0.01).describe()
    assert "eta_min=0.01 (given)" in text
    assert "warmup_steps=10 (5 %" in text


@pytest.mark.parametrize(
    ("length", "sentence"),
    [
        ({"total_steps": 30}, "30 calls of scheduler.step(), one after every batch"),
        ({"epochs": 3, "steps_per_epoch": 10}, "30 calls of scheduler.step(), one after every batch"),
        ({"epochs": 3}, "3 calls of scheduler.step(), one after every epoch"),
        ({"total_steps": 30, "accumulation_steps": 4}, "30 calls of scheduler.step(), one after every update"),
        ({"epochs": 3, "accumulation_steps": 4}, "3 calls of scheduler.step(), one after every epoch"),
    ],
    ids=str,
)
def test_describe_counts_the_calls_and_says_when_they_are_made(length: dict[str, int], sentence: str) -> None:
    assert sentence in recipe("linear", peak_lr=0.1, **length).describe()


@kinds
def test_a_length_in_updates_gives_a_scheduler_that_steps_per_batch(kind: str) -> None:
    by_epochs, by_steps = build(kind), recipe(kind, peak_lr=0.1, total_steps=210)
    if kind == "plateau":
        assert by_epochs.interval == by_steps.interval == "epoch"
        assert (by_epochs.total_steps, by_steps.total_steps) == (6, None)
    else:
        assert by_epochs.interval == by_steps.interval == "step"
        assert by_epochs.total_steps == by_steps.total_steps == 210
        assert by_epochs.spec == by_steps.spec


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in STEP_KINDS])
def test_epochs_alone_give_a_step_per_epoch_and_no_default_warmup(kind: str) -> None:
    one = recipe(kind, peak_lr=0.1, epochs=30)
    assert (one.interval, one.total_steps, one.epochs, one.warmup_steps) == ("epoch", 30, 30, 0)


@pytest.mark.parametrize("kind", STEP_KINDS)
def test_per_batch_kinds_refuse_epochs_alone_and_say_what_to_add(kind: str) -> None:
    with pytest.raises(ConfigError, match=r"Add steps_per_epoch, the length of the loader"):
        recipe(kind, peak_lr=0.1, epochs=30)
    assert recipe(kind, peak_lr=0.1, epochs=30, steps_per_epoch=3).interval == "step"


@pytest.mark.parametrize("kind", ["plateau", "constant"])
def test_open_ended_kinds_need_no_length(kind: str) -> None:
    one = recipe(kind, peak_lr=0.1)
    assert one.total_steps is None
    assert one.lr_at(10**9) == 0.1


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("plateau", "constant")])
def test_the_other_kinds_refuse_a_missing_length_and_say_what_to_give(kind: str) -> None:
    with pytest.raises(ConfigError, match="Give total_steps, or `epochs` and steps_per_epoch"):
        recipe(kind, peak_lr=0.1)


@warmup_kinds
def test_the_warmup_is_a_line_from_a_hundredth_and_part_of_the_total(kind: str) -> None:
    one = recipe(kind, peak_lr=0.1, total_steps=100, warmup_steps=20)
    assert one.warmup_steps == 20 and one.total_steps == 100
    assert [one.lr_at(t) for t in range(20)] == pytest.approx([0.1 * (0.01 + 0.99 * t / 20) for t in range(20)])
    assert one.lr_at(20) == pytest.approx(0.1)


@warmup_kinds
def test_warmup_zero_means_none(kind: str) -> None:
    one = recipe(kind, peak_lr=0.1, total_steps=100, warmup_steps=0)
    assert one.lr_at(0) == pytest.approx(0.1)
    assert "LinearLR(optimizer, start_factor=0.01" not in one.code()


@warmup_kinds
@pytest.mark.parametrize(("total", "expected"), [(10, 0), (20, 1), (100, 5), (9000, 450)])
def test_the_default_warmup_is_five_percent_of_the_updates(kind: str, total: int, expected: int) -> None:
    assert recipe(kind, peak_lr=0.1, total_steps=total).warmup_steps == expected


@pytest.mark.parametrize("kind", ["cosine", "linear", "wsd"])
@given(total=st.integers(2, 400), data=st.data())
def test_schedules_to_zero_end_at_exactly_zero_with_any_warmup(kind: str, total: int, data: st.DataObject) -> None:
    warmup = data.draw(st.integers(0, total - max(1, total // 5)))
    one = recipe(kind, peak_lr=0.1, total_steps=total, warmup_steps=min(warmup, total - 1))
    assert one.lr_at(total) == 0
    assert one.lr_at(total - 1) > 0


def test_cosine_ends_at_eta_min_exactly() -> None:
    assert recipe("cosine", peak_lr=0.1, total_steps=77, warmup_steps=7, eta_min=1e-3).lr_at(77) == 1e-3


def test_exponential_ends_at_one_percent() -> None:
    assert recipe("exponential", peak_lr=0.1, total_steps=100).lr_at(100) == pytest.approx(0.001)


@given(st.integers(1, 2000))
def test_the_step_schedule_drops_twice_and_never_in_the_last_step(total: int) -> None:
    spec = recipe("step", peak_lr=1.0, total_steps=total, warmup_steps=0).spec
    assert isinstance(spec, Step)
    assert spec.lr_at(total - 1, 1.0) >= 0.009


def test_milestones_are_counted_from_the_start_of_the_training() -> None:
    one = recipe("multistep", peak_lr=1.0, total_steps=90, warmup_steps=5, milestones=[30, 60], gamma=0.5)
    assert [one.lr_at(t) for t in (29, 30, 59, 60)] == [1.0, 0.5, 0.5, 0.25]


def test_milestones_are_half_and_three_quarters_by_default() -> None:
    assert recipe("multistep", peak_lr=1.0, epochs=64).spec == MultiStep(milestones=(32, 48), gamma=0.1)


@given(st.integers(1, 2000))
def test_restarts_end_at_a_boundary_or_in_the_low_end_of_the_last_cycle(total: int) -> None:
    one = recipe("restarts", peak_lr=1.0, total_steps=total)
    assert isinstance(one.spec, Restarts)
    if total % 7 == 0 or total % 3 == 0:
        assert one.lr_at(total) == 1.0  # a new cycle would start here
    if total >= 100:
        assert one.lr_at(total - 1) < 0.05


@pytest.mark.parametrize(
    ("total", "options", "note"),
    [
        (98, {}, "T_0=14 (so that 3 cycles fill the training)"),
        (99, {}, "T_0=33 (so that 2 cycles fill the training)"),
        (100, {}, "T_0=15 (3 cycles, the last cut short by 5, as 100 is not a multiple of 7)"),
        (100, {"T_mult": 1}, "T_0=50 (so that 2 cycles fill the training)"),
        (101, {"T_mult": 3}, "T_0=8 (3 cycles, the last cut short by 3, as 101 is not a multiple of 13)"),
    ],
)
def test_the_note_of_restarts_says_how_the_cycles_fill(total: int, options: dict[str, int], note: str) -> None:
    assert note in recipe("restarts", peak_lr=0.1, total_steps=total, **options).notes


@given(st.integers(1, 2000))
def test_cycles_of_the_cyclic_schedule_end_low(total: int) -> None:
    one = recipe("cyclic", peak_lr=1.0, total_steps=total)
    assert isinstance(one.spec, Cyclic)
    if total >= 200:
        assert one.lr_at(total - 1) < 0.3


def test_wsd_is_flat_between_warmup_and_a_cooldown_of_a_fifth() -> None:
    one = recipe("wsd", peak_lr=1.0, total_steps=100)
    assert {one.lr_at(t) for t in range(5, 81)} == {1.0}
    assert one.lr_at(90) == pytest.approx(0.5)


def test_wsd_may_be_all_warmup_and_cooldown() -> None:
    one = recipe("wsd", peak_lr=1.0, total_steps=100, warmup_steps=40, cooldown_steps=60)
    assert [one.lr_at(t) for t in (40, 70, 100)] == pytest.approx([1.0, 0.5, 0.0])


def test_patience_of_plateau_follows_the_epochs() -> None:
    patience = [recipe("plateau", peak_lr=1.0, epochs=n).spec.to_dict()["patience"] for n in (10, 200)]
    assert patience == [3, 10]


def test_only_the_cycling_kinds_move_the_momentum() -> None:
    moving = {kind for kind in KINDS if build(kind).momentum_at(0) is not None}
    assert moving == {"onecycle", "cyclic"}
    assert build("onecycle", cycle_momentum=False).momentum_at(0) is None


@pytest.mark.parametrize("t", [-1, 211])
def test_times_outside_the_schedule_are_refused(t: int) -> None:
    one = build("cosine")
    for ask in (one.lr_at, one.momentum_at):
        with pytest.raises(ConfigError, match="from 0 to total_steps=210"):
            ask(t)
    one.lr_at(210)
    with pytest.raises(ConfigError, match="calls from 0; got -1"):
        recipe("plateau", peak_lr=0.1).lr_at(-1)


@given(st.floats(1e-12, 1e3))
def test_printed_numbers_are_the_same_floats_when_read(peak: float) -> None:
    for scales in ([1.0], [0.5, 0.0, 1.0, 0.3]):
        scales = [scale / scales[0] for scale in scales]
        text = build("onecycle", peak_lr=peak, group_scales=scales).code().split("max_lr=")[1]
        lrs = ast.literal_eval(text.split("]")[0] + "]" if text.startswith("[") else text.split(",")[0])
        assert (lrs if isinstance(lrs, list) else [lrs])[0] == peak
        assert lrs == (peak if len(scales) == 1 else pytest.approx([peak * scale for scale in scales], rel=1e-15))


def test_printed_numbers_are_short() -> None:
    assert " = 0.003  #" in build("cosine", peak_lr=np.float64(3e-3)).code()
    assert "max_lr=[0.003, 0.0003]" in build("onecycle", peak_lr=3e-3, group_scales=(1, 0.1)).code()
    assert 0.003 * 0.1 != 0.0003  # noise of the last binary digit
    assert build("cosine", peak_lr=1).peak_lr == 1.0


PRINTED = {
    "onecycle": "scheduler = OneCycleLR(optimizer, max_lr=0.1, total_steps=210, cycle_momentum=True)",
    "cosine": """
for group in optimizer.param_groups:
    group["lr"] = group["initial_lr"] = 0.1  # an earlier scheduler leaves its own initial_lr
warmup = LinearLR(optimizer, start_factor=0.01, total_iters=10)
decay = CosineAnnealingLR(optimizer, T_max=200)
scheduler = SequentialLR(optimizer, [warmup, decay], milestones=[10])""",
    "wsd": """
for group in optimizer.param_groups:
    group["lr"] = group["initial_lr"] = 0.1  # an earlier scheduler leaves its own initial_lr
warmup = LinearLR(optimizer, start_factor=0.01, total_iters=10)
stable = ConstantLR(optimizer, factor=1.0)
decay = LinearLR(optimizer, start_factor=1.0, end_factor=0.0, total_iters=42)
scheduler = SequentialLR(optimizer, [warmup, stable, decay], milestones=[10, 168])""",
    "cyclic": """
for group in optimizer.param_groups:
    group.pop("initial_lr", None)  # an earlier scheduler leaves its own initial_lr
scheduler = CyclicLR(
    optimizer,
    base_lr=0.025,
    max_lr=0.1,
    step_size_up=27,
    mode="triangular2",
    cycle_momentum=True,
    base_momentum=0.85,
    max_momentum=0.95,
)""",
    "plateau": """
for group in optimizer.param_groups:
    group["lr"] = group["initial_lr"] = 0.1  # an earlier scheduler leaves its own initial_lr
scheduler = ReduceLROnPlateau(optimizer, factor=0.2, patience=3, cooldown=1, min_lr=0.0001, eps=0.0)""",
}


@pytest.mark.parametrize("kind", PRINTED)
def test_the_scheduler_is_printed_as_one_would_write_it_by_hand(kind: str) -> None:
    options = {"cycle_momentum": True} if kind in ("onecycle", "cyclic") else {}
    assert build(kind, **options).code().split("\n\n")[1] == PRINTED[kind].strip()


@kinds
def test_groups_of_one_lr_are_printed_as_one_number_and_others_as_a_list(kind: str) -> None:
    assert build(kind, group_scales=(1.0, 1.0)).code() == build(kind).code()
    several = build(kind, group_scales=(0.0, 1.0, 0.5)).code()
    assert "[0.0, 0.1, 0.05]" in several
    assert "[0.0, 0.1, 0.05]" not in build(kind).code()


@kinds
def test_lists_for_many_groups_are_folded(kind: str) -> None:
    code = build(kind, group_scales=[0.97**i for i in range(60)]).code()
    compile(code, "pasted", "exec")
    assert all(len(line) <= 120 for line in code.splitlines())


@pytest.mark.parametrize("kind", ["onecycle", "cyclic"])
def test_cycle_momentum_is_printed_as_given_or_as_a_test_of_the_optimizer(kind: str) -> None:
    assert "cycle_momentum=True" in build(kind, cycle_momentum=True).code()
    assert "cycle_momentum=False)" in build(kind, cycle_momentum=False).code().replace(",\n)", ")")
    assert "cycle_momentum=all(group.get(" in build(kind).code()


def test_a_sequence_made_by_hand_is_printed_with_one_name_per_part() -> None:
    spec = Sequential(parts=(Exponential(gamma=0.9), Exponential(gamma=0.5)), milestones=(100,))
    code = replace(build("exponential", warmup_steps=0), spec=spec).code()
    assert "SequentialLR(optimizer, [part0, part1], milestones=[100])" in code


def test_the_lines_of_a_plateau_name_what_is_to_rise() -> None:
    """A loss that falls would lower the learning rate all the time."""
    assert 'With mode="max" pass what is to rise, such as accuracy, here.' in build("plateau", mode="max").code()
    assert "Better still: pass the validation loss here." in build("plateau").code()


def test_describe_names_the_scales_of_several_groups() -> None:
    assert "times 1, 0.1 for the parameter groups" in build("cosine", group_scales=(1.0, 0.1)).describe()
    assert "groups" not in build("cosine").describe()


@kinds
def test_the_lines_to_paste_show_where_step_belongs(kind: str) -> None:
    per_batch, per_epoch = build(kind).code(), ""
    if kind not in STEP_KINDS:
        per_epoch = recipe(kind, peak_lr=0.1, epochs=5).code()
        assert "fter every epoch, not after every batch" in per_epoch
        assert "\n    scheduler.step(" in per_epoch
    if kind != "plateau":
        assert "\n        scheduler.step()  # after every batch, not after every epoch" in per_batch
    for code in (per_batch, per_epoch):
        assert all(len(line) <= 120 for line in code.splitlines())
        assert "lrfinder" not in code


def test_numpy_counts_are_counts() -> None:
    counts: Any = {"epochs": np.int64(10), "steps_per_epoch": np.int64(10), "warmup_steps": np.int64(5)}
    one = recipe("cosine", peak_lr=0.1, **counts)
    assert json.loads(json.dumps(one.to_dict()))["total_steps"] == 100
    assert "range(10)" in one.code()


@pytest.mark.parametrize("kind", [np.array, list, tuple], ids=lambda kind: kind.__name__)
def test_scales_may_be_an_array(kind: Any) -> None:
    one = recipe("cosine", peak_lr=0.1, epochs=3, group_scales=kind([1.0, 0.1]))
    assert one.group_scales == (1.0, 0.1)
    assert Recipe.from_dict(json.loads(json.dumps(one.to_dict()))) == one


def test_a_recipe_draws_itself_in_a_notebook() -> None:
    one = build("onecycle")
    assert one._repr_png_().startswith(b"\x89PNG")
    assert "scheduler = " in one._repr_html_()


def test_recipes_load_no_torch_and_no_matplotlib() -> None:
    code = (
        "import sys; from lrfinder.recipes import recipe; recipe('onecycle', peak_lr=0.1, total_steps=50).code();"
        "print({'torch', 'matplotlib'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


LONG = {"peak_lr": 0.1, "total_steps": 100}
PAIRS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"kind": "cosin"}, {"kind": "cosine"}, "kind must be one of onecycle, .*Did you mean 'cosine'"),
    ({"kind": "OneCycle"}, {"kind": "onecycle"}, "Did you mean 'onecycle'"),
    ({"kind": None}, {"kind": "wsd"}, "kind must be one of"),
    ({"peak_lr": 0}, {"peak_lr": 1e-9}, "peak_lr must be a positive finite number"),
    ({"peak_lr": -0.1}, {"peak_lr": 0.1}, "peak_lr must be"),
    ({"peak_lr": math.nan}, {"peak_lr": 1}, "peak_lr must be"),
    ({"peak_lr": math.inf}, {"peak_lr": 1e9}, "peak_lr must be"),
    ({"peak_lr": "0.1"}, {"peak_lr": 0.1}, "peak_lr must be"),
    ({"total_steps": 0}, {"total_steps": 1}, "total_steps must be a whole number of at least 1"),
    ({"total_steps": 10.0}, {"total_steps": 10}, "total_steps must be"),
    ({"epochs": 3}, {"epochs": 3, "total_steps": None}, "not both; got total_steps=100, epochs=3"),
    ({"total_steps": None, "steps_per_epoch": 9}, {"total_steps": None, "steps_per_epoch": 9, "epochs": 2}, "Add `ep"),
    ({"total_steps": None, "epochs": -1}, {"total_steps": None, "epochs": 1}, "epochs must be"),
    ({"kind": "onecycle", "total_steps": 3}, {"kind": "onecycle", "total_steps": 4}, "Raise total_steps to 4 or more"),
    ({"kind": "multistep", "total_steps": 2}, {"kind": "multistep", "total_steps": 3}, "at least 3 steps; got 2"),
    ({"kind": "multistep", "warmup_steps": 50}, {"kind": "multistep", "warmup_steps": 49}, "or lower warmup_steps"),
    ({"warmup_steps": 100}, {"warmup_steps": 99}, "less than the 100 steps of the training"),
    ({"warmup_steps": -1}, {"warmup_steps": 0}, "warmup_steps must be a whole number of at least 0"),
    ({"warmup_factor": 0.0}, {"warmup_factor": 0.1}, "warmup_factor must be"),
    ({"warmup_steps": 0, "warmup_factor": 2}, {"warmup_steps": 0, "warmup_factor": 1}, "warmup_factor must be"),
    ({"kind": "onecycle", "warmup_steps": 5}, {"kind": "onecycle", "warmup_steps": 0}, "set pct_start"),
    ({"kind": "plateau", "warmup_steps": 5}, {"kind": "plateau", "warmup_steps": None}, "Kinds that do: cosine"),
    ({"eta_mim": 0.0}, {"eta_min": 0.0}, "options: warmup_steps, eta_min, warmup_factor. Did you mean 'eta"),
    ({"warmup_ratio": 0.1}, {"warmup_steps": 10}, "no option 'warmup_ratio'.*Give warmup_steps, their number"),
    ({"num_warmup_steps": 10}, {"warmup_steps": 10}, "no option 'num_warmup_steps'.*Did you mean 'warmup_steps'"),
    ({"kind": "linear", "gamma": 0.1}, {"kind": "linear", "end_factor": 0.1}, "linear has no option 'gamma'"),
    ({"eta_min": 0.1}, {"eta_min": 0.09}, "eta_min must be below peak_lr"),
    ({"kind": "multistep", "milestones": [50, 100]}, {"kind": "multistep", "milestones": [50, 99]}, "before the end"),
    ({"kind": "multistep", "milestones": [5, 50]}, {"kind": "multistep", "milestones": [6, 50]}, "after the warm-up"),
    ({"kind": "multistep", "milestones": [50, 40]}, {"kind": "multistep", "milestones": [40, 50]}, "that increase"),
    ({"kind": "wsd", "cooldown_steps": 96}, {"kind": "wsd", "cooldown_steps": 95}, "must fit into total_steps=100"),
    ({"kind": "restarts", "T_mult": 0}, {"kind": "restarts", "T_mult": 1}, "T_mult must be"),
    ({"kind": "cyclic", "total_steps": 2048, "step_size_up": 1}, {"kind": "cyclic", "total_steps": 2047}, "1023 times"),
    ({"kind": "onecycle", "pct_start": 1.5}, {"kind": "onecycle", "pct_start": 0.5}, "pct_start must be"),
    ({"group_scales": (0.1, 1.0)}, {"group_scales": (1.0, 10.0)}, "must be 1, .* Divide all of them by it"),
    ({"group_scales": [0.0, 0.0]}, {"group_scales": [0.0, 1]}, "the first of group_scales that is not 0 must be 1"),
    ({"group_scales": ()}, {"group_scales": (1,)}, "the first of group_scales"),
    ({"group_scales": (1.0, -0.1)}, {"group_scales": (1.0, 0)}, "each of group_scales must be"),
    ({"group_scales": (1.0, math.inf)}, {"group_scales": (1.0, 1e9)}, "each of group_scales must be"),
    ({"group_scales": 1.0}, {"group_scales": [1.0]}, "a list with one number per parameter group; got 1.0"),
    ({"eta_min": 0.01, "group_scales": (1, 0.5)}, {"eta_min": 0.01, "group_scales": (1, 1)}, "with end_factor"),
]


@pytest.mark.parametrize(("bad", "good", "message"), PAIRS, ids=lambda value: str(value)[:50])
def test_bad_input_is_refused_with_a_hint_and_its_neighbour_is_accepted(
    bad: dict[str, Any], good: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        recipe(**{"kind": "cosine", **LONG, **bad})
    recipe(**{"kind": "cosine", **LONG, **good})


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "spiral"},
        {"peak_lr": -1},
        {"peak_lr": math.inf},
        {"total_steps": 0},
        {"epochs": 2.5},
        {"warmup_steps": -1},
        {"interval": "week"},
        {"spec": {"class": "Spiral"}},
        {"spec": {"class": "CosineAnnealingLR", "T_max": 0}},
        {"spec": None},
        {"notes": None},
        {"group_scales": None},
        {"group_scales": [0.5]},
        {"colour": "blue"},
    ],
    ids=str,
)
def test_a_damaged_recipe_is_refused_as_a_file_error(change: dict[str, Any]) -> None:
    with pytest.raises(FileFormatError, match="the saved recipe is damaged"):
        Recipe.from_dict({**build("cosine").to_dict(), **change})


def test_a_file_of_another_kind_is_not_a_recipe(tmp_path: Path) -> None:
    path = write_json(tmp_path / "other.json", "result", {})
    with pytest.raises(FileFormatError, match="not an lrfinder recipe"):
        Recipe.load(path)


def test_notes_take_no_part_in_comparisons() -> None:
    one = build("cosine")
    assert one == build("cosine", eta_min=0.0) == replace(one, notes=())
