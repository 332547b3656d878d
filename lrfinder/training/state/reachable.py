"""Objects that others refer to, found without running any of their code: :func:`reachable`.

References are followed through attributes, containers, ``functools.partial``, bound methods, the closures and defaults
of functions, hooks of modules, parameters and optimizers, and, for functions and classes outside installed packages,
the module globals that they name. What the state of an object consists of is left to
:mod:`lrfinder.training.state.captured`.
"""

from __future__ import annotations

import array
import functools
import types
from collections import UserDict, UserList, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data.dataloader import _BaseDataLoaderIter

from lrfinder.training.records import slots
from lrfinder.training.state.objects import (
    CONTAINERS,
    NOT_TRAINING,
    REGISTRIES,
    attributes,
    builtin,
    cells,
    contents,
    is_generator,
    is_optimizer,
    is_own,
    is_wrapper,
    named_globals,
    optimizer_parts,
)

__all__ = ["Limits", "packages_of", "reachable"]

_ATOMS = frozenset(
    {bool, int, float, complex, str, bytes, type(None), type(...), type(NotImplemented), range, slice}
    | {torch.dtype, torch.device, torch.Size, torch.layout, types.ModuleType, types.CodeType}
)

_SAMPLER = "lrfinder.tasks.augment"  # its sampler has a random generator; our other objects have no state
_OPAQUE_TORCH = tuple(
    f"torch.{name}" for name in ("_", "autograd", "classes", "cuda", "distributed", "fx", "jit", "profiler")
)
# Optimizers around others, as ZeroRedundancyOptimizer, and what counts steps for them.
_TORCH_WITH_STATE = ("torch.distributed.algorithms", "torch.distributed.optim")

_USER_CONTAINERS = (types.SimpleNamespace, UserDict, UserList)
_LOOKED_INTO = (*CONTAINERS, *_USER_CONTAINERS, Tensor, nn.Module, np.ndarray, torch.amp.GradScaler)
_FUNCTIONS = (types.FunctionType, types.MethodType, types.BuiltinMethodType, staticmethod, classmethod, property)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How far a walk goes.

    Args:
        entries: the items of containers with more of them are not looked at.
        objects: the walk ends after that many; what modules and optimizers hold is not counted.
    """

    entries: int
    objects: int


def reachable(
    roots: Iterable[object],
    limits: Limits,
    *,
    known: Iterable[object] = (),
    apart: tuple[type, ...] = (),
    packages: frozenset[str] | None = None,
) -> list[Any]:
    """The roots and all objects that they refer to, each once; numbers and text are left out.

    What modules and optimizers hold comes first, of all else the nearest.

    Args:
        roots: where to start.
        limits: what bounds the walk.
        known: objects that are neither returned nor looked into.
        apart: objects of these classes are returned but not looked into, unless they are modules or optimizers.
        packages: installed packages of which objects are looked into, beside the user's own; functions are not
            followed then. None looks into all objects that may have a state, and follows functions.
    """
    passed = {id(item): item for item in known}
    found: dict[int, Any] = {}
    held: deque[Any] = deque()  # by modules and optimizers, which have no bound
    others = deque(roots)
    left = limits.objects
    while held or (others and left > 0):
        counts = not held
        item = (held or others).popleft()
        kind = type(item)
        if kind in _ATOMS or id(item) in found or id(item) in passed or _is_opaque(item, kind, packages):
            continue
        found[id(item)] = item
        left -= counts
        if issubclass(kind, nn.Module) or is_optimizer(item):
            held.extend(_references(item, kind, limits))
        elif not issubclass(kind, apart):
            others.extend(_references(item, kind, limits))
    return list(found.values())


def _is_opaque(item: object, kind: type, packages: frozenset[str] | None) -> bool:
    if issubclass(kind, _LOOKED_INTO) or is_generator(item):
        return False
    if packages is not None:
        held = issubclass(kind, (array.array, bytearray)) or is_optimizer(item)
        return not (held or is_own(kind.__module__) or _package(kind) in packages)
    if issubclass(kind, functools.partial) or kind in _FUNCTIONS:
        return False
    if issubclass(kind, _BaseDataLoaderIter):
        return True
    described: Any = item if issubclass(kind, type) else kind
    module = str(described.__module__)
    if issubclass(kind, type):
        return not is_own(module)
    if module in ("__main__", _SAMPLER) or module.startswith(_TORCH_WITH_STATE):
        return False
    return module.startswith(_OPAQUE_TORCH) or module.partition(".")[0] in NOT_TRAINING


def _package(kind: type) -> str:
    return str(kind.__module__).partition(".")[0]


def packages_of(modules: Iterable[nn.Module]) -> frozenset[str]:
    """Names of the packages that define the modules; torch and ours hold nothing of one model."""
    return frozenset(_package(type(module)) for module in modules) - {"torch", "lrfinder"}


def _references(item: Any, kind: type, limits: Limits) -> Iterator[Any]:
    if is_own(kind.__module__) and kind is not type:
        yield from (base for base in kind.__mro__ if is_own(base.__module__))
    if issubclass(kind, Tensor):
        yield from _tensor_references(item)
    elif issubclass(kind, nn.Module):
        yield from _module_references(item, kind)
    elif issubclass(kind, CONTAINERS):
        if builtin(item).__len__(item) <= limits.entries:
            yield from (value for value in contents(item) if type(value) not in _ATOMS)
        yield from _fields(item)
    elif issubclass(kind, type):
        yield from vars(item).values()
    elif kind is types.FunctionType:
        yield from _function_references(item)
    elif is_optimizer(item):
        yield from _optimizer_references(item)
    else:
        yield from _instance_references(item, kind, limits)


def _tensor_references(tensor: Tensor) -> Iterator[Any]:
    yield from attributes(tensor).values()
    if tensor.requires_grad:
        for hooks in (tensor._backward_hooks, getattr(tensor, "_post_accumulate_grad_hooks", None)):
            yield from (hooks or {}).values()


def _module_references(module: nn.Module, kind: type) -> Iterator[Any]:
    if issubclass(kind, torch.jit.ScriptModule):  # its registries are not in Python
        yield from (*module.children(), *module.parameters(), *module.buffers())
        return
    followed = not (is_wrapper(kind) and str(kind.__module__).startswith("torch."))  # a user may inherit from one
    for name, value in attributes(module).items():
        if name not in REGISTRIES:
            if followed:
                yield value
        elif issubclass(type(value), dict):
            yield from value.values()


def _optimizer_references(optimizer: Any) -> Iterator[Any]:
    yield from (value for name, value in attributes(optimizer).items() if name not in ("state", "param_groups"))
    yield from (value for _, value in slots(optimizer))
    parts = optimizer_parts(optimizer)
    known = set(map(id, parts))
    for part in parts:
        yield from (value for value in (part.values() if isinstance(part, dict) else part) if id(value) not in known)


def _function_references(function: types.FunctionType) -> Iterator[Any]:
    own = attributes(function)
    yield from own.values()
    if str(function.__module__).startswith("torch._") or "_torchdynamo_orig_callable" in own:
        return  # a compiled function: what it was made from is among its attributes
    yield from (value for _, value in cells(function))
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    yield from named_globals(function).values()


def _instance_references(item: Any, kind: type, limits: Limits) -> Iterator[Any]:
    if issubclass(kind, functools.partial):
        yield from (item.func, item.args, item.keywords)
    elif kind is types.MethodType:
        yield from (item.__func__, item.__self__)
    elif kind is types.BuiltinMethodType:
        yield item.__self__
    elif kind in (staticmethod, classmethod):
        yield item.__func__
    elif kind is property:
        yield item.fget
    elif issubclass(kind, np.ndarray) and item.dtype.hasobject and item.size <= limits.entries:
        yield from np.ndarray.ravel(item).tolist()  # as the parts of a replay buffer
    elif is_generator(item):
        return
    yield from _fields(item)


def _fields(item: Any) -> Iterator[Any]:
    yield from attributes(item).values()
    yield from (value for _, value in slots(item))
