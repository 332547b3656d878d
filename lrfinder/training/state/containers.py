"""Contents of containers and objects: what is walked, to which size, and how the same objects get it back."""

from __future__ import annotations

import array
import mmap
import sys
import types
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from torch import nn
from torch.utils.data import DataLoader, Dataset

from lrfinder.training.state.objects import builtin, is_installed

__all__ = ["contents_of", "is_atom", "is_plain_object", "kept_array", "packages_of", "refill", "trim"]

# Types with nothing inside that could change; most entries of an optimizer are of these.
_ATOMS = frozenset({bool, int, float, complex, str, bytes, type(None), types.FunctionType, types.BuiltinFunctionType})

_LARGEST_MAP = 2**28  # bytes of a file mapped as an array; a larger one is data rather than state

_CONTENT_BASES = {"builtins", "abc", "typing", "enum", "collections", "dataclasses", "types"}
"""Modules of the standard library whose classes hold nothing but what is in their attributes and items."""


def is_atom(value: object) -> bool:
    """True for a value of a type with nothing inside that could change."""
    return type(value) in _ATOMS


def is_plain_object(kind: type, packages: frozenset[str]) -> bool:
    """True where the objects of a class are walked: a class written for this training, not of an installed package.

    Objects of the standard library and of other packages may stand for threads, files or running iterators, which
    attributes alone do not describe. Data sets are data, of any size, and results of ours are to be kept.

    Args:
        kind: the class.
        packages: installed packages whose classes are walked all the same: those that define the model.
    """
    if issubclass(kind, (type, nn.Module, DataLoader, Dataset)):
        return False
    if kind.__module__ in ("types", "collections"):
        return issubclass(kind, types.SimpleNamespace) or kind.__name__.startswith("User")
    if _root(kind) in sys.stdlib_module_names | {"torch", "numpy", "lrfinder"}:
        return False
    if is_installed(kind.__module__) and _root(kind) not in packages:
        return False
    return all(_root(base) in _CONTENT_BASES or _root(base) not in sys.stdlib_module_names for base in kind.__mro__)


def packages_of(modules: Iterable[nn.Module]) -> frozenset[str]:
    """Names of the packages that define the modules, torch apart."""
    return frozenset(_root(type(module)) for module in modules) - {"torch"}


def kept_array(value: Any) -> Callable[[], None] | None:
    """Restorer of an array that can change; None for a read-only one, and for more than 256 MB of a mapped file."""
    if isinstance(value, (array.array, bytearray)):
        items: Any = value[:]
        return lambda: value.__setitem__(slice(None), items)
    if not value.flags.writeable or (value.nbytes > _LARGEST_MAP and _is_mapped(value)):
        return None
    saved, shape = value.copy(), value.shape

    def restore() -> None:
        if value.shape != shape:
            value.resize(shape, refcheck=False)
        np.copyto(value, saved)

    return restore


def contents_of(container: Any) -> Any:
    """Items of a dict, list, deque, set or tuple, in their order, as a plain dict, set or list."""
    if isinstance(container, dict):
        return dict(builtin(container).items(container))
    return set(container) if isinstance(container, set) else list(container)


def refill(target: Any, contents: Any) -> None:
    """Give a container its contents back where they are not the same objects in the same order."""
    # Methods of the base: those of a subclass may do anything.
    if isinstance(target, dict):
        base = builtin(target)
        if not (_same(target.keys(), contents.keys()) and _same(target.values(), contents.values())):
            base.clear(target)
            for key, item in contents.items():
                base.__setitem__(target, key, item)
    elif isinstance(target, set):
        if target != contents:
            set.clear(target)
            set.update(target, contents)
    elif not _same(target, contents):
        base = builtin(target)
        base.clear(target)
        base.extend(target, contents)


def trim(target: Any, length: int) -> None:
    """Remove what a list or a dict has gained at its end."""
    if isinstance(target, list):
        list.__delitem__(target, slice(length, None))
    while isinstance(target, dict) and len(target) > length:
        target.popitem()


def _same(present: Any, contents: Any) -> bool:
    return len(present) == len(contents) and all(map(_is, present, contents))


def _is(a: object, b: object) -> bool:
    return a is b


def _is_mapped(value: Any) -> bool:
    while value is not None and not isinstance(value, (np.memmap, mmap.mmap)):
        value = getattr(value, "base", None)
    return value is not None


def _root(kind: type) -> str:
    return kind.__module__.partition(".")[0]
