"""The training set-up as one value, checked once, when :class:`LRFinder` is built."""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from lrfinder.checks import check_count, check_flag, check_lr
from lrfinder.errors import ConfigError, SetupError
from lrfinder.param_groups import epsilon, optimizer_name, optimizer_parameters
from lrfinder.tables.optimizers import update_rule
from lrfinder.training.joint import joined, parts_of
from lrfinder.training.losses import LossFn, StepFn, criterion_loss
from lrfinder.training.prepared import check_no_update_begun, opened
from lrfinder.training.ranks import Ranks
from lrfinder.training.setup_checks import check_loss_given, check_objects, check_scaler, checked_also

__all__ = ["TrainingSetup", "needs_closure", "resolve_device"]


class TrainingSetup:
    """Model, optimizer, loss and the settings of a training step, from the arguments of :class:`LRFinder`.

    Args:
        model: the module to train.
        optimizer: anything with ``param_groups`` and ``step``, over parameters of the model; several in a list become
            one, and of a wrapper that a trainer made the inner one is taken; see :mod:`lrfinder.training.prepared`.
        criterion: ``criterion(model(inputs), target) -> scalar``; the ``loss_fn`` is made from it.
        loss_fn: ``loss_fn(model, batch) -> scalar``; None where a ``step_fn`` computes the loss.
        step_fn: ``step_fn(batch) -> loss``, which makes the whole step; None has :mod:`lrfinder.training.step` make it.
        device: where batches go; None takes that of the model.
        amp_dtype: forward and loss run under autocast to ``torch.bfloat16`` or ``torch.float16``; None does not.
        grad_scaler: the GradScaler of the training, or None, which makes one for float16.
        clip_grad_norm: largest global gradient norm, > 0; None does not clip.
        accumulation_steps: batches per optimizer step, >= 1.
        also: further objects with state that the training changes; see :class:`lrfinder.LRFinder`.
        pretrained: whether the weights have been trained before; None where the user does not say.

    Raises:
        ConfigError: a number out of its range, both or neither of ``criterion`` and ``loss_fn``, or something in
            ``also`` that has no state.
        SetupError: model, optimizer, device and scaler do not fit together.

    Example:
        >>> model = nn.Linear(2, 1)
        >>> setup = TrainingSetup(model, torch.optim.SGD(model.parameters(), lr=0.1), nn.MSELoss())
        >>> setup.device, setup.accumulation_steps
        (device(type='cpu'), 1)
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Any,
        criterion: Callable[[Any, Any], Tensor] | None = None,
        *,
        loss_fn: LossFn | None = None,
        step_fn: StepFn | None = None,
        device: str | torch.device | None = None,
        amp_dtype: torch.dtype | None = None,
        grad_scaler: Any = None,
        clip_grad_norm: float | None = None,
        accumulation_steps: int = 1,
        also: Sequence[Any] = (),
        pretrained: bool | None = None,
    ) -> None:
        check_loss_given(criterion, loss_fn, step_fn)
        check_scaler(grad_scaler)
        self._gradient_state: Any = None
        if step_fn is None:  # which would call the wrapper's own step
            opening = opened(optimizer, model, grad_scaler, accumulation_steps)
            optimizer, grad_scaler, accumulation_steps, self._gradient_state = opening
        self.model, self.optimizer, self.criterion = model, joined(optimizer), criterion
        self.loss_fn = loss_fn if criterion is None else criterion_loss(criterion)
        self.step_fn, self.amp_dtype = step_fn, amp_dtype
        check_objects(model, self.optimizer, criterion)
        self.device = _input_device(model, self.optimizer, device)
        if grad_scaler is None and step_fn is None and amp_dtype == torch.float16:
            grad_scaler = torch.amp.GradScaler(self.device.type)
        self.grad_scaler = grad_scaler
        if amp_dtype not in (None, torch.float16, torch.bfloat16):
            raise ConfigError(f"amp_dtype must be torch.bfloat16, torch.float16 or None; got {amp_dtype!r}.")
        if clip_grad_norm not in (None, math.inf):  # the second measures norms and clips nothing
            clip_grad_norm = check_lr("clip_grad_norm", clip_grad_norm)
        self.clip_grad_norm = clip_grad_norm
        self.accumulation_steps = check_count("accumulation_steps", accumulation_steps)
        self.also = checked_also(also)
        self.pretrained = check_flag("pretrained", pretrained)
        if step_fn is None:
            self._check_closures()

    def _check_closures(self) -> None:
        parts = parts_of(self.optimizer)
        closed = next(filter(needs_closure, parts), None)
        if closed is not None and len(parts) > 1:
            raise SetupError(
                f"{optimizer_name(closed)} needs a closure, so it cannot be stepped beside other optimizers. "
                "Give step_fn, a function that makes the step of all of them."
            )
        if closed is not None and self.grad_scaler is not None:
            raise SetupError(
                f"{optimizer_name(self.optimizer)} needs a closure, which a GradScaler does not support. "
                "Leave grad_scaler out, or use amp_dtype=torch.bfloat16."
            )

    @cached_property
    def ranks(self) -> Ranks:
        """The ranks that train the model together."""
        functions, communicates = (self.loss_fn, self.step_fn), callable(self.step_fn)
        return Ranks(self.model, self.optimizer, functions, self.device, communicates=communicates)

    @property
    def update_rule(self) -> str:
        """``"proportional"`` or ``"adaptive"``, as in :mod:`lrfinder.tables.optimizers`."""
        return update_rule(optimizer_name(self.optimizer), epsilon(self.optimizer))

    @property
    def alike(self) -> tuple[object, ...]:
        """What has to be the same on all ranks, besides the model and the optimizer."""
        scaled, own = self.grad_scaler is not None, self.step_fn is not None
        return (self.accumulation_steps, self.clip_grad_norm, self.amp_dtype, scaled, own, self.pretrained)

    @property
    def reads_late(self) -> bool:
        """Whether losses are read some steps after they were made, so that a GPU never waits for the host."""
        return self.device.type == "cuda" and self.grad_scaler is None

    def check_startable(self) -> None:
        """Refuse to start without values, or between the batches of one update; find the ranks anew.

        The model may be wrapped by now.

        Raises:
            SetupError: all parameters are on the device meta, or the optimizer's wrapper has accumulated some batches.
        """
        if self.device.type == "meta":
            raise SetupError(
                "the model and the optimizer's parameters are on the device meta, so they have no values. Build the "
                "model on a real device, and the optimizer after that."
            )
        vars(self).pop("ranks", None)
        check_no_update_begun(self._gradient_state)

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """The model, and the criterion where it is a module."""
        return tuple(module for module in (self.model, self.criterion) if isinstance(module, nn.Module))

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Context of the forward pass. Empty without ``amp_dtype``: a disabled autocast would end the caller's own."""
        if self.amp_dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.amp_dtype)


def needs_closure(optimizer: Any) -> bool:
    """True for an optimizer whose ``step`` cannot run without a closure, as with L-BFGS."""
    # The class, not the instance: a scheduler attached before wraps the instance's step and hides its signature.
    step = getattr(type(optimizer), "step", optimizer.step)
    closure = inspect.signature(step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty


def resolve_device(device: str | torch.device) -> torch.device:
    """The device, if this machine has it.

    Raises:
        SetupError: the name is not a device, or the machine does not have it.
    """
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise SetupError(f"{device!r} is not a device. Use 'cpu', 'cuda', 'cuda:0' or 'mps'.") from error
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(resolved.type, True):
        raise SetupError(f"device {device} is not available here. Use 'cpu', or install a torch build that drives it.")
    if resolved.type == "cuda" and (resolved.index or 0) >= torch.cuda.device_count():
        raise SetupError(f"device {device} is not there: this machine has {torch.cuda.device_count()} CUDA device(s).")
    return resolved


def _input_device(model: Any, optimizer: Any, device: str | torch.device | None) -> torch.device:
    parameter = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    home = parameter.device if parameter is not None else torch.device("cpu")
    if home.type == "meta":  # its parameters stand for others, which are trained
        home = next((each.device for each in optimizer_parameters(optimizer) if each.device.type != "meta"), home)
    if device is None:
        return home
    wanted = resolve_device(device)
    if wanted.type == home.type and (wanted.index is None or wanted.index == (home.index or 0)):
        wanted = home  # "cpu:0" and "cpu" are one device
    if wanted != home:
        raise SetupError(
            f"device is {wanted}, but the model is on {home}. Move it first, and build the optimizer after that: "
            f"model.to('{wanted}')."
        )
    return wanted
