"""A sweep made again lower where the range that was chosen started too high."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from curves import breaks, curve_of
from torch import Tensor, nn

from lrfinder import LRFinder
from lrfinder.errors import BatchError
from lrfinder.record.curve import LossCurve, StopReason
from lrfinder.training.range_search import MOST_ITER, SweepRequest
from lrfinder.training.loop import lower_range


def rising(**facts: Any) -> LossCurve:
    """Training losses that rise from the first learning rate on."""
    given = {"start": 0.01, "end": 10.0, "count": 30, "stop": StopReason.DIVERGED, "measured": "before", **facts}
    return curve_of(lambda x: 2 + (x + 2) ** 2, **given)


def diverged(losses: Sequence[float]) -> LossCurve:
    """A sweep with those losses, twelve per decade."""
    given: dict[str, Any] = {"count": 49, "points": len(losses), "stop": StopReason.DIVERGED, "measured": "before"}
    return curve_of(lambda x: losses[round(12 * x)], start=1.0, end=1e4, **given)


# A linear head that fits the first batch at any learning rate, so that the range search found no limit.
HEAD_LOSSES = (2.37, 9.56, 10.98, 16.99, 16.8, 41.0, 42.0, 59.0, 104.6, 88.0, 98.2)
HEAD_LOSSES += (158.0, 157.4, 288.5, 315.2, 352.7, 324.3, 454.2, 533.6, 576.3, 1036.0, 1406.9)

# EfficientNet-Lite with SGD and a new head of zeros: the first update moves the head alone, which bears a large one.
ZERO_HEAD_LOSSES = (2.3, 6.39, 13.9, 7.33, 58.53, 38.32, 9.23, 64.54, 48.81, 49.8, 16.92, 31.36, 162.15, 300.68, 630.38)
ZERO_HEAD_LOSSES += (2302.53, 5470.63)

TOO_HIGH = {
    "rises from the start": rising(),
    "diverged within ten points": curve_of(
        lambda x: 10**x, start=0.1, count=12, points=7, stop=StopReason.DIVERGED, measured="before"
    ),
    "nan at the second iteration": curve_of(
        lambda x: 1.0, start=0.1, count=43, points=1, stop=StopReason.NONFINITE, nonfinite_lr=0.1, measured="before"
    ),
    "rises with nearly every update": diverged(HEAD_LOSSES),
    "every update made it worse": diverged(ZERO_HEAD_LOSSES),
    "fell within the first iterations": curve_of(
        lambda x: 20.0 if x < -1.99 else 2.0 + 3 * max(0.0, x) ** 2, start=0.01, end=100.0, measured="before"
    ),
}


@pytest.mark.parametrize("curve", TOO_HIGH.values(), ids=TOO_HIGH)
def test_a_range_that_started_too_high_is_followed_by_a_lower_one(curve: LossCurve) -> None:
    found = lower_range(curve, SweepRequest(), 20)
    assert found is not None
    config, extend = found
    assert config.start_lr == pytest.approx(curve.config.start_lr / 10**2.5)
    assert curve.config.start_lr < config.end_lr
    assert config.num_iter + extend == MOST_ITER - 20


GOOD = {
    "falls and breaks": curve_of(breaks, measured="before"),
    "only rises, far above the start": curve_of(lambda x: 2 + max(0.0, x) ** 2, measured="before"),
    "flat": curve_of(lambda x: 1.0, measured="before"),
    "no loss at all": curve_of(breaks, points=0, stop=StopReason.NONFINITE, measured="before"),
    "interrupted": rising(points=5, stop=StopReason.INTERRUPTED),
    "validation losses": rising(measured="after"),
}


@pytest.mark.parametrize("curve", GOOD.values(), ids=GOOD)
def test_any_other_range_stays(curve: LossCurve) -> None:
    assert lower_range(curve, SweepRequest(), 20) is None


@pytest.mark.parametrize("given", [{"start_lr": 0.01}, {"end_lr": 10.0}, {"num_iter": 30}, {"mode": "linear"}], ids=str)
def test_a_number_that_was_given_is_obeyed(given: dict[str, Any]) -> None:
    assert lower_range(rising(), SweepRequest(**given), 20) is None


def test_no_sweep_is_made_beyond_a_hundred_iterations() -> None:
    assert lower_range(rising(), SweepRequest(), 63) is not None
    assert lower_range(rising(), SweepRequest(), 64) is None


@pytest.fixture
def steep() -> tuple[LRFinder, list[Tensor], nn.Module]:
    """A training whose first batch shows nothing of how steep the later ones are."""
    torch.manual_seed(0)
    model = nn.Linear(8, 1, bias=False)
    batches = [torch.randn(16, 8) * (0.01 if i == 0 else 10.0) for i in range(200)]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    finder = LRFinder(model, optimizer, loss_fn=lambda model, batch: (model(batch) - batch.sum(1)).square().mean())
    return finder, batches, model


def test_a_first_batch_that_misleads_still_gives_a_readable_sweep(steep: Any) -> None:
    finder, batches, model = steep
    before = {name: value.clone() for name, value in model.state_dict().items()}
    result = finder.range_test(batches, progress=False)
    assert result.curve.config.start_lr < 1e-3 and result.curve.batches <= MOST_ITER
    assert result.advice.grade != "none" and finder.last_curve is result.curve
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class Queue(nn.Module):
    """Contrastive loss against a queue of former samples, which fills with likenesses whatever is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 4, bias=False)
        self.queue: Tensor
        self.register_buffer("queue", torch.zeros(256, 4))
        self.place = 0

    def forward(self, inputs: Tensor) -> Tensor:
        keys = nn.functional.normalize(self.inner(inputs + 3), dim=1)
        others = keys @ self.queue.T.clone()
        self.queue[self.place : self.place + len(keys)] = keys.detach()
        self.place = (self.place + len(keys)) % len(self.queue)
        logits = torch.cat([torch.ones(len(keys), 1), others], dim=1) / 0.07
        return nn.functional.cross_entropy(logits, torch.zeros(len(keys), dtype=torch.long))


@pytest.mark.parametrize("own", [False, True])
def test_a_loss_that_rises_without_training_is_refused(own: bool) -> None:
    torch.manual_seed(0)
    model = Queue()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9)
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def step_fn(batch: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = model(batch)
        loss.backward()
        optimizer.step()
        return loss

    made: dict[str, Any] = {"step_fn": step_fn} if own else {"loss_fn": lambda model, batch: model(batch)}
    finder = LRFinder(model, optimizer, **made)
    with pytest.raises(BatchError, match="rises by itself: it does so where no weight changes"):
        finder.range_test([torch.randn(8, 8) for _ in range(40)], progress=False)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items()) and model.place == 0


def test_batches_without_a_finite_loss_are_no_rise_without_training() -> None:
    torch.manual_seed(0)
    model = nn.Linear(8, 1, bias=False)
    batches = [torch.randn(16, 8) * (1e25 if i in range(16, 60, 3) else 10.0) for i in range(60)]  # squared inf
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    finder = LRFinder(model, optimizer, loss_fn=lambda model, inputs: model(inputs).square().mean())
    result = finder.range_test(batches, start_lr=0.01, end_lr=10.0, num_iter=40, progress=False)
    assert result.curve.stop is StopReason.DIVERGED
