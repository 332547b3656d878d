"""Results and recipes as HTML for a notebook, from ``templates/notebook.html.j2``.

Pictures come in as PNG bytes. No torch, no matplotlib.
"""

from __future__ import annotations

import base64
from typing import Any

from lrfinder.advice.advice import Advice
from lrfinder.display.decision import decide
from lrfinder.display.page_rows import EVIDENCE_COLUMNS, evidence_rows
from lrfinder.display.summary import advice_rows, sweep_facts
from lrfinder.numbers import format_lr
from lrfinder.record.curve import LossCurve
from lrfinder.record.run import RunRecord

__all__ = ["recipe_html", "result_html"]


def result_html(
    curve: LossCurve, advice: Advice, run: RunRecord | None = None, *, light: bytes, dark: bytes
) -> str:
    """The advice as a self-contained piece of HTML: decision, plot, table, reasons, and how the sweep went.

    Args:
        curve: what the sweep recorded.
        advice: what was read from it.
        run: how the test was set up, where that is known.
        light: PNG for pages with a light background.
        dark: PNG for pages with a dark one.

    Returns:
        One ``div`` without script or link, and a style sheet for its pictures; everything from outside is escaped.
    """
    return _rendered(
        decide(advice, run).text,
        light,
        dark,
        alt="Loss against learning rate, with the advised learning rates marked",
        rows=advice_rows(advice),
        reasons=advice.reasons,
        evidence=evidence_rows(advice.evidence),
        columns=EVIDENCE_COLUMNS,
        sweep=sweep_facts(curve, advice.reasons),
    )


def recipe_html(kind: str, peak_lr: float, unit: str, code: str, *, light: bytes, dark: bytes) -> str:
    """The recipe as a self-contained piece of HTML: the learning rate over training, and the lines to paste.

    Args:
        kind: of the schedule, as in ``"cosine"``.
        peak_lr: highest learning rate; > 0.
        unit: what ``scheduler.step()`` is called after, as in ``"batch"``.
        code: lines to paste.
        light: PNG for pages with a light background.
        dark: PNG for pages with a dark one.

    Returns:
        One ``div`` without script or link, and a style sheet for its pictures; everything from outside is escaped.
    """
    title = f"{kind}, peak LR {format_lr(peak_lr)}: call scheduler.step() after every {unit}"
    return _rendered(title, light, dark, alt="Learning rate over training", code=code)


def _rendered(title: str, light: bytes, dark: bytes, *, code: str | None = None, **values: Any) -> str:
    from lrfinder.display.rendering import ENVIRONMENT  # late, for a fast import

    encoded = {name: base64.b64encode(png).decode("ascii") for name, png in (("light", light), ("dark", dark))}
    return ENVIRONMENT.get_template("notebook.html.j2").render(title=title, code=code, **encoded, **values)
