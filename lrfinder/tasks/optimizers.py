"""torch's optimizers by name, with their options."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from lrfinder.checks import is_finite_number
from lrfinder.errors import ConfigError
from lrfinder.tasks.names import check_name

__all__ = ["build_optimizer", "chosen_options", "optimizer_names"]

# What torch raises for a value that it rejects.
_REJECTED = (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError)
_SWITCHES = ("foreach", "fused")  # None by default, which lets torch choose
_USUAL = {"SGD": {"momentum": 0.9}}  # torch's default is 0, which hardly any training of an image model uses


def optimizer_names() -> list[str]:
    """Names of the optimizers in ``torch.optim`` that can train a network of dense layers, sorted."""
    # SparseAdam raises on dense gradients, which every convolution has.
    return sorted(
        name
        for name, each in vars(torch.optim).items()
        if isinstance(each, type)
        and issubclass(each, torch.optim.Optimizer)
        and name not in ("Optimizer", "SparseAdam")
    )


def build_optimizer(
    name: str,
    options: Mapping[str, Any],
    parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
    *,
    usual: Mapping[str, Any] | None = None,
) -> torch.optim.Optimizer:
    """An optimizer at torch's default learning rate, which the range test replaces.

    Args:
        name: as in ``torch.optim``; upper or lower case.
        options: keyword arguments of its constructor except ``lr``. SGD has momentum 0.9 unless they set another.
        parameters: what it trains, or parameter groups.
        usual: options that hold where ``options`` does not set them, such as those of a recipe.

    Raises:
        ConfigError: an unknown name or option, or a value that the constructor or the first step rejects, such as one
            that needs a GPU.

    Example:
        >>> layer = torch.nn.Linear(2, 1)
        >>> build_optimizer("adamw", {"weight_decay": 0.1}, layer.parameters()).defaults["weight_decay"]
        0.1
    """
    name = check_name("optimizer", name, optimizer_names())
    build = getattr(torch.optim, name)
    _check_options(name, options, inspect.signature(build).parameters)
    given = ", ".join(f"{key}={value}" for key, value in options.items()) or "its defaults"
    every = _with_usual(name, options, usual or {})
    try:
        optimizer: torch.optim.Optimizer = build(parameters, **every)
    except _REJECTED as error:
        raise ConfigError(f"{name} cannot be built with {given}: {str(error).rstrip('.')}.") from error
    if options:
        _check_step(build, every, f"{name} with {given}", optimizer)
    return optimizer


def chosen_options(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The options of an optimizer that differ from torch's defaults, its learning rate aside."""
    return {
        key: optimizer.defaults[key]
        for key, parameter in inspect.signature(type(optimizer)).parameters.items()
        if key != "lr" and key in optimizer.defaults and optimizer.defaults[key] != parameter.default
    }


def _with_usual(name: str, options: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    every = {**_USUAL.get(name, {}), **usual, **options}
    if "nesterov" not in options and (not every.get("momentum") or every.get("dampening")):
        every.pop("nesterov", None)  # torch rejects the combination, which the user has not asked for
    return every


def _check_step(build: Any, options: Mapping[str, Any], described: str, optimizer: torch.optim.Optimizer) -> None:
    """Make one step with a small weight: torch checks some options, such as capturable, only there."""
    device = optimizer.param_groups[0]["params"][0].device
    weight = nn.Parameter(torch.ones(2, 2, device=device))
    weight.grad = torch.ones_like(weight)
    try:
        build([weight], **options).step(lambda: weight.detach().sum())
    except _REJECTED as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise ConfigError(f"{described} cannot make a step on {device}: {reason}.") from error


def _check_options(name: str, given: Mapping[str, Any], parameters: Mapping[str, inspect.Parameter]) -> None:
    allowed = [each for each in parameters if each not in ("params", "lr")]
    for key, value in given.items():
        if key == "lr":
            raise ConfigError(
                "lr is what the range test varies. Leave it out, or set its bounds with `start_lr` and `end_lr`."
            )
        if key not in allowed:
            raise ConfigError(f"{name} has no option {key!r}; its options are {', '.join(allowed)}.")
        _check_value(name, key, value, parameters[key].default)


def _check_value(name: str, key: str, value: Any, default: Any) -> None:
    """Check the value against the type of the default, which is all that torch declares."""
    allowed = None
    if isinstance(default, bool) or key in _SWITCHES:
        allowed = None if isinstance(value, bool) else "True or False"
    elif isinstance(default, (int, float)):
        allowed = None if is_finite_number(value) else "a finite number"
    elif isinstance(default, tuple):
        fits = isinstance(value, (tuple, list)) and len(value) == len(default)
        fits = fits and all(is_finite_number(each) or each is usual is None for each, usual in zip(value, default))
        allowed = None if fits else f"{len(default)} finite numbers, as in {default}"
    if allowed is not None:
        raise ConfigError(f"the option {key} of {name} must be {allowed}; got {value!r}.")
