"""The training set-up as one value, checked once, when :class:`LRFinder` is built."""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from lrfinder.checks import check_count, check_flag, check_lr
from lrfinder.errors import ConfigError, SetupError
from lrfinder.param_groups import epsilon, optimizer_name
from lrfinder.tables.optimizers import update_rule
from lrfinder.training.joint import joined, parts_of
from lrfinder.training.losses import LossFn, StepFn, criterion_loss
from lrfinder.training.ranks import Ranks
from lrfinder.training.setup_checks import check_loss_given, check_objects, check_scaler, checked_also
from lrfinder.training.wrapped import check_no_update_begun, opened

__all__ = ["TrainingSetup", "needs_closure", "resolve_device"]


@dataclass(frozen=True, kw_only=True)
class TrainingSetup:
    """Model, optimizer, loss and the settings of a training step. :meth:`of` fills in the defaults.

    Args:
        model: the module to train.
        optimizer: anything with ``param_groups`` and ``step``, over parameters of the model.
        loss_fn: ``loss_fn(model, batch) -> scalar``; None where a ``step_fn`` computes the loss.
        step_fn: ``step_fn(batch) -> loss``, which makes the whole step; None has :mod:`lrfinder.training.step` make it.
        criterion: the criterion that ``loss_fn`` was made from; None where there is none.
        device: where batches go.
        amp_dtype: forward and loss run under autocast to ``torch.bfloat16`` or ``torch.float16``; None does not.
        grad_scaler: the GradScaler of the training, or None.
        clip_grad_norm: largest global gradient norm, > 0; None does not clip.
        accumulation_steps: batches per optimizer step, >= 1.
        also: further objects with state that the training changes; see :class:`lrfinder.LRFinder`.
        pretrained: whether the weights have been trained before; None where the user does not say.
        gradient_state: of the wrapper that the optimizer came in; see :mod:`lrfinder.training.wrapped`.

    Raises:
        ConfigError: a number out of its range, or something in ``also`` that has no state.
        SetupError: model, optimizer and scaler do not fit together.

    Example:
        >>> model = nn.Linear(2, 1)
        >>> setup = TrainingSetup.of(model, torch.optim.SGD(model.parameters(), lr=0.1), nn.MSELoss())
        >>> setup.device, setup.accumulation_steps
        (device(type='cpu'), 1)
    """

    model: nn.Module
    optimizer: Any
    loss_fn: LossFn | None
    step_fn: StepFn | None = None
    criterion: object = None
    device: torch.device
    amp_dtype: torch.dtype | None = None
    grad_scaler: Any = None
    clip_grad_norm: float | None = None
    accumulation_steps: int = 1
    also: tuple[Any, ...] = ()
    pretrained: bool | None = None
    gradient_state: Any = None

    def __post_init__(self) -> None:
        check_objects(self.model, self.optimizer, self.criterion)
        if self.amp_dtype not in (None, torch.float16, torch.bfloat16):
            raise ConfigError(f"amp_dtype must be torch.bfloat16, torch.float16 or None; got {self.amp_dtype!r}.")
        if self.clip_grad_norm not in (None, math.inf):  # the second measures norms and clips nothing
            object.__setattr__(self, "clip_grad_norm", check_lr("clip_grad_norm", self.clip_grad_norm))
        object.__setattr__(self, "accumulation_steps", check_count("accumulation_steps", self.accumulation_steps))
        object.__setattr__(self, "also", checked_also(self.also))
        check_flag("pretrained", self.pretrained)
        if self.step_fn is not None:
            return
        parts = parts_of(self.optimizer)
        closed = next((part for part in parts if len(parts) > 1 and needs_closure(part)), None)
        if closed is not None:
            raise SetupError(
                f"{optimizer_name(closed)} needs a closure, so it cannot be stepped beside other optimizers. "
                "Give step_fn, a function that makes the step of all of them."
            )
        if self.needs_closure and self.grad_scaler is not None:
            raise SetupError(
                f"{optimizer_name(self.optimizer)} needs a closure, which a GradScaler does not support. "
                "Leave grad_scaler out, or use amp_dtype=torch.bfloat16."
            )

    @classmethod
    def of(
        cls,
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
    ) -> TrainingSetup:
        """Set-up from the arguments of :class:`LRFinder`, with its defaults filled in.

        Raises:
            ConfigError: a number out of its range, or both or neither of ``criterion`` and ``loss_fn``.
            SetupError: model, optimizer, device and scaler do not fit together.
        """
        check_loss_given(criterion, loss_fn, step_fn)
        check_scaler(grad_scaler)
        sync = None
        if step_fn is None:  # which would call the wrapper's own step
            optimizer, grad_scaler, accumulation_steps, sync = opened(optimizer, model, grad_scaler, accumulation_steps)
        optimizer = joined(optimizer)
        resolved = _input_device(model, device)
        if grad_scaler is None and step_fn is None and amp_dtype == torch.float16:
            grad_scaler = torch.amp.GradScaler(resolved.type)
        return cls(
            model=model,
            optimizer=optimizer,
            loss_fn=loss_fn if criterion is None else criterion_loss(criterion),
            step_fn=step_fn,
            criterion=criterion,
            device=resolved,
            amp_dtype=amp_dtype,
            grad_scaler=grad_scaler,
            clip_grad_norm=clip_grad_norm,
            accumulation_steps=accumulation_steps,
            also=also,  # type: ignore[arg-type]  # made a tuple when it is checked
            pretrained=pretrained,
            gradient_state=sync,
        )

    @cached_property
    def ranks(self) -> Ranks:
        """The ranks that train the model together."""
        return Ranks(self.model, self.optimizer, (self.loss_fn, self.step_fn), communicates=callable(self.step_fn))

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
        """Refuse to start between the batches of one update; find the ranks anew, as the model may be wrapped by now.

        Raises:
            SetupError: the optimizer's wrapper has accumulated some of them.
        """
        vars(self).pop("ranks", None)
        check_no_update_begun(self.gradient_state)

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """The model, and the criterion where it is a module."""
        return tuple(module for module in (self.model, self.criterion) if isinstance(module, nn.Module))

    @property
    def needs_closure(self) -> bool:
        """True where ``optimizer.step`` cannot run without a closure, as with L-BFGS."""
        return needs_closure(self.optimizer)

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


def _input_device(model: Any, device: str | torch.device | None) -> torch.device:
    parameter = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    home = parameter.device if parameter is not None else torch.device("cpu")
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
