"""The public names of the package."""

from __future__ import annotations

import configparser
import importlib
import inspect
import re
from importlib import resources
from pathlib import Path

import pytest

import lrfinder

ROOT = Path(__file__).parent.parent

NAMES = [
    "Advice",
    "Evidence",
    "Finding",
    "LRFinder",
    "LRFinderError",
    "LossCurve",
    "ModelFacts",
    "NoAdviceError",
    "RangeTestResult",
    "Reading",
    "Recipe",
    "StopReason",
    "Suggestion",
    "SweepConfig",
    "Trial",
    "TrialRecord",
    "advise",
    "minimum",
    "plot_curve",
    "plot_curves",
    "plot_recipe",
    "recipe",
    "slide",
    "steepest",
    "valley",
]


def test_the_public_names_are_these_and_in_order() -> None:
    assert lrfinder.__all__ == NAMES == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_documented_and_exported_by_its_own_module(name: str) -> None:
    value = getattr(lrfinder, name)
    assert inspect.getdoc(value)
    assert value.__name__ == name
    assert name in importlib.import_module(value.__module__).__all__


def test_a_star_import_brings_them_all() -> None:
    space: dict[str, object] = {}
    exec("from lrfinder import *", space)
    assert set(NAMES) <= set(space)


def test_dir_shows_them_before_they_are_used() -> None:
    assert set(NAMES) | {"__version__"} <= set(dir(lrfinder))
    assert dir(lrfinder) == sorted(dir(lrfinder))


def test_an_unknown_name_raises_attribute_error_and_import_error() -> None:
    with pytest.raises(AttributeError, match="module 'lrfinder' has no attribute 'LrFinder'"):
        _ = lrfinder.LrFinder
    with pytest.raises(ImportError, match="cannot import name 'LrFinder'"):
        exec("from lrfinder import LrFinder")


def test_every_error_is_an_lrfinder_error_and_the_builtin_a_caller_expects() -> None:
    from lrfinder import errors

    expected = {
        "BatchError": TypeError,
        "ConfigError": ValueError,
        "FileFormatError": ValueError,
        "NoAdviceError": RuntimeError,
        "MissingDependencyError": ImportError,
        "RankError": RuntimeError,
        "RestoreError": RuntimeError,
        "SetupError": ValueError,
    }
    assert set(errors.__all__) == {*expected, "LRFinderError"}
    for name, builtin in expected.items():
        assert issubclass(getattr(errors, name), (lrfinder.LRFinderError, builtin))
        assert issubclass(getattr(errors, name), builtin)
        assert name in str(errors.__doc__)


def test_the_package_says_that_it_is_typed_and_ships_the_mark() -> None:
    assert (resources.files("lrfinder") / "py.typed").is_file()
    assert "py.typed" in setup_cfg()["options.package_data"]["lrfinder"]


def test_the_version_has_one_home_and_is_one() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", lrfinder.__version__)
    assert setup_cfg()["metadata"]["version"] == "attr: lrfinder.__version__"
    assert setup_cfg()["metadata"]["name"] == "lrfinder"


def test_the_shell_command_points_to_a_function_that_is_there() -> None:
    command, _, target = setup_cfg()["options.entry_points"]["console_scripts"].strip().partition(" = ")
    module, _, function = target.partition(":")
    assert command == "lrfind"
    assert callable(getattr(importlib.import_module(module), function))


def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser
