"""Every example in a docstring runs and prints the output shown."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import lrfinder

MODULES = ["lrfinder", *(info.name for info in pkgutil.walk_packages(lrfinder.__path__, "lrfinder."))]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_print_the_output_shown(name: str) -> None:
    failures, _ = doctest.testmod(importlib.import_module(name))
    assert failures == 0


@pytest.mark.parametrize(
    "name",
    ["LRFinder", "LossCurve", "RangeTestResult", "Recipe", "SweepConfig"]
    + ["advise", "minimum", "plot_curve", "plot_curves", "plot_recipe", "recipe", "slide", "steepest", "valley"],
)
def test_what_people_call_has_an_example(name: str) -> None:
    found = doctest.DocTestFinder().find(getattr(lrfinder, name), name)
    assert any(test.examples for test in found)
