"""torch's optimizers by name, with their options."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

import torch
from torch import nn

from lrfinder.errors import ConfigError

__all__ = ["build_optimizer", "chosen_options", "optimizer_names"]

_USUAL = {"SGD": {"momentum": 0.9}}  # what nearly everybody trains image models with


def optimizer_names() -> list[str]:
    """Names of the optimizers in ``torch.optim`` that can train a network of dense layers, sorted."""
    # SparseAdam refuses the dense gradients that every convolution gives.
    return sorted(
        name
        for name, each in vars(torch.optim).items()
        if isinstance(each, type)
        and issubclass(each, torch.optim.Optimizer)
        and name not in ("Optimizer", "SparseAdam")
    )


def build_optimizer(name: str, options: Mapping[str, Any], parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """An optimizer at its own nominal learning rate, which the sweep replaces.

    Args:
        name: as in ``torch.optim``; upper or lower case.
        options: arguments of its constructor, the learning rate aside.
        parameters: what it trains.

    Raises:
        ConfigError: an unknown name or option, or a value the optimizer refuses.

    Example:
        >>> build_optimizer("adamw", {"weight_decay": 0.1}, torch.nn.Linear(2, 1).parameters()).defaults["weight_decay"]
        0.1
    """
    known = {each.lower(): each for each in optimizer_names()}
    if name.lower() not in known:
        near = get_close_matches(name.lower(), known, n=1)
        hint = f" Did you mean {known[near[0]]}?" if near else ""
        raise ConfigError(f"unknown optimizer {name!r}; choose one of {', '.join(known.values())}.{hint}")
    name = known[name.lower()]
    build = getattr(torch.optim, name)
    _check_options(name, options, inspect.signature(build).parameters)
    try:
        optimizer: torch.optim.Optimizer = build(parameters, **{**_USUAL.get(name, {}), **options})
    except (TypeError, ValueError, RuntimeError) as error:
        typed = ", ".join(f"{key}={value}" for key, value in options.items()) or "its defaults"
        raise ConfigError(f"{name} refuses {typed}: {str(error).rstrip('.')}.") from error
    return optimizer


def chosen_options(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The options of an optimizer that are not at their default, its learning rate aside."""
    return {
        key: optimizer.defaults[key]
        for key, parameter in inspect.signature(type(optimizer)).parameters.items()
        if key != "lr" and key in optimizer.defaults and optimizer.defaults[key] != parameter.default
    }


def _check_options(name: str, given: Iterable[str], parameters: Iterable[str]) -> None:
    allowed = [each for each in parameters if each not in ("params", "lr")]
    for key in given:
        if key == "lr":
            raise ConfigError("lr is what the sweep looks for; leave it out, or bound it with --start-lr and --end-lr.")
        if key not in allowed:
            raise ConfigError(f"{name} has no option {key!r}; it takes {', '.join(allowed)}.")
