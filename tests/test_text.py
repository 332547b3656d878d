"""The report in plain text: every number and every reason, in 80 columns."""

from __future__ import annotations

import re

import pytest
from curves import breaks, curve_of, flat
from hypothesis import given
from hypothesis import strategies as st

from lrfinder.advice.advice import Advice
from lrfinder.advice.advise import advise
from lrfinder.display.outcome import Outcome
from lrfinder.display.text import describe
from lrfinder.numbers import format_lr
from lrfinder.record.curve import StopReason
from lrfinder.tables.kinds import KINDS


def advice_of(reasons=("The edge is sharp.",), grade="high"):
    return Advice(
        max_lr=0.14, base_lr=0.091, min_lr=0.0018, interval=(0.03, 0.18), grade=grade, reasons=reasons, edge_lr=0.3
    )


NO_ADVICE = Advice(
    max_lr=None, base_lr=None, min_lr=None, interval=None, grade="none", reasons=("The curve is flat.", "Raise end_lr.")
)


def text_of(curve, advice, columns=80):
    return describe(Outcome(curve=curve, advice=advice), columns)


def one_line(text):
    return " ".join(text.split())


def test_the_report_has_every_number_of_the_advice():
    text = one_line(text_of(flat(), advice_of()))
    for words in ("max_lr 0.14", "base_lr 0.091", "min_lr 0.0018", "interval 0.03 to 0.18", "grade high"):
        assert words in text


def test_the_report_names_every_schedule_once_with_its_lr():
    curve = curve_of(breaks, start=1e-4, end=1.0, count=60, stop=StopReason.DIVERGED, optimizer="SGD")
    advice = advise(curve)
    text = one_line(text_of(curve, advice))
    for kind in KINDS:
        assert len(re.findall(rf"\b{kind}\b", text)) == 1
        lr = format_lr(advice.lr_for(kind))
        assert f"{kind} {lr}" in text or lr in (format_lr(advice.base_lr), format_lr(advice.max_lr))


@pytest.mark.parametrize(("optimizer", "others"), [("SGD", True), ("LBFGS", False), ("Prodigy", False)])
def test_other_peaks_are_listed_where_a_schedule_has_one(optimizer, others):
    curve = curve_of(breaks, start=1e-4, end=1.0, count=60, stop=StopReason.DIVERGED, optimizer=optimizer)
    assert ("peaks:" in text_of(curve, advise(curve))) is others


def test_the_report_has_every_reason_whole():
    reasons = ("The loss falls cleanly. " * 12, "A second reason.", "Supercalifragilistic" * 6)
    text = one_line(text_of(flat(), advice_of(reasons)))
    assert all(one_line(reason) in text for reason in reasons)


@pytest.mark.parametrize("stop", StopReason)
def test_the_report_says_what_ended_the_sweep_and_the_mend(stop):
    text = one_line(text_of(flat(stop=stop), advice_of()))
    assert stop.sentence[1:] in text and stop.hint in text


def test_the_report_says_what_the_sweep_visited_and_used():
    text = one_line(text_of(flat(batches=57, optimizer="AdamW"), advice_of()))
    assert "with AdamW" in text
    assert "50 learning rates from 0.0001 to 1, in equal ratios" in text
    assert "57 training batches used" in text
    assert "in equal differences" in one_line(text_of(flat(mode="linear"), advice_of()))


def test_the_report_says_what_was_special_and_is_silent_where_nothing_was():
    plain = one_line(text_of(flat(), advice_of()))
    assert "GradScaler" not in plain and "parameter groups" not in plain and "validation" not in plain
    special = flat(
        skipped=1, group_scales=(1.0, 0.1), measured="after", nonfinite_lr=0.5, stop=StopReason.NONFINITE, batches=1
    )
    text = one_line(text_of(special, advice_of()))
    assert "nan or infinite at lr 0.5." in text
    assert "1 update skipped by the GradScaler" in text
    assert "2 parameter groups keep their ratios: multiply a learning rate by 1, 0.1." in text
    assert "1 training batch used; the losses are validation losses" in text


@pytest.mark.parametrize("n", [0, 1, 2])
def test_without_advice_the_report_has_grade_and_hint_and_no_lr(n):
    text = text_of(flat(n), NO_ADVICE)
    assert "max_lr" not in text and "base_lr" not in text
    assert "none" in text and "Raise end_lr." in text


@given(
    reasons=st.lists(st.text(st.characters(codec="ascii", categories=["L", "N", "Zs"])).filter(str.strip), max_size=5),
    grade=st.sampled_from(["high", "medium", "low"]),
    stop=st.sampled_from(StopReason),
)
def test_no_line_is_longer_than_80_columns_unless_one_word_is(reasons, grade, stop):
    for line in text_of(flat(stop=stop), advice_of(tuple(reasons), grade)).splitlines():
        assert len(line) <= 80 or len(line.split()) <= 2
        assert line == line.rstrip()


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_the_arithmetic_is_a_table_within_the_width_and_not_in_the_reasons(columns):
    curve = curve_of(breaks, start=1e-4, end=1.0, count=60, stop=StopReason.DIVERGED, optimizer="SGD")
    advice = advise(curve)
    lines = text_of(curve, advice, columns).split("\n")
    table = one_line(" ".join(lines[lines.index("Evidence") :]))
    assert max(map(len, lines)) <= columns
    for each in advice.evidence:
        assert f"{each.part:.3g}" in table and (not each.weight or f"{each.weight:.0%}" in table)
    assert not any("%" in reason or "times" in reason for reason in advice.reasons)


def test_what_the_reasons_say_to_do_is_not_repeated_below_them():
    curve = flat(stop=StopReason.INTERRUPTED)
    hint = StopReason.INTERRUPTED.hint
    assert one_line(text_of(curve, advice_of((f"Early end. {hint}",)))).count(hint) == 1
    assert one_line(text_of(curve, advice_of())).count(hint) == 1
