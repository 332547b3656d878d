"""The words around a result: plain text for a terminal, HTML for a notebook.

The opinion comes from :mod:`lrfinder.advice`, the facts from the curve; this module only says them so that people can
act on them, without colour and within 80 columns. It draws nothing: pictures come in as PNG bytes. No torch, no
matplotlib.
"""

from __future__ import annotations

import base64
import textwrap
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from lrfinder.advice import Advice
from lrfinder.curve import LossCurve
from lrfinder.numbers import format_lr
from lrfinder.schedules import KINDS

if TYPE_CHECKING:
    from lrfinder.recipes import Recipe

__all__ = ["describe", "html", "recipe_html"]

_COLUMNS = 80
_GRADES = {
    "high": "a clear curve",
    "medium": "a good start; read the reasons",
    "low": "a hint only; read the reasons before a long run",
    "none": "no learning rate can be read from this curve; see why",
}
# Text keeps the colour of the page, so it is legible in any theme; the frame is a grey that shows on white and black.
_CELL = "text-align: left; padding: 0.15em 1em 0.15em 0; border: none; background: none; vertical-align: top"
_FRAME = "overflow-x: auto; padding: 0.5em 0.8em; border: 1px solid rgba(128, 128, 128, 0.5)"


def describe(curve: LossCurve, advice: Advice) -> str:
    """The advice in words, for a terminal of 80 columns.

    Args:
        curve: what the sweep recorded.
        advice: what was read from it.

    Returns:
        Lines of plain text, without a line break at the end; a word longer than a line is left whole.
    """
    return "\n".join(
        [
            *_wrapped(_headline(curve)),
            "",
            *_aligned(_rows(advice)),
            "",
            "Why",
            *(line for reason in advice.reasons for line in _wrapped(reason, bullet="- ")),
            "",
            "Sweep",
            *(line for fact in _sweep_facts(curve) for line in _wrapped(fact, bullet="- ")),
        ]
    )


def html(curve: LossCurve, advice: Advice, *, light: bytes, dark: bytes) -> str:
    """The advice as a self-contained piece of HTML: plot, table, reasons, and how the sweep went.

    Args:
        curve: what the sweep recorded.
        advice: what was read from it.
        light: PNG for pages with a light background.
        dark: PNG for pages with a dark one.

    Returns:
        One ``div`` without script, style sheet or link; everything from outside is escaped.
    """
    return _framed(
        _picture(light, dark, alt="Loss against learning rate, with the advised learning rates marked"),
        _table(_rows(advice)),
        _heading("Why"),
        _bullets(advice.reasons),
        _heading("Sweep"),
        _bullets(_sweep_facts(curve)),
    )


def recipe_html(recipe: Recipe, *, light: bytes, dark: bytes) -> str:
    """The recipe as a self-contained piece of HTML: the learning rate over training, and the lines to paste.

    Args:
        recipe: the schedule.
        light: PNG for pages with a light background.
        dark: PNG for pages with a dark one.

    Returns:
        One ``div`` without script, style sheet or link; everything from outside is escaped.
    """
    after = "batch" if recipe.interval == "step" else "epoch"
    return _framed(
        _heading(f"{recipe.kind}, peak LR {format_lr(recipe.peak_lr)}: scheduler.step() belongs after every {after}"),
        _picture(light, dark, alt="Learning rate over training"),
        f'<pre style="{_FRAME}">{escape(recipe.code())}</pre>',
    )


def _headline(curve: LossCurve) -> str:
    return "Learning-rate range test" + (f" with {curve.optimizer}" if curve.optimizer else "")


def _rows(advice: Advice) -> list[tuple[str, str, str]]:
    """Name, value, and what the value is for."""
    grade = ("grade", advice.grade, _GRADES[advice.grade])
    if advice.max_lr is None or advice.base_lr is None or advice.min_lr is None or advice.interval is None:
        return [grade]
    peaks = {kind: format_lr(advice.lr_for(kind)) for kind in KINDS}
    base = format_lr(advice.base_lr)
    like_base = [kind for kind, peak in peaks.items() if peak == base and kind != "onecycle"]
    others = [f"{kind} {peak}" for kind, peak in peaks.items() if peak != base and kind != "onecycle"]
    low, high = advice.interval
    return [
        ("max_lr", format_lr(advice.max_lr), "peak for onecycle"),
        ("base_lr", base, "peak for " + ", ".join(like_base)),
        ("min_lr", format_lr(advice.min_lr), "lowest learning rate that visibly trains"),
        ("interval", f"{format_lr(low)} to {format_lr(high)}", "where the best base_lr is expected"),
        grade,
        ("others", "", "peaks: " + ", ".join(others)),
    ]


def _sweep_facts(curve: LossCurve) -> list[str]:
    """How the sweep went: why it ended with the mend, what it visited, what it cost."""
    at = f" at lr {format_lr(curve.nonfinite_lr)}" if curve.nonfinite_lr is not None else ""
    ended = f"{curve.stop.sentence}{at}."
    facts = [f"{ended[0].upper()}{ended[1:]} {curve.stop.hint}".rstrip()]
    if curve.lrs:
        spacing = "equal ratios" if curve.config.mode == "exp" else "equal differences"
        facts.append(
            f"{_count(len(curve), 'learning rate')} from {format_lr(curve.lrs[0])} to {format_lr(curve.lrs[-1])}, "
            f"in {spacing}."
        )
    kind = "training" if curve.measured == "before" else "validation"
    facts.append(f"{_count(curve.batches, 'training batch', 'training batches')} used; the losses are {kind} losses.")
    if curve.skipped:
        facts.append(f"{_count(curve.skipped, 'update')} skipped by the GradScaler and tried again.")
    if len(curve.group_scales) > 1:
        scales = ", ".join(f"{scale:g}" for scale in curve.group_scales)
        facts.append(
            f"The {len(curve.group_scales)} parameter groups keep their ratios: multiply a learning rate by {scales}."
        )
    return facts


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def _wrapped(text: str, *, bullet: str = "") -> list[str]:
    return textwrap.wrap(
        text,
        width=_COLUMNS,
        initial_indent=bullet,
        subsequent_indent=" " * len(bullet),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _aligned(rows: Sequence[tuple[str, str, str]]) -> list[str]:
    """Two aligned columns and a third that wraps within its own left edge."""
    names, values = (max(len(row[i]) for row in rows) for i in (0, 1))
    return [
        line for name, value, use in rows for line in _wrapped(use, bullet=f"  {name:<{names}}  {value:<{values}}  ")
    ]


def _framed(*parts: str) -> str:
    return f'<div style="max-width: 60em">{"".join(parts)}</div>'


def _heading(text: str) -> str:
    return f'<p style="margin: 0.6em 0 0.2em"><strong>{escape(text)}</strong></p>'


def _picture(light: bytes, dark: bytes, *, alt: str) -> str:
    """Both pictures have a background of their own, so the wrong one for a page is still legible there."""
    sources = [f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}" for png in (dark, light)]
    return (
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{sources[0]}">'
        f'<img src="{sources[1]}" alt="{escape(alt)}" style="width: 100%; max-width: 640px"></picture>'
    )


def _table(rows: Sequence[tuple[str, str, str]]) -> str:
    body = "".join(
        f'<tr style="background: none"><th style="{_CELL}">{escape(name)}</th>'
        f'<td style="{_CELL}">{escape(value).replace(" ", "&nbsp;")}</td><td style="{_CELL}">{escape(use)}</td></tr>'
        for name, value, use in rows
    )
    return f'<table style="border: none; color: inherit"><tbody>{body}</tbody></table>'


def _bullets(sentences: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f'<ul style="margin: 0">{items}</ul>'
