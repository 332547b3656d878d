"""The objects that a training may change: those of the model, and those beside it that loss function or hooks name.

They are found by following references (:mod:`lrfinder.training.state.reachable`), twice. Once through everything,
functions too; that finds all modules and optimizers. Then from these, a GradScaler and a criterion, through containers
and plain objects: instances of classes that are part of no installed package, other than the packages that define the
modules. What is found so is the model's own, and all of it is put back, but for

- containers of more than 10,000 entries, of which a list or a dict loses only what it has gained; those in which a
  module or an optimizer holds its tensors may be larger,
- what lies beyond 50,000 objects that no module or optimizer holds itself,
- arrays of more than 256 MiB that are mapped from a file, and memory that cannot be written,
- attributes of classes other than numbers and text, and iterators in use, other than those of the loaders.

Of the objects beside it are left out, unless the user names them with ``also``: the same containers, tensors and arrays
of more than 256 MiB, and memory maps. A list or set there that only gained numbers or text is taken for a log, and
keeps them, unless the user names it or an object of an installed package has it, as the accountant of a private
training has its history.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from lrfinder.errors import SetupError
from lrfinder.param_groups import optimizer_parameters
from lrfinder.training.contents import size_in_bytes
from lrfinder.training.joint import parts_of
from lrfinder.training.records import slots
from lrfinder.training.setup import TrainingSetup
from lrfinder.training.state.containers import captured_array, is_memory_map
from lrfinder.training.state.captured import captured, captured_state_dict
from lrfinder.training.state.objects import attributes, is_installed, is_optimizer
from lrfinder.training.state.reachable import Limits, packages_of, reachable
from lrfinder.training.state.storage import TensorCopies

__all__ = ["TrainingObjects"]

_DATA = (DataLoader, Dataset, Sampler)
_LIMITS = Limits(entries=10_000, objects=50_000)


@dataclass(frozen=True, kw_only=True)
class _Bounds:
    """How far an object is put back."""

    entries: int = _LIMITS.entries  # of the largest container that is put back whole
    size: float = math.inf  # of the largest tensor or array, in bytes
    mapped: float  # of the largest array that is mapped from a file, in bytes
    logs: bool  # a list or set that only gained numbers or text keeps them


_BESIDE = _Bounds(size=2**28, mapped=-1, logs=True)
_HELD = replace(_BESIDE, logs=False)  # what an object of an installed package has
_OWN = _Bounds(mapped=2**28, logs=False)
_NAMED = _Bounds(entries=sys.maxsize, mapped=math.inf, logs=True)  # what ``also`` refers to
_GIVEN = replace(_NAMED, logs=False)  # what is in ``also``, and what of the model's own it refers to


class TrainingObjects:
    """Objects that training with this set-up may change, found by following references.

    Args:
        setup: the model, the optimizer, the loss function and the criterion; its ``also`` is looked into with them.
        data: neither found nor looked into: the data sets of the loaders, of any kind, whose state
            :class:`LoaderState` keeps.

    Raises:
        SetupError: a parameter of a lazy module that was never initialised.
    """

    def __init__(self, setup: TrainingSetup, data: Iterable[object] = ()) -> None:
        _check_made(setup)
        functions = (setup.loss_fn, setup.step_fn, setup.criterion)
        roots = [*setup.modules, *parts_of(setup.optimizer), setup.grad_scaler, *functions, *_global_hooks()]
        models = set(map(id, setup.modules))
        data = [item for item in data if id(item) not in models]
        named = reachable(setup.also, _LIMITS, known=setup.modules)
        found = {id(item): item for item in (*named, *reachable(roots, _LIMITS, known=data, apart=_DATA))}
        self.modules = [item for item in found.values() if issubclass(type(item), nn.Module)]
        self.optimizers = [item for item in found.values() if is_optimizer(item)]
        owners = [*self.modules, *self.optimizers, setup.grad_scaler, *functions]
        own = reachable(owners, _LIMITS, known=data, apart=(DataLoader, Dataset), packages=packages_of(self.modules))
        packaged = (item for item in found.values() if is_installed(type(item).__module__))
        held = {id(value) for item in packaged for value in attributes(item).values()}
        found |= {id(item): item for item in own}
        # Of an object that is several of these, the last counts.
        bounds = {key: _HELD if key in held else _BESIDE for key in found}
        bounds |= {id(item): _OWN for item in own if not _is_data(item)}
        given = {id(item) for item in (*setup.also, *own)} | held
        bounds |= {id(item): _GIVEN if id(item) in given else _NAMED for item in named}
        beside = [item for key, item in found.items() if bounds[key] in (_BESIDE, _HELD)]
        self.data = [item for item in beside if issubclass(type(item), _DATA)]
        """Loaders and data sets: their state is bounded more tightly, by :class:`LoaderState`."""
        apart = set(map(id, self.data))
        self._bounds = bounds
        self._items = [item for key, item in found.items() if key not in apart]

    def captured(self, copies: TensorCopies) -> list[tuple[str, Callable[[], Any]]]:
        """Restorers, each with the name of the class it restores an object of; the tensors are kept by ``copies``.

        Call the restorers after ``copies.restore()``.
        """
        return [
            (f"{type(item).__module__}.{type(item).__qualname__}", restorer)
            for item in self._items
            if _is_made(item)
            for restorer in _captured(item, self._bounds[id(item)], copies)
        ]


def _is_data(item: object) -> bool:
    """True for a loader or a data set, unless it is a module. A sampler holds weights rather than data."""
    return issubclass(type(item), (DataLoader, Dataset)) and not issubclass(type(item), nn.Module)


def _captured(item: Any, bounds: _Bounds, copies: TensorCopies) -> list[Callable[[], Any]]:
    named = bounds is _NAMED or bounds is _GIVEN
    if issubclass(type(item), np.ndarray):
        most = bounds.mapped if is_memory_map(item) else bounds.size
        return [captured_array(item)] if (named or item.flags.writeable) and item.nbytes <= most else []
    if issubclass(type(item), Tensor) and size_in_bytes(item) <= bounds.size:
        copies.keep(item)
    most, logs = bounds.entries, bounds.logs
    restorers = captured(item, most=most, renewed=copies.restored, logs=logs, trimmed=not logs, whole=False)
    if named and _is_closed(item):
        restorers.append(captured_state_dict(item))
    return restorers


def _is_made(item: Any) -> bool:
    """False for a lazy parameter, and a module that has one: the sweep may make them, and nothing unmakes them."""
    held = [attributes(item).get(name) for name in ("_parameters", "_buffers")]
    registries = held if issubclass(type(item), nn.Module) else []
    return not any(map(_is_lazy, (item, *(each for registry in registries if registry for each in registry.values()))))


def _is_lazy(item: Any) -> bool:
    return issubclass(type(item), (nn.UninitializedParameter, nn.UninitializedBuffer))


def _check_made(setup: TrainingSetup) -> None:
    # Not by buffers(): a model may call an attribute so.
    modules = [module for root in setup.modules for module in root.modules()]
    if not all(map(_is_made, (*modules, *optimizer_parameters(setup.optimizer)))):
        raise SetupError(
            "the model holds a parameter that was never initialised (a lazy module). "
            "Run one batch through the model, and build the optimizer after that."
        )


def _is_closed(item: Any) -> bool:
    """True for an object whose state can be reached by its own methods alone."""
    kind = type(item)
    visible = attributes(item) or any(True for _ in slots(item))
    return not visible and hasattr(kind, "state_dict") and hasattr(kind, "load_state_dict")


def _global_hooks() -> list[Any]:
    """Hooks of every optimizer and of every module, where this version of torch keeps them."""
    holders = [vars(sys.modules[name]) for name in ("torch.optim.optimizer", "torch.nn.modules.module")]
    hooks = [value for holder in holders for name, value in holder.items() if name.startswith("_global_")]
    return [hook for each in hooks if isinstance(each, dict) for hook in each.values()]
