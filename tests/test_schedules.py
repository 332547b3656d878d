"""Each scheduler spec against the papers and torch's documentation, and the value Schedule; without torch."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrfinder.errors import ConfigError
from lrfinder.schedules.schedule import Schedule
from lrfinder.schedules.specs import (
    Constant,
    Cosine,
    Cyclic,
    Exponential,
    Linear,
    MultiStep,
    OneCycle,
    Plateau,
    Restarts,
    SchedulerSpec,
    Sequential,
    Step,
    spec_from_dict,
)

SPECS: dict[str, SchedulerSpec] = {
    "constant": Constant(),
    "cosine": Cosine(T_max=20, eta_min=1e-4),
    "cyclic": Cyclic(step_size_up=5, base_factor=0.2, mode="triangular"),
    "exponential": Exponential(gamma=0.9),
    "linear": Linear(start_factor=1.0, end_factor=0.1, total_iters=20),
    "multistep": MultiStep(milestones=(5, 11), gamma=0.3),
    "onecycle": OneCycle(total_steps=20),
    "plateau": Plateau(factor=0.5, patience=3, cooldown=1, min_factor=0.01),
    "restarts": Restarts(T_0=4, T_mult=2),
    "step": Step(step_size=7, gamma=0.5),
    "sequential": Sequential(
        parts=(Linear(start_factor=0.1, end_factor=1.0, total_iters=5), Cosine(T_max=15)), milestones=(5,)
    ),
}
specs = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)


def test_no_torch_and_no_numpy_is_needed() -> None:
    code = "import sys; from lrfinder.schedules import code, defaults; print({'torch', 'numpy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


@specs
def test_the_lr_is_never_above_the_peak_nor_below_zero(spec: SchedulerSpec) -> None:
    assert all(0 <= spec.lr_at(t, 0.3) <= 0.3 * (1 + 1e-12) for t in range(21))


@specs
def test_without_eta_min_the_lr_is_proportional_to_the_peak(spec: SchedulerSpec) -> None:
    if spec.eta_min == 0:
        for t in range(21):
            assert spec.lr_at(t, 0.3) == pytest.approx(3 * spec.lr_at(t, 0.1), rel=1e-12)


@specs
def test_a_spec_survives_json(spec: SchedulerSpec) -> None:
    assert spec_from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert hash(spec_from_dict(spec.to_dict())) == hash(spec)


@specs
def test_every_spec_states_its_formula(spec: SchedulerSpec) -> None:
    assert re.search(r"^ *lr\(t\) += ", str(type(spec).__doc__), re.MULTILINE)


def test_a_schedule_is_a_frozen_value_of_one_spec() -> None:
    schedule = Schedule(kind="cosine", peak_lr=0.3, interval="step", spec=SPECS["cosine"], total_steps=20)
    assert schedule == Schedule.from_dict(json.loads(json.dumps(schedule.to_dict())))
    assert [schedule.lr_at(t) for t in range(21)] == [SPECS["cosine"].lr_at(t, 0.3) for t in range(21)]
    with pytest.raises(FrozenInstanceError):
        schedule.peak_lr = 1.0  # type: ignore[misc]


def test_cosine_is_half_way_down_at_half_time_and_ends_at_eta_min() -> None:
    spec = Cosine(T_max=10, eta_min=0.02)
    assert spec.lr_at(5, 0.1) == pytest.approx(0.06)
    assert spec.lr_at(10, 0.1) == 0.02


def test_onecycle_rises_from_a_25th_and_moves_the_momentum_against_the_lr() -> None:
    spec = OneCycle(total_steps=100)
    peak_at = 29  # torch's turning point is pct_start * total_steps - 1
    assert spec.lr_at(0, 0.5) == pytest.approx(0.02)
    assert spec.lr_at(peak_at, 0.5) == pytest.approx(0.5)
    assert spec.lr_at(99, 0.5) == pytest.approx(0.02 / 1e4)
    assert [spec.momentum_at(t) for t in (0, peak_at, 99)] == pytest.approx([0.95, 0.85, 0.95])


def test_restarts_start_at_the_peak_after_cycles_of_doubling_length() -> None:
    spec = Restarts(T_0=3, T_mult=2)
    assert [t for t in range(22) if spec.lr_at(t, 0.1) == 0.1] == [0, 3, 9, 21]


def test_triangles_halve_in_height_with_triangular2_only() -> None:
    tops = {
        mode: [Cyclic(step_size_up=4, base_factor=0.0, mode=mode).lr_at(t, 1.0) for t in (4, 12, 20)]
        for mode in ("triangular", "triangular2")
    }
    assert tops == {"triangular": [1.0, 1.0, 1.0], "triangular2": [1.0, 0.5, 0.25]}


def test_the_momentum_is_unchanged_where_it_is_not_cycled() -> None:
    assert Cosine(T_max=3).momentum_at(1) is None
    assert OneCycle(total_steps=20, cycle_momentum=False).momentum_at(1) is None
    assert Cyclic(step_size_up=20, cycle_momentum=False).momentum_at(1) is None
    assert OneCycle(total_steps=20).momentum_at(1) == OneCycle(total_steps=20, cycle_momentum=True).momentum_at(1)


@specs
def test_arguments_per_group_are_lists_in_proportion_to_the_peaks(spec: SchedulerSpec) -> None:
    for name, value in spec.arguments((0.1, 0.3, 0.0)).items():
        if name.endswith("_lr"):
            assert value == pytest.approx([value[0], 3 * value[0], 0.0])
        else:
            assert value == spec.arguments((0.5,))[name]


@given(st.integers(4, 500), st.floats(0.3, 0.99))
def test_onecycle_rises_then_falls_for_every_length(total: int, pct_start: float) -> None:
    spec = OneCycle(total_steps=total, pct_start=pct_start)
    lrs = [spec.lr_at(t, 1.0) for t in range(total)]
    top = lrs.index(max(lrs))
    assert lrs[: top + 1] == sorted(lrs[: top + 1])
    assert lrs[top:] == sorted(lrs[top:], reverse=True)


@given(st.lists(st.integers(1, 50), min_size=2, max_size=4))
def test_each_part_of_a_sequence_counts_from_its_own_start(lengths: list[int]) -> None:
    starts = [sum(lengths[:i]) for i in range(len(lengths))]
    sequence = Sequential(parts=tuple(Cosine(T_max=n) for n in lengths), milestones=tuple(starts[1:]))
    for start in starts:
        assert sequence.lr_at(start, 0.7) == 0.7


BAD: list[tuple[type[SchedulerSpec], dict[str, Any], dict[str, Any], str]] = [
    (Linear, {"start_factor": 0.0}, {"start_factor": 0.001}, "start_factor must be"),
    (Linear, {"start_factor": 1.1}, {"start_factor": 1.0}, "start_factor must be"),
    (Linear, {"end_factor": -0.1}, {"end_factor": 0.0}, "end_factor must be a number from 0 to 1"),
    (Linear, {"end_factor": math.nan}, {"end_factor": 1.0}, "end_factor must be"),
    (Linear, {"total_iters": 0}, {"total_iters": 1}, "total_iters must be a whole number of at least 1"),
    (Linear, {"total_iters": 2.0}, {"total_iters": 2}, "got 2.0"),
    (Cosine, {"T_max": 0}, {"T_max": 1}, "T_max must be"),
    (Cosine, {"eta_min": -1e-9}, {"eta_min": 0}, "eta_min must be a finite number of at least 0"),
    (Step, {"step_size": 0}, {"step_size": 1}, "step_size must be"),
    (Step, {"gamma": 1.0}, {"gamma": 0.99}, "gamma must be a number from 0 to 1, both excluded"),
    (Exponential, {"gamma": 0}, {"gamma": 0.01}, "gamma must be"),
    (MultiStep, {"gamma": 1.0}, {"gamma": 0.99}, "gamma must be a number from 0 to 1, both excluded"),
    (MultiStep, {"milestones": (5, 5)}, {"milestones": (5, 6)}, "that increase"),
    (MultiStep, {"milestones": (6, 5)}, {"milestones": [5, 6]}, "that increase"),
    (MultiStep, {"milestones": ()}, {"milestones": (1,)}, "one or more"),
    (MultiStep, {"milestones": 5}, {"milestones": (5,)}, "milestones must be a list"),
    (MultiStep, {"milestones": (0, 5)}, {"milestones": (1, 5)}, "each milestone must be"),
    (Plateau, {"factor": 1.0}, {"factor": 0.9}, "factor must be"),
    (Plateau, {"patience": -1}, {"patience": 0}, "patience must be a whole number of at least 0"),
    (Plateau, {"mode": "maximum"}, {"mode": "max"}, "mode must be one of min, max"),
    (Plateau, {"min_factor": 2}, {"min_factor": 1}, "min_factor must be"),
    (Restarts, {"T_0": True}, {"T_0": 1}, "T_0 must be"),
    (Restarts, {"T_mult": 0}, {"T_mult": 1}, "T_mult must be"),
    (OneCycle, {"pct_start": 0.1}, {"pct_start": 0.11}, "Raise total_steps to 11 or more"),
    (OneCycle, {"pct_start": 1.0}, {"pct_start": 0.9}, "pct_start must be"),
    (OneCycle, {"div_factor": 0.5}, {"div_factor": 1}, "div_factor must be"),
    (OneCycle, {"final_div_factor": 0}, {"final_div_factor": 1}, "final_div_factor must be"),
    (OneCycle, {"max_momentum": 1.0}, {"max_momentum": 0.99}, "max_momentum must be"),
    (OneCycle, {"base_momentum": 0.96}, {"base_momentum": 0.95}, "Did you swap them"),
    (OneCycle, {"cycle_momentum": 1}, {"cycle_momentum": True}, "cycle_momentum must be True, False, or None"),
    (OneCycle, {"cycle_momentum": "auto"}, {"cycle_momentum": None}, "where the optimizer has one; got 'auto'"),
    (Cyclic, {"mode": "exp_range"}, {"mode": "triangular"}, "mode must be"),
    (Cyclic, {"base_factor": 1}, {"base_factor": 0.99}, "base_factor must be below 1"),
    (Cyclic, {"step_size_up": 0}, {"step_size_up": 1}, "step_size_up must be"),
    (Sequential, {"milestones": (5, 6)}, {"milestones": (5,)}, "one part more than milestones"),
    *(
        (Sequential, {"parts": (Constant(), SPECS[name])}, {"parts": (Constant(), SPECS["cosine"])}, "cannot hold")
        for name in ("onecycle", "cyclic", "plateau", "sequential")
    ),
]
FULL: dict[type[SchedulerSpec], dict[str, Any]] = {
    Linear: {"start_factor": 1.0, "end_factor": 0.0, "total_iters": 10},
    Cosine: {"T_max": 10},
    Step: {"step_size": 10, "gamma": 0.1},
    Exponential: {"gamma": 0.1},
    MultiStep: {"milestones": (3,), "gamma": 0.1},
    Plateau: {"factor": 0.1, "patience": 3, "cooldown": 0, "min_factor": 0.0},
    Restarts: {"T_0": 3, "T_mult": 2},
    OneCycle: {"total_steps": 10},
    Cyclic: {"step_size_up": 3},
    Sequential: {"parts": (Constant(), Constant()), "milestones": (3,)},
}


@pytest.mark.parametrize(("spec", "bad", "good", "message"), BAD, ids=lambda value: str(value)[:40])
def test_a_bad_argument_is_refused_and_the_nearest_good_one_accepted(
    spec: type[SchedulerSpec], bad: dict[str, Any], good: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        spec(**{**FULL[spec], **bad})
    spec(**{**FULL[spec], **good})
