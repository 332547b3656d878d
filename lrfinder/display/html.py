"""Results and recipes as HTML for a notebook: one ``div`` each, without script or link.

Pictures come in as PNG bytes. No torch, no matplotlib.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

from lrfinder.advice.advice import Advice
from lrfinder.display.decision import decide
from lrfinder.display.page_rows import EVIDENCE_COLUMNS, evidence_rows
from lrfinder.display.summary import advice_rows, sweep_facts
from lrfinder.numbers import format_lr, printable
from lrfinder.record.curve import LossCurve
from lrfinder.record.run import RunRecord

__all__ = ["recipe_html", "result_html"]

# Text keeps the colour of the page, so it is legible in any theme; the frame is a grey that shows on white and black.
_CELL = "text-align: left; padding: 0.15em 1em 0.15em 0; border: none; background: none; vertical-align: top"
_FRAME = "overflow-x: auto; padding: 0.5em 0.8em; border: 1px solid rgba(128, 128, 128, 0.5)"

# A notebook has a theme of its own, which need not be that of the system: JupyterLab and Notebook 7, VS Code, Colab,
# and pages made by Sphinx say it in attributes. Without one, the system's counts.
_DARK_HOSTS = (
    '[data-jp-theme-light="false"], [data-vscode-theme-kind="vscode-dark"], '
    '[data-vscode-theme-kind="vscode-high-contrast"], html[theme="dark"], [data-theme="dark"]'
)
_LIGHT_HOSTS = (
    '[data-jp-theme-light="true"], [data-vscode-theme-kind="vscode-light"], '
    '[data-vscode-theme-kind="vscode-high-contrast-light"], html[theme="light"], [data-theme="light"]'
)
_SHOW = "{{0}} .lrfinder-light {{{{ display: {0} }}}} {{0}} .lrfinder-dark[hidden] {{{{ display: {1} !important }}}}"
_SHOW_DARK, _SHOW_LIGHT = _SHOW.format("none", "inline"), _SHOW.format("inline", "none")
_THEMES = " ".join(
    [
        ".lrfinder-dark[hidden] { display: none }",
        f"@media (prefers-color-scheme: dark) {{ {_SHOW_DARK.format(':root')} }}",
        _SHOW_DARK.format(f":is(:root, :root *):is({_DARK_HOSTS})"),
        _SHOW_LIGHT.format(f":is(:root, :root *):is({_LIGHT_HOSTS})"),
    ]
)


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
    return _framed(
        _heading(decide(advice, run).text),
        _picture(light, dark, alt="Loss against learning rate, with the advised learning rates marked"),
        _table(advice_rows(advice)),
        _heading("Why"),
        _bullets(advice.reasons),
        _evidence(advice),
        _heading("Sweep"),
        _bullets(sweep_facts(curve, advice.reasons)),
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
    return _framed(
        _heading(f"{kind}, peak LR {format_lr(peak_lr)}: call scheduler.step() after every {unit}"),
        _picture(light, dark, alt="Learning rate over training"),
        f'<pre style="{_FRAME}">{escape(code)}</pre>',
    )


def _framed(*parts: str) -> str:
    return f'<div style="max-width: 60em">{"".join(parts)}</div>'


def _heading(text: str) -> str:
    return f'<p style="margin: 0.6em 0 0.2em"><strong>{_escaped(text)}</strong></p>'


def _picture(light: bytes, dark: bytes, *, alt: str) -> str:
    """Both pictures, of which the style sheet shows one; where a host removes it, ``hidden`` leaves the light one.

    Each has a background of its own, so the wrong one for a page is still legible there.
    """
    pictures = "".join(
        f'<img class="lrfinder-{name}"{hidden} src="data:image/png;base64,{base64.b64encode(png).decode("ascii")}" '
        f'alt="{_escaped(alt)}" style="width: 100%; max-width: 640px">'
        for name, hidden, png in (("light", "", light), ("dark", " hidden", dark))
    )
    return f"<style>{_THEMES}</style>{pictures}"


def _table(rows: Sequence[tuple[str, str, str]]) -> str:
    body = "".join(
        f'<tr style="background: none"><th style="{_CELL}">{_escaped(name)}</th>'
        f'<td style="{_CELL}">{_escaped(value).replace(" ", "&nbsp;")}</td>'
        f'<td style="{_CELL}">{_escaped(use)}</td></tr>'
        for name, value, use in rows
    )
    return f'<table style="border: none; color: inherit"><tbody>{body}</tbody></table>'


def _evidence(advice: Advice) -> str:
    """The arithmetic behind the advice, folded; nothing without evidence."""
    rows = evidence_rows(advice.evidence)
    if not rows:
        return ""
    head = "".join(f'<th style="{_CELL}">{name}</th>' for name in EVIDENCE_COLUMNS)
    cells = ["".join(f'<td style="{_CELL}">{_escaped(value)}</td>' for value in row) for row in rows]
    body = "".join(f'<tr style="background: none">{row}</tr>' for row in cells)
    table = f'<table style="border: none; color: inherit"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    return f'<details style="margin: 0.6em 0 0.2em"><summary><strong>Evidence</strong></summary>{table}</details>'


def _bullets(sentences: Sequence[str]) -> str:
    items = "".join(f"<li>{_escaped(sentence)}</li>" for sentence in sentences)
    return f'<ul style="margin: 0">{items}</ul>'


def _escaped(text: str) -> str:
    return escape(printable(text))
