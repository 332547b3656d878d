"""The file of fitted constants: whole, sane, shipped, and read in one place."""

from __future__ import annotations

import ast
import configparser
import json
import subprocess
import sys
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from lrfinder.advice import GRADES
from lrfinder.calibration import calibration, constant
from lrfinder.schedules import KINDS

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "lrfinder"
HEAVY = ["torch", "torchvision", "numpy", "scipy", "matplotlib", "click", "tqdm", "PIL"]


def leaves(value: Any, name: str = "") -> dict[str, Any]:
    """Every number in the constants by its dotted name."""
    if not isinstance(value, dict):
        return {name: value}
    found: dict[str, Any] = {}
    for key, item in value.items():
        found |= leaves(item, f"{name}.{key}".lstrip("."))
    return found


def test_the_file_says_what_it_was_fitted_on_and_when() -> None:
    content = calibration()
    assert content["version"] and content["date"] and content["constants"]
    assert content["tasks"] and all(isinstance(task, str) and task for task in content["tasks"])
    assert len(set(content["tasks"])) == len(content["tasks"])


def test_every_constant_is_a_positive_number_that_its_dotted_name_finds() -> None:
    numbers = leaves(calibration()["constants"])
    assert numbers
    for name, value in numbers.items():
        assert isinstance(value, (int, float)) and value > 0, name
        assert constant(name) == value


def test_the_file_is_strict_json_that_is_read_once() -> None:
    text = (resources.files("lrfinder") / "calibration.json").read_text(encoding="utf-8")
    assert json.loads(text) == calibration()
    assert "NaN" not in text and "Infinity" not in text
    assert calibration() is calibration()


@pytest.mark.parametrize("name", ["", "nothing", "race.nothing", "nothing.pull", "schedule.Cosine"])
def test_a_constant_that_is_not_there_is_a_key_error_and_its_neighbour_is_found(name: str) -> None:
    with pytest.raises(KeyError):
        constant(name)
    assert constant("race.pull") > 0


@pytest.mark.parametrize("name", ["race", "race.pull.more"])
def test_a_name_that_ends_too_early_or_too_late_is_a_key_error_too(name: str) -> None:
    with pytest.raises(KeyError):
        constant(name)


def test_schedules_are_counted_from_cosine() -> None:
    assert constant("schedule.cosine") == 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_every_schedule_has_a_factor_of_a_sane_size(kind: str) -> None:
    assert 0.1 <= constant(f"schedule.{kind}") <= 10.0


def test_no_factor_belongs_to_a_schedule_that_there_is_not() -> None:
    assert set(calibration()["constants"]["schedule"]) == set(KINDS)


def test_a_constant_lr_is_lower_than_the_peak_of_a_schedule_that_decays() -> None:
    assert constant("schedule.constant") < 1.0


def test_every_grade_with_advice_has_a_spread_and_a_lower_grade_none_that_is_narrower() -> None:
    spreads = [constant(f"spread.{grade}") for grade in GRADES if grade != "none"]
    assert all(spread >= 1.0 for spread in spreads)
    assert all(a <= b for a, b in pairwise(spreads))
    assert set(calibration()["constants"]["spread"]) == set(GRADES) - {"none"}


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("heats", 3, 10),
        ("qualifying_part", 0.01, 0.25),
        ("final_part", 0.02, 1.0),
        ("margin", 1.0, 16.0),
        ("pull", 0.0, 0.1),
        ("worst_part", 1.0, 10.0),
        ("visible_noises", 0.0, 20.0),
        ("spread", 1.0, 20.0),
    ],
)
def test_the_constants_of_the_race_are_in_ranges_that_make_sense(name: str, low: float, high: float) -> None:
    assert low <= constant(f"race.{name}") <= high


def test_the_number_of_heats_is_whole() -> None:
    assert constant("race.heats") == int(constant("race.heats"))


@pytest.mark.parametrize("name", ["floor_part", "edge_part", "limit_part", "sweep_weight", "limit_weight"])
def test_parts_and_weights_are_no_more_than_the_whole(name: str) -> None:
    assert all(0 < value <= 1 for value in leaves(calibration()["constants"][name]).values())


def test_every_optimizer_has_a_usual_lr_of_a_sane_size() -> None:
    usual = calibration()["constants"]["usual"]
    assert {"sgd", "adam", "adamw", "rmsprop", "adagrad"} <= set(usual)
    assert all(1e-6 <= lr <= 10 for lr in usual.values())
    assert all(name == name.lower() for name in usual)


def test_the_file_is_shipped_with_the_package() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    shipped = [name.strip() for name in setup["options.package_data"]["lrfinder"].split(",")]
    assert "calibration.json" in shipped
    assert (resources.files("lrfinder") / "calibration.json").is_file()


def test_no_other_module_reads_the_file() -> None:
    readers = set()
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        spoken = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings
        words = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
        if any("calibration.json" in node.value for node in words if id(node) not in spoken):
            readers.add(path.relative_to(PACKAGE).as_posix())
    assert readers == {"calibration.py"}


@pytest.mark.parametrize(
    "code", ["import lrfinder.calibration", "from lrfinder.calibration import constant; constant('race.pull')"]
)
def test_the_constants_are_read_without_any_heavy_package(code: str) -> None:
    tail = f"\nimport sys\nprint(*[name for name in {HEAVY} if name in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code + tail], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == ""
