"""Values and modules captured so that the very same objects get their contents back.

Containers and plain objects are walked, each once and in cycles too; tensors are registered with
:class:`TensorCopies` and restored there. Numbers, functions and foreign objects are kept by reference.
"""

from __future__ import annotations

import array
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor, nn

from lrfinder.training.state.containers import (
    contents_of,
    is_atom,
    is_plain_object,
    kept_array,
    refill,
    trim,
)
from lrfinder.training.state.contents import refill_slots
from lrfinder.training.state.generators import capture_generator
from lrfinder.training.state.objects import is_optimizer, slots
from lrfinder.training.state.storage import TensorCopies

__all__ = ["MOST_ITEMS", "MOST_WALKED", "Capture", "hooks_restorer"]

MOST_ITEMS = 10_000
"""A container of a model with more items is not walked: of a list or dict, only its length is put back."""

MOST_WALKED = 50_000
"""Items of all containers and objects of a model that are walked."""

# Attributes that torch puts on tensors to recognise them in compiled code: without them it compiles again.
_COMPILER = "_dynamo"

# Wrappers keep bookkeeping that has to move on with the objects it describes.
_WRAPPERS = ("torch.nn.parallel", "torch._dynamo", "torch.distributed", "torch.jit")

_REGISTRIES = frozenset(vars(nn.Module()))
_OPTIMIZER_STATE = frozenset({"state", "param_groups"})

_TENSOR_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")

_CLEARED = frozenset({dict, OrderedDict, list, set})

_MISSING = object()


class Capture:
    """Captures values that share objects, and restores them.

    Args:
        copies: where tensors are registered. Its ``take`` copies them, and its ``restore`` has to run before
            :meth:`restore`.
        packages: installed packages whose objects are walked; see :func:`is_plain_object`.
    """

    def __init__(self, copies: TensorCopies, packages: frozenset[str] = frozenset()) -> None:
        self._copies = copies
        self._packages = packages
        self._seen: dict[int, object] = {}  # by id, with the object, so that no other gets the same id
        self._empty: list[Any] = []
        self._plain: dict[type, bool] = {}
        self._coming: deque[tuple[Any, bool]] = deque()  # with whether containers of any size are walked
        self._left = MOST_WALKED
        # Functions of this module, never methods of this object: a cycle would keep the model in memory.
        self._restorers: list[tuple[str, Callable[[], Any]]] = []

    def value(self, value: Any) -> None:
        """Capture a value that may hold tensors at any depth."""
        self._coming.append((value, False))
        while self._coming:
            self._visit(*self._coming.popleft())

    def module(self, module: nn.Module) -> None:
        """Capture one module, not its children: parameters, buffers, hooks, the names of its children, attributes.

        The ``training`` flag is left out.
        """
        if any(base.__module__.startswith(_WRAPPERS) for base in type(module).__mro__):
            for tensors in (module._parameters, module._buffers):
                self._later([tensors, *(tensor for _, tensor in tensors.items())], whole=True)  # may be no dict
        else:
            self._add(module, partial(_restore_class, module, type(module)))
            self._attributes(module, frozenset({"training"}), whole=_REGISTRIES)
        self.value(None)

    def restore(self, failures: list[str]) -> None:
        """Give every object its contents back, each on its own.

        Args:
            failures: receives a description of each object that could not be restored.
        """
        for container in self._empty:
            if container:
                container.clear()
        for name, restore in self._restorers:
            try:
                restore()
            except Exception as error:  # whatever it is, the others are restored
                failures.append(f"{name}: {type(error).__name__}: {error}")

    def _later(self, items: Iterable[Any], *, whole: bool) -> None:
        self._coming.extend((item, whole) for item in items if not is_atom(item))

    def _visit(self, value: Any, whole: bool) -> None:
        if is_atom(value) or id(value) in self._seen:
            return
        self._seen[id(value)] = value
        if type(value) in _CLEARED and not value:
            self._empty.append(value)  # as most hooks of a module are, so there are many
        elif isinstance(value, Tensor):
            self._tensor(value)
        elif isinstance(value, (dict, list, deque, set, tuple)):
            self._container(value, whole)
        elif isinstance(value, (np.ndarray, array.array, bytearray)):
            self._add(value, kept_array(value))
        elif (generator := capture_generator(value)) is not None:
            self._add(value, generator)
        elif is_optimizer(value):
            self._attributes(value, whole=_OPTIMIZER_STATE)
        elif self._is_plain(type(value)):
            self._object(value)

    def _add(self, value: object, restorer: Callable[[], Any] | None) -> None:
        if restorer is not None:
            self._restorers.append((f"{type(value).__module__}.{type(value).__qualname__}", restorer))

    def _tensor(self, tensor: Tensor) -> None:
        self._copies.keep(tensor)
        self._add(tensor, partial(_restore_flags, tensor, tensor.requires_grad, tensor.is_leaf))
        self._attributes(tensor)
        if tensor.requires_grad:
            self._add(tensor, hooks_restorer(tensor))

    def _container(self, value: Any, whole: bool) -> None:
        if not whole:
            if len(value) > min(MOST_ITEMS, self._left):
                self._add(value, partial(trim, value, len(value)))
                return
            self._left -= len(value)
        contents = contents_of(value)
        self._later(contents.values() if isinstance(contents, dict) else contents, whole=whole)
        if not isinstance(value, tuple):  # a tuple cannot change, only the objects in it
            self._add(value, partial(_restore_container, self._copies, value, contents))
        if hasattr(value, "__dict__") and self._is_plain(type(value)):
            self._attributes(value)

    def _object(self, value: Any) -> None:
        filled = list(slots(value))
        self._left -= len(filled) + len(getattr(value, "__dict__", ()))
        if self._left < 0:
            return
        if hasattr(value, "__dict__"):
            self._attributes(value)
        self._later((item for _, item in filled), whole=False)
        self._add(value, partial(refill_slots, value, filled, partial(_restored, self._copies)) if filled else None)

    def _attributes(
        self, owner: Any, skipped: frozenset[str] = frozenset(), whole: frozenset[str] = frozenset()
    ) -> None:
        attributes = vars(owner)
        saved = {name: item for name, item in attributes.items() if _is_kept(name, skipped)}
        for name, item in saved.items():
            self._later((item,), whole=name in whole)
        self._add(owner, partial(_restore_attributes, self._copies, attributes, saved, skipped))

    def _is_plain(self, kind: type) -> bool:
        if kind not in self._plain:
            self._plain[kind] = is_plain_object(kind, self._packages)
        return self._plain[kind]


def _is_kept(name: str, skipped: frozenset[str]) -> bool:
    return name not in skipped and not name.startswith(_COMPILER)


def _restore_attributes(
    copies: TensorCopies, attributes: dict[str, Any], saved: dict[str, Any], skipped: frozenset[str]
) -> None:
    if len(attributes) != len(saved) or attributes.keys() != saved.keys():
        for name in [name for name in attributes if name not in saved and _is_kept(name, skipped)]:
            del attributes[name]
    for name, item in saved.items():
        restored = _restored(copies, item)
        if attributes.get(name, _MISSING) is not restored:
            attributes[name] = restored


def _restore_container(copies: TensorCopies, target: Any, contents: Any) -> None:
    if isinstance(contents, dict):
        contents = {key: _restored(copies, item) for key, item in contents.items()}
    elif isinstance(contents, list):
        contents = [_restored(copies, item) for item in contents]
    refill(target, contents)


def _restore_class(module: nn.Module, kind: type) -> None:
    if type(module) is not kind:  # a parametrisation gives a module a class of its own
        module.__class__ = kind


def hooks_restorer(tensor: Tensor) -> Callable[[], None]:
    """Function that gives a tensor the hooks back that it has now."""
    hooks = {name: dict(getattr(tensor, name, None) or ()) for name in _TENSOR_HOOKS}
    return partial(_restore_hooks, tensor, hooks)


def _restore_hooks(tensor: Tensor, hooks: dict[str, dict[Any, Any]]) -> None:
    for name, saved in hooks.items():
        present = getattr(tensor, name, None)
        if present or saved:
            refill(present, saved)


def _restored(copies: TensorCopies, item: Any) -> Any:
    return copies.restored(item) if isinstance(item, Tensor) else item


def _restore_flags(tensor: Tensor, needs_grad: bool, leaf: bool) -> None:
    if tensor.requires_grad == needs_grad and tensor.is_leaf == leaf:
        return
    if leaf and not tensor.is_leaf:
        tensor.detach_()
    if tensor.is_leaf:
        tensor.requires_grad_(needs_grad)
