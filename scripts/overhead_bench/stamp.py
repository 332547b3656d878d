"""Where and when something was measured, in one line."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from datetime import date
from importlib import metadata
from pathlib import Path

from overhead_bench.contestants import CONTESTANTS, OURS, installed

__all__ = ["stamp"]


def stamp(device: str, threads: int, packages: Iterable[str] | None = None) -> str:
    """``"2026-01-31; AMD EPYC, 2 cores, torch threads: 1, Linux 6.1; Python 3.11.7; torch 2.9.0, ..."``

    Args:
        device: ``"cpu"`` or ``"cuda"``.
        threads: of torch.
        packages: whose versions are named; None names those of all contestants.
    """
    if packages is None:
        packages = dict.fromkeys(who.package for name, who in CONTESTANTS.items() if name != OURS and installed(name))
    return "; ".join(
        [
            date.today().isoformat(),
            *([_gpu()] if device == "cuda" else []),
            f"{_cpu()}, {os.cpu_count()} cores, torch threads: {threads}, "
            f"{platform.system()} {platform.release().split('-')[0]}",
            f"Python {platform.python_version()}",
            ", ".join(f"{package} {metadata.version(package)}" for package in packages if package != "lrfinder"),
        ]
    )


def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    names = [line for line in cpuinfo.read_text().splitlines() if "model name" in line] if cpuinfo.exists() else []
    return names[0].partition(":")[2].strip() if names else platform.processor() or platform.machine()


def _gpu() -> str:
    import torch

    return f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"
