"""Several optimizers of one training as one, so that everything else here sees a single list of parameter groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lrfinder.errors import SetupError
from lrfinder.param_groups import group_scales, mode_switches

__all__ = ["JointOptimizer", "parts_of"]


class JointOptimizer:
    """Optimizers that are stepped together, such as Muon beside AdamW, or those of the two nets of a GAN.

    Their parameter groups are the groups of this one, in order; the reference group is the first of them whose learning
    rate is not 0, and all keep their ratio to it.

    Args:
        optimizers: at least one, each once.

    Raises:
        SetupError: an optimizer is named twice, or something else is among them.

    Example:
        >>> import torch
        >>> weight, bias = torch.nn.Parameter(torch.ones(2, 2)), torch.nn.Parameter(torch.ones(2))
        >>> joint = JointOptimizer([torch.optim.SGD([weight], lr=0.1), torch.optim.Adam([bias], lr=0.001)])
        >>> [group["lr"] for group in joint.param_groups], type(joint.optimizer).__name__
        ([0.1, 0.001], 'SGD')
    """

    def __init__(self, optimizers: Sequence[Any]) -> None:
        for index, optimizer in enumerate(optimizers):
            _check_part(index, optimizer, optimizers)
        self.optimizers = tuple(optimizers)
        self.param_groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        used = (number for number, scale in enumerate(group_scales(self)) if scale != 0)
        reference = self.param_groups[next(used, 0)]
        # The attribute by which a wrapper's inner optimizer is named everywhere.
        self.optimizer = next(each for each in optimizers if any(group is reference for group in each.param_groups))
        switches = [modes for modes in map(mode_switches, optimizers) if modes is not None]
        if switches:
            self.train = lambda: [train() for train, _ in switches]
            self.eval = lambda: [evaluate() for _, evaluate in switches]

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


def parts_of(optimizer: Any) -> tuple[Any, ...]:
    """The optimizers themselves: of a joint one its parts, else the one given."""
    return optimizer.optimizers if isinstance(optimizer, JointOptimizer) else (optimizer,)


def _check_part(index: int, optimizer: Any, optimizers: Sequence[Any]) -> None:
    if not hasattr(optimizer, "param_groups") or not hasattr(optimizer, "step"):
        raise SetupError(
            f"optimizer[{index}] must be a torch optimizer; got a {type(optimizer).__name__}. "
            "Write LRFinder(model, [optimizer, other_optimizer], ...)."
        )
    first = next(number for number, each in enumerate(optimizers) if each is optimizer)
    if first != index:
        raise SetupError(f"optimizer[{index}] is the same object as optimizer[{first}]. Name each optimizer once.")
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    for number, other in enumerate(optimizers[:index]):
        if any(id(parameter) in held for group in other.param_groups for parameter in group["params"]):
            raise SetupError(
                f"optimizer[{index}] and optimizer[{number}] hold the same parameter, which both would update. "
                "Give each parameter to one of them."
            )
