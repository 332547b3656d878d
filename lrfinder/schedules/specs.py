# Over 250 lines: one class per torch scheduler, which are best compared side by side.
"""Formulas of the stock torch schedulers, without torch.

There is one frozen class per class of ``torch.optim.lr_scheduler``, with torch's argument names. It is the only place
for that scheduler's formula (:meth:`SchedulerSpec.lr_at`), the ranges of its arguments, and the arguments passed to
torch (:meth:`SchedulerSpec.arguments`). Schedule kinds are composed of specs in :mod:`lrfinder.schedules.defaults`.
Standard library only.

Notation of the formulas: ``t`` is the number of calls of ``scheduler.step()`` so far (0 for the first update), ``p``
the peak LR of a parameter group, ``lr(t)`` its LR after ``t`` calls.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field, fields
from functools import partial
from typing import Any, ClassVar

from lrfinder.checks import check_choice, check_count, check_number
from lrfinder.errors import ConfigError

__all__ = [
    "Constant",
    "Cosine",
    "Cyclic",
    "Exponential",
    "Linear",
    "MultiStep",
    "OneCycle",
    "Plateau",
    "Restarts",
    "SchedulerSpec",
    "Sequential",
    "Step",
    "spec_from_dict",
]


def spec_from_dict(content: dict[str, Any]) -> SchedulerSpec:
    """Spec from :meth:`SchedulerSpec.to_dict`.

    Raises:
        KeyError, TypeError, ConfigError: the dictionary is not one of ours; the caller adds which file it came from.

    Example:
        >>> spec_from_dict(Cosine(T_max=8).to_dict())
        Cosine(T_max=8, eta_min=0.0)
    """
    values = dict(content)
    spec = _CLASSES[values.pop("class")]
    if spec is Sequential:
        values["parts"] = tuple(map(spec_from_dict, values["parts"]))
    return spec(**values)


def _half_cosine(part: float, start: float, end: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * part)) / 2


def _number(low: float, high: float = math.inf, *, open_ends: bool = False, default: Any = MISSING) -> Any:
    """Field with a number in that range."""
    check = partial(check_number, low=low, high=high, open_ends=open_ends)
    return field(default=default, metadata={"check": check})


def _count(low: int = 1) -> Any:
    """Field with a whole number of at least ``low``."""
    return field(metadata={"check": partial(check_count, low=low)})


def _choice(*allowed: str) -> Any:
    """Field with one of these words, by default the first."""
    return field(default=allowed[0], metadata={"check": partial(check_choice, allowed=allowed)})


def _check_cycling(name: str, value: Any) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise ConfigError(
            f"{name} must be True, False, or None to cycle it where the optimizer has one; got {value!r}."
        )
    return value


def _check_milestones(name: str, milestones: Any) -> tuple[int, ...]:
    try:
        checked = tuple(check_count("each milestone", milestone) for milestone in milestones)
    except TypeError:
        raise ConfigError(f"milestones must be a list of whole numbers, as in [30, 60]; got {milestones!r}.") from None
    if not checked or any(b <= a for a, b in zip(checked, checked[1:], strict=False)):
        raise ConfigError(
            f"milestones must be one or more whole numbers that increase, as in [30, 60]; got {list(checked)}."
        )
    return checked


_CLASSES: dict[str, type[SchedulerSpec]] = {}  # of the specs below, by the name of their torch class


@dataclass(frozen=True, kw_only=True)
class SchedulerSpec(ABC):
    """One stock torch scheduler with its arguments, for parameter groups whose peak LR is given later."""

    torch_class: ClassVar[str]
    torch_defaults: ClassVar[dict[str, Any]] = {}  # arguments left out of printed lines where they have this value

    def __init_subclass__(cls) -> None:
        if hasattr(cls, "torch_class"):
            _CLASSES[cls.torch_class] = cls

    def __post_init__(self) -> None:
        for each in fields(self):
            if check := each.metadata.get("check"):
                object.__setattr__(self, each.name, check(each.name, getattr(self, each.name)))

    @property
    def eta_min(self) -> float:
        """Lowest LR where it is one number for all parameter groups, so that they cannot keep their ratio; else 0."""
        return 0.0

    @abstractmethod
    def lr_at(self, t: int, peak_lr: float) -> float:
        """LR after ``t`` calls of ``scheduler.step()``; ``t`` >= 0."""

    def momentum_at(self, t: int) -> float | None:
        """Momentum (beta1 of Adam) after ``t`` calls; None where the scheduler does not change it."""
        return None

    def arguments(self, peak_lrs: Sequence[float]) -> dict[str, Any]:
        """Keyword arguments of the torch class for parameter groups with these peak LRs, shape (groups,).

        Arguments that torch takes per group end in ``_lr`` and are lists. A ``cycle_momentum`` of None means: wherever
        the optimizer has a momentum.
        """
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready dictionary; :func:`spec_from_dict` gives an equal spec back."""
        return {"class": self.torch_class, **SchedulerSpec.arguments(self, ())}


@dataclass(frozen=True, kw_only=True)
class Constant(SchedulerSpec):
    """The peak LR throughout::

        lr(t) = p

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
class Linear(SchedulerSpec):
    """A straight line between two parts of the peak LR, then constant::

        lr(t) = p * (s + (e - s) * min(t, N) / N)

    Args:
        start_factor: s, part of the peak at the start; in (0, 1].
        end_factor: e, part of the peak at the end; in [0, 1].
        total_iters: N, calls until the end of the line; >= 1.

    Example:
        >>> [Linear(start_factor=1.0, end_factor=0.0, total_iters=4).lr_at(t, 0.1) for t in (0, 2, 4)]
        [0.1, 0.05, 0.0]
    """

    torch_class = "LinearLR"
    torch_defaults = {"end_factor": 1.0}
    start_factor: float = _number(1e-12, 1.0)
    end_factor: float = _number(0.0, 1.0)
    total_iters: int = _count()

    def lr_at(self, t: int, peak_lr: float) -> float:
        part = min(t, self.total_iters) / self.total_iters
        return peak_lr * (self.start_factor + (self.end_factor - self.start_factor) * part)


@dataclass(frozen=True, kw_only=True)
class Cosine(SchedulerSpec):
    """Half a cosine from the peak LR to ``eta_min``::

        lr(t) = m + (p - m) * (1 + cos(pi * t / T)) / 2

    Past t = T the LR rises again, as torch's does.

    Args:
        T_max: T, calls from the peak to ``eta_min``; >= 1.
        eta_min: m, LR at t = T; >= 0, one number for all parameter groups.

    Example:
        >>> [round(Cosine(T_max=4).lr_at(t, 0.1), 4) for t in range(5)]
        [0.1, 0.0854, 0.05, 0.0146, 0.0]

    Reference:
        Loshchilov and Hutter, arXiv:1608.03983 (without the restarts).
    """

    torch_class = "CosineAnnealingLR"
    torch_defaults = {"eta_min": 0.0}
    T_max: int = _count()
    eta_min: float = _number(0.0, default=0.0)

    def lr_at(self, t: int, peak_lr: float) -> float:
        return _half_cosine(t / self.T_max, peak_lr, self.eta_min)


@dataclass(frozen=True, kw_only=True)
class Step(SchedulerSpec):
    """A drop after every ``step_size`` calls::

        lr(t) = p * g ** floor(t / n)

    Args:
        step_size: n, calls between two drops; >= 1.
        gamma: g, factor of each drop; in (0, 1).

    Example:
        >>> [round(Step(step_size=2, gamma=0.1).lr_at(t, 1.0), 3) for t in range(5)]
        [1.0, 1.0, 0.1, 0.1, 0.01]
    """

    torch_class = "StepLR"
    step_size: int = _count()
    gamma: float = _number(0.0, 1.0, open_ends=True)

    def lr_at(self, t: int, peak_lr: float) -> float:
        return peak_lr * self.gamma ** (t // self.step_size)


@dataclass(frozen=True, kw_only=True)
class MultiStep(SchedulerSpec):
    """A drop at each milestone::

        lr(t) = p * g ** k(t),    k(t) = number of milestones <= t

    Args:
        milestones: calls after which the LR drops, strictly increasing, >= 1 each, at least one.
        gamma: g, factor of each drop; in (0, 1).

    Example:
        >>> [round(MultiStep(milestones=(1, 3), gamma=0.1).lr_at(t, 1.0), 3) for t in range(4)]
        [1.0, 0.1, 0.1, 0.01]
    """

    torch_class = "MultiStepLR"
    milestones: tuple[int, ...] = field(metadata={"check": _check_milestones})
    gamma: float = _number(0.0, 1.0, open_ends=True)

    def lr_at(self, t: int, peak_lr: float) -> float:
        return peak_lr * self.gamma ** bisect_right(self.milestones, t)


@dataclass(frozen=True, kw_only=True)
class Exponential(SchedulerSpec):
    """A constant ratio between neighbours::

        lr(t) = p * g ** t

    Args:
        gamma: g, factor of each call; in (0, 1).

    Example:
        >>> [round(Exponential(gamma=0.5).lr_at(t, 1.0), 3) for t in range(4)]
        [1.0, 0.5, 0.25, 0.125]
    """

    torch_class = "ExponentialLR"
    gamma: float = _number(0.0, 1.0, open_ends=True)

    def lr_at(self, t: int, peak_lr: float) -> float:
        return peak_lr * self.gamma**t


@dataclass(frozen=True, kw_only=True)
class Plateau(SchedulerSpec):
    """A drop whenever the loss has not improved for more than ``patience`` calls::

        lr(t) = p * max(f ** k(t), r),    k(t) = number of drops so far

    The drops depend on the loss and are not known beforehand: :meth:`lr_at` is the LR without any, k = 0.

    Args:
        factor: f, factor of each drop; in (0, 1).
        patience: calls without improvement before a drop; >= 0.
        cooldown: calls after a drop that are not counted; >= 0.
        min_factor: r, part of the peak below which the LR does not go; in [0, 1].
        mode: ``"min"`` where a lower loss is an improvement, ``"max"`` where a higher one (or an accuracy) is.
    """

    torch_class = "ReduceLROnPlateau"
    torch_defaults = {"mode": "min"}
    factor: float = _number(0.0, 1.0, open_ends=True)
    patience: int = _count(0)
    cooldown: int = _count(0)
    min_factor: float = _number(0.0, 1.0)
    mode: str = _choice("min", "max")

    def lr_at(self, t: int, peak_lr: float) -> float:
        return peak_lr

    def arguments(self, peak_lrs: Sequence[float]) -> dict[str, Any]:
        values = super().arguments(peak_lrs)
        min_factor = values.pop("min_factor")
        # With torch's eps of 1e-8 a small LR does not drop, and groups lose their ratio.
        return {"mode": self.mode, **values, "min_lr": [min_factor * peak_lr for peak_lr in peak_lrs], "eps": 0.0}


@dataclass(frozen=True, kw_only=True)
class Restarts(SchedulerSpec):
    """Half cosines from the peak LR to ``eta_min``, each starting again at the peak::

        T_i   = T_0 * T_mult ** i                                  (length of cycle i)
        t_i   = T_0 + ... + T_(i-1)                                (its start)
        lr(t) = m + (p - m) * (1 + cos(pi * (t - t_i) / T_i)) / 2  for t_i <= t < t_i + T_i

    Args:
        T_0: calls of the first cycle; >= 1.
        T_mult: length of each cycle divided by that of the one before; >= 1.
        eta_min: m, LR at the end of each cycle; >= 0, one number for all parameter groups.

    Example:
        >>> [round(Restarts(T_0=2, T_mult=2).lr_at(t, 0.1), 4) for t in range(7)]
        [0.1, 0.05, 0.1, 0.0854, 0.05, 0.0146, 0.1]

    Reference:
        Loshchilov and Hutter, SGDR, arXiv:1608.03983.
    """

    torch_class = "CosineAnnealingWarmRestarts"
    torch_defaults = {"eta_min": 0.0}
    T_0: int = _count()
    T_mult: int = _count()
    eta_min: float = _number(0.0, default=0.0)

    def lr_at(self, t: int, peak_lr: float) -> float:
        length = self.T_0
        if self.T_mult == 1:
            t %= length
        while t >= length:
            t -= length
            length *= self.T_mult
        return _half_cosine(t / length, peak_lr, self.eta_min)


@dataclass(frozen=True, kw_only=True)
class _MomentumCycle(SchedulerSpec):
    """Base of the two specs that move the momentum against the LR, from ``max_momentum`` to ``base_momentum``."""

    cycle_momentum: bool | None = field(default=None, metadata={"check": _check_cycling})
    base_momentum: float = _number(0.0, 0.9999, default=0.85)
    max_momentum: float = _number(0.0, 0.9999, default=0.95)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.base_momentum > self.max_momentum:
            raise ConfigError(
                f"base_momentum must not exceed max_momentum; got {self.base_momentum:g} and {self.max_momentum:g}. "
                "Did you swap them?"
            )

    def arguments(self, peak_lrs: Sequence[float]) -> dict[str, Any]:
        values = super().arguments(peak_lrs)
        momentum = {each.name: values.pop(each.name) for each in fields(_MomentumCycle)}
        cycled = momentum if self.cycle_momentum is not False else {"cycle_momentum": False}
        return {"max_lr": list(peak_lrs), **values, **cycled}


@dataclass(frozen=True, kw_only=True)
class OneCycle(_MomentumCycle):
    """Half a cosine up to the peak LR and half a cosine down to nearly 0, momentum the other way round::

        u           = r * N - 1                                 (the turn, where the LR is p)
        h(x, a, b)  = b + (a - b) * (1 + cos(pi * x)) / 2       (from a at x = 0 to b at x = 1)
        lr(t)       = h(t / u, p / d, p)                        for t <= u
                      h((t - u) / (N - 1 - u), p, p / (d * f))  for t > u
        momentum(t) = h(t / u, M, m)                            for t <= u
                      h((t - u) / (N - 1 - u), m, M)            for t > u

    Args:
        total_steps: N, calls in the whole training; > ``1 / pct_start``. Torch raises at one call more.
        pct_start: r, part of them spent going up; in (0, 1).
        div_factor: d, peak divided by the first LR; >= 1.
        final_div_factor: f, first LR divided by the last; >= 1.
        cycle_momentum: whether the momentum moves; None for wherever the optimizer has one.
        base_momentum: m, momentum at the peak; in [0, 1).
        max_momentum: M, momentum at both ends; in [0, 1).

    Example:
        >>> [round(OneCycle(total_steps=20, pct_start=0.3).lr_at(t, 0.1), 4) for t in (0, 5, 19)]
        [0.004, 0.1, 0.0]

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
    total_steps: int = _count()
    pct_start: float = _number(0.0, 1.0, open_ends=True, default=0.3)
    div_factor: float = _number(1.0, default=25.0)
    final_div_factor: float = _number(1.0, default=1e4)

    def __post_init__(self) -> None:
        super().__post_init__()
        # At pct_start * total_steps == 1 torch divides by zero, and below it never goes up.
        if self.pct_start * self.total_steps <= 1:
            raise ConfigError(
                f"onecycle needs total_steps of more than 1 / pct_start; got total_steps={self.total_steps}, "
                f"pct_start={self.pct_start:g}. Raise total_steps to {math.floor(1 / self.pct_start) + 1} or more, or "
                "take 'linear'."
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


@dataclass(frozen=True, kw_only=True)
class Cyclic(_MomentumCycle):
    """Triangles between a part of the peak LR and the peak, momentum the other way round::

        c           = floor(t / 2n)                     (number of the triangle, from 0)
        a           = 1 for "triangular", 2 ** -c for "triangular2"
        h(t)        = a * (1 - |t - 2n * c - n| / n)    (height: a at the top, 0 at both ends)
        lr(t)       = p * (b + (1 - b) * h(t))
        momentum(t) = M - (M - m) * h(t)

    Args:
        step_size_up: n, calls from the bottom to the top, and from there back; >= 1.
        base_factor: b, part of the peak at the bottom; in [0, 1).
        mode: ``"triangular"``, or ``"triangular2"`` (each triangle half as high as the one before).
        cycle_momentum: whether the momentum moves; None for wherever the optimizer has one.
        base_momentum: m, momentum at the top of a full triangle; in [0, 1).
        max_momentum: M, momentum at the bottom; in [0, 1).

    Example:
        >>> [Cyclic(step_size_up=2, base_factor=0.5).lr_at(t, 1.0) for t in range(7)]
        [0.5, 0.75, 1.0, 0.75, 0.5, 0.625, 0.75]

    Reference:
        Smith, arXiv:1506.01186.
    """

    torch_class = "CyclicLR"
    step_size_up: int = _count()
    base_factor: float = _number(0.0, default=0.25)
    mode: str = _choice("triangular2", "triangular")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.base_factor >= 1:
            raise ConfigError(f"base_factor must be below 1, as it is a part of peak_lr; got {self.base_factor:g}.")

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
        values = super().arguments(peak_lrs)
        base_factor = values.pop("base_factor")
        return {"base_lr": [base_factor * peak_lr for peak_lr in peak_lrs], **values}


@dataclass(frozen=True, kw_only=True)
class Sequential(SchedulerSpec):
    """One spec after the other, each counting its own calls from its start::

        lr(t) = lr_i(t - m_i)    for m_i <= t < m_(i+1),    m_0 = 0

    Args:
        parts: lr_0, lr_1, ...: two or more specs. None of them cycles the momentum, is a :class:`Plateau`, or is itself
            a sequence.
        milestones: m_1, m_2, ...: calls after which the next part takes over, strictly increasing, one fewer than the
            parts.

    Example:
        >>> warmup = Linear(start_factor=0.01, end_factor=1.0, total_iters=2)
        >>> sequential = Sequential(parts=(warmup, Cosine(T_max=8)), milestones=(2,))
        >>> [round(sequential.lr_at(t, 0.1), 4) for t in (0, 1, 2, 6, 10)]
        [0.001, 0.0505, 0.1, 0.05, 0.0]
    """

    torch_class = "SequentialLR"
    parts: tuple[SchedulerSpec, ...]
    milestones: tuple[int, ...] = field(metadata={"check": _check_milestones})

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.parts) != len(self.milestones) + 1:
            raise ConfigError(
                f"a sequence needs one part more than milestones; got {len(self.parts)} parts and "
                f"{len(self.milestones)} milestones. Add or remove one."
            )
        for part in self.parts:
            if isinstance(part, (_MomentumCycle, Plateau, Sequential)):
                raise ConfigError(
                    f"a sequence cannot hold {type(part).__name__}, which must be the whole schedule. Use it alone."
                )

    @property
    def eta_min(self) -> float:
        return max(part.eta_min for part in self.parts)

    def lr_at(self, t: int, peak_lr: float) -> float:
        index = bisect_right(self.milestones, t)
        return self.parts[index].lr_at(t - (0, *self.milestones)[index], peak_lr)

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "parts": [part.to_dict() for part in self.parts]}
