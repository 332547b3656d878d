"""State beside the model: what the loss function, hooks and attributes refer to, and what the user names.

Restored in place: modules, optimizers, random generators, tensors, arrays, the attributes of plain objects, the entries
of containers, and the variables that functions share. Where references are followed is described in
:mod:`lrfinder.training.state.reachable`. Left out, unless the user names them with ``also``: containers of more than
10,000 entries, tensors and arrays of more than 256 MiB, and memory maps. A list or set outside model and data that
only gained numbers or text is taken for a log, and keeps them, unless the user names it.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from lrfinder.training.contents import size_in_bytes
from lrfinder.training.joint import parts_of
from lrfinder.training.setup import TrainingSetup
from lrfinder.training.state.contents import captured, captured_array, is_memory_map
from lrfinder.training.state.objects import attributes, is_optimizer, slots
from lrfinder.training.state.reachable import Limits, reachable
from lrfinder.training.state.storage import TensorCopies

__all__ = ["Beside"]

_DATA = (DataLoader, Dataset, Sampler)
_LIMITS = Limits(entries=10_000, objects=50_000)
_MOST_BYTES = 2**28  # of a tensor or array that is no parameter, buffer or optimizer state


class Beside:
    """Objects that training with this set-up may change, found by following references.

    Args:
        setup: the model, the optimizer, the loss function and the criterion; its ``also`` is looked into with them.
        data: neither found nor looked into: the data sets of the loaders, of any kind, whose state
            :class:`LoaderState` keeps.
    """

    def __init__(self, setup: TrainingSetup, data: Iterable[object] = ()) -> None:
        own = (*parts_of(setup.optimizer), setup.grad_scaler, setup.loss_fn, setup.step_fn, setup.criterion)
        roots = [*setup.modules, *own, *_global_hooks()]
        named = reachable(setup.also, _LIMITS, known=setup.modules)
        found = reachable(roots, _LIMITS, known=data, apart=_DATA)
        self._named = {id(item) for item in named}
        self._also = {id(item) for item in setup.also}
        self._items = list({id(item): item for item in (*named, *found)}.values())
        self.modules = [item for item in self._items if issubclass(type(item), nn.Module) and _is_usable(item)]
        self.optimizers = [item for item in self._items if is_optimizer(item)]
        self.data = [item for item in found if issubclass(type(item), _DATA) and id(item) not in self._named]
        """Loaders and data sets: their state is bounded more tightly, by :class:`LoaderState`."""
        self._within = {id(item) for item in (*self.modules, *self.optimizers, *self.data)}

    def captured(self, copies: TensorCopies) -> list[Callable[[], Any]]:
        """Restorers of all but the modules and optimizers; the tensors are registered with ``copies``.

        Call the restorers after ``copies.restore()``.
        """

        def renewed(value: Any) -> Any:
            return copies.restored(value) if issubclass(type(value), Tensor) else value

        restorers: list[Callable[[], Any]] = []
        for item in self._items:
            named = id(item) in self._named
            if id(item) in self._within:
                continue
            if issubclass(type(item), Tensor):
                if not torch.nn.parameter.is_lazy(item) and (named or size_in_bytes(item) <= _MOST_BYTES):
                    copies.keep(item)
            elif issubclass(type(item), np.ndarray):
                if named or (item.nbytes <= _MOST_BYTES and not is_memory_map(item)):
                    restorers.append(captured_array(item))
            elif not issubclass(type(item), nn.Module):
                most = sys.maxsize if named else _LIMITS.entries
                restorers += captured(item, most=most, renewed=renewed, logs=id(item) not in self._also)
                if named and _is_closed(item):
                    restorers.append(_by_state_dict(item))
        return restorers


def _is_usable(module: nn.Module) -> bool:
    """False for modules whose parameters cannot be copied: not yet made, or not held in Python."""
    if isinstance(module, torch.jit.ScriptModule):
        return False
    return not any(map(torch.nn.parameter.is_lazy, attributes(module).get("_parameters", {}).values()))


def _is_closed(item: Any) -> bool:
    """True for an object whose state can be reached by its own methods alone."""
    kind = type(item)
    visible = attributes(item) or any(True for _ in slots(item))
    return not visible and hasattr(kind, "state_dict") and hasattr(kind, "load_state_dict")


def _by_state_dict(item: Any) -> Callable[[], Any]:
    saved = copy.deepcopy(item.state_dict())
    return lambda: item.load_state_dict(copy.deepcopy(saved))


def _global_hooks() -> list[Any]:
    """Hooks of every optimizer and of every module, where this version of torch keeps them."""
    holders = [vars(sys.modules[name]) for name in ("torch.optim.optimizer", "torch.nn.modules.module")]
    hooks = [value for holder in holders for name, value in holder.items() if name.startswith("_global_")]
    return [hook for each in hooks if isinstance(each, dict) for hook in each.values()]
