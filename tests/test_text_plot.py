"""The plot in characters: right in every width, for every curve, in a pipe, and without colour."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from curves import breaks, curve_of
from hypothesis import given
from hypothesis import strategies as st
from odd_curves import ODD_CURVES

from lrfinder import RangeTestResult, StopReason
from lrfinder.cli import main
from lrfinder.display.text import describe
from lrfinder.display.text_plot import text_plot
from lrfinder.numbers import format_lr

CURVE = curve_of(breaks, start=1e-4, end=1.0, count=60, measured="before", optimizer="SGD", stop=StopReason.DIVERGED)
RESULT = RangeTestResult(curve=CURVE)


def drawn(lines: list[str]) -> list[str]:
    """The rows of the plot itself, without the labels of the loss axis."""
    return [line.partition(" |")[2] for line in lines if " |" in line][:10]


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_the_plot_fits_and_shows_fall_and_rise(columns: int) -> None:
    lines = text_plot(RESULT, columns)
    assert max(map(len, lines)) <= columns
    rows = drawn(lines)
    heights = {column: row for row, line in enumerate(rows) for column, sign in enumerate(line) if sign == "*"}
    lowest = max(heights.values())
    first, last = min(heights), max(heights)
    assert heights[first] < lowest and heights[last] < lowest and lowest == 9
    assert set(range(first, last + 1)) - set(heights) == set() or max(heights) - first > len(heights) * 0.8


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_marks_stand_where_the_rates_are_and_the_legend_has_their_numbers(columns: int) -> None:
    lines, advice = text_plot(RESULT, columns), RESULT.advice
    assert advice.base_lr is not None and advice.edge_lr is not None and advice.interval is not None
    words = " ".join(" ".join(lines).split())
    low, high = map(format_lr, advice.interval)
    assert f"| base_lr {format_lr(advice.base_lr)}" in words and f"= interval {low} to {high}" in words
    assert f": edge {format_lr(advice.edge_lr)}" in words
    [axis] = [line.partition(" +")[2] for line in lines if " +" in line]
    row = next(row for row in drawn(lines) if "|" in row)
    assert axis[row.index("|")] == "=" and axis.index("=") < row.index("|") < axis.rindex("=")
    assert row.index("|") < row.index(":")


@pytest.mark.parametrize("name", ODD_CURVES)
@pytest.mark.parametrize("columns", [20, 36, 40, 80, 200])
def test_every_curve_is_drawn_in_ascii_within_the_width_or_not_at_all(name: str, columns: int) -> None:
    lines = text_plot(RangeTestResult(curve=ODD_CURVES[name]), columns)
    assert all(len(line) <= columns and line.isascii() and line == line.rstrip() for line in lines)
    assert bool(lines) == (columns >= 36 and len(ODD_CURVES[name].pairs()[0]) >= 2)


def test_a_flat_curve_says_so_and_its_noise_stays_low() -> None:
    lines = text_plot(RangeTestResult(curve=ODD_CURVES["only noise"]), 80)
    assert "flat: the loss neither falls nor rises by more than its noise" in " ".join(lines)
    assert sum("*" in row for row in drawn(lines)) <= 4


@given(
    columns=st.integers(36, 140),
    losses=st.lists(st.floats(-1e300, 1e300), min_size=3, max_size=60),
    start=st.floats(1e-30, 1.0),
)
def test_no_curve_breaks_the_plot(columns: int, losses: list[float], start: float) -> None:
    curve = curve_of(lambda x: 0.0, start=start, end=start * 1e4, count=len(losses))
    curve = type(curve)(lrs=curve.lrs, losses=tuple(losses), stop=StopReason.DIVERGED, config=curve.config)
    assert max(map(len, text_plot(RangeTestResult(curve=curve), columns))) <= columns


@pytest.mark.parametrize("columns", [40, 80])
def test_the_words_fit_a_narrow_terminal_too(columns: int) -> None:
    text = describe(RESULT, columns)
    assert max(map(len, text.splitlines())) <= columns
    assert " ".join(text.split()).startswith(RESULT.decision.text)


@pytest.mark.parametrize("variables", [{"COLUMNS": "40"}, {"COLUMNS": "120"}, {"NO_COLOR": "1"}, {}], ids=str)
def test_show_prints_the_plot_in_the_width_of_the_terminal(variables: dict[str, str], tmp_path: Path) -> None:
    path = RESULT.save(tmp_path / "x.json")
    printed = CliRunner().invoke(main, ["show", str(path)], env=variables, prog_name="lrfind").stdout
    columns = int(variables.get("COLUMNS", 80))
    assert "\n".join(text_plot(RESULT, columns)) in printed and "\x1b" not in printed
    assert max(map(len, printed.splitlines())) <= columns


def test_in_a_pipe_there_are_80_columns_and_no_colour(tmp_path: Path) -> None:
    path = RESULT.save(tmp_path / "x.json")
    program = f"from lrfinder.cli import main; main(['show', {str(path)!r}], prog_name='lrfind')"
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "\n".join(text_plot(RESULT, 80)) in printed and "\x1b" not in printed


def test_the_ends_of_the_axis_are_those_of_marks_outside_the_sweep():
    advice = dataclasses.replace(RESULT.advice, base_lr=1e-5, max_lr=2.0)
    lines = text_plot(dataclasses.replace(RESULT, advice=advice), 80)
    axis = next(i for i, line in enumerate(lines) if line.lstrip().startswith("+"))
    assert lines[axis + 1].split() == ["1e-05", "2"]
