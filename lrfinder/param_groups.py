"""Learning rates of an optimizer's parameter groups, read and written in one place.

An optimizer may mix learning rates of different units (Muon beside Adam) or of different depth (a backbone beside its
head), so everything here changes one common factor: "the" learning rate is that of the *reference group*, and the
others keep their ratio to it. Works on anything with ``param_groups``, without torch.
"""

from __future__ import annotations

from typing import Any

__all__ = ["group_scales", "momentum", "optimizer_name", "optimizer_parameters", "set_lr", "set_momentum"]


def optimizer_parameters(optimizer: Any) -> list[Any]:
    """Every parameter in the optimizer's groups, in order."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def group_scales(optimizer: Any) -> tuple[float, ...]:
    """LR of each group divided by that of the reference group: the first whose LR is not 0, shape (groups,).

    With all of them 0 the groups count as equal.
    """
    lrs = [float(group["lr"]) for group in optimizer.param_groups]
    reference = next((lr for lr in lrs if lr != 0), 0.0)
    return tuple(lr / reference for lr in lrs) if reference else (1.0,) * len(lrs)


def set_lr(optimizer: Any, lr: float, scales: tuple[float, ...]) -> None:
    """Give each group ``lr`` times its scale; an LR held in a tensor is filled in place, so compiled code sees it."""
    for group, scale in zip(optimizer.param_groups, scales, strict=True):
        if hasattr(group["lr"], "fill_"):
            group["lr"].fill_(lr * scale)
        else:
            group["lr"] = lr * scale


def optimizer_name(optimizer: Any) -> str:
    """Class name, of the inner optimizer where a trainer has wrapped it."""
    return type(getattr(optimizer, "optimizer", optimizer)).__name__


def momentum(optimizer: Any) -> float:
    """Momentum (SGD, RMSprop) or beta1 (Adam-like), the smallest of the groups; 0 where one has none.

    Of a group with both it is beta1, which is what torch's schedulers and :func:`set_momentum` cycle.
    """
    return min(
        float((group["betas"][0] if group.get("betas") else group.get("momentum")) or 0.0)
        for group in optimizer.param_groups
    )


def set_momentum(optimizer: Any, value: float) -> None:
    """Give each group this momentum (beta1 of Adam-like ones), where every group has one above 0.

    Cycling a momentum of 0 would switch it on, so such an optimizer is left alone, as
    :func:`lrfinder.schedules.build.build` leaves it.
    """
    if momentum(optimizer) == 0:
        return
    for group in optimizer.param_groups:
        if "betas" in group:
            group["betas"] = (value, *group["betas"][1:])
        else:
            group["momentum"] = value
