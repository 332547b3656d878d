"""What is in a batch of any kind: moved to a device, measured and described."""

from __future__ import annotations

import copy
import itertools
import math
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor

from lrfinder.training.records import LEAVES, attributes_of, with_attributes

__all__ = ["batch_size", "describe_batch", "move", "same_target", "size_in_bytes", "target_count", "tensors_in"]

_OF_GRAPHS = ("train_mask", "edge_label", "num_graphs", "batch_size")  # the last: nodes with sampled neighbours


def move(
    batch: Any,
    device: torch.device,
    *,
    carry: Callable[[Tensor], Tensor] | None = None,
    inside: frozenset[int] = frozenset(),
) -> Any:
    """The batch with every tensor in it on the device; containers and objects keep their type.

    Looks into lists, tuples, mappings and deques, and into the attributes of dataclasses, attrs classes and plain
    objects. Those are copied without a call of ``__init__``; an object in which nothing moves is returned as it is. An
    object with a ``to`` method is moved by that.

    Args:
        batch: anything.
        device: target device.
        carry: returns the tensor on the device for one that is elsewhere; the default is a non-blocking ``tensor.to``.
        inside: ids of the objects that this one is an attribute of, for objects that refer to each other.
    """
    if isinstance(batch, Tensor):
        if batch.device == device:
            return batch
        return batch.to(device, non_blocking=True) if carry is None else carry(batch)
    if type(batch) in (list, tuple):  # the usual batches first
        return type(batch)([move(value, device, carry=carry, inside=inside) for value in batch])
    if isinstance(batch, LEAVES):
        return batch
    if callable(getattr(batch, "to", None)):
        return _moved_by_itself(batch, device)
    if isinstance(batch, (Mapping, list, tuple, deque)):
        return _rebuilt(batch, lambda value: move(value, device, carry=carry, inside=inside))
    if id(batch) in inside:
        return batch
    inside |= {id(batch)}
    attributes = attributes_of(batch)
    moved = {name: move(value, device, carry=carry, inside=inside) for name, value in attributes.items()}
    return batch if _is_unchanged(attributes, moved) else with_attributes(batch, moved)


def _is_unchanged(value: Any, moved: Any) -> bool:
    """Whether nothing in the containers has moved, though they may have been rebuilt."""
    if isinstance(value, Mapping):
        return all(_is_unchanged(value[key], moved[key]) for key in value)
    if isinstance(value, (list, tuple, deque)):
        return all(map(_is_unchanged, value, moved))
    return value is moved


def _moved_by_itself(batch: Any, device: torch.device) -> Any:
    try:
        moved = batch.to(device, non_blocking=True)
    except TypeError:  # objects with a plain .to(device), as tokenizers return
        moved = batch.to(device)
    return batch if moved is None else moved  # some move in place


def _rebuilt(batch: Any, function: Callable[[Any], Any]) -> Any:
    """A container of the same type with the function applied to its items."""
    if isinstance(batch, Mapping):
        items = {key: function(value) for key, value in batch.items()}
        if not isinstance(batch, MutableMapping):
            return type(batch)(items)  # type: ignore[call-arg]
        same = copy.copy(batch)  # keeps what a constructor would not: the default of a defaultdict
        for key, value in items.items():  # some refuse update()
            same[key] = value
        return same
    if isinstance(batch, (list, deque)):
        again = copy.copy(batch)
        for index, value in enumerate(batch):
            again[index] = function(value)
        return again
    if hasattr(batch, "_make"):  # a named tuple, whose own constructor may take something else
        return batch._make(map(function, batch))
    return type(batch)([function(value) for value in batch])


def describe_batch(batch: Any) -> str:
    """Short description of a batch for an error message."""
    if isinstance(batch, Tensor):
        dtype = str(batch.dtype).removeprefix("torch.")
        return f"{_with_article(dtype)} tensor of shape {tuple(batch.shape)}"
    kind = _with_article(type(batch).__name__)
    if isinstance(batch, Mapping):
        return f"{kind} with keys {', '.join(map(repr, list(batch)[:6]))}"
    if isinstance(batch, (list, tuple)):
        return f"{kind} of {len(batch)}: {', '.join(type(item).__name__ for item in batch[:6])}"
    return kind


def _with_article(name: str) -> str:
    return f"{'an' if name[0] in 'aeioAEIO' else 'a'} {name}"


def batch_size(batch: Any) -> int | None:
    """Number of samples: the length of the first tensor that has one, else of an array or of a list of text or numbers.

    Of lists that hold an item for each sample, as the images of a detection model or the graphs of a network for
    crystals, the length of the list; of graphs of torch_geometric, what has a target; of inputs whose second dimension
    is that of the samples, as recurrent networks take them, the number of targets. None where it is unknown.
    """
    parts = _parts(batch)
    if told := next(filter(None, map(_told_by_graphs, (batch, *parts))), 0) or _listed(batch, parts):
        return told
    inputs, labels = (*parts, None, None)[:2]
    if _is_array(inputs) and inputs.ndim > 1 and _is_classes(labels) and labels.shape == inputs.shape[1:2]:
        return len(labels)
    sizes = itertools.chain((tensor.size(0) for tensor in tensors_in(batch) if tensor.ndim), _untensored(batch, parts))
    return next(sizes, None)


def _told_by_graphs(part: Any) -> int:
    """Graphs, nodes or edges with a target, by the names that torch_geometric gives them; 0 where it tells none."""
    mask, edges, graphs, seeds = (getattr(part, name, None) for name in _OF_GRAPHS)
    nodes = int(mask.sum()) if _is_array(mask) and mask.ndim == 1 else 0
    told = [len(edges) if _is_array(edges) else 0, *([nodes, graphs] if type(graphs) is int else [seeds, nodes])]
    return next((number for number in told if type(number) is int and number), 0)


def _untensored(batch: Any, parts: Sequence[Any]) -> Iterator[int]:
    """Lengths of NumPy's arrays, then of lists of text or numbers, as of sentences that the loss function tokenizes."""
    yield from (len(each) for each in (batch, *parts) if isinstance(each, np.ndarray) and each.ndim)
    lists = (each for each in (batch, *parts) if isinstance(each, (list, tuple)))
    yield from (len(each) for each in lists if each and all(isinstance(item, (str, int, float)) for item in each))


def _parts(batch: Any) -> Sequence[Any]:
    if isinstance(batch, Mapping):
        return list(batch.values())
    return batch if isinstance(batch, (list, tuple)) else ()


def _listed(batch: Any, parts: Sequence[Any]) -> int:
    """Length of lists with an item for each sample, which are as long as another part, or all of it; 0 without any.

    Their items are objects of one type, or tensors that differ in length, unlike the several inputs of a model.
    """
    if isinstance(batch, list) and len(batch) > 1 and all(map(_is_sample, batch)):
        return len(batch)
    differ = len({tensor.size(0) if tensor.ndim else 0 for tensor in tensors_in(batch)}) > 1
    inner = itertools.chain.from_iterable(each.values() for each in parts if isinstance(each, Mapping))
    sized = (each for each in (*parts, *inner) if isinstance(each, (list, tuple)) or _is_array(each))
    lengths = Counter(map(len, sized))
    lists = [each for each in parts if isinstance(each, (list, tuple)) and each and lengths[len(each)] > 1]
    for items in [*lists, *([batch] if differ and isinstance(batch, list) else [])]:
        if len({type(item) for item in items}) == 1 and not isinstance(items[0], (Tensor, *LEAVES)):
            return len(items)
    return next((len(items) for items in lists if differ and all(map(_is_array, items))), 0)


def _is_sample(value: Any) -> bool:
    """Whether it has parts of which one is a single number or text, as a sample that was not collated."""
    parts = _parts(value) if isinstance(value, (Mapping, tuple)) else ()
    return any(isinstance(each, (str, int, float)) or (isinstance(each, Tensor) and not each.ndim) for each in parts)


def _is_array(value: Any) -> TypeGuard[Tensor]:
    return isinstance(value, Tensor) and value.ndim > 0 and not value.is_nested  # a nested one has no shape


def _is_classes(value: Any) -> TypeGuard[Tensor]:
    return _is_array(value) and not value.is_floating_point()


def target_count(batch: Any) -> int | None:
    """Whole numbers in the targets of a batch of which each sample has several; None where it has one, or none is seen.

    Targets are the second of two or more parts, masks beside tokens left out, or entry ``labels``, if it is a tensor
    of integers. Those of a sequence may be joined, one after the other, to one dimension.
    """
    inputs, labels = _inputs_and_targets(batch)
    if not _is_classes(labels):
        return None
    joined = _is_array(inputs) and len(inputs) < len(labels) == math.prod(inputs.shape[:2])
    return labels.numel() if joined or labels.numel() > len(labels) else None


def same_target(batch: Any) -> bool:
    """Whether at least 8 samples, each with one number as its target, all have the same; False where it is unknown.

    Fewer have it too often by chance; 8 samples of two classes that are shuffled have it in one of 128 batches.
    """
    _, targets = _inputs_and_targets(batch)
    if not _is_array(targets) or not 8 <= targets.numel() == len(targets):
        return False
    return _can_be_compared(targets) and bool((targets == targets[0]).all())


def _is_mask(value: Any, tokens: Any) -> bool:
    """Whether it is the attention mask or the token types beside tokens: 0 and 1, in three runs a row at most."""
    if not (_is_classes(tokens) and _is_classes(value)) or tokens.shape != value.shape or value.ndim != 2:
        return False
    if value.device.type != "cpu":
        return False  # to look would make the host wait for a GPU
    if not _can_be_compared(value) or not bool(((value == 0) | (value == 1)).all()):
        return False
    return bool(((value[:, 1:] != value[:, :-1]).sum(1) <= 2).all())


def _can_be_compared(tensor: Tensor) -> bool:
    return type(tensor) is Tensor and tensor.layout == torch.strided and not tensor.is_meta


def _inputs_and_targets(batch: Any) -> tuple[Any, Any]:
    """The first two parts of a batch, masks left out, or its entry ``labels``; None in place of what there is not."""
    if isinstance(batch, (list, tuple)) and len(batch) > 1:
        inputs, *others = batch
        while len(others) > 1 and _is_mask(others[0], inputs):
            del others[0]
        return inputs, others[0]
    return None, batch.get("labels") if isinstance(batch, Mapping) else None


def size_in_bytes(tensor: Tensor) -> int:
    """Bytes of its elements; of a sparse one those of its indices and values, as torch defines none."""
    is_sparse = tensor.layout == torch.sparse_coo
    return tensor._indices().nbytes + tensor._values().nbytes if is_sparse else tensor.nbytes


def tensors_in(batch: Any, inside: frozenset[int] = frozenset()) -> Iterator[Tensor]:
    """Tensors in what :func:`move` looks into, at any depth, in order."""
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, (Mapping, list, tuple, deque)):
        for value in batch.values() if isinstance(batch, Mapping) else batch:
            yield from tensors_in(value, inside)
    elif not isinstance(batch, LEAVES) and id(batch) not in inside:
        for value in attributes_of(batch).values():
            yield from tensors_in(value, inside | {id(batch)})
