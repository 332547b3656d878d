"""One iteration of training made by a ``step_fn`` of the user's own, with its own backward passes and updates."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lrfinder.errors import BatchError, SetupError
from lrfinder.param_groups import set_lr
from lrfinder.training.compiled import eager_step
from lrfinder.training.setup import TrainingSetup
from lrfinder.training.step import MAX_SCALER_SKIPS, TrainStep

__all__ = ["OwnStep", "training_step"]

_FEW_UNMOVED = 4  # calls that change no weight are no accumulation yet
_STILL = 1e-30  # part of the LR at which an update changes no weight; 0 would be divided by in some optimizers


def training_step(setup: TrainingSetup) -> TrainStep:
    """The step of a set-up: by its ``step_fn`` where there is one, else forward, backward and update."""
    return TrainStep(setup) if setup.step_fn is None else OwnStep(setup)


class OwnStep(TrainStep):
    """One call of ``step_fn``, with a batch, or the list of batches where ``accumulation_steps`` is above 1.

    The loss of batches without training on them is that of a step with a learning rate of almost 0. Where ``step_fn``
    is a pair of functions it is that of the first, which makes no update.

    Args:
        setup: with a ``step_fn``.

    Example:
        >>> weight = torch.nn.Parameter(torch.ones(()))
        >>> model, optimizer = torch.nn.ParameterList([weight]), torch.optim.SGD([weight], lr=0.1)
        >>> def step_fn(target):
        ...     optimizer.zero_grad()
        ...     loss = (weight - target) ** 2
        ...     loss.backward()
        ...     optimizer.step()
        ...     return loss
        >>> step = OwnStep(TrainingSetup(model, optimizer, step_fn=step_fn))
        >>> step.loss([3.0]).item(), weight.item(), step.run([3.0])[0].item(), round(weight.item(), 6)
        (4.0, 1.0, 4.0, 1.4)
    """

    def __init__(self, setup: TrainingSetup) -> None:
        super().__init__(setup)
        self._closure = False  # a step of one's own gives the optimizer its closure
        self._pair = setup.step_fn if isinstance(setup.step_fn, tuple) else None
        self._updated = True  # by the last call
        self._idle: int | None = 0  # calls without an update before the first one; None once there was one
        self._moved, self._unmoved = 0, 0  # calls since the first change that changed weights in place, or none

    def run(self, batches: Sequence[Any]) -> tuple[Tensor, bool]:
        """Make the step; the loss is detached, or with other ranks the row of :meth:`Ranks.exchange`.

        Raises:
            BatchError: ``step_fn`` returned no loss, made no update in its first 20 calls, or makes one in some only.
            SetupError: it wrote the learning rate.
        """
        before = self._rates(readable=self._checked)
        loss, updated = super().run(batches)
        self._ranks.attempt(partial(self._check, before, updated))
        return loss, updated

    def loss(self, batches: Sequence[Any]) -> Tensor:
        """Loss of the batches as the model now stands; all but the weights may change."""
        if self._pair is not None:
            return self._backward(batches)
        before = tuple(float(group["lr"]) for group in self._optimizer.param_groups)
        set_lr(self._optimizer, _STILL, before)
        try:
            with eager_step(self._optimizer, self._setup.step_fn):
                return self._backward(batches)
        finally:
            set_lr(self._optimizer, 1.0, before)

    def plain_backward(self, batches: Sequence[Any]) -> Tensor:
        """As :meth:`loss`, averaged over the ranks; the gradients are those that the step leaves, if any."""
        return self._ranks.mean_of(self._ranks.measured(partial(self.loss, batches)))

    def update(self, batches: Sequence[Any]) -> None:
        """Make one update: call the step again while it reports that it made none, as a GradScaler's first ones."""
        with eager_step(self._optimizer, self._setup.step_fn):
            for _ in range(MAX_SCALER_SKIPS):
                loss, updated = self.run(batches)
                self._ranks.mean_of(loss)  # raises where a rank failed
                if updated:
                    return

    def _backward(self, batches: Sequence[Any]) -> Tensor:
        self._optimizer_to_train_mode()
        given = batches[0] if self._setup.accumulation_steps == 1 else list(batches)
        if self._pair is not None:
            return self._as_loss(self._pair[0](given))
        loss, self._updated = self._call(given)
        return loss

    def _clipped_update(self) -> bool:
        if self._pair is None:
            return self._updated
        scale = self._scale()
        updated = self._pair[1]()
        self.flags_updates |= updated is not None
        return self._kept_scale(scale) if updated is None else bool(updated)

    def _call(self, given: Any) -> tuple[Tensor, bool]:
        assert callable(self._setup.step_fn)
        scale = self._scale()
        before = self._versions()
        made = self._setup.step_fn(given)
        if not isinstance(made, tuple):
            state = getattr(self._setup.optimizer, "gradient_state", None)  # of one that is prepared
            if state is not None and not state.sync_gradients:
                raise SetupError(
                    f"step_fn made no update, as the optimizer was prepared for {state.num_steps} batches in each. Set "
                    f"accumulation_steps={state.num_steps}, and step_fn gets a list of them."
                )
            if kept := self._kept_scale(scale):
                self._check_moved(self._versions() != before)
            return self._as_loss(made), kept
        loss, updated = made if len(made) == 2 else (None, None)
        if not (isinstance(updated, (bool, np.bool_)) or (isinstance(updated, Tensor) and updated.dtype == torch.bool)):
            # A pair of losses, as those of the two nets of a GAN, must not pass for a loss and a flag.
            raise BatchError(
                "step_fn must return the loss before its update, or (loss, whether it updated) with True or False; got "
                f"a tuple of {', '.join(type(each).__name__ for each in made) or 'nothing'}. Return one loss, such as "
                "the sum of both."
            )
        self.flags_updates = True
        return self._as_loss(loss), bool(updated)

    def _versions(self) -> list[int]:
        """What torch counts up for each parameter with each change in place."""
        return [parameter._version for parameter in self._parameters]

    def _check_moved(self, moved: bool) -> None:
        """Refuse a step that counts its own calls, and accumulates in half of them or more.

        What comes before the first change does not count, as updates that a hidden GradScaler skips, nor do calls in
        a step that never changes weights in place.
        """
        self._moved += moved
        self._unmoved += bool(self._moved) and not moved
        if self._unmoved >= max(self._moved, _FEW_UNMOVED):
            raise BatchError(
                f"step_fn left the weights as they were in {self._unmoved} of {self._moved + self._unmoved} calls. "
                "Each call must make an update: set accumulation_steps to the number of batches in one, and step_fn "
                "gets a list of them; or return (loss, False) where it makes none."
            )

    def _as_loss(self, loss: Any) -> Tensor:
        device = self._setup.device
        if isinstance(loss, numbers.Real) and not isinstance(loss, bool):
            # All digits of a Python number, where the device has them.
            wide = torch.float32 if device.type == "mps" else torch.float64
            loss = torch.tensor(float(loss), dtype=wide, device=device)
        if not isinstance(loss, Tensor) or loss.numel() != 1 or loss.is_complex():
            got = f"shape {tuple(loss.shape)} of {loss.dtype}" if isinstance(loss, Tensor) else type(loss).__name__
            raise BatchError(
                f"step_fn must return the loss before its update, a tensor of one element or a number; got {got}. "
                "Return (loss, False) where it made no update."
            )
        scalar: Tensor = loss.detach().reshape(()).to(device)
        return scalar if scalar.is_floating_point() else scalar.float()

    def _rates(self, *, readable: bool) -> list[float | None]:
        """Learning rates of the groups; with ``readable`` None for those whose reading makes a GPU wait."""
        lrs = [group["lr"] for group in self._optimizer.param_groups]
        return [None if readable and getattr(lr, "is_cuda", False) else float(lr) for lr in lrs]

    def _check(self, before: list[float | None], updated: bool) -> None:
        for index, (lr, group) in enumerate(zip(before, self._optimizer.param_groups, strict=True)):
            if lr is not None and float(group["lr"]) != lr:
                raise SetupError(
                    f"step_fn changed the learning rate of parameter group {index} from {lr:g} to "
                    f"{float(group['lr']):g}, which the range test sets. Leave scheduler.step() out of it."
                )
        self._checked = True
        if updated or self._idle is None:
            self._idle = None
            return
        self._idle += 1
        if self._scaler is None and self._idle == MAX_SCALER_SKIPS:
            raise BatchError(
                f"step_fn reported no update in its first {MAX_SCALER_SKIPS} calls, (loss, False) each time. Each call "
                "must make one; for an update of several batches set accumulation_steps, and step_fn gets a list."
            )
