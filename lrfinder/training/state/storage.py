"""Copies of tensors: where they are kept, and how their contents go back into the originals."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lrfinder.training.state.memory import block_layout, block_view, disk_block, pin, roomy_storage, unpin
from lrfinder.training.state.tensors import Place, ReadOnlyMemory, inner_tensors, is_alive, is_dense, is_writable

__all__ = ["TensorCopies"]

# The dtypes whose tensors torch copies as a list on a GPU; it refuses others, such as the wider unsigned integers.
_COPIED_TOGETHER = frozenset(
    {torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.complex128}
    | {torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool}
)

_log = logging.getLogger("lrfinder")


@dataclass(frozen=True, kw_only=True)
class _Group:
    """Dense tensors of one device and dtype; item i of each list belongs to tensor i."""

    inference: bool  # made under inference_mode: torch refuses to write them outside it
    originals: list[Tensor] = field(default_factory=list)
    copies: list[Tensor] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)

    def copy_all(self, targets: list[Tensor], sources: list[Tensor]) -> None:
        """Copy tensors, queued on the GPU's stream where they are on one."""
        with torch.inference_mode() if self.inference else contextlib.nullcontext():
            if sources[0].dtype in _COPIED_TOGETHER:
                torch._foreach_copy_(targets, sources, non_blocking=True)
                return
            for target, source in zip(targets, sources, strict=True):
                target.copy_(source, non_blocking=True)


class TensorCopies:
    """Tensors to keep, each once however many names it has, and their copies.

    Copies of tensors on a GPU, and copies on disk, share one block of memory, so there is one allocation of exactly
    their size. They are written and restored in one call per dtype. Copying to and from a GPU is queued on the stream
    of the training, and the host does not wait. A stream of its own would be wrong: a forward pass may write
    parameters too (``max_norm`` of an embedding, a clamp in a loss function), and the copy has to precede it.
    """

    def __init__(self) -> None:
        self._originals: dict[int, Tensor] = {}
        self._leaves: dict[int, Tensor] = {}
        self._groups: list[_Group] = []
        self._others: list[tuple[Tensor, Tensor]] = []
        self._freed: list[tuple[Tensor, Place]] = []  # their memory was freed before
        self._replaced: dict[int, Tensor] = {}  # by the id of an original that cannot be written any more
        self._pinned: Tensor | None = None

    def keep(self, tensor: Tensor) -> None:
        """Register a tensor; it is copied by :meth:`take`."""
        if isinstance(tensor, nn.Parameter) or (tensor.requires_grad and tensor.is_leaf):
            self._leaves[id(tensor)] = tensor
        # Of a tensor sharded over ranks, this rank's part. to_local() may return a view of it, new with each call.
        for part in inner_tensors(getattr(tensor, "_local_tensor", tensor)):
            self._originals.setdefault(id(part), part)

    @property
    def leaves(self) -> list[Tensor]:
        """The registered tensors that a backward pass gives a gradient: parameters, and others that require one."""
        return list(self._leaves.values())

    def take(self, storage: str) -> None:
        """Copy every registered tensor to the storage, or to the next one with room: device, CPU, disk.

        Raises:
            SetupError: the disk has no room either.
        """
        read_only = ReadOnlyMemory()
        originals = [tensor for tensor in self._originals.values() if is_writable(tensor, read_only)]
        if not originals:
            return
        if storage == "auto":
            storage = roomy_storage(originals)
        with torch.no_grad():
            self._others = [(tensor, tensor.clone()) for tensor in originals if not is_dense(tensor)]
            placed = [(tensor, Place(tensor)) for tensor in originals if is_dense(tensor) and is_alive(tensor)]
            self._freed = [(tensor, place) for tensor, place in placed if place.is_freed]
            dense = [(tensor, place) for tensor, place in placed if not place.is_freed]
            copies = self._allocate([tensor for tensor, _ in dense], storage)
            groups: dict[tuple[torch.device, torch.dtype, bool], _Group] = {}
            for (tensor, place), copy in zip(dense, copies, strict=True):
                inference = tensor.is_inference()
                group = groups.setdefault((tensor.device, tensor.dtype, inference), _Group(inference=inference))
                group.originals.append(tensor)
                group.copies.append(copy)
                group.places.append(place)
            for group in groups.values():
                group.copy_all(group.copies, group.originals)
            self._groups = list(groups.values())

    def restore(self, failures: list[str]) -> None:
        """Give every original its shape, its memory and its contents back, each on its own; call under ``no_grad``.

        Args:
            failures: receives a description of each tensor that could not be restored.
        """
        for tensor, place in self._freed:
            with contextlib.suppress(RuntimeError):
                place.restore(tensor)
        for group in self._groups:
            try:
                for tensor, place in zip(group.originals, group.places, strict=True):
                    place.restore(tensor)
                group.copy_all(group.originals, group.copies)
            except Exception:  # whatever it is, the other tensors are restored
                self._restore_singly(group, failures)
        for tensor, copy in self._others:
            try:
                if tensor.shape != copy.shape:
                    raise RuntimeError("its shape has changed")
                tensor.copy_(copy)
            except Exception as error:
                self._replace(tensor, copy, error, failures)

    def restored(self, item: Any) -> Any:
        """The object itself, or after :meth:`restore` an equal tensor, where it is one that could not be written."""
        return self._replaced.get(id(item), item)

    def close(self) -> None:
        """Free the copies."""
        # Queued copies still read host memory, and torch protects only the memory that it pinned itself.
        pairs = [(group.originals[0], group.copies[0]) for group in self._groups]  # each group is on one device
        for device in {tensor.device for tensor, copy in pairs if tensor.is_cuda and not copy.is_cuda}:
            torch.cuda.current_stream(device).record_event().synchronize()
        if self._pinned is not None:
            unpin(self._pinned)
            self._pinned = None
        for kept in (self._groups, self._others, self._freed):
            kept.clear()

    def _restore_singly(self, group: _Group, failures: list[str]) -> None:
        for tensor, copy, place in zip(group.originals, group.copies, group.places, strict=True):
            try:
                place.restore(tensor)
                group.copy_all([tensor], [copy])
            except Exception as error:
                self._replace(tensor, copy, error, failures)

    def _replace(self, tensor: Tensor, copy: Tensor, error: Exception, failures: list[str]) -> None:
        """Have the owner of a tensor that cannot be written hold an equal one."""
        try:
            equal = copy.to(tensor.device, copy=True)
        except Exception as second:
            failures.append(f"{_described(copy)}: {second}")
            return
        if isinstance(tensor, nn.Parameter):
            equal = nn.Parameter(equal, requires_grad=tensor.requires_grad)
            failures.append(f"{_described(copy)}, a parameter, is another object with the same values: {error}")
        self._replaced[id(tensor)] = equal

    def _allocate(self, originals: list[Tensor], storage: str) -> list[Tensor]:
        try:
            return self._memory_for(originals, storage)
        except (MemoryError, RuntimeError) as error:
            if storage == "disk":
                raise
            following = {"device": "cpu", "cpu": "disk"}[storage]
            _log.warning("no room for the snapshot on the %s (%s): trying %s", storage, error, following)
        return self._allocate(originals, following)

    def _memory_for(self, originals: list[Tensor], storage: str) -> list[Tensor]:
        memory: dict[int, Tensor] = {}
        blocks: dict[torch.device, list[Tensor]] = {}
        for tensor in originals:
            if storage != "disk" and tensor.device.type == "cpu":
                # The allocator reuses memory freed by earlier passes; a large block would be new, page by page.
                memory[id(tensor)] = torch.empty_like(tensor)
            else:
                blocks.setdefault(tensor.device if storage == "device" else torch.device("cpu"), []).append(tensor)
        for device, tensors in blocks.items():
            starts, size = block_layout(tensors)
            on_disk = storage == "disk" and size > 0
            block = disk_block(size) if on_disk else torch.empty(size, dtype=torch.uint8, device=device)
            on_gpu = [tensor.device for tensor in tensors if tensor.is_cuda and tensor.nbytes]
            if storage == "cpu" and on_gpu and pin(block, on_gpu[0]):
                self._pinned = block
            memory |= {id(t): block_view(block, start, t) for t, start in zip(tensors, starts, strict=True)}
        return [memory[id(tensor)] for tensor in originals]


def _described(tensor: Tensor) -> str:
    return f"a tensor of shape {tuple(tensor.shape)} and type {tensor.dtype}"
