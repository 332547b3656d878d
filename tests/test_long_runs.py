"""Nothing piles up: hundreds of range tests in one process, and one sweep of 5,000 iterations."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import tempfile
import threading
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lrfinder import LRFinder, StopReason
from lrfinder.errors import LRFinderError

PROC = Path("/proc/self")
needs_proc = pytest.mark.skipif(not PROC.exists(), reason="counts descriptors and memory in /proc")

OPTIONS: list[dict[str, Any]] = [
    {"snapshot": "disk"},
    {"snapshot": "cpu"},
    {"start_lr": 1e-3, "end_lr": 1e20},  # ends in nan
    {"start_lr": None, "end_lr": None, "num_iter": None},
    {"validate": True},
    {"num_iter": 1},  # refused
    {"fails": OSError},
    {"fails": KeyboardInterrupt},
    {"mode": "linear", "early_stop": False},
    {"progress": True},
]
"""The range tests that take turns."""


# Counts and memory during a sweep, in a context variable: a range test restores what its criterion refers to.
samples: ContextVar[list[tuple[dict[str, Any], int]]] = ContextVar("samples")


class Lab:
    """A small training whose criterion may raise in the middle of a sweep."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3, momentum=0.9)
        inputs = torch.randn(24, 4)
        self.loader = DataLoader(TensorDataset(inputs, (inputs[:, 0] > 0).long()), batch_size=8, shuffle=True)
        self.calls = 0
        self.error: type[BaseException] | None = None
        self.finder = LRFinder(self.model, self.optimizer, self.criterion)

    def criterion(self, output: Tensor, target: Tensor) -> Tensor:
        self.calls += 1
        if self.error is not None and self.calls % 5 == 0:
            raise self.error("in the middle")
        return nn.functional.cross_entropy(output, target)

    def range_test(self, fails: Any = None, validate: bool = False, **given: Any) -> Any:
        """A short sweep with those options; None for one that failed, as it should."""
        self.error = fails
        options = {"start_lr": 1e-4, "end_lr": 1e-2, "num_iter": 6, "progress": False, **given}
        options |= {"val_loader": self.loader, "val_batches": 1} if validate else {}
        with contextlib.suppress(OSError, KeyboardInterrupt, LRFinderError):
            return self.finder.range_test(self.loader, **options)
        return None


def counts(lab: Lab) -> dict[str, Any]:
    """All that could pile up in the process and on the objects, but memory."""
    hooks = [name for name in vars(nn.Module()) if name.endswith("_hooks")]
    return {
        "temporary files": len(os.listdir(tempfile.gettempdir())),
        "descriptors": len(os.listdir(PROC / "fd")),
        "threads": (threading.active_count(), len(os.listdir(PROC / "task"))),
        "hooks of modules": [len(vars(module)[name]) for module in lab.model.modules() for name in hooks],
        "hooks of the optimizer": [len(each) for name, each in vars(lab.optimizer).items() if name.endswith("_hooks")],
        "attributes": [sorted(vars(each)) for each in (*lab.model.modules(), lab.optimizer, lab.loader, lab.finder)],
        "hooks of tensors": [len(weight._backward_hooks or ()) for weight in lab.model.parameters()],
        "state of the optimizer": len(lab.optimizer.state),
        "handlers": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "filters of warnings": len(warnings.filters),
        "handlers of logs": len(logging.getLogger("lrfinder").handlers) + len(logging.getLogger().handlers),
    }


def resident() -> int:
    """Bytes of memory that the process holds."""
    return int((PROC / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture(autouse=True)
def own_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps the files of other processes out of the folder of temporary files."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


@needs_proc
def test_nothing_piles_up_in_hundreds_of_range_tests() -> None:
    lab = Lab()
    weights = [weight.detach().clone() for weight in lab.model.parameters()]

    def run(count: int) -> None:
        for number in range(count):
            lab.range_test(**OPTIONS[number % len(OPTIONS)])

    run(30)
    gc.collect()
    before, objects, memory = counts(lab), len(gc.get_objects()), resident()
    run(240)
    gc.collect()
    assert counts(lab) == before
    assert len(gc.get_objects()) - objects < 60
    assert resident() - memory < 8e6
    with traced() as grown:
        run(30)
    assert grown() < 30e3
    assert all(map(torch.equal, lab.model.parameters(), weights))


@contextlib.contextmanager
def traced() -> Iterator[Callable[[], int]]:
    """Context with the growth of Python's own memory so far, in bytes."""
    tracemalloc.start()
    gc.collect()
    start = tracemalloc.get_traced_memory()[0]

    def grown() -> int:
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - start

    try:
        yield grown
    finally:
        tracemalloc.stop()


@needs_proc
def test_nothing_piles_up_in_a_sweep_of_5_000_iterations() -> None:
    lab = Lab()
    taken: list[tuple[dict[str, Any], int]] = []
    samples.set(taken)
    plain = lab.criterion

    def criterion(output: Tensor, target: Tensor) -> Tensor:
        if lab.calls % 500 == 499:
            samples.get().append((counts(lab), resident()))
        return plain(output, target)

    finder = LRFinder(lab.model, lab.optimizer, criterion)
    options = {"start_lr": 1e-8, "end_lr": 1e-6, "num_iter": 5_000, "early_stop": False}
    result = finder.range_test(list(lab.loader), **options, snapshot="disk", progress=False)
    assert len(result.curve) == 5_000 and result.curve.stop is StopReason.COMPLETED
    assert len(taken) == 10
    assert all(found == taken[0][0] for found, _ in taken)
    assert taken[-1][1] - taken[0][1] < 8e6
