"""A result as one HTML page that needs nothing from elsewhere, from ``templates/report.html.j2``. No torch."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from functools import partial
from importlib import resources
from typing import Any

from matplotlib.axes import Axes

from lrfinder import __version__
from lrfinder.advice.words import explain
from lrfinder.analysis.rules import Suggestion, minimum, slide, steepest, valley
from lrfinder.display.outcome import Outcome
from lrfinder.display.page_rows import evidence_rows, run_rows
from lrfinder.display.pictures import colours_of_page, figure_svg
from lrfinder.display.plotting import SIZE, plot_recipe
from lrfinder.display.reference import reference_lines
from lrfinder.display.rendering import ENVIRONMENT
from lrfinder.display.summary import advice_rows, headline, sweep_facts
from lrfinder.errors import ConfigError, NoAdviceError
from lrfinder.numbers import format_lr, printable
from lrfinder.schedules.code import scheduler_code
from lrfinder.schedules.schedule import Schedule

__all__ = ["PAGE_COLOURS", "result_page"]

PAGE_COLOURS = {
    "light": {
        **{"--paper": "#ffffff", "--ink": "#1a1c1e", "--muted": "#56595d", "--rule": "#d0d3d6"},
        **{"--code": "#f5f6f7", "--accent": "#0b5cad", **colours_of_page(dark=False)},
    },
    "dark": {
        **{"--paper": "#121417", "--ink": "#e8eaed", "--muted": "#a9aeb4", "--rule": "#3c4043"},
        **{"--code": "#1b1e22", "--accent": "#8ab8ff", **colours_of_page(dark=True)},
    },
}
"""Variables of the style sheet by colour scheme."""

_PHONE = (3.9, 3.5)  # inches; letters are read at the width of a phone, 375 pixels
_RULES: tuple[Callable[..., Suggestion], ...] = (slide, valley, steepest, minimum)


def result_page(result: Outcome, schedule: Schedule | None) -> str:
    """The page: decision, curve, findings, schedule with the lines to paste, evidence, settings, other rules.

    Everything from outside is escaped, and the policy in its head allows no script but its own.

    Args:
        result: of a range test.
        schedule: to draw, with its lines to paste; None leaves both out.

    Raises:
        ConfigError: the schedule is none, as a file name.
    """
    if not isinstance(schedule, Schedule | None):
        raise ConfigError(
            f"to_html takes a recipe, or nothing, and returns the page; got a {type(schedule).__name__}. "
            "Write it: Path(\"lr.html\").write_text(result.to_html())."
        )
    curve, advice, run = result.curve, result.advice, result.run
    source = (resources.files("lrfinder.display") / "templates" / "copy.js").read_text(encoding="utf-8")
    found = explain((), advice.findings)
    row = None if run is None else run.reference
    return ENVIRONMENT.get_template("report.html.j2").render(
        headline=headline(curve, run),
        decision=result.decision,
        advice_rows=advice_rows(advice),
        findings=found,
        reasons=[each for each in advice.reasons if each not in found],
        evidence_rows=evidence_rows(advice.evidence),
        reference=[_without_link(each) for each in reference_lines(run)],
        link=None if row is None else row.link,
        run_rows=run_rows(curve, run),
        sweep=sweep_facts(curve, advice.reasons),
        other_rows=[_other(rule, result) for rule in _RULES],
        script=source,
        script_hash=f"sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode('ascii')}",
        version=__version__,
        **PAGE_COLOURS,
        **_pictures(result, schedule),
    )


def _pictures(result: Outcome, schedule: Schedule | None) -> dict[str, Any]:
    alt = f"Loss against learning rate, raw and smoothed. {result.decision.sentences[0]}"
    pictures: dict[str, Any] = {"curve_svgs": _sizes(result.plot, "curve", printable(alt))}
    if schedule is None:
        return {**pictures, "schedule_svgs": [], "code": None}
    alt = f"Learning rate over the training: {schedule.kind} with a peak of {format_lr(schedule.peak_lr)}."
    drawn = _sizes(partial(plot_recipe, schedule), "schedule", alt)
    return {**pictures, "schedule_svgs": drawn, "code": scheduler_code(schedule)}


def _sizes(draw: Callable[[Axes], object], name: str, alt: str) -> list[tuple[str, str]]:
    """The same picture for a wide and for a narrow window, each with its class in the style sheet."""
    sizes = (("wide", name, SIZE), ("narrow", f"{name}-narrow", _PHONE))
    return [(shown, figure_svg(draw, name=prefix, alt=alt, size=size)) for shown, prefix, size in sizes]


def _other(rule: Callable[..., Suggestion], result: Outcome) -> tuple[str, str, str]:
    try:
        suggestion = rule(result.curve, reading=result.reading)
    except NoAdviceError as error:
        return rule.__name__, "none", str(error)
    return rule.__name__, format_lr(suggestion.lr), suggestion.reference


def _without_link(sentence: str) -> str:
    """The sentence without the address at its end, which the page gives as a link."""
    return sentence.partition(", https://")[0]
