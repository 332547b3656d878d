"""Recipes: a schedule kind, its numbers and where each number came from, as one frozen value.

A recipe says the LR at every step, builds the stock torch scheduler, prints the lines to paste, and goes to JSON and
back. This module is the home of the defaults of every kind, with their sources, and of the units: whether
``scheduler.step()`` belongs after every batch or after every epoch. The formulas are in ``lrfinder.schedules``. Torch
is imported only when :meth:`Recipe.build` is called, and matplotlib only when a notebook draws the recipe.
"""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrfinder.checks import check_choice, check_count, check_lr, check_number, did_you_mean
from lrfinder.errors import ConfigError, FileFormatError
from lrfinder.files import read_json, write_json
from lrfinder.schedules import (
    Constant,
    Cosine,
    Cyclic,
    Exponential,
    Linear,
    MultiStep,
    OneCycle,
    Plateau,
    Restarts,
    Sequential,
    Shape,
    Step,
    shape_from_dict,
)
from lrfinder.tables.kinds import KIND_TABLE, KINDS

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

__all__ = ["Recipe", "recipe"]

_INTERVALS = ("step", "epoch")
_PAGE = 100  # columns that a printed call may fill before it is spread over several lines
_HAS_MOMENTUM = 'all(group.get("momentum") or group.get("betas", [0])[0] for group in optimizer.param_groups)'
_OPEN_EPOCHS = 10  # loop length in the printed lines where the recipe does not know how long the training is


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A learning-rate schedule with all its numbers; made by :func:`recipe`.

    Args:
        kind: one of ``lrfinder.schedules.KINDS``.
        peak_lr: highest LR of the reference parameter group (the first whose LR is not 0); > 0.
        interval: ``"step"`` when ``scheduler.step()`` belongs after every batch (every ``optimizer.step()``),
            ``"epoch"`` when it belongs after every epoch.
        shape: the stock torch scheduler and its arguments, without torch.
        total_steps: calls of ``scheduler.step()`` in the whole training; None when the kind does not need to know.
        epochs: passes over the loader, where they were given.
        warmup_steps: calls of ``scheduler.step()`` until the warm-up is over, part of ``total_steps``; 0 for none.
        group_scales: LR of each parameter group divided by that of the reference group, shape (groups,), for
            :meth:`code`; one value means one LR for all groups. :meth:`build` takes the ratios from its optimizer.
        notes: where each number came from; takes no part in comparisons.

    Example:
        >>> cosine = recipe("cosine", peak_lr=0.1, total_steps=100, warmup_steps=10)
        >>> [round(cosine.lr_at(t), 4) for t in (0, 5, 10, 55, 100)]
        [0.001, 0.0505, 0.1, 0.05, 0.0]
        >>> cosine.interval
        'step'
        >>> Recipe.from_dict(cosine.to_dict()) == cosine
        True
    """

    kind: str
    peak_lr: float
    interval: str
    shape: Shape
    total_steps: int | None = None
    epochs: int | None = None
    warmup_steps: int = 0
    group_scales: tuple[float, ...] = (1.0,)
    notes: tuple[str, ...] = field(default=(), compare=False, repr=False)

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, KINDS)
        object.__setattr__(self, "peak_lr", check_lr("peak_lr", self.peak_lr))
        if self.interval not in _INTERVALS:
            raise ConfigError(f"interval must be 'step' or 'epoch'; got {self.interval!r}.")
        if self.shape.floor >= self.peak_lr:
            raise ConfigError(
                f"eta_min must be below peak_lr; got eta_min={self.shape.floor:g}, peak_lr={self.peak_lr:g}."
            )
        scales = _check_scales(self.group_scales)
        if self.shape.floor > 0 and len(set(scales)) > 1:
            raise ConfigError(
                f"eta_min must be 0 for parameter groups of different LR; got eta_min={self.shape.floor:g}, "
                f"group_scales={scales}. Torch has one eta_min for all groups, so they could not keep their ratio. "
                "Leave it out, or take 'linear' with end_factor."
            )
        object.__setattr__(self, "group_scales", scales)

    def lr_at(self, t: int) -> float:
        """LR of the reference group after ``t`` calls of ``scheduler.step()``; ``t`` = 0 is the first update.

        The update number ``total_steps`` (the last) uses ``lr_at(total_steps - 1)``; ``lr_at(total_steps)`` is what is
        left in the optimizer. Training on from there is no part of the plan: torch's OneCycleLR raises, cosine and
        restarts climb again. For ``plateau`` it is the LR as long as the loss improves.

        Args:
            t: calls so far; from 0 to ``total_steps`` where that is known.

        Raises:
            ConfigError: ``t`` is outside the plan.
        """
        return self.shape.lr_at(self._check_time(t), self.peak_lr)

    def momentum_at(self, t: int) -> float | None:
        """Momentum (beta1 of Adam-like optimizers) after ``t`` calls, where the optimizer has one; None if untouched.

        Args:
            t: calls so far; from 0 to ``total_steps`` where that is known.

        Raises:
            ConfigError: ``t`` is outside the plan.
        """
        return self.shape.momentum_at(self._check_time(t))

    def build(self, optimizer: Optimizer) -> LRScheduler:
        """The stock torch scheduler, on ``optimizer``, whose LRs are set; see :func:`schedulers.build_scheduler`.

        Call ``scheduler.step()`` after every batch or after every epoch, as :attr:`interval` says.
        """
        from lrfinder.schedulers import build_scheduler

        return build_scheduler(self, optimizer)

    def code(self) -> str:
        """Lines to paste: imports, the scheduler on ``optimizer``, and the loop with ``scheduler.step()`` in place.

        They need the names ``model``, ``optimizer``, ``criterion`` and ``train_loader``, and torch alone. The numbers
        are literals, for the parameter groups of :attr:`group_scales`, and win over whatever LR the optimizer has.
        Arguments that torch fills in alike are left out.

        An LR held in a tensor becomes a plain float, except with ``onecycle`` and ``cyclic``. That trains the same, but
        a compiled ``optimizer.step()`` is compiled again for new values of it, and a CUDA graph that was captured
        before keeps reading the tensor: use :meth:`build` there, which fills it in place, as torch's schedulers do.

        Example:
            >>> print(recipe("onecycle", peak_lr=0.01, epochs=3, steps_per_epoch=50, cycle_momentum=True).code())
            from torch.optim.lr_scheduler import OneCycleLR
            <BLANKLINE>
            scheduler = OneCycleLR(optimizer, max_lr=0.01, total_steps=150, cycle_momentum=True)
            <BLANKLINE>
            for epoch in range(3):
                for inputs, targets in train_loader:
                    optimizer.zero_grad()
                    loss = criterion(model(inputs), targets)
                    loss.backward()
                    optimizer.step()
                    scheduler.step()  # after every batch, not after every epoch
            <BLANKLINE>
        """
        return "\n".join([*_import_lines(self), "", *_scheduler_lines(self), "", *_loop_lines(self), ""])

    def describe(self) -> str:
        """One line: the schedule and where each of its numbers came from."""
        unit = "batch" if self.interval == "step" else "epoch"
        length = "open-ended" if self.total_steps is None else f"{self.total_steps} calls of scheduler.step()"
        head = f"{self.kind} with peak LR {self.peak_lr:g}, {length}, one after every {unit}"
        scales = ", ".join(f"{scale:g}" for scale in self.group_scales)
        groups = (f"times {scales} for the parameter groups",) if len(self.group_scales) > 1 else ()
        return "; ".join([head, *groups, *self.notes])

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready dictionary; :meth:`from_dict` gives an equal recipe back."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        lists = {"group_scales": list(self.group_scales), "notes": list(self.notes)}
        return {**values, "shape": self.shape.to_dict(), **lists}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Recipe:
        """Recipe from :meth:`to_dict`.

        Raises:
            FileFormatError: a field is missing, unknown or out of range.
        """
        try:
            values = dict(content)
            values["shape"] = shape_from_dict(values["shape"])
            values["notes"] = tuple(map(str, values["notes"]))
            return cls(**values)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise FileFormatError(f"the saved recipe is damaged: {error}. Make it again with recipe(...).") from error

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the recipe as JSON; :meth:`load` reads it.

        Raises:
            ConfigError: the folder is missing or cannot be written.
        """
        return write_json(path, "recipe", self.to_dict())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Recipe:
        """Recipe written by :meth:`save`.

        Raises:
            FileFormatError: the file is missing, not a recipe, or damaged.
        """
        return cls.from_dict(read_json(path, "recipe"))

    def _repr_png_(self) -> bytes:
        return self._picture(dark=False)

    def _repr_html_(self) -> str:
        from lrfinder.html import recipe_html

        pictures = {"light": self._picture(dark=False), "dark": self._picture(dark=True)}
        return recipe_html(self.kind, self.peak_lr, self.interval, self.code(), **pictures)

    def _picture(self, *, dark: bool) -> bytes:
        from lrfinder.plotting import figure_png, plot_recipe

        return figure_png(lambda ax: plot_recipe(self, ax=ax), dark=dark)

    def _check_time(self, t: int) -> int:
        if t < 0 or (self.total_steps is not None and t > self.total_steps):
            end = "" if self.total_steps is None else f" to total_steps={self.total_steps}"
            raise ConfigError(f"t must be a number of scheduler.step() calls from 0{end}; got {t}.")
        return t


def recipe(
    kind: str,
    *,
    peak_lr: float,
    total_steps: int | None = None,
    epochs: int | None = None,
    steps_per_epoch: int | None = None,
    warmup_steps: int | None = None,
    group_scales: Sequence[float] = (1.0,),
    **options: Any,
) -> Recipe:
    """The schedule of that kind for a training of that length, with a sourced default for every number left out.

    The length is given as ``total_steps``, or as ``epochs`` with ``steps_per_epoch``: the scheduler then steps after
    every batch. With ``epochs`` alone it steps after every epoch, and every count is in epochs. ``plateau`` always
    steps after an epoch, and ``total_steps`` says nothing to it. ``plateau`` and ``constant`` need no length.

    Args:
        kind: ``onecycle``, ``cosine``, ``step``, ``multistep``, ``exponential``, ``linear``, ``plateau``, ``cyclic``,
            ``restarts``, ``wsd`` (warm-up, stable, linear cooldown) or ``constant``.
        peak_lr: highest LR of the first parameter group; the others keep their ratio to it; > 0.
        total_steps: updates (``optimizer.step()`` calls) in the whole training; >= 1.
        epochs: passes over the loader; >= 1.
        steps_per_epoch: updates per pass, ``len(train_loader)`` unless gradients are accumulated; >= 1.
        warmup_steps: calls of ``scheduler.step()`` spent on a linear warm-up, part of the whole length; 0 for none.
            Only for ``cosine linear step multistep exponential wsd constant``. By default 5 % of the updates, and none
            where the scheduler steps once per epoch.
        group_scales: LR of each parameter group divided by that of the first whose LR is not 0, shape (groups,), as in
            :attr:`LossCurve.group_scales`; for the printed lines, which cannot see the optimizer.
        options: by kind, named as in torch where torch has the number:

            - onecycle: ``pct_start div_factor final_div_factor cycle_momentum base_momentum max_momentum``
            - cosine: ``eta_min``; linear: ``end_factor``; exponential: ``gamma``; wsd: ``cooldown_steps``
            - step: ``step_size`` (counted from the end of the warm-up) ``gamma``
            - multistep: ``milestones`` (counted from the start of the training) ``gamma``
            - plateau: ``factor patience cooldown min_factor`` (part of the peak below which it does not go)
            - cyclic: ``step_size_up mode base_factor`` (part of the peak at the bottom) ``cycle_momentum base_momentum
              max_momentum``
            - restarts: ``T_0 T_mult eta_min``
            - all with ``warmup_steps``: ``warmup_factor`` (part of the peak where the warm-up starts)

            :meth:`Recipe.code` prints ``cycle_momentum`` as given and otherwise asks the optimizer;
            :meth:`Recipe.build` asks it always, unless the value is False.

    Returns:
        The recipe.

    Raises:
        ConfigError: an unknown kind or option, a number outside its range, or a length that is missing.

    Example:
        >>> recipe("step", peak_lr=0.1, epochs=90).shape
        Step(step_size=30, gamma=0.1)
    """
    check_choice("kind", kind, KINDS)
    peak_lr = check_lr("peak_lr", peak_lr)
    length, interval = _length(kind, total_steps, epochs, steps_per_epoch)
    plan = _Plan(kind, length, interval, options)
    plan.take_warmup(warmup_steps)
    shape = _SHAPES[kind](plan)
    plan.check_all_taken()
    return Recipe(
        kind=kind,
        peak_lr=peak_lr,
        interval=interval,
        shape=shape,
        total_steps=length,
        epochs=None if epochs is None else int(epochs),
        warmup_steps=plan.warmup,
        group_scales=_check_scales(group_scales),
        notes=tuple(plan.notes),
    )


def _check_scales(scales: Any) -> tuple[float, ...]:
    if not isinstance(scales, Sequence) or isinstance(scales, str):
        raise ConfigError(f"group_scales must be a list with one number per parameter group; got {scales!r}.")
    checked = tuple(check_number("each of group_scales", scale, 0.0) for scale in scales)
    if next(filter(None, checked), None) != 1:
        raise ConfigError(
            f"the first of group_scales that is not 0 must be 1, as the others are relative to it; got {checked}. "
            "Divide all of them by it."
        )
    return checked


def _length(
    kind: str, total_steps: int | None, epochs: int | None, steps_per_epoch: int | None
) -> tuple[int | None, str]:
    """How often the scheduler steps in the whole training, if that must be known, and after what."""
    given = {"total_steps": total_steps, "epochs": epochs, "steps_per_epoch": steps_per_epoch}
    for name, value in given.items():
        if value is not None:
            check_count(name, value)
    if total_steps is not None and (epochs is not None or steps_per_epoch is not None):
        raise ConfigError(
            f"give total_steps, or epochs with steps_per_epoch, not both; got {_listed(given)}. "
            "Leave total_steps out to have it computed."
        )
    if steps_per_epoch is not None and epochs is None:
        raise ConfigError(f"steps_per_epoch needs epochs; got {_listed(given)}. Add epochs=..., or give total_steps.")
    row = KIND_TABLE[kind]
    if row.unit == "epoch":
        # total_steps does not give the number of epochs, and such a kind needs neither.
        return None if epochs is None else int(epochs), "epoch"
    if total_steps is not None:
        return int(total_steps), "step"
    if epochs is None:
        if not row.needs_length:
            return None, "step"
        raise ConfigError(
            f"{kind} needs the length of the training; got none. "
            "Give total_steps, or epochs and steps_per_epoch=len(train_loader)."
        )
    if steps_per_epoch is not None:
        return int(epochs) * int(steps_per_epoch), "step"
    if row.unit == "step":
        raise ConfigError(
            f"{kind} changes the LR after every batch and needs their number; got epochs={epochs} alone. "
            "Add steps_per_epoch=len(train_loader), or give total_steps."
        )
    return int(epochs), "epoch"


def _listed(given: dict[str, int | None]) -> str:
    return ", ".join(f"{name}={value}" for name, value in given.items() if value is not None)


class _Plan:
    """A recipe in the making: hands out the options, or their defaults, and writes down where each came from."""

    def __init__(self, kind: str, length: int | None, interval: str, options: dict[str, Any]) -> None:
        self.kind = kind
        self.length = length
        self.interval = interval
        self.warmup = 0
        self.notes: list[str] = []
        self._options = dict(options)
        self._known: list[str] = []

    @property
    def steps(self) -> int:
        """Length of the training; for kinds that always have one."""
        assert self.length is not None, self.kind
        return self.length

    @property
    def main(self) -> int:
        """What the warm-up leaves of it."""
        return self.steps - self.warmup

    def take(self, name: str, default: Any, source: str) -> Any:
        """The option as given, or the default, whose source is noted; None counts as not given."""
        self._known.append(name)
        value = self._options.pop(name, None)
        if value is None:
            value = default
        else:
            source = "given"
        shown = "(" + ", ".join(map(str, value)) + ")" if isinstance(value, tuple) else value  # no np.int64(20)
        self.notes.append(f"{name}={shown} ({source})")
        return value

    def take_warmup(self, given: int | None) -> None:
        if not KIND_TABLE[self.kind].warmup:
            if given is not None and check_count("warmup_steps", given, 0) > 0:
                own = {"onecycle": " It has its own: set pct_start.", "cyclic": " It starts low by itself."}
                raise ConfigError(
                    f"{self.kind} takes no warmup_steps; got {given}.{own.get(self.kind, '')} "
                    f"Kinds that do: {', '.join(row.name for row in KIND_TABLE.values() if row.warmup)}."
                )
            return
        if given is not None:
            self.warmup, source = check_count("warmup_steps", given, 0), "given"
        elif self.length is None:
            self.warmup, source = 0, "5 % of a length that is not known"
        elif self.interval == "epoch":
            self.warmup, source = 0, "whole epochs are too coarse for one; give steps_per_epoch to get it"
        else:
            # The playbook's ceiling is 10 %, and more than 5 % is its sign that the training is too short.
            self.warmup, source = self.length // 20, "5 %: github.com/google-research/tuning_playbook"
        self.notes.append(f"warmup_steps={self.warmup} ({source})")
        if self.length is not None and self.warmup >= self.length:
            raise ConfigError(
                f"warmup_steps must be less than the {self.length} {self.interval}s of the training; "
                f"got {self.warmup}. Lower warmup_steps or train longer."
            )

    def warmed_up(self, *phases: tuple[int, Shape]) -> Shape:
        """The warm-up and then the phases, each with its start counted from the beginning; empty ones are left out."""
        factor = check_number(
            "warmup_factor",
            self.take("warmup_factor", 0.01, "torchvision's reference training"),
            1e-12,
            1.0,
        )
        if self.warmup == 0:
            self.notes.pop()
        else:
            warmup = Linear(start_factor=factor, end_factor=1.0, total_iters=self.warmup)
            phases = ((0, warmup), *phases)
        if len(phases) == 1:
            return phases[0][1]
        return Sequential(
            shapes=tuple(shape for _, shape in phases),
            milestones=tuple(start for start, _ in phases[1:]),
        )

    def check_all_taken(self) -> None:
        for name in self._options:
            raise ConfigError(
                f"{self.kind} has no option {name!r}; its options: {', '.join(self._known)}."
                f"{did_you_mean(name, self._known)}"
            )


def _onecycle(plan: _Plan) -> Shape:
    return OneCycle(
        total_steps=plan.steps,
        pct_start=plan.take("pct_start", 0.3, "torch"),
        div_factor=plan.take("div_factor", 25.0, "torch"),
        final_div_factor=plan.take("final_div_factor", 1e4, "torch"),
        **_momentum(plan),
    )


def _momentum(plan: _Plan) -> dict[str, Any]:
    return {
        "cycle_momentum": plan.take("cycle_momentum", None, "cycled where the optimizer has one"),
        "base_momentum": plan.take("base_momentum", 0.85, "Smith, arXiv:1803.09820"),
        "max_momentum": plan.take("max_momentum", 0.95, "Smith, arXiv:1803.09820"),
    }


def _cosine(plan: _Plan) -> Shape:
    eta_min = plan.take("eta_min", 0.0, "to zero: arXiv:2502.15938")
    return plan.warmed_up((plan.warmup, Cosine(T_max=plan.main, eta_min=eta_min)))


def _linear(plan: _Plan) -> Shape:
    end_factor = plan.take("end_factor", 0.0, "to zero: arXiv:2310.07831, arXiv:2502.15938")
    return plan.warmed_up((plan.warmup, Linear(start_factor=1.0, end_factor=end_factor, total_iters=plan.main)))


def _step(plan: _Plan) -> Shape:
    # Rounded up: a third drop in the very last steps would be of no use.
    step_size = plan.take("step_size", -(-plan.main // 3), "thirds, as 30 of 90 in torchvision's reference training")
    gamma = plan.take("gamma", 0.1, "torch")
    return plan.warmed_up((plan.warmup, Step(step_size=step_size, gamma=gamma)))


def _multistep(plan: _Plan) -> Shape:
    if plan.steps < 3:
        raise ConfigError(f"multistep needs a length of at least 3 {plan.interval}s; got {plan.steps}. Take 'step'.")
    default = (plan.steps // 2, plan.steps * 3 // 4)
    given = plan.take("milestones", default, "50 % and 75 %, as He et al., arXiv:1512.03385, on CIFAR-10")
    gamma = plan.take("gamma", 0.1, "torch")
    milestones = MultiStep(milestones=given, gamma=gamma).milestones
    if milestones[0] <= plan.warmup or milestones[-1] >= plan.steps:
        raise ConfigError(
            f"milestones must lie after the warm-up and before the end, between {plan.warmup} and {plan.steps}; "
            f"got {list(milestones)}. They count {plan.interval}s from the start of the training. Move them there, or "
            "lower warmup_steps."
        )
    counted = tuple(milestone - plan.warmup for milestone in milestones)
    return plan.warmed_up((plan.warmup, MultiStep(milestones=counted, gamma=gamma)))


def _exponential(plan: _Plan) -> Shape:
    gamma = plan.take("gamma", 0.01 ** (1 / plan.main), "reaches 1 % of the peak at the end; our choice")
    return plan.warmed_up((plan.warmup, Exponential(gamma=gamma)))


def _plateau(plan: _Plan) -> Shape:
    if plan.length is None:
        patience, source = 10, "torch"
    else:
        patience, source = max(3, plan.length // 20), "5 % of the epochs, at least 3; our choice"
    return Plateau(
        factor=plan.take("factor", 0.2, "gentler than torch's 0.1; our choice"),
        patience=plan.take("patience", patience, source),
        cooldown=plan.take("cooldown", 1, "our choice"),
        min_factor=plan.take("min_factor", 0.001, "our choice"),
    )


def _cyclic(plan: _Plan) -> Shape:
    # Rounded up: the last cycle is cut short by a few steps, at its low end, rather than followed by a stump.
    return Cyclic(
        step_size_up=plan.take("step_size_up", -(-plan.steps // 8), "4 cycles: Smith, arXiv:1506.01186"),
        base_factor=plan.take("base_factor", 0.25, "a quarter: Smith, arXiv:1506.01186"),
        mode=plan.take("mode", "triangular2", "Smith, arXiv:1506.01186"),
        **_momentum(plan),
    )


def _restarts(plan: _Plan) -> Shape:
    T_mult = check_count("T_mult", plan.take("T_mult", 2, "SGDR, arXiv:1608.03983"))
    # n cycles take T_0 * (1 + T_mult + ... + T_mult ** (n - 1)) steps.
    units = {n: sum(T_mult**i for i in range(n)) for n in (3, 2, 4)}
    for n, unit in units.items():
        if plan.steps % unit == 0:
            default, source = plan.steps // unit, f"so that {n} cycles fill the training"
            break
    else:
        default = -(-plan.steps // units[3])
        missing = default * units[3] - plan.steps
        source = f"3 cycles, the last cut short by {missing}, as {plan.steps} is not a multiple of {units[3]}"
    T_0 = plan.take("T_0", default, source)
    return Restarts(T_0=T_0, T_mult=T_mult, eta_min=plan.take("eta_min", 0.0, "torch"))


def _wsd(plan: _Plan) -> Shape:
    default = max(1, plan.steps // 5)
    cooldown = check_count(
        "cooldown_steps", plan.take("cooldown_steps", default, "20 %, linear to zero: arXiv:2405.18392")
    )
    start = plan.steps - cooldown
    if start < plan.warmup:
        raise ConfigError(
            f"cooldown_steps and warmup_steps must fit into total_steps={plan.steps}; "
            f"got {cooldown} and {plan.warmup}. Lower one of them or train longer."
        )
    decay = Linear(start_factor=1.0, end_factor=0.0, total_iters=cooldown)
    stable = ((plan.warmup, Constant()),) if start > plan.warmup else ()
    return plan.warmed_up(*stable, (start, decay))


def _constant(plan: _Plan) -> Shape:
    return plan.warmed_up((plan.warmup, Constant()))


_SHAPES: dict[str, Callable[[_Plan], Shape]] = {
    "onecycle": _onecycle,
    "cosine": _cosine,
    "step": _step,
    "multistep": _multistep,
    "exponential": _exponential,
    "linear": _linear,
    "plateau": _plateau,
    "cyclic": _cyclic,
    "restarts": _restarts,
    "wsd": _wsd,
    "constant": _constant,
}


def _import_lines(recipe: Recipe) -> list[str]:
    shapes = (recipe.shape, *recipe.shape.shapes) if isinstance(recipe.shape, Sequential) else (recipe.shape,)
    return [f"from torch.optim.lr_scheduler import {', '.join(sorted({shape.torch_class for shape in shapes}))}"]


def _scheduler_lines(recipe: Recipe) -> list[str]:
    shape, peak_lrs = recipe.shape, [recipe.peak_lr * scale for scale in recipe.group_scales]
    lines = _start_lines(recipe, peak_lrs)
    if isinstance(shape, Sequential):
        names = _names(shape.shapes)
        for name, part in zip(names, shape.shapes, strict=True):
            lines += _call(name, part, recipe.peak_lr, peak_lrs)
        milestones = list(shape.milestones)
        lines.append(f"scheduler = {shape.torch_class}(optimizer, [{', '.join(names)}], milestones={milestones})")
    else:
        lines += _call("scheduler", shape, recipe.peak_lr, peak_lrs)
    return [piece for line in lines for piece in _folded(line)]


def _start_lines(recipe: Recipe, peak_lrs: list[float]) -> list[str]:
    """Where the torch class reads the LR from the optimizer, put it there."""
    if isinstance(recipe.shape, OneCycle):
        return []  # overwrites "lr" and "initial_lr" by itself
    every = "for group in optimizer.param_groups:"
    note = "# an earlier scheduler leaves its own initial_lr"
    if isinstance(recipe.shape, Cyclic):
        # Overwrites "lr", but the first update would still run at the initial_lr of an earlier scheduler.
        return [every, f'    group.pop("initial_lr", None)  {note}']
    values = _literal(peak_lrs, recipe.peak_lr)
    if values.startswith("["):
        every, values = f"for group, lr in zip(optimizer.param_groups, {values}, strict=True):", "lr"
    return [every, f'    group["lr"] = group["initial_lr"] = {values}  {note}']


def _names(shapes: Sequence[Shape]) -> list[str]:
    """Variable names for the parts of a sequence."""
    names = []
    for shape in shapes:
        rises = isinstance(shape, Linear) and shape.start_factor < shape.end_factor
        names.append("warmup" if rises else "stable" if isinstance(shape, Constant) else "decay")
    return names if len(set(names)) == len(names) else [f"part{i}" for i in range(len(names))]


def _call(name: str, shape: Shape, peak_lr: float, peak_lrs: list[float]) -> list[str]:
    """The assignment that builds a scheduler, without the arguments that torch fills in alike."""
    arguments = ["optimizer"]
    for key, value in shape.arguments(peak_lrs).items():
        if key.endswith("_lr"):
            arguments.append(f"{key}={_literal(value, peak_lr)}")
        elif (key, value) not in shape.torch_defaults.items():
            arguments.append(f"{key}={_HAS_MOMENTUM if value is None else _text(value)}")
    line = f"{name} = {shape.torch_class}({', '.join(arguments)})"
    if len(line) <= _PAGE:
        return [line]
    return [f"{name} = {shape.torch_class}(", *(f"    {argument}," for argument in arguments), ")"]


def _text(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _literal(lrs: list[float], peak_lr: float) -> str:
    """One number where all groups have the same, else a list. The peak is exact, products of it are tidied up."""
    texts = [repr(lr if lr == peak_lr else _tidy(lr)) for lr in lrs]
    return texts[0] if len(set(texts)) == 1 else f"[{', '.join(texts)}]"


def _tidy(number: float) -> float:
    """The number without the noise of its last binary digit: 0.0003, not 0.00030000000000000003."""
    short = float(f"{number:.12g}")
    return short if math.isclose(short, number, rel_tol=1e-15) else number


def _folded(line: str) -> list[str]:
    """A line with a list for very many groups, in as many as it takes."""
    if len(line) <= 120:
        return [line]
    return textwrap.wrap(line, 120, subsequent_indent=" " * 8, break_long_words=False, break_on_hyphens=False)


def _loop_lines(recipe: Recipe) -> list[str]:
    update = [
        "optimizer.zero_grad()",
        "loss = criterion(model(inputs), targets)",
        "loss.backward()",
        "optimizer.step()",
    ]
    batches = "    for inputs, targets in train_loader:"
    per_batch = "scheduler.step()  # after every batch, not after every epoch"
    epochs = f"for epoch in range({recipe.epochs}):"
    row = KIND_TABLE[recipe.kind]
    if recipe.epochs is None and (recipe.total_steps is None or row.follows_loss):
        epochs = f"for epoch in range({_OPEN_EPOCHS}):  # as many as you like"
    elif recipe.epochs is None:
        return [
            "step = 0",
            f"while step < {recipe.total_steps}:",
            batches,
            *_indented(update, per_batch, "step += 1", f"if step == {recipe.total_steps}:", "    break"),
        ]
    if row.follows_loss:
        return [
            epochs,
            "    losses = []",
            batches,
            *_indented(update, "losses.append(loss.item())"),
            "    # After every epoch, not after every batch. Better still: pass the validation loss here.",
            "    scheduler.step(sum(losses) / len(losses))",
        ]
    if recipe.interval == "epoch":
        return [epochs, batches, *_indented(update), "    scheduler.step()  # after every epoch, not after every batch"]
    return [epochs, batches, *_indented(update, per_batch)]


def _indented(update: list[str], *more: str) -> list[str]:
    return [f"        {line}" for line in (*update, *more)]
