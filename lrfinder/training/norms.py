"""Norms over many tensors of any kind (dense, sparse, sharded over ranks), and clipping by them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from lrfinder.training.wrappers import whole

__all__ = ["Clipping", "total_norm"]


def total_norm(tensors: Iterable[Tensor | None]) -> float:
    """Norm of all tensors together, None, integers and float8 (frozen weights) left out; waits for the device.

    Of shards every rank has to ask for it.

    Example:
        >>> import torch
        >>> total_norm([torch.tensor([3.0]), None, torch.tensor([4.0])])
        5.0
    """
    given = [tensor.detach() for tensor in tensors if tensor is not None and _has_norm(tensor)]
    values = [tensor.coalesce().values() if tensor.is_sparse else tensor for tensor in given]
    kinds: dict[object, list[Tensor]] = {}  # torch mixes no shards of several meshes, nor shards and whole tensors
    for value in values:
        kinds.setdefault(getattr(value, "device_mesh", None), []).append(value)
    return math.hypot(*(float(whole(nn.utils.get_total_norm(alike))) for alike in kinds.values()))


def _has_norm(tensor: Tensor) -> bool:
    return tensor.is_complex() or (tensor.is_floating_point() and tensor.element_size() > 1)


class Clipping:
    """Clips the global norm of gradients, keeps the first of these norms, and counts how often that changed them.

    Args:
        largest: norm, > 0; None does not clip.
    """

    def __init__(self, largest: float | None) -> None:
        self._largest = largest
        self._calls = 0
        self._first: Tensor | None = None  # norm; on the device
        self._changed: Tensor | None = None  # how many of them changed the gradients; on the device

    def clip(self, parameters: Sequence[Tensor]) -> None:
        """Clip the gradients of the parameters; the host does not wait."""
        if self._largest is not None:
            norm = whole(nn.utils.clip_grad_norm_(parameters, self._largest))
            # That of scaled gradients that overflowed is no norm of a gradient.
            self._first = norm if self._first is None else self._first.where(self._first.isfinite(), norm)
            changed = norm > self._largest
            self._changed = changed.long() if self._changed is None else self._changed + changed
            self._calls += 1

    @property
    def part(self) -> float | None:
        """Part of the gradients so far that was changed; None without clipping. Waits for the device."""
        return None if self._changed is None else float(self._changed) / self._calls

    @property
    def first_norm(self) -> float | None:
        """Norm of the first gradients before they were clipped; None without clipping. Waits for the device."""
        return None if self._first is None else float(self._first)
