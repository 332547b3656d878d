"""A race of learning rates: which to try next, for how long, and which has won. A state machine and a record.

Like :mod:`lrfinder.sweep` it knows neither torch nor a clock, so the finder's short trainings, a foreign trainer and a
benchmark's tables feed the same rule. Every decision compares differences of losses with other differences of
losses. What the winner means for the advice is said in :mod:`lrfinder.advice`.

The rule, in two stages. *Qualifying*: four heats of a sixteenth of the training each, all at a constant LR with a short
cooldown: such heats like the LR that the whole training likes, where miniatures of a decaying schedule like one that is
too high. They start at the advised LR and at four times more and less, and close in on the best. *Final*, where the
budget allows: two long miniatures of the schedule itself, one at the LR that qualified and one at twice that (or at
half, if the first went wrong). Near ties go to the LR one came from, the more so the shorter the heats.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lrfinder.checks import check_choice, check_count, check_lr, check_number
from lrfinder.errors import ConfigError, FileFormatError
from lrfinder.recipes import Recipe, recipe
from lrfinder.tables.constants import FITTED
from lrfinder.tables.kinds import KIND_TABLE, KINDS

__all__ = ["Heat", "HeatPlan", "Race", "RaceRecord", "plan_race", "whole_schedule"]

_STAGES = ("qualifying", "final")
_STRIDES = {"qualifying": 4.0, "final": 2.0}  # between neighbours at the start of a stage
_CLOSE = 2.0  # neighbours this near show the winner well enough: losses are flat around the best
_FEWEST, _SHORTEST = 3, 10  # heats that make a race, and optimizer steps below which a heat says nothing
_FINALISTS = 2
_COOLDOWN = 0.2  # part of a qualifying heat


@dataclass(frozen=True, kw_only=True)
class Heat:
    """One short training.

    Args:
        lr: peak learning rate of the reference parameter group; > 0.
        steps: optimizer steps it made.
        loss: validation loss at its end; None where it blew up or was given up.
        stage: ``"qualifying"`` or ``"final"``.
    """

    lr: float
    steps: int
    loss: float | None
    stage: str = "qualifying"

    def __post_init__(self) -> None:
        check_lr("lr", self.lr)
        check_count("steps", self.steps)
        if self.loss is not None and not math.isfinite(self.loss):
            raise ConfigError(f"the loss of a heat must be finite, or None where it blew up; got {self.loss!r}.")
        check_choice("stage", self.stage, _STAGES)


@dataclass(frozen=True, kw_only=True)
class RaceRecord:
    """What a race measured: facts and no opinion, but for the LR that won.

    Args:
        schedule: kind of schedule raced for.
        total_steps: optimizer steps of the training it is for.
        budget_steps: optimizer steps the race was allowed; never exceeded.
        centre: advised LR that it started from; > 0.
        start_loss: validation loss before any training.
        visible: fall of the loss below ``start_loss`` that shows learning; >= 0. From trained weights a short training
            prefers an LR that is too low, so nothing below the centre is tried before a heat has shown it.
        measured: ``"validation"`` or, without a validation loader, ``"held-out"`` training batches.
        heats: in the order in which they were run.
        interrupted: whether Ctrl-C ended it.

    Raises:
        ConfigError: more steps were made than the budget has, or a number is out of its range.

    Example:
        >>> heats = tuple(Heat(lr=lr, steps=60, loss=loss) for lr, loss in ((0.1, 1.5), (0.4, 1.0), (0.025, 1.9)))
        >>> record = RaceRecord(
        ...     schedule="cosine", total_steps=1000, budget_steps=200, centre=0.1, start_loss=2.0, heats=heats
        ... )
        >>> round(record.winner, 2), record.spent
        (0.19, 180)
    """

    schedule: str
    total_steps: int
    budget_steps: int
    centre: float
    start_loss: float
    visible: float = 0.0
    measured: str = "validation"
    heats: tuple[Heat, ...] = ()
    interrupted: bool = False

    def __post_init__(self) -> None:
        check_choice("schedule", self.schedule, KINDS)
        check_count("total_steps", self.total_steps)
        check_lr("centre", self.centre)
        check_choice("measured", self.measured, ("validation", "held-out"))
        if not math.isfinite(self.start_loss):
            raise ConfigError(f"start_loss must be finite; got {self.start_loss!r}.")
        check_number("visible", self.visible, 0.0)
        check_count("budget_steps", self.budget_steps)
        if self.spent > self.budget_steps:
            raise ConfigError(f"a race of {self.budget_steps} steps cannot have spent {self.spent}.")

    @property
    def spent(self) -> int:
        """Optimizer steps made in all heats."""
        return sum(heat.steps for heat in self.heats)

    @property
    def learning(self) -> bool:
        """Whether a heat fell visibly below the loss it started from."""
        best = _best(self.heats)
        return best is not None and _loss(best) < self.start_loss - self.visible

    def in_stage(self, name: str) -> tuple[Heat, ...]:
        """Heats of that stage, by rising LR."""
        return tuple(sorted((heat for heat in self.heats if heat.stage == name), key=lambda heat: heat.lr))

    @property
    def qualified(self) -> float | None:
        """LR at which the qualifying heats went best; None where none came below the loss it started from."""
        return self._winner("qualifying", self.centre)

    @property
    def winner(self) -> float | None:
        """LR at which the race went best, between its heats; None where it says nothing."""
        qualified, finalists = self.qualified, self.in_stage("final")
        if not finalists:
            return qualified
        won = self._winner("final", qualified or self.centre)
        if won is None and qualified is not None:
            # A final that went wrong at the LR that qualified shows that it is too high, and no more.
            return min(qualified, finalists[0].lr) / FITTED.search.margin
        return won

    def _winner(self, name: str, centre: float) -> float | None:
        """The losses, as parts of the fall from ``start_loss`` to the best, are joined over log LR: by a parabola
        through the best heat and its neighbours, elsewhere by straight lines. The lowest point of that plus the pull of
        the centre wins."""
        heats = self.in_stage(name)
        best = _best(heats)
        if best is None or _loss(best) >= self.start_loss:
            return None
        places = np.log2([heat.lr / centre for heat in heats])
        fall = self.start_loss - _loss(best)
        worst = FITTED.search.worst_part
        parts = [min((_loss(heat) - _loss(best)) / fall, worst) for heat in heats]
        grid = np.arange(places[0], places[-1] + 1e-9, 1 / 16) if len(places) > 1 else places
        joined = np.interp(grid, places, parts)
        at = heats.index(best)
        if 0 < at < len(heats) - 1 and max(parts[at - 1], parts[at + 1]) < worst:
            around = slice(at - 1, at + 2)
            bend = np.polynomial.Polynomial.fit(places[around], parts[around], 2)
            inside = (grid >= places[at - 1]) & (grid <= places[at + 1])
            joined[inside] = bend(grid[inside])
        pull = FITTED.search.pull * self.total_steps / max(heat.steps for heat in heats)
        winner = float(centre * 2.0 ** grid[int((joined + pull * grid**2).argmin())])
        # A short training has less time to blow up than a long one. (From trained weights all high ones begin badly.)
        bad = [heat.lr for heat in heats if self.learning and heat.lr > best.lr and _loss(heat) >= self.start_loss]
        return min([winner, *(lr / FITTED.search.margin for lr in bad[:1])])

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready dictionary; :meth:`from_dict` gives an equal record back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> RaceRecord:
        """Record from :meth:`to_dict`.

        Raises:
            FileFormatError: a field is missing, unknown or out of range.
        """
        try:
            return cls(**{**content, "heats": tuple(Heat(**heat) for heat in content["heats"])})
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise FileFormatError(f"the saved race is damaged: {error}. Run refine again.") from error


def plan_race(budget_steps: int, total_steps: int) -> dict[str, tuple[int, int]]:
    """Number and length of the heats of each stage that a budget has room for; empty where it has room for no race.

    Args:
        budget_steps: optimizer steps in all.
        total_steps: optimizer steps of the training.

    Example:
        >>> plan_race(250, 1000)
        {'qualifying': (4, 62)}
        >>> plan_race(1000, 1000)
        {'qualifying': (4, 62), 'final': (2, 376)}
        >>> plan_race(29, 1000)
        {}
    """
    longest = max(_SHORTEST, int(FITTED.search.screening_part * total_steps))
    for count in range(FITTED.search.trials, _FEWEST - 1, -1):
        steps = min(budget_steps // count, longest)
        if steps >= _SHORTEST:
            break
    else:
        return {}
    plan = {"qualifying": (count, steps)}
    left = min((budget_steps - count * steps) // _FINALISTS, total_steps)
    if left >= max(_SHORTEST, FITTED.search.confirmation_part * total_steps):
        plan["final"] = (_FINALISTS, left)
    return plan


@dataclass(frozen=True, kw_only=True)
class HeatPlan:
    """What a heat trains with: learning rates and momentum of every step.

    In the final it is the whole schedule played faster: step t of the heat has what the training has at the same part
    of its length. Qualifying heats are constant with a cooldown over the last fifth, after the schedule's own warm-up.

    Args:
        stage: ``"qualifying"`` or ``"final"``.
        lr: peak learning rate; > 0.
        steps: length of the heat; >= 1.
        schedule: of the training that is raced for, with any peak.

    Example:
        >>> plan = HeatPlan(stage="final", lr=0.2, steps=50, schedule=recipe("linear", peak_lr=1.0, total_steps=1000))
        >>> round(plan.lr_at(25), 3), round(plan.lr_at(49), 4)
        (0.105, 0.0042)
    """

    stage: str
    lr: float
    steps: int
    schedule: Recipe

    def lr_at(self, t: int) -> float:
        """Learning rate of step ``t``, from 0 to ``steps - 1``."""
        whole = self.schedule
        assert whole.total_steps is not None
        warmup = min(whole.warmup_steps * self.steps // whole.total_steps, self.steps // 2)
        if self.stage == "final":
            part = whole.lr_at(self._played(t)) / whole.peak_lr
        elif t < warmup:
            part = whole.lr_at(t * whole.warmup_steps // warmup) / whole.peak_lr
        else:
            part = min(1.0, (self.steps - t) / (_COOLDOWN * self.steps))
        return self.lr * part

    def momentum_at(self, t: int) -> float | None:
        """Momentum of step ``t``, where the schedule cycles it."""
        return self.schedule.momentum_at(self._played(t)) if self.stage == "final" else None

    def _played(self, t: int) -> int:
        assert self.schedule.total_steps is not None
        return t * self.schedule.total_steps // self.steps


def whole_schedule(kind: str, peak_lr: float, total_steps: int, options: dict[str, Any]) -> Recipe:
    """The schedule that is raced for, as it would be trained with at that peak.

    A kind whose LR follows the loss (``plateau``) is replaced by its surrogate, ``multistep``.

    Raises:
        ConfigError: an option that the schedule does not have, or out of its range.
    """
    surrogate = KIND_TABLE[check_choice("kind", kind, KINDS)].surrogate
    if surrogate:
        recipe(kind, peak_lr=peak_lr, **options)  # refuses options that the kind does not have
        return recipe(surrogate, peak_lr=peak_lr, total_steps=total_steps, warmup_steps=0)
    return recipe(kind, peak_lr=peak_lr, total_steps=total_steps, **options)


class Race:
    """A race in progress. Run a heat of ``steps`` in ``stage`` with ``lr``, ``add`` it, until ``done``.

    Args:
        record: the empty record to fill.
        ceiling: LR that no heat may exceed; None for none.

    Example:
        >>> record = RaceRecord(schedule="cosine", total_steps=400, budget_steps=400, centre=0.1, start_loss=1.0)
        >>> race = Race(record)
        >>> while not race.done:
        ...     race.add(Heat(lr=race.lr, steps=race.steps, loss=(race.lr - 0.2) ** 2, stage=race.stage))
        >>> [f"{heat.lr:.2g}" for heat in race.record.in_stage("qualifying")], race.record.spent
        (['0.025', '0.05', '0.1', '0.4'], 400)
    """

    def __init__(self, record: RaceRecord, *, ceiling: float | None = None) -> None:
        self.record = record
        self._plan = plan_race(record.budget_steps, record.total_steps)
        self._ceiling = math.inf if ceiling is None else max(ceiling, record.centre)
        self.stage = "qualifying"
        self._next: float | None = record.centre if self._plan else None

    @property
    def done(self) -> bool:
        return self._next is None or self.record.interrupted

    @property
    def lr(self) -> float:
        """Learning rate of the next heat."""
        if self._next is None:
            raise RuntimeError("the race is over; no more heats are run.")
        return self._next

    @property
    def steps(self) -> int:
        """Optimizer steps of the next heat."""
        return self._plan[self.stage][1]

    def add(self, heat: Heat) -> None:
        """Take a heat that was run; the next follows from all of them."""
        self.record = dataclasses.replace(self.record, heats=(*self.record.heats, heat))
        self._next = self._qualifying() if self.stage == "qualifying" else self._final()
        if self._next is None and self.stage == "qualifying" and "final" in self._plan:
            self.stage = "final"
            self._next = self.record.qualified or self.record.centre

    def interrupt(self) -> None:
        """End from outside: somebody pressed Ctrl-C."""
        self.record = dataclasses.replace(self.record, interrupted=True)

    def _qualifying(self) -> float | None:
        heats = self.record.in_stage("qualifying")
        if self._room() < self.steps:
            return None
        if (new := self._opening(heats)) is not None:
            return new
        stride = _STRIDES["qualifying"]
        best = _best(heats)
        if best is None:  # far too high, or there is no loss at any
            return heats[0].lr / stride if len(heats) < 2 * self._plan["qualifying"][0] else None
        at = heats.index(best)
        if at == len(heats) - 1 and (new := self._new(best.lr * stride, heats)) is not None:
            return new
        if at == 0 and (new := self._new(best.lr / stride, heats)) is not None:
            return new
        for other in sorted((heats[i] for i in (at - 1, at + 1) if 0 <= i < len(heats)), key=_loss):
            if max(other.lr, best.lr) / min(other.lr, best.lr) > _CLOSE * 1.01:
                return math.sqrt(other.lr * best.lr)
        return None

    def _opening(self, heats: Sequence[Heat]) -> float | None:
        """Both sides of the centre come first, whatever the heats end with."""
        centre, stride = self.record.centre, _STRIDES["qualifying"]
        if heats[-1].lr <= centre and (new := self._new(centre * stride, heats)) is not None:
            return new
        if heats[0].lr >= centre and (new := self._new(centre / stride, heats)) is not None:
            return new
        return None

    def _room(self) -> int:
        """Optimizer steps left for qualifying. Heats that were given up early leave theirs for others."""
        final, length = self._plan.get("final", (0, 0))
        return self.record.budget_steps - self.record.spent - final * length

    def _final(self) -> float | None:
        heats = self.record.in_stage("final")
        if len(heats) == self._plan["final"][0]:
            return None
        fine = heats[0].loss is not None and heats[0].loss < self.record.start_loss
        stride = _STRIDES["final"]
        return self._new(heats[0].lr * stride, heats) if fine else heats[0].lr / stride

    def _new(self, lr: float, heats: Sequence[Heat]) -> float | None:
        """The LR, or None where it may not be tried or was tried already."""
        floor = 0.0 if self.record.learning or self.record.visible == 0 else self.record.centre
        lr = min(max(lr, floor), self._ceiling)
        return None if any(math.isclose(heat.lr, lr) for heat in heats) else lr


def _best(heats: Sequence[Heat]) -> Heat | None:
    return min((heat for heat in heats if heat.loss is not None), key=_loss, default=None)


def _loss(heat: Heat) -> float:
    return math.inf if heat.loss is None else heat.loss
