"""``on_step`` reports every loss of a range test, once and in order, and what it raises leaves no trace."""

from __future__ import annotations

import csv
import inspect
import io
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from own_steps import SWEEP, net, shuffled, state_of, step_of
from torch import Tensor, nn

from lrfinder import LRFinder, StopReason
from lrfinder.errors import ConfigError

Rows = list[tuple[int, float, float]]


def finder(*, own: bool = False) -> LRFinder:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return LRFinder(model, optimizer, nn.CrossEntropyLoss(), step_fn=step_of(model, [optimizer]) if own else None)


def collected(rows: Rows) -> Any:
    return lambda step, lr, loss: rows.append((step, lr, loss))


@pytest.mark.parametrize("own", [False, True], ids=["criterion", "step_fn"])
@pytest.mark.parametrize("val", [False, True], ids=["training loss", "validation loss"])
@pytest.mark.parametrize("sweep", [SWEEP, {}, {**SWEEP, "early_stop": False}], ids=["given", "chosen", "to the end"])
def test_every_loss_is_reported_once_and_in_order(own: bool, val: bool, sweep: dict[str, Any]) -> None:
    rows: Rows = []
    test = finder(own=own)
    curve = test.range_test(shuffled(), val_loader=shuffled() if val else None, on_step=collected(rows), **sweep).curve
    assert [step for step, _, _ in rows] == list(range(len(curve)))
    assert tuple(lr for _, lr, _ in rows) == curve.lrs
    assert tuple(loss for _, _, loss in rows) == curve.losses
    assert curve == finder(own=own).range_test(shuffled(), val_loader=shuffled() if val else None, **sweep).curve


def test_a_loss_that_is_not_finite_is_the_last_to_be_reported() -> None:
    rows: Rows = []
    wide = {"start_lr": 1e-3, "end_lr": 1e30, "num_iter": 30, "early_stop": False}
    curve = finder().range_test(shuffled(), on_step=collected(rows), **wide).curve
    assert curve.stop is StopReason.NONFINITE
    assert [loss for _, _, loss in rows[:-1]] == list(curve.losses)
    assert not math.isfinite(rows[-1][2])
    assert rows[-2][1] == curve.nonfinite_lr  # the learning rate of the update before it


def test_skipped_updates_are_not_reported() -> None:
    model, rows = net(), Rows()
    optimizer, calls = torch.optim.SGD(model.parameters(), lr=0.1), iter(range(1000))
    step_fn = step_of(model, [optimizer], returned=lambda loss: (loss, next(calls) % 3 > 0))
    curve = LRFinder(model, optimizer, step_fn=step_fn).range_test(shuffled(), on_step=collected(rows), **SWEEP).curve
    assert curve.skipped > 0 and [step for step, _, _ in rows] == list(range(len(curve)))


def steep() -> tuple[LRFinder, list[Tensor]]:
    """A training whose first batch shows nothing of how steep the later ones are: it is swept again, lower."""
    torch.manual_seed(0)
    model = nn.Linear(8, 1, bias=False)
    batches = [torch.randn(16, 8) * (0.01 if i == 0 else 10.0) for i in range(200)]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return LRFinder(model, optimizer, loss_fn=lambda net, batch: (net(batch) - batch.sum(1)).square().mean()), batches


def test_the_count_goes_on_in_a_lower_sweep() -> None:
    rows: Rows = []
    test, batches = steep()
    curve = test.range_test(batches, on_step=collected(rows)).curve
    assert [step for step, _, _ in rows] == list(range(len(rows)))
    restarts = [step for (step, lr, _), (_, before, _) in zip(rows[1:], rows, strict=False) if lr < before]
    assert restarts and len(rows) == restarts[-1] + len(curve)
    assert tuple(loss for _, _, loss in rows[restarts[-1] :]) == curve.losses


@pytest.mark.parametrize("error", [ValueError("full"), KeyboardInterrupt(), StopIteration()], ids=repr)
@pytest.mark.parametrize("at", [0, 5, 29])
def test_what_it_raises_ends_the_test_and_leaves_no_trace(error: BaseException, at: int) -> None:
    test, loader = finder(), shuffled()
    before = state_of(test.model, test.optimizer, loader)

    def fail(step: int, lr: float, loss: float) -> None:
        if step == at:
            raise error

    with pytest.raises(type(error)) as raised:
        test.range_test(loader, on_step=fail, early_stop=False, **SWEEP)
    assert raised.value is error
    assert state_of(test.model, test.optimizer, loader) == before
    assert test.last_curve is not None and len(test.last_curve) == at


def test_what_it_raises_in_a_lower_sweep_leaves_no_trace() -> None:
    test, batches = steep()
    before = state_of(test.model, test.optimizer)
    rows: Rows = []

    def fail(step: int, lr: float, loss: float) -> None:
        rows.append((step, lr, loss))
        if len(rows) > 1 and lr < rows[-2][1]:
            raise ValueError("in the second sweep")

    with pytest.raises(ValueError, match="in the second sweep"):
        test.range_test(batches, on_step=fail)
    assert state_of(test.model, test.optimizer) == before


def test_random_numbers_that_it_draws_are_put_back() -> None:
    test, loader = finder(), shuffled()
    before = state_of(test.model, test.optimizer, loader)
    test.range_test(loader, on_step=lambda *_: torch.rand(3), **SWEEP)
    assert state_of(test.model, test.optimizer, loader) == before


def test_what_is_no_function_is_refused_before_anything_is_trained() -> None:
    with pytest.raises(ConfigError, match=r"on_step must be a function, called as on_step\(.*\); got a list"):
        finder().range_test(shuffled(), on_step=[], **SWEEP)  # type: ignore[arg-type]


# --- the lines of the documentation -----------------------------------------------------------------------------------


def documented(name: str) -> str:
    """The line of the docstring that names the variable."""
    text = " ".join(str(inspect.getdoc(LRFinder.range_test)).split())
    return next(line for line in re.findall(r"``(lambda [^`]*)``", text) if name in line)


def test_the_line_for_csv_writes_every_step() -> None:
    file = io.StringIO()
    log = eval(documented("csv."), {"csv": csv, "file": file})
    curve = finder().range_test(shuffled(), on_step=log, **SWEEP).curve
    rows = [tuple(map(float, row)) for row in csv.reader(io.StringIO(file.getvalue()))]
    assert rows == [(step, *pair) for step, pair in enumerate(zip(curve.lrs, curve.losses, strict=True))]


def test_the_line_for_tensorboard_logs_every_loss(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path)) as writer:
        log = eval(documented("writer.add_scalar"), {"writer": writer})
        curve = finder().range_test(shuffled(), on_step=log, **SWEEP).curve
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    logged = events.Scalars("lr_finder/loss")
    assert [event.step for event in logged] == list(range(len(curve)))
    assert [event.value for event in logged] == pytest.approx(curve.losses)
