"""Checks of the objects that a training set-up is made of."""

from __future__ import annotations

import collections
import random
import types
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lrfinder.checks import check_callable
from lrfinder.errors import ConfigError, SetupError
from lrfinder.param_groups import group_scales, optimizer_name, optimizer_parameters
from lrfinder.training.joint import parts_of

__all__ = ["check_loss_given", "check_objects", "check_scaler", "checked_also"]


def check_loss_given(criterion: object, loss_fn: object, step_fn: object) -> None:
    """Refuse a training of which the loss is not known, or given twice.

    Raises:
        ConfigError: both ``criterion`` and ``loss_fn``, or none of the three, a class or a criterion in place of what
            can be called, or a ``step_fn`` that cannot be.
    """
    if isinstance(criterion, type):
        raise ConfigError(f"criterion is the class {criterion.__name__}. Make one of it: {criterion.__name__}().")
    if type(loss_fn).__module__ == "torch.nn.modules.loss":
        raise ConfigError(
            f"loss_fn is called as loss_fn(model, batch), which {type(loss_fn).__name__} does not take. Pass it as "
            "criterion."
        )
    if criterion is not None and loss_fn is not None:
        raise ConfigError("give either criterion or loss_fn; got both. Beside step_fn, it measures validation losses.")
    if criterion is None and loss_fn is None and step_fn is None:
        raise ConfigError(
            "give either criterion or loss_fn; got neither. criterion(model(inputs), target) suits batches of (inputs, "
            "target); loss_fn(model, batch) suits any; step_fn(batch) makes the whole step."
        )
    if not isinstance(step_fn, tuple):
        check_callable("step_fn", step_fn, "step_fn(batch)")
    elif len(step_fn) != 2 or not all(map(callable, step_fn)):
        raise ConfigError(
            "step_fn must be a function, or a pair of functions (backward, update), called as backward(batch) and "
            f"update(); got a tuple of {', '.join(type(each).__name__ for each in step_fn) or 'nothing'}."
        )


def check_scaler(grad_scaler: object) -> None:
    """Refuse what is no GradScaler.

    Raises:
        ConfigError: it has not the methods of one.
    """
    if grad_scaler is not None and not all(hasattr(grad_scaler, name) for name in ("scale", "step", "update")):
        raise ConfigError(f"grad_scaler must be a torch.amp.GradScaler, or None; got {grad_scaler!r}.")


def checked_also(also: Any) -> tuple[Any, ...]:
    """``also`` as a tuple.

    Raises:
        ConfigError: it is no list, or something in it has no state.
    """
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


def check_objects(model: Any, optimizer: Any, criterion: object) -> None:
    """Refuse a model and an optimizer that do not fit together, or have nothing to train.

    Raises:
        SetupError: they do not.
    """
    if not isinstance(model, nn.Module):
        raise SetupError(f"model must be a torch.nn.Module; got a {type(model).__name__}.")
    if not hasattr(optimizer, "param_groups") or not hasattr(optimizer, "step"):
        order = "Write LRFinder(model, optimizer, criterion), in this order; several optimizers as a list."
        raise SetupError(
            f"optimizer must be a torch optimizer; got a {_full_name(optimizer)}. {_inside(optimizer) or order}"
        )
    for part in parts_of(optimizer):
        _check_groups_kept(part)
    held = optimizer_parameters(optimizer)
    own = [parameter.requires_grad for parameter in model.parameters()]
    outside = bool(own) and any(parameter.requires_grad for parameter in held)  # as a prompt of a frozen network
    if not any(own) and not outside:
        raise SetupError(
            "the model has no trainable parameter: none at all, or all with requires_grad=False. "
            "Unfreeze what is to be trained."
        )
    modules = [module for module in (model, criterion) if isinstance(module, nn.Module)]
    known = {id(parameter) for module in modules for parameter in module.parameters()}
    if any(own) and not any(id(parameter) in known for parameter in held):
        raise SetupError(
            "the optimizer holds none of this model's parameters: it was built for another model, or before this one "
            f"was replaced. Build it anew: torch.optim.{optimizer_name(optimizer)}(model.parameters(), ...). Where it "
            "trains tensors that replace them, as with functional_call: model.requires_grad_(False)."
        )
    if not any(parameter.requires_grad for parameter in held):
        raise SetupError(
            "every parameter in the optimizer is frozen (requires_grad=False). Give the optimizer those to be trained."
        )
    group_scales(optimizer)  # refuses a group without a learning rate


def _check_groups_kept(optimizer: Any) -> None:
    """Refuse an optimizer whose parameter groups are copies: a learning rate that is written there has no effect."""
    if all(group is again for group, again in zip(optimizer.param_groups, optimizer.param_groups, strict=True)):
        return
    raise SetupError(
        f"{type(optimizer).__name__} makes its param_groups anew whenever they are read, so a learning rate written "
        f"there has no effect. {_inside(optimizer) or 'Give an optimizer of torch.optim.'}"
    )


def _inside(holder: Any) -> str:
    """What to give instead of an object that holds optimizers; empty where it holds none."""
    for name, value in getattr(holder, "__dict__", {}).items():
        if hasattr(value, "param_groups"):
            return f"Give the optimizer inside it, its {name}."
        held = list(value.values()) if isinstance(value, dict) else value
        if isinstance(held, (list, tuple)) and held and all(hasattr(each, "param_groups") for each in held):
            written = f"list(optimizer.{name}.values())" if isinstance(value, dict) else f"optimizer.{name}"
            return f"It holds some: pass {written} and, as step_fn, the function that makes its step."
    return ""


def _full_name(item: object) -> str:
    kind = type(item)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


def _holds_state(item: Any) -> bool:
    if isinstance(item, (type, types.FunctionType, types.MethodType, types.BuiltinFunctionType, types.ModuleType)):
        return False
    kinds = (Tensor, np.ndarray, torch.Generator, np.random.Generator, np.random.BitGenerator, np.random.RandomState)
    if isinstance(item, (*kinds, random.Random, list, tuple, dict, set, collections.deque)):
        return True
    visible = hasattr(item, "__dict__") or any(vars(base).get("__slots__") for base in type(item).__mro__)
    return visible or hasattr(item, "load_state_dict")
