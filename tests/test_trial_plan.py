"""The learning rates and momentum of each step of a trial."""

from __future__ import annotations

from typing import Any

import pytest

from lrfinder.advice.trial_plan import TrialPlan, whole_schedule
from lrfinder.errors import ConfigError
from lrfinder.recipes import recipe
from lrfinder.tables.kinds import KINDS

kinds = pytest.mark.parametrize("kind", KINDS)


def plan_of(stage: str, kind: str, lr: float, steps: int, total_steps: int, **options: Any) -> TrialPlan:
    """A trial at ``lr``, for a schedule whose peak is 0.1."""
    whole = whole_schedule(kind, 0.1, total_steps, options)
    return TrialPlan(stage=stage, compressed=stage == "confirmation", lr=lr, steps=steps, schedule=whole)


def lrs_of(plan: TrialPlan) -> list[float]:
    """LR of each update of a trial."""
    return [plan.lr_at(t) for t in range(plan.steps)]


@kinds
@pytest.mark.parametrize("stage", ["screening", "confirmation"])
@pytest.mark.parametrize("steps", [10, 37, 500])
@pytest.mark.parametrize("lr", [1e-7, 0.3, 40.0])
def test_every_kind_has_trials_of_any_length_that_keep_below_their_peak(
    kind: str, stage: str, steps: int, lr: float
) -> None:
    lrs = lrs_of(plan_of(stage, kind, lr, steps, 500))
    assert lr / 2 < max(lrs) <= lr * (1 + 1e-12)
    assert min(lrs) >= 0


@kinds
@pytest.mark.parametrize("steps", [10, 37, 500])
def test_a_screening_trial_is_constant_with_a_cooldown_for_every_kind(kind: str, steps: int) -> None:
    lrs = lrs_of(plan_of("screening", kind, 0.3, steps, 1000))
    assert sum(lr == pytest.approx(0.3) for lr in lrs) > steps / 2
    assert 0 < lrs[-1] <= 0.15
    assert lrs[len(lrs) // 2 :] == sorted(lrs[len(lrs) // 2 :], reverse=True)


@pytest.mark.parametrize(("given", "kept"), [(0, 0), (1, 0), (100, 10), (999, 50)])
def test_a_screening_trial_keeps_its_part_of_the_warmup_up_to_half(given: int, kept: int) -> None:
    plan = plan_of("screening", "cosine", 0.1, 100, 1000, warmup_steps=given, warmup_factor=0.5)
    assert sum(lr < 0.1 * (1 - 1e-9) for lr in lrs_of(plan)[:60]) == kept
    assert plan.lr_at(0) == pytest.approx(0.05 if kept else 0.1)


OTHER_OPTIONS: dict[str, dict[str, Any]] = {
    "onecycle": {"pct_start": 0.4, "div_factor": 10.0, "cycle_momentum": False},
    "cosine": {"eta_min": 1e-4},
    "step": {"step_size": 100, "gamma": 0.5},
    "multistep": {"milestones": [300, 600], "gamma": 0.5},
    "exponential": {"gamma": 0.999},
    "linear": {"end_factor": 0.1},
    "cyclic": {"step_size_up": 100, "base_factor": 0.5},
    "restarts": {"T_0": 200, "T_mult": 2},
    "wsd": {"cooldown_steps": 500},
}


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        *OTHER_OPTIONS.items(),
        ("cosine", {"warmup_steps": 100}),
        ("linear", {"warmup_steps": 300, "warmup_factor": 0.5}),
        ("multistep", {"milestones": (500, 700, 900), "warmup_steps": 100}),
    ],
)
@pytest.mark.parametrize("lr", [0.1, 0.02, 3.0])
def test_a_confirmation_trial_is_the_schedule_itself_compressed(kind: str, options: dict[str, Any], lr: float) -> None:
    whole = recipe(kind, peak_lr=0.1, total_steps=1000, **options)
    small = plan_of("confirmation", kind, lr, 250, 1000, **options)
    assert lrs_of(small) == pytest.approx([lr / 0.1 * whole.lr_at(4 * t) for t in range(250)])
    assert [small.momentum_at(t) for t in range(250)] == [whole.momentum_at(4 * t) for t in range(250)]


def test_momentum_is_cycled_in_confirmation_trials_alone() -> None:
    assert plan_of("confirmation", "onecycle", 0.1, 50, 500, cycle_momentum=True).momentum_at(20) is not None
    assert plan_of("screening", "onecycle", 0.1, 50, 500, cycle_momentum=True).momentum_at(20) is None


def test_plateau_is_replaced_by_multistep() -> None:
    plan = plan_of("confirmation", "plateau", 0.1, 100, 1000, patience=7, factor=0.3)
    assert plan.schedule.kind == "multistep"
    assert max(lrs_of(plan)) == pytest.approx(0.1)
    assert lrs_of(plan)[-1] < 0.05


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("multistep", {"milestones": [500, 502, 504]}),
        ("multistep", {"milestones": [500, 799]}),
        ("multistep", {"milestones": [41]}),
        ("cosine", {"warmup_steps": 799}),
        ("cosine", {"eta_min": 0.09}),
        ("onecycle", {"pct_start": 0.008}),
        ("wsd", {"cooldown_steps": 750, "warmup_steps": 50}),
        ("step", {"step_size": 1}),
    ],
    ids=str,
)
@pytest.mark.parametrize("stage", ["screening", "confirmation"])
@pytest.mark.parametrize("lr", [0.1, 0.025])
def test_options_that_the_whole_training_takes_break_no_trial(
    stage: str, kind: str, options: dict[str, Any], lr: float
) -> None:
    lrs = lrs_of(plan_of(stage, kind, lr, 50, 800, **options))
    assert all(0 <= each <= lr * (1 + 1e-12) for each in lrs)


def test_an_option_of_another_schedule_is_refused_and_its_own_accepted() -> None:
    with pytest.raises(ConfigError, match="cosine has no option 'gamma'"):
        whole_schedule("cosine", 0.1, 1000, {"gamma": 0.9})
    assert whole_schedule("exponential", 0.1, 1000, {"gamma": 0.9}).kind == "exponential"
    with pytest.raises(ConfigError, match="plateau has no option 'gamma'"):
        whole_schedule("plateau", 0.1, 1000, {"gamma": 0.9})
