"""A result as plain text for a terminal: 80 columns, no colour. No torch, no matplotlib."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from lrfinder.advice.advise import Advice
from lrfinder.display.decision import decide
from lrfinder.display.summary import advice_rows, headline, sweep_facts
from lrfinder.numbers import printable
from lrfinder.record.curve import LossCurve
from lrfinder.record.run import RunRecord

__all__ = ["bullets", "describe"]

_COLUMNS = 80


def describe(curve: LossCurve, advice: Advice, run: RunRecord | None = None) -> str:
    """The decision, then the advice in words, for a terminal of 80 columns.

    Args:
        curve: what the sweep recorded.
        advice: what was read from it.
        run: how the test was set up, where that is known.

    Returns:
        Lines of plain text, without a line break at the end; a word longer than a line is left whole.
    """
    return "\n".join(
        [
            *(line for sentence in decide(advice, run).sentences for line in _wrapped(sentence)),
            "",
            *_wrapped(headline(curve, run)),
            "",
            *_aligned(advice_rows(advice)),
            "",
            *bullets("Why", advice.reasons),
            "",
            *bullets("Sweep", sweep_facts(curve)),
        ]
    )


def bullets(title: str, sentences: Sequence[str]) -> list[str]:
    """Lines of a list for 80 columns under its title; a word longer than a line, such as a link, is left whole."""
    return [title, *(line for sentence in sentences for line in _wrapped(sentence, bullet="- "))]


def _wrapped(text: str, *, bullet: str = "") -> list[str]:
    return textwrap.wrap(
        printable(text),
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
