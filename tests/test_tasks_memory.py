"""Memory that runs out: what is found before, and what becomes one sentence."""

from __future__ import annotations

import pytest

from lrfinder.errors import SetupError
from lrfinder.tasks.memory import check_batch_memory, memory_errors_explained


def test_a_batch_larger_than_the_machine_is_refused_and_a_small_one_taken() -> None:
    check_batch_memory(64, 224)
    with pytest.raises(SetupError, match="a batch of 64 images of 1000000x1000000 pixels takes 768,000 GB; .* Lower"):
        check_batch_memory(64, 10**6)


@pytest.mark.parametrize(
    "text",
    [
        "DataLoader worker (pid(s) 12, 13) exited unexpectedly",
        "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are out",
    ],
)
def test_a_killed_worker_is_explained(text: str) -> None:
    with pytest.raises(SetupError, match="(Lower `workers`|memory of cpu)"), memory_errors_explained("cpu"):
        raise RuntimeError(text)


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), ValueError("out of memory"), KeyError("x")], ids=repr)
def test_any_other_error_passes_through(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, memory_errors_explained("cpu"):
        raise error
    assert caught.value is error
