"""Regret, which the constants are fitted to: exact at the grid, straight over log LR, and at most 1."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))

from advice_bench.truth import Truth, mean_losses  # noqa: E402

LOSSES: dict[str, list[float | None]] = {"-4": [1.0], "-3": [0.5], "-2": [0.25], "-1": [0.75], "0": [None]}


def truth(*, losses: dict[str, list[float | None]] = LOSSES, start: float = 1.25) -> Truth:
    return Truth.of({"start": start, "truth": losses})


def test_a_training_that_diverged_counts_as_one_that_learnt_nothing() -> None:
    grid: dict[str, Any] = {"start": 2.0, "truth": {"0": [None, 1.0], "-1": [5.0, 1.0]}}
    assert mean_losses(grid) == {-1: 1.5, 0: 1.5}


def test_the_best_of_the_grid_has_no_regret() -> None:
    assert truth().best == -2
    assert truth().regret(2**-2) == 0.0


@pytest.mark.parametrize(("power", "regret"), [(-4, 0.75), (-3, 0.25), (-1, 0.5), (0, 1.0)])
def test_regret_at_the_grid_is_the_part_of_the_improvement_lost(power: int, regret: float) -> None:
    assert truth().regret(2.0**power) == pytest.approx(regret)


def test_regret_between_grid_points_is_straight_over_log_lr() -> None:
    assert truth().regret(2**-3.5) == pytest.approx(0.5)


@pytest.mark.parametrize(("power", "regret"), [(-4.25, 0.875), (-9, 1.0), (3, 1.0)])
def test_regret_beyond_the_grid_continues_up_to_one(power: float, regret: float) -> None:
    assert truth().regret(2.0**power) == pytest.approx(regret)


@pytest.mark.parametrize("lr", [None, 0.0, float("nan")])
def test_no_learning_rate_counts_as_learning_nothing(lr: float | None) -> None:
    assert truth().regret(lr) == 1.0
    assert not truth().hit(lr) and not truth().diverges(lr)


@pytest.mark.parametrize(("scale", "shift"), [(10.0, 0.0), (0.5, 3.0)])
def test_regret_is_the_same_for_any_unit_of_the_loss(scale: float, shift: float) -> None:
    def other(loss: float | None) -> float | None:
        return None if loss is None else scale * loss + shift

    changed = truth(
        losses={power: [other(loss) for loss in losses] for power, losses in LOSSES.items()}, start=scale * 1.25 + shift
    )
    assert changed.regrets == pytest.approx(truth().regrets)


def test_a_hit_is_within_a_factor_two_of_the_best() -> None:
    assert truth().hit(2**-3) and truth().hit(2**-1)
    assert not truth().hit(2**-3.1) and not truth().hit(2**-0.9)


def test_only_learning_nothing_above_the_best_counts_as_diverged() -> None:
    assert truth().diverges(2.0)
    assert not truth().diverges(2**-9) and not truth().diverges(2**-1)
