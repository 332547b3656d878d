"""Contents of single objects, captured so that they go back into the very same objects: :func:`captured`."""

from __future__ import annotations

import types
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from lrfinder.training.state.generators import capture_generator
from lrfinder.training.state.objects import (
    CONTAINERS,
    attributes,
    builtin,
    cells,
    entries,
    named,
    slots,
)

__all__ = ["captured", "captured_array", "is_memory_map", "refill_slots"]

_PLAIN = (bool, int, float, complex, str, bytes, type(None))

Renewed = Callable[[Any], Any]


def captured(item: Any, *, most: int, renewed: Renewed = lambda value: value, logs: bool = False) -> list[Any]:
    """Restorers of what one object refers to, and of a generator's state; empty for one that cannot change.

    Only the references are captured: what they lead to is captured on its own. Restoring writes where something
    changed, and nowhere else.

    Args:
        item: an object, but no tensor, array or module.
        most: containers of more entries are left out.
        renewed: returns the object that stands for a captured one, where that has to be replaced.
        logs: a list or set that has only gained numbers and text is a log, and keeps them.
    """
    kind = type(item)
    if (generator := capture_generator(item)) is not None:
        return [generator]
    if kind is types.FunctionType:
        return [*_captured_variables(item, renewed), *_captured_attributes(item, renewed)]
    if issubclass(kind, type):
        return [_captured_class(item)]
    restorers: list[Any] = []
    if issubclass(kind, CONTAINERS) and not issubclass(kind, tuple):
        if builtin(item).__len__(item) <= most:
            restorers.append(_captured_container(item, renewed, logs))
    restorers += _captured_attributes(item, renewed)
    filled = list(slots(item))
    if filled:
        restorers.append(lambda: refill_slots(item, filled, renewed))
    return restorers


def captured_array(array: np.ndarray[Any, Any]) -> Callable[[], None]:
    """Restorer of an array, which is not written where it did not change: its memory may be read-only by then."""
    saved = array.copy()

    def restore() -> None:
        if array.shape == saved.shape and array.flags.writeable and array.tobytes() != saved.tobytes():
            np.copyto(array, saved)

    return restore


def is_memory_map(array: np.ndarray[Any, Any]) -> bool:
    """True for an array whose memory is a file."""
    base: Any = array
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap):
            return True
        base = base.base
    return False


def _captured_attributes(item: Any, renewed: Renewed) -> list[Any]:
    if type(item) is types.MethodType:
        return []
    saved = dict(attributes(item))
    return [lambda: _put_back(attributes(item), saved, renewed)]


def _captured_variables(function: types.FunctionType, renewed: Renewed) -> list[Any]:
    """Restorers of the variables that a function shares with others: those around it, and globals that it names."""
    shared, values = list(cells(function)), named(function)

    def restore_cells() -> None:
        for cell, value in shared:
            try:
                same = cell.cell_contents is value
            except ValueError:
                same = False
            if not same:
                cell.cell_contents = renewed(value)

    def restore_globals() -> None:
        for name, value in values.items():
            if function.__globals__.get(name) is not value:
                function.__globals__[name] = renewed(value)

    return [restore for restore, held in ((restore_cells, shared), (restore_globals, values)) if held]


def _captured_class(kind: type) -> Callable[[], None]:
    saved = {name: value for name, value in vars(kind).items() if type(value) in _PLAIN and not name.startswith("__")}

    def restore() -> None:
        for name, value in saved.items():
            if vars(kind).get(name) is not value:
                type.__setattr__(kind, name, value)

    return restore


def _captured_container(item: Any, renewed: Renewed, logs: bool) -> Callable[[], None]:
    kind = builtin(item)
    keyed = kind in (dict, OrderedDict)
    saved: Any = set(entries(item)) if kind is set else entries(item)

    def restore() -> None:
        if kind is set:
            if item != saved and not (logs and saved < item and all(map(_is_plain, item - saved))):
                set.clear(item)
                set.update(item, saved)
            return
        present = entries(item)
        contents = [(key, renewed(value)) for key, value in saved] if keyed else [renewed(value) for value in saved]
        if _same(present, contents, keyed) or (logs and kind is list and _only_logged(present, contents)):
            return
        kind.clear(item)
        (kind.update if keyed else kind.extend)(item, contents)

    return restore


def _same(a: list[Any], b: list[Any], keyed: bool) -> bool:
    if len(a) != len(b):
        return False
    if keyed:
        return all(x[0] is y[0] and x[1] is y[1] for x, y in zip(a, b, strict=True))
    return all(x is y for x, y in zip(a, b, strict=True))


def _only_logged(present: list[Any], before: list[Any]) -> bool:
    kept = len(before)
    return _same(present[:kept], before, False) and all(map(_is_plain, present[kept:]))


def _is_plain(value: Any) -> bool:
    return type(value) in _PLAIN or (type(value) in (list, tuple) and all(map(_is_plain, value)))


def _put_back(present: dict[str, Any], saved: dict[str, Any], renewed: Renewed) -> None:
    for name in present.keys() - saved.keys():
        del present[name]
    for name, value in saved.items():
        again = renewed(value) if issubclass(type(value), Tensor) else value
        if present.get(name, present) is not again:
            present[name] = again


def refill_slots(item: object, filled: list[tuple[Any, Any]], renewed: Renewed) -> None:
    """Fill the slots of an object as they were, from what :func:`slots` gave, and empty those filled since."""
    for member, value in filled:
        member.__set__(item, renewed(value))
    known = {id(member) for member, _ in filled}
    for member, _ in list(slots(item)):
        if id(member) not in known:
            member.__delete__(item)
