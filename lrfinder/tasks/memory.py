"""Memory: how much there is and is used, and too little of it explained, before it is used where that is possible."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from lrfinder.errors import BatchError, SetupError

__all__ = ["check_batch_memory", "memory_errors_explained", "peak_memory", "usable_memory", "used_memory"]

_REMEDY = "Lower `batch_size` (and raise `accumulation_steps`) or `image_size`."
_PIXEL = 3 * 4  # bytes: three colours in float32

# What torch says on the CPU and on MPS, and what CUDA's libraries say, where no class of errors stands for it.
_NO_MEMORY = re.compile(
    r"DefaultCPUAllocator|can't allocate memory|Cannot allocate memory|not enough memory|out of memory"
    r"|ALLOC_FAILED|Storage size calculation overflowed",
    re.IGNORECASE,
)
_NO_WORKER = re.compile(r"DataLoader worker \(pid.*(?:exited unexpectedly|killed by signal)|insufficient shared memory")

_STATUS, _SYSTEM = Path("/proc/self/status"), Path("/proc/meminfo")
_CONTAINERS = (  # limit, use and what of that can be freed at once, of cgroups of version 2 and 1
    ("/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


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


def used_memory(device: torch.device) -> int:
    """Bytes that this process holds now: on a GPU those of torch's tensors, else of the whole process."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return _kilobytes(_STATUS, "VmRSS") or peak_memory(device) or 0


def peak_memory(device: torch.device) -> int | None:
    """The most bytes that this process has held; None where the system does not tell. As :func:`used_memory`."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if (held := _kilobytes(_STATUS, "VmHWM")) is not None:  # the other number holds that of the starting process too
        return held
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def usable_memory(device: torch.device) -> int | None:
    """Bytes that this process can hold at most: those it holds and those that are free, within a container's limit.

    None where the system does not tell.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    available = _kilobytes(_SYSTEM, "MemAvailable")
    if available is None:
        return _physical_memory()
    free = [available + (_kilobytes(_SYSTEM, "SwapFree") or 0), *_free_in_containers()]
    return used_memory(device) + min(free)


def _free_in_containers() -> Iterator[int]:
    for folder, limit, usage, freeable in _CONTAINERS:
        with suppress(OSError, ValueError):  # not in such a container, or without a limit: "max"
            most, held = (int(Path(folder, name).read_text()) for name in (limit, usage))
            rows = dict(line.split() for line in Path(folder, "memory.stat").read_text().splitlines())
            yield max(0, most - held + int(rows.get(freeable, 0)))


def _kilobytes(path: Path, name: str) -> int | None:
    """Bytes in the line of that name of a file of Linux that describes memory; None where there is none."""
    with suppress(OSError):
        found = re.search(rf"^{name}:\s*(\d+) kB$", path.read_text(), re.MULTILINE)
        return int(found[1]) * 1024 if found else None
    return None


def _physical_memory() -> int | None:
    """Bytes of memory in this machine; None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None
