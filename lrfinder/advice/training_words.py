"""Every sentence about the training that was swept, beside :mod:`lrfinder.advice.words`. No torch."""

from __future__ import annotations

from collections.abc import Callable

from lrfinder.analysis.finding import Finding
from lrfinder.numbers import format_lr
from lrfinder.tables.optimizers import find_optimizer

__all__ = ["TRAINING_SENTENCES"]

_LISTED_GROUPS = 6  # parameter groups whose scales are written out


def _lr_free(found: Finding) -> str:
    return (
        f"{found.detail} sets its own step size: the learning rate only scales it or starts it, and a range test does "
        f"not find it. Keep {format_lr(found.values[0]) if found.values else 1} unless training is unstable."
    )


def _no_typical_lr(found: Finding) -> str:
    return f"No typical LR is known for {found.detail or 'the optimizer'}, so only the sweep is used."


def _other_unit(found: Finding) -> str:
    known = find_optimizer(found.detail) is not None
    of, unit = (found.detail, "the loss is") if known else ("Adam", f"the LR of {found.detail} is")
    return (
        f"A typical peak LR for {of} and a loss of this size is {format_lr(found.lr or 0.0)}, far from what the sweep "
        f"shows: {unit} in another unit. Only the sweep is used."
    )


def _far_from_published(found: Finding) -> str:
    (published,), advised = found.values, found.lr or 1.0
    source, schedule = found.detail.split()
    times = f"{advised / published:.2g} times" if advised > published else f"{published / advised:.2g} times below"
    return (
        f"The advice for a {schedule} schedule, {format_lr(advised)}, is {times} {source}'s of {format_lr(published)}. "
        "Try both in short trainings."
    )


def _groups(found: Finding) -> str:
    scales = ", ".join(map(format_lr, found.values))
    if len(found.values) > _LISTED_GROUPS:
        scales = f"{format_lr(min(found.values))} to {format_lr(max(found.values))}"
    group = "the reference parameter group" + (f" ({found.detail})" if found.detail else "")
    return (
        f"The learning rates are those of {group}; the groups train at {scales} times it. The typical LR is converted "
        "to this group, so that it holds for the average parameter."
    )


def _frozen_reference(found: Finding) -> str:
    number, scale = found.values
    name = f" ({found.detail})" if found.detail else ""
    return (
        f"No parameter of the reference group is trained. Parameter group {number:g}{name}, the first that is, trains "
        f"at {format_lr(scale)} times the learning rates named here; leave frozen groups out to have its own."
    )


TRAINING_SENTENCES: dict[str, str | Callable[[Finding], str]] = {
    "lr_free": _lr_free,
    "batches_differ": (
        "{detail} compares gradients of its steps: on mini-batches it may diverge at any LR. Step on all data."
    ),
    "no_typical_lr": _no_typical_lr,
    "unknown_optimizer": "No typical LR is known for {detail}. Most new optimizers are near that of Adam.",
    "not_calibrated": (
        "The typical LR of {detail} rests on far fewer trainings than that of SGD or Adam. Refine the advice."
    ),
    "other_unit": _other_unit,
    "large_epsilon": (
        "eps={values[0]:g} is larger than most gradients, so {detail} divides by it alone: its updates are those of "
        "SGD with lr / eps, and its typical LR is that of SGD times eps."
    ),
    "far_from_published": _far_from_published,
    "pretrained_contradicted": (
        "The weights are taken as trained, as you specified, but the model shows no signs of training. Check that they "
        "are loaded into it."
    ),
    "pretrained_contradicted trained": (
        "The weights are taken as fresh, as you specified, but the model shows signs of training. Leave `pretrained` "
        "out to decide by the weights."
    ),
    "tuned_sgd": (
        "Trained weights with {detail}: a wrong learning rate costs more than with Adam, and in trainings of such "
        "networks the advice missed twice as much. Refine it with a budget of 1.0, one whole training."
    ),
    "maximized": "The optimizer has maximize=True, so the curve is read with its sign turned.",
    "groups": _groups,
    "initial_lrs": (
        "A schedule of the optimizer has not begun or has ended, so the ratios of the parameter groups are those of "
        "their initial_lr, and not of their lr. For other ratios set each lr and delete initial_lr from the groups."
    ),
    "frozen_reference": _frozen_reference,
    "sorted": (
        "All samples of the first batch have the same target. If the data are sorted, the curve shows their order "
        "instead of the learning rate. Pass shuffle=True."
    ),
    "repeated": (
        "The range test went through the data {values[0]:.0f} times. A training that repeats them so often may "
        "overfit, and then needs a lower LR than a short test shows. Refine the advice with a val_loader."
    ),
    "scaler_skips": (
        "The GradScaler skipped {values[0]:g} updates (float16 overflow); their learning rates were tried again. Many "
        "skips mean that its initial scale is too high: lower it, or use bfloat16."
    ),
}
"""By code, the sentence of each finding about the training, as a text to be filled in or a function."""
