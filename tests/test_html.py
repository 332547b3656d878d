"""The HTML of results and recipes: the words of the report, and nothing that can break out of it."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser

import pytest
from curves import breaks, curve_of, flat

from lrfinder.advice.advice import Advice
from lrfinder.advice.advise import advise
from lrfinder.display.html import recipe_html, result_html
from lrfinder.display.outcome import Outcome
from lrfinder.display.pictures import figure_png
from lrfinder.recipes import recipe
from lrfinder.record.curve import StopReason
from lrfinder.tables.kinds import KINDS

HOSTILE = "<script>alert('1')</script> & \"quotes\""


def advice_of(reasons=("The edge is sharp.",), grade="high"):
    return Advice(
        max_lr=0.14, base_lr=0.091, min_lr=0.0018, interval=(0.03, 0.18), grade=grade, reasons=reasons, edge_lr=0.3
    )


NO_ADVICE = Advice(
    max_lr=None, base_lr=None, min_lr=None, interval=None, grade="none", reasons=("The curve is flat.", "Raise end_lr.")
)


def page_of(curve, advice):
    return result_html(Outcome(curve=curve, advice=advice))


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


def test_the_html_has_the_same_words_as_the_report():
    curve, advice = flat(optimizer="AdamW", batches=57), advice_of(("First.", "Second & last."))
    page = Balanced(page_of(curve, advice))
    words = one_line(" ".join(page.words).replace("\xa0", " "))
    for part in ("0.14", "0.091", "0.0018", "0.03 to 0.18", "high", "First.", "Second & last.", "57 training batches"):
        assert part in words


def test_without_a_style_sheet_the_dark_picture_is_hidden():
    shown = Outcome(curve=flat(), advice=advice_of())
    page = result_html(shown)
    light, dark = (re.escape(base64.b64encode(figure_png(shown.plot, dark=dark)).decode()) for dark in (False, True))
    assert re.search(rf'<img class="lrfinder-light" src="data:image/png;base64,{light}" alt="[^"]+"', page)
    assert re.search(rf'<img class="lrfinder-dark" hidden src="data:image/png;base64,{dark}" alt="[^"]+"', page)


def test_the_theme_of_the_notebook_comes_before_that_of_the_system():
    page = page_of(flat(), advice_of())
    system, dark, light = (page.index(words) for words in ("prefers-color-scheme", 'light="false"', 'light="true"'))
    assert system < dark < light  # of rules that are as specific, the last counts


@pytest.mark.parametrize("advice", [advice_of(), NO_ADVICE], ids=["advice", "none"])
def test_the_html_needs_nothing_from_elsewhere_and_sets_no_text_colour(advice):
    page = page_of(flat(), advice)
    assert "http" not in page and not Balanced(page).seen & {"script", "link"}
    assert set(re.findall(r"[\"; ]color: (\w+)", page)) <= {"inherit"}


def test_the_html_escapes_what_comes_from_outside():
    curve, advice = flat(optimizer=HOSTILE), advice_of((HOSTILE,))
    page = page_of(curve, advice)
    assert "<script" not in page and "script" not in Balanced(page).seen
    assert HOSTILE in "".join(Balanced(page).words)


@pytest.mark.parametrize("kind", KINDS)
def test_the_html_of_a_recipe_has_peak_code_and_where_to_step(kind):
    plan = recipe(kind, peak_lr=0.0123, total_steps=1000)
    page = Balanced(recipe_html(plan))
    words = "".join(page.words)
    assert kind in words and "peak LR 0.012" in words
    assert plan.code() in words
    assert "after every batch" in words if plan.interval == "step" else "after every epoch" in words


def test_the_html_has_the_arithmetic_of_the_advice_in_a_fold():
    curve = curve_of(breaks, start=1e-4, end=1.0, count=60, stop=StopReason.DIVERGED, optimizer="SGD")
    advice = advise(curve)
    page = Balanced(page_of(curve, advice))
    words = one_line(" ".join(page.words))
    assert advice.evidence and "details" in page.seen
    assert all(f"{each.part:.3g} {each.lr:.2g}" in words for each in advice.evidence)
    assert "details" not in Balanced(page_of(flat(), NO_ADVICE)).seen
