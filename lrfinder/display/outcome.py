"""A range test as it is shown: the curve with what follows from it. No torch; matplotlib only to draw."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from lrfinder.advice.advice import Advice
from lrfinder.advice.advise import advise
from lrfinder.analysis.regimes import Reading, read_curve
from lrfinder.display.decision import Decision, decide
from lrfinder.record.curve import LossCurve
from lrfinder.record.run import RunRecord
from lrfinder.record.trials import TrialRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Outcome"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Curve and advice of a range test; :class:`lrfinder.RangeTestResult` adds what users do with them."""

    curve: LossCurve
    advice: Advice = None  # type: ignore[assignment]  # only until __post_init__
    trials: TrialRecord | None = None
    run: RunRecord | None = None

    def __post_init__(self) -> None:
        if self.advice is None:
            object.__setattr__(self, "advice", advise(self.curve, reading=self.reading))

    @cached_property
    def reading(self) -> Reading:
        """Reading of the curve: smoothed losses, noise, stability edge and low region. Read once, when first used."""
        return read_curve(self.curve)

    @property
    def decision(self) -> Decision:
        """The learning rate to use, with its bounds: the first line of every output."""
        return decide(self.advice, self.run)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Curve with the advice marked; see :func:`lrfinder.plot_curve`. Shows nothing by itself."""
        from lrfinder.display.plotting import plot_curve

        subject = () if self.run is None else self.run.subject
        return plot_curve(self.curve, self.advice, ax, reading=self.reading, subject=subject)
