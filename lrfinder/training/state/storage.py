"""Copies of tensors: where they are kept, and how their contents go back into the originals."""

from __future__ import annotations

import logging
import os
import tempfile
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from lrfinder.errors import SetupError

__all__ = ["STORAGES", "TensorCopies", "block_layout", "is_alive", "is_dense", "pin", "unpin"]

STORAGES = ("auto", "device", "cpu", "disk")

_ALIGNED = 64  # bytes to which copies are aligned, as their originals are
_AMPLE = 0.25  # part of a device's free memory the copy may take under "auto": the activations of a step need the rest

# The dtypes whose tensors torch copies as a list on a GPU; it refuses others, such as the wider unsigned integers.
_COPIED_TOGETHER = frozenset(
    {torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.complex128}
    | {torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool}
)

_log = logging.getLogger("lrfinder")


class TensorCopies:
    """Tensors to keep, each once however many names it has, and their copies.

    Copies of tensors on a GPU, and copies on disk, share one block of memory, so there is one allocation of exactly
    their size. They are written and restored in one call per dtype. Copying to and from a GPU is queued on the stream
    of the training, and the host does not wait. A stream of its own would be wrong: a forward pass may write
    parameters too (``max_norm`` of an embedding, a clamp in a loss function), and the copy has to precede it.
    """

    def __init__(self) -> None:
        self._originals: dict[int, Tensor] = {}
        self._groups: list[tuple[list[Tensor], list[Tensor]]] = []  # originals and copies, by device and dtype
        self._others: list[tuple[Tensor, Tensor]] = []
        self._replaced: dict[int, Tensor] = {}  # by the id of an original whose memory is gone
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._pinned: Tensor | None = None

    def keep(self, tensor: Tensor) -> None:
        """Register a tensor; it is copied by :meth:`take`.

        Raises:
            SetupError: a parameter of a lazy module that was never initialised.
        """
        if torch.nn.parameter.is_lazy(tensor):
            raise SetupError(
                "the model holds a parameter that was never initialised (a lazy module). "
                "Run one batch through the model, and build the optimizer after that."
            )
        self._originals.setdefault(id(tensor), tensor)

    def take(self, storage: str) -> None:
        """Copy every registered tensor to the storage, or to the next one with room: device, CPU, disk."""
        originals = [tensor for tensor in self._originals.values() if _writable(tensor)]
        if not originals:
            return
        dense = [tensor for tensor in originals if is_dense(tensor) and is_alive(tensor)]
        if storage == "auto":
            storage = _roomy_storage(originals)
        with torch.no_grad():
            self._others = [(tensor, tensor.clone()) for tensor in originals if not is_dense(tensor)]
            groups: dict[tuple[torch.device, torch.dtype], tuple[list[Tensor], list[Tensor]]] = {}
            for tensor, copy in zip(dense, self._allocate(dense, storage), strict=True):
                group = groups.setdefault((tensor.device, tensor.dtype), ([], []))
                group[0].append(tensor)
                group[1].append(copy)
            self._groups = list(groups.values())
            for tensors, copies in self._groups:
                _copy_all(copies, tensors)

    def restore(self) -> None:
        """Write the copies back into the originals."""
        for tensors, copies in self._groups:
            if all(map(is_alive, tensors)):
                _copy_all(tensors, copies)
                continue
            for tensor, copy in zip(tensors, copies, strict=True):
                if is_alive(tensor):
                    tensor.copy_(copy, non_blocking=True)
                else:
                    self._replaced[id(tensor)] = copy.to(tensor.device, copy=True)
        for tensor, copy in self._others:
            tensor.copy_(copy)

    def restored(self, tensor: Tensor) -> Tensor:
        """The original itself, or after :meth:`restore` a tensor of the same contents where its memory is gone."""
        return self._replaced.get(id(tensor), tensor)

    def close(self) -> None:
        """Free the copies."""
        # Queued copies still read host memory, and torch protects only the memory that it pinned itself.
        pairs = [(tensors[0], copies[0]) for tensors, copies in self._groups]  # each group is on one device
        for device in {tensor.device for tensor, copy in pairs if tensor.is_cuda and not copy.is_cuda}:
            torch.cuda.current_stream(device).record_event().synchronize()
        if self._pinned is not None:
            unpin(self._pinned)
            self._pinned = None
        self._groups.clear()
        self._others.clear()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

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
            block = self._block(size, device, storage)
            on_gpu = [tensor.device for tensor in tensors if tensor.is_cuda and tensor.nbytes]
            if storage == "cpu" and on_gpu and pin(block, on_gpu[0]):
                self._pinned = block
            memory |= {id(t): _view(block, start, t) for t, start in zip(tensors, starts, strict=True)}
        return [memory[id(tensor)] for tensor in originals]

    def _block(self, size: int, device: torch.device, storage: str) -> Tensor:
        if storage != "disk" or size == 0:
            return torch.empty(size, dtype=torch.uint8, device=device)
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="lrfinder-")
        handle, path = tempfile.mkstemp(dir=self._folder.name)
        os.close(handle)
        return torch.from_file(path, shared=True, size=size, dtype=torch.uint8)


def pin(block: Tensor, device: torch.device) -> bool:
    """Pin host memory for copies to and from the GPU; False, with a log line, where the CUDA runtime refuses.

    The memory is not torch's own pinned memory, which comes in powers of two and is never returned to the system.
    Call :func:`unpin` before it is freed.
    """
    status = _cuda_runtime().cudaHostRegister(block.data_ptr(), block.nbytes, 1)
    if int(status) == 0:
        return True
    _log.info("the snapshot's memory could not be pinned (%s), so the CPU waits for each copy", status)
    # The runtime reports the error once more to its next caller, which would be an unrelated kernel.
    with suppress(RuntimeError):
        torch.ones(1, device=device)
    return False


def unpin(block: Tensor) -> None:
    """Undo :func:`pin`."""
    _cuda_runtime().cudaHostUnregister(block.data_ptr())


def is_dense(tensor: Tensor) -> bool:
    """True for a plain strided tensor; False for sparse, quantised, distributed and other wrapped tensors."""
    plain = type(tensor) in (Tensor, nn.Parameter) and tensor.layout == torch.strided
    return plain and not (tensor.is_quantized or tensor.is_conj() or tensor.is_neg())


def is_alive(tensor: Tensor) -> bool:
    """True while the tensor has memory; a model compiled with CUDA graphs reuses that of its outputs in each pass."""
    try:
        tensor.data_ptr()
    except RuntimeError:
        return False
    return True


def block_layout(tensors: list[Tensor]) -> tuple[list[int], int]:
    """Offset of each tensor in one block that holds them all, aligned to 64 bytes, and the size; all in bytes."""
    starts, size = [], 0
    for tensor in tensors:
        starts.append(size)
        size += -(-tensor.nbytes // _ALIGNED) * _ALIGNED
    return starts, size


def _view(block: Tensor, start: int, tensor: Tensor) -> Tensor:
    """View into the block with the dtype, shape and strides of the tensor."""
    view = block[start : start + tensor.nbytes].view(tensor.dtype)
    if tensor.is_contiguous():
        return view.view(tensor.shape)
    # With other strides, copying between devices would need memory for a rearranged tensor.
    return view.as_strided(tensor.shape, torch.empty_like(tensor, device="meta").stride())


def _writable(tensor: Tensor) -> bool:
    # An expanded tensor stores one value for many elements, so torch refuses to write it and it needs no copy.
    return (
        tensor.layout != torch.strided
        or tensor.is_contiguous()
        or not any(stride == 0 and size > 1 for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    )


def _copy_all(targets: list[Tensor], sources: list[Tensor]) -> None:
    """Copy tensors of one dtype, queued on the GPU's stream where they are on one."""
    if sources[0].dtype in _COPIED_TOGETHER:
        torch._foreach_copy_(targets, sources, non_blocking=True)
        return
    for target, source in zip(targets, sources, strict=True):
        target.copy_(source, non_blocking=True)


def _roomy_storage(tensors: list[Tensor]) -> str:
    """Storage under "auto": the device, unless the copies would take a large part of its free memory."""
    on_device: dict[torch.device, int] = {}
    for tensor in tensors:
        if tensor.is_cuda:
            on_device[tensor.device] = on_device.get(tensor.device, 0) + tensor.nbytes
    for device, needed in on_device.items():
        free, _ = torch.cuda.mem_get_info(device)
        if needed > _AMPLE * free:
            _log.info("the snapshot (%.0f MB) stays on the CPU: %s has %.0f MB free", needed / 1e6, device, free / 1e6)
            return "cpu"
    return "device"


def _cuda_runtime() -> Any:
    return torch.cuda.cudart()  # type: ignore[no-untyped-call]
