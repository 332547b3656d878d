"""What an object consists of, read without running any of its code: attributes, contents, shared variables."""

from __future__ import annotations

import functools
import random
import sys
import types
from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

__all__ = [
    "CONTAINERS",
    "NOT_TRAINING",
    "REGISTRIES",
    "attributes",
    "builtin",
    "cells",
    "contents",
    "is_generator",
    "is_installed",
    "is_optimizer",
    "is_own",
    "is_wrapper",
    "named_globals",
    "optimizer_parts",
]

CONTAINERS = (OrderedDict, dict, list, deque, set, tuple)

REGISTRIES = frozenset(vars(nn.Module())) - {"training"}
"""Attributes in which torch keeps the parameters, buffers, children and hooks of a module."""

# Objects of these packages are no state of a training, or keep books that only they can keep. Objects of their
# subclasses in other packages may be.
NOT_TRAINING = sys.stdlib_module_names | frozenset(
    {"builtins", "lrfinder", "matplotlib", "numpy", "pandas", "PIL", "tqdm", "wandb"}
)

# Wrappers keep bookkeeping that has to move on with the objects it describes.
_WRAPPERS = ("torch.nn.parallel", "torch._dynamo", "torch.distributed", "torch.jit")


def is_wrapper(kind: type) -> bool:
    """True for a class of modules that torch puts around others, or, as FSDP2, in place of their own class."""
    return any(base.__module__.startswith(_WRAPPERS) for base in kind.__mro__)


def is_optimizer(item: object) -> bool:
    """True for anything that has parameter groups and a step of its own."""
    kind = type(item)
    return _defines(kind, "step") and ("param_groups" in attributes(item) or _defines(kind, "param_groups"))


def _defines(kind: type, name: str) -> bool:
    for base in kind.__mro__:  # hasattr() may run code of a metaclass, and any() takes three times as long
        if name in vars(base):
            return True
    return False


def optimizer_parts(optimizer: Any) -> list[Any]:
    """The containers of an optimizer, at any depth: its groups and their parameters, and its state."""
    own = attributes(optimizer)
    parts: list[Any] = []
    coming: list[Any] = [own.get("param_groups"), own.get("state")]
    known: set[int] = set()
    for part in coming:  # grows
        if issubclass(type(part), (dict, list, deque)) and id(part) not in known:
            known.add(id(part))
            parts.append(part)
            coming += part.values() if isinstance(part, dict) else part
    return parts


def is_generator(item: object) -> bool:
    """True for a random generator of torch, NumPy or Python."""
    kinds = (torch.Generator, np.random.Generator, np.random.BitGenerator, np.random.RandomState, random.Random)
    return issubclass(type(item), kinds) and not issubclass(type(item), random.SystemRandom)


def attributes(item: object) -> dict[str, Any]:
    """The instance's own dictionary, in which attributes can be put back; an empty one where it has none."""
    try:
        own = object.__getattribute__(item, "__dict__")
    except AttributeError:
        return {}
    return own if type(own) is dict else {}


def contents(container: Any) -> list[Any]:
    """Items of a container, or the values of a dictionary, by the methods of the builtin type.

    Those of a subclass may do anything.
    """
    kind = builtin(container)
    return list(kind.values(container) if issubclass(kind, dict) else kind.__iter__(container))


def builtin(container: Any) -> Any:
    """The builtin type that a container is of, or inherits from."""
    return next(each for each in CONTAINERS if issubclass(type(container), each))


def cells(function: types.FunctionType) -> Iterator[tuple[types.CellType, Any]]:
    """The variables that a function shares with the function around it, and their values."""
    for cell in function.__closure__ or ():
        try:
            yield cell, cell.cell_contents
        except ValueError:  # not assigned yet
            continue


def named_globals(function: types.FunctionType) -> dict[str, Any]:
    """The module globals that a function of the user names, also in functions defined inside it.

    Containers that an installed package keeps under the same name are left out: they are no state of the training.
    """
    if not is_own(function.__module__):
        return {}
    around = function.__globals__
    values: dict[str, Any] = {}
    codes = [function.__code__]
    for code in codes:  # grows
        values.update((name, around[name]) for name in code.co_names if name in around)
        codes += [constant for constant in code.co_consts if type(constant) is types.CodeType]
    return {name: value for name, value in values.items() if not (name.startswith("__") or _is_imported(name, value))}


def _is_imported(name: str, value: Any) -> bool:
    """True for a container that an installed package keeps for itself, such as torch's own counters."""
    if not issubclass(type(value), CONTAINERS):
        return False
    holders = [module for module in list(sys.modules.values()) if attributes(module).get(name) is value]
    return any(not is_own(attributes(module).get("__name__")) for module in holders)


def is_own(module: object) -> bool:
    """True for a module of the user, False for those of Python and of installed packages."""
    return not isinstance(module, str) or _is_own_module(module)


@functools.lru_cache(maxsize=1024)
def _is_own_module(module: str) -> bool:
    if module.partition(".")[0] in NOT_TRAINING | {"torch"}:
        return module == "__main__"
    return not is_installed(module)


def is_installed(module: str) -> bool:
    """True for a module of an installed package."""
    path = getattr(sys.modules.get(module), "__file__", None)
    return isinstance(path, str) and ("site-packages" in path or "dist-packages" in path)
