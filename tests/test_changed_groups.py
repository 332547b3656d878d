"""Parameter groups that were changed, added or built anew between the range test and the training."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from torch import nn

from lrfinder import LRFinder, RangeTestResult
from lrfinder.errors import SetupError
from lrfinder.param_groups import group_scales
from lrfinder.tables.kinds import KINDS
from lrfinder.training.joint import JointOptimizer

torch.set_num_threads(1)

GENERATOR = torch.Generator().manual_seed(0)
INPUTS = torch.randn(6, 16, 4, generator=GENERATOR)
LOADER = [(inputs, inputs[:, :3].argmax(dim=1)) for inputs in INPUTS]


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


def adamw(model: nn.Sequential, *lrs: Any, order: tuple[int, ...] = (0, 2)) -> Any:
    groups = [{"params": model[layer].parameters(), "lr": lr} for layer, lr in zip(order, lrs, strict=True)]
    return torch.optim.AdamW(groups)


def finder(model: nn.Sequential, optimizer: Any) -> LRFinder:
    return LRFinder(model, optimizer, nn.CrossEntropyLoss())


def swept(*lrs: float) -> tuple[nn.Sequential, Any, RangeTestResult]:
    model = net()
    optimizer = adamw(model, *lrs)
    return model, optimizer, finder(model, optimizer).range_test(LOADER, num_iter=40)


def rates(optimizer: Any) -> list[float]:
    return [float(group["lr"]) for group in optimizer.param_groups]


def test_groups_built_anew_in_another_order_are_refused() -> None:
    """The number is that of the first group: the head would get that of a backbone, or the other way round."""
    model, _, result = swept(1e-4, 1e-3)
    other = adamw(model, 1e-3, 1e-4, order=(2, 0))
    with pytest.raises(SetupError, match="in another order than in the range test") as refusal:
        result.scheduler("cosine", other, total_steps=10)
    assert "\n" not in str(refusal.value)
    assert rates(other) == [1e-3, 1e-4]


def test_groups_of_one_learning_rate_may_come_in_any_order() -> None:
    model, _, result = swept(1e-3, 1e-3)
    other = adamw(model, 1e-3, 1e-3, order=(2, 0))
    result.scheduler("constant", other, warmup_steps=0)
    assert rates(other) == [result.lr_for("constant")] * 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_group_that_is_trained_later_leaves_the_number_with_its_group(kind: str) -> None:
    """A backbone at 0 in the range test is no reference: what was found is the learning rate of the head."""
    _, optimizer, result = swept(0.0, 1e-3)
    length = {"epochs": 2, "steps_per_epoch": 50}
    result.scheduler(kind, optimizer, **length)
    alone = rates(optimizer)[1]
    optimizer.param_groups[0]["lr"] = alone / 10
    result.scheduler(kind, optimizer, **length)
    assert rates(optimizer) == pytest.approx([alone / 10, alone])


def test_a_group_that_is_frozen_later_leaves_the_others_their_lr() -> None:
    _, optimizer, result = swept(1e-4, 1e-3)
    optimizer.param_groups[0]["lr"] = 0.0
    result.scheduler("constant", optimizer, warmup_steps=0)
    assert rates(optimizer) == pytest.approx([0.0, 10 * result.lr_for("constant")])


def test_a_group_added_after_the_range_test_keeps_its_ratio() -> None:
    model = net()
    optimizer = torch.optim.AdamW(model[2].parameters(), lr=1e-3)
    result = finder(model, optimizer).range_test(LOADER, num_iter=40)
    optimizer.add_param_group({"params": model[0].parameters(), "lr": 1e-4})
    result.scheduler("constant", optimizer, warmup_steps=0)
    assert rates(optimizer) == pytest.approx([result.lr_for("constant"), result.lr_for("constant") / 10])


def test_trials_of_other_groups_than_those_swept_are_refused() -> None:
    model, optimizer, result = swept(1e-4, 1e-3)
    plan: dict[str, Any] = {"schedule": "cosine", "total_steps": 200}
    optimizer.param_groups[0]["lr"] = 1e-3
    with pytest.raises(SetupError, match=r"\(1, 10\).*\(1, 1\).*Run the range test again") as refusal:
        finder(model, optimizer).refine(result, LOADER, **plan)
    assert "\n" not in str(refusal.value)
    joint = finder(model, [adamw(nn.Sequential(model[0], nn.Identity(), model[2]), 1e-3, 1e-4, order=(2, 0))])
    with pytest.raises(SetupError, match="Run the range test again"):
        joint.refine(result, LOADER, **plan)


@pytest.mark.parametrize(("lr", "accepted"), [(1e-3, True), (1e-4, False)], ids=["one LR", "two LRs"])
def test_groups_split_at_one_learning_rate_are_as_swept(lr: float, accepted: bool) -> None:
    """Such as by weight decay: what is swept and tried is one learning rate for all of them."""
    model = net()
    result = finder(model, torch.optim.AdamW(model.parameters(), lr=1e-3)).range_test(LOADER, num_iter=40)
    parted = finder(model, adamw(model, 1e-3, lr))
    with contextlib.nullcontext() if accepted else pytest.raises(SetupError, match=r"\(1\).*\(1, 0.1\)"):
        assert parted.refine(result, LOADER, schedule="cosine", total_steps=200).trials is not None


def test_learning_rates_in_tensors_may_drift_between_range_test_and_trials() -> None:
    model = net()
    optimizer = adamw(model, *torch.tensor([1e-4, 3e-4]))
    result = finder(model, optimizer).range_test(LOADER, num_iter=40)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9999)
    for _ in range(3000):
        optimizer.step()
        scheduler.step()
    assert group_scales(optimizer) != pytest.approx((1.0, 3.0), rel=1e-6)
    assert finder(model, optimizer).refine(result, LOADER, schedule="cosine", total_steps=200).trials is not None


def test_trials_with_another_optimizer_than_that_swept_are_refused() -> None:
    model, _, result = swept(1e-3, 1e-3)
    with pytest.raises(SetupError, match="of a training with AdamW; got SGD. Run the range test again"):
        finder(model, torch.optim.SGD(model.parameters(), lr=0.1)).refine(
            result, LOADER, schedule="cosine", total_steps=200
        )


ENDINGS = {
    "onecycle": lambda optimizer: torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=20),
    "cosine": lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20),
    "cosine to next to nothing": lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20, 1e-8),
}


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
@pytest.mark.parametrize("several", [False, True], ids=["one optimizer", "one of several"])
def test_a_group_added_after_a_schedule_has_its_ratio_to_where_that_began(ending: Any, several: bool) -> None:
    """Gradual unfreezing: at the end of the schedule of the head its LR is next to nothing, and no measure."""
    model = net()
    optimizer = torch.optim.AdamW(model[2].parameters(), lr=1e-3)
    scheduler = ending(optimizer)
    for _ in range(19 if isinstance(scheduler, torch.optim.lr_scheduler.OneCycleLR) else 20):
        optimizer.step()
        scheduler.step()
    backbone = {"params": model[0].parameters(), "lr": 1e-4}
    if several:
        assert group_scales(JointOptimizer([optimizer, torch.optim.AdamW([backbone])])) == pytest.approx((1.0, 0.1))
    else:
        optimizer.add_param_group(backbone)
        assert group_scales(optimizer) == pytest.approx((1.0, 0.1))


def test_learning_rates_set_by_hand_after_a_schedule_count() -> None:
    model = net()
    optimizer = adamw(model, 1e-2, 1e-2)
    torch.optim.lr_scheduler.ConstantLR(optimizer)
    for group, lr in zip(optimizer.param_groups, (1e-6, 5e-6), strict=True):
        group["lr"] = lr
    assert group_scales(optimizer) == pytest.approx((1.0, 5.0))


@pytest.mark.parametrize(("by_hand", "scales"), [(1e-3, (1.0, 0.1)), (1e-5, (1.0, 1e-3))], ids=["counts", "an end"])
def test_a_learning_rate_lowered_a_hundred_times_is_no_end(by_hand: float, scales: tuple[float, ...]) -> None:
    """Gradual unfreezing, where the head goes on at a hundredth that the user sets beside the added group."""
    model = net()
    optimizer = torch.optim.SGD(model[2].parameters(), lr=0.1)
    torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20)
    optimizer.param_groups[0]["lr"] = by_hand
    optimizer.add_param_group({"params": model[0].parameters(), "lr": 1e-4})
    assert group_scales(optimizer) == pytest.approx(scales)
