"""Entries of containers and arrays, captured so that the very same objects get them back."""

from __future__ import annotations

import array
import mmap
import operator
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

import numpy as np

from lrfinder.training.state.objects import builtin

__all__ = ["PLAIN", "Renewed", "captured_array", "captured_container", "captured_entries", "is_memory_map"]

PLAIN = (bool, int, float, complex, str, bytes, type(None))
"""Types of values with nothing inside that could change."""

_COMPARED_AT_ONCE = 2**20  # bytes

Renewed = Callable[[Any], Any]


def captured_entries(item: Any, most: int, renewed: Renewed, logs: bool, trimmed: bool) -> list[Callable[[], Any]]:
    """Restorer of a container, of any that may change; the arguments are those of ``captured``, which calls this."""
    if issubclass(type(item), (array.array, bytearray)):
        return [partial(type(item).__setitem__, item, slice(None), item[:])]
    kind = builtin(item)
    if kind is tuple:  # it cannot change, only the objects in it
        return []
    if (length := kind.__len__(item)) <= most:
        return [captured_container(item, renewed, logs)]
    return [partial(_trim, item, kind, length)] if trimmed else []


def _trim(item: Any, kind: Any, length: int) -> None:
    if kind is list:
        list.__delitem__(item, slice(length, None))
    while issubclass(kind, dict) and kind.__len__(item) > length:
        kind.popitem(item)


def captured_container(item: Any, renewed: Renewed, logs: bool = False) -> Callable[[], Any]:
    """Restorer of a dict, list, deque or set of any size, which is not written where it did not change."""
    kind = builtin(item)  # whose methods are called: those of a subclass may do anything
    if issubclass(kind, dict):
        return partial(_refill_dict, item, kind, dict(kind.items(item)), renewed)
    if kind is set:
        return partial(_refill_set, item, set(set.__iter__(item)), logs)
    return partial(_refill_list, item, kind, list(kind.__iter__(item)), renewed, logs)


def _refill_dict(item: Any, kind: Any, saved: dict[Any, Any], renewed: Renewed) -> None:
    values = list(map(renewed, saved.values()))
    if not (_same(kind.keys(item), saved) and _same(kind.values(item), values)):
        kind.clear(item)
        for key, value in zip(saved, values, strict=True):
            kind.__setitem__(item, key, value)


def _refill_list(item: Any, kind: Any, saved: list[Any], renewed: Renewed, logs: bool) -> None:
    present, contents = list(kind.__iter__(item)), list(map(renewed, saved))
    gained = present[len(contents) :]
    is_log = logs and kind is list and all(map(_is_plain, gained))
    if not _same(present, contents) and not (is_log and _same(present[: len(contents)], contents)):
        kind.clear(item)
        kind.extend(item, contents)


def _refill_set(item: Any, saved: set[Any], logs: bool) -> None:
    if item != saved and not (logs and saved < item and all(map(_is_plain, item - saved))):
        set.clear(item)
        set.update(item, saved)


def _same(present: Collection[Any], contents: Collection[Any]) -> bool:
    return len(present) == len(contents) and all(map(operator.is_, present, contents))


def _is_plain(value: Any) -> bool:
    return type(value) in PLAIN or (type(value) in (list, tuple) and all(map(_is_plain, value)))


def captured_array(item: np.ndarray[Any, Any]) -> Callable[[], None]:
    """Restorer of an array, which is not written where it did not change: its memory may be read-only by then."""
    saved = item.copy()

    def restore() -> None:
        if item.shape != saved.shape:
            item.resize(saved.shape, refcheck=False)
        if item.flags.writeable and (item.dtype.hasobject or not _same_bytes(item, saved)):
            np.copyto(item, saved)

    return restore


def _same_bytes(array: np.ndarray[Any, Any], saved: np.ndarray[Any, Any]) -> bool:
    a, b = (np.ascontiguousarray(each).reshape(-1).view(np.uint8) for each in (array, saved))
    parts = (slice(start, start + _COMPARED_AT_ONCE) for start in range(0, b.size, _COMPARED_AT_ONCE))
    return a.size == b.size and all(a[part].tobytes() == b[part].tobytes() for part in parts)


def is_memory_map(item: np.ndarray[Any, Any]) -> bool:
    """True for an array whose memory is a file."""
    base: Any = item
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    return isinstance(base, (np.memmap, mmap.mmap))
