"""The advice on every stored sweep of the benchmark, compared with what it was before the redesign.

Goes, with its file of numbers, once the redesign is done.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lrfinder import LossCurve, NoAdviceError, advise

HERE = Path(__file__).parent
KINDS = ("onecycle", "cosine", "step", "multistep", "exponential", "linear", "plateau", "cyclic", "restarts", "wsd")
NUMBERS = ("max_lr", "base_lr", "min_lr", "interval", "grade", "edge_lr", "ceiling", "diverged_lr")


def numbers(curve: LossCurve) -> dict[str, Any]:
    """Every number of the advice on a curve, as JSON gives it back."""
    advice = advise(curve)
    found = {name: getattr(advice, name) for name in NUMBERS}
    for kind in (*KINDS, "constant"):
        try:
            found[kind] = advice.lr_for(kind)
        except NoAdviceError:
            found[kind] = None
    return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}


@pytest.mark.parametrize("kind", ["sweep", "sweep-longer"])
def test_stored_sweeps_give_the_advice_they_gave_before(kind: str) -> None:
    stored = json.loads((HERE.parent / "scripts" / "results" / "advice" / f"{kind}.json").read_text(encoding="utf-8"))
    before = json.loads((HERE / "advice_before.json").read_text(encoding="utf-8"))[kind]
    assert set(stored) == set(before)
    assert {name: numbers(LossCurve.from_dict(curve)) for name, curve in stored.items()} == before
