"""Cells of trained networks that are tuned in the ways people tune them, beside one learning rate for all of it.

The learning rate of such a cell is that of the first parameter group; the others keep their ratio to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any

import torch
from situations.cell import Training
from situations.heads import OPTIMIZERS
from situations.trunks import TRUNKS
from situations.whole import whole
from torch import nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["WAYS", "tuned"]

Make = Callable[..., torch.optim.Optimizer]
ALONE = 50  # steps of the head alone
PARTS, DECAY = 6, 0.7  # of the network, and the learning rate of one over that of the next


def tuned(data: Path, seed: int, *, way: str, trunk: str, optimizer: str, batch: int) -> Training:
    """A trained trunk and its new head, tuned in that way; optimizers as in :mod:`situations.whole`."""
    run = whole(data, seed, kind="whole", trunk=trunk, optimizer=optimizer, batch=batch)
    return WAYS[way](run, run.model.get_submodule(TRUNKS[trunk][1]), OPTIMIZERS[optimizer])


def trainable(model: nn.Module, head: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Parameters of the network that are trained, and those of its head."""
    new = list(head.parameters())
    own = {id(each) for each in new}
    return [each for each in model.parameters() if each.requires_grad and id(each) not in own], new


def higher_head_lr(run: Training, head: nn.Module, make: Make) -> Training:
    """The head at ten times the learning rate of the network."""
    network, new = trainable(run.model, head)
    return replace(run, optimizer=make([{"params": network, "lr": 1e-3}, {"params": new, "lr": 1e-2}]))


def layer_decay(run: Training, head: nn.Module, make: Make) -> Training:
    """A lower learning rate for each sixth of the network, from the head to the inputs."""
    network, new = trainable(run.model, head)
    ends = [len(network) * (PARTS - part) // PARTS for part in range(PARTS + 1)]
    parts = [network[low:high] for high, low in zip(ends, ends[1:])]
    groups = [{"params": part, "lr": 1e-2 * DECAY ** (1 + number)} for number, part in enumerate(parts) if part]
    return replace(run, optimizer=make([{"params": new, "lr": 1e-2}, *groups]))


def bitfit(run: Training, head: nn.Module, make: Make) -> Training:
    """The head, the biases, and the weights of normalisation layers (BitFit)."""
    network, new = trainable(run.model, head)
    for each in network:
        each.requires_grad_(each.ndim < 2)
    return replace(run, optimizer=make([*(each for each in network if each.ndim < 2), *new]))


def head_first(run: Training, head: nn.Module, make: Make) -> Training:
    """The whole, after 50 steps of the head alone."""
    network, new = trainable(run.model, head)
    first = torch.optim.AdamW(new, 1e-3)
    for batch in islice(chain.from_iterable(repeat(run.loader)), ALONE):
        first.zero_grad()
        run.loss(run.model, batch).backward(inputs=new)  # type: ignore[no-untyped-call]
        first.step()
    first.zero_grad()
    return replace(run, optimizer=make([*network, *new]))


def reinitialised(run: Training, head: nn.Module, make: Make) -> Training:
    """The whole, whose last third of the layers starts from new weights."""
    layers: list[Any] = [each for each in run.model.modules() if hasattr(each, "reset_parameters")]
    for each in layers[len(layers) * 2 // 3 :]:
        each.reset_parameters()
    return run


class FrozenNorms(nn.Module):
    """A network whose BatchNorm layers keep their statistics."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.network(inputs)  # type: ignore[no-any-return]

    def train(self, mode: bool = True) -> FrozenNorms:
        super().train(mode)
        for each in self.modules():
            if isinstance(each, _BatchNorm):
                each.eval()
        return self


def frozen_norms(run: Training, head: nn.Module, make: Make) -> Training:
    """The whole but for BatchNorm, whose weights and statistics stay."""
    for each in run.model.modules():
        if isinstance(each, _BatchNorm):
            each.requires_grad_(False)
    network, new = trainable(run.model, head)
    return replace(run, model=FrozenNorms(run.model).train(), optimizer=make([*network, *new]))


def focal(run: Training, head: nn.Module, make: Make) -> Training:
    """The whole, with the focal loss, gamma 2."""

    def loss(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        each = F.cross_entropy(model(batch[0]).flatten(0, -2), batch[1].flatten(), reduction="none")
        return ((1 - torch.exp(-each)) ** 2 * each).mean()

    return replace(run, loss=loss)


def label_smoothing(run: Training, head: nn.Module, make: Make) -> Training:
    """The whole, with a tenth of each target spread over all classes."""

    def loss(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return F.cross_entropy(model(batch[0]).flatten(0, -2), batch[1].flatten(), label_smoothing=0.1)

    return replace(run, loss=loss)


WAYS: dict[str, Callable[[Training, nn.Module, Make], Training]] = {
    "head10": higher_head_lr,
    "layerdecay": layer_decay,
    "bitfit": bitfit,
    "headfirst": head_first,
    "reinit": reinitialised,
    "frozenbn": frozen_norms,
    "focal": focal,
    "labelsmoothing": label_smoothing,
}
