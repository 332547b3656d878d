"""The training set-up as one value, checked once, when :class:`LRFinder` is built."""

from __future__ import annotations

import collections
import contextlib
import inspect
import random
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lrfinder.checks import check_count, check_flag
from lrfinder.errors import ConfigError, SetupError
from lrfinder.param_groups import group_scales, optimizer_name, optimizer_parameters
from lrfinder.training.losses import LossFn, criterion_loss

__all__ = ["TrainingSetup", "resolve_device"]


@dataclass(frozen=True, kw_only=True)
class TrainingSetup:
    """Model, optimizer, loss and the settings of a training step. :meth:`of` fills in the defaults.

    Args:
        model: the module to train.
        optimizer: anything with ``param_groups`` and ``step``, over parameters of the model.
        loss_fn: ``loss_fn(model, batch) -> scalar``.
        criterion: the criterion that ``loss_fn`` was made from; None where there is none.
        device: where batches go.
        amp_dtype: forward and loss run under autocast to ``torch.bfloat16`` or ``torch.float16``; None does not.
        grad_scaler: the GradScaler of the training, or None.
        clip_grad_norm: largest global gradient norm, > 0; None does not clip.
        accumulation_steps: batches per optimizer step, >= 1.
        also: further objects with state that the training changes; see :class:`lrfinder.LRFinder`.
        pretrained: whether the weights have been trained before; None where the user does not say.

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
    loss_fn: LossFn
    criterion: object = None
    device: torch.device
    amp_dtype: torch.dtype | None = None
    grad_scaler: Any = None
    clip_grad_norm: float | None = None
    accumulation_steps: int = 1
    also: tuple[Any, ...] = ()
    pretrained: bool | None = None

    def __post_init__(self) -> None:
        _check_objects(self.model, self.optimizer, self.criterion)
        if self.amp_dtype not in (None, torch.float16, torch.bfloat16):
            raise ConfigError(f"amp_dtype must be torch.bfloat16, torch.float16 or None; got {self.amp_dtype!r}.")
        if self.clip_grad_norm is not None and not self.clip_grad_norm > 0:
            raise ConfigError(f"clip_grad_norm must be positive, or None for no clipping; got {self.clip_grad_norm!r}.")
        object.__setattr__(self, "accumulation_steps", check_count("accumulation_steps", self.accumulation_steps))
        object.__setattr__(self, "also", _checked_also(self.also))
        check_flag("pretrained", self.pretrained)
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
        if criterion is not None and loss_fn is None:
            compute = criterion_loss(criterion)
        elif loss_fn is not None and criterion is None:
            compute = loss_fn
        else:
            raise ConfigError(
                f"give either criterion or loss_fn; got {'neither' if criterion is None else 'both'}. "
                "criterion(model(inputs), target) suits batches of (inputs, target); loss_fn(model, batch) suits any."
            )
        resolved = _input_device(model, device)
        if grad_scaler is None and amp_dtype == torch.float16:
            grad_scaler = torch.amp.GradScaler(resolved.type)
        return cls(
            model=model,
            optimizer=optimizer,
            loss_fn=compute,
            criterion=criterion,
            device=resolved,
            amp_dtype=amp_dtype,
            grad_scaler=grad_scaler,
            clip_grad_norm=clip_grad_norm,
            accumulation_steps=accumulation_steps,
            also=also,  # type: ignore[arg-type]  # made a tuple when it is checked
            pretrained=pretrained,
        )

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """The model, and the criterion where it is a module."""
        return tuple(module for module in (self.model, self.criterion) if isinstance(module, nn.Module))

    @property
    def needs_closure(self) -> bool:
        """True where ``optimizer.step`` cannot run without a closure, as with L-BFGS."""
        # The class, not the instance: a scheduler attached before wraps the instance's step and hides its signature.
        step = getattr(type(self.optimizer), "step", self.optimizer.step)
        closure = inspect.signature(step).parameters.get("closure")
        return closure is not None and closure.default is inspect.Parameter.empty

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Context of the forward pass. Empty without ``amp_dtype``: a disabled autocast would end the caller's own."""
        if self.amp_dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.amp_dtype)


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


def _checked_also(also: Any) -> tuple[Any, ...]:
    if type(also) not in (list, tuple):
        raise ConfigError(
            f"also must be a list of objects with state; got a {type(also).__name__}. "
            "Write LRFinder(..., also=[ema, other_optimizer])."
        )
    for index, item in enumerate(also):
        if not _holds_state(item):
            described = f"the class {item.__name__}" if isinstance(item, type) else f"a {type(item).__name__}"
            raise ConfigError(
                f"also[{index}] is {described}, which has no state to restore. Name the object that has it: a module, "
                "an optimizer, a tensor, an array, a random generator, a container, or any object with attributes."
            )
    return tuple(also)


def _holds_state(item: Any) -> bool:
    if isinstance(item, (type, types.FunctionType, types.MethodType, types.BuiltinFunctionType, types.ModuleType)):
        return False
    kinds = (Tensor, np.ndarray, torch.Generator, np.random.Generator, np.random.BitGenerator, np.random.RandomState)
    if isinstance(item, (*kinds, random.Random, list, tuple, dict, set, collections.deque)):
        return True
    visible = hasattr(item, "__dict__") or any(vars(base).get("__slots__") for base in type(item).__mro__)
    return visible or hasattr(item, "load_state_dict")


def _check_objects(model: Any, optimizer: Any, criterion: object) -> None:
    if not isinstance(model, nn.Module):
        raise SetupError(f"model must be a torch.nn.Module; got a {type(model).__name__}.")
    if not hasattr(optimizer, "param_groups") or not hasattr(optimizer, "step"):
        raise SetupError(
            f"optimizer must be a torch optimizer; got a {type(optimizer).__name__}. "
            "Write LRFinder(model, optimizer, criterion), in this order."
        )
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise SetupError(
            "the model has no trainable parameter: none at all, or all with requires_grad=False. "
            "Unfreeze what is to be trained."
        )
    modules = [module for module in (model, criterion) if isinstance(module, nn.Module)]
    known = {id(parameter) for module in modules for parameter in module.parameters()}
    held = optimizer_parameters(optimizer)
    if not any(id(parameter) in known for parameter in held):
        raise SetupError(
            "the optimizer holds none of this model's parameters: it was built for another model, or before this one "
            f"was replaced. Build it anew: torch.optim.{optimizer_name(optimizer)}(model.parameters(), ...)."
        )
    if not any(parameter.requires_grad for parameter in held):
        raise SetupError(
            "every parameter in the optimizer is frozen (requires_grad=False). Give the optimizer those to be trained."
        )
    group_scales(optimizer)  # refuses a group without a learning rate
