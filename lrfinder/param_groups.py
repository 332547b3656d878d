"""Learning rates of an optimizer's parameter groups, read and written in one place.

An optimizer may mix learning rates of different units (Muon beside Adam) or of different depth (a backbone beside its
head), so everything here changes one common factor: "the" learning rate is that of the *reference group*, and the
others keep their ratio to it. Works on anything with ``param_groups``, without torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from lrfinder.errors import SetupError
from lrfinder.tables.optimizers import find_optimizer

__all__ = [
    "check_optimizers",
    "epsilon",
    "group_scales",
    "maximizes",
    "mode_switches",
    "momentum",
    "optimizer_name",
    "optimizer_parameters",
    "reference_group",
    "scales_of_initial_lrs",
    "set_lr",
    "set_momentum",
]

_ENDED = 1e-3  # part of its first LR up to which a group counts as at the end of its schedule
# Where a wrapper keeps the other.
_WRAPPED = ("optimizer", "base_optimizer", "_base_optimizer", "original_optimizer", "optim", "_optim")


def check_optimizers(optimizers: Sequence[Any]) -> None:
    """Refuse a list of optimizers that cannot be stepped one after the other.

    Raises:
        SetupError: it is empty, holds anything but optimizers, one twice, or one parameter in two of them.

    Example:
        >>> check_optimizers([])
        Traceback (most recent call last):
        lrfinder.errors.SetupError: the list of optimizers is empty. Write [first_optimizer, second_optimizer].
    """
    if not optimizers:
        raise SetupError("the list of optimizers is empty. Write [first_optimizer, second_optimizer].")
    holders: dict[int, int] = {}  # place of the optimizer by parameter
    for place, optimizer in enumerate(optimizers):
        if not hasattr(optimizer, "param_groups") or not hasattr(optimizer, "step"):
            raise SetupError(
                f"each of a list of optimizers must be a torch optimizer; got a {type(optimizer).__name__} at "
                f"optimizer[{place}]. Write [first_optimizer, second_optimizer]."
            )
        first = next(number for number, each in enumerate(optimizers) if each is optimizer)
        if first != place:
            raise SetupError(f"optimizer[{place}] is the same object as optimizer[{first}]. Name each optimizer once.")
        for parameter in optimizer_parameters(optimizer):
            if holders.setdefault(id(parameter), place) != place:
                raise SetupError(
                    f"optimizer[{holders[id(parameter)]}] and optimizer[{place}] hold the same parameter, which both "
                    "would update. Give each parameter to one of them."
                )


def optimizer_parameters(optimizer: Any) -> list[Any]:
    """Every parameter in the optimizer's groups, in order."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def group_scales(optimizer: Any) -> tuple[float, ...]:
    """LR of each group divided by that of the reference group, shape (groups,).

    A scheduler that begins at 0 (a warm-up) or ends there leaves the ratio in ``initial_lr`` alone. Where every group
    that has an ``initial_lr`` is at 0, these groups count with it; where others were added since, at a thousandth or
    less too, where a schedule ends. Of a one-cycle schedule the ``max_lr`` counts. With all of them 0 the groups count
    as equal. Where they are equal, the factors ``lr_scale`` count that timm and others write beside the learning rates
    for layer-wise decay: their own schedulers alone apply them, and may not have been made yet.
    :func:`scales_of_initial_lrs` tells where an ``initial_lr`` made a difference.

    Raises:
        SetupError: a group without a learning rate, or with one that is no finite number.

    Example:
        >>> from types import SimpleNamespace
        >>> groups = [{"lr": 0.0, "initial_lr": 0.5}, {"lr": 0.0, "initial_lr": 0.25}]  # before a warm-up
        >>> group_scales(SimpleNamespace(param_groups=groups))
        (1.0, 0.5)
    """
    groups, lrs = optimizer.param_groups, _lrs(optimizer)
    starts = {
        number: max(_number(group[name], number, optimizer) for name in ("initial_lr", "max_lr") if name in group)
        for number, group in enumerate(groups)
        if "initial_lr" in group
    }
    next_to_nothing = _ENDED if len(starts) < len(groups) else 0.0
    if all(lrs[number] <= next_to_nothing * start for number, start in starts.items()):
        lrs = [starts.get(number, lr) for number, lr in enumerate(lrs)]
    return _scales(lrs, groups)


def scales_of_initial_lrs(optimizer: Any) -> bool:
    """Whether :func:`group_scales` took ``initial_lr`` in place of the current LRs, which have other ratios.

    Raises:
        SetupError: as :func:`group_scales`.
    """
    return group_scales(optimizer) != _scales(_lrs(optimizer), optimizer.param_groups)


def _lrs(optimizer: Any) -> list[float]:
    return [_number(group.get("lr"), number, optimizer) for number, group in enumerate(optimizer.param_groups)]


def _scales(lrs: list[float], groups: list[dict[str, Any]]) -> tuple[float, ...]:
    if len(set(lrs)) == 1:
        lrs = [lr * factor for lr, factor in zip(lrs, map(_factor, groups), strict=True)]
    return tuple(lr / lrs[reference_group(lrs)] for lr in lrs) if any(lrs) else (1.0,) * len(lrs)


def _factor(group: dict[str, Any]) -> float:
    """What a scheduler of timm multiplies the learning rate of the group by."""
    factor = group.get("lr_scale")
    return float(factor) if isinstance(factor, (int, float)) and math.isfinite(factor) else 1.0


def reference_group(scales: Sequence[float]) -> int:
    """Place of the reference group among learning rates or scales: the first that is not 0, else 0."""
    return next((number for number, scale in enumerate(scales) if scale), 0)


def _number(lr: Any, group: int, optimizer: Any) -> float:
    """The learning rate as a float; NumPy's numbers and tensors of one element are accepted."""
    name = optimizer_name(optimizer)
    if lr is None:
        raise SetupError(
            f"parameter group {group} of {name} has lr=None, so the optimizer sets its own step size and there is no "
            "learning rate to test. Give it one; Adafactor also needs relative_step=False and warmup_init=False then."
        )
    try:
        number = float(lr)
    except (TypeError, ValueError, RuntimeError):
        number = math.nan
    if not math.isfinite(number):
        raise SetupError(
            f"the LR of every parameter group must be a finite number; got {lr!r} for group {group} of {name}. "
            "Set optimizer.param_groups[...]['lr']."
        )
    # Single precision has seven digits; more of them would make 0.1 in a tensor and 0.1 in a float two learning rates.
    return number if isinstance(lr, (float, int)) else float(f"{number:.7g}")


def set_lr(optimizer: Any, lr: float, scales: tuple[float, ...]) -> None:
    """Give each group ``lr`` times its scale; an LR held in a tensor is filled in place, so compiled code sees it."""
    for group, scale in zip(optimizer.param_groups, scales, strict=True):
        if hasattr(group["lr"], "fill_"):
            group["lr"].fill_(lr * scale)
        else:
            group["lr"] = lr * scale


def optimizer_name(optimizer: Any) -> str:
    """Class name: of the inner optimizer where others wrap it, as trainers, ZeRO, Lookahead and SAM do.

    A class that the table of optimizers lacks has the name of the first base class that is in it.

    Example:
        >>> from types import SimpleNamespace
        >>> Momentum = type("Momentum", (type("SGD", (), {"param_groups": []}),), {})
        >>> optimizer_name(Momentum()), optimizer_name(SimpleNamespace(base_optimizer=Momentum()))
        ('SGD', 'SGD')
    """
    inner, seen = optimizer, {id(optimizer)}
    while (found := _wrapped(inner)) is not None and id(found) not in seen:
        inner = found
        seen.add(id(inner))
    names = [each.__name__ for each in type(inner).__mro__]
    return next((name for name in names if find_optimizer(name)), names[0])


def _wrapped(optimizer: Any) -> Any:
    """The optimizer that this one wraps; None for none."""
    held = (getattr(optimizer, name, None) for name in _WRAPPED)
    return next((each for each in held if hasattr(each, "param_groups")), None)


def mode_switches(optimizer: Any) -> tuple[Callable[[], object], Callable[[], object]] | None:
    """``train`` and ``eval`` of an optimizer that has both, as schedule-free ones do; None for the others.

    Such an optimizer keeps other weights for training than for evaluation, and its ``step`` raises in eval mode.
    """
    train, evaluate = getattr(optimizer, "train", None), getattr(optimizer, "eval", None)
    return (train, evaluate) if callable(train) and callable(evaluate) else None


def maximizes(optimizer: Any) -> bool:
    """Whether every group is trained to raise the loss, as torch's ``maximize=True``."""
    return all(group.get("maximize") is True for group in optimizer.param_groups)


def momentum(optimizer: Any) -> float:
    """Smallest momentum of the parameter groups, or smallest first beta (Adam); 0 if any group has neither.

    A group with both counts with its first beta, which torch's schedulers and :func:`set_momentum` cycle.
    """
    return min(map(_group_momentum, optimizer.param_groups))


def _group_momentum(group: dict[str, Any]) -> float:
    return float((group["betas"][0] if _has_betas(group) else group.get("momentum")) or 0.0)


def _has_betas(group: dict[str, Any]) -> bool:
    betas = group.get("betas")
    return betas is not None and len(betas) > 0  # an array has no truth value


def epsilon(optimizer: Any) -> float | None:
    """Smallest ``eps`` of the parameter groups; None where a group has none, or several, as with Adafactor."""
    values = [group.get("eps") for group in optimizer.param_groups]
    return min(map(float, values)) if all(isinstance(value, (int, float)) for value in values) else None


def set_momentum(optimizer: Any, value: float) -> None:
    """Set the momentum of every parameter group (with Adam its first beta), provided that all are above 0.

    Cycling a momentum of 0 would switch it on, so such an optimizer is left alone, as
    :func:`lrfinder.schedules.build.build` leaves it.
    """
    if momentum(optimizer) == 0:
        return
    for group in optimizer.param_groups:
        if _has_betas(group):
            group["betas"] = (value, *group["betas"][1:])
        else:
            group["momentum"] = value
