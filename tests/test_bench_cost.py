"""The cost benchmark: what it makes of given seconds."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest


sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

from cost_bench import AGAIN, BARE, DEFAULT, OURS, RISING, report  # noqa: E402

SLOWDOWN = (1.0, 1.5, 3.0)  # of the machine, by round


def seconds(**ratios: float) -> dict[str, list[float]]:
    """Three rounds on a machine whose speed drifts; the contestants keep their ratios to the bare loop."""
    fixed = {BARE: 1.0, AGAIN: 1.0, RISING: 1.0, OURS: 1.02, DEFAULT: 0.5}
    return {name: [ratio * slow for slow in SLOWDOWN] for name, ratio in (fixed | ratios).items()}


def case(**changes: Any) -> dict[str, Any]:
    entry = {"title": "A net", "run": {"machine": "one core"}, "steps": 10, "seconds": seconds(a=1.2), "unable": {}}
    return entry | changes


def test_the_speed_of_the_machine_does_not_change_a_ratio() -> None:
    row = report.ratios(seconds()).loc[OURS]
    assert list(row) == pytest.approx([1.02, 1.02, 1.02])


def test_a_ratio_is_to_the_mean_of_both_bare_loops() -> None:
    table = report.ratios({BARE: [1.0, 1.2], AGAIN: [1.2, 1.0], OURS: [1.1, 1.1]})
    assert list(table.loc[OURS]) == pytest.approx([1.0, 1.0, 1.0])


def test_the_second_bare_loop_is_relative_to_the_first() -> None:
    assert report.ratios({BARE: [1.0], AGAIN: [1.5], OURS: [1.0]}).loc[AGAIN, "median"] == 1.5


def test_the_nearest_is_the_fastest_of_the_other_finders() -> None:
    assert report.nearest(seconds(a=1.3, b=1.1)) == ("b", 1.0)


def test_the_nearest_is_compared_round_by_round() -> None:
    times = {**seconds(), "a": [1.0, 2.0, 4.0]}
    assert report.nearest(times) == ("a", pytest.approx(2 / 3))


def test_without_other_finders_there_is_no_nearest() -> None:
    assert report.nearest(seconds()) is None


def test_the_headline_has_what_was_measured() -> None:
    batches = {"table": {"A net": {OURS: 40, "a": 100}, "Another": {OURS: 50, "a": 90}}}
    found = report.headline({"cases": {"cpu/mlp": case()}, "batches": batches})
    assert found == {
        "mlp": {OURS: 1.02, "nearest": "a", "its ratio": 1.2, "slower in": 1.0},
        "batches": {OURS: 45.0, "a": 95.0},
    }


def test_the_page_has_every_case_and_every_other_table(tmp_path: Path) -> None:
    memory = {"run": {"machine": "two cores"}, "caption": "Of a net.", "table": {"MB": {OURS: 7}}}
    results = {"cases": {"cpu/mlp": case(), "cuda/gpt-bf16": case(title="A GPT")}, "memory": memory}
    report.write(results, tmp_path)
    page = (tmp_path / "cost.md").read_text(encoding="utf-8")
    for part in ("A net", "A GPT", "1.020 (1.020 to 1.020)", "10 steps of 150.0 ms, 3 rounds"):
        assert part in page
    assert "Of a net." in page and "two cores" in page
    assert (tmp_path / "cost.png").exists()


def test_the_page_tells_why_a_finder_was_not_measured(tmp_path: Path) -> None:
    report.write({"cases": {"cpu/mlp": case(unable={"b": "no bfloat16"})}}, tmp_path)
    assert "b was not measured: no bfloat16." in (tmp_path / "cost.md").read_text(encoding="utf-8")
