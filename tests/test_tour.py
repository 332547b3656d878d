"""The tour over every model of torchvision, as scripts/tour left it: nothing missing, nothing that trains refused."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import pytest
from torchvision.models import list_models

from lrfinder.tasks import model_names

RESULTS = Path(__file__).resolve().parent.parent / "scripts" / "results"
TOUR = json.loads((RESULTS / "tour.json").read_text(encoding="utf-8"))
STATES = {name: entry["state"] for name, entry in TOUR["models"].items()}


@pytest.mark.skipif(TOUR["versions"]["torchvision"] != metadata.version("torchvision"), reason="of another torchvision")
def test_the_tour_has_every_model_of_this_torchvision() -> None:
    assert sorted(STATES) == list_models()
    assert {name for name, state in STATES.items() if state == "works"} == {*model_names()}


def test_a_model_works_or_is_refused_for_being_quantised() -> None:
    for name, entry in TOUR["models"].items():
        if entry["state"] != "works":
            assert entry["state"] == "refused" and "whole numbers of 8 bits" in entry["reason"], (name, entry)


def test_the_table_is_of_these_results() -> None:
    table = (RESULTS / "tour.md").read_text(encoding="utf-8")
    for name, entry in TOUR["models"].items():
        row = next(line for line in table.splitlines() if line.startswith(f"| {name} "))
        assert f"| {entry['state']} " in row
