"""Memory for the copies of tensors: blocks on a device, in pinned host memory, or mapped from a temporary file."""

from __future__ import annotations

import errno
import logging
import mmap
import os
import shutil
import tempfile
from contextlib import suppress
from typing import IO, Any

import torch
from torch import Tensor

from lrfinder.errors import SetupError

__all__ = ["STORAGES", "block_layout", "block_view", "disk_block", "pin", "roomy_storage", "unpin"]

STORAGES = ("auto", "device", "cpu", "disk")

_ALIGNED = 64  # bytes to which copies are aligned, as their originals are
_AMPLE = 0.25  # part of a device's free memory the copy may take under "auto": the activations of a step need the rest
_WRITTEN_AT_ONCE = 2**24  # bytes
_NO_FALLOCATE = {errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS}  # the file system cannot allocate without writing

_log = logging.getLogger("lrfinder")


def block_layout(tensors: list[Tensor]) -> tuple[list[int], int]:
    """Offset of each tensor in one block that holds them all, aligned to 64 bytes, and the size; all in bytes."""
    starts, size = [], 0
    for tensor in tensors:
        starts.append(size)
        size += -(-tensor.nbytes // _ALIGNED) * _ALIGNED
    return starts, size


def block_view(block: Tensor, start: int, tensor: Tensor) -> Tensor:
    """View into the block, from the byte ``start``, with the dtype, shape and strides of the tensor."""
    view = block[start : start + tensor.nbytes].view(tensor.dtype)
    if tensor.is_contiguous():
        return view.view(tensor.shape)
    # With other strides, copying between devices would need memory for a rearranged tensor.
    return view.as_strided(tensor.shape, torch.empty_like(tensor, device="meta").stride())


def disk_block(size: int) -> Tensor:
    """Block of ``size`` bytes mapped from a temporary file without a name, which is gone however the process ends.

    Raises:
        SetupError: the file cannot be made, or the disk has no room for it.
    """
    try:
        with tempfile.TemporaryFile(prefix="lrfinder-") as file:
            _reserve(file, size)
            return torch.frombuffer(mmap.mmap(file.fileno(), size), dtype=torch.uint8)
    except OSError as error:
        raise SetupError(_refusal(size, error)) from error


def _reserve(file: IO[bytes], size: int) -> None:
    """Give the file its full size on the disk: writing to a map that the disk has no room for kills the process."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file.fileno(), 0, size)
            return
        except OSError as error:
            if error.errno not in _NO_FALLOCATE:
                raise
    zeros = bytes(min(size, _WRITTEN_AT_ONCE))
    for start in range(0, size, _WRITTEN_AT_ONCE):
        file.write(zeros[: size - start])
    file.flush()


def _refusal(size: int, error: OSError) -> str:
    free = ""
    with suppress(OSError):
        folder = tempfile.gettempdir()
        free = f" ({shutil.disk_usage(folder).free / 1e6:.0f} MB are free in {folder})"
    return (
        f"the copy of the training state needs {size / 1e6:.1f} MB of disk{free}: {error.strerror or error}. "
        "Free space there, set TMPDIR to a folder on another disk, or pass snapshot='cpu' or 'device'."
    )


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


def roomy_storage(tensors: list[Tensor]) -> str:
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
