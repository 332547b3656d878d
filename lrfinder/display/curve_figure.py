"""Contents of the plots of curves, as values: points, lines, regimes, marks, axis limits and words.

Every number and every text of a plot is made here, from a curve, its reading and the advice, so it can be checked
without drawing. :mod:`lrfinder.display.plotting` draws these values and computes nothing. No matplotlib, no torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lrfinder.advice.advice import Advice
from lrfinder.analysis.diagnose import unreadable
from lrfinder.analysis.regimes import Reading
from lrfinder.display.limits import loss_limits, lr_axis
from lrfinder.display.marks import Mark, labelled, places
from lrfinder.display.summary import optimizers_in_words
from lrfinder.numbers import format_lr, printable, round_lr
from lrfinder.record.curve import LossCurve, StopReason

__all__ = ["CurveFigure", "Span"]

_LONGEST = 62  # letters of a title in one line; a name that makes it longer is cut
_NAME = 28  # letters of the name of a model or of data, at most


@dataclass(frozen=True, kw_only=True)
class Span:
    """A named stretch of the learning-rate axis; ``share`` is the part of the axis that it covers, in (0, 1]."""

    name: str
    start: float
    end: float
    share: float


@dataclass(frozen=True)
class CurveFigure:
    """Everything that :func:`lrfinder.plot_curve` draws, beside the points of the reading.

    Args:
        curve: result of a range test, of any length.
        reading: what :func:`read_curve` reads from it.
        advice: adds ``base_lr``, ``max_lr``, the interval and the grade.
        subject: names of model and data, where they are known.
    """

    curve: LossCurve
    reading: Reading
    advice: Advice | None = None
    subject: tuple[str, ...] = ()

    @cached_property
    def axis(self) -> tuple[str, tuple[float, float]]:
        """Scale of the learning-rate axis, ``"log"`` or ``"linear"``, and its ends."""
        return lr_axis([self.curve], [lr for _, lr in self._marked])

    @property
    def y_limits(self) -> tuple[float, float] | None:
        """Ends of the loss axis; None for a curve of fewer than two points."""
        return loss_limits(self.reading)

    @property
    def interval(self) -> tuple[float, float] | None:
        """Ends of the shaded interval; None without advice."""
        return None if self.advice is None else self.advice.interval

    @property
    def beyond(self) -> tuple[float, float] | None:
        """The part of it that is hatched: above the edge or, on a curve without one, above the end of the sweep."""
        if self.interval is None or not self.reading.lrs:
            return None
        low, high = self.interval
        end = self.reading.lrs[-1] if self.reading.edge_lr is None else self.reading.edge_lr
        return (max(low, end), high) if round_lr(high) > round_lr(end) else None

    @property
    def regimes(self) -> tuple[Span, ...]:
        """The flat, the falling and the unstable stretch; none where the curve neither falls nor rises."""
        found, place = self.reading, places(*self.axis)
        if not found.lrs or (found.onset_lr is None and found.edge_lr is None):
            return ()
        _, (low, high) = self.axis
        edge = high if found.edge_lr is None else found.edge_lr
        onset = edge if found.onset_lr is None else min(found.onset_lr, edge)
        ends = (("flat", low, onset), ("falling", onset, edge), ("unstable", edge, high))
        return tuple(
            Span(name=name, start=start, end=end, share=place(end) - place(start))
            for name, start, end in ends
            if start < end
        )

    @cached_property
    def marks(self) -> tuple[Mark, ...]:
        """The learning rates to point at, lowest first."""
        marks = [Mark(role=role, x=lr, y=self._smooth_at(lr), value=format_lr(lr)) for role, lr in self._marked]
        return labelled(marks, places(*self.axis))

    @property
    def title(self) -> str:
        """Model, data, optimizer, batch and grade, those of them that are known; in two lines where one is too long."""
        subject = map(printable, self.subject)
        named = " on ".join(name if len(name) <= _NAME else f"{name[: _NAME - 3]}..." for name in subject)
        names, facts = printable(optimizers_in_words(self.curve)), self.curve.facts
        test = f"{names} range test" if names else "Range test"
        if facts is not None and facts.batch_size is not None:
            times = f" x {facts.accumulation_steps}" if facts.accumulation_steps > 1 else ""
            test += f", batch {facts.batch_size}{times}"
        test += "" if self.advice is None else f", grade: {self.advice.grade}"
        whole = ": ".join(filter(None, [named, test]))
        if named and len(whole) > _LONGEST:
            whole = f"{named}\n{test}"
        return whole.replace("$", r"\$")  # "$...$" would be set as a formula

    @property
    def subtitle(self) -> str:
        """The interval, and whether it reaches above the edge or, on a curve without one, the end of the sweep."""
        if self.interval is None or not self.reading.lrs:
            return ""
        low, high = map(round_lr, self.interval)
        why, part = "not swept" if self.reading.edge_lr is None else "unstable", "shaded"
        if (beyond := self.beyond) is not None:
            part = f"hatched where {why}" if beyond[0] > self.interval[0] else f"hatched: {why}"
        return f"best base_lr expected at {low:g} to {high:g} ({part})"

    @property
    def xlabel(self) -> str:
        """With the end of the sweep, and the reason for it."""
        curve, stop = self.curve, self.curve.stop
        lr = curve.lrs[-1] if curve.lrs else curve.config.start_lr
        if stop.is_failure and curve.nonfinite_lr is not None:
            lr = curve.nonfinite_lr
        if stop is StopReason.COMPLETED:
            return f"learning rate (swept to {format_lr(lr)})"
        return f"learning rate (stopped at {format_lr(lr)}: {curve.error or stop.short})"

    @property
    def ylabel(self) -> str:
        """With what the loss was measured on."""
        what = "training loss" if self.curve.measured == "before" else "validation loss"
        what = "loss on samples not trained on" if self.reading.probed else what
        sign = "minus " if self.curve.maximized else ""  # all of a reading is of the loss with its sign turned
        return f"{sign}{what} (raw and smoothed)"

    @property
    def note(self) -> str:
        """Why nothing can be read from the curve, to be written into the axes; "" where something can."""
        found = unreadable(self.curve, self.reading)
        if found is None:
            return ""
        if found.code == "flat":
            return "flat: the loss neither falls nor rises\nby more than its noise"
        points, needed = (f"{value:g}" for value in found.values)
        if found.code == "nonfinite_early":
            return f"the loss became nan or infinite\nafter {points} points; {needed} are needed"
        return f"too few points: {points} of at least {needed}"

    @property
    def _marked(self) -> list[tuple[str, float]]:
        """Role and learning rate of each mark, lowest first."""
        known = [("edge", self.reading.edge_lr)]
        if self.advice is not None:
            known = [("base_lr", self.advice.base_lr), ("max_lr", self.advice.max_lr), *known]
        return sorted(((role, lr) for role, lr in known if lr is not None), key=lambda mark: mark[1])

    def _smooth_at(self, lr: float) -> float | None:
        """Smoothed loss at a learning rate between the points; None outside them."""
        lrs = self.reading.lrs
        if not lrs or not lrs[0] <= lr <= lrs[-1]:
            return None
        return float(np.interp(math.log(lr), np.log(lrs), self.reading.smooth))
