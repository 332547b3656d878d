"""How the cost grows: with the parameters of the model, and with the steps of the sweep."""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from overhead_bench.cases import START_LR, Case, Task, build_task, mlp, wide_mlp
from overhead_bench.contestants import prepare_bare, prepare_ours
from overhead_bench.timing import synchronise, warm_up

__all__ = ["LENGTHS", "WIDTHS", "of_length", "of_size"]

WIDTHS = (64, 160, 290, 520, 950, 1700, 3100, 5440)  # 1e4 to 3e7 parameters
LENGTHS = (30, 100, 300, 1000, 3000)
STEPS = 12  # of the sweeps by size: few, or the steps of a large model drown what is added; the advice needs 10
_END_LR = 1e-2  # with AdamW and this MLP no stopping rule fires below it
_SHORTEST = 0.2  # seconds of entering and leaving that are timed together


def _case(model: Callable[[], torch.nn.Module]) -> Case:
    return Case(
        title="MLP, AdamW",
        model=model,
        inputs=(64,),
        batch_size=8,
        optimizer=torch.optim.AdamW,
        options={"lr": 1e-3, "fused": True},  # the fastest there is: what is added shows best against that
        end_lr=_END_LR,
        limit=1.0,
    )


def of_size(width: int, device: torch.device, rounds: int) -> dict[str, Any]:
    """Of a model so wide: seconds of the snapshot alone, taken and put back, and of a sweep and its bare loop."""
    from lrfinder.training.setup import TrainingSetup
    from lrfinder.training.state import preserved

    case = _case(partial(wide_mlp, width))
    with tempfile.TemporaryDirectory() as folder:
        task = build_task(case, device, STEPS, folder)
        parameters = sum(parameter.numel() for parameter in task.model.parameters())
        warm_up(task)
        _train_once(task)

        setup = TrainingSetup.of(task.model, task.optimizer, task.criterion)

        def preserve() -> None:
            with preserved(setup, [task.loader]):
                pass

        _seconds(preserve, device)
        calls = max(1, round(_SHORTEST / _seconds(preserve, device)))
        snapshots = [_seconds(preserve, device, calls) for _ in range(rounds)]
    sweeps, bare = _turns(case, device, STEPS, rounds)
    return {"parameters": parameters, "snapshot": snapshots, "sweep": sweeps, "bare": bare, "steps": STEPS}


def of_length(steps: int, device: torch.device, rounds: int) -> dict[str, Any]:
    """Seconds of a sweep so long and of its bare loop, and of what grows with its length: deciding, and reading."""
    from lrfinder.advice.advise import advise

    case = _case(mlp)
    sweeps, bare = _turns(case, device, steps, max(rounds, min(5 * rounds, rounds * 1000 // steps)))
    with tempfile.TemporaryDirectory() as folder:
        result: Any = prepare_ours(build_task(case, device, steps, folder))()
    assert len(result.curve.losses) == steps, "a stopping rule has fired"
    reading = [_seconds(lambda: advise(result.curve), device) for _ in range(rounds)]
    deciding = [_seconds(partial(_decide, steps), device) for _ in range(rounds)]
    return {"steps": steps, "sweep": sweeps, "bare": bare, "reading": reading, "deciding": deciding}


def _decide(steps: int) -> None:
    """The state machine of a sweep by itself, on losses that keep its stopping rule busy: low once, then above."""
    from lrfinder.record.curve import SweepConfig
    from lrfinder.record.sweep import Sweep

    sweep = Sweep(SweepConfig(start_lr=START_LR, end_lr=_END_LR, num_iter=steps))
    for i in range(steps):
        sweep.lr_ahead(0)
        sweep.record((1.0, 0.9, 1.3)[i % 3] if i > 8 else 0.9)
    assert len(sweep.losses) == steps, "the stopping rule has fired"


def _turns(case: Case, device: torch.device, steps: int, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of the sweep and of the bare loop, taking turns."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds + 1):
        for i in (0, 1) if turn % 2 else (1, 0):
            with tempfile.TemporaryDirectory() as folder:
                task = build_task(case, device, steps, folder)
                gc.collect()
                warm_up(task)
                seconds[i].append(_seconds((prepare_ours, prepare_bare)[i](task), device))
    return seconds[0][1:], seconds[1][1:]  # the first round has warmed up


def _seconds(call: Callable[[], object], device: torch.device, calls: int = 1) -> float:
    """Of one call, averaged."""
    synchronise(device)
    begin = time.perf_counter()
    for _ in range(calls):
        call()
    synchronise(device)
    return (time.perf_counter() - begin) / calls


def _train_once(task: Task) -> None:
    """The optimizer gets its moments."""
    task.criterion(task.model(task.first[0]), task.first[1]).backward()
    task.optimizer.step()
    task.optimizer.zero_grad()
