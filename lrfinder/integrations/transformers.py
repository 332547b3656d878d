"""Range test inside the Hugging Face ``Trainer``, and its advice written into the trainer's arguments.

``trainer.train()`` sets the training up as it always does, with a callback of ours as the only one. That sweeps at the
start of the training and leaves by an exception, before the first step of the trainer's own loop. The step is the
trainer's: its batches, ``compute_loss`` and ``training_step``, accumulation, clipping and optimizer. Then every object
that the trainer refers to has its former attributes and entries again (:mod:`lrfinder.integrations.references`).
"""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Sequence, Sized
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lrfinder.errors import ConfigError, MissingDependencyError, SetupError
from lrfinder.finder import LRFinder
from lrfinder.integrations.references import References
from lrfinder.result import RangeTestResult

try:
    import accelerate
    import transformers
    from transformers import Trainer, TrainerCallback
except ImportError as error:
    raise MissingDependencyError("transformers", "transformers") from error

from lrfinder.integrations.transformers_schedule import apart_in, apply

for _package, _minor in ((transformers, (4, 53)), (accelerate, (1, 4))):  # as in setup.cfg
    if tuple(map(int, _package.__version__.split(".")[:2])) < _minor:
        _old = "is {}, older than {}.{}".format(_package.__version__, *_minor)
        raise MissingDependencyError(_package.__name__, "transformers", _old)

__all__ = ["apply", "range_test"]

_SHARDED = {
    "is_deepspeed_enabled": "DeepSpeed, which keeps weights and optimizer state in buffers that cannot be restored",
    "is_fsdp_enabled": "FSDP, for which the Trainer shards the model's own modules, and nothing undoes that",
    "is_fsdp_xla_enabled": "FSDP on XLA, for which the Trainer wraps the model's own modules, and nothing undoes that",
}
_INSIDE_BACKWARD = ("Lomo", "AdaLomo", "LayerWiseDummyOptimizer")


def range_test(
    trainer: Any, *, pretrained: bool | None = None, also: Sequence[Any] = (), **options: Any
) -> RangeTestResult:
    """Range test with the step of a Hugging Face ``Trainer``. A training after it is the same as one without it.

    The recorded loss is what the trainer logs with ``logging_steps=1``, with one exception: at the end of a pass
    over the data the trainer makes an update from the batches that are left, which the sweep fills up from the next
    pass. Callbacks and loggers are not called. With ``model_init`` a fresh model is swept, as that is what is trained.

    Args:
        trainer: a ``transformers.Trainer`` or an instance of a subclass, ready for ``trainer.train()``. It may have
            been trained or evaluated before; the sweep starts from the present weights.
        pretrained: as for :class:`lrfinder.LRFinder`.
        also: further objects to restore, as for :class:`lrfinder.LRFinder`.
        **options: of :meth:`lrfinder.LRFinder.range_test`, as in ``start_lr=1e-6``, ``progress=False``.

    Returns:
        The curve with its advice, for :func:`apply`, ``print`` and ``plot``.

    Raises:
        SetupError: a trainer that has no training data, whose model is sharded by DeepSpeed or FSDP, whose optimizer
            updates weights inside the backward pass, or which was evaluated before under several processes.
        ConfigError: an option out of its range, or a validation loader.

    Example:
        >>> import tempfile
        >>> from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments
        >>> _ = torch.manual_seed(0)
        >>> samples = [{"input_ids": ids, "labels": ids} for ids in torch.randint(31, (64, 8))]
        >>> sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
        >>> args = TrainingArguments(tempfile.mkdtemp(), use_cpu=True, report_to=[], max_steps=100)
        >>> trainer = Trainer(LlamaForCausalLM(LlamaConfig(vocab_size=31, **sizes)), args, train_dataset=samples)
        >>> result = range_test(trainer, start_lr=1e-4, end_lr=1.0, num_iter=40)
        >>> recipe = apply(result, trainer, "cosine")
        >>> trainer.args.learning_rate == recipe.peak_lr == result.lr_for("cosine", 100)
        True
    """
    _check(trainer)
    if options.get("val_loader") is not None:
        raise ConfigError("val_loader cannot be swept in a Trainer, whose own step gives the training loss.")
    sweep = _Sweep(trainer, {"pretrained": pretrained, "also": also}, options)
    with References([trainer], apart_in(trainer)):
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
        loss_fn = partial(_loss_in_eval_mode, trainer)
        vars(loss_fn)["form"] = "trainer"  # for the printed lines
        finder = LRFinder(
            trainer.model_wrapped,
            trainer.optimizer,
            loss_fn=loss_fn,
            step_fn=(partial(_backward, trainer), partial(_update, trainer)),
            amp_dtype={"bf16": torch.bfloat16, "fp16": torch.float16}.get(accelerator.mixed_precision),
            grad_scaler=accelerator.scaler,
            clip_grad_norm=_clipping(args),
            accumulation_steps=args.gradient_accumulation_steps,
            **self._given,
        )
        self.result = finder.range_test(kwargs["train_dataloader"], **self._options)
        raise _SweepIsOver


def _loss_in_eval_mode(trainer: Any, model: Any, batch: Any) -> Tensor:
    """The loss of samples that are not trained on, where the weights are trained already."""
    inputs = trainer._prepare_inputs(copy.copy(batch))  # of which compute_loss may take entries out
    with trainer.compute_loss_context_manager():
        loss: Tensor = trainer.compute_loss(model, inputs)
    return loss


def _backward(trainer: Any, drawn: Any) -> Tensor:
    """The backward passes of one update, as in the loop of ``Trainer``, and the loss that it logs."""
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
    return loss


def _update(trainer: Any) -> None:
    """Clip and step, as in the loop of ``Trainer``.

    Whether a GradScaler skipped the update is read from its scale: Accelerate's flag is wrong for fused optimizers.
    """
    args, accelerator, model = trainer.args, trainer.accelerator, trainer.model_wrapped
    if _clipping(args) is not None:
        if hasattr(trainer, "_clip_grad_norm"):
            trainer._clip_grad_norm(model)
        else:  # before transformers 5
            accelerator.clip_grad_norm_(model.parameters(), args.max_grad_norm)
    trainer.optimizer.step()


def _clipping(args: Any) -> float | None:
    return args.max_grad_norm if args.max_grad_norm is not None and args.max_grad_norm > 0 else None


def _mute(*args: Any, **kwargs: Any) -> None:
    """Stands for ``trainer.log`` while sweeping."""


def _check(trainer: Any) -> None:
    if not isinstance(trainer, Trainer):
        kind = type(trainer)
        other = f"{kind.__module__}.Trainer" if kind.__name__ == "Trainer" else kind.__name__  # as of setfit
        raise SetupError(
            f"trainer must be a transformers.Trainer; got a {other}. "
            "Use lrfinder.LRFinder(model, optimizer, step_fn=...) for a training of another kind."
        )
    own_loader = getattr(trainer.get_train_dataloader, "__func__", None) is not Trainer.get_train_dataloader
    if trainer.train_dataset is None and not own_loader:
        raise SetupError("the Trainer has no train_dataset to sweep on. Build it with Trainer(..., train_dataset=...).")
    if isinstance(trainer.train_dataset, Sized) and not len(trainer.train_dataset):
        raise SetupError("the train_dataset of the Trainer is empty. Check how it is read and filtered.")
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
