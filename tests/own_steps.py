"""Steps of a user's own, written as :class:`lrfinder.training.step.TrainStep` makes them, and small trainings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from worlds import plain, points

SWEEP: dict[str, Any] = {"start_lr": 1e-3, "end_lr": 30.0, "num_iter": 30}


def net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))


def shuffled(data: TensorDataset | None = None, batch_size: int = 8) -> DataLoader[Any]:
    return DataLoader(data or points(), batch_size, shuffle=True, generator=torch.Generator().manual_seed(1))


def step_of(
    model: nn.Module,
    optimizers: Sequence[Any],
    *,
    autocast: torch.dtype | None = None,
    scaler: Any = None,
    clip: float | None = None,
    returned: Callable[[Tensor], Any] = lambda loss: loss,
    pair: bool = False,
) -> Any:
    """Forward, backward and update of one batch or of a list of them, as TrainStep does it; or these in two parts."""

    def backward(batches: Any) -> Tensor:
        drawn = batches if isinstance(batches[0], (list, tuple)) else [batches]
        for optimizer in optimizers:
            optimizer.zero_grad()
        total: Any = 0.0
        for inputs, target in drawn:
            with torch.autocast("cpu", autocast or torch.bfloat16, enabled=autocast is not None):
                loss = nn.functional.cross_entropy(model(inputs), target)
            part = loss / len(drawn) if len(drawn) > 1 else loss
            (part if scaler is None else scaler.scale(part)).backward()
            total = total + part.detach()
        return total

    def update() -> None:
        for optimizer in optimizers if scaler is not None else ():
            scaler.unscale_(optimizer)
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        for optimizer in optimizers:
            optimizer.step() if scaler is None else scaler.step(optimizer)
        if scaler is not None:
            scaler.update()

    def step(batches: Any) -> Any:
        loss = backward(batches)
        update()
        return returned(loss)

    return (backward, update) if pair else step


class FakeScaler:
    """A GradScaler for the CPU whose scale is halved for the first updates, which it skips."""

    def __init__(self, skips: int) -> None:
        self.left = skips
        self.value = 2.0**16
        self.overflow = False
        self.unscaled: set[int] = set()

    def scale(self, loss: Tensor) -> Tensor:
        return loss * self.value

    def unscale_(self, optimizer: Any) -> None:
        self.overflow = self.left > 0
        self.unscaled.add(id(optimizer))
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad.mul_(torch.inf if self.overflow else 1 / self.value)
                    parameter.grad.nan_to_num_(nan=torch.inf) if self.overflow else None

    def step(self, optimizer: Any) -> None:
        if id(optimizer) not in self.unscaled:
            self.unscale_(optimizer)
        if not self.overflow:
            optimizer.step()

    def update(self) -> None:
        self.unscaled.clear()
        if self.overflow:
            self.left -= 1
            self.value /= 2

    def get_scale(self) -> float:
        return self.value


def state_of(*parts: Any) -> Any:
    """Everything that modules, optimizers, generators, loaders and plain objects hold, and the random state."""
    return [_state(part) for part in parts], plain(torch.get_rng_state())


def _state(part: Any) -> Any:
    if isinstance(part, nn.Module):
        grads = [plain(parameter.grad) for parameter in part.parameters()]
        return plain(part.state_dict()), grads, [module.training for module in part.modules()]
    if isinstance(part, torch.optim.Optimizer):
        entries = [sorted(group) for group in part.param_groups]
        return plain(part.state_dict()), [type(group["lr"]) for group in part.param_groups], entries
    if isinstance(part, torch.Generator):
        return plain(part.get_state())
    if isinstance(part, DataLoader):
        return _state(part.generator)
    return plain(vars(part) if hasattr(part, "__dict__") else part)
