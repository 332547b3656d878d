"""What the words promise: every number and every reason, in 80 columns, and HTML that nothing can break out of."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrfinder.advice import Advice, advise
from lrfinder.curve import LossCurve, StopReason, SweepConfig
from lrfinder.recipes import recipe
from lrfinder.report import describe, format_lr, html, recipe_html
from lrfinder.schedules import KINDS

LIGHT, DARK = b"light png", b"dark png"
HOSTILE = "<script>alert('1')</script> & \"quotes\""


def curve_of(n=50, *, stop=StopReason.DIVERGED, mode="exp", **facts):
    config = SweepConfig(start_lr=1e-4, end_lr=1.0, num_iter=max(n, 2), mode=mode)
    lrs = tuple(config.lr_at(i) for i in range(n))
    return LossCurve(lrs=lrs, losses=(1.0,) * n, stop=stop, config=config, **facts)


def advice_of(reasons=("The edge is sharp.",), grade="high"):
    return Advice(
        max_lr=0.14, base_lr=0.091, min_lr=0.0018, interval=(0.03, 0.18), grade=grade, reasons=reasons, edge_lr=0.3
    )


NO_ADVICE = Advice(
    max_lr=None, base_lr=None, min_lr=None, interval=None, grade="none", reasons=("The curve is flat.", "Raise end_lr.")
)


def one_line(text):
    return " ".join(text.split())


class Balanced(HTMLParser):
    """Fails on a tag that is closed out of order; remembers which tags there were."""

    VOID = ("img", "source", "br")

    def __init__(self, page):
        super().__init__()
        self.open, self.seen, self.words = [], set(), []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_the_report_has_every_number_of_the_advice():
    text = one_line(describe(curve_of(), advice_of()))
    for words in ("max_lr 0.14", "base_lr 0.091", "min_lr 0.0018", "interval 0.03 to 0.18", "grade high"):
        assert words in text


def test_the_report_names_every_schedule_once_with_its_lr():
    config = SweepConfig(start_lr=1e-4, end_lr=1.0, num_iter=60)
    lrs = tuple(config.lr_at(i) for i in range(60))
    losses = tuple(0.4 + 1.9 / (1 + lr / 0.01) + (lr / 0.5) ** 4 for lr in lrs)
    curve = LossCurve(lrs=lrs, losses=losses, stop=StopReason.DIVERGED, config=config, optimizer="SGD")
    advice = advise(curve)
    text = one_line(describe(curve, advice))
    for kind in KINDS:
        assert len(re.findall(rf"\b{kind}\b", text)) == 1
        lr = format_lr(advice.lr_for(kind))
        assert f"{kind} {lr}" in text or lr in (format_lr(advice.base_lr), format_lr(advice.max_lr))


def test_the_report_has_every_reason_whole():
    reasons = ("The loss falls cleanly. " * 12, "A second reason.", "Supercalifragilistic" * 6)
    text = one_line(describe(curve_of(), advice_of(reasons)))
    assert all(one_line(reason) in text for reason in reasons)


@pytest.mark.parametrize("stop", StopReason)
def test_the_report_says_what_ended_the_sweep_and_the_mend(stop):
    text = one_line(describe(curve_of(stop=stop), advice_of()))
    assert stop.sentence[1:] in text and stop.hint in text


def test_the_report_says_what_the_sweep_visited_and_used():
    text = one_line(describe(curve_of(batches=57, optimizer="AdamW"), advice_of()))
    assert "with AdamW" in text
    assert "50 learning rates from 0.0001 to 1, in equal ratios" in text
    assert "57 training batches used" in text
    assert "in equal differences" in one_line(describe(curve_of(mode="linear"), advice_of()))


def test_the_report_says_what_was_special_and_is_silent_where_nothing_was():
    plain = one_line(describe(curve_of(), advice_of()))
    assert "GradScaler" not in plain and "parameter groups" not in plain and "validation" not in plain
    special = curve_of(
        skipped=1, group_scales=(1.0, 0.1), measured="after", nonfinite_lr=0.5, stop=StopReason.NONFINITE, batches=1
    )
    text = one_line(describe(special, advice_of()))
    assert "nan or infinite at lr 0.5." in text
    assert "1 update skipped by the GradScaler" in text
    assert "2 parameter groups keep their ratios: multiply a learning rate by 1, 0.1." in text
    assert "1 training batch used; the losses are validation losses" in text


@pytest.mark.parametrize("n", [0, 1, 2])
def test_without_advice_the_report_has_grade_and_hint_and_no_lr(n):
    text = describe(curve_of(n), NO_ADVICE)
    assert "max_lr" not in text and "base_lr" not in text
    assert "none" in text and "Raise end_lr." in text


@given(
    reasons=st.lists(st.text(st.characters(codec="ascii", categories=["L", "N", "Zs"])).filter(str.strip), max_size=5),
    grade=st.sampled_from(["high", "medium", "low"]),
    stop=st.sampled_from(StopReason),
)
def test_no_line_is_longer_than_80_columns_unless_one_word_is(reasons, grade, stop):
    for line in describe(curve_of(stop=stop), advice_of(tuple(reasons), grade)).splitlines():
        assert len(line) <= 80 or len(line.split()) <= 2
        assert line == line.rstrip()


@pytest.mark.parametrize(
    "lr, text", [(0.0123, "0.012"), (1e-5, "1e-05"), (1.0, "1"), (150.0, "150"), (0.099999, "0.1"), (1e-30, "1e-30")]
)
def test_a_learning_rate_is_written_with_two_digits(lr, text):
    assert format_lr(lr) == text


def test_the_html_has_the_same_words_as_the_report():
    curve, advice = curve_of(optimizer="AdamW", batches=57), advice_of(("First.", "Second & last."))
    page = Balanced(html(curve, advice, light=LIGHT, dark=DARK))
    words = one_line(" ".join(page.words).replace("\xa0", " "))
    for part in ("0.14", "0.091", "0.0018", "0.03 to 0.18", "high", "First.", "Second & last.", "57 training batches"):
        assert part in words


def test_the_html_carries_both_pictures_and_chooses_by_theme():
    page = html(curve_of(), advice_of(), light=LIGHT, dark=DARK)
    light, dark = (base64.b64encode(png).decode() for png in (LIGHT, DARK))
    assert re.search(rf'<source media="\(prefers-color-scheme: dark\)" srcset="data:image/png;base64,{dark}">', page)
    assert re.search(rf'<img src="data:image/png;base64,{light}" alt="[^"]+"', page)


@pytest.mark.parametrize("advice", [advice_of(), NO_ADVICE], ids=["advice", "none"])
def test_the_html_needs_nothing_from_elsewhere_and_sets_no_text_colour(advice):
    page = html(curve_of(), advice, light=LIGHT, dark=DARK)
    assert "http" not in page and not Balanced(page).seen & {"script", "link", "style"}
    assert set(re.findall(r"[\"; ]color: (\w+)", page)) <= {"inherit"}


def test_the_html_escapes_what_comes_from_outside():
    curve, advice = curve_of(optimizer=HOSTILE), advice_of((HOSTILE,))
    page = html(curve, advice, light=LIGHT, dark=DARK)
    assert "<script" not in page and "script" not in Balanced(page).seen
    assert HOSTILE in "".join(Balanced(page).words)


@pytest.mark.parametrize("kind", KINDS)
def test_the_html_of_a_recipe_has_peak_code_and_where_to_step(kind):
    plan = recipe(kind, peak_lr=0.0123, total_steps=1000)
    page = Balanced(recipe_html(plan, light=LIGHT, dark=DARK))
    words = "".join(page.words)
    assert kind in words and "peak LR 0.012" in words
    assert plan.code() in words
    assert "after every batch" in words if plan.interval == "step" else "after every epoch" in words
