"""Torch schedulers from recipes: stock classes only, on the user's optimizer.

This is the one place where a scheduler of torch is made. It knows what torch leaves behind in an optimizer, which
optimizers have a momentum to cycle, and how an LR is set without breaking the ratio between parameter groups.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from torch.optim import Optimizer, lr_scheduler

from lrfinder.errors import SetupError
from lrfinder.param_groups import group_scales, set_lr
from lrfinder.schedules import Sequential, Shape

if TYPE_CHECKING:
    from lrfinder.recipes import Recipe

__all__ = ["build_scheduler"]


def build_scheduler(recipe: Recipe, optimizer: Optimizer) -> lr_scheduler.LRScheduler:
    """The stock torch scheduler of a recipe, attached to ``optimizer``, whose LRs then are those of the first step.

    The first parameter group whose LR is not 0 is the reference: its LR follows ``recipe.lr_at``, and the others keep
    their present ratio to it. When every LR is 0, as a schedule down to zero leaves them, the ratio is taken from the
    ``initial_lr`` that the earlier scheduler left; without one all groups get the same LR. ``recipe.group_scales`` is
    for the printed lines and has no say here: the optimizer at hand knows its groups. An LR held in a tensor is
    filled in place. To resume from a checkpoint, build first and load the states of optimizer and scheduler afterwards:
    building sets the LR. Torch before pytorch/pytorch#149392 warns of an "epoch parameter" when a warm-up ends; that is
    its own call, and the LR is right.

    Args:
        recipe: what to build.
        optimizer: any torch optimizer; its momentum is cycled only where every group has one above 0, whatever
            ``cycle_momentum`` says, as cycling a momentum of 0 would switch it on.

    Returns:
        The scheduler. Call ``step()`` as often as ``recipe.interval`` says; for ``plateau``, ``step(loss)``.

    Raises:
        SetupError: ``optimizer`` is no torch optimizer, or its groups differ in LR and the recipe has an ``eta_min``,
            which torch has once for all groups.

    Example:
        >>> import torch
        >>> from lrfinder.recipes import recipe
        >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=1.0)
        >>> scheduler = build_scheduler(recipe("cosine", peak_lr=0.1, total_steps=50, warmup_steps=0), optimizer)
        >>> type(scheduler).__name__, optimizer.param_groups[0]["lr"]
        ('CosineAnnealingLR', 0.1)
    """
    if not isinstance(optimizer, Optimizer):
        raise SetupError(
            f"the scheduler needs a torch.optim.Optimizer; got {type(optimizer).__name__}. "
            "Pass the optimizer that trains the model."
        )
    scales = _scales(optimizer)
    peaks = [recipe.peak_lr * scale for scale in scales]
    if recipe.shape.floor > 0 and len(set(peaks)) > 1:
        raise SetupError(
            f"eta_min must be 0 for parameter groups of different LR; got eta_min={recipe.shape.floor:g}. Torch has "
            "one eta_min for all groups, so they could not keep their ratio. Leave it out, or take 'linear' with "
            "end_factor."
        )
    set_lr(optimizer, recipe.peak_lr, scales)
    for group in optimizer.param_groups:
        # Torch takes an initial_lr that is there already for the peak, whatever the LR now is.
        group.pop("initial_lr", None)
    return _build(recipe.shape, optimizer, peaks)


def _scales(optimizer: Optimizer) -> tuple[float, ...]:
    if any(group["lr"] for group in optimizer.param_groups):
        return group_scales(optimizer)
    started = [{"lr": group.get("initial_lr", 1.0)} for group in optimizer.param_groups]
    return group_scales(SimpleNamespace(param_groups=started))


def _build(shape: Shape, optimizer: Optimizer, peaks: list[float]) -> lr_scheduler.LRScheduler:
    if isinstance(shape, Sequential):
        parts = [_build(part, optimizer, peaks) for part in shape.shapes]
        return lr_scheduler.SequentialLR(optimizer, parts, milestones=list(shape.milestones))
    arguments = shape.arguments(peaks)
    if arguments.get("cycle_momentum", False) is not False:
        arguments["cycle_momentum"] = _has_momentum(optimizer)
    return cast(lr_scheduler.LRScheduler, getattr(lr_scheduler, shape.torch_class)(optimizer, **arguments))


def _has_momentum(optimizer: Optimizer) -> bool:
    # Torch asks the defaults for the name. The value counts too: cycling a momentum of 0 would switch it on.
    known = "betas" in optimizer.defaults or "momentum" in optimizer.defaults
    return known and all(
        float(group.get("betas", [group.get("momentum", 0)])[0]) > 0 for group in optimizer.param_groups
    )
