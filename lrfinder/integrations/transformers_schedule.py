"""The advice of a range test, written into the arguments of a Hugging Face ``Trainer``."""

from __future__ import annotations

import math
from typing import Any

from transformers import Trainer

from lrfinder.errors import ConfigError, SetupError
from lrfinder.integrations.references import References
from lrfinder.param_groups import set_lr
from lrfinder.recipes import Recipe
from lrfinder.result import RangeTestResult
from lrfinder.schedules.swept import scales_as_swept

__all__ = ["apart_in", "apply"]

_TYPES = {"cosine": "cosine", "linear": "linear", "constant": "constant", "wsd": "warmup_stable_decay"}


def apply(
    result: RangeTestResult,
    trainer: Any,
    kind: str = "cosine",
    *,
    peak_lr: float | None = None,
    warmup_steps: int | None = None,
    **options: Any,
) -> Recipe:
    """Set the advised learning rate and the schedule in the arguments of a ``Trainer``; then call ``trainer.train()``.

    Set are ``learning_rate``, ``lr_scheduler_type``, ``lr_scheduler_kwargs``, ``warmup_steps``, and the learning rates
    of an optimizer that exists already. The length of the training is that of the arguments.

    Args:
        result: of :func:`lrfinder.integrations.transformers.range_test`.
        trainer: to train with.
        kind: ``"cosine"``, ``"linear"``, ``"constant"`` or ``"wsd"``, the schedules that the Trainer has too.
        peak_lr: learning rate to use instead of the advised one; > 0.
        warmup_steps: updates of linear warm-up, 0 for none. None keeps the warm-up of the arguments, and where they
            have none it takes the recipe's, 5 % of the updates.
        **options: ``cooldown_steps`` of ``"wsd"``.

    Returns:
        The recipe with the numbers that were set. The Trainer's own warm-up starts at 0, not at a hundredth of the
        peak.

    Raises:
        ConfigError: a kind or an option that the Trainer does not have, or a number out of its range, or a length.
        NoAdviceError: the curve has no advice, and no ``peak_lr`` is given.
        SetupError: a trainer with a scheduler of its own, or of which ``create_optimizer`` ignores the arguments, or of
            which the training has no known length; arguments in another order.
    """
    _check(result, trainer, kind, options)
    args = trainer.args
    updates = _updates(trainer)
    if warmup_steps is None and kind in _TYPES:
        warmup_steps = args.get_warmup_steps(updates) or None
    recipe = result.recipe(kind, peak_lr=peak_lr, total_steps=updates, warmup_steps=warmup_steps, **options)
    _check_available(recipe, updates, options)
    _set_learning_rate(trainer, recipe)
    warm_constant = kind == "constant" and recipe.warmup_steps
    args.lr_scheduler_type = type(args.lr_scheduler_type)("constant_with_warmup" if warm_constant else _TYPES[kind])
    args.lr_scheduler_kwargs = {}
    if kind == "wsd":
        cooldown = updates - getattr(recipe.spec, "milestones", (0,))[-1]
        args.lr_scheduler_kwargs = {"num_decay_steps": cooldown, "decay_type": "linear"}
    args.warmup_steps = recipe.warmup_steps
    if getattr(args, "warmup_ratio", None):  # before transformers 5, it counts where warmup_steps is 0
        args.warmup_ratio = 0.0
    return recipe


def apart_in(trainer: Any) -> list[object]:
    """What of a trainer is not looked into: data sets of any kind, and callbacks, whose loggers may be writing."""
    data = [getattr(trainer, name, None) for name in ("train_dataset", "eval_dataset")]
    return [*data, *trainer.callback_handler.callbacks]


def _check(result: Any, trainer: Any, kind: str, options: dict[str, Any]) -> None:
    """Refuse other objects, a length, and a trainer that does not follow its arguments."""
    if not isinstance(result, RangeTestResult) or not isinstance(trainer, Trainer):
        raise SetupError(
            "apply(result, trainer, kind) takes what range_test returned and a transformers.Trainer, in this order; "
            f"got a {type(result).__name__} and a {type(trainer).__name__}."
        )
    length = next((name for name in ("total_steps", "epochs", "steps_per_epoch") if name in options), None)
    if length is not None:
        raise ConfigError(
            f"apply() takes no {length}: the length of the training is that of the arguments. "
            "Set max_steps or num_train_epochs of TrainingArguments."
        )
    if getattr(trainer, "is_deepspeed_enabled", False):
        raise SetupError(
            "DeepSpeed read the learning rate when the arguments were made. Make them with it: "
            f"TrainingArguments(learning_rate=result.lr_for({kind!r}), lr_scheduler_type={kind!r}, ...)."
        )
    if getattr(trainer.create_scheduler, "__func__", None) is not Trainer.create_scheduler:
        raise SetupError(
            f"{type(trainer).__name__} has a create_scheduler of its own, so lr_scheduler_type may not count. Build "
            f"the scheduler there: result.scheduler({kind!r}, self.optimizer, total_steps=num_training_steps)."
        )
    if trainer.lr_scheduler is not None and not getattr(trainer, "_created_lr_scheduler", False):
        raise SetupError(
            "the Trainer has a scheduler of its own, so its arguments do not count. Build it with that of the result, "
            f"Trainer(..., optimizers=(optimizer, result.scheduler({kind!r}, optimizer, ...))), or with None for it."
        )


def _check_available(recipe: Recipe, updates: int, options: dict[str, Any]) -> None:
    """Refuse a kind or an option that the Trainer does not have."""
    kind = recipe.kind
    if kind == "plateau":
        raise ConfigError(
            "the Trainer checks what 'plateau' needs when the arguments are made. Make them with it: "
            f"TrainingArguments(learning_rate={recipe.peak_lr!r}, lr_scheduler_type='reduce_lr_on_plateau', "
            "eval_strategy='epoch', ...)."
        )
    lacking = set(options) - ({"cooldown_steps"} if kind == "wsd" else set())
    if kind not in _TYPES or lacking:
        part = f"{min(lacking)} in its schedule {kind!r}" if kind in _TYPES else f"schedule {kind!r}"
        given = "".join(f", {name}={value!r}" for name, value in options.items())
        raise ConfigError(
            f"the Trainer has no {part}; apply() sets {', '.join(map(repr, _TYPES))}. Give it the scheduler itself, "
            f"Trainer(..., optimizers=(optimizer, scheduler)), with scheduler = result.scheduler({kind!r}, optimizer, "
            f"total_steps={updates}{given})."
        )


def _updates(trainer: Any) -> int:
    """Updates of the whole training."""
    args = trainer.args
    if args.max_steps > 0:
        return int(args.max_steps)
    with References([trainer], apart_in(trainer)):
        loader = trainer.get_train_dataloader()
    try:
        batches = len(loader)
    except TypeError:
        raise SetupError(
            "the training data have no length, so the schedule has none. Set max_steps of TrainingArguments."
        ) from None
    return int(math.ceil(args.num_train_epochs * max(-(-batches // args.gradient_accumulation_steps), 1)))


def _set_learning_rate(trainer: Any, recipe: Recipe) -> None:
    """Have the reference group train at the peak: in an optimizer that exists, or in the one that will be created."""
    args, former, lr = trainer.args, trainer.args.learning_rate, recipe.peak_lr
    args.learning_rate = lr
    if trainer.optimizer is not None and getattr(trainer, "model_init", None) is None:
        scales = scales_as_swept(trainer.optimizer, recipe.group_scales)
        set_lr(trainer.optimizer, lr, scales)
        for group, scale in zip(trainer.optimizer.param_groups, scales, strict=True):
            if "initial_lr" in group:  # of an earlier scheduler, and the next one starts from it
                group["initial_lr"] = lr * scale
        return
    own = getattr(trainer, "optimizer_cls_and_kwargs", None)
    if own is not None:
        trainer.optimizer_cls_and_kwargs = (own[0], {**own[1], "lr": lr})
    # A subclass may derive the learning rates of its groups from that of the arguments, or ignore it.
    try:
        created = _created_lr(trainer)
        if created and not math.isclose(created, lr, rel_tol=1e-6):
            args.learning_rate = lr * (lr / created)
            created = _created_lr(trainer)
        if not math.isclose(created, lr, rel_tol=1e-6):
            raise SetupError(
                f"{type(trainer).__name__}.create_optimizer does not follow args.learning_rate, so apply() cannot set "
                "it. Build the optimizer yourself: Trainer(..., optimizers=(optimizer, result.scheduler(...)))."
            )
    except BaseException:
        args.learning_rate, trainer.optimizer_cls_and_kwargs = former, own
        raise


def _created_lr(trainer: Any) -> float:
    """Learning rate of the reference group of the optimizer that the trainer would create."""
    with References([trainer], apart_in(trainer)):
        trainer.optimizer = None
        groups = trainer.create_optimizer().param_groups
        return float(next((group["lr"] for group in groups if group["lr"] != 0), 0.0))
