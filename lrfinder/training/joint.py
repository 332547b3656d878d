"""Several optimizers of one training as one, so that everything else here sees a single list of parameter groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from lrfinder.param_groups import (
    check_optimizers,
    group_scales,
    mode_switches,
    optimizer_parameters,
    reference_group,
)

__all__ = ["JointOptimizer", "clearing", "joined", "parts_of"]


class JointOptimizer:
    """Optimizers that are stepped together, such as Muon beside AdamW, or those of the two nets of a GAN.

    Their parameter groups are the groups of this one, in order, and all keep their ratio to its reference group.

    Args:
        optimizers: at least one, each once, without a parameter in common.

    Raises:
        SetupError: they are not.

    Example:
        >>> import torch
        >>> weight, bias = torch.nn.Parameter(torch.ones(2, 2)), torch.nn.Parameter(torch.ones(2))
        >>> joint = JointOptimizer([torch.optim.SGD([weight], lr=0.1), torch.optim.Adam([bias], lr=0.001)])
        >>> [group["lr"] for group in joint.param_groups], type(joint.optimizer).__name__
        ([0.1, 0.001], 'SGD')
    """

    def __init__(self, optimizers: Sequence[Any]) -> None:
        check_optimizers(optimizers)
        for optimizer in optimizers:
            group_scales(optimizer)  # refuses a learning rate that is no number, with the name of that optimizer
        self.optimizers = tuple(optimizers)
        holders = [optimizer for optimizer in optimizers for _ in optimizer.param_groups]
        self.optimizer = holders[reference_group(group_scales(self))] if holders else optimizers[0]
        """The one with the reference group, by the attribute in which wrappers have their inner optimizer."""
        switches = [modes for modes in map(mode_switches, optimizers) if modes is not None]
        if switches:
            self.train = lambda: [train() for train, _ in switches]
            self.eval = lambda: [evaluate() for _, evaluate in switches]

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups as they are now: loading a state replaces them."""
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    @property
    def state(self) -> dict[Any, Any]:
        """State of all of them, by parameter."""
        return {key: value for optimizer in self.optimizers for key, value in optimizer.state.items()}

    def step(self) -> None:
        """Step each, in order."""
        for optimizer in self.optimizers:
            optimizer.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients of each."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=set_to_none)


def joined(optimizer: Any) -> Any:
    """The optimizers of a list as one, or what was given where it is no list.

    Raises:
        SetupError: they cannot be stepped together.
    """
    if not isinstance(optimizer, (list, tuple)):
        return optimizer
    joint = JointOptimizer(optimizer)
    return joint if len(joint.optimizers) > 1 else joint.optimizer


def parts_of(optimizer: Any) -> tuple[Any, ...]:
    """The optimizers themselves: of a joint one its parts, else the one given."""
    return optimizer.optimizers if isinstance(optimizer, JointOptimizer) else (optimizer,)


def clearing(optimizer: Any) -> Callable[[], None]:
    """What clears the gradients: the optimizer's ``zero_grad``, or a plain loop where that is torch's own.

    That one runs in a profiler range, which takes a twenty-fifth of a small model's step, and needs what an optimizer
    lacks that does not call the ``__init__`` of torch's.
    """
    methods = [getattr(getattr(part, "zero_grad", None), "__func__", None) for part in parts_of(optimizer)]
    if any(method is not torch.optim.Optimizer.zero_grad for method in methods):
        return lambda: optimizer.zero_grad(set_to_none=True)
    parameters = optimizer_parameters(optimizer)

    def clear() -> None:
        for parameter in parameters:
            parameter.grad = None

    return clear
