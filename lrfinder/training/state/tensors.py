"""Facts of single tensors: what kind of memory they have, and the place they are pointed back to."""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

__all__ = ["Place", "ReadOnlyMemory", "inner_tensors", "is_alive", "is_dense", "is_writable"]


class Place:
    """Shape and memory of a dense tensor, to be restored where a training step changes them.

    A step may resize a tensor, exchange its memory (``tensor.data = other``, ``tensor.set_``), or free that memory.

    Args:
        tensor: dense and alive; see :func:`is_dense` and :func:`is_alive`.
    """

    def __init__(self, tensor: Tensor) -> None:
        # A second tensor on the same memory keeps the memory, and its own shape, whatever happens to the first.
        self._alias = tensor.detach()
        self._pointer = tensor.data_ptr()
        self._bytes = tensor.untyped_storage().nbytes()
        extent = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True)) + 1
        needed = (tensor.storage_offset() + extent) * tensor.element_size()
        self.is_freed = tensor.numel() > 0 and self._bytes < needed
        """True for a tensor whose memory had been freed already; it has no contents to copy."""

    def holds(self, tensor: Tensor) -> bool:
        """True while the tensor has the shape and the memory that it had."""
        alias = self._alias
        return (
            tensor.data_ptr() == self._pointer
            and tensor.shape == alias.shape
            and tensor.stride() == alias.stride()
            and tensor.dtype == alias.dtype
            and tensor.untyped_storage().nbytes() == self._bytes
        )

    def restore(self, tensor: Tensor) -> None:
        """Point the tensor to its former memory, in its former shape. The contents are not restored."""
        if self.holds(tensor):
            return
        if is_alive(self._alias):  # the alias may have lost its memory together with the tensor
            storage = self._alias.untyped_storage()
            if storage.nbytes() != self._bytes:
                storage.resize_(self._bytes)
        tensor.data = self._alias
        self._pointer = tensor.data_ptr()


def inner_tensors(tensor: Tensor) -> Iterator[Tensor]:
    """The tensors that a tensor is made of, as a quantised one of codes and scales; of any other the tensor itself.

    Some of these classes cannot be cloned, as those of the states of 8-bit optimizers.
    """
    if not is_traceable_wrapper_subclass(tensor):
        yield tensor
        return
    names, _ = tensor.__tensor_flatten__()
    for name in names:
        yield from inner_tensors(getattr(tensor, name))


def is_dense(tensor: Tensor) -> bool:
    """True for a plain strided tensor; False for sparse, nested, quantised, distributed and other wrapped tensors."""
    plain = type(tensor) in (Tensor, nn.Parameter) and tensor.layout == torch.strided and not tensor.is_nested
    return plain and not (tensor.is_quantized or tensor.is_conj() or tensor.is_neg())


def is_alive(tensor: Tensor) -> bool:
    """True while the tensor has memory; a model compiled with CUDA graphs reuses that of its outputs in each pass."""
    try:
        tensor.data_ptr()
    except RuntimeError:
        return False
    return True


def is_writable(tensor: Tensor, read_only: ReadOnlyMemory) -> bool:
    """False for a tensor that no step can change: an expanded one, or one in read-only memory, as of a memory map."""
    if tensor.layout != torch.strided:
        return True
    # An expanded tensor stores one value for many elements, so torch refuses to write it.
    strides = zip(tensor.shape, tensor.stride(), strict=True)
    if not tensor.is_contiguous() and any(stride == 0 and size > 1 for size, stride in strides):
        return False
    if tensor.device.type != "cpu" or not is_dense(tensor) or not is_alive(tensor):
        return True
    # Memory that torch allocated can be resized and written; only other memory has to be looked up.
    return tensor.untyped_storage().resizable() or tensor.data_ptr() not in read_only


class ReadOnlyMemory:
    """Addresses that this process cannot write; none where the system does not list them, which only Linux does."""

    def __contains__(self, address: int) -> bool:
        index = bisect_right(self._ranges, (address, sys.maxsize)) - 1
        return index >= 0 and address < self._ranges[index][1]

    @cached_property
    def _ranges(self) -> list[tuple[int, int]]:
        ranges = []
        with suppress(OSError):
            for line in Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines():
                span, flags = line.split()[:2]
                if flags[1] != "w":
                    start, end = span.split("-")
                    ranges.append((int(start, 16), int(end, 16)))
        return sorted(ranges)
