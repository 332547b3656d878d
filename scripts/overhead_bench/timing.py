"""The ratio: whole calls of all contestants, in turns, in one process, each against the bare loops of its round."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import platform
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence

import click
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from overhead_bench.cases import Case, Task, build_task
from overhead_bench.contestants import AGAIN, BARE, CONTESTANTS, DEFAULT, OURS, Unable, silenced
from overhead_bench.turns import in_turns

__all__ = ["CLOCKS", "check", "race", "synchronise", "timed", "warm_up"]

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def synchronise(device: torch.device) -> None:
    """A GPU is asked, not watched: without this the clock would stop when the last step was queued."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def steady_memory() -> None:
    """Let glibc keep what is given back, for everybody alike.

    Otherwise it returns the free end of its heap to the kernel and takes it again, or does not, as the heap happens to
    lie: from one process to the next the same bare loop on ResNet-18 has 18 page faults a step or 4,600, and is up to a
    tenth slower with them.
    """
    if platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-3, 2**25)  # M_MMAP_THRESHOLD, at its highest: the next line would freeze it at its lowest
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
        mallopt(-8, 1)  # M_ARENA_MAX: calls in threads share the heap that a loop in the main thread has


def warm_up(task: Task) -> None:
    """One forward and backward pass without an update.

    Between contestants the allocator of a GPU gives its memory back, so that nobody finds the room for a copy ready
    that the one before made; the room for a training step is what a loop always has.
    """
    if task.device.type == "cuda":
        torch.cuda.empty_cache()
    task.model.train()
    with torch.autocast(task.device.type, dtype=task.case.amp, enabled=task.case.amp is not None):
        loss = task.criterion(task.model(task.first[0]), task.first[1])
    loss.backward()
    task.optimizer.zero_grad()
    synchronise(task.device)


def check(name: str, case: Case, device: torch.device, steps: int) -> None:
    """One run off the clock, which also warms up: exactly ``steps`` updates, and afterwards the weights of before.

    Raises:
        Unable: it does neither, or cannot do it at all.
    """
    updates = 0

    def count(*_: object) -> None:
        nonlocal updates
        updates += 1

    with tempfile.TemporaryDirectory() as folder:
        task = build_task(case, device, steps, folder)
        call = CONTESTANTS[name].prepare(task)
        warm_up(task)
        before = {key: value.detach().cpu().clone() for key, value in task.model.state_dict().items()}
        handle = register_optimizer_step_post_hook(count)
        try:
            with silenced():
                call()
        except Exception as error:
            # Whatever it is, the others are still to be timed.
            raise Unable(f"{type(error).__name__}: {error}".partition("\n")[0][:160]) from error
        finally:
            handle.remove()
    if updates != steps and name != DEFAULT:
        raise Unable(f"it made {updates} updates instead of {steps}")
    # On the CPU, as Lightning leaves the model there.
    restored = all(torch.equal(value.cpu(), before[key]) for key, value in task.model.state_dict().items())
    if restored == (name in (BARE, AGAIN)):
        raise Unable(f"it left the weights {'as they were' if restored else 'changed'}")


@contextlib.contextmanager
def collected() -> Iterator[None]:
    """Context in which the garbage collector neither finds what others left behind nor goes through what is theirs."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def timed(name: str, case: Case, device: torch.device, steps: int, clock: Callable[[], float]) -> float:
    """Seconds of one whole call."""
    with tempfile.TemporaryDirectory() as folder:
        task = build_task(case, device, steps, folder)
        call = CONTESTANTS[name].prepare(task)
        gc.collect()  # what the one before left behind is not this one's bill
        warm_up(task)
        with silenced():
            begin = clock()
            call()
            synchronise(device)
            return clock() - begin


def timed_in_turns(
    names: Sequence[str], case: Case, device: torch.device, steps: int, clock: Callable[[], float], lot: random.Random
) -> dict[str, float]:
    """Seconds of one whole call of each, all of them under way at once."""
    calls = {}
    with contextlib.ExitStack() as stack:
        for name in names:
            task = build_task(case, device, steps, stack.enter_context(tempfile.TemporaryDirectory()))
            calls[name] = CONTESTANTS[name].prepare(task)
            warm_up(task)
        with silenced(), collected():
            return in_turns(calls, clock, lot)


def race(
    case: Case, names: Sequence[str], device: torch.device, *, rounds: int, steps: int, clock: Callable[[], float]
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Seconds of each contestant in each round, and why some have none.

    Raises:
        Unable: the bare loop or our own finder has none.
    """
    steady_memory()
    unable = {}
    for name in names:
        try:
            check(name, case, device, steps)
        except Unable as error:
            if name in (BARE, AGAIN, OURS):  # without these there is nothing to compare
                raise Unable(f"{name}: {error}") from error
            unable[name] = str(error)
            click.echo(f"  {name} is left out: {error}", err=True)
    able = [name for name in names if name not in unable]
    seconds: dict[str, list[float]] = {name: [] for name in able}
    by_update = case.changes_over_after(device) == "update"
    with contextlib.nullcontext() if by_update else collected():
        for turn in range(rounds):
            # By lot, or everybody would always come after the same one, and find the memory as that one left it.
            lot = random.Random(turn)
            order = lot.sample(able, len(able))
            if by_update:
                times = timed_in_turns(order, case, device, steps, clock, lot)
            else:
                times = {name: timed(name, case, device, steps, clock) for name in order}
            for name, own in times.items():
                seconds[name].append(own)
            click.echo(f"  round {turn + 1} of {rounds}: {sum(times.values()):.1f} s", err=True)
    return seconds, unable
