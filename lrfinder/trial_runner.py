"""Short trainings from one snapshot, on the same batches: what a race of learning rates is run with.

Every heat starts from the same weights, optimizer state and random states and sees the same batches in the same order,
so heats of one stage differ by their learning rate alone. Which heats are run is decided in :mod:`lrfinder.search`.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from lrfinder.batches import Batches
from lrfinder.ranks import mean_over_ranks
from lrfinder.errors import SetupError
from lrfinder.param_groups import group_scales, set_lr, set_momentum
from lrfinder.search import TrialPlan
from lrfinder.trials import Trial
from lrfinder.setup import TrainingSetup
from lrfinder.state import Snapshot
from lrfinder.step import TrainStep
from lrfinder.validation import Validation

__all__ = ["Rehearsal", "hold_out"]

_HELD_OUT_PART, _HELD_OUT_MOST = 5, 16  # a fifth of the loader's batches is kept back as the probe, 16 at the most
_CHECKS = 10  # looks at the training loss in a heat; each makes a GPU wait
_BAD_CHECKS = 2  # that many in a row above the limit end a heat: one may be a spike that recovers


def hold_out(loader: Iterable[Any]) -> list[Any]:
    """The first batches of a training loader, to be kept out of the heats and measured on, where no others are given.

    Raises:
        SetupError: the loader holds fewer than two batches.
    """
    most = _HELD_OUT_PART * _HELD_OUT_MOST
    try:
        length = min(len(loader), most)  # type: ignore[arg-type]
        batches = list(itertools.islice(loader, max(1, length // _HELD_OUT_PART)))
    except TypeError:  # no length: some are looked at to see how many there are
        batches = list(itertools.islice(loader, 2 * _HELD_OUT_MOST))
        length = len(batches)
        batches = batches[: max(1, length // _HELD_OUT_PART)]
    if length < 2:
        raise SetupError(
            "the training loader has too few batches to keep one back for measuring. Pass val_loader, or a smaller "
            "batch size."
        )
    return batches


class Rehearsal:
    """Runs heats.

    Args:
        setup: what is trained, and how; its learning rates are written step by step.
        state: snapshot that every heat starts from.
        loader: training batches; a fresh iterator is taken for each heat.
        validation: loss that decides.
        skip: batches at the head of the first pass that are held out.
        limit: training loss above which a heat is given up.
    """

    def __init__(
        self,
        setup: TrainingSetup,
        state: Snapshot,
        loader: Iterable[Any],
        validation: Validation,
        *,
        skip: int,
        limit: float,
    ) -> None:
        self._setup = setup
        self._scales = group_scales(setup.optimizer)
        self._step = TrainStep(setup)
        self._state = state
        self._loader = loader
        self._validation = validation
        self._skip = skip
        self._limit = limit

    def loss(self) -> float:
        """Validation loss of the model as it stands."""
        return mean_over_ranks(self._validation.loss()).item()

    def run(self, plan: TrialPlan, *, tick: Callable[[], object]) -> Trial:
        """Train through the plan from the snapshot, and measure; the loss is None where it blew up or was given up.

        Args:
            plan: learning rates of the heat.
            tick: called after each optimizer step.
        """
        self._start()
        watch = _Watch(plan, self._limit)
        with contextlib.closing(Batches(self._loader, self._setup.device)) as batches:
            batches.skip(self._skip)
            for done in range(1, plan.steps + 1):
                self._set_rates(plan, done - 1)
                loss, _ = self._step.run(batches.draw(self._setup.accumulation_steps))
                tick()
                if watch.gives_up(done, loss):
                    return Trial(lr=plan.lr, steps=done, loss=None, stage=plan.stage)
        final = self.loss()
        return Trial(lr=plan.lr, steps=plan.steps, loss=final if math.isfinite(final) else None, stage=plan.stage)

    def _start(self) -> None:
        self._state.rewind()
        self._state.rewind_loaders()
        self._step.enter_training()

    def _set_rates(self, plan: TrialPlan, t: int) -> None:
        set_lr(self._setup.optimizer, plan.lr_at(t), self._scales)
        cycled = plan.momentum_at(t)
        if cycled is not None:
            set_momentum(self._setup.optimizer, cycled)


class _Watch:
    """Looks at the training loss of a heat now and then, and gives up what is hopeless."""

    def __init__(self, plan: TrialPlan, limit: float) -> None:
        self._pace = max(1, plan.steps // _CHECKS)
        self._limit = limit
        self._bad = 0
        self._recent: list[Tensor] = []

    def gives_up(self, done: int, loss: Tensor) -> bool:
        """Take the loss of step ``done``, counted from 1; True where the heat should end."""
        self._recent.append(loss.detach().clone())  # a CUDA graph writes the next one into the same memory
        if done % self._pace:
            return False
        mean = mean_over_ranks(torch.stack([each.reshape(()).float() for each in self._recent]).mean()).item()
        self._recent.clear()
        # Written so that nan counts as above.
        self._bad = 0 if mean <= self._limit else self._bad + 1
        return not math.isfinite(mean) or self._bad >= _BAD_CHECKS
