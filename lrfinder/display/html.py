"""Results and recipes as HTML for a notebook, from ``templates/notebook.html.j2``. No torch."""

from __future__ import annotations

import base64
from collections.abc import Callable
from functools import partial
from typing import Any

from matplotlib.axes import Axes

from lrfinder.display.outcome import Outcome
from lrfinder.display.page_rows import EVIDENCE_COLUMNS, evidence_rows
from lrfinder.display.pictures import figure_png
from lrfinder.display.plotting import plot_recipe
from lrfinder.display.rendering import ENVIRONMENT
from lrfinder.display.summary import advice_rows, sweep_facts
from lrfinder.numbers import format_lr
from lrfinder.schedules.code import scheduler_code
from lrfinder.schedules.schedule import Schedule

__all__ = ["recipe_html", "result_html"]


def result_html(result: Outcome) -> str:
    """The advice as a self-contained piece of HTML: decision, plot, table, reasons, and how the sweep went.

    Returns:
        One ``div`` without script or link, and a style sheet for its pictures; everything from outside is escaped.
    """
    return _rendered(
        result.decision.text,
        result.plot,
        alt="Loss against learning rate, with the advised learning rates marked",
        rows=advice_rows(result.advice),
        reasons=result.advice.reasons,
        evidence=evidence_rows(result.advice.evidence),
        columns=EVIDENCE_COLUMNS,
        sweep=sweep_facts(result.curve, result.advice.reasons),
    )


def recipe_html(schedule: Schedule) -> str:
    """The recipe as :func:`result_html` gives a result: the learning rate over training, and the lines to paste."""
    peak = format_lr(schedule.peak_lr)
    return _rendered(
        f"{schedule.kind}, peak LR {peak}: call scheduler.step() after every {schedule.unit}",
        partial(plot_recipe, schedule),
        alt="Learning rate over training",
        code=scheduler_code(schedule),
    )


def _rendered(title: str, draw: Callable[[Axes], object], *, code: str | None = None, **values: Any) -> str:
    light, dark = (base64.b64encode(figure_png(draw, dark=dark)).decode("ascii") for dark in (False, True))
    template = ENVIRONMENT.get_template("notebook.html.j2")
    return template.render(title=title, code=code, light=light, dark=dark, **values)
