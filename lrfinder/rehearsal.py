"""Short trainings from one snapshot, on the same batches: what a race of learning rates is run with.

Every heat starts from the same weights, optimizer state and random states and sees the same batches in the same order,
so heats of one stage differ by their learning rate alone. Their schedules are stock torch schedulers, as in training.
Which heats are run is decided in :mod:`lrfinder.race`.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterable, Sized
from typing import Any

import torch

from lrfinder.distributed import mean_over_ranks
from lrfinder.errors import SetupError
from lrfinder.race import Heat
from lrfinder.recipes import Recipe
from lrfinder.schedulers import build_scheduler
from lrfinder.snapshot import Snapshot
from lrfinder.train_step import Batches, TrainStep, Validation

__all__ = ["Rehearsal", "hold_out"]

_HELD_OUT_PART, _HELD_OUT_MOST = 5, 16  # a fifth of the loader's batches is kept back as the probe, 16 at the most
_CHECKS = 10  # looks at the training loss in a heat; each makes a GPU wait
_BAD_CHECKS = 2  # that many in a row above the limit end a heat: one may be a spike that recovers


def hold_out(loader: Iterable[Any]) -> list[Any]:
    """The first batches of a training loader, to be kept out of the heats and measured on, where no others are given.

    Raises:
        SetupError: the loader holds fewer than two batches.
    """
    length = len(loader) if isinstance(loader, Sized) else _HELD_OUT_PART * _HELD_OUT_MOST
    batches = list(itertools.islice(loader, max(1, min(length // _HELD_OUT_PART, _HELD_OUT_MOST))))
    if not batches or length < 2:
        raise SetupError(
            "the training loader has too few batches to keep one back for measuring. Pass val_loader, or a smaller "
            "batch size."
        )
    return batches


class Rehearsal:
    """Runs heats.

    Args:
        optimizer: as in training; its schedule is set by the stock torch scheduler of each recipe.
        step: one iteration of training.
        state: snapshot that every heat starts from.
        loader: training batches; a fresh iterator is taken for each heat.
        skip: batches at the head of the first pass that are held out.
        validation: loss that decides.
        enter_training: puts the model into the mode in which it trains, without gradients.
        device: where batches go.
        accumulation_steps: batches per optimizer step.
        limit: training loss above which a heat is given up.
    """

    def __init__(
        self,
        optimizer: Any,
        step: TrainStep,
        state: Snapshot,
        loader: Iterable[Any],
        *,
        skip: int,
        validation: Validation,
        enter_training: Callable[[], None],
        device: torch.device,
        accumulation_steps: int,
        limit: float,
    ) -> None:
        self._optimizer = optimizer
        self._step = step
        self._state = state
        self._loader = loader
        self._skip = skip
        self._validation = validation
        self._enter_training = enter_training
        self._device = device
        self._accumulation = accumulation_steps
        self._limit = limit

    def loss(self) -> float:
        """Validation loss of the model as it stands."""
        return mean_over_ranks(self._validation.loss())

    def run(self, plan: Recipe, stage: str, *, tick: Callable[[], None]) -> Heat:
        """Train through the plan from the snapshot, and measure.

        Args:
            plan: schedule of the heat; its ``total_steps`` are run.
            stage: what the heat is recorded as.
            tick: called after each optimizer step.

        Returns:
            The heat; its loss is None where it blew up or was given up.
        """
        assert plan.total_steps is not None
        self._state.rewind()
        self._state.rewind_loaders()
        self._enter_training()
        scheduler = build_scheduler(plan, self._optimizer)
        pace = max(1, plan.total_steps // _CHECKS)
        bad, recent = 0, []
        with contextlib.closing(Batches(self._loader, self._device)) as batches:
            batches.draw(self._skip)
            for done in range(1, plan.total_steps + 1):
                loss, updated = self._step.run(batches.draw(self._accumulation))
                if updated:
                    scheduler.step()
                recent.append(loss)
                tick()
                if done % pace == 0:
                    mean = mean_over_ranks(torch.stack([each.reshape(()).float() for each in recent]).mean())
                    recent.clear()
                    # Written so that nan counts as above.
                    bad = 0 if mean <= self._limit else bad + 1
                    if not math.isfinite(mean) or bad >= _BAD_CHECKS:
                        return Heat(lr=plan.peak_lr, steps=done, loss=None, stage=stage)
        after = self.loss()
        return Heat(
            lr=plan.peak_lr, steps=plan.total_steps, loss=after if math.isfinite(after) else None, stage=stage
        )
