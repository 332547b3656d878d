"""The result of a range test: the curve, the advice, and the recipes, plots and files made from them.

The result is a value that composes the layers below; each method is a line that delegates. Torch and matplotlib are
imported only when a scheduler or a picture is asked for, so a saved result opens at once.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

from lrfinder.advice.advice import Advice
from lrfinder.checks import check_choice, check_count, check_lr, check_scales
from lrfinder.display.outcome import Outcome
from lrfinder.display.text import describe
from lrfinder.errors import ConfigError
from lrfinder.files import read_value, saved_content, write_json
from lrfinder.recipes import Recipe, recipe_as_swept, updates_as_swept
from lrfinder.record.curve import LossCurve
from lrfinder.record.run import RunRecord
from lrfinder.record.trials import TrialRecord
from lrfinder.schedules.grouping import Grouping
from lrfinder.schedules.schedule import Schedule
from lrfinder.tables.kinds import KIND_TABLE, KINDS

if TYPE_CHECKING:
    from pathlib import Path

    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

__all__ = ["RangeTestResult"]


@dataclass(frozen=True, kw_only=True)
class RangeTestResult(Outcome):
    """Curve and advice of a range test: drawn as the last line of a notebook cell, explained in words when printed.

    Args:
        curve: what the sweep recorded.
        advice: learning rates that follow from it; by default those of :func:`lrfinder.advise`.
        trials: what :meth:`LRFinder.refine` measured, which the advice then follows; None without it.
        run: model, data and training as ``lrfind run`` set them up; None for a test made in Python.

    Example:
        >>> from lrfinder import StopReason, SweepConfig
        >>> config = SweepConfig(start_lr=0.1, end_lr=0.4, num_iter=3)
        >>> curve = LossCurve(lrs=(0.1, 0.2), losses=(3.0, 2.0), stop=StopReason.INTERRUPTED, config=config)
        >>> advice = Advice(
        ...     max_lr=None, base_lr=None, min_lr=None, interval=None, grade="none", reasons=("Too few points.",)
        ... )
        >>> print(str(RangeTestResult(curve=curve, advice=advice)).splitlines()[0])
        No learning rate can be read from this curve; see why.
    """

    def lr_for(self, kind: str, total_steps: int | None = None) -> float:
        """Learning rate to put into the plain torch scheduler of that kind; see :meth:`Advice.lr_for`."""
        return self.advice.lr_for(kind, total_steps)

    def recipe(
        self,
        /,
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
            total_steps: length of the training in optimizer steps; or give the next two.
            epochs, steps_per_epoch: its length in epochs, and the optimizer steps of one.
            **options: passed on, as in ``warmup_steps=500``. Group scales, accumulation, clipping and mixed precision
                are by default those of the training that was swept.

        Raises:
            ConfigError: unknown kind, numbers that do not fit each other, batches in place of updates.
            NoAdviceError: no ``peak_lr``, and the curve has no advice.
        """
        check_choice("kind", kind, KINDS)
        facts, accumulated = self.curve.facts, options.get("accumulation_steps")
        per_epoch = facts.updates_per_epoch(steps_per_epoch, accumulated) if facts else steps_per_epoch
        if peak_lr is None:
            both = total_steps is None and epochs is not None and per_epoch is not None
            horizon = check_count("epochs", epochs) * check_count("steps_per_epoch", per_epoch) if both else total_steps
            peak_lr = self.advice.lr_for(kind, horizon)
        if KIND_TABLE[kind].momentum:
            options.setdefault("cycle_momentum", self.curve.momentum > 0)
        if KIND_TABLE[kind].follows_loss and self.curve.maximized:
            options.setdefault("mode", "max")  # the loss is to rise
        grouping = None if self.run is None else Grouping.from_setup(self.run.setup)
        return recipe_as_swept(
            kind,
            updates_as_swept(facts, grouping),
            peak_lr=peak_lr,
            total_steps=total_steps,
            epochs=epochs,
            steps_per_epoch=steps_per_epoch,
            **{"group_scales": self.curve.group_scales, **options},
        )

    @overload
    def scheduler(self, kind: str, optimizer: Optimizer, **options: Any) -> LRScheduler: ...

    @overload
    def scheduler(self, kind: str, optimizer: Sequence[Optimizer], **options: Any) -> list[LRScheduler]: ...

    def scheduler(self, kind: str, optimizer: Any, **options: Any) -> Any:
        """Stock torch scheduler on ``optimizer``, with the advised learning rate set: ``recipe(...).build(optimizer)``.

        Args:
            kind: one of ``lrfinder.schedules.KINDS``.
            optimizer: the one to train with, or the list of them that was swept; each then gets a scheduler.
            **options: as for :meth:`recipe`.
        """
        return self.recipe(kind, **options).build(optimizer)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the result as JSON; :meth:`load` and ``lrfind show`` read it.

        Raises:
            ConfigError: the folder is missing or cannot be written.
        """
        return write_json(path, "result", self.to_dict())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> RangeTestResult:
        """Result that :meth:`save` wrote, equal to the one saved. Needs no torch.

        Raises:
            FileFormatError: the file is missing, damaged, or not a saved result.
        """
        return read_value(path, "result", cls.from_dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready dictionary, which :meth:`save` and ``lrfind show --json`` write; :meth:`from_dict` reads it."""
        return {
            "curve": self.curve.to_dict(),
            "advice": self.advice.to_dict(),
            "trials": None if self.trials is None else self.trials.to_dict(),
            "run": None if self.run is None else self.run.to_dict(),
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> RangeTestResult:
        """Result from :meth:`to_dict`.

        Raises:
            FileFormatError: a part is missing, unknown or damaged.
        """
        with saved_content("result", hint="Run the range test again."):
            added = ("decision", "format", "version")  # by `lrfind show --json`
            parts = {name: part for name, part in content.items() if name not in added}
            trials, run = parts.pop("trials", None), parts.pop("run", None)
            curve = LossCurve.from_dict(parts.pop("curve"))
            _check_groups(curve)
            updates_as_swept(curve.facts, None)  # refuses what would be no part of printed lines
            for lr in curve.lrs:
                check_lr("each of lrs", lr)
            return cls(
                curve=curve,
                advice=Advice.from_dict(parts.pop("advice")),
                trials=None if trials is None else TrialRecord.from_dict(trials),
                run=None if run is None else RunRecord.from_dict(run),
                **parts,
            )

    def to_html(self, recipe: Schedule | None = None) -> str:
        """One HTML page with everything about the result, which needs nothing from elsewhere.

        Args:
            recipe: to draw, with its lines to paste, as :meth:`recipe` makes it; by default that of ``lrfind run``, and
                none for a test made in Python, whose training has an unknown length.
        """
        from lrfinder.display.page import result_page

        if recipe is None and self.run is not None and self.advice.grade != "none":
            steps = self.run.setup["steps_per_epoch"]
            recipe = self.recipe(self.run.schedule, epochs=self.run.epochs, steps_per_epoch=steps)
        return result_page(self, recipe)

    def __str__(self) -> str:
        return describe(self)

    def _repr_png_(self) -> bytes:
        from lrfinder.display.pictures import figure_png

        return figure_png(self.plot)

    def _repr_html_(self) -> str:
        from lrfinder.display.html import result_html

        return result_html(self)


def _check_groups(curve: LossCurve) -> None:
    scales = check_scales(curve.group_scales)
    counts = [count for _, count in (curve.facts.optimizers if curve.facts is not None else None) or ()]
    if counts and (min(counts) < 1 or sum(counts) != len(scales)):
        raise ConfigError(f"the optimizers must hold the {len(scales)} parameter groups; got {counts} of them.")
