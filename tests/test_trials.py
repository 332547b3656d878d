"""The record of a trial search: what it holds, its file, and what it refuses."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from searches import INITIAL, WITH_CONFIRMATION, bowl, budgets, diverges_above, record, run, trials, tried

from lrfinder.advice.trial_reading import best_trial_lr
from lrfinder.errors import ConfigError, FileFormatError
from lrfinder.record.trials import Trial, TrialRecord


def test_a_trial_counts_in_its_own_stage_only() -> None:
    made = run(bowl(INITIAL), budget_steps=WITH_CONFIRMATION)
    assert {trial.lr for trial in made.in_stage("confirmation")} == set(tried(made, "confirmation"))
    assert len(made.in_stage("screening")) + len(made.in_stage("confirmation")) == len(made.trials)


def test_the_trials_of_a_stage_come_by_rising_lr() -> None:
    made = run(bowl(INITIAL), budget_steps=WITH_CONFIRMATION)
    for stage in ("screening", "confirmation"):
        lrs = [trial.lr for trial in made.in_stage(stage)]
        assert lrs == sorted(lrs)


def test_the_steps_spent_are_those_of_all_trials() -> None:
    screening = trials((0.1, 1.0), (0.4, None), steps=40)
    made = record(trials=(*screening, *trials((0.2, 1.0), stage="confirmation", steps=70)))
    assert made.spent == 150


@budgets
@pytest.mark.parametrize("limit", [math.inf, 3 * INITIAL], ids=["all finite", "diverged"])
def test_a_record_comes_back_equal_from_json(budget_steps: int, limit: float) -> None:
    losses = diverges_above(limit, bowl(INITIAL))
    made = run(losses, budget_steps=budget_steps, min_improvement=0.5, measured="held-out")
    back = TrialRecord.from_dict(json.loads(json.dumps(made.to_dict(), allow_nan=False)))
    assert back == made
    assert best_trial_lr(back) == best_trial_lr(made)


def saved() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(json.dumps(run(bowl(INITIAL)).to_dict()))
    return content


FIRST = {"lr": 0.1, "steps": 10, "loss": 1.0, "stage": "screening"}
DAMAGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no trials": lambda content: content.pop("trials"),
    "no schedule": lambda content: content.pop("schedule"),
    "no initial LR": lambda content: content.pop("initial_lr"),
    "an unknown key": lambda content: content.update(winner=0.1),
    "trials of no list": lambda content: content.update(trials=3),
    "a trial of no numbers": lambda content: content.update(trials=["fast"]),
    "a trial without a loss": lambda content: content["trials"][0].pop("loss"),
    "a trial with an unknown key": lambda content: content["trials"][0].update(colour="red"),
    "a nan loss": lambda content: content["trials"][0].update(loss=math.nan),
    "a loss that is a word": lambda content: content["trials"][0].update(loss="low"),
    "an lr of 0": lambda content: content["trials"][0].update(lr=0.0),
    "an lr that is a word": lambda content: content["trials"][0].update(lr="0.1"),
    "no steps": lambda content: content["trials"][0].update(steps=0),
    "another stage": lambda content: content["trials"][0].update(stage="semifinal"),
    "an unknown schedule": lambda content: content.update(schedule="cosin"),
    "a schedule that is a list": lambda content: content.update(schedule=["cosine"]),
    "a negative initial LR": lambda content: content.update(initial_lr=-0.1),
    "an infinite start": lambda content: content.update(start_loss=math.inf),
    "no start": lambda content: content.update(start_loss=None),
    "more steps than the budget": lambda content: content.update(budget_steps=10),
    "a budget that is a word": lambda content: content.update(budget_steps="all"),
    "another measure": lambda content: content.update(measured="training"),
}


def test_the_content_that_is_damaged_below_is_whole_before() -> None:
    assert TrialRecord.from_dict(saved()) == run(bowl(INITIAL))


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_content_is_refused_as_a_damaged_file(damage: Callable[[dict[str, Any]], Any]) -> None:
    content = saved()
    damage(content)
    with pytest.raises(FileFormatError, match="the saved trial search is damaged.*Run refine again"):
        TrialRecord.from_dict(content)


@pytest.mark.parametrize("content", [None, [], "trials", 3], ids=repr)
def test_content_that_is_no_dictionary_is_refused_as_damaged(content: Any) -> None:
    with pytest.raises(FileFormatError, match="damaged"):
        TrialRecord.from_dict(content)


@pytest.mark.parametrize(
    ("name", "bad", "nearest"),
    [
        ("lr", 0.0, 5e-324),
        ("lr", -0.1, 0.1),
        ("lr", math.inf, 1e30),
        ("lr", math.nan, 1.0),
        ("steps", 0, 1),
        ("steps", 1.5, 2),
        ("steps", True, 1),
        ("loss", math.nan, None),
        ("loss", math.inf, 1e300),
        ("loss", -math.inf, -1e300),
        ("train_loss", math.nan, None),
        ("train_loss", math.inf, 1e300),
        ("stage", "Final", "confirmation"),
    ],
)
def test_a_value_no_trial_can_have_is_refused_the_nearest_accepted(name: str, bad: Any, nearest: Any) -> None:
    with pytest.raises(ConfigError):
        Trial(**{**FIRST, name: bad})
    assert getattr(Trial(**{**FIRST, name: nearest}), name) == nearest


@pytest.mark.parametrize(
    ("name", "bad", "nearest"),
    [
        ("schedule", "Cosine", "cosine"),
        ("total_steps", 0, 1),
        ("total_steps", 10.5, 10),
        ("total_steps", True, 1),
        ("budget_steps", 9, 10),
        ("budget_steps", math.nan, 10),
        ("budget_steps", 10.5, 11),
        ("initial_lr", 0.0, 5e-324),
        ("initial_lr", math.inf, 1e30),
        ("start_loss", math.nan, 0.0),
        ("start_loss", math.inf, 1e300),
        ("min_improvement", -1e-9, 0.0),
        ("min_improvement", math.nan, 0.0),
        ("passes", 0.0, 5e-324),
        ("passes", -1.0, None),
        ("passes", math.inf, 1e300),
        ("measured", "heldout", "held-out"),
    ],
)
def test_a_value_no_record_can_have_is_refused_the_nearest_accepted(name: str, bad: Any, nearest: Any) -> None:
    with pytest.raises(ConfigError):
        record(trials=(Trial(**FIRST),), **{name: bad})
    assert getattr(record(trials=(Trial(**FIRST),), **{name: nearest}), name) == nearest
