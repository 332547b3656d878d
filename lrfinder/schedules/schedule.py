"""The value ``Schedule``: a schedule kind, all its numbers, and where each number came from. Standard library only."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

from lrfinder.checks import check_choice, check_count, check_lr, check_scales
from lrfinder.errors import ConfigError
from lrfinder.files import saved_content
from lrfinder.numbers import printable
from lrfinder.schedules.specs import SchedulerSpec, spec_from_dict
from lrfinder.schedules.updates import Updates
from lrfinder.tables.kinds import KINDS

__all__ = ["Schedule"]

_S = TypeVar("_S", bound="Schedule")
_INTERVALS = ("step", "epoch")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A learning-rate schedule with all its numbers; made by :func:`lrfinder.schedules.defaults.make_schedule`.

    Args:
        kind: one of ``lrfinder.schedules.KINDS``.
        peak_lr: highest LR of the reference parameter group (the first whose LR is not 0); > 0.
        interval: ``"step"`` when ``scheduler.step()`` belongs after every batch (every ``optimizer.step()``),
            ``"epoch"`` when it belongs after every epoch.
        spec: the stock torch scheduler and its arguments, without torch.
        total_steps: calls of ``scheduler.step()`` in the whole training; None when the kind does not depend on it.
        epochs: passes over the loader, where they were given.
        warmup_steps: calls of ``scheduler.step()`` until the warm-up is over, part of ``total_steps``; 0 for none.
        group_scales: LR of each parameter group divided by that of the reference group, shape (groups,), for the
            printed lines; one value means one LR for all groups. The ratios of a torch scheduler are those of its
            optimizer.
        updates: how the training makes its updates, for the printed lines.
        notes: where each number came from; takes no part in comparisons.

    Raises:
        ConfigError: an unknown kind or interval, a number outside its range, or an ``eta_min`` that is not below the
            peak or not possible for these parameter groups.

    Example:
        >>> from lrfinder.schedules.specs import Cosine
        >>> cosine = Schedule(kind="cosine", peak_lr=0.1, interval="step", spec=Cosine(T_max=100), total_steps=100)
        >>> cosine.lr_at(50)
        0.05
        >>> Schedule.from_dict(cosine.to_dict()) == cosine
        True
    """

    kind: str
    peak_lr: float
    interval: str
    spec: SchedulerSpec
    total_steps: int | None = None
    epochs: int | None = None
    warmup_steps: int = 0
    group_scales: tuple[float, ...] = (1.0,)
    updates: Updates = Updates()
    notes: tuple[str, ...] = field(default=(), compare=False, repr=False)

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, KINDS)
        object.__setattr__(self, "peak_lr", check_lr("peak_lr", self.peak_lr))
        if self.interval not in _INTERVALS:
            raise ConfigError(f"interval must be 'step' or 'epoch'; got {self.interval!r}.")
        eta_min = self.spec.eta_min
        if eta_min >= self.peak_lr:
            raise ConfigError(f"eta_min must be below peak_lr; got eta_min={eta_min:g}, peak_lr={self.peak_lr:g}.")
        scales = check_scales(self.group_scales)
        counts = self.updates.optimizers
        if counts and sum(counts) != len(scales):
            raise ConfigError(
                f"optimizers must count the groups of group_scales, {len(scales)} in all; got {counts}. Give the "
                "number of parameter groups of each optimizer."
            )
        if eta_min > 0 and len(set(scales)) > 1:
            raise ConfigError(
                f"eta_min must be 0 for parameter groups of different LR; got eta_min={eta_min:g}, "
                f"group_scales={scales}. Torch has one eta_min for all groups, so they could not keep their ratio. "
                "Leave it out, or take 'linear' with end_factor."
            )
        object.__setattr__(self, "group_scales", scales)

    def lr_at(self, t: int) -> float:
        """LR of the reference group after ``t`` calls of ``scheduler.step()``; ``t`` = 0 is the first update.

        The last update uses ``lr_at(total_steps - 1)``; ``lr_at(total_steps)`` is left in the optimizer. The schedule
        ends there: at one call more torch's OneCycleLR raises, cosine and restarts rise again. For ``plateau`` it is
        the LR while the loss improves.

        Args:
            t: calls so far; from 0 to ``total_steps`` where that is known.

        Raises:
            ConfigError: ``t`` is outside the schedule.
        """
        return self.spec.lr_at(self._check_time(t), self.peak_lr)

    def momentum_at(self, t: int) -> float | None:
        """Momentum, or first beta of Adam, after ``t`` calls; None if the schedule does not change it.

        Args:
            t: calls so far; from 0 to ``total_steps`` where that is known.

        Raises:
            ConfigError: ``t`` is outside the schedule.
        """
        return self.spec.momentum_at(self._check_time(t))

    @property
    def unit(self) -> str:
        """What ``scheduler.step()`` is called after: ``"batch"``, ``"update"`` of several batches, or ``"epoch"``."""
        if self.interval == "epoch":
            return "epoch"
        return "batch" if self.updates.accumulation_steps == 1 else "update"

    def describe(self) -> str:
        """One line: the schedule and where each of its numbers came from."""
        length = "open-ended" if self.total_steps is None else f"{self.total_steps} calls of scheduler.step()"
        head = f"{self.kind} with peak LR {self.peak_lr:g}, {length}, one after every {self.unit}"
        scales = ", ".join(f"{scale:g}" for scale in self.group_scales)
        groups = (f"times {scales} for the parameter groups",) if len(self.group_scales) > 1 else ()
        return "; ".join([head, *groups, *self.notes])

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready dictionary; :meth:`from_dict` gives an equal schedule back."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        lists = {"group_scales": list(self.group_scales), "notes": list(self.notes)}
        return {**values, "spec": self.spec.to_dict(), "updates": asdict(self.updates), **lists}

    @classmethod
    def from_dict(cls: type[_S], content: dict[str, Any]) -> _S:
        """Schedule from :meth:`to_dict`.

        Raises:
            FileFormatError: a field is missing, unknown or out of range.
        """
        with saved_content("recipe", hint="Make it again with recipe(...)."):
            values = dict(content)
            spec = spec_from_dict(values.pop("spec"))
            notes = tuple(printable(str(note)) for note in values.pop("notes"))
            for name, low in (("total_steps", 1), ("epochs", 1), ("warmup_steps", 0)):
                if values.get(name) is not None:
                    check_count(name, values[name], low)
            updates = Updates(**values.pop("updates"))
            return cls(**values, spec=spec, updates=updates, notes=notes)

    def _check_time(self, t: int) -> int:
        if t < 0 or (self.total_steps is not None and t > self.total_steps):
            end = "" if self.total_steps is None else f" to total_steps={self.total_steps}"
            raise ConfigError(f"t must be a number of scheduler.step() calls from 0{end}; got {t}.")
        return t
