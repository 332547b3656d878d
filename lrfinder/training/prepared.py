"""Optimizers inside the wrapper of a trainer, which knows the GradScaler and how many batches make an update.

A wrapper is recognised by its attributes alone: ``optimizer``, which it is around; ``scaler``, a GradScaler or None;
and ``gradient_state``, with ``num_steps``, the batches of one update, and ``sync_gradients``, which is False between
them. Its own ``step`` makes no update then, and steps through the scaler otherwise. The step made here does all of that
itself, with the optimizer inside.
"""

from __future__ import annotations

from typing import Any

from lrfinder.errors import ConfigError, SetupError

__all__ = ["check_no_update_begun", "opened"]


def opened(optimizer: Any, model: Any, grad_scaler: Any, accumulation_steps: Any) -> tuple[Any, Any, Any, Any]:
    """The optimizer (or list of them) inside its wrapper, scaler, batches per update, and the ``gradient_state``.

    What is no wrapper comes back as it is, with None for the ``gradient_state``.

    Args:
        optimizer: a wrapper, a list of them, or anything else.
        model: what is trained.
        grad_scaler: the user's; None takes the wrapper's.
        accumulation_steps: the user's; 1 takes the wrapper's.

    Raises:
        ConfigError: the user gave another number of batches per update than the wrapper.
        SetupError: the model makes its updates itself.

    Example:
        >>> from types import SimpleNamespace
        >>> import torch
        >>> model = torch.nn.Linear(2, 1)
        >>> own = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> state = SimpleNamespace(num_steps=4, sync_gradients=True)
        >>> wrapper = SimpleNamespace(optimizer=own, scaler=None, gradient_state=state)
        >>> inside, scaler, batches, _ = opened(wrapper, model, None, 1)
        >>> inside is own, scaler, batches
        (True, None, 4)
    """
    several = isinstance(optimizer, (list, tuple))
    wrapper = next(filter(_is_wrapper, optimizer if several else [optimizer]), None)
    if wrapper is None:
        return optimizer, grad_scaler, accumulation_steps, None
    if callable(getattr(model, "backward", None)) and callable(getattr(model, "step", None)):
        raise SetupError(
            f"the model, a {type(model).__name__}, makes its own backward passes and updates, by its backward() and "
            "step(). Give a function that makes a step with them: LRFinder(model, optimizer, step_fn=step)."
        )
    count = wrapper.gradient_state.num_steps
    if count != 1 and accumulation_steps not in (1, count):
        raise ConfigError(
            f"accumulation_steps is {accumulation_steps!r}, but the optimizer was prepared for {count} batches per "
            "update. Leave accumulation_steps out."
        )
    inside = [_inside(each) for each in optimizer] if several else _inside(optimizer)
    # A wrapper prepared for 1 leaves it to the user's loop to accumulate.
    steps = accumulation_steps if count == 1 else count
    return inside, wrapper.scaler if grad_scaler is None else grad_scaler, steps, wrapper.gradient_state


def check_no_update_begun(gradient_state: Any) -> None:
    """Refuse to start between the batches of one update.

    Raises:
        SetupError: gradients of some of them have been accumulated.
    """
    if gradient_state is not None and not gradient_state.sync_gradients:
        raise SetupError(
            f"the optimizer is between two of the {gradient_state.num_steps} batches of one update "
            "(gradient_state.sync_gradients is False). Call this before the training, or right after an update."
        )


def _inside(optimizer: Any) -> Any:
    while _is_wrapper(optimizer):
        optimizer = optimizer.optimizer
    return optimizer


def _is_wrapper(optimizer: Any) -> bool:
    state = getattr(optimizer, "gradient_state", None)
    named = all(hasattr(optimizer, name) for name in ("optimizer", "scaler"))
    return named and all(hasattr(state, name) for name in ("num_steps", "sync_gradients"))
