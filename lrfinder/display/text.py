"""A result as plain text for a terminal: no colour, by default 80 columns. No torch, no matplotlib."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from lrfinder.display.outcome import Outcome
from lrfinder.display.page_rows import EVIDENCE_COLUMNS, evidence_rows
from lrfinder.display.summary import advice_rows, headline, sweep_facts
from lrfinder.numbers import printable

__all__ = ["COLUMNS", "bullets", "describe"]

COLUMNS = 80
_NARROWEST = 24  # columns of a text beside others


def describe(result: Outcome, columns: int = COLUMNS) -> str:
    """The decision, then the advice in words, for a terminal.

    Args:
        result: of a range test.
        columns: width of the terminal; > 0.

    Returns:
        Lines of plain text, without a line break at the end; a word longer than a line is left whole.
    """
    reasons = result.advice.reasons
    return "\n".join(
        [
            *(line for sentence in result.decision.sentences for line in _wrapped(sentence, columns)),
            "",
            *_wrapped(headline(result.curve, result.run), columns),
            "",
            *_aligned(advice_rows(result.advice), columns),
            "",
            *bullets("Why", reasons, columns),
            "",
            *_evidence(evidence_rows(result.advice.evidence), columns),
            *bullets("Sweep", sweep_facts(result.curve, reasons), columns),
        ]
    )


def bullets(title: str, sentences: Sequence[str], columns: int = COLUMNS) -> list[str]:
    """Lines of a list under its title; a word longer than a line, such as a link, is left whole."""
    return [title, *(line for sentence in sentences for line in _wrapped(sentence, columns, bullet="- "))]


def _wrapped(text: str, columns: int, *, bullet: str = "") -> list[str]:
    return textwrap.wrap(
        printable(text),
        width=columns,
        initial_indent=bullet,
        subsequent_indent=" " * len(bullet),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _evidence(found: Sequence[tuple[str, ...]], columns: int) -> list[str]:
    """The arithmetic behind the advice as a table; in a narrow terminal, the numbers of a row stand below its name."""
    if not found:
        return []
    rows = [EVIDENCE_COLUMNS, *found]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if sum(widths) + 2 * len(widths) <= columns:
        lines = ["  " + "  ".join(map(str.ljust, row, widths)) for row in rows]
    else:
        heads = EVIDENCE_COLUMNS[1:]
        parts = [
            (name, ", ".join(f"{what} {value}" for what, value in zip(heads, values, strict=True) if value))
            for name, *values in found
        ]
        lines = [line for name, text in parts for line in (f"  {name}", *_wrapped(text, columns, bullet="    "))]
    return ["Evidence", *(line.rstrip() for line in lines), ""]


def _aligned(rows: Sequence[tuple[str, str, str]], columns: int) -> list[str]:
    """Two aligned columns and a third that wraps within its own left edge, or below them where that is too narrow."""
    names, values = (max(len(row[i]) for row in rows) for i in (0, 1))
    lines = []
    for name, value, use in rows:
        start = f"  {name:<{names}}  {value:<{values}}  "
        if len(start) + _NARROWEST <= columns:
            lines += _wrapped(use, columns, bullet=start)
        else:
            lines += [start.rstrip(), *_wrapped(use, columns, bullet="    ")]
    return lines
