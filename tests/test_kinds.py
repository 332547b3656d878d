"""The table of schedule kinds: every row is complete and agrees with the schedules."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest

from lrfinder import schedules
from lrfinder.recipes import recipe
from lrfinder.record.curve import MODES as CURVE_MODES
from lrfinder.schedules.defaults import DEFAULT_SPECS
from lrfinder.tables.kinds import KIND_TABLE, KINDS, MODES, Kind

rows = pytest.mark.parametrize("row", KIND_TABLE.values(), ids=KINDS)
FITTED = {"onecycle", "step", "constant"}


def test_the_kinds_are_these_and_in_this_order() -> None:
    text = "onecycle cosine step multistep exponential linear plateau cyclic restarts wsd constant"
    assert KINDS == tuple(text.split())


def test_the_kinds_are_public_in_schedules() -> None:
    assert schedules.KINDS is KINDS


def test_the_spacings_of_a_sweep_are_those_of_the_command_line() -> None:
    assert CURVE_MODES is MODES


@rows
def test_every_kind_has_a_factor_or_a_fitted_one_and_a_source(row: Kind) -> None:
    assert row.source
    assert (row.factor is None) == (row.name in FITTED) == row.source.startswith("fitted")
    assert row.factor is None or 0.1 <= row.factor <= 10.0


def test_every_kind_has_a_row_and_a_builder() -> None:
    assert set(DEFAULT_SPECS) == set(KINDS) == set(KIND_TABLE)


@rows
def test_every_kind_has_a_unit(row: Kind) -> None:
    assert row.unit in ("step", "epoch", "either")


@rows
def test_only_kinds_that_follow_the_loss_have_a_surrogate(row: Kind) -> None:
    assert row.follows_loss == (row.name == "plateau")
    assert not row.follows_loss or not KIND_TABLE[row.surrogate].follows_loss


@rows
def test_a_kind_moves_the_momentum_exactly_if_its_row_does(row: Kind) -> None:
    schedule = recipe(row.name, peak_lr=0.1, epochs=4, steps_per_epoch=10)
    assert (schedule.momentum_at(0) is not None) == row.momentum


def test_factors_count_from_cosine() -> None:
    assert KIND_TABLE["cosine"].factor == 1.0
    assert all(math.isfinite(row.factor) for row in KIND_TABLE.values() if row.factor is not None)


def test_the_table_is_read_without_any_heavier_package() -> None:
    code = "import sys, lrfinder.tables.kinds; print({'torch', 'numpy', 'dataclasses'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
