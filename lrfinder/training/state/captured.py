"""What one object consists of, captured so that it goes back into the very same object: :func:`captured`."""

from __future__ import annotations

import array
import copy
import types
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from lrfinder.training.records import slots
from lrfinder.training.state.containers import PLAIN, Renewed, captured_container, captured_entries
from lrfinder.training.state.objects import (
    CONTAINERS,
    REGISTRIES,
    attributes,
    cells,
    is_optimizer,
    is_wrapper,
    named_globals,
    optimizer_parts,
)
from lrfinder.training.state.randomness import capture_generator

__all__ = ["captured", "captured_state_dict"]

# Attributes that torch puts on tensors and modules to recognise them in compiled code: without them it compiles again.
_COMPILER = "_dynamo"

_TENSOR_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")

_MISSING = object()

Restorer = Callable[[], Any]


def captured(
    item: Any,
    *,
    most: int,
    renewed: Renewed = lambda value: value,
    logs: bool = False,
    trimmed: bool = False,
    whole: bool = True,
) -> list[Restorer]:
    """Restorers of what one object refers to, and of a generator's state; empty for one that cannot change.

    Only the references are captured: what they lead to is captured on its own, and so are the contents of tensors and
    NumPy arrays. Restoring writes where something changed, and nowhere else.

    Args:
        item: any object.
        most: containers of more entries are left out.
        renewed: returns the object that stands for a captured tensor, where that has to be replaced.
        logs: a list or set that has only gained numbers and text is a log, and keeps them.
        trimmed: of a list or dict that is left out, what it has gained at its end is removed.
        whole: of modules, the ``training`` flag too, and of torch's wrappers of modules their own books, which have to
            move on with a training.
    """
    kind = type(item)
    if (generator := capture_generator(item)) is not None:
        return [generator]
    if issubclass(kind, type):
        return [_captured_class(item)]
    if issubclass(kind, nn.Module):
        return _captured_module(item, renewed, whole)
    if issubclass(kind, Tensor):  # slots of distributed ones are left to torch
        return [_captured_flags(item), _captured_attributes(item, renewed)]
    restorers: list[Restorer] = []
    if kind is types.FunctionType:
        restorers += _captured_variables(item, renewed)
    elif issubclass(kind, (*CONTAINERS, array.array, bytearray)):
        restorers += captured_entries(item, most, renewed, logs, trimmed)
    elif is_optimizer(item):
        restorers += [captured_container(part, renewed) for part in optimizer_parts(item)]
    if kind not in CONTAINERS and kind is not types.MethodType:
        restorers.append(_captured_attributes(item, renewed))
    if filled := list(slots(item)):
        restorers.append(partial(_refill_slots, item, filled, renewed))
    return restorers


# Restorers are functions with their arguments rather than closures: a large model has ten thousand of them, and with
# closures, which are several objects each, Python's garbage collector takes as long as all the rest.


def _captured_flags(tensor: Tensor) -> Restorer:
    """Restorer of what a tensor has beside contents and attributes: its hooks, and whether it needs a gradient."""
    hooks = {name: dict(held) for name in _TENSOR_HOOKS if (held := getattr(tensor, name, None))}
    return partial(_restore_flags, tensor, tensor.requires_grad, tensor.is_leaf, hooks)


def _restore_flags(tensor: Tensor, needs_grad: bool, leaf: bool, hooks: dict[str, dict[Any, Any]]) -> None:
    if tensor.requires_grad != needs_grad or tensor.is_leaf != leaf:
        if leaf and not tensor.is_leaf:
            _take_out_of_graph(tensor)
        if tensor.is_leaf:
            tensor.requires_grad_(needs_grad)
    for name in _TENSOR_HOOKS:
        saved, present = hooks.get(name, {}), cast(Any, getattr(tensor, name, None))
        if present or saved:
            present.clear()
            present.update(saved)


def _take_out_of_graph(tensor: Tensor) -> None:
    base: Any = tensor._base if tensor._is_view() else tensor
    if not base.is_leaf:
        base.detach_()
    if base is not tensor:  # torch refuses to detach a view in place
        with torch.enable_grad():  # else torch refuses to write the view where gradients are recorded
            again = base.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())
        torch.utils.swap_tensors(tensor, again)  # type: ignore[no-untyped-call]


def _captured_module(module: nn.Module, renewed: Renewed, whole: bool) -> list[Restorer]:
    kind, own = type(module), attributes(module)
    apart = is_wrapper(kind) and not whole
    held = [own.get(name) for name in (("_parameters", "_buffers") if apart else REGISTRIES)]
    registries = [each for each in held if issubclass(type(each), (dict, set))]
    empty = [each for each in registries if not each]  # as most are: hooks, above all
    filled = [captured_container(each, renewed) for each in registries if each]
    restorers: list[Restorer] = [partial(_clear, empty), *filled]
    if apart:
        return restorers
    restorers.append(partial(_restore_class, module, kind))
    return [*restorers, _captured_attributes(module, renewed, frozenset() if whole else frozenset({"training"}))]


def _clear(registries: list[Any]) -> None:
    for each in registries:
        if each:
            each.clear()


def _restore_class(module: nn.Module, kind: type) -> None:
    if type(module) is not kind:  # a parametrisation gives a module a class of its own
        module.__class__ = kind


def _captured_attributes(item: Any, renewed: Renewed, skipped: frozenset[str] = frozenset()) -> Restorer:
    saved = {name: value for name, value in attributes(item).items() if _is_kept(name, skipped)}
    return partial(_restore_attributes, item, saved, renewed, skipped)


def _restore_attributes(item: Any, saved: dict[str, Any], renewed: Renewed, skipped: frozenset[str]) -> None:
    present = attributes(item)
    if len(present) != len(saved) or present.keys() != saved.keys():
        for name in [name for name in present if name not in saved and _is_kept(name, skipped)]:
            del present[name]
    for name, value in saved.items():
        again = renewed(value)
        if present.get(name, _MISSING) is not again:
            present[name] = again


def _is_kept(name: str, skipped: frozenset[str]) -> bool:
    return name not in skipped and not name.startswith(_COMPILER)


def _refill_slots(item: object, filled: list[tuple[Any, Any]], renewed: Renewed) -> None:
    for member, value in filled:
        member.__set__(item, renewed(value))
    known = {id(member) for member, _ in filled}
    for member, _ in list(slots(item)):
        if id(member) not in known:
            member.__delete__(item)


def _captured_variables(function: types.FunctionType, renewed: Renewed) -> list[Restorer]:
    """Restorers of the variables that a function shares with others: those around it, and globals that it names."""
    shared, values = list(cells(function)), named_globals(function)

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


def _captured_class(kind: type) -> Restorer:
    before = set(vars(kind))
    saved = {name: value for name, value in vars(kind).items() if type(value) in PLAIN and not name.startswith("__")}

    def restore() -> None:
        # A subclass that counts with type(self).n += 1 gets an attribute beside that of its base class.
        for name in [name for name, value in vars(kind).items() if type(value) in PLAIN and name not in before]:
            type.__delattr__(kind, name)
        for name, value in saved.items():
            if vars(kind).get(name) is not value:
                type.__setattr__(kind, name, value)

    return restore


def captured_state_dict(item: Any) -> Restorer:
    """Restorer of an object by its own methods, for state that nothing else reaches."""
    saved = copy.deepcopy(item.state_dict())
    return lambda: item.load_state_dict(copy.deepcopy(saved))
