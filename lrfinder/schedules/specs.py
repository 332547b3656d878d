"""Shapes of learning-rate schedules: what each stock torch scheduler does, as a formula and without torch.

There is one frozen class per class of ``torch.optim.lr_scheduler``, with torch's argument names. It is the one home of
that scheduler's formula (:meth:`Shape.lr_at`), of the ranges its arguments may have, and of the arguments torch gets
(:meth:`Shape.arguments`); whoever builds, prints or plots a schedule goes through these and knows no formula. The kinds
that users name are put together from shapes in ``lrfinder.recipes``. Standard library only.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from lrfinder.checks import check_count, check_number
from lrfinder.errors import ConfigError
from lrfinder.tables.kinds import KINDS

__all__ = [
    "KINDS",
    "Constant",
    "Cosine",
    "Cyclic",
    "Exponential",
    "Linear",
    "MultiStep",
    "OneCycle",
    "Plateau",
    "Restarts",
    "Sequential",
    "Shape",
    "Step",
    "shape_from_dict",
]


@dataclass(frozen=True, kw_only=True)
class Shape(ABC):
    """What one stock scheduler does to a group whose peak LR is given. The fields are the arguments of torch."""

    torch_class: ClassVar[str]
    torch_defaults: ClassVar[dict[str, Any]] = {}  # arguments that printed lines leave out where they have this value

    def _put(self, **checked: Any) -> None:
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def floor(self) -> float:
        """Lowest LR where it is one number for all groups (``eta_min``), so that they cannot keep their ratio; or 0."""
        return 0.0

    @abstractmethod
    def lr_at(self, t: int, peak_lr: float) -> float:
        """LR after ``t`` calls of ``scheduler.step()``."""

    def momentum_at(self, t: int) -> float | None:
        """Momentum (beta1 of Adam) after ``t`` calls, or None where the schedule leaves it alone."""
        return None

    def arguments(self, peak_lrs: Sequence[float]) -> dict[str, Any]:
        """Keyword arguments of the torch class, for an optimizer whose groups have these peaks.

        Those that torch takes per group have a name in ``_lr`` and are lists. A ``cycle_momentum`` of None stands for
        whether the optimizer has one.
        """
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready dictionary; :func:`shape_from_dict` gives an equal shape back."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            "class": self.torch_class,
            **{name: list(value) if isinstance(value, tuple) else value for name, value in values.items()},
        }


@dataclass(frozen=True, kw_only=True)
class Constant(Shape):
    """The peak, all the time.

    Example:
        >>> Constant().lr_at(7, 0.1)
        0.1
    """

    torch_class = "ConstantLR"

    def lr_at(self, t: int, peak_lr: float) -> float:
        return peak_lr

    def arguments(self, peak_lrs: Sequence[float]) -> dict[str, Any]:
        return {"factor": 1.0}


@dataclass(frozen=True, kw_only=True)
class Linear(Shape):
    """A straight line from ``start_factor`` times the peak to ``end_factor`` times the peak; then it stays there.

    Args:
        start_factor: in (0, 1].
        end_factor: in [0, 1].
        total_iters: calls until the end of the line; >= 1.

    Example:
        >>> [Linear(start_factor=1.0, end_factor=0.0, total_iters=4).lr_at(t, 0.1) for t in (0, 2, 4)]
        [0.1, 0.05, 0.0]
    """

    torch_class = "LinearLR"
    torch_defaults = {"end_factor": 1.0}
    start_factor: float
    end_factor: float
    total_iters: int

    def __post_init__(self) -> None:
        self._put(
            start_factor=check_number("start_factor", self.start_factor, 1e-12, 1.0),
            end_factor=check_number("end_factor", self.end_factor, 0.0, 1.0),
            total_iters=check_count("total_iters", self.total_iters),
        )

    def lr_at(self, t: int, peak_lr: float) -> float:
        part = min(t, self.total_iters) / self.total_iters
        return peak_lr * (self.start_factor + (self.end_factor - self.start_factor) * part)


@dataclass(frozen=True, kw_only=True)
class Cosine(Shape):
    """Half a cosine from the peak to ``eta_min``. Past ``T_max`` it climbs again, as torch's does.

    Args:
        T_max: calls from the peak to ``eta_min``; >= 1.
        eta_min: LR at the end; >= 0, one number for all groups.

    Reference:
        Loshchilov and Hutter, arXiv:1608.03983 (without the restarts).
    """

    torch_class = "CosineAnnealingLR"
    torch_defaults = {"eta_min": 0.0}
    T_max: int
    eta_min: float = 0.0

    def __post_init__(self) -> None:
        self._put(T_max=check_count("T_max", self.T_max), eta_min=check_number("eta_min", self.eta_min, 0.0))

    @property
    def floor(self) -> float:
        return self.eta_min

    def lr_at(self, t: int, peak_lr: float) -> float:
        return _half_cosine(t / self.T_max, peak_lr, self.eta_min)


@dataclass(frozen=True, kw_only=True)
class Step(Shape):
    """The peak, times ``gamma`` after every ``step_size`` calls.

    Args:
        step_size: calls between two drops; >= 1.
        gamma: factor of each drop; in (0, 1).

    Example:
        >>> [round(Step(step_size=2, gamma=0.1).lr_at(t, 1.0), 3) for t in range(5)]
        [1.0, 1.0, 0.1, 0.1, 0.01]
    """

    torch_class = "StepLR"
    step_size: int
    gamma: float

    def __post_init__(self) -> None:
        self._put(
            step_size=check_count("step_size", self.step_size),
            gamma=check_number("gamma", self.gamma, 0.0, 1.0, open_ends=True),
        )

    def lr_at(self, t: int, peak_lr: float) -> float:
        return peak_lr * self.gamma ** (t // self.step_size)


@dataclass(frozen=True, kw_only=True)
class MultiStep(Shape):
    """The peak, times ``gamma`` at each milestone.

    Args:
        milestones: calls after which the LR drops, strictly increasing, >= 1 each, at least one.
        gamma: factor of each drop; in (0, 1).
    """

    torch_class = "MultiStepLR"
    milestones: tuple[int, ...]
    gamma: float

    def __post_init__(self) -> None:
        self._put(
            milestones=_check_milestones(self.milestones),
            gamma=check_number("gamma", self.gamma, 0.0, 1.0, open_ends=True),
        )

    def lr_at(self, t: int, peak_lr: float) -> float:
        return peak_lr * self.gamma ** bisect_right(self.milestones, t)

    def arguments(self, peak_lrs: Sequence[float]) -> dict[str, Any]:
        return {"milestones": list(self.milestones), "gamma": self.gamma}


@dataclass(frozen=True, kw_only=True)
class Exponential(Shape):
    """The peak, times ``gamma`` at every call; ``gamma`` in (0, 1)."""

    torch_class = "ExponentialLR"
    gamma: float

    def __post_init__(self) -> None:
        self._put(gamma=check_number("gamma", self.gamma, 0.0, 1.0, open_ends=True))

    def lr_at(self, t: int, peak_lr: float) -> float:
        return peak_lr * self.gamma**t


@dataclass(frozen=True, kw_only=True)
class Plateau(Shape):
    """The peak, times ``factor`` whenever the loss has not improved for ``patience`` calls.

    Nobody knows beforehand when that is: :meth:`lr_at` is the LR as long as the loss improves.

    Args:
        factor: factor of each drop; in (0, 1).
        patience: calls without improvement that are let pass; >= 0.
        cooldown: calls after a drop that are not counted; >= 0.
        min_factor: part of the peak below which no drop goes; in [0, 1].
    """

    torch_class = "ReduceLROnPlateau"
    factor: float
    patience: int
    cooldown: int
    min_factor: float

    def __post_init__(self) -> None:
        self._put(
            factor=check_number("factor", self.factor, 0.0, 1.0, open_ends=True),
            patience=check_count("patience", self.patience, 0),
            cooldown=check_count("cooldown", self.cooldown, 0),
            min_factor=check_number("min_factor", self.min_factor, 0.0, 1.0),
        )

    def lr_at(self, t: int, peak_lr: float) -> float:
        return peak_lr

    def arguments(self, peak_lrs: Sequence[float]) -> dict[str, Any]:
        return {
            "factor": self.factor,
            "patience": self.patience,
            "cooldown": self.cooldown,
            "min_lr": [self.min_factor * peak_lr for peak_lr in peak_lrs],
        }


@dataclass(frozen=True, kw_only=True)
class Restarts(Shape):
    """Half cosines from the peak to ``eta_min``, each starting again at the peak.

    Args:
        T_0: calls of the first cycle; >= 1.
        T_mult: each cycle is this many times as long as the one before; >= 1.
        eta_min: LR at the end of each cycle; >= 0, one number for all groups.

    Reference:
        Loshchilov and Hutter, SGDR, arXiv:1608.03983.
    """

    torch_class = "CosineAnnealingWarmRestarts"
    torch_defaults = {"eta_min": 0.0}
    T_0: int
    T_mult: int
    eta_min: float = 0.0

    def __post_init__(self) -> None:
        self._put(
            T_0=check_count("T_0", self.T_0),
            T_mult=check_count("T_mult", self.T_mult),
            eta_min=check_number("eta_min", self.eta_min, 0.0),
        )

    @property
    def floor(self) -> float:
        return self.eta_min

    def lr_at(self, t: int, peak_lr: float) -> float:
        length = self.T_0
        if self.T_mult == 1:
            t %= length
        while t >= length:
            t -= length
            length *= self.T_mult
        return _half_cosine(t / length, peak_lr, self.eta_min)


@dataclass(frozen=True, kw_only=True)
class _MomentumCycle(Shape):
    """Shared by the two shapes that move the momentum against the LR, from ``max_momentum`` to ``base_momentum``."""

    cycle_momentum: bool | None = None
    base_momentum: float = 0.85
    max_momentum: float = 0.95

    def __post_init__(self) -> None:
        if self.cycle_momentum is not None and not isinstance(self.cycle_momentum, bool):
            raise ConfigError(
                f"cycle_momentum must be True, False, or None to ask the optimizer; got {self.cycle_momentum!r}."
            )
        base = check_number("base_momentum", self.base_momentum, 0.0, 0.9999)
        top = check_number("max_momentum", self.max_momentum, 0.0, 0.9999)
        if base > top:
            raise ConfigError(
                f"base_momentum must not exceed max_momentum; got {base:g} and {top:g}. Did you swap them?"
            )
        self._put(base_momentum=base, max_momentum=top)

    def _momentum_arguments(self) -> dict[str, Any]:
        if self.cycle_momentum is False:
            return {"cycle_momentum": False}
        return {
            "cycle_momentum": self.cycle_momentum,
            "base_momentum": self.base_momentum,
            "max_momentum": self.max_momentum,
        }


@dataclass(frozen=True, kw_only=True)
class OneCycle(_MomentumCycle):
    """Up from ``1 / div_factor`` of the peak and down to nearly 0, momentum the other way round.

    Args:
        total_steps: calls in all; > ``1 / pct_start``. One call more and torch raises.
        pct_start: part of them spent going up; in (0, 1).
        div_factor: peak divided by the first LR; >= 1.
        final_div_factor: first LR divided by the last; >= 1.
        cycle_momentum: whether the momentum moves; None for wherever the optimizer has one.
        base_momentum: momentum at the peak; in [0, 1).
        max_momentum: momentum at both ends; in [0, 1).

    Reference:
        Smith and Topin, arXiv:1708.07120; the formula is that of torch (two phases, cosine).
    """

    torch_class = "OneCycleLR"
    torch_defaults = {
        "pct_start": 0.3,
        "div_factor": 25.0,
        "final_div_factor": 1e4,
        "base_momentum": 0.85,
        "max_momentum": 0.95,
    }
    total_steps: int
    pct_start: float = 0.3
    div_factor: float = 25.0
    final_div_factor: float = 1e4

    def __post_init__(self) -> None:
        super().__post_init__()
        total = check_count("total_steps", self.total_steps)
        pct_start = check_number("pct_start", self.pct_start, 0.0, 1.0, open_ends=True)
        # At pct_start * total_steps == 1 torch divides by zero, and below it never goes up.
        if pct_start * total <= 1:
            raise ConfigError(
                f"onecycle needs total_steps of more than 1 / pct_start; got total_steps={total}, "
                f"pct_start={pct_start:g}. Raise total_steps to {math.floor(1 / pct_start) + 1} or more, or take "
                "'linear'."
            )
        self._put(
            total_steps=total,
            pct_start=pct_start,
            div_factor=check_number("div_factor", self.div_factor, 1.0),
            final_div_factor=check_number("final_div_factor", self.final_div_factor, 1.0),
        )

    def lr_at(self, t: int, peak_lr: float) -> float:
        first = peak_lr / self.div_factor
        return self._between(t, first, peak_lr, first / self.final_div_factor)

    def momentum_at(self, t: int) -> float | None:
        if self.cycle_momentum is False:
            return None
        return self._between(t, self.max_momentum, self.base_momentum, self.max_momentum)

    def _between(self, t: int, first: float, top: float, last: float) -> float:
        turn = self.pct_start * self.total_steps - 1
        if t <= turn:
            return _half_cosine(t / turn, first, top)
        # The last call of all (t == total_steps) is past the end of the cosine by one, in torch as here.
        return _half_cosine((t - turn) / (self.total_steps - 1 - turn), top, last)

    def arguments(self, peak_lrs: Sequence[float]) -> dict[str, Any]:
        return {
            "max_lr": list(peak_lrs),
            "total_steps": self.total_steps,
            "pct_start": self.pct_start,
            "div_factor": self.div_factor,
            "final_div_factor": self.final_div_factor,
            **self._momentum_arguments(),
        }


@dataclass(frozen=True, kw_only=True)
class Cyclic(_MomentumCycle):
    """Triangles between ``base_factor`` of the peak and the peak, momentum the other way round.

    Args:
        step_size_up: calls from the bottom to the top, and from there back; >= 1.
        base_factor: part of the peak at the bottom; in [0, 1).
        mode: ``"triangular"``, or ``"triangular2"`` (each triangle half as high as the one before).
        cycle_momentum: whether the momentum moves; None for wherever the optimizer has one.
        base_momentum: momentum at the top; in [0, 1).
        max_momentum: momentum at the bottom; in [0, 1).

    Reference:
        Smith, arXiv:1506.01186.
    """

    torch_class = "CyclicLR"
    step_size_up: int
    base_factor: float = 0.25
    mode: str = "triangular2"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mode not in ("triangular", "triangular2"):
            raise ConfigError(f"mode must be 'triangular' or 'triangular2'; got {self.mode!r}.")
        base = check_number("base_factor", self.base_factor, 0.0)
        if base >= 1:
            raise ConfigError(f"base_factor must be below 1, as it is a part of peak_lr; got {base:g}.")
        self._put(step_size_up=check_count("step_size_up", self.step_size_up), base_factor=base)

    def lr_at(self, t: int, peak_lr: float) -> float:
        base = self.base_factor * peak_lr
        return base + (peak_lr - base) * self._height(t)

    def momentum_at(self, t: int) -> float | None:
        if self.cycle_momentum is False:
            return None
        return self.max_momentum - (self.max_momentum - self.base_momentum) * self._height(t)

    def _height(self, t: int) -> float:
        cycle, place = divmod(t, 2 * self.step_size_up)
        height = 1 - abs(place - self.step_size_up) / self.step_size_up
        return height / 2**cycle if self.mode == "triangular2" else height

    def arguments(self, peak_lrs: Sequence[float]) -> dict[str, Any]:
        return {
            "base_lr": [self.base_factor * peak_lr for peak_lr in peak_lrs],
            "max_lr": list(peak_lrs),
            "step_size_up": self.step_size_up,
            "mode": self.mode,
            **self._momentum_arguments(),
        }


@dataclass(frozen=True, kw_only=True)
class Sequential(Shape):
    """One shape after the other; each counts its own calls from its start.

    Args:
        shapes: two or more, none of which cycles the momentum, is a :class:`Plateau` or a sequence itself.
        milestones: calls after which the next shape takes over, strictly increasing, one fewer than the shapes.

    Example:
        >>> warmup = Linear(start_factor=0.01, end_factor=1.0, total_iters=2)
        >>> sequential = Sequential(shapes=(warmup, Cosine(T_max=8)), milestones=(2,))
        >>> [round(sequential.lr_at(t, 0.1), 4) for t in (0, 1, 2, 6, 10)]
        [0.001, 0.0505, 0.1, 0.05, 0.0]
    """

    torch_class = "SequentialLR"
    shapes: tuple[Shape, ...]
    milestones: tuple[int, ...]

    def __post_init__(self) -> None:
        milestones = _check_milestones(self.milestones)
        if len(self.shapes) != len(milestones) + 1:
            raise ConfigError(
                f"a sequence needs one shape more than milestones; got {len(self.shapes)} shapes and "
                f"{len(milestones)} milestones."
            )
        for shape in self.shapes:
            if isinstance(shape, (_MomentumCycle, Plateau, Sequential)):
                raise ConfigError(
                    f"a sequence cannot hold {type(shape).__name__}, which must be the whole schedule. Use it alone."
                )
        self._put(milestones=milestones)

    @property
    def floor(self) -> float:
        return max(shape.floor for shape in self.shapes)

    def lr_at(self, t: int, peak_lr: float) -> float:
        index = bisect_right(self.milestones, t)
        return self.shapes[index].lr_at(t - (0, *self.milestones)[index], peak_lr)

    def to_dict(self) -> dict[str, Any]:
        return {
            "class": self.torch_class,
            "shapes": [shape.to_dict() for shape in self.shapes],
            "milestones": list(self.milestones),
        }


_CLASSES: tuple[type[Shape], ...] = (
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
    Step,
)


def shape_from_dict(content: dict[str, Any]) -> Shape:
    """Shape from :meth:`Shape.to_dict`.

    Raises:
        KeyError, TypeError, ConfigError: the dictionary is not one of ours; the caller says which file it was.

    Example:
        >>> shape_from_dict(Cosine(T_max=8).to_dict())
        Cosine(T_max=8, eta_min=0.0)
    """
    values = dict(content)
    shape = {shape.torch_class: shape for shape in _CLASSES}[values.pop("class")]
    if shape is Sequential:
        values["shapes"] = tuple(map(shape_from_dict, values["shapes"]))
    return shape(**values)


def _half_cosine(part: float, start: float, end: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * part)) / 2


def _check_milestones(milestones: Any) -> tuple[int, ...]:
    try:
        checked = tuple(check_count("each milestone", milestone) for milestone in milestones)
    except TypeError:
        raise ConfigError(f"milestones must be a list of whole numbers, as in [30, 60]; got {milestones!r}.") from None
    if not checked or any(b <= a for a, b in zip(checked, checked[1:], strict=False)):
        raise ConfigError(
            f"milestones must be one or more whole numbers that increase, as in [30, 60]; got {list(checked)}."
        )
    return checked
