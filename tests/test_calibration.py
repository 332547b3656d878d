"""How the constants are fitted and judged: regret, the fit to it, and the interval over families."""

from __future__ import annotations

import json
import sys
from importlib import import_module, resources
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

SCRIPTS = Path(__file__).parent.parent / "scripts"
sys.path.insert(0, str(SCRIPTS))

from advice_bench.fitting import FREE, fit, priors  # noqa: E402
from advice_bench.results import Case, bootstrap, fitted_cases, scored  # noqa: E402
from advice_bench.tasks import CELLS  # noqa: E402
from advice_bench.truth import Truth, mean_losses  # noqa: E402
from situations.ablation import RULES  # noqa: E402

from lrfinder.tables.constants import Constants  # noqa: E402

LOSSES: dict[str, list[float | None]] = {"-4": [1.0], "-3": [0.5], "-2": [0.25], "-1": [0.75], "0": [None]}


def truth(*, losses: dict[str, list[float | None]] = LOSSES, start: float = 1.25) -> Truth:
    return Truth.of(mean_losses({"start": start, "truth": losses}), start)


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


def test_the_loss_of_a_training_has_the_regret_of_its_grid_point() -> None:
    assert [truth().regret_of_loss(loss) for loss in (0.25, 0.5, 9.0, None)] == pytest.approx([0.0, 0.25, 1.0, 1.0])


def case(*, best: int = -4) -> Case:
    """A made-up cell whose regret rises by a quarter for each factor of 2 from its best learning rate."""
    losses: dict[str, list[float | None]] = {str(best + i): [abs(i) / 4] for i in range(-4, 5)}
    return Case(cell=CELLS[0], truth=truth(losses=losses, start=1.0), curves=())


def typical_sgd(_: Case, constants: Constants) -> list[float | None]:
    return [constants.typical_lr["sgd"]]


@pytest.mark.parametrize("best", [-4, 1])
def test_the_fit_finds_the_constant_that_made_up_trainings_show(best: int) -> None:
    fitted = fit([case(best=best)], answer=typical_sgd, free=[("typical_lr.sgd", True, 5.0)])
    assert fitted.typical_lr["sgd"] == pytest.approx(2.0**best, rel=0.2)


def test_the_fit_weighs_all_cells() -> None:
    cases = [case(best=-6), case(best=-3), case(best=-3)]
    fitted = fit(cases, answer=typical_sgd, free=[("typical_lr.sgd", True, 5.0)])
    assert fitted.typical_lr["sgd"] == pytest.approx(2**-3, rel=0.2)


def test_constants_that_change_no_regret_stay_at_their_priors() -> None:
    assert fit([case()], answer=lambda *_: [0.1], free=FREE[:6]) == Constants.from_dict(priors())


def test_a_constant_with_a_narrow_prior_hardly_moves() -> None:
    fitted = fit([case(best=-4)], answer=typical_sgd, free=[("typical_lr.sgd", True, 0.01)])
    assert fitted.typical_lr["sgd"] == pytest.approx(priors()["typical_lr"]["sgd"], rel=0.05)


def test_no_held_out_cell_or_family_is_fitted() -> None:
    held_out = {cell.family for cell in CELLS if cell.split == "held-out"}
    cases = fitted_cases(SCRIPTS / "results" / "advice")
    assert len(held_out) >= 5 and not held_out & {case.cell.family for case in cases}
    calibration = json.loads((resources.files("lrfinder.tables") / "calibration.json").read_text(encoding="utf-8"))
    assert calibration["tasks"] == [case.cell.name for case in cases]


def test_the_interval_is_that_of_families_and_not_of_runs() -> None:
    regrets = pd.Series([0.0] * 10 + [1.0] * 10)
    assert bootstrap(regrets, pd.Series(["a"] * 10 + ["b"] * 10)) == (0.0, 1.0)
    low, high = bootstrap(regrets, pd.Series(range(20)))
    assert 0.2 < low < 0.4 and 0.6 < high < 0.8


def test_families_with_the_same_regrets_have_an_interval_of_no_width() -> None:
    assert bootstrap(pd.Series([0.1, 0.5] * 6), pd.Series(list("aabbccddeeff"))) == pytest.approx((0.3, 0.3))


@pytest.mark.parametrize(("lr", "base_lr", "covered"), [(2**-4, 2**-4, 1.0), (2**-2, 2**-4, 0.0)])
def test_the_interval_of_an_advice_moves_with_the_schedule(lr: float, base_lr: float, covered: float) -> None:
    answer = {"lr": lr, "base_lr": base_lr, "interval": (2**-5, 2**-3), "grade": "high"}
    assert scored([case(best=-4)], {CELLS[0].name: [answer]})["covered"].tolist() == [covered]


@pytest.mark.parametrize("target", sorted({target for patches in RULES.values() for target in patches}))
def test_what_the_ablation_replaces_is_there(target: str) -> None:
    module, name = target.split(".")
    assert hasattr(import_module(f"lrfinder.advice.{module}"), name)
