"""Range test inside the Hugging Face ``Trainer``, and its advice written into the trainer's arguments.

``trainer.train()`` sets the training up as it always does, with a callback of ours as the only one. That sweeps at the
start of the training and leaves by an exception, before the first step of the trainer's own loop. The step is the
trainer's: its batches, ``compute_loss`` and ``training_step``, accumulation, clipping and optimizer. Then every object
that the trainer refers to gets back the attributes and entries it had; see :class:`_Kept`.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from lrfinder.errors import ConfigError, MissingDependencyError, SetupError
from lrfinder.finder import LRFinder
from lrfinder.param_groups import group_scales, set_lr
from lrfinder.recipes import Recipe
from lrfinder.result import RangeTestResult
from lrfinder.training.state.contents import captured
from lrfinder.training.state.interrupts import InterruptGate
from lrfinder.training.state.objects import attributes, is_optimizer
from lrfinder.training.state.randomness import capture_random
from lrfinder.training.state.reachable import Limits, reachable

try:
    from transformers import Trainer, TrainerCallback
except ImportError as error:
    raise MissingDependencyError("transformers", "transformers") from error

__all__ = ["apply", "range_test"]

_LIMITS = Limits(entries=10_000, objects=50_000)
_SHARDED = {
    "is_deepspeed_enabled": "DeepSpeed, which keeps weights and optimizer state in buffers that cannot be restored",
    "is_fsdp_enabled": "FSDP, for which the Trainer shards the model's own modules, and nothing undoes that",
    "is_fsdp_xla_enabled": "FSDP on XLA, for which the Trainer wraps the model's own modules, and nothing undoes that",
}
_INSIDE_BACKWARD = ("Lomo", "AdaLomo", "LayerWiseDummyOptimizer")
_TYPES = {"cosine": "cosine", "linear": "linear", "constant": "constant", "wsd": "warmup_stable_decay"}


def range_test(
    trainer: Any, *, pretrained: bool | None = None, also: tuple[Any, ...] = (), **options: Any
) -> RangeTestResult:
    """Range test with the step of a Hugging Face ``Trainer``. A training after it is the same as one without it.

    The recorded loss is the one that the trainer logs with ``logging_steps=1``, but at the end of a pass over the data,
    where the trainer makes an update from the batches that are left: here the next pass fills it up. Callbacks and
    loggers are not called. With ``model_init``, a fresh model is swept, as it is the one that is trained.

    Args:
        trainer: a ``transformers.Trainer`` or an instance of a subclass, ready for ``trainer.train()``. It may have
            been trained or evaluated before; the sweep starts from the present weights.
        pretrained: as for :class:`lrfinder.LRFinder`.
        also: further objects to restore, as for :class:`lrfinder.LRFinder`.
        **options: of :meth:`lrfinder.LRFinder.range_test`, as in ``start_lr=1e-6``, ``progress=False``.

    Returns:
        The curve with its advice, for :func:`apply`, ``print`` and ``plot``.

    Raises:
        SetupError: a trainer that has no training data, whose model is sharded by DeepSpeed or FSDP, or whose optimizer
            updates weights inside the backward pass.
        ConfigError: an option out of its range.
    """
    _check(trainer)
    sweep = _Sweep(trainer, {"pretrained": pretrained, "also": list(also)}, options)
    with _Kept(trainer):
        trainer.callback_handler.callbacks = [sweep]
        trainer.log = _mute
        with contextlib.suppress(_SweepIsOver):
            trainer.train()
    if sweep.result is None:
        raise SetupError(
            f"{type(trainer).__name__}.train() did not call on_train_begin, at which the range test starts. "
            "Use lrfinder.LRFinder(model, optimizer, step_fn=...) with its training step."
        )
    return sweep.result


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
        result: of :func:`range_test`.
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
        ConfigError: a kind or an option that the Trainer does not have, or a number out of its range.
        NoAdviceError: the curve has no advice, and no ``peak_lr`` is given.
        SetupError: a trainer with a scheduler of its own, or of which ``create_optimizer`` ignores the arguments.
    """
    args = _check_applicable(trainer, kind)
    updates = _updates(trainer)
    if warmup_steps is None:
        warmup_steps = (args.get_warmup_steps(updates) or None) if kind in _TYPES else None
    recipe = result.recipe(kind, peak_lr=peak_lr, total_steps=updates, warmup_steps=warmup_steps, **options)
    lacking = set(options) - ({"cooldown_steps"} if kind == "wsd" else set())
    if kind == "plateau":
        raise ConfigError(
            "the Trainer checks what 'plateau' needs when the arguments are made. Make them with it: "
            f"TrainingArguments(learning_rate={recipe.peak_lr!r}, lr_scheduler_type='reduce_lr_on_plateau', "
            "eval_strategy='epoch', ...)."
        )
    if kind not in _TYPES or lacking:
        part = f"{min(lacking)} in its schedule {kind!r}" if kind in _TYPES else f"schedule {kind!r}"
        given = "".join(f", {name}={value!r}" for name, value in options.items())
        raise ConfigError(
            f"the Trainer has no {part}; apply() sets {', '.join(map(repr, _TYPES))}. Give it the scheduler itself, "
            f"Trainer(..., optimizers=(optimizer, scheduler)), with scheduler = result.scheduler({kind!r}, optimizer, "
            f"total_steps={updates}{given})."
        )
    _set_learning_rate(trainer, recipe.peak_lr)
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


# --- the sweep --------------------------------------------------------------------------------------------------------


class _SweepIsOver(BaseException):
    """Leaves ``trainer.train()``; no Exception, which a subclass may catch."""


class _Sweep(TrainerCallback):
    """Callback that sweeps when the training is set up, and ends it."""

    def __init__(self, trainer: Any, given: dict[str, Any], options: dict[str, Any]) -> None:
        self.result: RangeTestResult | None = None
        self._trainer, self._given, self._options = trainer, given, options

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        trainer, accelerator = self._trainer, self._trainer.accelerator
        inner = type(getattr(trainer.optimizer, "optimizer", trainer.optimizer)).__name__
        if inner in _INSIDE_BACKWARD:
            raise SetupError(
                f"{inner} updates the weights inside the backward pass, at a learning rate that no parameter group "
                "holds. Sweep and train with another optimizer, such as TrainingArguments(optim='adamw_torch')."
            )
        finder = LRFinder(
            trainer.model_wrapped,
            trainer.optimizer,
            step_fn=partial(_step, trainer),
            amp_dtype={"bf16": torch.bfloat16, "fp16": torch.float16}.get(accelerator.mixed_precision),
            grad_scaler=accelerator.scaler,
            clip_grad_norm=_clipping(args),
            accumulation_steps=args.gradient_accumulation_steps,
            **self._given,
        )
        self.result = finder.range_test(kwargs["train_dataloader"], **self._options)
        raise _SweepIsOver


def _step(trainer: Any, drawn: Any) -> tuple[Tensor, bool]:
    """One update as in the loop of ``Trainer``: the loss it logs, and whether the update was made."""
    args, accelerator, model = trainer.args, trainer.accelerator, trainer.model_wrapped
    # A training step may take entries out of its batch, which is used again.
    batches = iter([copy.copy(batch) for batch in (drawn if args.gradient_accumulation_steps > 1 else [drawn])])
    device = (args.device,) if "device" in inspect.signature(trainer.get_batch_samples).parameters else ()
    samples, items = trainer.get_batch_samples(batches, args.gradient_accumulation_steps, *device)
    trainer.current_gradient_accumulation_steps = len(samples)
    whole = accelerator.gradient_state.plugin_kwargs.get("sync_each_batch", False)
    loss = torch.zeros((), device=args.device)
    model.zero_grad()
    for number, inputs in enumerate(samples, start=1):
        last = number == len(samples)
        accelerator.gradient_state._set_sync_gradients(last)
        with contextlib.nullcontext() if last or whole else accelerator.no_sync(model=model):
            loss += trainer.training_step(model, inputs, items)
    if _clipping(args) is not None:
        if hasattr(trainer, "_clip_grad_norm"):
            trainer._clip_grad_norm(model)
        else:  # before transformers 5
            accelerator.clip_grad_norm_(model.parameters(), args.max_grad_norm)
    trainer.optimizer.step()
    return loss, not accelerator.optimizer_step_was_skipped


def _clipping(args: Any) -> float | None:
    return args.max_grad_norm if args.max_grad_norm is not None and args.max_grad_norm > 0 else None


def _mute(*args: Any, **kwargs: Any) -> None:
    """Stands for ``trainer.log`` while sweeping."""


class _Kept:
    """Context after which a trainer, and all that it refers to, have their former attributes and entries.

    ``train()`` wraps the model and replaces the trainer's state, optimizer, scheduler and accelerator's lists, and sets
    hooks and attributes of the model and its configuration. None of that changes a tensor: those are restored by the
    range test. An interrupt waits until all is done.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._gate = InterruptGate(_Kept.__exit__)
        self._restorers: list[Callable[[], Any]] = []

    def __enter__(self) -> None:
        self._gate.install()
        try:
            data = [getattr(self._trainer, name, None) for name in ("train_dataset", "eval_dataset")]
            found = reachable([self._trainer], _LIMITS, known=data, apart=(DataLoader, Dataset, Sampler))
            # Containers that gained numbers are no logs here, but what a trainer will report.
            for item in (part for each in found for part in _parts(each)):
                if not isinstance(item, Tensor) and not hasattr(item, "__array__"):
                    self._restorers += captured(item, most=_LIMITS.entries)
            self._restorers.append(capture_random())
        except BaseException:
            self._gate.remove()
            raise
        self._gate.open()

    def __exit__(self, *exception: object) -> None:
        self._gate.closed = True
        with contextlib.ExitStack() as stack:  # each is called, whatever another raises
            stack.callback(self._gate.remove)
            for restore in self._restorers:
                stack.callback(restore)


def _parts(item: Any) -> Iterator[Any]:
    """The object, and the containers in it that no attribute of a plain object would be."""
    yield item
    if issubclass(type(item), nn.Module):  # hooks, children, parameters and buffers by name
        yield from (held for held in attributes(item).values() if isinstance(held, dict))
    elif is_optimizer(item):
        yield from (item.param_groups, *item.param_groups, item.state, *item.state.values())


# --- checks and arguments ---------------------------------------------------------------------------------------------


def _check(trainer: Any) -> None:
    if not isinstance(trainer, Trainer):
        raise SetupError(
            f"trainer must be a transformers.Trainer; got a {type(trainer).__name__}. "
            "Use lrfinder.LRFinder(model, optimizer, step_fn=...) for a training of another kind."
        )
    own_loader = getattr(trainer.get_train_dataloader, "__func__", None) is not Trainer.get_train_dataloader
    if trainer.train_dataset is None and not own_loader:
        raise SetupError("the Trainer has no train_dataset to sweep on. Build it with Trainer(..., train_dataset=...).")
    reason = next((reason for name, reason in _SHARDED.items() if getattr(trainer, name, False)), None)
    if reason is not None:
        raise SetupError(
            f"the Trainer uses {reason}. Sweep on one process without it, with as many gradient_accumulation_steps "
            "more, and give the result to apply()."
        )
    prepared = getattr(trainer.model, "_is_accelerate_prepared", False) and trainer.model_wrapped is trainer.model
    if prepared and trainer.accelerator.num_processes > 1:
        raise SetupError(
            "the Trainer was evaluated before, so Accelerate takes its model for prepared: neither the sweep nor "
            "trainer.train() would wrap it in DistributedDataParallel, and each process would train a model of its "
            "own. Evaluate after the training, or at its start with TrainingArguments(eval_on_start=True)."
        )


def _check_applicable(trainer: Any, kind: str) -> Any:
    """The arguments of a trainer that will follow them."""
    args = trainer.args
    if getattr(trainer, "is_deepspeed_enabled", False):
        raise SetupError(
            "DeepSpeed read the learning rate when the arguments were made. Make them with it: "
            f"TrainingArguments(learning_rate=result.lr_for({kind!r}), lr_scheduler_type={kind!r}, ...)."
        )
    if trainer.lr_scheduler is not None and not getattr(trainer, "_created_lr_scheduler", False):
        raise SetupError(
            "the Trainer has a scheduler of its own, so its arguments do not count. Build it with that of the result, "
            f"Trainer(..., optimizers=(optimizer, result.scheduler({kind!r}, optimizer, ...))), or with None for it."
        )
    return args


def _updates(trainer: Any) -> int:
    """Updates of the whole training."""
    args = trainer.args
    if args.max_steps > 0:
        return int(args.max_steps)
    with _Kept(trainer):
        batches = len(trainer.get_train_dataloader())
    return int(math.ceil(args.num_train_epochs * max(-(-batches // args.gradient_accumulation_steps), 1)))


def _set_learning_rate(trainer: Any, lr: float) -> None:
    """Have the reference group train at that peak: in an optimizer that exists, or in the one that will be created."""
    args, former = trainer.args, trainer.args.learning_rate
    args.learning_rate = lr
    if trainer.optimizer is not None:
        scales = group_scales(trainer.optimizer)
        set_lr(trainer.optimizer, lr, scales)
        for group, scale in zip(trainer.optimizer.param_groups, scales, strict=True):
            if "initial_lr" in group:  # of an earlier scheduler, and the next one starts from it
                group["initial_lr"] = lr * scale
        return
    own = getattr(trainer, "optimizer_cls_and_kwargs", None)
    if own is not None:
        trainer.optimizer_cls_and_kwargs = (own[0], {**own[1], "lr": lr})
    # A subclass may derive the learning rates of its groups from that of the arguments, or ignore it.
    created = _created_lr(trainer)
    if created and not math.isclose(created, lr, rel_tol=1e-6):
        args.learning_rate = lr * (lr / created)
        created = _created_lr(trainer)
    if not math.isclose(created, lr, rel_tol=1e-6):
        args.learning_rate, trainer.optimizer_cls_and_kwargs = former, own
        raise SetupError(
            f"{type(trainer).__name__}.create_optimizer does not follow args.learning_rate, so apply() cannot set it. "
            "Build the optimizer yourself: Trainer(..., optimizers=(optimizer, result.scheduler(...)))."
        )


def _created_lr(trainer: Any) -> float:
    """Learning rate of the reference group of the optimizer that the trainer would create."""
    with _Kept(trainer):
        groups = trainer.create_optimizer().param_groups
        return float(next((group["lr"] for group in groups if group["lr"] != 0), 0.0))
