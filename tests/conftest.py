"""Settings of every test: no display, one thread, fixed examples, and GPU checks only where there is a GPU."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

os.environ.setdefault("MPLBACKEND", "Agg")

# A shell that starts a job in the background has it ignore Ctrl-C; Python then has no handler to test.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The models are tiny: more threads only wait for each other, all the more when tests run side by side.
torch.set_num_threads(1)

# The collected tests are a million objects that last as long as the process: no search for garbage visits them.
gc.disable()

# The same examples in every run (the suite is a gate, not a search), and no time limit per example.
settings.register_profile("suite", deadline=None, derandomize=True)
settings.load_profile("suite")


@pytest.fixture(autouse=torch.cuda.is_available())
def the_same_kernels_every_time() -> Iterator[None]:
    """Bit-identical is a promise about us, not about cuDNN's choice of algorithm; nor are its shorter floats ours."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu") is not None:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device; run them all with `pytest -m gpu`"))


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()
