"""Parameter groups that were changed, added or built anew between the range test and the training."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from lrfinder.param_groups import group_scales
from lrfinder.training.joint import JointOptimizer

torch.set_num_threads(1)

def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


def adamw(model: nn.Sequential, *lrs: float, order: tuple[int, ...] = (0, 2)) -> Any:
    groups = [{"params": model[layer].parameters(), "lr": lr} for layer, lr in zip(order, lrs, strict=True)]
    return torch.optim.AdamW(groups)


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
