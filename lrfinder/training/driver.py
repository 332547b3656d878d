"""The driver of a range test, which joins any training loop to the state machine :class:`Sweep`.

It holds no loop: that of ``LRFinder`` is :mod:`lrfinder.training.loop`, and any other loop can call the same methods in
the same order. For each iteration, while ``done`` is false: ``before_step()``, one optimizer step, ``after_step(loss,
updated)``. A loop that ends for a reason of its own (no more data, an error) calls ``end(reason)``. ``curve()`` is the
result at any time. The driver writes learning rates and nothing else; the caller restores the training state, with
:func:`preserved`.

How a sweep on a GPU never waits, though every loss may end it:

- **Losses are read late.** ``after_step`` only queues the loss on the device (:class:`DeferredLosses`); it reads the
  losses of some steps before. Which ones depends on the step count alone, never on the clock.
- **Learning rates are written ahead.** With k losses pending, ``before_step`` writes the learning rate of the
  iteration k after the next loss to be recorded. Where the sweep ends before it whatever the losses are, the pending
  ones are read at once, so a completed sweep runs no iteration too many.
- **What runs past the end is discarded.** The loss that ends a sweep is known 2 to 5 iterations late. Those have
  changed the weights, which are restored anyway; their losses are dropped, and so is an error that they raise.
- **Batches are prefetched** (:class:`Batches`): those of the next iteration are copied while this one runs. The
  curve counts batches as they are drawn, so at most those of 5 iterations are drawn beyond its end.
- **A GradScaler is the exception.** Whether it skipped an update is known only after waiting, so losses are read at
  once, as on the CPU. A skipped update records nothing, and the next step repeats its learning rate.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lrfinder.param_groups import group_scales, maximizes, momentum, optimizer_name, set_lr
from lrfinder.record.curve import LossCurve, StopReason
from lrfinder.record.facts import ModelFacts
from lrfinder.record.sweep import Sweep
from lrfinder.training.deferred import READ_EVERY, DeferredLosses
from lrfinder.training.setup import TrainingSetup
from lrfinder.training.step import MAX_SCALER_SKIPS

__all__ = ["SweepDriver"]


class SweepDriver:
    """Writes the learning rates of a sweep and records its losses, for any training loop.

    Under a process group every rank has a driver and makes the same calls; the losses are averaged over the ranks, so
    that all of them stop at the same step.

    Args:
        setup: the optimizer whose learning rates are written, and the device and scaler of the training.
        sweep: the state machine to feed.
        read_every: losses read at once, >= 1. None chooses: several on a GPU without a GradScaler, else 1.
        on_loss: called with (learning rate, loss) for each loss that is read, in order.

    Example:
        A loop of one's own drives a range test, and leaves no trace:

        >>> import torch
        >>> from lrfinder.record.curve import SweepConfig
        >>> from lrfinder.training.state import preserved
        >>> _ = torch.manual_seed(0)
        >>> inputs, target = torch.randn(32, 8), torch.randint(0, 3, (32,))
        >>> model, criterion = torch.nn.Linear(8, 3), torch.nn.CrossEntropyLoss()
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> setup = TrainingSetup(model, optimizer, criterion)
        >>> driver = SweepDriver(setup, Sweep(SweepConfig(start_lr=1e-3, end_lr=1e4, num_iter=100)))
        >>> with preserved(setup):
        ...     while not driver.done:
        ...         driver.before_step()
        ...         optimizer.zero_grad()
        ...         loss = criterion(model(inputs), target)
        ...         loss.backward()
        ...         optimizer.step()
        ...         driver.after_step(loss)
        >>> driver.curve().stop.name, optimizer.param_groups[0]["lr"]
        ('DIVERGED', 0.1)
    """

    def __init__(
        self,
        setup: TrainingSetup,
        sweep: Sweep,
        *,
        read_every: int | None = None,
        on_loss: Callable[[float, float], object] | None = None,
    ) -> None:
        self.setup = setup
        sweep.maximize = maximizes(setup.optimizer)
        self.sweep = sweep
        self.read_every = read_every or (READ_EVERY if setup.reads_late else 1)
        self.skipped = 0
        """Updates that the GradScaler skipped."""
        self._error = ""  # class name of the exception that ended the sweep
        self._ranks = setup.ranks
        self._scales = group_scales(setup.optimizer)
        self._losses = DeferredLosses(setup.device, read_every=self.read_every)
        self._on_loss = on_loss
        self._skipped_in_a_row = 0
        self._beside: list[Tensor] = []  # on the device, as the loss of the sweep is another

    @property
    def done(self) -> bool:
        """True once the sweep is over: make no further step."""
        return self.sweep.done

    def before_step(self) -> None:
        """Write the learning rate of the next step into every parameter group.

        Raises:
            RuntimeError: the sweep is over.
        """
        lr = None if self.done else self.sweep.lr_ahead(self._losses.pending)
        if lr is None:
            raise RuntimeError("the sweep is over; check driver.done before each step.")
        set_lr(self.setup.optimizer, lr, self._scales)

    def after_step(self, loss: Tensor, updated: bool = True, *, beside: Tensor | None = None) -> None:
        """Take the loss of the step just made; afterwards :attr:`done` may be true.

        Args:
            loss: one element, of the same dtype each time, or with other ranks what :meth:`Ranks.exchange` made of it
                already; measured before the update, or after it where the sweep was made with ``measured="after"``. On
                a GPU it is queued, and the host does not wait.
            updated: False where the GradScaler skipped the update. The next step then repeats the learning rate.
            beside: the training loss of the step, where ``loss`` is a validation loss, or the loss of a probe after it,
                where ``loss`` is the training loss.
        """
        if updated and beside is not None:
            if self._ranks.together and beside.numel() == 1:
                beside = self._ranks.exchange(beside)
            self._beside.append(beside.detach().reshape(-1)[0].clone())
        if self._ranks.together and loss.numel() == 1:
            loss = self._ranks.exchange(loss)
        if updated:
            self._skipped_in_a_row = 0
            self._record(self._losses.put(loss))
        else:
            self._record([*self._losses.flush(), *self._skip(loss.reshape(-1)[0].item())])
        pending = self._losses.pending
        if pending and not self.done and self.sweep.lr_ahead(pending) is None:
            self._record(self._losses.flush())

    def end(self, reason: StopReason, *, error: str = "") -> None:
        """End the sweep from outside, unless it is over, or turns out to be by the losses still pending.

        ``error`` is the class name of the exception where the reason is ``StopReason.ERROR``.
        """
        self.read_pending()
        if not self.done:
            self.sweep.end(reason)
            self._error = error

    def read_pending(self) -> None:
        """Record the losses that are still pending; afterwards :attr:`done` may be true."""
        if not self.done and not self._ranks.failed:
            self._record(self._losses.flush())

    def curve(
        self, *, batches: int = 0, clipped_part: float | None = None, facts: ModelFacts | None = None
    ) -> LossCurve:
        """The curve recorded so far. A sweep that has not ended counts as interrupted.

        Args:
            batches: mini-batches drawn from the training loader.
            clipped_part: part of the gradients that clipping changed; None without clipping.
            facts: of the model before the first step, from :func:`lrfinder.training.model_facts.take_facts`.
        """
        if self.sweep.maximize:
            facts = dataclasses.replace(facts or ModelFacts(), maximize=True)
        return self.sweep.curve(
            group_scales=self._scales,
            optimizer=optimizer_name(self.setup.optimizer),
            momentum=momentum(self.setup.optimizer),
            batches=batches,
            skipped=self.skipped,
            error=self._error,
            **{"probe_losses" if self.sweep.measured == "before" else "train_losses": self._losses_beside()},
            clipped_part=clipped_part,
            facts=facts,
        )

    def _losses_beside(self) -> tuple[float, ...]:
        beside = self._beside[: len(self.sweep.losses)]
        losses = torch.stack(beside).tolist() if beside else []
        return tuple(itertools.takewhile(math.isfinite, losses))

    def _skip(self, loss: float) -> list[float]:
        """Count a skipped update; the losses to record, if any."""
        if not math.isfinite(loss):
            return [loss]
        self.skipped += 1
        self._skipped_in_a_row += 1
        # A scale that no number of skips makes fit is the scaler's way to report gradients that are not finite.
        return [math.nan] if self._skipped_in_a_row == MAX_SCALER_SKIPS else []

    def _record(self, losses: Sequence[Any]) -> None:
        try:
            for each in losses:
                if self.done:
                    return
                loss = each if isinstance(each, float) else self._ranks.read(each)
                if loss is None:
                    self.sweep.end(StopReason.DATA_EXHAUSTED)
                    return
                if self._on_loss is not None:
                    self._ranks.attempt(partial(self._on_loss, self.sweep.lr, loss))
                self.sweep.record(loss)
        except BaseException:  # a pending loss recorded after a lost one would get its learning rate
            self.sweep.end(StopReason.INTERRUPTED)
            raise
