"""Attributes of objects, those in slots too, and the batches that are objects: dataclasses, attrs and plain classes."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from types import MemberDescriptorType, SimpleNamespace
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler

__all__ = ["LEAVES", "attributes_of", "slots", "with_attributes"]

LEAVES = (type(None), bool, int, float, complex, str, bytes, type, torch.device, torch.dtype, torch.Generator)
"""Types in which nothing to be moved is looked for."""

_NO_BATCH = (nn.Module, Dataset, DataLoader, Sampler)


def attributes_of(value: Any) -> dict[str, Any]:
    """Attributes that an object has of its own, in its ``__dict__`` and its slots; none for one that is no batch.

    Objects of the standard library have none (a path, a lock), except those of ``types.SimpleNamespace``.

    Example:
        >>> attributes_of(SimpleNamespace(inputs=1, target=2)), attributes_of("text")
        ({'inputs': 1, 'target': 2}, {})
    """
    kind = type(value)
    foreign = kind.__module__.partition(".")[0] in sys.stdlib_module_names and kind.__module__ != "__main__"
    if isinstance(value, _NO_BATCH) or (foreign and not isinstance(value, SimpleNamespace)):
        return {}
    return {**getattr(value, "__dict__", {}), **{member.__name__: held for member, held in slots(value)}}


def with_attributes(value: Any, attributes: dict[str, Any]) -> Any:
    """An object of the same class with these attributes, made without ``__init__`` and its side effects.

    Frozen classes are written as well.
    """
    kind = type(value)
    try:
        same = object.__new__(kind)
    except TypeError:  # a class built on one that is not Python's
        same = copy.copy(value)
    members = {member.__name__: member for member, _ in slots(value)}  # not setattr(): a property may hide a slot
    for name, attribute in attributes.items():
        if name in members:
            members[name].__set__(same, attribute)
        else:
            same.__dict__[name] = attribute  # not setattr(), which would run a property of that name
    return same


def slots(item: object) -> Iterator[tuple[MemberDescriptorType, Any]]:
    """Descriptors of the slots that are filled, those of base classes first, and their values."""
    for base in type(item).__mro__[::-1]:
        if "__slots__" in vars(base):
            for member in vars(base).values():
                if type(member) is MemberDescriptorType:
                    try:
                        yield member, member.__get__(item)
                    except AttributeError:  # not filled
                        continue
