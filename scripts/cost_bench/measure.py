"""Measurements of the cost benchmark: whole calls in turn, batches drawn, memory of the host."""

from __future__ import annotations

import gc
import multiprocessing
import random
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from cost_bench import AGAIN, BARE, DEFAULT, OURS, RISING
from cost_bench.cases import CASES, START_LR, Case, Task, build, make_samples
from lrfinder import LRFinder
from peers import PEERS, How, Sweep, UnsupportedError, installed, silenced

__all__ = ["count_batches", "host_memory", "time_case"]

_CPU = torch.device("cpu")
_BARE_LOOPS = (BARE, AGAIN, RISING)
_README_LR = 1e-7  # of the optimizer, in torch-lr-finder's README: there a sweep starts that is given no range


def contestants() -> list[str]:
    if missing := [name for name in PEERS if not installed(name)]:
        click.echo(f'not installed and left out: {", ".join(missing)}; pip install ".[bench]" adds them', err=True)
    return [*_BARE_LOOPS, OURS, DEFAULT, *filter(installed, PEERS)]


def prepare(name: str, task: Task, folder: str, steps: int | None) -> Callable[[], object]:
    """The call that is measured; None for ``steps`` leaves the range and the number of steps to the finder."""
    if name in _BARE_LOOPS:
        assert steps is not None
        return lambda: train(task, steps, rising=name == RISING)
    if name in (OURS, DEFAULT):
        return lambda: find(task, steps if name == OURS else None)
    sweep = None if steps is None else Sweep(start_lr=START_LR, end_lr=task.case.end_lr, num_iter=steps)
    how = How(folder=folder, sweep=sweep, bfloat16=task.case.bfloat16)
    return PEERS[name].prepare(task.model, task.optimizer, task.case.criterion, task.loader, how)


def train(task: Task, steps: int, *, rising: bool) -> None:
    """The loop a user writes; it reads no loss and keeps nothing."""
    case = task.case
    growth = (case.end_lr / START_LR) ** (1 / (steps - 1)) if rising else 1.0
    task.model.train()
    batches = endless(task.loader)
    for _ in range(steps):
        inputs, target = (part.to(task.device, non_blocking=True) for part in next(batches))
        task.optimizer.zero_grad()
        with torch.autocast(task.device.type, dtype=torch.bfloat16, enabled=case.bfloat16):
            loss = case.criterion(task.model(inputs), target)
        torch.autograd.backward(loss)
        task.optimizer.step()
        if rising:
            for group in task.optimizer.param_groups:
                group["lr"] *= growth


def endless(loader: Any) -> Iterator[Any]:
    while True:
        yield from loader


def find(task: Task, steps: int | None) -> None:
    """Our range test, its advice included."""
    amp_dtype = torch.bfloat16 if task.case.bfloat16 else None
    finder = LRFinder(task.model, task.optimizer, task.case.criterion, amp_dtype=amp_dtype)
    given: dict[str, Any] = {}
    if steps is not None:
        given = {"start_lr": START_LR, "end_lr": task.case.end_lr, "num_iter": steps}
    assert finder.range_test(task.loader, progress=False, **given).advice is not None


def time_case(case: Case, device: torch.device, *, rounds: int, steps: int) -> dict[str, dict[str, Any]]:
    """``seconds`` of each whole call in each round, by contestant, and why some are ``unable``.

    The first call of each is a check, off the clock. The order of a round is drawn, since a call finds the memory as
    the one before left it.
    """
    samples = make_samples(case, device)
    unable: dict[str, str] = {}
    seconds: dict[str, list[float]] = {}
    for name in contestants():
        fault = check(name, build(case, device, samples), steps)
        if fault is None:
            seconds[name] = []
        elif name in (*_BARE_LOOPS, OURS):
            raise click.ClickException(f"{case.title}: {name}: {fault}")
        else:
            unable[name] = fault
    gc.collect()
    gc.freeze()  # a collection does not go through the packages of all contestants any more, in a call or before it
    for turn in range(rounds):
        for name in random.Random(turn).sample(list(seconds), len(seconds)):
            seconds[name].append(seconds_of(name, build(case, device, samples), steps))
        click.echo(f"  round {turn + 1} of {rounds}: {sum(times[-1] for times in seconds.values()):.1f} s", err=True)
    return {"seconds": seconds, "unable": unable}


def seconds_of(name: str, task: Task, steps: int) -> float:
    with tempfile.TemporaryDirectory() as folder, silenced():
        call = prepare(name, task, folder, steps)
        if task.device.type == "cuda":
            torch.cuda.empty_cache()  # otherwise a copy of the state finds the room of the one before
        gc.collect()
        synchronise(task.device)
        begin = time.perf_counter()
        call()
        synchronise(task.device)
        return time.perf_counter() - begin


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def check(name: str, task: Task, steps: int) -> str | None:
    """What is wrong with a call that should make ``steps`` updates and put the weights back."""
    updates: list[None] = []
    before = [tensor.detach().cpu().clone() for tensor in task.model.state_dict().values()]
    handle = register_optimizer_step_post_hook(lambda *_: updates.append(None))
    try:
        seconds_of(name, task, steps)
    except Exception as error:  # whatever it is, the others are still to be timed
        return str(error) if isinstance(error, UnsupportedError) else f"{type(error).__name__}: {error}"[:160]
    finally:
        handle.remove()
    if len(updates) != steps and name != DEFAULT:
        return f"it made {len(updates)} updates instead of {steps}"
    # Compared on the CPU: Lightning leaves the model there.
    restored = all(map(torch.equal, before, (tensor.detach().cpu() for tensor in task.model.state_dict().values())))
    return None if restored != (name in _BARE_LOOPS) else "it did not restore the weights"


def count_batches(names: Sequence[str]) -> dict[str, Any]:
    """Batches that each finder draws on the CPU, by case."""
    table: dict[str, dict[str, int]] = {}
    for case in (CASES[name] for name in names):
        drawn = table[case.title] = {}
        samples = make_samples(case, _CPU)
        for name in [DEFAULT, *filter(installed, PEERS)]:
            task = build(case, _CPU, samples, lr=_README_LR)
            batches: list[Any] = []
            task.loader.collate_fn = partial(_counted, task.loader.collate_fn, batches)
            with tempfile.TemporaryDirectory() as folder, silenced():
                prepare(name, task, folder, None)()
            drawn[OURS if name == DEFAULT else name] = len(batches)
    return {"caption": "Batches that a call draws with neither range nor number of steps given.", "table": table}


def _counted(collate: Callable[[Any], Any], batches: list[Any], samples: Any) -> Any:
    batches.append(collate(samples))
    return batches[-1]


def host_memory(case: str, steps: int) -> dict[str, Any]:
    """Megabytes that a call needs on the host beyond the bare loop, on the CPU."""
    extra = {}
    for name in [OURS, *filter(installed, PEERS)]:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            extra[name] = process.submit(_extra_memory, case, name, steps).result()
    caption = "highest memory of the host beyond that of the bare loop, each in a fresh process."
    return {"caption": f"{CASES[case].title}: {caption}", "table": {"MB": extra}}


def _extra_memory(case: str, contestant: str, steps: int) -> int:
    torch.set_num_threads(1)
    task = build(CASES[case], _CPU, make_samples(CASES[case], _CPU))
    with tempfile.TemporaryDirectory() as folder, silenced():
        call = prepare(contestant, task, folder, steps)  # imports the package
        bare = _peak(lambda: train(task, steps, rising=False))  # afterwards the optimizer has its state
        task.optimizer.zero_grad()
        return round((_peak(call) - bare) / 1e6)


def _peak(call: Callable[[], object]) -> int:
    """Highest resident size during the call, in bytes (Linux)."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    call()
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), flags=re.MULTILINE)
    assert found is not None
    return 1024 * int(found[1])
