"""Too little memory: found before it is used where that is possible, and explained where it is not."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from lrfinder.errors import BatchError, SetupError

__all__ = ["check_batch_memory", "memory_errors_explained"]

_REMEDY = "Lower `batch_size` (and raise `accumulation_steps`) or `image_size`."
_PIXEL = 3 * 4  # bytes: three colours in float32

# What torch says on the CPU and on MPS, and what CUDA's libraries say, where no class of errors stands for it.
_NO_MEMORY = re.compile(
    r"DefaultCPUAllocator|can't allocate memory|Cannot allocate memory|not enough memory|out of memory"
    r"|ALLOC_FAILED|Storage size calculation overflowed",
    re.IGNORECASE,
)
_NO_WORKER = re.compile(r"DataLoader worker \(pid.*(?:exited unexpectedly|killed by signal)|insufficient shared memory")


def check_batch_memory(batch_size: int, image_size: int) -> None:
    """Check that one batch of images fits into the memory of this machine.

    An allocation that exceeds it need not fail: many systems end the process later, without a message.

    Raises:
        SetupError: it does not.
    """
    needed, there = _PIXEL * batch_size * image_size**2, _physical_memory()
    if there is not None and needed > there:
        raise SetupError(
            f"a batch of {batch_size} images of {image_size}x{image_size} pixels takes {needed / 1e9:,.0f} GB; this "
            f"machine has {there / 1e9:,.0f} GB. {_REMEDY}"
        )


@contextmanager
def memory_errors_explained(device: torch.device | str) -> Iterator[None]:
    """Raise SetupError with what to do where the memory of ``device`` or of a worker process runs out in the block."""
    try:
        yield
    except (MemoryError, RuntimeError, BatchError) as error:
        # An error within a criterion is reported as a batch that does not fit it.
        cause = error.__cause__ if isinstance(error, BatchError) else error
        if not isinstance(cause, (MemoryError, RuntimeError)):
            raise
        text = str(cause)
        if isinstance(cause, (MemoryError, torch.OutOfMemoryError)) or _NO_MEMORY.search(text):
            raise SetupError(f"the memory of {device} is too small for this. {_REMEDY}") from error
        if _NO_WORKER.search(text):
            raise SetupError(
                f"a process that loads images was killed, as happens when memory runs out. Lower `workers`, or "
                f"{_REMEDY[0].lower()}{_REMEDY[1:]}"
            ) from error
        raise


def _physical_memory() -> int | None:
    """Bytes of memory in this machine; None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None
