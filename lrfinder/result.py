"""What a range test hands back: the record, the advice, and every way on from there.

The result is a value that composes the layers below; each method is a line that delegates. No torch and no matplotlib
until a scheduler or a picture is asked for, so a saved result opens in an instant.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from lrfinder.advice import Advice, advise
from lrfinder.checks import check_choice, check_count
from lrfinder.curve import LossCurve
from lrfinder.errors import FileFormatError
from lrfinder.files import read_json, write_json
from lrfinder.recipes import Recipe, recipe
from lrfinder.report import describe, html
from lrfinder.tables.kinds import KIND_TABLE, KINDS
from lrfinder.trials import TrialRecord

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

__all__ = ["RangeTestResult"]


@dataclass(frozen=True, kw_only=True)
class RangeTestResult:
    """Curve and advice of a range test: draws itself as the last line of a notebook cell, explains itself when printed.

    Args:
        curve: what the sweep recorded.
        advice: what was read from it; left out, it is read when it is first asked for (see :func:`lrfinder.advise`).
        trials: what :meth:`LRFinder.refine` measured, which the advice then follows; None without it.

    Example:
        >>> from lrfinder import StopReason, SweepConfig
        >>> config = SweepConfig(start_lr=0.1, end_lr=0.4, num_iter=3)
        >>> curve = LossCurve(lrs=(0.1, 0.2), losses=(3.0, 2.0), stop=StopReason.INTERRUPTED, config=config)
        >>> advice = Advice(
        ...     max_lr=None, base_lr=None, min_lr=None, interval=None, grade="none", reasons=("Too few points.",)
        ... )
        >>> print(str(RangeTestResult(curve=curve, advice=advice)).splitlines()[0])
        Learning-rate range test
    """

    curve: LossCurve
    advice: Advice = field(default_factory=lambda: cast(Advice, None))
    trials: TrialRecord | None = None

    def __post_init__(self) -> None:
        if self.advice is None:
            object.__delattr__(self, "advice")

    def __getattr__(self, name: str) -> Any:
        # Called only for what is not there.
        if name != "advice":
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        object.__setattr__(self, "advice", advise(self.curve))
        return self.advice

    def lr_for(self, kind: str, total_steps: int | None = None) -> float:
        """Learning rate to put into the plain torch scheduler of that kind; see :meth:`Advice.lr_for`."""
        return self.advice.lr_for(kind, total_steps)

    def recipe(
        self,
        kind: str,
        *,
        peak_lr: float | None = None,
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        **options: Any,
    ) -> Recipe:
        """Schedule of that kind with the advised learning rate; see :func:`lrfinder.recipe`.

        Args:
            kind: one of ``lrfinder.schedules.KINDS``.
            peak_lr: learning rate to use instead of the advised one; > 0.
            total_steps: length of training in iterations; or give the next two.
            epochs: length of training in epochs.
            steps_per_epoch: iterations per epoch.
            **options: passed on, as in ``warmup_steps=500``.

        Raises:
            ConfigError: unknown kind, or numbers that do not fit each other.
            NoAdviceError: no ``peak_lr``, and the curve carries no advice.
        """
        check_choice("kind", kind, KINDS)
        if peak_lr is None:
            horizon = total_steps
            if total_steps is None and epochs is not None and steps_per_epoch is not None:
                horizon = check_count("epochs", epochs) * check_count("steps_per_epoch", steps_per_epoch)
            peak_lr = self.advice.lr_for(kind, horizon)
        if KIND_TABLE[kind].momentum:
            options.setdefault("cycle_momentum", self.curve.momentum > 0)
        return recipe(
            kind,
            peak_lr=peak_lr,
            total_steps=total_steps,
            epochs=epochs,
            steps_per_epoch=steps_per_epoch,
            group_scales=self.curve.group_scales,
            **options,
        )

    def scheduler(self, kind: str, optimizer: Optimizer, **options: Any) -> LRScheduler:
        """Stock torch scheduler on ``optimizer``, with the advised learning rate set: ``recipe(...).build(optimizer)``.

        Args:
            kind: one of ``lrfinder.schedules.KINDS``.
            optimizer: the one to train with.
            **options: as for :meth:`recipe`.
        """
        return self.recipe(kind, **options).build(optimizer)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Curve with the advice marked; see :func:`lrfinder.plot_curve`. Shows nothing by itself."""
        from lrfinder.plotting import plot_curve

        return plot_curve(self.curve, self.advice, ax)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the result as JSON; :meth:`load` and ``lrfind show`` read it.

        Raises:
            ConfigError: the folder is missing or cannot be written.
        """
        content = {"curve": self.curve.to_dict(), "advice": self.advice.to_dict()}
        if self.trials is not None:
            content["trials"] = self.trials.to_dict()
        return write_json(path, "result", content)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> RangeTestResult:
        """Result that :meth:`save` wrote, equal to the one saved. Needs no torch.

        Raises:
            FileFormatError: the file is missing, damaged, or not a saved result.
        """
        content = read_json(path, "result")
        if "race" in content:  # its name before 0.1.0
            content["trials"] = content.pop("race")
        if set(content) - {"trials"} != {"curve", "advice"}:
            raise FileFormatError(
                f"{path} has the parts {sorted(content)}; a saved result has 'advice', 'curve' and perhaps 'trials'. "
                "Run the range test again."
            )
        return cls(
            curve=LossCurve.from_dict(content["curve"]),
            advice=Advice.from_dict(content["advice"]),
            trials=TrialRecord.from_dict(content["trials"]) if "trials" in content else None,
        )

    def __str__(self) -> str:
        return describe(self.curve, self.advice)

    def _repr_png_(self) -> bytes:
        from lrfinder.plotting import figure_png

        return figure_png(self.plot)

    def _repr_html_(self) -> str:
        from lrfinder.plotting import figure_png

        return html(self.curve, self.advice, light=figure_png(self.plot), dark=figure_png(self.plot, dark=True))
