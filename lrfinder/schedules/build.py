"""Stock torch schedulers from schedules, on the user's optimizer.

The only place where a scheduler of torch is constructed. It handles what an earlier scheduler left in an optimizer,
optimizers without a momentum to cycle, and parameter groups of different LR.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from types import SimpleNamespace
from typing import cast

from torch import Tensor
from torch.optim import Optimizer, lr_scheduler

from lrfinder.errors import SetupError
from lrfinder.param_groups import check_optimizers, group_scales, momentum, set_lr
from lrfinder.schedules.schedule import Schedule
from lrfinder.schedules.specs import Plateau, SchedulerSpec, Sequential
from lrfinder.schedules.swept import scales_as_swept

__all__ = ["build", "build_each"]


def build(schedule: Schedule, optimizer: Optimizer) -> lr_scheduler.LRScheduler:
    """The stock torch scheduler of a schedule, attached to ``optimizer``, whose LRs then are those of the first step.

    The first parameter group whose LR is not 0 is the reference. Its LR follows ``schedule.lr_at``, and the others keep
    the ratio to it that they have now (:func:`lrfinder.param_groups.group_scales`). A group that was frozen at an LR of
    0 in the range test does not become the reference (:func:`lrfinder.schedules.swept.scales_as_swept`).

    An LR held in a tensor is filled in place; with ``plateau``, groups that hold the same one get their own. A group
    added later goes on with a ``plateau`` whose groups all have one LR, and with no other torch scheduler.

    To resume from a checkpoint, build first and load the states of optimizer and scheduler afterwards, as building sets
    the LR. Torch before pytorch/pytorch#149392 warns of an "epoch parameter" when a warm-up ends; the call is torch's
    own, and the LR is right.

    Args:
        schedule: what to build.
        optimizer: any torch optimizer; its momentum is cycled only where every group has one above 0, even with a
            ``cycle_momentum`` of True, as cycling a momentum of 0 would switch it on.

    Returns:
        The scheduler. Call ``step()`` after every batch or every epoch, as ``schedule.interval`` requires; for
        ``plateau``, ``step(loss)``.

    Raises:
        SetupError: ``optimizer`` is no torch optimizer, its groups are in another order than in the range test, or they
            differ in LR and the schedule has an ``eta_min``, of which torch has one for all groups.

    Example:
        >>> import torch
        >>> from lrfinder.schedules.defaults import make_schedule
        >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=1.0)
        >>> scheduler = build(make_schedule("cosine", peak_lr=0.1, total_steps=50, warmup_steps=0), optimizer)
        >>> type(scheduler).__name__, optimizer.param_groups[0]["lr"]
        ('CosineAnnealingLR', 0.1)
    """
    if schedule.updates.optimizers:
        raise SetupError(
            f"the range test swept {len(schedule.updates.optimizers)} optimizers, whose learning rates keep their "
            "ratios; got one of them. Pass the list of all, as in result.scheduler('cosine', [first, second])."
        )
    _check(optimizer)
    return build_each(schedule, [optimizer])[0]


def build_each(schedule: Schedule, optimizers: Sequence[Optimizer]) -> list[lr_scheduler.LRScheduler]:
    """One scheduler for each optimizer of a training, whose groups all keep their ratios, as in the range test.

    The reference is the first group of them all whose LR is not 0.

    Args:
        schedule: what to build.
        optimizers: as in :func:`build`, in the order of the range test.

    Raises:
        SetupError: as in :func:`build`; an optimizer is named twice or shares a parameter with another, or there are
            more or fewer than in the range test. No optimizer is changed then.

    Example:
        >>> import torch
        >>> from lrfinder.schedules.defaults import make_schedule
        >>> pair = [torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=lr) for lr in (1.0, 4.0)]
        >>> _ = build_each(make_schedule("cosine", peak_lr=0.1, total_steps=50, warmup_steps=0), pair)
        >>> [optimizer.param_groups[0]["lr"] for optimizer in pair]
        [0.1, 0.4]
    """
    check_optimizers(optimizers)
    for optimizer in optimizers:
        _check(optimizer)
        group_scales(optimizer)  # refuses a learning rate that is no number, with the name of that optimizer
    _check_list(schedule, optimizers)
    joint = SimpleNamespace(param_groups=[group for each in optimizers for group in each.param_groups])
    scales = scales_as_swept(joint, schedule.group_scales)
    _check_ratios(schedule, scales)  # before the first of them is changed
    rest = iter(scales)
    own = [tuple(itertools.islice(rest, len(optimizer.param_groups))) for optimizer in optimizers]
    return [_build_on(schedule, optimizer, part) for optimizer, part in zip(optimizers, own, strict=True)]


def _check_list(schedule: Schedule, optimizers: Sequence[Optimizer]) -> None:
    """Refuse other optimizers than those swept: the peak is that of the first of them."""
    counts = schedule.updates.optimizers
    if counts and len(counts) != len(optimizers):
        raise SetupError(
            f"the range test swept {len(counts)} optimizers; got {len(optimizers)}. Pass those that were swept, in the "
            "same order."
        )


def _check(optimizer: object) -> None:
    if not isinstance(optimizer, Optimizer):
        raise SetupError(
            f"the scheduler needs a torch.optim.Optimizer; got {type(optimizer).__name__}. "
            "Pass the optimizer that trains the model; of one that wraps another, such as Lookahead, the other."
        )


def _check_ratios(schedule: Schedule, scales: tuple[float, ...]) -> None:
    if schedule.spec.eta_min > 0 and {schedule.peak_lr * scale for scale in scales} != {schedule.peak_lr}:
        raise SetupError(
            f"eta_min must be 0 for parameter groups of different LR; got eta_min={schedule.spec.eta_min:g}. Torch has "
            "one eta_min for all groups, so they could not keep their ratio. Leave it out, or take 'linear' with "
            "end_factor."
        )


def _build_on(schedule: Schedule, optimizer: Optimizer, scales: tuple[float, ...]) -> lr_scheduler.LRScheduler:
    peaks = [schedule.peak_lr * scale for scale in scales]
    set_lr(optimizer, schedule.peak_lr, scales)
    for group in optimizer.param_groups:
        # Torch takes an initial_lr that is there already for the peak, whatever the LR now is. A one-cycle left max_lr.
        for name in ("initial_lr", "max_lr"):
            group.pop(name, None)
    return _build(schedule.spec, optimizer, peaks)


def _build(spec: SchedulerSpec, optimizer: Optimizer, peaks: list[float]) -> lr_scheduler.LRScheduler:
    if isinstance(spec, Sequential):
        parts = [_build(part, optimizer, peaks) for part in spec.parts]
        return lr_scheduler.SequentialLR(optimizer, parts, milestones=list(spec.milestones))
    arguments = spec.arguments(peaks)
    if isinstance(spec, Plateau) and len(set(arguments["min_lr"])) == 1:
        # With a list torch raises at the first drop after add_param_group(), many epochs into the training.
        arguments["min_lr"] = arguments["min_lr"][0]
    if isinstance(spec, Plateau):
        _unshare(optimizer)
    if arguments.get("cycle_momentum", False) is not False:
        arguments["cycle_momentum"] = _can_cycle(optimizer)
    return cast(lr_scheduler.LRScheduler, getattr(lr_scheduler, spec.torch_class)(optimizer, **arguments))


def _unshare(optimizer: Optimizer) -> None:
    """Give each group a tensor of its own, as torch would let one that several of them hold drop once for each."""
    seen: set[int] = set()
    for group in optimizer.param_groups:
        if id(group["lr"]) in seen and isinstance(group["lr"], Tensor):
            group["lr"] = group["lr"].clone()
        seen.add(id(group["lr"]))


def _can_cycle(optimizer: Optimizer) -> bool:
    # Torch looks for the name in the defaults and raises without it, even where every group has a momentum.
    named = "betas" in optimizer.defaults or "momentum" in optimizer.defaults
    return named and momentum(optimizer) > 0
