"""Values and modules captured so that the very same objects get their contents back.

Containers are walked; tensors are registered with :class:`TensorCopies` and restored there. Numbers, functions and
foreign objects are kept by reference.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor, nn

from lrfinder.training.state.storage import TensorCopies

__all__ = ["Capture", "Restorer"]

Restorer = Callable[[], Any]
"""Restores one captured value and returns the object that now stands for it."""

# Types with nothing inside that could change; most entries of an optimizer are of these.
_ATOMS = frozenset({bool, int, float, str, type(None)})


class Capture:
    """Captures values that share objects. Needed only while capturing; the restorers do not refer to it.

    Args:
        copies: where tensors are registered; its ``take`` and ``restore`` copy them.
    """

    def __init__(self, copies: TensorCopies) -> None:
        self._copies = copies
        # By id: two names of one list are one list, and a reference back into a container ends the walk.
        self._walked: dict[int, Restorer] = {}

    def value(self, value: Any) -> Restorer:
        """Capture a value that may hold tensors at any depth. Call the restorer after ``copies.restore()``."""
        if isinstance(value, Tensor):
            copies = self._copies
            copies.keep(value)
            return lambda: copies.restored(value)
        if isinstance(value, np.ndarray):
            return _captured_array(value)
        if _is_optimizer_like(value):
            restore_attributes = self._container(vars(value))

            def restore_object() -> Any:
                restore_attributes()
                return value

            return restore_object
        return self._container(value)

    def module(self, module: nn.Module) -> Restorer:
        """Capture parameters and buffers of one module (not of its children), and the attributes its author added."""
        attributes = vars(module)
        parts = {name: self.value(attributes[name]) for name in ("_parameters", "_buffers")}
        if type(module).__module__.partition(".")[0] == "torch":
            # torch's own modules keep nothing else that a step changes, but wrappers (DDP, compiled modules) keep
            # bookkeeping that has to move on with the objects it describes.
            def restore_tensors() -> None:
                for part in parts.values():
                    part()

            return restore_tensors
        registries = {name for name in vars(nn.Module()) if name not in parts}
        kept_apart = registries | set(parts)
        parts |= {name: self.value(item) for name, item in attributes.items() if name not in kept_apart}

        def restore() -> None:
            for name in [name for name in attributes if name not in parts and name not in registries]:
                del attributes[name]
            attributes.update({name: part() for name, part in parts.items()})

        return restore

    def _container(self, value: Any) -> Restorer:
        # Exact types: a subclass may do anything when it is cleared.
        kind = type(value)
        if kind not in (dict, OrderedDict, defaultdict, list, deque, set, tuple):
            return lambda: value
        walked = self._walked
        if id(value) not in walked:
            walked[id(value)] = lambda: value
            if kind in (dict, OrderedDict, defaultdict):
                contents = dict(value)
                parts = {key: self.value(item) for key, item in value.items() if type(item) not in _ATOMS}
                walked[id(value)] = lambda: _refill(value, contents | {key: part() for key, part in parts.items()})
            elif kind is set:
                members = set(value)
                walked[id(value)] = lambda: _refill(value, members)
            else:
                items = [self.value(item) for item in value]
                walked[id(value)] = lambda: _refill(value, [item() for item in items])
        return walked[id(value)]


def _refill(target: Any, contents: Any) -> Any:
    """Give a container its contents back; a tuple cannot change, only the objects in it."""
    if isinstance(target, (dict, set)):
        target.clear()
        target.update(contents)
    elif not isinstance(target, tuple):
        target.clear()
        target.extend(contents)
    return target


def _captured_array(array: np.ndarray[Any, Any]) -> Restorer:
    saved = array.copy()

    def restore() -> Any:
        if array.flags.writeable:
            np.copyto(array, saved)
        return array

    return restore


def _is_optimizer_like(value: Any) -> bool:
    return hasattr(value, "param_groups") and hasattr(value, "step") and hasattr(value, "__dict__")
