"""The table of optimizers, and the fitted constants."""

from __future__ import annotations

import configparser
import json
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import torch

from lrfinder.tables.constants import FITTED, Constants
from lrfinder.tables.kinds import KINDS
from lrfinder.tables.optimizers import OPTIMIZERS, find_optimizer, is_lr_free, typical_lr, update_rule

ROOT = Path(__file__).parent.parent
FILE = json.loads((resources.files("lrfinder.tables") / "calibration.json").read_text(encoding="utf-8"))

# --- optimizers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", OPTIMIZERS, ids=lambda row: row.match)
def test_every_row_has_a_source_a_rule_and_one_typical_lr(row: Any) -> None:
    assert row.source
    assert row.update_rule in ("proportional", "adaptive")
    assert (row.lr is None) == (row.fitted in FITTED.typical_lr)
    assert not row.lr_free or row.lr is not None


def test_every_row_is_found_by_a_name_of_its_own() -> None:
    named = ["DAdaptSGD", "Prodigy", "SGDScheduleFree", "AdamWScheduleFree", "Muon", "Adafactor", "Adadelta", "Rprop"]
    named += ["LBFGS", "Lion", "CAME", "Ranger", "LAMB", "LARS", "Adamax", "RMSprop", "Adagrad", "Adam", "ADOPT", "SGD"]
    assert [find_optimizer(name) for name in named] == list(OPTIMIZERS)


# Class names of widely used packages, with the typical LR at momentum 0.
NAMES = {
    "SingleDeviceMuonWithAuxAdam": 0.02,
    "MuonWithAuxAdam": 0.02,
    "SingleDeviceMuon": 0.02,
    "AdamW": 0.00834,
    "AdamWScheduleFree": 0.025,
    "RAdamScheduleFree": 0.025,
    "PagedAdamW8bit": 0.00834,
    "DeepSpeedCPUAdam": 0.00834,
    "FusedAdam": 0.00834,
    "NAdam": 0.00834,
    "SparseAdam": 0.00834,
    "AdEMAMix": 0.00834,
    "AdaBelief": 0.00834,
    "SOAP": 0.00834,
    "Yogi": 0.00834,
    "MARS": 0.00834,
    "NvNovoGrad": 0.0334,
    "MADGRAD": 0.0334,
    "Ranger21": 0.0334,
    "Tiger": 0.00167,
    "CAME": 0.0005,
    "Adamax": 0.0167,
    "SGD": 0.537,
    "SGDScheduleFree": 1.07,
    "ScheduleFreeSGD": 1.07,
    "ScheduleFreeAdamW": 0.025,
    "SGDP": 0.537,
    "ASGD": 0.537,
    "RMSprop": 0.0033,
    "RMSpropTF": 0.0033,
    "Adagrad": 0.0689,
    "Adadelta": 6.0,
    "Adafactor": 0.01,
    "Lion8bit": 0.00167,
    "SignSGD": 0.00167,
    "FusedLAMB": 0.005,
    "LARS": 4.0,
    "LBFGS": 1.0,
    "Rprop": 0.01,
    "Prodigy": 1.0,
    "ProdigyScheduleFree": 1.0,
    "DAdaptAdam": 1.0,
    "DAdaptSGD": 1.0,
    "LDoG": 1.0,
    "Sophia": 0.00834,  # no row: that of Adam
    "": None,
}


@pytest.mark.parametrize(("name", "lr"), NAMES.items(), ids=repr)
def test_the_typical_lr_of_a_class_name(name: str, lr: float | None) -> None:
    assert typical_lr(name, 0.0, FITTED) == lr


@pytest.mark.parametrize("name", NAMES)
def test_only_sgd_and_what_has_no_name_are_proportional(name: str) -> None:
    proportional = not name or ("sgd" in name.lower() and name != "SignSGD")
    assert update_rule(name) == ("proportional" if proportional else "adaptive")


@pytest.mark.parametrize("name", NAMES)
def test_an_optimizer_that_sets_its_own_step_is_lr_free(name: str) -> None:
    assert is_lr_free(name) == name.startswith(("Prodigy", "DAdapt", "LDoG", "LBFGS", "Rprop"))


def test_every_optimizer_of_torch_has_a_row() -> None:
    known = [each for each in vars(torch.optim).values() if isinstance(each, type)]
    names = {each.__name__ for each in known if issubclass(each, torch.optim.Optimizer)} - {"Optimizer"}
    assert not {name for name in names if find_optimizer(name) is None}


@pytest.mark.parametrize("name", ["SGD", "RMSprop"])
def test_momentum_lowers_the_typical_lr_but_not_that_of_adam(name: str) -> None:
    lrs = [typical_lr(name, momentum, FITTED) or 0.0 for momentum in (0.0, 0.5, 0.9, 0.99, 1.0)]
    assert lrs == sorted(lrs, reverse=True) and lrs[-1] > 0
    assert typical_lr("Adam", 0.0, FITTED) == typical_lr("Adam", 0.99, FITTED)


def test_momentum_adds_no_updates_up_where_the_weights_are_averaged() -> None:
    assert typical_lr("SGDScheduleFree", 0.9, FITTED) == typical_lr("SGDScheduleFree", 0.0, FITTED)


# --- constants --------------------------------------------------------------------------------------------------------


def leaves(value: Any, name: str = "") -> dict[str, Any]:
    """Every number in the constants by its dotted name."""
    if not isinstance(value, dict):
        return {name: value}
    found: dict[str, Any] = {}
    for key, item in value.items():
        found |= leaves(item, f"{name}.{key}".lstrip("."))
    return found


def test_the_file_names_its_data_and_the_date_of_the_fit() -> None:
    assert FILE["version"] and FILE["date"] and FILE["made_by"]
    assert FILE["tasks"] and len(set(FILE["tasks"])) == len(FILE["tasks"])
    numbers = leaves(FILE["constants"])
    assert all(name in numbers or name in FILE["constants"] for name in FILE["fitted"])


def test_the_constants_are_those_of_the_file_and_survive_a_round_trip() -> None:
    assert FITTED.to_dict() == FILE["constants"]
    assert Constants.from_dict(FITTED.to_dict()) == FITTED


@pytest.mark.parametrize(("change", "name"), [({"pull": 1.0}, "pull"), ({"edge_part": {"adaptive": 0.5}}, "edge")])
def test_constants_with_a_wrong_name_are_refused(change: dict[str, Any], name: str) -> None:
    with pytest.raises(TypeError):
        Constants.from_dict({**FITTED.to_dict(), **change})


def test_every_constant_is_positive_and_parts_are_no_more_than_the_whole() -> None:
    numbers = leaves(FILE["constants"])
    assert all(isinstance(value, (int, float)) and value > 0 for value in numbers.values())
    parts = {name: value for name, value in numbers.items() if "_part." in name or "weight" in name}
    assert parts and all(value <= 1 for value in parts.values())


def test_a_lower_grade_never_has_a_narrower_interval() -> None:
    assert 1 < FITTED.spread.high <= FITTED.spread.medium <= FITTED.spread.low


@pytest.mark.parametrize("kind", KINDS)
def test_every_schedule_has_a_factor_near_one(kind: str) -> None:
    assert 0.2 <= FITTED.peak_factor(kind) <= 2.5
    assert FITTED.peak_factor("cosine") == 1.0


def test_a_constant_lr_is_lower_than_the_peak_of_a_schedule_that_decays() -> None:
    assert FITTED.peak_factor("constant") < min(FITTED.peak_factor(kind) for kind in ("cosine", "linear", "onecycle"))


def test_the_constants_of_the_search_are_in_ranges_that_make_sense() -> None:
    search = FITTED.search
    assert search.trials >= 3 and isinstance(search.trials, int)
    assert 0 < search.screening_part < search.confirmation_part < 0.5
    assert 1 < search.margin <= 10 and search.worst_part >= 1 and search.overfit_part > 0


@pytest.mark.parametrize("file", ["calibration.json", "torchvision_recipes.csv"])
def test_the_file_is_shipped_with_the_package(file: str) -> None:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    assert file in settings["options.package_data"]["lrfinder.tables"].split(", ")


def test_the_tables_are_read_without_any_heavy_package() -> None:
    code = "import lrfinder.tables.optimizers, lrfinder.tables.recipes, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert not {"torch", "numpy", "scipy", "matplotlib", "click"} & set(done.stdout.split())
